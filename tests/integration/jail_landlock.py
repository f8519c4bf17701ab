#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What Landlock must not be in the way of. What it must be in the way of is in
jail_attacks.py."""
import os
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import ember
from ember import guest, need_kvm
from jail import GID, UID, Jail
from jailnet import JailedMonitor, mount, own_mounts, place
from tap import Skip, main, skip_unless, test

MS_BIND = 0x1000


def bind(t, jail, name):
    """A directory of the host's, mounted into the jail beforehand."""
    own_mounts()
    source = t.path("outside-" + name)
    target = jail.path(name)
    for path in (source, target):
        os.makedirs(path)
        os.chown(path, UID, GID)
    mount(source, target, None, MS_BIND)
    t.defer(subprocess.run, ["umount", target])
    return source


@test
def snapshots_on_a_mount_are_made_and_replaced(t):
    """New files, renamed over older ones, in a directory that the
    orchestrator has bound below the root; and loaded from there."""
    need_kvm()
    jail = Jail(t, "one", exec_file=ember.BINARY)
    source = bind(t, jail, "snap")
    kernel = place(jail, guest("counter"), "kernel", UID, GID)
    m = JailedMonitor(t, jail)
    t.point(m.start(kernel)[0] == 204, "it starts", m.output())
    m.api("PATCH", "/vm", state="Paused")
    for number in range(2):
        answer = m.put("/snapshot/create", snapshot_path="/snap/state",
                       mem_file_path="/snap/memory")
        t.point(answer[0] == 204, "snapshot %d" % number, str(answer))
    t.point(sorted(os.listdir(source)) == ["memory", "state"], "its files",
            str(os.listdir(source)))
    other = Jail(t, "two", exec_file=ember.BINARY)
    os.makedirs(other.path("snap"))
    mount(source, other.path("snap"), None, MS_BIND)
    t.defer(subprocess.run, ["umount", other.path("snap")])
    clone = JailedMonitor(t, other)
    answer = clone.put("/snapshot/load", snapshot_path="/snap/state",
                       mem_backend={"backend_type": "File",
                                    "backend_path": "/snap/memory"},
                       resume_vm=True)
    t.point(answer[0] == 204, "it is loaded", str(answer))


@test
def sockets_are_made_and_used_inside(t):
    need_kvm()
    jail = Jail(t, exec_file=ember.BINARY)
    kernel = place(jail, guest("counter"), "kernel", UID, GID)
    m = JailedMonitor(t, jail)
    answer = m.put("/vsock", guest_cid=3, uds_path="/run/v.sock")
    t.point(answer[0] == 204, "of the guest", str(answer))
    t.point(stat.S_ISSOCK(os.stat(jail.path("run/v.sock")).st_mode),
            "where it was asked for")
    t.point(m.start(kernel)[0] == 204, "it starts", m.output())


def loop_device(t):
    """A block device over a file of 1 MiB."""
    path = t.write("disk", bytes(1 << 20))
    done = subprocess.run(["losetup", "--find", "--show", path],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    if done.returncode:
        raise Skip("no loop device: " + done.stdout.strip())
    device = done.stdout.strip()
    t.defer(subprocess.run, ["losetup", "--detach", device])
    return device


@test
def drive_may_be_a_device_anywhere(t):
    """Nodes outside /dev take no ioctl; their size is known without."""
    skip_unless(os.geteuid() == 0, "devices are made by root")
    device = loop_device(t)
    jail = Jail(t, exec_file=ember.BINARY)
    os.makedirs(jail.path())
    node = jail.path("disk")
    os.mknod(node, stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
    os.chown(node, UID, GID)
    m = JailedMonitor(t, jail)
    answer = m.put("/drives/d", drive_id="d", is_root_device=False,
                   path_on_host="/disk")
    t.point(answer[0] == 204, "it is taken", str(answer))
    t.point("os error" not in m.output(), "without complaints", m.output())


@test
def switch_turns_it_off(t):
    """The same jail with and without; what differs is in jail_attacks.py."""
    for arguments in ({}, {"no_landlock": True}):
        done = Jail(t, "vm-%d" % len(arguments), **arguments).run()
        t.point(done.code == 0 and done.err == "", str(arguments), str(done))


if __name__ == "__main__":
    main()
