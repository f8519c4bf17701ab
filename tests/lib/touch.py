# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the guest `touch` (tests/guests/touch.h), which does to its
memory what its snapshot's memory file says, and the working sets of it."""
import struct

from ember import guest
from snapshots import Snapshot

READ, WRITE, WAIT = range(3)
TABLE = 0x200000
FIRST = 0x1000000 >> 12  # pages with a number in them
PAGES = 8192
PAGE = 4096
MEMORY_MIB = 128
# 24 MB: 64 stretches of 96 pages, with 32 in between that are left alone; of
# each the first 72 are read, the others written to.
SCATTERED = [step for first in range(0, PAGES, 128)
             for step in ((READ, first, 72, 1), (WRITE, first + 72, 24, 1))]


def put_steps(path, steps):
    """What a guest will do whose memory file that is; as for set_steps."""
    table = struct.pack("<I", len(steps))
    for step in steps:
        table += struct.pack("<4I", *(tuple(step) + (0, 0, 0))[:4])
    with open(path, "r+b") as file:
        file.seek(TABLE)
        file.write(table)


class TouchSnapshot(Snapshot):
    """State and memory file under @path, of a guest that waits for steps."""

    def __init__(self, m, path, **machine):
        self.state, self.memory = path + ".state", path + ".mem"
        m.start(guest("touch"), **{"mem_size_mib": MEMORY_MIB, **machine})
        m.expect(b"filled\n")
        m.patch("/vm", state="Paused")
        self.create(m)

    def set_steps(self, *steps):
        """Each (READ or WRITE, first page, count, stride), or (WAIT,)."""
        put_steps(self.memory, steps)

    def args(self, *more):
        """Of a monitor that restores it."""
        return ["--restore", self.state, "--mem", self.memory, *more]

    def body(self, **fields):
        return super().body(**{"resume_vm": True, **fields})


class WorkingSet:
    """A working set file (snapshot/working_set.h): lists of pages, in order.
    `size` is that of the memory it is of."""

    HEADER = 12  # of a section: tag, version, instance, length

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        at = self.bytes.index(b"WSET") + self.HEADER
        self.size, written, read = struct.unpack_from("<QII", self.bytes, at)
        ranges = list(struct.iter_unpack(
            "<II", self.bytes[at + 16:at + 16 + 8 * (written + read)]))
        self.written = self._pages(ranges[:written])
        self.read = self._pages(ranges[written:])

    @staticmethod
    def _pages(ranges):
        return [first + i for first, count in ranges for i in range(count)]


def numbered(pages):
    """Of these, the ones that a step of the guest can have touched; as its
    steps count them."""
    return [page - FIRST for page in pages if 0 <= page - FIRST < PAGES]
