#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How guests end, and what the process then exits with."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from linuxguest import Guest  # noqa: E402
from tap import main, test  # noqa: E402

PANIC = "echo c > /proc/sysrq-trigger"
# Left to itself, a kernel on hardware-reduced ACPI tries EFI, then the BIOS.
# What the kernel is told, what is typed, the exit code.
ENDS = (
    ("poweroff_through_acpi", "", "poweroff", 0),
    ("reboot_through_keyboard_controller", "reboot=k", "reboot", 0),
    ("reboot_through_acpi", "reboot=a", "reboot", 0),
    ("reboot_as_the_kernel_likes", "", "reboot", 0),
    ("panic_and_keyboard_controller", "reboot=k", PANIC, 0),
    ("panic_as_the_kernel_likes", "", PANIC, 0),
    ("reboot_by_triple_fault", "reboot=t", "reboot", 1),
)


def check(t, extra, line, wanted):
    guest = Guest(t, kernel="vmlinux", extra=extra)
    guest.type(line)
    code = guest.wait()
    assert code == wanted, "exit code %s, not %d" % (code, wanted)


def add(name, *how):
    def function(t):
        check(t, *how)
    function.__name__ = "%s_exits_with_%d" % (name, how[-1])
    test(function)


for end in ENDS:
    add(*end)


@test
def ctrl_alt_del_reboots(t):
    guest = Guest(t, kernel="vmlinux", extra="reboot=k")
    guest.monitor.put("/actions", action_type="SendCtrlAltDel")
    code = guest.wait()
    assert code == 0, "exit code %s" % code


if __name__ == "__main__":
    main()
