# SPDX-License-Identifier: Apache-2.0
"""Persistent memory, used by a small driver of our own."""
import json
import os
import re
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import (TIMEOUT, Monitor, guest, guest_points, need_kvm,
                   run, skip_in_jail)
from snapshots import MIB, Snapshot, pause, refused_load
from tap import SLOW, main, test

FIRST = 512 << 30
MARK = b"\x88\x77\x66\x55\x44\x33\x22\x11"
START = "Start microvm error: "
GONE = ("KVM_RUN: Bad address (os error 14): a file behind the guest's memory "
        "was cut, or its disk is full")


def numbered(size):
    """Every eight bytes are their own offset."""
    return b"".join(struct.pack("<Q", n) for n in range(0, size, 8))


def pmem(m, name, path, **fields):
    m.put("/pmem/" + name, id=name, path_on_host=path, **fields)


def started(t, *files, args=(), **machine):
    """The guest that does what it is told. @files: (path, fields)."""
    need_kvm()
    m = Monitor(test=t, args=args)
    for number, (path, fields) in enumerate(files):
        pmem(m, "p%d" % number, path, **fields)
    m.start(guest("pmem"), **machine)
    m.expect(b"ready\n")
    return m


def told(m, order, answer):
    m.send(order.encode() + b"\n")
    m.expect(answer.encode() + b"\n")


def contents(path, off, size=8):
    with open(path, "rb") as file:
        file.seek(off)
        return file.read(size)


def metrics_of(m, path):
    """The last line of the metrics."""
    m.put("/actions", action_type="FlushMetrics")
    with open(path) as file:
        return json.loads(file.read().splitlines()[-1])


def refused_start(t, name, path, text, **fields):
    m = Monitor(test=t)
    pmem(m, "p", path, **fields)
    m.put("/boot-source", kernel_image_path=guest("pmem"))
    begin = time.monotonic()
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    t.point(fault.startswith(START) and text in fault
            and time.monotonic() - begin < TIMEOUT / 2, name, fault)
    return m


@test
def guest_has_the_file_as_memory(t):
    need_kvm()
    path = t.write("p", numbered(3 * MIB))
    metrics = t.path("metrics")
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=metrics)
    pmem(m, "p0", path)
    m.start(guest("pmem"))
    m.expect(b"ready\n")
    lines = m.console.decode().splitlines()
    t.point("start 0x%x" % FIRST in lines, "where it is", str(lines))
    t.point("size 0x%x" % (4 * MIB) in lines, "size in whole 2 MiB")
    for off in (0, 8, 4096, 2 * MIB - 8, 2 * MIB, 3 * MIB - 8):
        told(m, "r %d" % off, "read 0x%x" % off)
    told(m, "r %d" % (3 * MIB), "read 0x0")
    told(m, "r %d" % (4 * MIB - 8), "read 0x0")
    told(m, "w 4096", "written")
    told(m, "r 4096", "read 0x1122334455667788")
    t.point(contents(path, 4096) == MARK, "others see what is written")
    told(m, "w %d" % (3 * MIB), "written")
    told(m, "r %d" % (3 * MIB), "read 0x1122334455667788")
    t.point(os.stat(path).st_size == 3 * MIB, "the file stays as long")
    told(m, "f", "flushed 0x0")
    told(m, "b", "good 8")
    told(m, "e", "evil")
    guest_lines = m.console
    told(m, "q", "done")
    assert m.wait() == 0
    guest_points(t, guest_lines + b"done\n")
    with open(metrics) as file:
        last = json.loads(file.read().splitlines()[-1])
    t.point(last["pmem"] == last["pmem_p0"]
            and last["pmem"]["event_fails"] == 10
            and last["pmem"]["queue_event_count"] > 3, "metrics",
            str(last["pmem"]))
    t.point("a multiple of 2 MiB" in m.log, "the log has a word on the tail")


@test
def healthy_flushes_fail_nothing(t):
    metrics = t.path("metrics")
    need_kvm()
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=metrics)
    pmem(m, "p0", t.write("p", bytes(2 * MIB)))
    m.start(guest("pmem"))
    m.expect(b"ready\n")
    for _ in range(5):
        told(m, "f", "flushed 0x0")
    last = metrics_of(m, metrics)
    own = last["pmem_p0"]
    t.point(own.pop("queue_event_count") >= 5 and own == {
        "activate_fails": 0, "cfg_fails": 0, "event_fails": 0,
        "rate_limiter_throttled_events": 0, "rate_limiter_event_count": 0},
        "metrics", str(own))
    told(m, "q", "done")
    assert m.wait() == 0


@test
def devices_lie_one_behind_the_other(t):
    sizes = (1, 4096, 5 * MIB)
    files = [(t.write("p%d" % n, (b"%d" % n) * size), {})
             for n, size in enumerate(sizes)]
    m = started(t, *files)
    lines = m.console.decode().splitlines()
    starts = [line for line in lines if line.startswith("start")]
    want = ["start 0x%x" % (FIRST + off) for off in (0, 2 * MIB, 4 * MIB)]
    t.point(starts == want, "addresses", str(starts))
    told(m, "r 0", "read 0x30")
    told(m, "d 2", "meant")
    told(m, "r %d" % (5 * MIB - 8), "read 0x3232323232323232")
    told(m, "f", "flushed 0x0")
    told(m, "d 1", "meant")
    told(m, "r 0", "read 0x3131313131313131")
    told(m, "q", "done")
    assert m.wait() == 0


@test
def read_only_is_not_written(t):
    """Through the slot's protection, for the file's own do not suffice: root
    opens what it likes."""
    path = t.write("p", numbered(MIB))
    os.chmod(path, 0o444)
    m = started(t, (path, {"read_only": True}))
    told(m, "r 4096", "read 0x1000")
    told(m, "w 4096", "written")
    told(m, "r 4096", "read 0x1000")
    told(m, "w %d" % MIB, "written")
    told(m, "r %d" % MIB, "read 0x0")
    told(m, "f", "flushed 0x0")
    told(m, "e", "evil")
    t.point(contents(path, 4096) == struct.pack("<Q", 4096), "the file")
    lines = m.console
    told(m, "q", "done")
    assert m.wait() == 0
    guest_points(t, lines + b"done\n")


@test
def data_survives_the_monitor(t):
    path = t.write("p", bytes(2 * MIB))
    m = started(t, (path, {}))
    told(m, "w 64", "written")
    told(m, "f", "flushed 0x0")
    m.signal(signal.SIGKILL)
    assert m.wait() == -signal.SIGKILL
    t.point(contents(path, 64) == MARK, "the file")
    m = started(t, (path, {}))
    told(m, "r 64", "read 0x1122334455667788")


@test
def two_guests_share_a_file(t):
    path = t.write("p", bytes(2 * MIB))
    writer = started(t, (path, {}))
    reader = started(t, (path, {"read_only": True}))
    told(reader, "r 8", "read 0x0")
    told(writer, "w 8", "written")
    told(reader, "r 8", "read 0x1122334455667788")


@test
def what_is_no_file_is_refused(t):
    need_kvm()
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    sock = t.path("socket")
    listener = socket.socket(socket.AF_UNIX)
    t.defer(listener.close)
    listener.bind(sock)
    none = t.path("none")
    files = [
        ("a directory", t.dir, "s a directory"),
        ("a directory, read-only", t.dir, "is a directory"),
        ("a FIFO", fifo, "is not a regular file"),
        ("a FIFO, read-only", fifo, "is not a regular file"),
        ("a device", "/dev/null", "is not a regular file"),
        ("a socket", sock, "(os error 6)"),
        ("nothing", none, "No such file or directory (os error 2)"),
        ("no bytes", t.write("empty", b""),
         "Error backing file size is 0"),
    ]
    for name, path, text in files:
        m = refused_start(t, name, path, text,
                          read_only="read-only" in name)
        assert m.get("/")["state"] == "Not started"


@test
def a_refused_start_can_be_mended(t):
    need_kvm()
    path = t.write("p", b"")
    m = refused_start(t, "empty", path, "Pmem device p: Error backing file "
                      "size is 0")
    os.truncate(path, MIB)
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"ready\n")
    told(m, "r 0", "read 0x0")


@test
def huge_files_work_or_are_refused(t):
    """A TiB of holes, if there are addresses for it; 8 EiB nowhere."""
    need_kvm()
    path = t.write("p", b"")
    os.truncate(path, 1 << 40)
    m = Monitor(test=t)
    pmem(m, "p", path)
    m.put("/boot-source", kernel_image_path=guest("pmem"))
    status, answer = m.api("PUT", "/actions",
                           {"action_type": "InstanceStart"})
    if status == 204:
        m.expect(b"ready\n")
        told(m, "w %d" % ((1 << 40) - 8), "written")
        told(m, "r %d" % ((1 << 40) - 8), "read 0x1122334455667788")
        told(m, "f", "flushed 0x0")
        t.point(contents(path, (1 << 40) - 8) == MARK, "the last bytes")
        t.point(os.stat(path).st_blocks * 512 < MIB, "holes stay holes")
        return
    fault = answer["fault_message"]
    t.point("1048576 MiB at guest address 0x8000000000 do not fit" in fault
            or "KVM_SET_USER_MEMORY_REGION" in fault
            or "Out of memory (os error 12)" in fault,  # TSan's addresses
            "a sentence", fault)


@test
def a_file_that_shrinks(t):
    """What is gone is gone: the guest reads something or ends, with a reason;
    the monitor is not killed."""
    path = t.write("p", numbered(4 * MIB))
    m = started(t, (path, {}))
    told(m, "r %d" % (3 * MIB), "read 0x%x" % (3 * MIB))
    os.truncate(path, MIB)
    m.send(b"r %d\n" % (3 * MIB))
    deadline = time.monotonic() + TIMEOUT
    while m.alive() and b"read" not in m.console[m._seen:]:
        assert time.monotonic() < deadline, m.console
        time.sleep(0.01)
    if m.alive():
        t.point(True, "the guest reads " + repr(m.console[m._seen:]))
        told(m, "f", "flushed 0x0")
        return
    code = m.wait()
    t.point(code == 1 and GONE in m.log, "it ends with a reason",
            "exit code %s" % code)


@test
def flushes_are_limited(t):
    """One operation per batch of them."""
    path = t.write("p", bytes(2 * MIB))
    metrics = t.path("metrics")
    period = 0.2 * min(SLOW, 5)  # a flush itself must be much faster
    need_kvm()
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=metrics)
    pmem(m, "p0", path, rate_limiter={
        "ops": {"size": 1, "refill_time": int(1000 * period)}})
    m.start(guest("pmem"))
    m.expect(b"ready\n")
    begin = time.monotonic()
    for _ in range(4):
        told(m, "f", "flushed 0x0")
    spent = time.monotonic() - begin
    t.point(2.4 * period < spent, "four flushes, three of which wait",
            "%g s" % spent)
    last = metrics_of(m, metrics)["pmem"]
    t.point(last["rate_limiter_throttled_events"] >= 3
            and last["rate_limiter_event_count"] >= 3, "metrics", str(last))
    m.patch("/pmem/p0", id="p0", rate_limiter={
        "ops": {"size": 0, "refill_time": 0}})
    begin = time.monotonic()
    for _ in range(4):
        told(m, "f", "flushed 0x0")
    t.point(time.monotonic() - begin < 0.5 * SLOW, "without a limit")
    # The length of the file, however little was written: one at once, one on
    # credit, and one once that is paid.
    m.patch("/pmem/p0", id="p0", rate_limiter={
        "bandwidth": {"size": 2 * MIB, "refill_time": 300}})
    begin = time.monotonic()
    for _ in range(3):
        told(m, "f", "flushed 0x0")
    spent = time.monotonic() - begin
    t.point(0.25 < spent, "by bytes", "%g s" % spent)
    told(m, "q", "done")
    assert m.wait() == 0


# ------------------------------------------------------------- configuration


@test
def the_config_file_has_a_section(t):
    need_kvm()
    path = t.write("p", numbered(MIB))
    config = {
        "boot-source": {"kernel_image_path": guest("pmem")},
        "drives": [],
        "pmem": [{"id": "a", "path_on_host": path, "read_only": True},
                 {"id": "b", "path_on_host": path, "rate_limiter": {
                     "ops": {"size": 5, "refill_time": 9}}}]}
    m = Monitor(test=t, args=["--config-file",
                              t.write("config", json.dumps(config))])
    m.expect(b"ready\n")
    told(m, "r 16", "read 0x10")
    shown = m.get("/vm/config")
    t.point(shown["pmem"] == [
        {"id": "a", "path_on_host": path, "root_device": False,
         "read_only": True, "rate_limiter": None},
        {"id": "b", "path_on_host": path, "root_device": False,
         "read_only": False, "rate_limiter": {
             "bandwidth": None,
             "ops": {"size": 5, "one_time_burst": None, "refill_time": 9}}}],
        "GET /vm/config", str(shown["pmem"]))
    told(m, "q", "done")
    assert m.wait() == 0
    m = Monitor(test=t, args=["--config-file",
                              t.write("again", json.dumps(shown))])
    m.expect(b"ready\n")
    t.point(m.get("/vm/config") == shown, "what is shown can be loaded")


@test
def a_running_guest_gets_none(t):
    path = t.write("p", bytes(MIB))
    m = started(t, (path, {}))
    fault = m.fault("PUT", "/pmem/q", {"id": "q", "path_on_host": path})
    t.point(fault == "PCI is not enabled", "PUT", fault)
    fault = m.fault("DELETE", "/pmem/p0")
    t.point("PCI is not enabled" in fault, "DELETE", fault)
    m.patch("/pmem/p0", id="p0")
    m.patch("/pmem/nobody", id="nobody")
    m.patch("/pmem/nobody", id="nobody", rate_limiter=None)
    for body in ({}, {"ops": {"size": 1, "refill_time": 1}}):
        fault = m.fault("PATCH", "/pmem/nobody",
                        {"id": "nobody", "rate_limiter": body})
        t.point(fault == "Pmem config error: Failed perform action on device:"
                " Device not found", "PATCH of nobody", fault)
    m.patch("/pmem/p0", id="p0", rate_limiter={
        "ops": {"size": 7, "refill_time": 8}})
    limiter = m.get("/vm/config")["pmem"][0]["rate_limiter"]
    t.point(limiter == {"bandwidth": None, "ops": {
        "size": 7, "one_time_burst": None, "refill_time": 8}}, "PATCH",
        str(limiter))
    m.patch("/pmem/p0", id="p0", rate_limiter={
        "bandwidth": {"size": 1, "refill_time": 2, "one_time_burst": 3}})
    limiter = m.get("/vm/config")["pmem"][0]["rate_limiter"]
    t.point(limiter["ops"]["size"] == 7
            and limiter["bandwidth"]["one_time_burst"] == 3,
            "a bucket that is not named stays", str(limiter))
    told(m, "f", "flushed 0x0")


# ------------------------------------------------------------------ snapshots


def snapshot_of(t, m):
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    return snapshot


@test
def a_snapshot_finds_the_file_again(t):
    path = t.write("p", numbered(3 * MIB))
    m = started(t, (path, {}), (path, {"read_only": True}))
    told(m, "w 0", "written")
    told(m, "f", "flushed 0x0")
    snapshot = snapshot_of(t, m)
    with open(snapshot.memory, "rb") as file:
        memory = file.read()
    t.point(len(memory) == 128 * MIB, "the memory file has RAM only")
    code, text, _ = run("--describe-snapshot", snapshot.state)
    t.point(code == 0 and "pmem: p1\n  path: " + path in text,
            "--describe-snapshot", text)
    m.patch("/vm", state="Resumed")
    told(m, "f", "flushed 0x0")
    m.close()
    clone = snapshot.load(t)
    told(clone, "r 0", "read 0x1122334455667788")
    told(clone, "r 8192", "read 0x2000")
    told(clone, "w 8192", "written")
    told(clone, "f", "flushed 0x0")
    t.point(contents(path, 8192) == MARK, "a clone writes the file")
    told(clone, "d 1", "meant")
    told(clone, "w 16384", "written")
    told(clone, "r 16384", "read 0x4000")
    t.point([p["id"] for p in clone.get("/vm/config")["pmem"]]
            == ["p0", "p1"], "GET /vm/config")
    other = t.write("other", numbered(3 * MIB))
    clone = snapshot.load(t, pmem_overrides=[
        {"id": "p0", "path_on_host": path},
        {"id": "p0", "path_on_host": other}])
    told(clone, "r 8192", "read 0x2000")
    told(clone, "w 24576", "written")
    t.point(contents(other, 24576) == MARK
            and contents(path, 24576) != MARK, "or another one")
    # A snapshot of the clone.
    again = snapshot_of(t, clone)
    clone.close()
    clone = again.load(t)
    told(clone, "r 24576", "read 0x1122334455667788")
    told(clone, "f", "flushed 0x0")


@test
def the_command_line_restores_with_another_file(t):
    path = t.write("p", numbered(MIB))
    other = t.write("other", numbered(MIB))
    m = started(t, (path, {}))
    snapshot = snapshot_of(t, m)
    m.close()
    clone = Monitor(test=t, args=[
        "--restore", snapshot.state, "--mem", snapshot.memory,
        "--pmem-override", "p0=" + other])
    told(clone, "w 8", "written")
    t.point(contents(other, 8) == MARK and contents(path, 8) != MARK,
            "written to the other one")


@test
def limits_are_in_a_snapshot(t):
    path = t.write("p", bytes(MIB))
    m = started(t, (path, {"rate_limiter": {
        "ops": {"size": 1, "refill_time": 1000}}}))
    told(m, "f", "flushed 0x0")
    m.send(b"f\n")  # has to wait
    snapshot = snapshot_of(t, m)
    m.close()
    begin = time.monotonic()
    clone = snapshot.load(t)
    clone.expect(b"flushed 0x0\n")
    spent = time.monotonic() - begin
    t.point(spent > 0.2, "what waits goes on to wait", "%g s" % spent)
    t.point(clone.get("/vm/config")["pmem"][0]["rate_limiter"]["ops"]["size"]
            == 1, "GET /vm/config")


@test
def a_snapshot_wants_the_file_it_had(t):
    path = t.write("p", numbered(3 * MIB))
    m = started(t, (path, {}), (path, {}))
    snapshot = snapshot_of(t, m)
    m.close()
    refused_load(t, snapshot.body(pmem_overrides=[
        {"id": "x", "path_on_host": path}]), "Unknown Pmem: x", "unknown")
    for size, text in (
            (3 * MIB + 1, "the pmem file has 3145729 bytes, the snapshot was "
             "taken with 3145728"),
            (5 * MIB, "the sizes of pmem files"),
            (1, "the sizes of pmem files"),
            (0, "Error backing file size is 0")):
        os.truncate(path, size)
        refused_load(t, snapshot.body(), text, "%d bytes" % size)
    os.unlink(path)
    refused_load(t, snapshot.body(), "No such file or directory", "no file")
    os.mkfifo(path)
    refused_load(t, snapshot.body(), "is not a regular file", "a FIFO")


# ------------------------------------------------------------ shared memory


def mapping(m, path):
    """The lines of the monitor's smaps for the file."""
    with open("/proc/%d/smaps" % m.pid) as file:
        text = file.read()
    at = text.index(path)
    block = text[at:].split("\n")
    fields = {}
    for line in block[1:]:
        found = re.match(r"(\w+):\s+(\d+) kB", line)
        if not found:
            break
        fields[found.group(1)] = int(found.group(2))
    return fields


@test
def many_guests_have_one_copy(t):
    skip_in_jail("the path is another one in there")
    path = t.write("p", numbered(2 * MIB))
    monitors = []
    for _ in range(3):
        m = started(t, (path, {"read_only": True}))
        for off in range(0, 2 * MIB, 65536):
            told(m, "r %d" % off, "read 0x%x" % off)
        pause(m)  # what waits to be told something is always busy
        monitors.append(m)
    fields = mapping(monitors[0], path)
    t.point(fields["Private_Clean"] + fields["Private_Dirty"] == 0
            and fields["Rss"] >= 32 * 4
            and fields["Pss"] <= fields["Rss"] / 2, "shared", str(fields))


if __name__ == "__main__":
    main()
