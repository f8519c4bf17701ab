#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clones draw other random numbers than their template.

The guest's kernel has to hear of it: Debian's 6.1 has no driver for the
generation id (CONFIG_VMGENID), the 6.12 of its backports has. Of 6.1 there is
only to say that the devices in its ACPI tables do it no harm.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import copy  # noqa: E402

from linuxguest import NEWER, NEWER_ARGS, Guest  # noqa: E402
from snapshots import taken  # noqa: E402
from tap import main, test  # noqa: E402

RESEEDED = "crng reseeded due to virtual machine fork"
DRAW = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n'"


def boot(t, suffix, **how):
    return Guest(t, kernel="bzImage" + suffix, initrd="initrd" + suffix,
                 extra=NEWER_ARGS if suffix else "", **how)


def clones(t, guest, count):
    """The guest once more, @count times; what it was ends."""
    snapshot = taken(t, guest.monitor)
    for _ in range(count):
        clone = copy.copy(guest)
        clone.monitor = snapshot.load(t)
        yield clone


def check_devices(t, guest):
    """Both are announced, and nobody stumbles over them."""
    hids = guest.sh("cat /sys/bus/acpi/devices/*/hid").split()
    for hid in ("VMGENCTR", "AMZNC10C"):
        t.point(hid in hids, "%s is announced" % hid, str(hids))
    text = guest.sh("dmesg | grep -iE 'acpi (error|warning|bug)|vmclock|"
                    "nobody cared|marking.*unstable' || true")
    t.point(text == "", "the kernel has no complaints", text)


@test
def clones_on_6_12_have_their_own_random_numbers(t):
    guest = boot(t, NEWER)
    check_devices(t, guest)
    drawn = {guest.sh(DRAW)}
    t.point(RESEEDED not in guest.sh("dmesg"), "nothing was cloned yet")
    for clone in clones(t, guest, 3):
        drawn.add(clone.sh(DRAW))
        log = clone.sh("dmesg | tail -n 20")
        t.point(RESEEDED in log, "the kernel heard of it", log)
        # Time for the guest to compare its clocks: twice a second it does.
        clone.sh("sleep 2")
        check_devices(t, clone)
        clone.power_off()
    t.point(len(drawn) == 4, "each draws other numbers", str(drawn))


@test
def on_6_1_the_devices_do_no_harm(t):
    guest = boot(t, "")
    check_devices(t, guest)
    for clone in clones(t, guest, 2):
        clone.sh("sleep 2")
        check_devices(t, clone)
        clone.power_off()


if __name__ == "__main__":
    main()
