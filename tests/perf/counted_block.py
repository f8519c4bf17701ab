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

from counted_machine import MIB, Machine, show_cost

READS, WRITES, LARGE = 1050, 500, 24
AT_ONCE = 16


class Disks(Machine):
    """A guest with /dev/vda and /dev/vdb; both are in the page cache."""

    def add_devices(self):
        for engine in ("Sync", "Async"):
            self.add_disk(engine, "/tmp/" + engine, b"\x55" * (32 * MIB),
                          io_engine=engine)

    def cost_of(self, command):
        return self.cost(lambda: self.sh(command))

    def dd(self, words, count, size="4k"):
        return self.cost_of("dd bs=%s count=%d %s 2>/dev/null" % (
            size, count, words))


def one_at_a_time(machine, engine, disk):
    """Total CPU of the three kinds, in ns."""
    read = "if=%s of=/dev/null iflag=direct" % disk
    reads = machine.dd(read, READS)
    writes = machine.dd("if=/dev/zero of=%s oflag=direct" % disk, WRITES)
    large = machine.dd(read, LARGE, "1M")
    show_cost("block_%s_read_1" % engine, reads, READS)
    show_cost("block_%s_write_1" % engine, writes, WRITES)
    show_cost("block_%s_mib_1" % engine, large, LARGE)
    return reads[0] + writes[0] + large[0]


def main():
    ember, assets = sys.argv[1:3]
    machine = Disks(ember, assets)
    for engine, disk in (("sync", "/dev/vda"), ("async", "/dev/vdb")):
        machine.sh("dd bs=1M if=%s of=/dev/null iflag=direct 2>/dev/null" %
                   disk)
        total = one_at_a_time(machine, engine, disk)
        if engine == "sync":
            print("block_ms %.3f" % (total / 1e6))
        count = READS - READS % AT_ONCE
        many = machine.cost_of("agent disk %s %d %d" % (disk, AT_ONCE, count))
        show_cost("block_%s_read_%d" % (engine, AT_ONCE), many, count)
    machine.power_off()


if __name__ == "__main__":
    main()
