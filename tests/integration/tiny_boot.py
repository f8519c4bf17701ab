# SPDX-License-Identifier: Apache-2.0
"""Boot protocols, tables and CPUs, as tiny guests see them."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import images
from ember import Monitor, TIMEOUT, guest, guest_points, need_kvm
from tap import main, test

MIB = 1 << 20
GIB = 1 << 30
RAM, RESERVED = 1, 2
DEFAULT_ARGS = ("reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux "
                "i8042.nomux i8042.dumbkbd swiotlb=noforce")


def boot(t, name, args=(), **start):
    """Runs a guest that ends by itself; returns its lines."""
    need_kvm()
    kernel = start.pop("kernel", None) or guest(name)
    m = Monitor(test=t, args=args)
    for number in range(start.pop("drives", 0)):
        drive = "d%d" % number
        m.put("/drives/" + drive, drive_id=drive, is_root_device=False,
              path_on_host=t.write(drive, bytes(4096)))
    m.start(kernel, **start)
    code = m.wait()
    assert code == 0, "exit code %d" % code
    return guest_points(t, m.console), m


def ranges(lines):
    found = []
    for line in lines:
        match = re.match(r"range (0x\w+) (0x\w+) (\d+)$", line)
        if match:
            start, size, kind = match.groups()
            found.append((int(start, 16), int(size, 16), int(kind)))
    return found


def check_map(t, lines, mem_size_mib):
    """The memory map covers exactly the configured RAM, in order, without
    overlaps, with the system area reserved."""
    found = ranges(lines)
    ram = [(start, start + size) for start, size, kind in found
           if kind == RAM]
    low = min(mem_size_mib * MIB, 3 * GIB)
    want = [(0, 0x9fc00), (MIB, low)]
    if mem_size_mib * MIB > low:
        want.append((4 * GIB, 4 * GIB + mem_size_mib * MIB - low))
    t.point(ram == want, "ram", "%s\nwanted %s" % (ram, want))
    t.point((0x9fc00, 0xe0000 - 0x9fc00, RESERVED) in found,
            "system area reserved", str(found))
    ends = [0] + [start + size for start, size, _ in sorted(found)]
    t.point(all(start >= end for (start, _, _), end
                in zip(sorted(found), ends)), "no overlaps", str(found))


@test
def pvh_guest_boots(t):
    lines, m = boot(t, "hello", boot_args="some words")
    assert lines[0] == "hello", lines
    assert "cmdline some words pci=off" in lines, lines
    check_map(t, lines, 128)
    for text in ("Kernel loaded using PVH boot protocol",
                 "event_start: build microvm for boot",
                 "event_end: build microvm for boot", "Vmm is stopping",
                 "Firecracker exiting successfully. exit_code=0"):
        t.point(text in m.log, text, m.log)


@test
def linux_64_bit_entry_boots(t):
    lines, m = boot(t, "hello64", boot_args="a b c")
    assert lines[0] == "hello", lines
    assert "cmdline a b c pci=off" in lines, lines
    check_map(t, lines, 128)
    assert "Kernel loaded using Linux 64-bit boot protocol\n" in m.log, m.log


@test
def bzimage_boots(t):
    kernel = t.write("bzImage", images.bzimage(guest("hello64")))
    lines, m = boot(t, None, kernel=kernel, boot_args="from a bzImage")
    assert "cmdline from a bzImage pci=off" in lines, lines
    check_map(t, lines, 128)
    assert "Linux 64-bit boot protocol (bzImage)" in m.log, m.log


@test
def oldest_bzimage_protocol_boots(t):
    kernel = t.write("bzImage", images.bzimage(guest("hello64"),
                                               version=0x20c))
    lines, _ = boot(t, None, kernel=kernel)
    assert lines[0] == "hello", lines


@test
def memory_sizes(t):
    for mib in (2, 16, 1024, 3071, 3072, 3073, 4608, 16384):
        for name in ("hello", "hello64"):
            lines, _ = boot(t, name, mem_size_mib=mib)
            got = [r for r in ranges(lines) if r[2] == RAM]
            total = sum(size for _, size, _ in got)
            # All but the area from 0x9fc00 to 1 MiB.
            want = mib * MIB - (MIB - 0x9fc00)
            t.point(total == want, "%s %d MiB" % (name, mib), str(got))
        check_map(t, lines, mib)


@test
def default_command_line(t):
    lines, _ = boot(t, "hello")
    assert "cmdline %s pci=off" % DEFAULT_ARGS in lines, lines


@test
def empty_command_line(t):
    lines, _ = boot(t, "hello", boot_args="")
    assert "cmdline pci=off" in [line.replace("  ", " ") for line in lines], \
        lines


@test
def devices_on_the_command_line(t):
    lines, _ = boot(t, "hello", boot_args="before -- after", drives=2)
    want = ("cmdline before pci=off virtio_mmio.device=4K@0xc0001000:5 "
            "virtio_mmio.device=4K@0xc0002000:6 -- after")
    assert want in lines, lines


@test
def root_drive_on_the_command_line(t):
    for fields, want in (
            ({}, "root=/dev/vda rw"),
            ({"is_read_only": True}, "root=/dev/vda ro"),
            ({"partuuid": "0eaa91a0-01"}, "root=PARTUUID=0eaa91a0-01 rw")):
        need_kvm()
        m = Monitor(test=t)
        m.put("/drives/r", drive_id="r", is_root_device=True,
              path_on_host=t.write("r", bytes(4096)), **fields)
        m.start(guest("hello"), boot_args="x")
        assert m.wait() == 0
        text = "cmdline x pci=off %s virtio_mmio.device=" % want
        t.point(text.encode() in m.console, want, m.console.decode())


@test
def initrd_is_at_the_top_of_memory(t):
    data = b"initrd!!" + bytes(5000)
    initrd = t.write("initrd", data)
    magic = int.from_bytes(data[:8], "little")
    for name in ("hello", "hello64"):
        for mib in (128, 4608):
            lines, _ = boot(t, name, initrd=initrd, mem_size_mib=mib)
            top = min(mib * MIB, 3 * GIB)
            at = (top - len(data)) & ~0xfff
            want = "module 0x%x 0x%x 0x%x" % (at, len(data), magic)
            t.point(want in lines, "%s %d MiB" % (name, mib),
                    "%s\nwanted %s" % (lines, want))


@test
def memfd_backing_boots(t):
    lines, _ = boot(t, "hello", args=["--memory-backing", "memfd"])
    check_map(t, lines, 128)


@test
def transparent_huge_pages_boot(t):
    lines, _ = boot(t, "hello", huge_pages="Transparent")
    check_map(t, lines, 128)


@test
def dirty_tracking_boots(t):
    lines, _ = boot(t, "hello", track_dirty_pages=True)
    check_map(t, lines, 128)


@test
def acpi_tables(t):
    ids = set()
    for cpus, drives in ((1, 0), (2, 1), (32, 3)):
        lines, _ = boot(t, "acpi", vcpu_count=cpus, drives=drives)
        t.point("cpus %d" % cpus in lines, "madt of %d" % cpus, str(lines))
        t.point("virtio %d" % drives in lines, "dsdt with %d" % drives,
                str(lines))
        for table in ("FACP", "APIC"):
            t.point("table " + table in lines, table, str(lines))
        ids.update(line for line in lines if line.startswith("id "))
    t.point(len(ids) == 3, "each has a generation id of its own", str(ids))


@test
def second_cpu_starts(t):
    lines, _ = boot(t, "smp", vcpu_count=2)
    assert "cpus 2" in lines, lines


@test
def many_cpus_start(t):
    lines, _ = boot(t, "smp", vcpu_count=8)
    assert "cpus 8" in lines, lines


def cpuid_of(lines):
    leaves = {}
    for line in lines:
        if line.startswith("cpuid "):
            words = [int(word, 16) for word in line.split()[1:]]
            leaves[words[0], words[1]] = words[2:]
    return leaves


@test
def cpuid_of_one_cpu(t):
    lines, _ = boot(t, "cpu")
    leaves = cpuid_of(lines)
    # Feature bits that are off are not looked at: where KVM interprets guests
    # they see those of the host.
    _, ebx, ecx, _ = leaves[1, 0]
    t.point(ebx >> 8 & 0xff == 8, "clflush", hex(ebx))
    t.point(ebx >> 16 & 0xff == 1, "one logical CPU", hex(ebx))
    t.point(ebx >> 24 == 0, "apic id", hex(ebx))
    t.point(ecx >> 31 & 1, "hypervisor", hex(ecx))
    t.point(ecx >> 24 & 1, "tsc deadline", hex(ecx))
    t.point(leaves[0xa, 0] == [0, 0, 0, 0], "no pmu", str(leaves[0xa, 0]))
    signature = b"".join(word.to_bytes(4, "little")
                         for word in leaves[0x40000000, 0][1:])
    t.point(signature == b"KVMKVMKVM\0\0\0", "kvm signature", str(signature))
    brand = b"".join(word.to_bytes(4, "little") for leaf in (2, 3, 4)
                     for word in leaves[0x80000000 + leaf, 0])
    vendor = b"".join(leaves[0, 0][i].to_bytes(4, "little")
                      for i in (1, 3, 2))
    # Followed by the frequency if the host's own tells one.
    with open("/proc/cpuinfo") as info:
        frequency = re.search(r"model name.*?( @ \S+)?$", info.read(), re.M)[1]
    want = {b"GenuineIntel": b"Intel(R) Xeon(R) Processor" +
            (frequency or "").encode(),
            b"AuthenticAMD": b"AMD EPYC"}
    brand = brand.rstrip(b"\0")
    t.point(want.get(vendor, brand) == brand, "brand string",
            "%r %r" % (vendor, brand))


@test
def cpuid_of_more_cpus(t):
    for smt in (False, True):
        lines, _ = boot(t, "cpu", vcpu_count=4, smt=smt)
        leaves = cpuid_of(lines)
        _, ebx, _, edx = leaves[1, 0]
        t.point(ebx >> 16 & 0xff == 4, "logical CPUs", hex(ebx))
        t.point(edx >> 28 & 1, "htt", hex(edx))
        threads, cores = leaves[0xb, 0], leaves[0xb, 1]
        t.point(threads[1] == 1 + smt and threads[2] == 0x100,
                "threads of a core", str(threads))
        t.point(cores[1] == 4 and cores[2] == 0x201, "cores", str(cores))


@test
def boot_timer(t):
    lines, m = boot(t, "timer", args=["--boot-timer"])
    found = re.findall(r"Guest-boot-time = +(\d+) us (\d+) ms, +(\d+) CPU us "
                       r"(\d+) CPU ms", m.log)
    assert len(found) == 1, (found, m.log)
    wall, wall_ms, cpu, cpu_ms = map(int, found[0])
    assert wall // 1000 == wall_ms and cpu // 1000 == cpu_ms, found
    assert 0 < wall < TIMEOUT * 1e6 and cpu > 0, found


@test
def boot_timer_only_when_asked_for(t):
    _, m = boot(t, "timer")
    assert "Guest-boot-time" not in m.log, m.log


if __name__ == "__main__":
    main()
