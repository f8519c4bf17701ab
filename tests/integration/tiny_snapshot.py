# SPDX-License-Identifier: Apache-2.0
"""Snapshots of tiny guests: taken, loaded, refused."""
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import (Monitor, NOT_AFTER_START, NOT_BEFORE_START, need_kvm, run,
                   sanitized)
from snapshots import LOAD, MIB, Snapshot, pause, refused_load, start_guest
from tap import main, skip_unless, test


def counting(t, **machine):
    """A guest that prints a rising number."""
    return start_guest(t, "counter", b"\n20\n", **machine)


def numbers(m):
    """What has been counted so far."""
    return [int(line) for line in m.console.split(b"\n")[:-1]
            if line.isdigit()]


def goes_on_after(t, m, console, name):
    """The clone counts on from where @console ends, without a gap or a
    repetition, even in the middle of a number."""
    last = [int(line) for line in console.split(b"\n")[:-1]
            if line.isdigit()][-1]
    m.expect(b"\n%d\n" % (last + 5))
    # The first line and the last one may be parts of a number.
    seen = [int(line) for line in (console + m.console).split(b"\n")[1:-1]
            if line.isdigit()]
    t.point(seen == list(range(seen[0], seen[0] + len(seen))), name,
            str(seen[-20:]))


def wait_for_more(m):
    """Five more numbers of a guest that goes on."""
    last = numbers(m)[-1]
    m.expect(b"\n%d\n" % (last + 5))


@test
def a_clone_goes_on_where_the_snapshot_was_taken(t):
    m = counting(t)
    last = pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    clone = snapshot.load(t)
    goes_on_after(t, clone, last, "the clone goes on")
    second = snapshot.load(t, resume=False)
    t.point(second.get("/")["state"] == "Paused" and not numbers(second),
            "a clone may wait")
    second.patch("/vm", state="Resumed")
    goes_on_after(t, second, last, "and goes on then")
    m.patch("/vm", state="Resumed")
    wait_for_more(m)
    t.point(True, "so does the original")


@test
def a_chain_of_snapshots(t):
    m = counting(t, track_dirty_pages=True)
    snapshot = Snapshot(t)
    for turn in range(6):
        kind = "Diff" if turn % 2 else "Full"
        last = pause(m)
        snapshot.create(m, snapshot_type=kind)
        m.signal(9)
        m.wait()
        m = snapshot.load(t, track_dirty_pages=True)
        goes_on_after(t, m, last, "%d: %s" % (turn, kind))


@test
def a_request_that_waits_is_served_by_both(t):
    """A disk's limiter holds it back while the snapshot is taken."""
    def devices(m):
        m.put("/drives/disk", drive_id="disk", is_root_device=False,
              path_on_host=t.write("disk", bytes(128 * 512)),
              rate_limiter={"ops": {"size": 1, "refill_time": 3600000}})

    def served(m):
        m.patch("/drives/disk", drive_id="disk", rate_limiter={
            "ops": {"size": 0, "refill_time": 0}})
        m.expect(b"status 0 data 0x5555aaaa\n")

    m = start_guest(t, "disk", b"ready\n", devices=devices)
    m.send(b"w")
    m.expect(b"status 0 data 0x5555aaaa\n")
    m.send(b"r")
    time.sleep(0.3)  # the guest reads it and asks
    before = pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    t.point(before.count(b"status") == 1, "it waits", str(before))
    served(snapshot.load(t))
    t.point(True, "the clone gets its answer when it may")
    m.patch("/vm", state="Resumed")
    served(m)
    t.point(True, "so does the original")


@test
def untouched_memory_is_a_hole(t):
    m = counting(t, mem_size_mib=512)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    stat = os.stat(snapshot.memory)
    t.point(stat.st_size == 512 * MIB, "the file has the memory's size")
    t.point(stat.st_blocks * 512 < 4 * MIB, "and little in it",
            "%d KiB" % (stat.st_blocks // 2))
    clone = snapshot.load(t, resume=False)
    other = Snapshot(t, "again")
    other.create(clone)
    t.point(os.stat(other.memory).st_blocks * 512 < 4 * MIB,
            "nor has that of a clone")
    if sanitized():
        return  # sanitizers have megabytes of their own
    with open("/proc/%d/smaps_rollup" % clone.pid) as source:
        private = int(re.search(r"Private_Dirty:\s+(\d+)",
                                source.read()).group(1))
    t.point(private < 2048, "a clone has little of its own",
            "%d KiB" % private)


@test
def one_shot_restore_tells_when_it_runs(t):
    skip_unless("EMBER_STRACE" not in os.environ,
                "strace keeps the pipe open as well")
    m = counting(t)
    last = pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    ends = os.pipe()
    clone = Monitor(test=t, args=[
        "--restore", snapshot.state, "--mem", snapshot.memory, "--ready-fd",
        str(ends[1])], pass_fds=[ends[1]])
    os.close(ends[1])
    with open(ends[0]) as ready:
        t.point(ready.read() == "READY\n", "one line, then the end")
    goes_on_after(t, clone, last, "it runs")
    t.point(clone.get("/")["state"] == "Running", "the API is served")
    t.point(NOT_AFTER_START in clone.fault("PUT", "/snapshot/load",
                                           snapshot.body()),
            "there can be no second load")


@test
def no_guest_runs_if_the_api_cannot_be_served(t):
    m = counting(t)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    code, out, err = run("--restore", snapshot.state, "--mem",
                         snapshot.memory, "--api-sock", t.write("socket"))
    t.point(code == 1 and "Check that it is not already used" in err, "said",
            "%s %s" % (code, err))
    t.point("Snapshot phases" not in out, "before anything is loaded", out)


@test
def state_is_told_in_words(t):
    m = counting(t)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    binary = m.binary
    done = subprocess.run([binary, "--describe-snapshot", snapshot.state],
                          capture_output=True, text=True)
    t.point(done.returncode == 0 and done.stderr == "", "no error",
            done.stderr)
    lines = done.stdout.splitlines()
    t.point(lines[0] == "v1.1.0", "the version comes first", done.stdout)
    t.point("memory: 128 MiB" in lines and "vcpus: 1" in lines and
            "parent: none" in lines, "the machine", done.stdout)
    done = subprocess.run([binary, "--snapshot-version"],
                          capture_output=True, text=True)
    t.point(done.stdout == "v1.1.0\n", "the format's version", done.stdout)
    done = subprocess.run([binary, "--describe-snapshot", "/nowhere"],
                          capture_output=True, text=True)
    t.point(done.returncode == 1 and "No such file" in done.stderr,
            "what is not there", done.stderr)


@test
def creating_is_refused(t):
    m = counting(t)
    snapshot = Snapshot(t)
    fault = m.fault("PUT", "/snapshot/create", {
        "snapshot_path": "a", "mem_file_path": "b"})
    t.point(fault == "Create snapshot error: Cannot save the microVM state: "
            "Operation not allowed: save/restore unavailable while running",
            "of a running guest", fault)
    pause(m)
    for body, text in (
            ({"mem_file_path": "b"}, "missing field `snapshot_path`"),
            ({"snapshot_path": "a"}, "missing field `mem_file_path`"),
            ({"snapshot_path": "a", "mem_file_path": "b", "version": "1"},
             "unknown field `version`"),
            ({"snapshot_path": "a", "mem_file_path": "b",
              "snapshot_type": "Half"}, "unknown variant `Half`"),
            ({"snapshot_path": "/nowhere/a", "mem_file_path": "b"},
             "No such file or directory (os error 2)"),
            ({"snapshot_path": snapshot.state,
              "mem_file_path": "/nowhere/b"},
             "No such file or directory (os error 2)")):
        fault = m.fault("PUT", "/snapshot/create", body)
        t.point(text in fault, text, fault)
    t.point(not os.path.exists(snapshot.state), "nothing is left behind",
            str(os.listdir(os.path.dirname(snapshot.state))))
    fresh = Monitor(test=t)
    fault = fresh.fault("PUT", "/snapshot/create", {
        "snapshot_path": "a", "mem_file_path": "b"})
    t.point(fault == NOT_BEFORE_START, "before the start", fault)
    m.patch("/vm", state="Resumed")
    wait_for_more(m)


@test
def loading_is_refused(t):
    m = counting(t)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    with open(snapshot.state, "rb") as source:
        state = source.read()
    body = snapshot.body
    refused_load(t, {**body(), "snapshot_path": "/nowhere"},
                 "Failed to get snapshot state from file: Failed to open "
                 "snapshot file: No such file or directory (os error 2)",
                 "a state file that is not there")
    refused_load(t, {**body(), "snapshot_path": t.write("empty")},
                 "IO Error: File too short to contain CRC", "an empty one")
    refused_load(t, {**body(), "snapshot_path": t.write(
        "flipped", state[:500] + bytes([state[500] ^ 1]) + state[501:])},
                 "CRC validation failed", "a damaged one")
    refused_load(t, {**body(), "snapshot_path": t.write(
        "magic", b"X" + state[1:])}, "Magic value does not match",
                 "something else")
    refused_load(t, {**body(), "mem_backend": {
        "backend_type": "File", "backend_path": "/nowhere"}},
                 "Failed to load guest memory: No such file or directory "
                 "(os error 2)", "memory that is not there")
    refused_load(t, {**body(), "mem_backend": {
        "backend_type": "File", "backend_path": t.write("short", b"x")}},
                 "memory", "memory that is too short")
    refused_load(t, {**body(), "mem_backend": {
        "backend_type": "Uffd", "backend_path": "/nowhere"}},
                 "Error creating guest memory from uffd: Failed to connect to "
                 "UDS Unix stream: No such file or directory (os error 2)",
                 "a page-fault handler that is not there")
    refused_load(t, body(network_overrides=[
        {"iface_id": "x", "host_dev_name": "y"}]), "Unknown Network Device.",
                 "an override of no interface")
    refused_load(t, body(vsock_override={"uds_path": "x"}),
                 "Unknown Vsock Device.", "an override of no socket")
    refused_load(t, body(drive_overrides=[
        {"drive_id": "x", "path_on_host": "y"}]), "Unknown Drive: x",
                 "an override of no drive")


@test
def loads_that_cost_nothing(t):
    need_kvm()
    m = Monitor(test=t)
    both = ("too many fields: either `mem_backend` or `mem_file_path` "
            "exclusively is required")
    neither = ("missing field: either `mem_backend` or `mem_file_path` is "
               "required")
    file = {"backend_type": "File", "backend_path": "m"}
    for body, text in (
            ({"snapshot_path": "a"}, neither),
            ({"snapshot_path": "a", "mem_file_path": "m",
              "mem_backend": file}, both),
            ({"mem_file_path": "m"}, "missing field `snapshot_path`"),
            ({"snapshot_path": "a", "mem_backend": {
                "backend_path": "m"}}, "missing field `backend_type`"),
            ({"snapshot_path": "a", "mem_backend": {
                "backend_type": "File"}}, "missing field `backend_path`"),
            ({"snapshot_path": "a", "mem_backend": {
                "backend_type": "foo", "backend_path": "m"}},
             "unknown variant `foo`"),
            ({"snapshot_path": "a", "mem_backend": file, "resume_vm": None},
             "invalid type: null"),
            ({"snapshot_path": "a", "mem_backend": file, "huge_pages": "1G"},
             "unknown variant `1G`"),
            ({"snapshot_path": "a", "mem_backend": file, "x": 1},
             "unknown field `x`")):
        fault = m.fault("PUT", "/snapshot/load", body)
        t.point(text in fault, text, fault)
    m.put("/machine-config", vcpu_count=1, mem_size_mib=128)
    fault = m.fault("PUT", "/snapshot/load", {
        "snapshot_path": "a", "mem_backend": file})
    t.point(fault == LOAD + "Loading a microVM snapshot not allowed after "
            "configuring boot-specific resources.", "after configuration",
            fault)
    t.point(m.get("/")["state"] == "Not started", "the monitor lives")


if __name__ == "__main__":
    main()
