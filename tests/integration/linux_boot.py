#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ways into the kernel, processors and memory sizes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import struct  # noqa: E402

from linuxguest import Guest, asset  # noqa: E402
from tap import main, test  # noqa: E402

MEM_TOTAL = "awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo"
HIGH_RAM = "grep -c '^1[0-9a-f]\\{8\\}-.*System RAM' /proc/iomem"
# ELF note header: name size, contents size, XEN_ELFNOTE_PHYS32_ENTRY.
PVH_NOTES = [struct.pack("<III4s", 4, size, 18, b"Xen") for size in (4, 8)]


@test
def bzimage_boots_from_initrd(t):
    guest = Guest(t, kernel="bzImage", mem=128)
    t.point(guest.where == "initrd", "runs from the initramfs", guest.where)
    cpus = guest.sh("nproc")
    t.point(cpus == "1", "nproc is 1", cpus)
    mem = guest.number(MEM_TOTAL)
    t.point(80 <= mem <= 128, "MemTotal fits 128 MiB", str(mem))
    kvm = guest.sh("dmesg | grep -c 'Hypervisor detected: KVM'")
    t.point(kvm == "1", "the kernel sees KVM", kvm)
    source = guest.sh("cat /sys/devices/system/clocksource/clocksource0/"
                      "current_clocksource")
    t.point(source in ("kvm-clock", "tsc"), "the clock is a good one", source)
    uart = guest.sh("dmesg | grep ttyS0.*0x3f8")
    t.point("16550A" in uart, "ttyS0 is a 16550A", uart)
    t.point("bzImage" in guest.monitor.log, "the log names the boot protocol")
    guest.power_off()


@test
def vmlinux_boots_through_pvh_with_two_cpus(t):
    guest = Guest(t, kernel="vmlinux", vcpus=2)
    cpus = guest.sh("nproc")
    t.point(cpus == "2", "nproc is 2", cpus)
    ran = guest.sh("taskset 2 sh -c 'echo $((6 * 7))'")
    t.point(ran == "42", "the second processor computes", ran)
    ticks = guest.sh("awk '/LOC:/ { print ($2 > 0 && $3 > 0) }' "
                     "/proc/interrupts")
    t.point(ticks == "1", "both processors have timer interrupts", ticks)
    t.point("Kernel loaded using PVH boot protocol" in guest.monitor.log,
            "the log names the boot protocol")
    guest.power_off()


@test
def vmlinux_without_pvh_note_boots_through_64_bit_entry(t):
    with open(asset("vmlinux"), "rb") as source:
        image = source.read()
    for note in PVH_NOTES:
        image = image.replace(note, note[:8] + b"\xff" + note[9:])
    guest = Guest(t, kernel=t.write("vmlinux", image))
    t.point("Kernel loaded using Linux 64-bit boot protocol"
            in guest.monitor.log, "the log names the boot protocol")
    t.point(guest.sh("echo up") == "up", "the guest is up")
    guest.power_off()


@test
def memory_on_both_sides_of_the_gap(t):
    guest = Guest(t, kernel="vmlinux", mem=4608)
    mem = guest.number(MEM_TOTAL)
    t.point(4300 <= mem <= 4608, "MemTotal fits 4.5 GiB", str(mem))
    high = guest.run(HIGH_RAM)[1]
    t.point(high != "0", "RAM above 4 GiB is in the map", high)
    # 1.4 GiB of RAM hold the whole lab: touch the upper part a little.
    code, text = guest.run("dd if=/dev/zero of=/tmp/x bs=1M count=64 && "
                           "sha256sum < /tmp/x")
    t.point(code == 0, "memory holds data", text)
    guest.power_off()


if __name__ == "__main__":
    main()
