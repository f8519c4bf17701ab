# SPDX-License-Identifier: Apache-2.0
"""A tiny guest for a monitor that takes nothing but a bzImage and enters it in
real mode: a setup part that goes to protected mode, and to the guest's PVH
entry."""

import struct

SETUP_BYTES = 1024    # the boot sector and one more
LOADED_AT = 0x10000   # the setup part; CMDLINE is what kvmtool puts behind it
CMDLINE = 0x20000
BODY_AT = 0x100000
CODE, START_INFO, GDT = 0x268, 0x340, 0x380  # in the setup part
PVH_MAGIC = 0x336ec578
PT_LOAD, PT_NOTE = 1, 4
XEN_ELFNOTE_PHYS32_ENTRY = 18


def _segments(image):
    """(type, file offset, physical address, bytes in the file)."""
    start, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, _, address, length = struct.unpack_from(
            "<IIQQQQ", image, at)
        yield kind, offset, address, length


def _entry(image):
    """The PVH entry."""
    for kind, offset, _, length in _segments(image):
        if kind == PT_NOTE and length >= 24:
            _, _, note, _, entry = struct.unpack_from("<III4sQ", image,
                                                      offset)
            if note == XEN_ELFNOTE_PHYS32_ENTRY:
                return entry
    raise ValueError("a guest without a PVH entry")


def _body(image):
    flat = bytearray()
    for kind, offset, address, length in _segments(image):
        if kind == PT_LOAD:
            start = address - BODY_AT
            flat.extend(bytes(max(0, start + length - len(flat))))
            flat[start:start + length] = image[offset:offset + length]
    return bytes(flat) + bytes(-len(flat) % 16)


def _code(entry):
    """Entered in real mode, the data segment being this part's."""
    real = (b"\xfa"                                       # cli
            b"\x2e\x66\x0f\x01\x16" + struct.pack(
                "<H", GDT + 24)                           # lgdtl %cs:pointer
            + b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"         # set CR0.PE
            + b"\x66\xea")                                # ljmpl
    protected = LOADED_AT + CODE + len(real) + 6
    return (real + struct.pack("<IH", protected, 0x8)
            + b"\x66\xb8\x10\x00"                         # mov $0x10, %ax
            + b"\x8e\xd8\x8e\xc0\x8e\xd0"                 # to ds, es, ss
            + b"\xbb" + struct.pack("<I", LOADED_AT + START_INFO)
            + b"\xb8" + struct.pack("<I", entry)
            + b"\xff\xe0")                                # jmp *%eax


def wrapped(path):
    """The bytes of a bzImage around the ELF file."""
    with open(path, "rb") as file:
        image = file.read()
    body = _body(image)
    setup = bytearray(SETUP_BYTES)
    for offset, form, value in (
            (0x1f1, "<B", SETUP_BYTES // 512 - 1), (0x1fe, "<H", 0xaa55),
            (0x1f4, "<I", len(body) // 16), (0x200, "2s", b"\xeb\x66"),
            (0x202, "4s", b"HdrS"), (0x206, "<H", 0x20f), (0x211, "<B", 1),
            (0x214, "<I", BODY_AT), (0x22c, "<I", 0x7fffffff),
            (0x238, "<I", 2047)):
        struct.pack_into(form, setup, offset, value)
    code = _code(_entry(image))
    setup[CODE:CODE + len(code)] = code
    # magic, version, flags, modules, their list, the command line
    struct.pack_into("<IIIIQQ", setup, START_INFO, PVH_MAGIC, 1, 0, 0, 0,
                     CMDLINE)
    struct.pack_into("<QQQHI", setup, GDT, 0, 0x00cf9b000000ffff,
                     0x00cf93000000ffff, 23, LOADED_AT + GDT)
    return bytes(setup) + body
