#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: boots a Debian
guest with a disk and prints one line per figure.

    start_call_ms    PUT InstanceStart to its answer
    exits            exits to user space until the drivers are up and the
                     guest has said so on its console, but for one for each
                     byte of that
    boot_to_init_ms  kernel start to its first process, by the guest's clock

The first machine on a fresh host pays for what is shared later: it is thrown
away and only the second one counts.
"""
import json
import re
import sys

from counted_machine import MIB, Machine

EXITS = ("exit_io_in", "exit_io_out", "exit_mmio_read", "exit_mmio_write")


class Booted(Machine):
    def __init__(self, ember, assets, run):
        self.metrics = "/tmp/metrics%d" % run
        self.options = ("--metrics-path", self.metrics)
        open(self.metrics, "w").close()
        super().__init__(ember, assets, assets + "/initrd", run)

    def add_devices(self):
        self.add_disk("disk", "/tmp/disk%d" % self.run, bytes(MIB))

    def exits(self):
        """By kind, so far; and what the guest printed, which is none of the
        drivers' business."""
        self.put("/actions", action_type="FlushMetrics")
        with open(self.metrics) as source:
            lines = [json.loads(line) for line in source]
        found = {name: sum(line["vcpu"][name] for line in lines)
                 for name in EXITS}
        return found, sum(line["uart"]["write_count"] for line in lines)

    def init_ms(self):
        said = self.sh("dmesg | grep Run./init")
        return float(re.search(rb"\[ *([\d.]+)\] Run /init",
                               said).group(1)) * 1000


def main():
    ember, assets = sys.argv[1:3]
    Booted(ember, assets, 0).power_off()
    machine = Booted(ember, assets, 1)
    exits, printed = machine.exits()
    print("start_call_ms %.3f" % machine.start_ms)
    print("exits %d # and %d for the console; %s" % (
        sum(exits.values()) - printed, printed, ", ".join(
            "%s %d" % item for item in exits.items())))
    print("boot_to_init_ms %.3f" % machine.init_ms())
    machine.power_off()


if __name__ == "__main__":
    main()
