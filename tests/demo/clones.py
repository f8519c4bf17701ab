#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clones.py JAILER EMBER JAILS SNAPSHOT PORT COUNT: that many clones of the
snapshot in the directory SNAPSHOT, all alive at once.

Each has a jail below JAILS and a user of its own. In its root it finds the
snapshot's two files, which all share and none can write, and a copy of the disk,
at the paths that the snapshot knows: so nothing has to be overridden. It tells
by --ready-fd when its guest runs, and is called once. Shows how long after the
start of the jailer a clone runs, and how long until its function has answered.
"""
import os
import shutil
import subprocess
import sys
import time

from call import call, call_until_answered

FIRST_UID = 20001


def furnish(root, snapshot, uid):
    """What an orchestrator puts into a jail before it runs the jailer."""
    os.makedirs(root)
    for name in ("snap", "snap.mem"):
        os.link(os.path.join(snapshot, name), os.path.join(root, name))
    disk = os.path.join(root, "disk.ext4")
    shutil.copyfile(os.path.join(snapshot, "disk.ext4"), disk)
    os.chown(disk, uid, uid)


class Clone:
    """A jailed monitor whose guest goes on where the snapshot was taken."""

    def __init__(self, number, jailer, ember, jails, snapshot):
        name, uid = "clone%d" % number, FIRST_UID + number
        root = os.path.join(jails, os.path.basename(ember), name, "root")
        furnish(root, snapshot, uid)
        self.socket = os.path.join(root, "v.sock")
        ready, told = os.pipe()
        with open(name + ".console", "wb") as console:
            self.start = time.perf_counter()
            self.process = subprocess.Popen(
                [jailer, "--id", name, "--exec-file", ember,
                 "--uid", str(uid), "--gid", str(uid),
                 "--chroot-base-dir", jails, "--keep-fd", str(told), "--",
                 "--restore", "snap", "--mem", "snap.mem", "--no-api",
                 "--log-path", "log", "--ready-fd", str(told)],
                stdin=subprocess.DEVNULL, stdout=console, pass_fds=[told])
        os.close(told)
        with open(ready, "rb") as line:
            assert line.read() == b"READY\n", "the clone did not start"
        self.ready_ms = self._ms()

    def _ms(self):
        return 1000 * (time.perf_counter() - self.start)

    def first_call(self, port, text):
        reply = call_until_answered(self.socket, port, text, 60)
        self.reply_ms = self._ms()
        return reply

    def end(self):
        self.process.kill()
        self.process.wait()


def spread(values):
    values = sorted(values)
    return "fastest %.1f ms, median %.1f ms, slowest %.1f ms" % (
        values[0], values[len(values) // 2], values[-1])


def main():
    jailer, ember, jails, snapshot, port, count = sys.argv[1:]
    for name in ("snap", "snap.mem"):  # of no microVM any more
        os.chown(os.path.join(snapshot, name), 0, 0)
        os.chmod(os.path.join(snapshot, name), 0o444)
    clones = []
    try:
        for number in range(int(count)):
            clone = Clone(number, jailer, ember, jails, snapshot)
            clones.append(clone)
            reply = clone.first_call(int(port), "hello, clone %d" % number)
            print("clone %d runs after %.1f ms, replies after %.1f ms: %s" % (
                number, clone.ready_ms, clone.reply_ms, reply))
        print("from the jailer until the guest runs:  " +
              spread([clone.ready_ms for clone in clones]))
        print("from the jailer until it has answered: " +
              spread([clone.reply_ms for clone in clones]))
        for number, clone in enumerate(clones):
            call(clone.socket, int(port), "again, clone %d" % number)
        print("all %d, alive side by side, answer once more" % len(clones))
    finally:
        for clone in clones:
            clone.end()


if __name__ == "__main__":
    main()
