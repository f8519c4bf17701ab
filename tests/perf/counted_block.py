#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: boots a Debian
guest with two disks, one for each engine, and prints what their use costs the
monitor's own threads (vCPU threads apart).

    block_ms           1,050 reads and 500 writes of 4 KiB and 24 reads of
                       1 MiB, one at a time, io_engine Sync
    NAME_us ... whole  monitor's microseconds per request, and elapsed ones;
                       names end in the number of requests at once
"""
import sys
import time

from counted_io import Machine, monitor_ns

MIB = 1 << 20
READS, WRITES, LARGE = 1050, 500, 24
AT_ONCE = 16


class Disks(Machine):
    """A guest with /dev/vda and /dev/vdb; both are in the page cache."""

    def add_devices(self, run):
        for engine in ("Sync", "Async"):
            path = "/tmp/%s%d" % (engine, run)
            with open(path, "wb") as disk:
                disk.write(b"\x55" * (32 * MIB))
            self.put("/drives/" + engine, drive_id=engine, path_on_host=path,
                     is_root_device=False, io_engine=engine)


def dd(words, count):
    return "dd bs=4k count=%d %s 2>/dev/null" % (count, words)


def cost(machine, command):
    """(CPU, elapsed) in ns."""
    cpu, start = monitor_ns(machine.process.pid), time.monotonic_ns()
    machine.sh(command)
    whole = time.monotonic_ns() - start
    return monitor_ns(machine.process.pid) - cpu, whole


def show(name, cost_ns, count):
    print("%s_us %.1f whole %.1f" % (name, cost_ns[0] / 1e3 / count,
                                     cost_ns[1] / 1e3 / count))
    sys.stdout.flush()


def one_at_a_time(machine, engine, disk):
    """Total CPU of the three kinds, in ns."""
    reads = cost(machine, dd("if=%s of=/dev/null iflag=direct" % disk, READS))
    writes = cost(machine, dd("if=/dev/zero of=%s oflag=direct" % disk,
                              WRITES))
    large = cost(machine, "dd bs=1M count=%d if=%s of=/dev/null iflag=direct "
                 "2>/dev/null" % (LARGE, disk))
    show("block_%s_read_1" % engine, reads, READS)
    show("block_%s_write_1" % engine, writes, WRITES)
    show("block_%s_mib_1" % engine, large, LARGE)
    return reads[0] + writes[0] + large[0]


def main():
    ember, assets = sys.argv[1:3]
    machine = Disks(ember, assets, 0)
    for engine, disk in (("sync", "/dev/vda"), ("async", "/dev/vdb")):
        machine.sh("dd bs=1M if=%s of=/dev/null iflag=direct 2>/dev/null" %
                   disk)
        total = one_at_a_time(machine, engine, disk)
        if engine == "sync":
            print("block_ms %.1f" % (total / 1e6))
        count = READS - READS % AT_ONCE
        many = cost(machine, "agent disk %s %d %d" % (disk, AT_ONCE, count))
        show("block_%s_read_%d" % (engine, AT_ONCE), many, count)
    machine.process.stdin.write(b"poweroff\n")
    machine.process.stdout.read()
    assert machine.process.wait() == 0


if __name__ == "__main__":
    main()
