#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks with the engine "Async": a monitor that is killed in the middle of
work, snapshots; and what a file system gives back.

BLOCK_SECONDS: how long the work goes on before the monitor is killed.
BLOCK_STEPS: how many snapshots the chain has.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from linuxguest import MIB, Guest, drive  # noqa: E402
from snapshotchain import FileMemory, run_chain  # noqa: E402
from soakguest import Soak, check_disk, make_disk  # noqa: E402
from tap import main, test  # noqa: E402

SECONDS = int(os.environ.get("BLOCK_SECONDS", "10"))
STEPS = int(os.environ.get("BLOCK_STEPS", "4"))
ASYNC = {"io_engine": "Async", "cache_type": "Writeback"}
# Beside what soakguest.py has going on: reads of all sizes past the page
# cache, files that come and go, and their room given back.
MORE_WORK = (
    "(while :; do for bs in 4k 64k 1M; do dd if=/dev/vda of=/dev/null bs=$bs "
    "count=8 skip=$((RANDOM % 8)) iflag=direct; done; done) "
    ">/dev/null 2>&1 &",
    "(while :; do dd if=/dev/zero of=/data/large bs=1M count=4; sync; "
    "rm /data/large; sync; fstrim /data; done) >/dev/null 2>&1 &")


def blocks(path):
    """How many bytes of the host's a file takes."""
    return os.stat(path).st_blocks * 512


@test
def monitor_is_killed_in_the_middle_of_work(t):
    soak = Soak(t, disk=ASYNC)
    for command in MORE_WORK:
        soak.guest.sh(command)
    time.sleep(SECONDS)
    status = soak.status()
    complaints = soak.complaints()
    t.point(not complaints, "the guest's kernel has no complaints",
            "\n".join(complaints))
    t.point(status["disk_errors"] == 0, "nor have its programs")
    soak.monitor.signal(signal.SIGKILL)
    soak.monitor.wait()
    soak.monitor.close()

    guest = Guest(t, drives=[drive("data", soak.disk, **ASYNC)])
    guest.sh("mkdir /data && mount -t ext4 /dev/vda /data")
    log = guest.sh("dmesg | grep -c 'EXT4-fs error' || true")
    t.point(log == "0", "it can be mounted again", log)
    guest.sh("cat /data/file* >/dev/null && umount /data")
    guest.power_off()
    check_disk(t, soak.disk, status["durable"])


@test
def snapshots_of_an_async_disk(t):
    run_chain(t, FileMemory(t), STEPS, disk=ASYNC)


def trim(t, engine):
    disk = make_disk(t, engine)
    guest = Guest(t, drives=[drive("data", disk, io_engine=engine)])
    limits = guest.sh("cat /sys/block/vda/queue/discard_max_bytes "
                      "/sys/block/vda/queue/write_zeroes_max_bytes").split()
    t.point(all(int(one) > 0 for one in limits),
            engine + ": the guest knows what it may give back", str(limits))
    guest.sh("mkdir /data && mount -t ext4 /dev/vda /data && fstrim /data")
    empty = blocks(disk)
    guest.sh("dd if=/dev/urandom of=/data/file bs=1M count=16 && sync")
    full = blocks(disk)
    guest.sh("rm /data/file && sync && fstrim /data")
    after = blocks(disk)
    t.point(full - empty > 15 * MIB and after - empty < MIB,
            engine + ": fstrim frees the host's blocks",
            "%d, %d, %d" % (empty, full, after))
    guest.power_off()


@test
def what_is_removed_is_given_back(t):
    for engine in ("Sync", "Async"):
        trim(t, engine)


if __name__ == "__main__":
    main()
