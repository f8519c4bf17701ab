# SPDX-License-Identifier: Apache-2.0
"""Kernel images, well formed and otherwise.

Takes a tiny guest apart, wraps it as a bzImage, and changes single fields of
headers: the inputs that a monitor has to boot, and those it has to refuse.
"""
import struct

# Fields of the ELF64 file header and of a program header: (offset, format).
ELF_FIELDS = {
    "magic": (0, "4s"), "class": (4, "B"), "data": (5, "B"),
    "type": (16, "<H"), "machine": (18, "<H"), "entry": (24, "<Q"),
    "phoff": (32, "<Q"), "phentsize": (54, "<H"), "phnum": (56, "<H"),
}
SEGMENT_FIELDS = {
    "p_type": (0, "<I"), "p_offset": (8, "<Q"), "p_vaddr": (16, "<Q"),
    "p_paddr": (24, "<Q"), "p_filesz": (32, "<Q"), "p_memsz": (40, "<Q"),
    "p_align": (48, "<Q"),
}
SEGMENT_SIZE = 56
PT_LOAD = 1

# Fields of a bzImage's setup header (Documentation/arch/x86/boot.rst).
SETUP_FIELDS = {
    "setup_sects": (0x1f1, "B"), "syssize": (0x1f4, "<I"),
    "boot_flag": (0x1fe, "<H"), "jump": (0x200, "2s"),
    "header": (0x202, "4s"), "version": (0x206, "<H"),
    "loadflags": (0x211, "B"), "code32_start": (0x214, "<I"),
    "initrd_addr_max": (0x22c, "<I"), "kernel_alignment": (0x230, "<I"),
    "relocatable_kernel": (0x234, "B"), "min_alignment": (0x235, "B"),
    "xloadflags": (0x236, "<H"), "cmdline_size": (0x238, "<I"),
    "pref_address": (0x258, "<Q"), "init_size": (0x260, "<I"),
}
XLF_KERNEL_64 = 1
SECTOR = 512


def _get(image, base, fields, name):
    offset, form = fields[name]
    return struct.unpack_from(form, image, base + offset)[0]


def _set(image, base, fields, values):
    for name, value in values.items():
        offset, form = fields[name]
        struct.pack_into(form, image, base + offset, value)


def load(path):
    with open(path, "rb") as file:
        return bytearray(file.read())


def changed(path, segment=None, **values):
    """The ELF file with other values in its header, or in the program header
    of its n-th segment."""
    image = load(path)
    if segment is None:
        _set(image, 0, ELF_FIELDS, values)
    else:
        base = _get(image, 0, ELF_FIELDS, "phoff") + segment * SEGMENT_SIZE
        _set(image, base, SEGMENT_FIELDS, values)
    return bytes(image)


def flattened(path, base=0x100000):
    """What a loader would put at @base: all PT_LOAD segments in their
    places."""
    image = load(path)
    flat = bytearray()
    for i in range(_get(image, 0, ELF_FIELDS, "phnum")):
        at = _get(image, 0, ELF_FIELDS, "phoff") + i * SEGMENT_SIZE
        if _get(image, at, SEGMENT_FIELDS, "p_type") != PT_LOAD:
            continue
        start = _get(image, at, SEGMENT_FIELDS, "p_paddr") - base
        offset = _get(image, at, SEGMENT_FIELDS, "p_offset")
        size = _get(image, at, SEGMENT_FIELDS, "p_filesz")
        flat.extend(bytes(max(0, start + size - len(flat))))
        flat[start:start + size] = image[offset:offset + size]
    return bytes(flat)


def bzimage(path, cut=None, **values):
    """A bzImage around a tiny guest linked at 1 MiB whose 64-bit entry is
    0x200 bytes in; the least that the boot protocol asks for. @values replace
    header fields; @cut is the length of the file."""
    body = flattened(path)
    body += bytes(-len(body) % 16)
    setup = bytearray(2 * SECTOR)
    header = {
        "setup_sects": 1, "syssize": len(body) // 16, "boot_flag": 0xaa55,
        "jump": b"\xeb\x66", "header": b"HdrS", "version": 0x20f,
        "loadflags": 1, "code32_start": 0x100000,
        "initrd_addr_max": 0x7fffffff, "kernel_alignment": 0x200000,
        "relocatable_kernel": 1, "min_alignment": 21,
        "xloadflags": XLF_KERNEL_64, "cmdline_size": 2047,
        "pref_address": 0x100000, "init_size": 0x100000,
    }
    header.update(values)
    _set(setup, 0, SETUP_FIELDS, header)
    return (bytes(setup) + body)[:cut]
