# SPDX-License-Identifier: Apache-2.0
"""A tiny guest (tests/guests/mem.c) that does with pluggable memory what it is
told."""
import re

from ember import Monitor, guest, need_kvm

MIB = 1 << 20
BLOCK = 2 * MIB
SLOT = 128 * MIB
PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK, NACK, BUSY, ERROR = range(4)
PLUGGED, UNPLUGGED, MIXED = range(3)


class Told:
    """The guest at its console."""

    def __init__(self, m):
        self.m = m

    def order(self, letter, *numbers):
        """What it answers: the numbers, by their names."""
        text = letter + "".join("%016x" % number for number in numbers)
        self.m.send(text.encode())
        line = self.m.expect(b"\n").decode().strip()
        found = re.findall(r"(\w+) 0x([0-9a-f]+)", line)
        return {name: int(value, 16) for name, value in found} or line

    def config(self):
        self.m.send(b"c")
        line = self.m.expect(b"\n").decode()
        assert line.startswith("config"), line
        return {name: int(value, 16) for name, value in
                re.findall(r"(\w+) 0x([0-9a-f]+)", line)}

    def ask(self, kind, addr=0, blocks=1):
        """The response to a request."""
        return self.order("q", kind, addr % (1 << 64), blocks)["response"]

    def state(self, addr, blocks=1):
        answer = self.order("q", STATE, addr, blocks)
        assert answer["response"] == ACK, answer
        return answer["state"]

    def read(self, addr):
        return self.order("r", addr)["value"]

    def write(self, addr, value):
        assert self.order("w", addr, value) == "written"

    def resize(self, size_mib):
        self.m.patch("/hotplug/memory", requested_size_mib=size_mib)

    def plug(self, addr, blocks=1):
        answer = self.ask(PLUG, addr, blocks)
        assert answer == ACK, answer

    def unplug(self, addr, blocks=1):
        answer = self.ask(UNPLUG, addr, blocks)
        assert answer == ACK, answer


def start(t, total=512, boot_args="", devices=None, args=(), config=None,
          **machine):
    """A guest with a memory device that is up."""
    need_kvm()
    m = Monitor(test=t, args=args)
    if devices:
        devices(m)
    m.put("/hotplug/memory", total_size_mib=total, **(config or {}))
    m.start(guest("mem"), boot_args=boot_args, **machine)
    m.expect(b"ready\n")
    return Told(m)
