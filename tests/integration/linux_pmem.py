#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Persistent memory: root file systems on it, files that are mapped and not
copied, what survives, and what several guests share."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import hashlib  # noqa: E402
import json  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import time  # noqa: E402

from linuxguest import (  # noqa: E402
    BOOT_SECONDS, MIB, NEWER, NEWER_ARGS, Guest, asset, root_disk)
from snapshots import Snapshot  # noqa: E402
from tap import main, test  # noqa: E402

NEEDLE = "needle %s in the haystack" % os.urandom(8).hex()
DATA_MIB = 8
WAIT = "until [ -b /dev/pmem0 ]; do sleep 0.1; done"


def sha256(path):
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


def has(path, text):
    with open(path, "rb") as source:
        return text.encode() in source.read()


def pmem(path, name="p", **fields):
    """For Guest(configure=...)."""
    return lambda monitor: monitor.put("/pmem/" + name, id=name,
                                       path_on_host=path, **fields)


def override(path):
    """Of the device that pmem() makes."""
    return [{"id": "p", "path_on_host": path}]


def killed(guest):
    guest.monitor.signal(9)
    guest.monitor.close()


@test
def root_is_persistent_memory(t):
    """ext4 whose files are mapped from the host's page cache (DAX)."""
    image = root_disk(t)
    guest = Guest(t, extra="rootflags=dax",
                  configure=pmem(image, root_device=True))
    mount = guest.sh("grep ' / ext4 ' /proc/mounts")
    t.point(guest.where == "disk" and mount.startswith("/dev/pmem0 / ext4 rw")
            and "dax=always" in mount, "root, writable", mount)
    t.point("pmem" in guest.sh("ls /sys/class/block"), "a pmem device")
    sum_here = guest.sh("sha256sum < /bin/busybox").split()[0]
    guest.sh("echo '%s' > /kept && sync" % NEEDLE)
    killed(guest)
    t.point(has(image, NEEDLE), "what was synced is in the file")

    guest = Guest(t, kernel="vmlinux", extra="rootflags=dax",
                  configure=pmem(image, root_device=True))
    t.point(guest.sh("cat /kept") == NEEDLE, "and there after a restart")
    guest.power_off()

    before = sha256(image)
    guest = Guest(t, extra="rootflags=dax", configure=pmem(
        image, root_device=True, read_only=True))
    mount = guest.sh("grep ' / ext4 ' /proc/mounts")
    t.point(mount.startswith("/dev/pmem0 / ext4 ro"), "root, read-only",
            mount)
    t.point(guest.sh("cat /kept") == NEEDLE
            and guest.sh("sha256sum < /bin/busybox").split()[0] == sum_here,
            "its files")
    guest.power_off()
    t.point(sha256(image) == before, "a read-only file is not written")


def mapping(guest, path):
    """What the monitor has of the file: fields of smaps, in KiB."""
    with open("/proc/%d/smaps" % guest.monitor.pid) as file:
        text = file.read()
    block = text[text.index(os.path.basename(path)):].split("\n")[1:]
    return {found.group(1): int(found.group(2)) for found in (
        re.match(r"(\w+):\s+(\d+) kB", line) for line in block[:12]) if found}


@test
def clones_share_an_erofs_root(t):
    image = t.path("rootfs.erofs")
    shutil.copyfile(asset("rootfs.erofs"), image)
    before = sha256(image)
    guests = [Guest(t, extra="rootfstype=erofs rootflags=dax",
                    configure=pmem(image, root_device=True, read_only=True))
              for _ in range(2)]
    sums = set()
    for guest in guests:
        mount = guest.sh("grep ' / erofs ' /proc/mounts")
        t.point(guest.where == "disk" and "ro," in mount and "dax" in mount,
                "root", mount)
        sums.add(guest.sh("cat /bin/busybox /sbin/init | sha256sum"))
    t.point(len(sums) == 1, "both read the same", str(sums))
    cached = "grep ^Cached: /proc/meminfo | tr -dc 0-9"
    before_read = guests[0].number(cached)
    guests[0].sh("cat /bin/busybox /sbin/init >/dev/null")
    more = guests[0].number(cached) - before_read
    t.point(more < 512, "and have no copy of it", "%d KiB" % more)
    fields = mapping(guests[0], image)
    t.point(fields["Private_Clean"] + fields["Private_Dirty"] == 0
            and fields["Rss"] > 512 and fields["Pss"] <= fields["Rss"] / 2,
            "the host has it once", str(fields))
    # Whoever tries to write is none the wiser, and changes nothing.
    guests[0].run("dd if=/dev/zero of=/dev/pmem0 bs=4k count=1 "
                  "oflag=direct conv=fsync")
    t.point(guests[0].sh("cat /bin/busybox /sbin/init | sha256sum") in sums
            and guests[1].sh("cat /bin/busybox /sbin/init | sha256sum")
            in sums, "after an attempt to write")
    for guest in guests:
        guest.power_off()
    t.point(sha256(image) == before, "the file is as it was")


@test
def a_newer_kernel_has_an_erofs_root(t):
    guest = Guest(t, kernel="vmlinux" + NEWER, initrd="initrd" + NEWER,
                  extra=NEWER_ARGS + " rootfstype=erofs rootflags=dax",
                  configure=pmem(asset("rootfs.erofs"), root_device=True,
                                 read_only=True))
    mount = guest.sh("grep ' / erofs ' /proc/mounts")
    t.point(guest.where == "disk" and "ro," in mount and "dax" in mount,
            "root", mount)
    guest.power_off()


def check_cut(t, guest, path):
    """The guest's kernel has told KVM that it can wait for pages, and waits for
    one that is not there any more: until it is."""
    monitor = guest.monitor
    os.truncate(path, MIB)
    guest.type("dd if=/dev/pmem0 of=/dev/null bs=64k iflag=direct")
    time.sleep(1)
    if not monitor.alive():
        t.point(monitor.wait() == 1 and "KVM_RUN: Bad address" in monitor.log,
                "a file that was cut ends the guest, with a reason")
        return
    t.point(monitor.get("/")["state"] == "Running", "the guest waits")
    monitor.patch("/vm", state="Paused")
    monitor.patch("/vm", state="Resumed")
    os.truncate(path, DATA_MIB * MIB)
    monitor.expect(b"EMBER-EXIT 0", BOOT_SECONDS)
    t.point(True, "until the file is as long again")


@test
def data_survives_and_moves(t):
    path = t.write("data", bytes(DATA_MIB * MIB))
    metrics = t.path("metrics")

    def configure(monitor):
        monitor.put("/metrics", metrics_path=metrics)
        pmem(path)(monitor)

    guest = Guest(t, vcpus=2, configure=configure)
    guest.sh(WAIT)
    t.point(guest.sh("cat /sys/block/pmem0/size")
            == str(DATA_MIB * MIB // 512), "size")
    guest.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=%d" % DATA_MIB)
    guest.sh("dd if=/tmp/data of=/dev/pmem0 bs=64k conv=fsync")
    written = guest.sh("sha256sum < /tmp/data").split()[0]
    t.point(sha256(path) == written, "the file has what was written")
    guest.monitor.put("/actions", action_type="FlushMetrics")
    with open(metrics) as file:
        shown = json.loads(file.read().splitlines()[-1])["pmem_p"]
    t.point(shown["queue_event_count"] > 0 and shown["event_fails"] == 0,
            "metrics", str(shown))

    guest.monitor.patch("/vm", state="Paused")
    snapshot = Snapshot(t)
    snapshot.create(guest.monitor, sync=False)
    killed(guest)
    copy = t.path("copy")
    shutil.copyfile(path, copy)
    guest.monitor = snapshot.load(t)
    read = "echo 3 >/proc/sys/vm/drop_caches; sha256sum < /dev/pmem0"
    t.point(guest.sh(read).split()[0] == written, "a clone reads it")
    guest.sh("echo '%s' | dd of=/dev/pmem0 bs=4k conv=fsync,notrunc"
             % NEEDLE)
    killed(guest)
    t.point(has(path, NEEDLE), "and writes it")
    guest.monitor = snapshot.load(t, pmem_overrides=override(copy))
    t.point(guest.sh(read).split()[0] == written and not has(copy, NEEDLE),
            "another one reads a copy")
    killed(guest)

    guest.monitor = snapshot.load(t)
    guest.sh("echo 3 >/proc/sys/vm/drop_caches")
    t.point(guest.sh("head -c %d /dev/pmem0" % len(NEEDLE)) == NEEDLE,
            "which the next one sees")
    check_cut(t, guest, path)


if __name__ == "__main__":
    main()
