# SPDX-License-Identifier: Apache-2.0
"""A writer of "newc" cpio archives, the format of an initramfs. It needs no
root for device nodes and gives the same bytes for the same input, which the
counted lab relies on.

cpio.py INITRD FILE NAME > OUT: the initramfs with one more program in it."""

import os
import stat
import sys

ALIGN = 4
TRAILER = "TRAILER!!!"


class Cpio:
    """Collects entries in memory; bytes() is the archive."""

    def __init__(self):
        self.parts = []
        self.names = set()
        self.inode = 0

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        """One header, name and content, each padded to four bytes."""
        self.inode += 1
        raw = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0,
                  device[0], device[1], len(raw), 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields)
        for part in (head + raw, data):
            self.parts.append(part + b"\0" * (-len(part) % ALIGN))

    def directory(self, name):
        """A directory and, before it, its parents."""
        name = name.strip("/")
        if not name or name in self.names:
            return
        self.directory(os.path.dirname(name))
        self.names.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, source, prefix="", skip=None):
        """Everything below a directory of the host, sorted; @skip is the
        archive's name of a directory to leave out."""
        for base, dirs, names in os.walk(source):
            dirs.sort()
            inside = os.path.normpath(
                os.path.join(prefix, os.path.relpath(base, source)))
            if inside == skip:
                dirs.clear()
                continue
            if inside != ".":
                self.directory(inside)
            links = [d for d in dirs if os.path.islink(os.path.join(base, d))]
            for name in sorted(names + links):
                self._add(os.path.join(base, name),
                          os.path.normpath(os.path.join(inside, name)))

    def _add(self, path, name):
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            self.link(name, os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as source:
                self.file(name, source.read(), info.st_mode & 0o777)

    def bytes(self):
        self._entry(TRAILER, 0)
        return b"".join(self.parts)


def with_program(initrd, program, name):
    """The bytes of an initramfs file, followed by an archive with a program:
    the kernel unpacks one after the other."""
    archive = Cpio()
    with open(program, "rb") as source:
        archive.file(name, source.read(), 0o755)
    with open(initrd, "rb") as source:
        data = source.read()
    return data + bytes(-len(data) % ALIGN) + archive.bytes()


if __name__ == "__main__":
    sys.stdout.buffer.write(with_program(*sys.argv[1:]))
