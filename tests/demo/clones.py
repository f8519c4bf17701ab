#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clones.py EMBER STATE MEMORY DISK PORT COUNT: that many clones of a snapshot,
all alive at once.

Each has a socket and a copy of the disk of its own, tells by --ready-fd when
its guest runs, and is called once. Shows how long after its start a clone runs,
and how long until its function has answered."""
import os
import shutil
import subprocess
import sys
import time

from call import call, call_until_answered


class Clone:
    """A monitor whose guest goes on where the snapshot was taken."""

    def __init__(self, number, ember, state, memory, disk):
        self.socket = "clone%d.sock" % number
        own_disk = "clone%d.ext4" % number
        shutil.copyfile(disk, own_disk)
        ready, told = os.pipe()
        with open("clone%d.console" % number, "wb") as console:
            self.start = time.perf_counter()
            self.process = subprocess.Popen(
                [ember, "--restore", state, "--mem", memory, "--no-api",
                 "--id", "clone%d" % number,
                 "--log-path", "clone%d.log" % number,
                 "--drive-override", "disk=" + own_disk,
                 "--vsock-override", self.socket, "--ready-fd", str(told)],
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
    ember, state, memory, disk, port, count = sys.argv[1:]
    clones = []
    try:
        for number in range(int(count)):
            clone = Clone(number, ember, state, memory, disk)
            clones.append(clone)
            reply = clone.first_call(int(port), "hello, clone %d" % number)
            print("clone %d runs after %.1f ms, replies after %.1f ms: %s" % (
                number, clone.ready_ms, clone.reply_ms, reply))
        print("from exec until the guest runs:  " +
              spread([clone.ready_ms for clone in clones]))
        print("from exec until it has answered: " +
              spread([clone.reply_ms for clone in clones]))
        for number, clone in enumerate(clones):
            call(clone.socket, int(port), "again, clone %d" % number)
        print("all %d, alive side by side, answer once more" % len(clones))
    finally:
        for clone in clones:
            clone.end()


if __name__ == "__main__":
    main()
