#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Linux with an entropy device, and with as many devices as there can be."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from linuxguest import Guest, drive  # noqa: E402
from network import network, put_net  # noqa: E402
from tap import main, test  # noqa: E402

FIRST_GSI = 5
LIMIT = 17
DRIVES, NETS = 11, 4  # and a socket and an entropy device


@test
def hwrng_is_read(t):
    guest = Guest(t, configure=lambda m: m.put("/entropy"))
    name = guest.sh("cat /sys/class/misc/hw_random/rng_current")
    t.point(name.startswith("virtio_rng"), "it is the kernel's source", name)
    sums = {guest.sh("dd if=/dev/hwrng bs=4096 count=16 iflag=fullblock "
                     "2>/dev/null | md5sum") for _ in range(2)}
    t.point(len(sums) == 2, "two reads differ", sums)
    size = guest.number("dd if=/dev/hwrng bs=64k count=4 iflag=fullblock "
                        "2>/dev/null | wc -c")
    t.point(size == 4 << 16, "long reads", str(size))
    kinds = guest.number("dd if=/dev/hwrng bs=4096 count=1 iflag=fullblock "
                         "2>/dev/null | od -An -v -tu1 -w1 | sort -u | wc -l")
    t.point(kinds > 240, "of all values", str(kinds))
    guest.power_off()


@test
def hwrng_is_limited(t):
    """16 KiB at once, then 64 KiB a second."""
    guest = Guest(t, configure=lambda m: m.put("/entropy", rate_limiter={
        "bandwidth": {"size": 16384, "refill_time": 250}}))
    took = guest.sh("S=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/hwrng "
                    "bs=4096 count=32 iflag=fullblock of=/dev/null "
                    "2>/dev/null; echo $S $(cut -d' ' -f1 /proc/uptime)")
    start, end = map(float, took.split())
    t.point(end - start > 1.2, "128 KiB take their time", took)
    guest.power_off()


def configure(t):
    taps = ["tap%d" % number for number in range(NETS)]
    network(t, *taps)

    def devices(m):
        for tap in taps:
            put_net(m, "if_" + tap, tap)
        m.put("/vsock", guest_cid=3, uds_path=t.path("vsock"))
        m.put("/entropy")

    return devices


@test
def seventeen_devices_are_found(t):
    drives = [drive("d%d" % number, t.write(
        "drive%d" % number, (b"drive %02d" % number).ljust(64 << 10, b".")))
        for number in range(DRIVES)]
    guest = Guest(t, kernel="vmlinux", drives=drives, configure=configure(t))
    found = guest.number("ls /sys/bus/virtio/devices | wc -l")
    t.point(found == LIMIT, "all are on the virtio bus", str(found))
    bound = guest.number("ls -d /sys/bus/virtio/devices/*/driver | wc -l")
    t.point(bound == LIMIT, "and have a driver", str(bound))
    marks = guest.sh("for d in /dev/vd?; do head -c 8 $d; echo; done")
    t.point(marks.split("\n") == ["drive %02d" % n for n in range(DRIVES)],
            "disks have their contents", marks)
    nets = guest.number("ls -d /sys/class/net/eth* | wc -l")
    t.point(nets == NETS, "interfaces", str(nets))
    size = guest.number("head -c 1000 /dev/hwrng | wc -c")
    t.point(size == 1000, "the last one works", str(size))
    lines = guest.sh("grep virtio /proc/interrupts").split("\n")
    pins = {int(re.search(r"IO-APIC +(\d+)-", line).group(1))
            for line in lines}
    t.point(pins <= set(range(FIRST_GSI, FIRST_GSI + LIMIT))
            and len(pins) >= DRIVES + NETS, "pins of their own", str(pins))
    guest.power_off()


if __name__ == "__main__":
    main()
