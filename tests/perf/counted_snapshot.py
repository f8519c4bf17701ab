#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: boots a Debian
guest of 256 MiB with a disk, a tap and a socket device, saves it, and restores
it a few times. One line per figure:

    full_create_ms    PUT /snapshot/create (Full) to its answer
    full_write_ms     the part of it that writes memory
    copy_ms           a plain write of as many bytes as that file has, for what
                      it is worth here, where a byte is an instruction
    full_memory_kib   what its memory file takes on the disk
    diff_create_ms    the same for a Diff of a second of an idle guest
    vsock_answer_ms   exec of `ember --restore` to the first byte that an echo
                      server in the guest has sent back
    answer_cpu_us     CPU time of the monitor's threads by then, vCPUs apart
    console_byte_ms   exec to the first byte on the console, where a key
                      waits that the guest echoes
    ready_ms          exec to the line on --ready-fd
    load_call_ms      PUT /snapshot/load of a monitor that is there already
    load_us           phases of the restore, by the monitor's own metrics: their
                      sum, and `phases` with each
    resident_kib      of a restored monitor after that answer, guest RAM apart
    touched_kib       guest RAM that is mapped by then

Kernels before 6.13 let KVM_CREATE_VM wait for two or three ticks, because a
thread of KVM's joins a cgroup, unless cgroups are mounted with favordynmods. So
all of the restores are done a second time on a host that is set up so; these
figures have `tuned_` in front. There is one more then:

    tuned_set_answer_ms  vsock_answer_ms with a recorded working set, that is
                         brought in before the guest runs

Of the restores the first one pays for what is shared later and is thrown away;
the median of the others counts.
"""
import json
import os
import subprocess
import sys
import time

from counted_machine import MIB, Machine, call, connect, monitor_ns, \
    start_monitor, took_ms

RAM_KIB = 256 << 10
RESTORES = 5
STATE, MEMORY, DIFF = "/tmp/state", "/tmp/memory", "/tmp/diff"
VSOCK, CLONE, METRICS = "/tmp/v", "/tmp/clone", "/tmp/clone-metrics"
HELD = "/tmp/held-metrics"
WORKING_SET = "/tmp/working-set"
PHASE = "load_"


class Guest(Machine):
    """The one that is saved."""

    options = ("--metrics-path", HELD, "--emit-snapshot-phases")
    config = {"track_dirty_pages": True}

    def add_devices(self):
        self.add_disk("disk", "/tmp/disk", bytes(MIB))
        self.add_network()
        self.put("/vsock", guest_cid=3, uds_path=VSOCK)

    def state(self, state):
        call(self.sock, "PATCH", "/vm", {"state": state})

    def save(self, kind):
        """Milliseconds of the request, the guest stays paused after it."""
        self.state("Paused")
        return took_ms(lambda: self.put(
            "/snapshot/create", snapshot_type=kind, snapshot_path=STATE,
            mem_file_path=MEMORY if kind == "Full" else DIFF))

    def phase(self, name):
        """Milliseconds of a phase of the last snapshot."""
        self.put("/actions", action_type="FlushMetrics")
        with open(HELD) as lines:
            last = lines.read().splitlines()[-1]
        return json.loads(last)["snapshot_phases_us"][name] / 1e3


def answer(conn):
    """The first byte back from the guest; the connection is made already."""
    conn.sendall(b"CONNECT 1000\nx")
    got = b""
    while not got.endswith(b"\nx"):
        part = conn.recv(64)
        assert part, got
        got += part


def resident(pid):
    """KiB beside guest RAM, and of it, which is told by its size."""
    found = [0, 0]
    size = 0
    with open("/proc/%d/smaps" % pid) as smaps:
        for line in smaps:
            name, _, rest = line.partition(":")
            if name == "Size":
                size = int(rest.split()[0])
            elif name == "Rss":
                found[size >= RAM_KIB] += int(rest.split()[0])
    return found


def forget(*paths):
    """What the clone before left behind."""
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)


def load_phases():
    """Microseconds by name, of the last restore."""
    with open(METRICS) as lines:
        phases = json.loads(lines.readline())["snapshot_phases_us"]
    return {name: us for name, us in phases.items()
            if name.startswith(PHASE)}


def restore(ember, *more):
    """Restores (@more: arguments), gets an answer, ends it; figures by name."""
    forget(VSOCK, CLONE, METRICS)
    ready, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    argv = [ember, "--restore", STATE, "--mem", MEMORY, "--api-sock", CLONE,
            "--log-path", "/dev/null", "--metrics-path", METRICS,
            "--emit-snapshot-phases", "--ready-fd", str(theirs), *more]
    start = time.monotonic_ns()
    pid = os.posix_spawn(ember, argv, {})
    os.close(theirs)
    os.read(ready, 16)
    running = time.monotonic_ns()
    conn = connect(VSOCK)
    answer(conn)
    answered = time.monotonic_ns()
    figures = {"ready_ms": (running - start) / 1e6,
               "vsock_answer_ms": (answered - start) / 1e6,
               "answer_cpu_us": monitor_ns(pid) / 1e3}
    figures["resident_kib"], figures["touched_kib"] = resident(pid)
    figures.update(load_phases())
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(ready)
    conn.close()
    return figures


def console(ember):
    """Restores with a key that waits on the console."""
    forget(VSOCK, CLONE)
    key, typed = os.pipe()
    said, theirs = os.pipe()
    os.write(typed, b"\n")
    argv = [ember, "--restore", STATE, "--mem", MEMORY, "--api-sock", CLONE,
            "--log-path", "/dev/null"]
    start = time.monotonic_ns()
    pid = os.posix_spawn(ember, argv, {}, file_actions=[
        (os.POSIX_SPAWN_DUP2, key, 0), (os.POSIX_SPAWN_DUP2, theirs, 1)])
    assert os.read(said, 1)
    took = time.monotonic_ns() - start
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    for fd in (key, typed, said, theirs):
        os.close(fd)
    return {"console_byte_ms": took / 1e6}


def load(ember):
    """The same by an API call; its milliseconds."""
    forget(VSOCK, CLONE)
    process = start_monitor(ember, CLONE)
    time.sleep(0.1)
    took = took_ms(lambda: call(CLONE, "PUT", "/snapshot/load", {
        "snapshot_path": STATE, "resume_vm": True,
        "mem_backend": {"backend_type": "File", "backend_path": MEMORY}}))
    with connect(VSOCK) as conn:
        answer(conn)
    process.kill()
    process.wait()
    return {"load_call_ms": took}


def copy(kib):
    """Milliseconds of writing so many KiB to a new file."""
    block = bytes(1 << 20)
    with open("/tmp/copy", "wb", buffering=0) as out:
        took = took_ms(lambda: [out.write(block) for _ in range(kib >> 10)])
    os.unlink("/tmp/copy")
    return took


def measure_saving(guest):
    guest.save("Diff")  # everything
    guest.state("Resumed")
    time.sleep(1)
    print("diff_create_ms %.3f" % guest.save("Diff"))
    print("full_create_ms %.3f" % guest.save("Full"))
    print("full_write_ms %.3f" % guest.phase("create_write"))
    kib = os.stat(MEMORY).st_blocks // 2
    print("full_memory_kib %d" % kib)
    print("copy_ms %.3f" % copy(kib))
    sys.stdout.flush()


def median(values):
    return sorted(values)[len(values) // 2]


def measure_restoring(ember, prefix):
    found = {}
    for run in (restore, console, load):
        runs = [run(ember) for _ in range(RESTORES)][1:]
        found.update((name, median([figures[name] for figures in runs]))
                     for name in runs[0])
    phases = {name: found.pop(name) for name in list(found)
              if name.startswith(PHASE) and name != "load_call_ms"}
    print("phases %srestore_linux %s" % (prefix, " ".join(
        "%s=%d" % item for item in phases.items())))
    found["load_us"] = sum(phases.values())
    for name, value in found.items():
        print("%s%s %s" % (prefix, name, round(value, 3)))
    sys.stdout.flush()


def measure_working_set(ember):
    """What the guest touches up to its answer is recorded once."""
    restore(ember, "--record-working-set", WORKING_SET)
    runs = [restore(ember, "--working-set", WORKING_SET, "--prefetch",
                    "before") for _ in range(RESTORES)][1:]
    print("tuned_set_answer_ms %.3f" % median(
        [figures["vsock_answer_ms"] for figures in runs]))


def main():
    ember, assets = sys.argv[1:3]
    guest = Guest(ember, assets)
    guest.sh("stty echo; ip link set eth0 up; dd if=/dev/vda of=/dev/null 2>/dev/null; "
             "agent echo 1000 & sleep 0.5")
    measure_saving(guest)
    guest.kill()
    measure_restoring(ember, "")
    subprocess.run(["mount", "-o", "remount,favordynmods", "/sys/fs/cgroup"],
                   check=True)
    measure_restoring(ember, "tuned_")
    measure_working_set(ember)


if __name__ == "__main__":
    main()
