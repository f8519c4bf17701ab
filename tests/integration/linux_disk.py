#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks: a root file system, data that survives, read-only, resizing."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import hashlib  # noqa: E402

from linuxguest import MIB, Guest, drive, root_disk  # noqa: E402
from tap import main, test  # noqa: E402

DATA_MIB = 8


def sha256(path):
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


def serial(path):
    """The serial number that a drive shows: contract, virtio devices."""
    info = os.stat(path)
    return ("%d%d%d" % (info.st_dev, info.st_rdev, info.st_ino))[:20]


def check_data(t, guest, path):
    """Random data through the device: the guest's sum is the host's."""
    guest.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=%d" % DATA_MIB)
    guest.sh("dd if=/tmp/data of=/dev/vdb bs=64k oflag=direct")
    guest.sh("echo 3 > /proc/sys/vm/drop_caches")
    written = guest.sh("sha256sum < /tmp/data").split()[0]
    back = guest.sh("dd if=/dev/vdb bs=1M iflag=direct count=%d 2>/dev/null |"
                    " sha256sum" % DATA_MIB).split()[0]
    t.point(back == written, "dd reads back what dd wrote", back)
    t.point(sha256(path) == written, "the file on the host is the same")


def check_read_only(t, guest, path):
    before = sha256(path)
    code, text = guest.run("dd if=/dev/zero of=/dev/vdc bs=4k count=1 "
                           "oflag=direct")
    t.point(code != 0, "a read-only drive refuses to be written", text)
    t.point(guest.sh("cat /sys/block/vdc/ro") == "1", "and says so")
    t.point(sha256(path) == before, "and its file is unchanged")


def check_resize(t, guest, path):
    os.truncate(path, 2 * DATA_MIB * MIB)
    guest.monitor.patch("/drives/data", drive_id="data", path_on_host=path)
    sectors = str(2 * DATA_MIB * MIB // 512)
    size = guest.sh("for i in 1 2 3 4 5; do grep -qx %s /sys/block/vdb/size "
                    "&& break; sleep 0.2; done; cat /sys/block/vdb/size"
                    % sectors)
    t.point(size == sectors, "PATCH shows the guest the new size", size)
    tail = guest.run("dd if=/tmp/data of=/dev/vdb bs=1M count=1 seek=%d "
                     "oflag=direct" % (2 * DATA_MIB - 1))
    t.point(tail[0] == 0, "the new end can be written", tail[1])


def check_properties(t, guest, path):
    shown = guest.sh("cat /sys/block/vdb/serial")
    t.point(shown == serial(path), "the serial number is the file's", shown)
    caches = guest.sh("cat /sys/block/vda/queue/write_cache "
                      "/sys/block/vdb/queue/write_cache").split("\n")
    t.point(caches == ["write through", "write back"],
            "cache_type decides on the write cache", str(caches))


@test
def drives_keep_what_is_written(t):
    root = root_disk(t)
    data = t.write("data", b"\0" * (DATA_MIB * MIB))
    fixed = t.write("fixed", b"fixed" * 1024)
    guest = Guest(t, drives=[
        drive("root", root, is_root_device=True),
        drive("data", data, cache_type="Writeback"),
        drive("fixed", fixed, is_read_only=True)])
    t.point(guest.where == "disk", "the root is the disk", guest.where)
    mount = guest.sh("grep ' / ext4 ' /proc/mounts")
    t.point(mount.startswith("/dev/vda / ext4 rw"), "vda, writable", mount)
    check_data(t, guest, data)
    check_properties(t, guest, data)
    check_read_only(t, guest, fixed)
    check_resize(t, guest, data)
    guest.sh("cp /tmp/data /kept && sync")
    kept = guest.sh("sha256sum < /kept")
    guest.power_off()

    guest = Guest(t, kernel="vmlinux", drives=[
        drive("root", root, is_root_device=True, is_read_only=True)])
    t.point(guest.sh("sha256sum < /kept") == kept,
            "a file is still there after a restart of the monitor")
    mount = guest.sh("grep ' / ext4 ' /proc/mounts")
    t.point(mount.startswith("/dev/vda / ext4 ro"), "vda, read-only", mount)
    guest.power_off()


if __name__ == "__main__":
    main()
