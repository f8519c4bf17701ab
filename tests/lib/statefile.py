# SPDX-License-Identifier: Apache-2.0
"""State files taken apart and put together again: snapshot/state.h from the
side of whoever has bad intentions. The CRC of what is put together is right.
"""
import struct
import zlib

HEAD = struct.Struct("<8sHHI")
SECTION = struct.Struct("<4sHHI")
MAGIC = b"EMBERVM\n"
CPUID_ENTRY = 28


def sign(data):
    """The bytes with the CRC that belongs behind them."""
    return data + struct.pack("<I", zlib.crc32(data))


class Section:
    def __init__(self, tag, version, instance, data):
        self.tag, self.version = tag, version
        self.instance, self.data = instance, data

    def bytes(self):
        return SECTION.pack(self.tag.encode(), self.version, self.instance,
                            len(self.data)) + self.data


class State:
    """A state file's sections, to be changed."""

    def __init__(self, path):
        with open(path, "rb") as source:
            data = source.read()
        magic, self.major, self.minor, count = HEAD.unpack_from(data)
        assert magic == MAGIC, magic
        self.sections = []
        at = HEAD.size
        for _ in range(count):
            tag, version, instance, size = SECTION.unpack_from(data, at)
            at += SECTION.size
            self.sections.append(Section(tag.decode(), version, instance,
                                         data[at:at + size]))
            at += size
        assert sign(data[:at]) == data, "not what state.h says"

    def find(self, tag):
        return next(section for section in self.sections
                    if section.tag == tag)

    def remove(self, section):
        self.sections.remove(section)

    def bytes(self):
        return sign(HEAD.pack(MAGIC, self.major, self.minor,
                              len(self.sections))
                    + b"".join(section.bytes() for section in self.sections))


def skip_string(data, at=0):
    """Where what follows a string begins."""
    return at + 4 + struct.unpack_from("<I", data, at)[0]


def change_cpuid(section, leaf, register, bits):
    """Has a vCPU's section (VCPU) need more of a processor, as if it were of
    another host. @register: 0 to 3, EAX to EDX."""
    data = bytearray(section.data)
    data[4] ^= 1  # the host's description
    at = skip_string(data)
    count = struct.unpack_from("<I", data, at)[0]
    for entry in range(at + 4, at + 4 + count * CPUID_ENTRY, CPUID_ENTRY):
        if struct.unpack_from("<II", data, entry) == (leaf, 0):
            place = entry + 12 + 4 * register
            value = struct.unpack_from("<I", data, place)[0]
            struct.pack_into("<I", data, place, value | bits)
            section.data = bytes(data)
            return
    raise AssertionError("no CPUID leaf %#x" % leaf)
