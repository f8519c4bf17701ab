# SPDX-License-Identifier: Apache-2.0
"""Working sets: recorded from a guest that touches known pages, brought in for
the next one. And pages brought in by request."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import Monitor, NOT_BEFORE_START, guest, guest_points, need_kvm
from faults import good_handler
from snapshots import refused_load
from tap import main, test
from touch import (FIRST, MEMORY_MIB, PAGE, READ, WAIT, WRITE, TouchSnapshot,
                   WorkingSet, numbered)

WORKING_SET = "Working set error: "
PRE_FAULT = "Pre-fault memory error: "
# Read 300 pages in three places, written 40 in two.
STEPS = ((READ, 0, 100, 1), (READ, 1000, 100, 3), (WRITE, 2000, 30, 1),
         (READ, 4000, 100, 7), (WRITE, 5000, 10, 16))


def pages(*steps):
    """The pages of these steps, in order."""
    return [first + i * stride for _, first, count, stride in steps
            for i in range(count)]


READS = pages(*(step for step in STEPS if step[0] == READ))
WRITES = pages(*(step for step in STEPS if step[0] == WRITE))


def waiting_guest(t, steps=STEPS, name="touch", **machine):
    need_kvm()
    m = Monitor(test=t)
    snapshot = TouchSnapshot(m, t.path(name), **machine)
    snapshot.set_steps(*steps)
    m.close()
    return snapshot


def watches_reads():
    """Can this kernel tell which pages were read?"""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, release.groups())) >= (6, 7)


def check_set(t, path, what=""):
    found = WorkingSet(path)
    t.point(found.size == MEMORY_MIB << 20, what + "the memory's size",
            str(found.size))
    t.point(sorted(numbered(found.written)) == WRITES,
            what + "what was written",
            str(numbered(found.written)))
    missing = set(READS) - set(numbered(found.read))
    t.point(not missing, what + "what was read", str(sorted(missing)[:20]))
    if watches_reads():
        more = set(numbered(found.read)) - set(READS)
        t.point(not more, what + "and nothing else",
                str(sorted(more)[:20]))
    return found


def write_set(m, path):
    status, answer = m.api("PUT", "/vm/working-set", {"path": path})
    assert status == 204, answer


def record(t, snapshot, path):
    """Runs a clone to the end of its steps and writes what it touched."""
    m = Monitor(test=t, args=snapshot.args(
        "--record-working-set", path, "--record-until", "request"))
    m.expect(b"done\n")
    m.put("/vm/working-set")
    return m


@test
def a_record_has_the_pages_that_were_touched(t):
    snapshot = waiting_guest(t)
    path = t.path("set")
    m = record(t, snapshot, path)
    guest_points(t, m.console)
    check_set(t, path)
    m.patch("/vm", state="Paused")
    write_set(m, path + ".paused")
    check_set(t, path + ".paused", "paused: ")


@test
def a_record_over_the_api(t):
    snapshot = waiting_guest(t)
    m = Monitor(test=t)
    path = t.path("set")
    m.put("/snapshot/load", **snapshot.body(
        record_working_set={"path": path, "at": "Request"}, resume_vm=False))
    m.patch("/vm", state="Resumed")
    m.expect(b"done\n")
    t.point(not os.path.exists(path), "nothing is written unasked")
    write_set(m, None)
    check_set(t, path)


@test
def a_record_nobody_prepared_for(t):
    """It has what was written and, but for what shared a huge page of the page
    cache with that, what was read; and whatever the kernel mapped along."""
    snapshot = waiting_guest(t)
    m = Monitor(test=t)
    m.put("/snapshot/load", **snapshot.body())
    m.expect(b"done\n")
    fault = m.fault("PUT", "/vm/working-set", {})
    t.point(fault == WORKING_SET + "missing field `path`: the load named no "
            "file for it", "a path is needed", fault)
    path = t.path("set")
    write_set(m, path)
    found = WorkingSet(path)
    t.point(sorted(numbered(found.written)) == WRITES, "what was written")
    apart = {page for page in READS
             if page // 512 not in {other // 512 for other in WRITES}}
    t.point(len(apart) > 200 and apart <= set(numbered(found.read)),
            "what was read")


@test
def the_order_is_that_of_first_touch(t):
    turns = [((WRITE, 3000, 8, 2), (READ, 700, 5, 1)),
             ((WRITE, 100, 8, 2), (READ, 6000, 5, 1)),
             ((WRITE, 3001, 8, 2), (READ, 20, 5, 1))]
    snapshot = waiting_guest(t, [
        step for turn in turns for step in turn + ((WAIT,),)])
    path = t.path("set")
    m = Monitor(test=t, args=snapshot.args(
        "--record-working-set", path, "--record-until", "request"))
    for _ in turns:
        m.expect(b"waiting\n")
        m.put("/vm/working-set")
        m.send(b"x")
    m.expect(b"done\n")
    m.put("/vm/working-set")
    found = WorkingSet(path)
    written = [page for page in numbered(found.written)]
    t.point(written == [page for turn in turns for page in pages(turn[0])],
            "of what was written", str(written))
    wanted = [page for turn in turns for page in pages(turn[1])]
    read = [page for page in numbered(found.read) if page in wanted]
    t.point(read == wanted or not watches_reads(), "of what was read",
            str(read))


def own_kib(m):
    """Memory that is the monitor's own. (Private_Dirty has pages of its binary
    as well, where that was written a moment ago, as for a jail.)"""
    with open("/proc/%d/smaps_rollup" % m.pid) as source:
        return int(re.search(r"Anonymous:\s+(\d+)", source.read()).group(1))


@test
def a_set_is_brought_in(t):
    snapshot = waiting_guest(t)
    path = t.path("set")
    record(t, snapshot, path).close()
    m = Monitor(test=t)
    m.put("/snapshot/load", **snapshot.body(resume_vm=False))
    plain = own_kib(m)
    m.close()
    for way in "Before", "Beside", "Copy":
        m = Monitor(test=t)
        m.put("/snapshot/load", **snapshot.body(
            working_set_path=path, prefetch=way, resume_vm=False))
        m.wait_log("The working set was brought in: ")
        if way == "Before":
            t.point(own_kib(m) >= plain + len(WRITES) * 4,
                    "written pages are there already",
                    "%d KiB, %d without" % (own_kib(m), plain))
        m.patch("/vm", state="Resumed")
        m.expect(b"done\n")
        t.point(b"ok contents" in m.console, way + ": the guest sees what it "
                "should", str(m.console))
        m.close()
    m = Monitor(test=t, args=snapshot.args("--working-set", path,
                                           "--prefetch", "before"))
    m.expect(b"done\n")
    t.point(b"ok contents" in m.console, "by the command line")


@test
def a_dense_set_is_copied(t):
    """1,024 pages from a multiple of 2 MiB on: they are this clone's own, and
    a snapshot of it still has them."""
    snapshot = waiting_guest(t, [(READ, 0, 1024, 1), (WRITE, 1024, 4, 1)])
    path = t.path("set")
    record(t, snapshot, path).close()
    m = Monitor(test=t)
    m.put("/snapshot/load", **snapshot.body(
        working_set_path=path, prefetch="Copy", resume_vm=False))
    t.point(own_kib(m) >= 4096, "the pages are its own",
            str(own_kib(m)))
    m.patch("/vm", state="Resumed")
    m.expect(b"done\n")
    m.patch("/vm", state="Paused")
    m.put("/snapshot/create", snapshot_path=t.path("again.state"),
          mem_file_path=t.path("again.mem"))
    with open(snapshot.memory, "rb") as old, \
            open(t.path("again.mem"), "rb") as new:
        old.seek(FIRST * PAGE)
        new.seek(FIRST * PAGE)
        t.point(old.read(1024 * PAGE) == new.read(1024 * PAGE),
                "a snapshot of it has them")


@test
def a_set_is_brought_in_through_a_fault_handler(t):
    snapshot = waiting_guest(t)
    path = t.path("set")
    record(t, snapshot, path).close()
    for way in "Before", "Beside":
        sock, again = t.path("faults-" + way), t.path("again-" + way)
        handler = good_handler(sock, snapshot.memory)
        try:
            m = Monitor(test=t)
            m.put("/snapshot/load", **snapshot.body(
                mem_backend={"backend_type": "Uffd", "backend_path": sock},
                working_set_path=path, prefetch=way,
                record_working_set={"path": again, "at": "Request"}))
            m.expect(b"done\n")
            t.point(b"ok contents" in m.console,
                    way + ": the guest sees what it should")
            m.wait_log("The working set was brought in: ")
            m.put("/vm/working-set")
            touched = set(numbered(WorkingSet(again).read))
            t.point(set(READS + WRITES) <= touched,
                    way + ": and can be recorded",
                    str(set(READS + WRITES) - touched))
            m.close()
        finally:
            handler.kill()
            handler.wait()
            handler.stdout.close()


@test
def what_makes_no_sense_is_refused(t):
    snapshot = waiting_guest(t)
    other = waiting_guest(t, name="other", mem_size_mib=MEMORY_MIB // 2)
    path = t.path("set")
    record(t, other, path).close()
    refused_load(t, snapshot.body(working_set_path=path),
                 "The working set is of a memory of 67108864 bytes, this one "
                 "has 134217728", "a set of another memory")
    refused_load(t, snapshot.body(working_set_path="/nowhere"),
                 "Cannot open the working set: No such file or directory (os "
                 "error 2)", "a set that is not there")
    refused_load(t, snapshot.body(record_working_set={"path": path}),
                 "The working set cannot be recorded until the first vsock "
                 "accept: there is no vsock device", "waiting for nothing")
    m = Monitor(test=t)
    fault = m.fault("PUT", "/vm/working-set", {"path": path})
    t.point(fault == NOT_BEFORE_START, "before the start", fault)
    for fields, text in (
            ({"record_working_set": {"at": "Request"}},
             "missing field `path`"),
            ({"record_working_set": {"path": "a", "at": "Later"}},
             "unknown variant `Later`"),
            ({"working_set_path": "a", "prefetch": "After"},
             "unknown variant `After`"),
            ({"prefetch": "Before"}, "missing field `working_set_path`")):
        fault = m.fault("PUT", "/snapshot/load", snapshot.body(**fields))
        t.point(text in fault, text, fault)
    m.start(guest("counter"))
    fault = m.fault("PUT", "/vm/working-set", {"path": path})
    t.point("was loaded from a snapshot" in fault, "of a guest that was "
            "booted", fault)
    loaded = Monitor(test=t, args=snapshot.args())
    fault = loaded.fault("PUT", "/vm/working-set", {"path": "/nowhere/set"})
    t.point(fault == WORKING_SET + "Cannot perform open on the working set "
            "file: No such file or directory (os error 2)", "a path that is "
            "none", fault)


def pre_fault(m, *ranges, **fields):
    status, stats = m.api("PUT", "/vm/pre-fault-memory", {
        "ranges": [{"gpa": gpa, "size": size} for gpa, size in ranges],
        **fields})
    assert status == 200, stats
    return stats


@test
def pages_are_brought_in_by_request(t):
    snapshot = waiting_guest(t)
    m = Monitor(test=t)
    m.put("/snapshot/load", **snapshot.body(resume_vm=False))
    before = own_kib(m)
    stats = pre_fault(m, (0, 8 << 20), (FIRST * PAGE, 4 << 20))
    total = 12 << 20
    wall, calls = stats.pop("wall_time_us"), stats.pop("ioctl_count")
    workers = stats.pop("workers")
    t.point(stats == {"range_count": 2, "requested_bytes": total,
                      "completed_bytes": total, "remaining_bytes": 0},
            "the totals", str(stats))
    t.point(wall > 0 and calls >= 2, "and what they took",
            "%d us, %d calls" % (wall, calls))
    t.point(workers == [{**stats, "vcpu_id": 0, "ioctl_count": calls,
                         "wall_time_us": wall}], "one worker", str(workers))
    t.point(own_kib(m) - before < 1024, "reading costs no memory",
            str(own_kib(m) - before))
    pre_fault(m, (FIRST * PAGE, 4 << 20), write=True)
    t.point(own_kib(m) - before >= 4096, "writing does",
            str(own_kib(m) - before))
    m.patch("/vm", state="Resumed")
    m.expect(b"done\n")
    pre_fault(m, (0, MEMORY_MIB << 20))
    t.point(b"ok contents" in m.console, "contents stay")


@test
def ranges_that_are_none_are_refused(t):
    need_kvm()
    m = Monitor(test=t)
    fault = m.fault("PUT", "/vm/pre-fault-memory", {"ranges": []})
    t.point(fault == NOT_BEFORE_START, "before the start", fault)
    m.start(guest("counter"))
    end = MEMORY_MIB << 20
    for body, text in (
            ({"ranges": []}, "ranges must have at least one element"),
            ({"ranges": [{"gpa": 4096, "size": 0}]}, "ranges[0]: size is 0"),
            ({"ranges": [{"gpa": 0, "size": 4096}, {"gpa": 1, "size": 4096}]},
             "ranges[1]: gpa and size must be multiples of 4096"),
            ({"ranges": [{"gpa": 0, "size": 100}]},
             "ranges[0]: gpa and size must be multiples of 4096"),
            ({"ranges": [{"gpa": end - 4096, "size": 8192}]},
             "ranges[0]: not all of 0x2000 bytes at 0x7fff000 is guest "
             "memory"),
            ({"ranges": [{"gpa": 1 << 62, "size": 1 << 62}]},
             "is guest memory")):
        fault = m.fault("PUT", "/vm/pre-fault-memory", body)
        t.point(fault.startswith(PRE_FAULT) and fault.endswith(text), text,
                fault)
    for body, text in (
            ({}, "missing field `ranges`"),
            ({"ranges": 1}, "expected a sequence"),
            ({"ranges": [{"gpa": 0}]}, "missing field `size`"),
            ({"ranges": [{"gpa": -1, "size": 4096}]}, "ranges"),
            ({"ranges": [{"gpa": 0, "size": 4096, "x": 1}]},
             "unknown field `x`"),
            ({"ranges": [], "x": 1}, "unknown field `x`")):
        fault = m.fault("PUT", "/vm/pre-fault-memory", body)
        t.point("deserializing" in fault and (text in fault or text ==
                                              "ranges"), str(body), fault)
    stats = pre_fault(m, (0, end), write=True)
    t.point(stats["completed_bytes"] == end, "a booted guest's, too")
    m.expect(b"\n5\n")


if __name__ == "__main__":
    injail.give_proc()
    main()
