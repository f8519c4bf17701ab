# SPDX-License-Identifier: Apache-2.0
"""Boots an unmodified Debian kernel and talks to the shell on its console.

    guest = Guest(t, kernel="vmlinux", vcpus=2)
    assert guest.sh("nproc") == "2"
    guest.type("poweroff")
    assert guest.wait() == 0

The guest's side is tests/guests/linux/init. Kernels and file systems come
from the directory $EMBER_ASSETS (tests/lab/lab.py assets).
"""
import os
import re
import shutil

from ember import Monitor
from tap import SLOW, Skip

BOOT_SECONDS = 6 * SLOW
EXIT_SECONDS = 5 * SLOW
MIB = 1 << 20
# One serial port, one keyboard: what is not there costs time to look for.
BOOT_ARGS = ("console=ttyS0 quiet panic=1 8250.nr_uarts=1 i8042.noaux "
             "i8042.nomux i8042.dumbkbd")
READY = b"EMBER-READY"
EXIT = b"EMBER-EXIT "


def asset(name):
    """Path of a kernel, initrd or file system."""
    directory = os.environ.get("EMBER_ASSETS")
    if not directory:
        raise Skip("EMBER_ASSETS names no directory with kernels")
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        raise Skip("no %s among the kernels here" % name)
    return path


def root_disk(t):
    """A copy of the root file system that a guest may write to."""
    path = t.path("rootfs.ext4")
    shutil.copyfile(asset("rootfs.ext4"), path)
    return path


def drive(name, path, **fields):
    """The body of a PUT /drives/{name}."""
    return {"drive_id": name, "path_on_host": path, "is_root_device": False,
            **fields}


class Guest:
    """A started guest whose shell waits for commands."""

    def __init__(self, t, kernel="bzImage", initrd="initrd", drives=(),
                 vcpus=1, mem=128, extra="", args=()):
        self.monitor = Monitor(test=t, args=args)
        for body in drives:
            self.monitor.put("/drives/" + body["drive_id"], **body)
        self.monitor.start(
            kernel=os.path.isabs(kernel) and kernel or asset(kernel),
            initrd=asset(initrd), boot_args=(BOOT_ARGS + " " + extra).strip(),
            vcpu_count=vcpus, mem_size_mib=mem)
        hello = self.monitor.expect(READY, BOOT_SECONDS).decode("latin-1")
        found = re.search(r"EMBER-GUEST (\w+) ([\d.]+)", hello)
        assert found, "no greeting in %r" % hello
        self.where = found.group(1)
        self.boot_seconds = float(found.group(2))

    def type(self, line):
        """Types a command and does not wait."""
        self.monitor.send(line.encode() + b"\n")

    def run(self, line, timeout=BOOT_SECONDS):
        """(exit code, output) of a command."""
        self.type(line)
        output = self.monitor.expect(EXIT, timeout)[:-len(EXIT)]
        code = int(self.monitor.expect(b"\n"))
        return code, output.decode("latin-1").replace("\r", "").strip()

    def sh(self, line, timeout=BOOT_SECONDS):
        """The output of a command that must succeed."""
        code, output = self.run(line, timeout)
        assert code == 0, "%s: exit %d: %s" % (line, code, output)
        return output

    def number(self, line):
        """A command's output as a number."""
        return int(self.sh(line))

    def wait(self):
        """The monitor's exit code."""
        return self.monitor.wait(EXIT_SECONDS)

    def power_off(self):
        """Ends the guest the ordinary way."""
        self.type("poweroff")
        code = self.wait()
        assert code == 0, "poweroff: exit code %s" % code
