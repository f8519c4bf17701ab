#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Devices are found: many virtio ones at once, told apart, with interrupts, and
those that tell a guest that it is a clone."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from linuxguest import Guest, drive  # noqa: E402
from tap import main, test  # noqa: E402

DRIVES = 12
FIRST_GSI = 5
SLOT = 0x1000
FIRST_SLOT = 0xC0001000
GENERATION_GSIS = [22, 23]


@test
def twelve_drives_are_found(t):
    drives = []
    for number in range(DRIVES):
        mark = b"drive %02d" % number
        path = t.write("drive%d" % number, mark.ljust(64 << 10, b"."))
        drives.append(drive("d%d" % number, path))
    guest = Guest(t, kernel="vmlinux", drives=drives)

    found = guest.number("ls /sys/bus/virtio/devices | wc -l")
    t.point(found == DRIVES, "all are on the virtio bus", str(found))
    marks = guest.sh("for d in /dev/vd?; do head -c 8 $d; echo; done")
    t.point(marks.split("\n") == ["drive %02d" % n for n in range(DRIVES)],
            "each has its own contents", marks)
    where = guest.sh("readlink -f /sys/block/vda/device")
    t.point("/LNRO0005:00/" in where, "they come from the ACPI tables", where)
    areas = guest.sh("grep '^[^ ].*LNRO0005' /proc/iomem")
    last = "%08x-%08x" % (FIRST_SLOT + (DRIVES - 1) * SLOT,
                          FIRST_SLOT + DRIVES * SLOT - 1)
    t.point(last in areas and len(areas.split("\n")) == DRIVES,
            "at the documented addresses", areas)
    lines = guest.sh("grep virtio /proc/interrupts").split("\n")
    t.point(len(lines) == DRIVES
            and all("IO-APIC" in line and "-edge" in line for line in lines)
            and all(int(line.split()[1]) > 0 for line in lines),
            "each has had its edge interrupt", "\n".join(lines))
    pins = [int(line.split("IO-APIC")[1].split("-")[0]) for line in lines]
    t.point(sorted(pins) == list(range(FIRST_GSI, FIRST_GSI + DRIVES)),
            "on pins of their own", str(pins))
    guest.power_off()


@test
def generation_devices_are_found(t):
    guest = Guest(t, kernel="vmlinux")

    for name, path in (("VMGENCTR", "VGEN"), ("AMZNC10C", "VCLK"),
                       ("ACPI0013", "GED_")):
        got = guest.sh("cat /sys/bus/acpi/devices/%s:00/path" % name)
        t.point(got == "\\_SB_." + path, name + " is a device", got)
    lines = guest.sh("grep ACPI:Ged /proc/interrupts").split("\n")
    pins = [re.search(r"IO-APIC +(\d+)-edge", line) for line in lines]
    t.point([pin and int(pin.group(1)) for pin in pins] == GENERATION_GSIS,
            "the event device listens on edge interrupts", "\n".join(lines))
    t.point(all(int(line.split()[1]) == 0 for line in lines),
            "which were silent so far", "\n".join(lines))
    said = guest.sh("dmesg | grep -i acpi")
    bad = re.findall(r".*(?:error|warning|exception|acpi-ged).*", said, re.I)
    t.point("DSDT" in said and not bad, "the kernel has no complaint",
            "\n".join(bad) or said)
    guest.power_off()


if __name__ == "__main__":
    main()
