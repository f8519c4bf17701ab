#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pause and resume, seen from inside."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import time  # noqa: E402

from linuxguest import EXIT, Guest  # noqa: E402
from tap import SLOW, main, test  # noqa: E402

TICKS = ("while [ ! -e /tmp/stop ]; do sleep 0.1; "
         "echo tick $(cut -d ' ' -f 1 /proc/uptime); done &")
STOP = "touch /tmp/stop; sleep 0.5"
SETTLE_SECONDS = 0.2
PAUSE_SECONDS = 2


def ticks(guest):
    return guest.monitor.console.count(b"tick ")


def wait_for_ticks(guest, more):
    """Whether that many more ticks come, and how long they take."""
    target = ticks(guest) + more
    start = time.monotonic()
    while ticks(guest) < target:
        if time.monotonic() - start > 5 * SLOW:
            return False
        time.sleep(0.02)
    return True


@test
def pause_stops_the_guest_and_resume_continues_it(t):
    guest = Guest(t, kernel="vmlinux", vcpus=2)
    guest.sh(TICKS)
    t.point(wait_for_ticks(guest, 3), "the guest ticks")

    guest.monitor.patch("/vm", state="Paused")
    time.sleep(SETTLE_SECONDS)
    before = ticks(guest)
    state = guest.monitor.get("/")["state"]
    t.point(state == "Paused", "the state is Paused", state)
    guest.type("echo typed meanwhile")
    time.sleep(PAUSE_SECONDS)
    after = ticks(guest)
    t.point(after == before, "no tick in %d s" % PAUSE_SECONDS,
            "%d ticks" % (after - before))
    t.point(b"typed meanwhile" not in guest.monitor.console,
            "nothing typed is answered")

    guest.monitor.patch("/vm", state="Resumed")
    t.point(wait_for_ticks(guest, 3), "it ticks again")
    guest.monitor.expect(b"typed meanwhile")
    guest.monitor.expect(EXIT + b"0")
    state = guest.monitor.get("/")["state"]
    t.point(state == "Running", "the state is Running", state)
    guest.sh(STOP)
    stalls = guest.sh("dmesg | grep -ciE 'detected stalls|soft lockup' || true")
    t.point(stalls == "0", "the kernel saw no lockup", stalls)
    guest.power_off()


if __name__ == "__main__":
    main()
