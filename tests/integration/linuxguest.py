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
import sys

from ember import GUESTS, ROOT, Monitor
from tap import SLOW, Skip

sys.path.insert(0, os.path.join(ROOT, "tests", "lab"))
from cpio import with_program  # noqa: E402

BOOT_SECONDS = 6 * SLOW
EXIT_SECONDS = 5 * SLOW
MIB = 1 << 20
# One serial port, one keyboard: what is not there costs time to look for.
BOOT_ARGS = ("console=ttyS0 quiet panic=1 8250.nr_uarts=1 i8042.noaux "
             "i8042.nomux i8042.dumbkbd")
NEWER = "-6.12"  # a suffix of kernels and their initramfs
# QEMU's nested SVM loses EFLAGS where cmpxchg16b faults, and allocations of
# this kernel use that instruction; 6.1 does not.
NEWER_ARGS = ("clearcpuid=cx16" if os.environ.get("TEST_WHERE") == "lab"
              else "")
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


def agent():
    """Path of the program of guest/, for the inside of a guest."""
    path = os.path.join(GUESTS, "agent")
    if not os.path.exists(path):
        raise FileNotFoundError("%s is not built (make guests)" % path)
    return path


def tools():
    """The body of a PUT /drives: a Debian root file system with curl, iperf3
    and the like, read-only. Guest.enter_tools mounts it."""
    path = os.environ.get("EMBER_TOOLS")
    if not path:
        raise Skip("EMBER_TOOLS names no file system with tools")
    return drive("tools", path, is_read_only=True)


def with_agent(t, initrd):
    """A copy of an initramfs that has the agent in it."""
    return t.write("initrd", with_program(asset(initrd), agent(),
                                          "bin/agent"))


class Guest:
    """A started guest whose shell waits for commands. @configure is called
    with the monitor before the start."""

    def __init__(self, t, kernel="bzImage", initrd="initrd", drives=(),
                 vcpus=1, mem=128, extra="", args=(), configure=None,
                 **popen):
        self.monitor = Monitor(test=t, args=args, **popen)
        for body in drives:
            self.monitor.put("/drives/" + body["drive_id"], **body)
        if configure:
            configure(self.monitor)
        self.monitor.start(
            kernel=os.path.isabs(kernel) and kernel or asset(kernel),
            initrd=os.path.isabs(initrd) and initrd or asset(initrd),
            boot_args=(BOOT_ARGS + " " + extra).strip(),
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

    def spawn(self, line, marker=None):
        """Runs a command in the background; waits until it says @marker."""
        self.sh("(%s) >/tmp/spawned 2>&1 &" % line)
        if marker:
            self.sh("until grep -q '%s' /tmp/spawned; do sleep 0.1; done"
                    % marker)

    def enter_tools(self, disk="/dev/vda"):
        """A prefix for commands that are run from the tools' disk."""
        self.sh("mkdir -p /tools && mount -t ext4 -o ro,noload %s /tools && "
                "mount --bind /proc /tools/proc && "
                "mount --bind /dev /tools/dev && "
                "mount --bind /tmp /tools/tmp" % disk)
        return "chroot /tools "

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
