#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A newer kernel than the rest of the tests use, if the mirror has one."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from linuxguest import (  # noqa: E402
    NEWER, NEWER_ARGS, Guest, drive, root_disk)
from tap import main, test  # noqa: E402


def boot(t, kernel, **how):
    guest = Guest(t, kernel=kernel + NEWER, initrd="initrd" + NEWER,
                  extra=NEWER_ARGS, **how)
    release = guest.sh("uname -r")
    t.point(release.startswith(NEWER[1:]), "uname says so", release)
    return guest


@test
def newer_bzimage_boots_with_two_cpus(t):
    guest = boot(t, "bzImage", vcpus=2)
    cpus = guest.sh("nproc")
    t.point(cpus == "2", "nproc is 2", cpus)
    guest.power_off()


@test
def newer_vmlinux_boots_from_disk(t):
    guest = boot(t, "vmlinux", drives=[
        drive("root", root_disk(t), is_root_device=True)])
    t.point(guest.where == "disk", "the root is the disk", guest.where)
    guest.power_off()


if __name__ == "__main__":
    main()
