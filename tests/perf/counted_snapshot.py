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
    ready_ms          exec to the line on --ready-fd
    load_call_ms      PUT /snapshot/load of a monitor that is there already
    load_*_us         phases of the restore, by the monitor's own metrics
    resident_kib      of a restored monitor after that answer, guest RAM apart
    touched_kib       guest RAM that is mapped by then

Kernels before 6.13 let KVM_CREATE_VM wait for two or three ticks, because a
thread of KVM's joins a cgroup, unless cgroups are mounted with favordynmods. So
all of the restores are done a second time on a host that is set up so; these
figures have `tuned_` in front.

Of the restores the first one pays for what is shared later and is thrown away;
the median of the others counts.
"""
import json
import os
import socket
import subprocess
import sys
import time

from counted_io import ARGS, call

RAM_KIB = 256 << 10
RESTORES = 5
STATE, MEMORY, VSOCK = "/tmp/state", "/tmp/memory", "/tmp/v"


class Guest:
    """The one that is saved."""

    def __init__(self, ember, assets):
        self.sock = "/tmp/api"
        with open("/tmp/disk", "wb") as disk:
            disk.truncate(1 << 20)
        self.process = subprocess.Popen(
            [ember, "--api-sock", self.sock, "--log-path", "/dev/null",
             "--metrics-path", "/tmp/guest-metrics", "--emit-snapshot-phases"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        while not os.path.exists(self.sock):
            time.sleep(0.001)
        self.put("/machine-config", vcpu_count=1, mem_size_mib=256,
                 track_dirty_pages=True)
        self.put("/boot-source", kernel_image_path=assets + "/bzImage",
                 initrd_path="/job/initrd", boot_args=ARGS)
        self.put("/drives/disk", drive_id="disk", path_on_host="/tmp/disk",
                 is_root_device=False)
        self.put("/network-interfaces/eth0", iface_id="eth0",
                 host_dev_name="tap0", guest_mac="06:00:ac:10:00:02")
        self.put("/vsock", guest_cid=3, uds_path=VSOCK)
        self.put("/actions", action_type="InstanceStart")
        self.wait_for(b"EMBER-READY")
        self.sh("ip link set eth0 up; dd if=/dev/vda of=/dev/null 2>/dev/null;"
                " agent echo 1000 & sleep 0.5")

    def put(self, path, **fields):
        call(self.sock, "PUT", path, fields)

    def state(self, state):
        call(self.sock, "PATCH", "/vm", {"state": state})

    def wait_for(self, text):
        console = b""
        while text not in console:
            part = self.process.stdout.read(4096)
            assert part, console
            console += part

    def sh(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.wait_for(b"EMBER-EXIT 0")

    def save(self, kind):
        """Milliseconds of the request, the guest stays paused after it."""
        self.state("Paused")
        body = {"snapshot_type": kind, "snapshot_path": STATE,
                "mem_file_path": MEMORY if kind == "Full" else "/tmp/diff"}
        start = time.monotonic_ns()
        call(self.sock, "PUT", "/snapshot/create", body)
        return (time.monotonic_ns() - start) / 1e6

    def phase(self, name):
        """Milliseconds of a phase of the last snapshot."""
        self.put("/actions", action_type="FlushMetrics")
        with open("/tmp/guest-metrics") as lines:
            last = lines.read().splitlines()[-1]
        return json.loads(last)["snapshot_phases_us"][name] / 1e3

    def end(self):
        self.process.kill()
        self.process.wait()


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


def restore(ember):
    """Restores, gets an answer, ends it; figures by name."""
    for path in (VSOCK, "/tmp/clone", "/tmp/metrics"):
        if os.path.exists(path):
            os.unlink(path)
    ready, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    argv = [ember, "--restore", STATE, "--mem", MEMORY, "--api-sock",
            "/tmp/clone", "--log-path", "/dev/null", "--metrics-path",
            "/tmp/metrics", "--emit-snapshot-phases", "--ready-fd",
            str(theirs)]
    conn = socket.socket(socket.AF_UNIX)
    start = time.monotonic_ns()
    pid = os.posix_spawn(ember, argv, {})
    os.close(theirs)
    os.read(ready, 16)
    running = time.monotonic_ns()
    conn.connect(VSOCK)
    answer(conn)
    answered = time.monotonic_ns()
    figures = {"ready_ms": (running - start) / 1e6,
               "vsock_answer_ms": (answered - start) / 1e6}
    figures["resident_kib"], figures["touched_kib"] = resident(pid)
    with open("/tmp/metrics") as lines:
        phases = json.loads(lines.readline())["snapshot_phases_us"]
    for name, us in phases.items():
        if name.startswith("load"):
            figures[name + "_us"] = us
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(ready)
    conn.close()
    return figures


def load(ember):
    """The same by an API call; its milliseconds."""
    for path in (VSOCK, "/tmp/clone"):
        if os.path.exists(path):
            os.unlink(path)
    process = subprocess.Popen([ember, "--api-sock", "/tmp/clone",
                                "--log-path", "/dev/null"])
    while not os.path.exists("/tmp/clone"):
        time.sleep(0.001)
    time.sleep(0.1)
    start = time.monotonic_ns()
    call("/tmp/clone", "PUT", "/snapshot/load", {
        "snapshot_path": STATE, "resume_vm": True,
        "mem_backend": {"backend_type": "File", "backend_path": MEMORY}})
    took = time.monotonic_ns() - start
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(VSOCK)
        answer(conn)
    process.kill()
    process.wait()
    return {"load_call_ms": took / 1e6}


def copy(kib):
    """Milliseconds of writing so many KiB to a new file."""
    block = bytes(1 << 20)
    with open("/tmp/copy", "wb", buffering=0) as out:
        start = time.monotonic_ns()
        for _ in range(kib >> 10):
            out.write(block)
        took = time.monotonic_ns() - start
    os.unlink("/tmp/copy")
    return took / 1e6


def measure_saving(guest):
    guest.save("Diff")  # everything
    guest.state("Resumed")
    time.sleep(1)
    print("diff_create_ms %.2f" % guest.save("Diff"))
    print("full_create_ms %.2f" % guest.save("Full"))
    print("full_write_ms %.2f" % guest.phase("create_write"))
    kib = os.stat(MEMORY).st_blocks // 2
    print("full_memory_kib %d" % kib)
    print("copy_ms %.2f" % copy(kib))
    sys.stdout.flush()


def measure_restoring(ember, prefix):
    for run in (restore, load):
        all_figures = [run(ember) for _ in range(RESTORES)][1:]
        for name in all_figures[0]:
            values = sorted(figures[name] for figures in all_figures)
            print("%s%s %s" % (prefix, name, round(
                values[len(values) // 2], 2)))
        sys.stdout.flush()


def main():
    ember, assets = sys.argv[1:3]
    guest = Guest(ember, assets)
    measure_saving(guest)
    guest.end()
    measure_restoring(ember, "")
    subprocess.run(["mount", "-o", "remount,favordynmods", "/sys/fs/cgroup"],
                   check=True)
    measure_restoring(ember, "tuned_")


if __name__ == "__main__":
    main()
