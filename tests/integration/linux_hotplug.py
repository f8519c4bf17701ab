#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Linux gets memory while it runs, uses it, is moved with it, and gives it
back."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from ember import Monitor  # noqa: E402
from faults import good_handler  # noqa: E402
from linuxguest import Guest  # noqa: E402
from snapshots import Snapshot, pause  # noqa: E402
from tap import SLOW, main, test  # noqa: E402

PATH = "/hotplug/memory"
MIB = 1 << 20
RAM_MIB, TOTAL_MIB = 128, 1024
# Memory that is not to be freed again is put elsewhere then.
ARGS = "memhp_default_state=online_movable"
PATIENCE = 20 * SLOW
PAGES_AHEAD = 31


class Restored(Guest):
    """One that was started elsewhere."""

    def __init__(self, monitor):
        self.monitor = monitor


def start(t):
    def configure(m):
        m.put(PATH, total_size_mib=TOTAL_MIB)

    return Guest(t, mem=RAM_MIB, extra=ARGS, configure=configure)


def total_kib(guest):
    return guest.number("awk '/^MemTotal/ {print $2}' /proc/meminfo")


def resize(guest, size):
    """How long it took, or None."""
    begin = time.monotonic()
    guest.monitor.patch(PATH, requested_size_mib=size)
    while guest.monitor.get(PATH)["plugged_size_mib"] != size:
        if time.monotonic() - begin > PATIENCE:
            return None
        time.sleep(0.01)
    return time.monotonic() - begin


def resident_mib(guest):
    with open("/proc/%d/status" % guest.monitor.pid) as file:
        return next(int(line.split()[1]) for line in file
                    if line.startswith("VmRSS")) >> 10


def wait_for_total(guest, want):
    """MemTotal once the kernel has put to use what the driver plugged."""
    deadline = time.monotonic() + PATIENCE
    while total_kib(guest) != want and time.monotonic() < deadline:
        time.sleep(0.05)
    return total_kib(guest)


def fill(guest, mib):
    """Puts so much into memory, with something to know it by at its end."""
    guest.sh("mount -o remount,size=%dm /tmp" % (mib + 64))
    guest.sh("dd if=/dev/zero of=/tmp/zeros bs=1M count=%d 2>/dev/null" % mib,
             PATIENCE)
    guest.sh("seq 1 300000 >/tmp/numbers", PATIENCE)
    return guest.sh("md5sum /tmp/numbers")


@test
def memory_comes_is_used_and_goes(t):
    guest = start(t)
    before = total_kib(guest)
    took = resize(guest, 256)
    t.point(took is not None, "256 MiB are plugged", guest.sh("dmesg | tail"))
    print("# plugged 256 MiB in %.2f s" % (took or 0))
    t.point(wait_for_total(guest, before + (256 << 10)) ==
            before + (256 << 10), "all of it is the kernel's",
            "%d %d" % (before, total_kib(guest)))
    idle = resident_mib(guest)
    fill(guest, 200)
    used = resident_mib(guest)
    t.point(used - idle > 150, "a program has more than there was",
            "%d %d" % (idle, used))
    guest.sh("rm /tmp/zeros /tmp/numbers")
    took = resize(guest, 0)
    t.point(took is not None, "it is unplugged again",
            str(guest.monitor.get(PATH)) + guest.sh("dmesg | tail"))
    print("# unplugged 256 MiB in %.2f s" % (took or 0))
    after = resident_mib(guest)
    t.point(used - after > 120, "and is the host's", "%d %d" % (used, after))
    t.point(wait_for_total(guest, before) == before, "as before")
    took = resize(guest, 130)
    t.point(took is not None, "parts of a memory block too")
    guest.power_off()


@test
def it_is_moved_with_its_memory(t):
    guest = start(t)
    resize(guest, 384)
    sums = fill(guest, 150)
    resize(guest, 256)
    snapshot = Snapshot(t)
    pause(guest.monitor)
    snapshot.create(guest.monitor)
    guest.monitor.close()
    stat = os.stat(snapshot.memory)
    t.point(stat.st_size == (RAM_MIB + TOTAL_MIB) * MIB and
            stat.st_blocks * 512 < (RAM_MIB + 300) * MIB,
            "the file has holes for what is not there", str(stat))

    guest = Restored(snapshot.load(t))
    check(t, guest, sums, "File")
    pause(guest.monitor)
    again = Snapshot(t, "again")
    again.create(guest.monitor)
    guest.monitor.close()

    path = t.path("fault.sock")
    handler = good_handler(path, again.memory, PAGES_AHEAD)
    t.defer(handler.stdout.close)
    t.defer(handler.wait)
    t.defer(handler.kill)
    m = Monitor(test=t)
    m.put("/snapshot/load", **{**again.body(resume_vm=True), "mem_backend": {
        "backend_type": "Uffd", "backend_path": path}})
    guest = Restored(m)
    check(t, guest, sums, "Uffd")


def check(t, guest, sums, name):
    """That a clone goes on, gets memory, and gives some back."""
    t.point(guest.sh("md5sum /tmp/numbers", PATIENCE) == sums,
            name + ": its files are whole")
    t.point(guest.monitor.get(PATH)["plugged_size_mib"] == 256,
            name + ": it has what it had")
    t.point(resize(guest, 512) is not None, name + ": it gets more",
            str(guest.monitor.get(PATH)))
    t.point(resize(guest, 256) is not None, name + ": it gives that back",
            str(guest.monitor.get(PATH)))
    t.point(guest.sh("md5sum /tmp/numbers", PATIENCE) == sums,
            name + ": and is whole still")


if __name__ == "__main__":
    main()
