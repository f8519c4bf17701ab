# SPDX-License-Identifier: Apache-2.0
"""What the lab needs to know about kernel files: how to take the ELF vmlinux
out of a bzImage, and which modules to load in which order."""

import gzip
import lzma
import os
import re
import struct

from steps import LabError, command, need

# Linux x86 boot protocol (Documentation/arch/x86/boot.rst).
SETUP_SECTS = 0x1F1
HEADER_MAGIC = 0x202
PAYLOAD = 0x248

LZ4_LEGACY = b"\x02\x21\x4c\x18"
ZSTD = b"\x28\xb5\x2f\xfd"
GZIP = b"\x1f\x8b"
XZ = b"\xfd7zXZ\0"


def _pipe(program, data):
    """Decompresses with a program, for formats Python does not know."""
    need(program)
    return command([program, "-d", "-c"], input=data)


def _unxz(data):
    return lzma.LZMADecompressor().decompress(data)


DECOMPRESSORS = (
    (LZ4_LEGACY, lambda data: _pipe("lz4", data)),
    (ZSTD, lambda data: _pipe("zstd", data)),
    (XZ, _unxz),
    (GZIP, gzip.decompress),
)


def extract_vmlinux(image):
    """The ELF file inside a bzImage. The kernel's build appends the plain
    size, 4 bytes, to the compressed payload: those are cut off."""
    if image[HEADER_MAGIC:HEADER_MAGIC + 4] != b"HdrS":
        raise LabError("not a bzImage")
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    start = ((image[SETUP_SECTS] or 4) + 1) * 512 + offset
    payload = image[start:start + length]
    (size,) = struct.unpack_from("<I", payload, length - 4)
    for magic, decompress in DECOMPRESSORS:
        if payload.startswith(magic):
            elf = decompress(payload[:-4])
            break
    else:
        raise LabError("bzImage: unknown compression " + payload[:6].hex())
    if not elf.startswith(b"\x7fELF") or len(elf) != size:
        raise LabError("bzImage: the payload is not the ELF file expected")
    return elf


def _stem(path):
    """A module's name as the kernel spells it."""
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


class Modules:
    """The modules of one unpacked kernel package."""

    def __init__(self, root):
        self.paths = {}
        self.builtin = set()
        for base, _, names in os.walk(os.path.join(root, "lib/modules")):
            for name in names:
                if re.search(r"\.ko(\.xz)?$", name):
                    self.paths[_stem(name)] = os.path.join(base, name)
                elif name == "modules.builtin":
                    with open(os.path.join(base, name)) as source:
                        self.builtin = {_stem(line) for line in source}

    def read(self, name):
        """A module's bytes, decompressed: busybox insmod takes no .xz."""
        path = self.paths.get(name)
        if not path:
            raise LabError("the kernel package has no module " + name)
        with open(path, "rb") as source:
            data = source.read()
        return _unxz(data) if path.endswith(".xz") else data

    def load_order(self, names):
        """[(name, bytes)]: @names and what they depend on, first things
        first. The package has no modules.dep, so .modinfo is asked."""
        order = {}

        def add(name):
            if name in order or name in self.builtin:
                return
            data = self.read(name)
            info = re.search(rb"\0depends=([^\0]*)\0", data)
            for wanted in (info.group(1).decode() if info else "").split(","):
                if wanted:
                    add(wanted.replace("-", "_"))
            order[name] = data

        for name in names:
            add(name)
        return list(order.items())
