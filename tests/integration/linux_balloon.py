#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The balloon in a Linux guest: what it gives back is the host's again."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from ember import Monitor  # noqa: E402
from faults import good_handler  # noqa: E402
from linuxguest import MIB, Guest  # noqa: E402
from snapshots import Snapshot, merge, pause  # noqa: E402
from tap import SLOW, main, test  # noqa: E402

MEMORY_MIB = 256
USED_MIB = 100
BALLOON_MIB = 128
BALLOON = {"amount_mib": 0, "deflate_on_oom": False,
           "stats_polling_interval_s": 1, "free_page_hinting": True,
           "free_page_reporting": False}


def boot(t, args=(), **fields):
    return Guest(t, mem=MEMORY_MIB, args=args, configure=lambda m: m.put(
        "/balloon", **{**BALLOON, **fields}))


def resident_mib(m):
    """Of the monitor, with the guest's memory."""
    with open("/proc/%d/statm" % m.pid) as file:
        return int(file.read().split()[1]) * 4096 // MIB


def wait_for(what, seconds=6):
    deadline = time.monotonic() + seconds * SLOW
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def actual_mib(m):
    return m.get("/balloon/statistics")["actual_mib"]


def inflate(t, m, mib, what):
    m.patch("/balloon", amount_mib=mib)
    t.point(wait_for(lambda: actual_mib(m) == mib),
            "%s: the balloon has %d MiB" % (what, mib),
            str(m.get("/balloon/statistics")))


def use_memory(guest):
    """Much of it is used, then free again; the host does not know."""
    guest.sh("dd if=/dev/zero of=/tmp/used bs=1M count=%d 2>/dev/null" %
             USED_MIB)
    guest.sh("rm /tmp/used")
    return resident_mib(guest.monitor)


def check_metrics(t, m, path, *wanted):
    m.put("/actions", action_type="FlushMetrics")
    counts = {}
    with open(path) as file:
        for line in file:
            for name, value in json.loads(line)["balloon"].items():
                counts[name] = counts.get(name, 0) + value
    t.point(all(counts[name] for name in wanted) and
            not any(value for name, value in counts.items()
                    if name.endswith("_fails")), "counts", str(counts))


def meminfo_mib(guest, key):
    return guest.number("awk '/^%s:/ {print int($2 / 1024)}' /proc/meminfo"
                        % key)


def check_stats(t, guest):
    m = guest.monitor
    total = meminfo_mib(guest, "MemTotal")
    t.point(wait_for(lambda: m.get("/balloon/statistics").get(
        "total_memory", 0) // MIB == total), "it says how much it has",
        "%s, not %d MiB" % (m.get("/balloon/statistics"), total))
    stats = m.get("/balloon/statistics")
    t.point(0 < stats["free_memory"] <= stats["total_memory"] and
            0 < stats["available_memory"] and stats["minor_faults"] > 0 and
            "disk_caches" in stats, "and what of it is free", str(stats))


def loaded(t, snapshot, guest, socket=None):
    """The guest in another monitor, its memory a file or a handler's."""
    clone = Monitor(test=t)
    body = snapshot.body(resume_vm=True)
    if socket:
        body["mem_backend"] = {"backend_type": "Uffd", "backend_path": socket}
    clone.put("/snapshot/load", **body)
    guest.monitor = clone
    return clone


def goes_on(t, guest, what):
    """Its balloon still works, both ways, and so does its memory."""
    m = guest.monitor
    t.point(guest.sh("md5sum < /tmp/kept") == guest.sum, what + ": its data")
    t.point(actual_mib(m) == BALLOON_MIB, what + ": its balloon")
    inflate(t, m, 0, what)
    high = use_memory(guest)
    inflate(t, m, BALLOON_MIB, what)
    t.point(resident_mib(m) < high - USED_MIB // 2, what + ": memory came back",
            "%d MiB, then %d" % (high, resident_mib(m)))
    check_stats(t, guest)


@test
def inflated_saved_and_loaded(t):
    guest = boot(t)
    m = guest.monitor
    high = use_memory(guest)
    total = meminfo_mib(guest, "MemTotal")
    check_stats(t, guest)
    inflate(t, m, BALLOON_MIB, "booted")
    low = resident_mib(m)
    print("# resident: %d MiB, inflated %d MiB" % (high, low))
    t.point(low < high - USED_MIB // 2, "memory came back",
            "%d MiB, then %d" % (high, low))
    t.point(meminfo_mib(guest, "MemTotal") == total - BALLOON_MIB,
            "the guest does without it")
    guest.sh("dd if=/dev/urandom of=/tmp/kept bs=1M count=4 2>/dev/null")
    guest.sum = guest.sh("md5sum < /tmp/kept")

    pause(m)
    base = Snapshot(t)
    base.create(m)
    t.point(resident_mib(m) < low + 16, "to save it brings nothing back",
            "%d MiB" % resident_mib(m))
    m.close()
    m = loaded(t, base, guest)
    goes_on(t, guest, "from a file")
    pause(m)
    diff = Snapshot(t, "diff")
    diff.create(m, snapshot_type="Diff")
    m.close()
    merge(diff.memory, base.memory)
    diff.memory = base.memory

    socket = t.path("fault.sock")
    handler = good_handler(socket, diff.memory, 31)
    t.defer(handler.kill)
    m = loaded(t, diff, guest, socket)
    goes_on(t, guest, "from a handler")
    guest.power_off()


@test
def hinted_and_reported(t):
    path = t.path("metrics")
    guest = boot(t, ["--metrics-path", path], free_page_reporting=True)
    m = guest.monitor
    high = use_memory(guest)
    t.point(wait_for(lambda: resident_mib(m) < high - USED_MIB // 2, 10),
            "what is free is reported",
            "%d MiB, then %d" % (high, resident_mib(m)))
    print("# resident: %d MiB, after reports %d MiB" % (high,
                                                        resident_mib(m)))
    check_metrics(t, m, path, "free_page_report_count",
                  "free_page_report_freed")
    guest.power_off()

    path = t.path("metrics2")
    guest = boot(t, ["--metrics-path", path])
    m = guest.monitor
    high = use_memory(guest)
    status = "/balloon/hinting/status"
    for run in (2, 3):
        assert m.api("PATCH", "/balloon/hinting/start")[0] == 204
        t.point(wait_for(lambda: m.get(status) == {
            "host_cmd": 1, "guest_cmd": 0}), "run %d ends" % run,
            str(m.get(status)))
    t.point(resident_mib(m) < high - USED_MIB // 2, "what is free is hinted at",
            "%d MiB, then %d" % (high, resident_mib(m)))
    print("# resident: %d MiB, after hints %d MiB" % (high, resident_mib(m)))
    t.point(use_memory(guest) >= high - 32, "and can be used again")
    inflate(t, m, 64, "after hints")
    inflate(t, m, 0, "after hints")
    check_metrics(t, m, path, "free_page_hint_count", "free_page_hint_freed",
                  "inflate_count", "deflate_count", "stats_updates_count")
    guest.power_off()


@test
def deflated_when_memory_runs_out(t):
    guest = boot(t, deflate_on_oom=True)
    m = guest.monitor
    free = meminfo_mib(guest, "MemFree")
    inflate(t, m, free - 40, "booted")
    code, text = guest.run("dd if=/dev/zero of=/dev/null bs=%dM count=1"
                           % (free - 60))
    t.point(code == 0, "a program gets what the balloon had", text)
    guest.power_off()


if __name__ == "__main__":
    main()
