# SPDX-License-Identifier: Apache-2.0
"""Memory that comes and goes: a guest that plugs and unplugs blocks, as it
should and otherwise, and snapshots of it."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import TIMEOUT, Monitor, guest, need_kvm
from faults import Handler, honest
from hotplug import (ACK, BLOCK, ERROR, MIB, MIXED, NACK, PLUG, PLUGGED, SLOT,
                     STATE, UNPLUG, UNPLUG_ALL, UNPLUGGED, Told, start)
from snapshots import Snapshot, merge, pages, pause, refused_load
from tap import main, test

PATH = "/hotplug/memory"
BAD = "Memory hotplug update error: "
NO_DEVICE = "Failed perform action on device: Device not found"
RAM = 128 * MIB  # of guests here


def sizes(plugged, requested, total=512):
    return {"total_size_mib": total, "block_size_mib": 2,
            "slot_size_mib": 128, "plugged_size_mib": plugged,
            "requested_size_mib": requested}


def metrics_of(g, path):
    g.m.put("/actions", action_type="FlushMetrics")
    with open(path) as file:
        lines = [json.loads(line)["memory_hotplug"] for line in file]
    return {key: sum(line[key] for line in lines) for key in lines[0]
            if not key.endswith("_agg")}


@test
def memory_is_plugged_and_unplugged(t):
    metrics = t.path("metrics")
    g = start(t, args=["--metrics-path", metrics])
    config = g.config()
    t.point(config["block"] == BLOCK and config["region"] == 512 * MIB
            and config["addr"] >= 1 << 39 and config["addr"] % (2 << 30) == 0
            and config["usable"] == config["plugged"] == 0, "config space",
            str(config))
    t.point(g.m.get(PATH) == sizes(0, 0), "nothing at first")
    g.resize(256)
    config = g.config()
    t.point(config["requested"] == config["usable"] == 256 * MIB
            and config["changes"] == 1, "the driver is told", str(config))
    g.plug(0, 2)
    g.plug(SLOT)
    t.point(g.config()["plugged"] == 3 * BLOCK
            and g.m.get(PATH) == sizes(6, 256), "plugged")
    t.point((g.state(0, 2), g.state(0, 3), g.state(2 * BLOCK)) ==
            (PLUGGED, MIXED, UNPLUGGED), "states")
    t.point(g.read(0) == g.read(SLOT) == 0, "it is empty")
    for addr in (0, 2 * BLOCK - 8, SLOT + BLOCK - 8):
        g.write(addr, 0x1234 + addr)
    t.point(all(g.read(addr) == 0x1234 + addr for addr in
                (0, 2 * BLOCK - 8, SLOT + BLOCK - 8)), "it is memory")
    g.unplug(SLOT)
    g.plug(SLOT)
    t.point(g.read(SLOT + BLOCK - 8) == 0, "empty when plugged again")
    g.unplug(0)
    g.plug(0)
    t.point(g.read(0) == 0 and g.read(2 * BLOCK - 8) != 0,
            "and in a slot that stayed")
    g.resize(0)
    g.unplug(0, 2)
    g.unplug(SLOT)
    t.point(g.m.get(PATH) == sizes(0, 0), "all back")
    t.point(g.config()["usable"] == 256 * MIB, "usable stays")
    assert g.ask(UNPLUG_ALL) == ACK
    t.point(g.config()["usable"] == 0, "until all is unplugged")
    counted = metrics_of(g, metrics)
    t.point(not any(value for key, value in counted.items() if "fail" in key),
            "no failures", str(counted))
    t.point(counted["plug_count"] == 4 and counted["unplug_count"] == 4
            and counted["plug_bytes"] == counted["unplug_bytes"] == 5 * BLOCK
            and counted["state_count"] == 3
            and counted["unplug_all_count"] == 1, "counted", str(counted))


@test
def what_cannot_be_is_refused(t):
    metrics = t.path("metrics")
    g = start(t, args=["--metrics-path", metrics])
    t.point(g.ask(PLUG) == ERROR, "nothing is usable yet")
    g.resize(256)
    g.plug(0, 2)
    for kind, addr, blocks, want, name in (
            (PLUG, 4096, 1, ERROR, "misaligned"),
            (PLUG, -BLOCK, 1, ERROR, "below the region"),
            (PLUG, -BLOCK, 2, ERROR, "from below into it"),
            (PLUG, 256 * MIB, 1, ERROR, "not usable"),
            (PLUG, 512 * MIB, 1, ERROR, "above the region"),
            (PLUG, 4 * BLOCK, 0, ERROR, "no blocks"),
            (PLUG, 4 * BLOCK, 65535, ERROR, "too many blocks"),
            (PLUG, -(1 << 39) - BLOCK, 3, ERROR, "around the end"),
            (PLUG, BLOCK, 2, ERROR, "plugged already"),
            (PLUG, 2 * BLOCK, 126, ACK, "all that was asked for"),
            (UNPLUG, 4096, 1, ERROR, "misaligned unplug"),
            (UNPLUG, 256 * MIB, 1, ERROR, "unplug of the unusable"),
            (STATE, 256 * MIB, 1, ERROR, "state of the unusable"),
            (4, 0, 1, ERROR, "unknown request")):
        answer = g.ask(kind, addr, blocks)
        t.point(answer == want, name, str(answer))
    g.resize(258)
    t.point(g.ask(PLUG, 256 * MIB, 2) == NACK, "more than asked for")
    g.unplug(0)
    t.point(g.ask(UNPLUG, 0, 2) == ERROR, "unplugged already")
    t.point(g.m.get(PATH) == sizes(254, 258), "no harm done",
            str(g.m.get(PATH)))


@test
def unplugged_memory_is_nothing(t):
    def disk(m):
        m.put("/drives/disk", drive_id="disk", is_root_device=False,
              path_on_host=t.write("disk", b"\x77" * 16 * 512))

    g = start(t, devices=disk)
    g.resize(512)
    g.plug(SLOT)
    for addr in (0, SLOT - 8, 2 * SLOT, 512 * MIB - 8):
        g.write(addr, 0x55)
        t.point(g.read(addr) == 0, "nothing is kept at %#x" % addr)
    t.point(g.order("d", SLOT)["disk"] == 0 and
            g.read(SLOT) == 0x7777777777777777, "devices reach what is there")
    for addr in (0, SLOT + BLOCK, SLOT + BLOCK - 256, SLOT - 256):
        t.point(g.order("d", addr)["disk"] == 1, "and not %#x" % addr)
    g.unplug(SLOT)
    t.point(g.order("d", SLOT)["disk"] == 1 and g.read(SLOT) == 0,
            "nor what was")
    t.point(g.m.get("/")["state"] == "Running", "the guest goes on")


@test
def rings_in_memory_that_goes_harm_nobody_else(t):
    def disk(m):
        m.put("/drives/disk", drive_id="disk", is_root_device=False,
              path_on_host=t.write("disk", b"\x77" * 16 * 512))

    g = start(t, devices=disk)
    t.point(g.order("m", 1, 0) == "not moved", "there is no ring in nothing")
    g.resize(256)
    g.plug(0)
    g.plug(SLOT)
    t.point(g.order("m", 1, SLOT) == "moved" and
            g.order("d", 0)["disk"] == 0, "a disk's is in what is there")
    g.unplug(SLOT)
    g.m.send(b"d%016x" % 0)  # which nobody answers
    g.m.expect(b"disk 0xff\n", 60)
    t.point(g.m.get("/")["state"] == "Running", "requests come to nothing")
    pause(g.m)
    Snapshot(t).create(g.m)
    g.m.patch("/vm", state="Resumed")
    g.plug(SLOT)
    t.point(g.order("m", 1, SLOT) == "moved" and
            g.order("d", 0)["disk"] == 0, "until it starts again")
    t.point(g.order("m", 0, 0) == "moved" and g.state(0) == PLUGGED,
            "its own ring may be there too")
    g.m.send(("q%016x%016x%016x" % (UNPLUG, 0, 1)).encode())
    g.m.expect(b"response 0x", 60)  # perhaps
    g.m.expect(b"\n")
    deadline = time.monotonic() + TIMEOUT
    while g.m.get(PATH) != sizes(2, 256):
        assert time.monotonic() < deadline, g.m.get(PATH)
    t.point(True, "and go")
    assert "ok init" in g.order("z")
    g.m.expect(b"ready\n")
    t.point(g.state(0) == UNPLUGGED, "and be set up elsewhere")


@test
def drivers_that_do_not_accept_it_get_nothing(t):
    g = start(t, boot_args="careless")
    t.point(b"fail init" in g.m.console, "the device does not start",
            str(g.m.console))
    fault = g.m.fault("PATCH", PATH, {"requested_size_mib": 128})
    t.point(fault == BAD + "Failed to create memory hotplug device: Device "
            "is not active", "and cannot be resized", fault)
    assert g.m.get(PATH) == sizes(0, 0)


@test
def a_device_reset_keeps_what_is_plugged(t):
    g = start(t)
    g.resize(128)
    g.plug(BLOCK, 3)
    g.write(BLOCK, 0x99)
    assert "ok init" in g.order("z")
    g.m.expect(b"ready\n")
    t.point(g.state(BLOCK, 3) == PLUGGED and g.read(BLOCK) == 0x99
            and g.m.get(PATH) == sizes(6, 128), "with its bytes")


@test
def requests_of_clients(t):
    g = start(t, total=1024, config={"block_size_mib": 4,
                                     "slot_size_mib": 512})
    text = (BAD + "Failed to create memory hotplug device: Size %d is "
            "invalid: it must be a multiple of block size and less than the "
            "total size")
    for size in (1, 2, 3, 6, 1028, 2 ** 32 - 1):
        fault = g.m.fault("PATCH", PATH, {"requested_size_mib": size})
        t.point(fault == text % (size * MIB), str(size), fault)
    for size in (0, 4, 1024, 512):
        g.resize(size)
    t.point(g.m.get(PATH) == {
        "total_size_mib": 1024, "block_size_mib": 4, "slot_size_mib": 512,
        "plugged_size_mib": 0, "requested_size_mib": 512}, "the last holds")
    fault = g.m.fault("PUT", PATH, {"total_size_mib": 1024})
    t.point("not supported after starting" in fault, "no new device", fault)
    pause(g.m)
    g.resize(100)
    g.m.patch("/vm", state="Resumed")
    t.point(g.config()["requested"] == 100 * MIB, "also while it is paused")


@test
def without_a_device(t):
    need_kvm()
    m = Monitor(test=t)
    m.start(guest("counter"))
    t.point(m.fault("GET", PATH) == "Internal VMM error: " + NO_DEVICE, "GET")
    t.point(m.fault("PATCH", PATH, {"requested_size_mib": 0}) ==
            BAD + NO_DEVICE, "PATCH")
    assert m.get("/vm/config")["memory-hotplug"] is None


@test
def configuration_round_trips(t):
    g = start(t, total=256)
    document = g.m.get("/vm/config")
    assert document["memory-hotplug"] == {
        "total_size_mib": 256, "block_size_mib": 2, "slot_size_mib": 128}
    path = t.write("config", json.dumps(document).encode())
    m = Monitor(test=t, args=["--config-file", path])
    m.expect(b"ready\n")
    again = Told(m)
    again.resize(2)
    again.plug(0)
    assert m.get("/vm/config") == document


@test
def more_slots_than_kvm_has_are_refused(t):
    need_kvm()
    m = Monitor(test=t)
    m.put(PATH, total_size_mib=(1 << 15) * 128)
    m.put("/boot-source", kernel_image_path=guest("mem"))
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    t.point(any(text in fault for text in (
        "32768 slots of 128 MiB are more than the", "guest address",
        "Cannot create mmap region")), "and said", fault)
    m.put(PATH, total_size_mib=512)
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"ready\n")


def resident(pid):
    """KiB."""
    with open("/proc/%d/status" % pid) as file:
        return next(int(line.split()[1]) for line in file
                    if line.startswith("VmRSS"))


@test
def unplugged_memory_goes_back_to_the_host(t):
    g = start(t)
    g.resize(32)
    g.plug(0, 16)
    before = resident(g.m.pid)
    for page in range(0, 1024):
        g.m.send(("w%016x%016x" % (page * 4096, 1)).encode())
        g.m.expect(b"written\n")
    used = resident(g.m.pid)
    g.unplug(0, 16)
    after = resident(g.m.pid)
    t.point(used - before >= 4000 and used - after >= 4000, "4 MiB",
            "%d %d %d" % (before, used, after))


@test
def memory_in_a_memfd_too(t):
    g = start(t, args=["--memory-backing", "memfd"])
    g.resize(128)
    g.plug(0, 2)
    g.write(8, 0x5)
    g.unplug(0, 2)
    g.plug(0, 2)
    t.point(g.read(8) == 0, "it is empty when plugged again")
    g.write(8, 0x6)
    g.write(BLOCK + 8, 0x7)
    g.unplug(BLOCK)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    found = [page for page in pages(snapshot.memory) if page >= RAM // 4096]
    t.point(found == [RAM // 4096], "and in snapshots", str(found))


# ------------------------------------------------------------------ snapshots

def plugged_guest(t, **machine):
    """Blocks 0, 1 and 64 are plugged and have something in them; so had block
    2, which is not any more."""
    g = start(t, **machine)
    g.resize(256)
    g.plug(0, 3)
    g.plug(SLOT)
    for addr in (0, BLOCK, 2 * BLOCK, SLOT):
        g.write(addr + 4096, 0xabc0 + addr)
    g.unplug(2 * BLOCK)
    return g


def check_clone(t, m, name):
    """What a clone of it finds."""
    g = Told(m)
    kept = all(g.read(addr + 4096) == 0xabc0 + addr
               for addr in (0, BLOCK, SLOT))
    t.point(kept and m.get(PATH) == sizes(6, 256), name + ": as it was")
    t.point((g.state(0, 2), g.state(2 * BLOCK), g.state(SLOT)) ==
            (PLUGGED, UNPLUGGED, PLUGGED), name + ": states")
    g.plug(2 * BLOCK)
    t.point(g.read(2 * BLOCK + 4096) == 0, name + ": what was not is empty")
    g.plug(SLOT + BLOCK)
    g.write(SLOT + BLOCK, 0x11)
    t.point(g.read(SLOT + BLOCK) == 0x11, name + ": and can be plugged")
    g.unplug(SLOT, 2)
    t.point(g.read(SLOT + 4096) == 0 and m.get(PATH) == sizes(6, 256),
            name + ": and unplugged")
    return g


@test
def snapshots_have_what_is_plugged(t):
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    stat = os.stat(snapshot.memory)
    t.point(stat.st_size == RAM + 512 * MIB and stat.st_blocks < 16 * 2048,
            "the file has room for all of it", str(stat))
    found = [page for page in pages(snapshot.memory) if page >= RAM // 4096]
    t.point(found == [(RAM + addr) // 4096 + 1 for addr in (0, BLOCK, SLOT)],
            "and the pages of what is plugged", str(found))
    m = snapshot.load(t)
    check_clone(t, m, "File")


@test
def snapshots_of_snapshots_forget_what_was_unplugged(t):
    """Where the parent's memory file has bytes, a block that was unplugged
    has none, also when it is plugged again before the next snapshot."""
    injail.give_proc(t)
    for kind in ("Full", "Diff"):
        for tracks in (False, True):
            name = "%s, %s" % (kind, "tracked" if tracks else "untracked")
            g = plugged_guest(t)
            pause(g.m)
            snapshot = Snapshot(t, name.replace(", ", "-"))
            snapshot.create(g.m)
            g.m.close()
            g = Told(snapshot.load(t, track_dirty_pages=tracks))
            g.unplug(0, 2)
            g.plug(BLOCK)
            g.write(BLOCK + 8192, 0x77)
            g.plug(70 * BLOCK)
            g.write(70 * BLOCK, 0x70)
            pause(g.m)
            snapshot.create(g.m, snapshot_type=kind)
            g.m.close()
            g = Told(snapshot.load(t))
            t.point(g.m.get(PATH) == sizes(6, 256), name + ": sizes",
                    str(g.m.get(PATH)))
            g.plug(0)
            t.point(g.read(4096) == 0 and g.read(BLOCK + 4096) == 0
                    and g.read(BLOCK + 8192) == 0x77
                    and g.read(70 * BLOCK) == 0x70
                    and g.read(SLOT + 4096) == 0xabc0 + SLOT, name)
            g.m.close()
            os.unlink(snapshot.memory)


@test
def diffs_have_what_newly_plugged_memory_got(t):
    g = start(t, track_dirty_pages=True)
    g.resize(256)
    pause(g.m)
    whole = Snapshot(t, "whole")
    whole.create(g.m)
    g.m.patch("/vm", state="Resumed")
    g.plug(0, 2)
    g.write(BLOCK + 4096, 0x42)
    g.plug(SLOT)
    g.write(SLOT, 0x43)
    g.unplug(SLOT)
    pause(g.m)
    diff = Snapshot(t, "diff")
    diff.create(g.m, snapshot_type="Diff")
    high = {page: data for page, data in pages(diff.memory).items()
            if page >= RAM // 4096}
    first = (RAM + SLOT) // 4096
    t.point(sorted(high) == [(RAM + BLOCK) // 4096 + 1] + list(
        range(first, first + 512)), "and zeros for what was unplugged",
            str(len(high)))
    t.point(not any(any(high[page]) for page in range(first, first + 512)),
            "nothing but zeros")
    g.m.close()
    merge(diff.memory, whole.memory)
    whole.state = diff.state
    g = Told(whole.load(t))
    t.point(g.read(BLOCK + 4096) == 0x42, "merged it is there")
    g.plug(SLOT)
    t.point(g.read(SLOT) == 0, "and the other is not")


@test
def a_handler_serves_what_is_plugged(t):
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    asked = set()
    pages_of = honest(snapshot)

    def page_of(offset, number):
        asked.add(offset)
        return pages_of(offset, number)

    handler = Handler(t, page_of)
    m = Monitor(test=t)
    m.put("/snapshot/load", **handler.body(snapshot, resume_vm=True))
    regions = handler.message
    t.point([(r["offset"], r["size"]) for r in regions] ==
            [(0, RAM), (RAM, 512 * MIB)], "it is told of all of it",
            str(regions))
    g = Told(m)
    t.point(all(g.read(addr + 4096) == 0xabc0 + addr
                for addr in (0, BLOCK, SLOT)), "it is as it was")
    pause(m)
    again = Snapshot(t, "again")
    again.create(m)
    plugged = [range(RAM + addr, RAM + addr + BLOCK)
               for addr in (0, BLOCK, SLOT)]
    t.point(all(any(offset in block for block in plugged)
                for offset in asked if offset >= RAM),
            "nobody asks for what is not plugged")
    m.close()
    m = again.load(t)
    g = Told(m)
    t.point(all(g.read(addr + 4096) == 0xabc0 + addr
                for addr in (0, BLOCK, SLOT)), "and a snapshot of that")


@test
def a_clone_on_a_handler_plugs_and_unplugs(t):
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    handler = Handler(t, honest(snapshot))
    m = Monitor(test=t)
    m.put("/snapshot/load", **handler.body(snapshot, resume_vm=True))
    check_clone(t, m, "Uffd")


@test
def a_diff_on_a_handler_has_zeros_for_what_was_unplugged(t):
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    handler = Handler(t, honest(snapshot))
    m = Monitor(test=t)
    m.put("/snapshot/load", **handler.body(snapshot, resume_vm=True,
                                           track_dirty_pages=True))
    g = Told(m)
    g.unplug(SLOT)
    g.write(BLOCK + 8192, 0x31)
    pause(m)
    faults = handler.faults
    diff = Snapshot(t, "diff")
    diff.create(m, snapshot_type="Diff")
    high = {page: data for page, data in pages(diff.memory).items()
            if page >= RAM // 4096}
    first = (RAM + SLOT) // 4096
    t.point(sorted(high) == [(RAM + BLOCK) // 4096 + 2] + list(
        range(first, first + 512)), "the pages", str(len(high)))
    t.point(not any(any(high[page]) for page in range(first, first + 512)),
            "zeros")
    t.point(handler.faults == faults, "which nobody was asked for",
            "%d, %d" % (faults, handler.faults))
    m.close()
    merge(diff.memory, snapshot.memory)
    snapshot.state = diff.state
    g = Told(snapshot.load(t))
    t.point(g.read(BLOCK + 8192) == 0x31 and g.read(4096) == 0xabc0,
            "merged it goes on")
    g.plug(SLOT)
    t.point(g.read(SLOT + 4096) == 0, "without what was unplugged")


@test
def a_working_set_may_know_memory_that_is_not_there(t):
    """It is recorded by a clone that plugs more, and brought in for ones that
    have not yet."""
    injail.give_proc(t)
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    path = t.path("set")
    m = snapshot.load(t, record_working_set={"path": path, "at": "Request"})
    g = Told(m)
    g.plug(2 * BLOCK, 2)
    for addr in range(2 * BLOCK, 4 * BLOCK, 4096):
        if addr % (16 * 4096) == 0:
            g.write(addr, 1)
    g.read(4096)
    m.put("/vm/working-set")
    m.close()
    for way in ("Beside", "Before", "Copy"):
        m = snapshot.load(t, working_set_path=path, prefetch=way)
        g = Told(m)
        t.point(g.read(4096) == 0xabc0 and g.state(2 * BLOCK, 2) == UNPLUGGED,
                way)
        t.point("not brought in completely" not in m.log, way + ": all",
                m.log)
        m.close()


@test
def a_memory_file_without_it_is_refused(t):
    g = plugged_guest(t)
    pause(g.m)
    snapshot = Snapshot(t)
    snapshot.create(g.m)
    g.m.close()
    os.truncate(snapshot.memory, RAM)
    refused_load(t, snapshot.body(), "memory file is %d bytes, the snapshot "
                 "needs %d" % (RAM, RAM + 512 * MIB), "too short")


if __name__ == "__main__":
    main()
