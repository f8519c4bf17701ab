# SPDX-License-Identifier: Apache-2.0
"""The lab's host as an emulated machine: command lines, QMP, life cycle.

The full kind boots once, is checkpointed while it waits for a job, and is
restored for each job: RAM is a file, mapped privately, so that any number of
hosts run from it at once. The counted kind boots from an initramfs every
time, since only a machine without disks repeats itself bit for bit.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

from steps import LabError, command, need

QEMU = "qemu-system-x86_64"
HOST_MIB = 1536
JOB_DISK_MIB = 64
OUT_DISK_MIB = 512
MIB = 1 << 20
READY = b"LAB-READY"
GO = b"LAB-GO"
# A host with a job says something every 5 seconds (LAB-BEAT).
SILENT_SECONDS = 60
DONE = re.compile(rb"LAB-DONE (\d+)")
KERNEL_LINE = "console=ttyS0 reboot=t panic=-1 quiet tsc=reliable"
# Never -M microvm: its kernel hangs in one boot of two (TSC calibration).
MACHINE = ["-M", "pc,memory-backend=mb", "-accel", "tcg",
           "-cpu", "EPYC,+svm,+npt", "-m", str(HOST_MIB), "-smp", "1",
           "-nodefaults", "-no-user-config", "-display", "none",
           "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
COUNTED = ["-rtc", "base=2024-01-01,clock=vm"]


def version():
    """QEMU's version: a checkpoint belongs to one."""
    need(QEMU, "setpriv")
    return command([QEMU, "--version"]).split(b"\n")[0].decode()


def blank(path, mib):
    """A sparse file of a size."""
    with open(path, "wb") as out:
        out.truncate(mib * MIB)
    return path


def full_line(files, disks):
    """The full host without its memory. @files is the base step's directory;
    @disks are four paths: root, job, results, guest files."""
    line = MACHINE + ["-kernel", files + "/vmlinuz",
                      "-initrd", files + "/initrd",
                      "-append", KERNEL_LINE]
    for number, path in enumerate(disks):
        writable = "off" if number == 2 else "on"
        line += ["-drive", "if=none,id=d%d,format=raw,read-only=%s,file=%s"
                 % (number, writable, path),
                 "-device", "virtio-blk-pci,drive=d%d" % number]
    return line


def count_line(kernel, initrd, mode, seed, shift=0):
    """The counted host: one instruction is 2^shift virtual nanoseconds.
    @mode "off" jumps over idle time, "on" lets it take as long as it takes,
    which suits jobs that talk."""
    return MACHINE + COUNTED + [
        "-icount", "shift=%d,sleep=%s" % (shift, mode), "-seed", str(seed),
        "-kernel", kernel, "-initrd", initrd,
        "-append", KERNEL_LINE + " lab=count"]


class Qmp:
    """The monitor protocol of the emulator, one command at a time."""

    def __init__(self, path, deadline):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise LabError("the emulator opens no QMP socket")
                time.sleep(0.01)
        self.socket.settimeout(30)
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self("qmp_capabilities")

    def __call__(self, name, **arguments):
        """Runs a command and returns its result; events pass by."""
        request = {"execute": name, "arguments": arguments}
        self.stream.write(json.dumps(request) + "\n")
        self.stream.flush()
        while True:
            line = self.stream.readline()
            if not line:
                raise LabError("the emulator went away during " + name)
            reply = json.loads(line)
            if "error" in reply:
                raise LabError("%s: %s" % (name, reply["error"]["desc"]))
            if "return" in reply:
                return reply["return"]

    def wait(self, name, wanted, deadline):
        """Polls a query until wanted(its status)."""
        while not wanted(self(name).get("status")):
            if time.monotonic() > deadline:
                raise LabError(name + ": no end")
            time.sleep(0.005)

    def close(self):
        self.stream.close()
        self.socket.close()


class Machine:
    """A running emulator. Its console is collected in .console; the job's
    output goes to on_output(bytes) as it comes. Use as a context: it never
    outlives the block."""

    def __init__(self, directory, line, memory, restore=False,
                 on_output=None, results=os.devnull):
        self.console = b""
        self.heard = time.monotonic()
        self.changed = threading.Condition()
        self.socket_path = os.path.join(directory, "qmp")
        output, job_end = os.pipe()
        share = "off" if restore else "on"
        argv = ["setpriv", "--pdeathsig", "KILL", QEMU] + line + [
            "-object", "memory-backend-file,id=mb,size=%dM,share=%s,"
            "mem-path=%s" % (HOST_MIB, share, memory),
            "-qmp", "unix:%s,server=on,wait=off" % self.socket_path,
            "-serial", "stdio",
            "-serial", "file:/proc/self/fd/%d" % job_end,
            "-serial", "file:" + results]
        if restore:
            argv += ["-S", "-incoming", "defer"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, pass_fds=[job_end], bufsize=0)
        os.close(job_end)
        self.threads = [
            self._reader(self.process.stdout.fileno(), self._on_console),
            self._reader(output, on_output or (lambda data: None))]
        self.output = output

    def _reader(self, fd, consume):
        """Reads a descriptor to its end on a thread of its own."""
        def read():
            while True:
                data = os.read(fd, 65536)
                if not data:
                    break
                consume(data)
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _on_console(self, data):
        with self.changed:
            self.console += data
            self.heard = time.monotonic()
            self.changed.notify_all()

    def saw(self, text, timeout):
        """Whether the console shows @text in time, while it lives."""
        end = time.monotonic() + timeout
        with self.changed:
            while text not in self.console:
                left = end - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    return text in self.console
                self.changed.wait(min(left, 0.2))
        return True

    def send(self, text):
        """Types on the console."""
        self.process.stdin.write(text)

    def wait(self, timeout):
        """Whether the emulator ended by itself in time."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_while_alive(self, timeout):
        """The same, but gives up on a host that has gone silent."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and not self.silent():
            if self.wait(1):
                return True
        return False

    def silent(self):
        """Whether nothing moves any more in a host that has a job."""
        return time.monotonic() - self.heard > SILENT_SECONDS

    def registers(self):
        """Those of the processor, as text; None if it does not say."""
        try:
            qmp = Qmp(self.socket_path, time.monotonic() + 10)
            try:
                return qmp("human-monitor-command",
                           **{"command-line": "info registers"})
            finally:
                qmp.close()
        except (LabError, OSError):
            return None

    def code(self):
        """The exit code that the job left, None without."""
        found = DONE.search(self.console)
        return int(found.group(1)) if found else None

    def tail(self):
        """The console's last words, for an error message."""
        return self.console[-1500:].decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdin.close()
        self.process.stdout.close()
        os.close(self.output)


def checkpoint(directory, line):
    """Boots a full host and leaves "ram" and "state" in @directory."""
    ram = os.path.join(directory, "ram")
    with tempfile.TemporaryDirectory(prefix="ember-lab-") as temp, \
            Machine(temp, line, ram) as machine:
        if not machine.saw(READY, 60):
            raise LabError("the host does not boot:\n" + machine.tail())
        if b"LAB-WARNING" in machine.console:
            raise LabError("module refused:\n" + machine.tail())
        # The shell has to get from its echo to its read.
        time.sleep(0.3)
        deadline = time.monotonic() + 30
        qmp = Qmp(machine.socket_path, deadline)
        qmp("migrate-set-capabilities", capabilities=[
            {"capability": "x-ignore-shared", "state": True}])
        qmp("stop")
        qmp("migrate", uri="exec:cat >'%s/state'" % directory)
        qmp.wait("query-migrate", lambda status: status == "completed",
                 deadline)
        qmp("quit")
        qmp.close()
        machine.wait(10)


def resume(machine, files):
    """Continues a checkpoint in a machine started with restore=True."""
    deadline = time.monotonic() + 30
    qmp = Qmp(machine.socket_path, deadline)
    qmp("migrate-set-capabilities", capabilities=[
        {"capability": "x-ignore-shared", "state": True}])
    qmp("migrate-incoming", uri="exec:cat '%s/state'" % files)
    qmp.wait("query-status", lambda status: status != "inmigrate", deadline)
    qmp("cont")
    qmp.close()
    machine.send(b"GO\n")
