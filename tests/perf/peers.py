# SPDX-License-Identifier: Apache-2.0
"""ember and other monitors on the same tiny guests, in turn. A driver per
monitor knows how it is started, asked and saved; what it cannot do raises
Cannot, and is a dash in the report.

QEMU is found on PATH (Debian's qemu-system-x86), others if their variable names
a program or PATH has one: FIRECRACKER."""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections import namedtuple

RAM_MIB = 128
PATIENCE = 20  # seconds
NAP = 20e-6

Pair = namedtuple("Pair", "name label unit goal_figure drawn")

PEER_FIGURES = (
    Pair("answer_us", "exec to an answered request", "us", "api_wall_us",
         True),
    Pair("answer_cpu_us", "... CPU time of it", "us", "api_cpu_us", False),
    Pair("first_byte_us", "start command to the guest's first byte", "us",
         "first_byte_us", True),
    Pair("rss_kib", "resident beside guest RAM", "KiB", "rss_kib", True),
    Pair("dirty_kib", "... private and dirty", "KiB", "dirty_kib", False),
    Pair("snapshot_us", "full snapshot of 128 MiB, hardly touched", "us",
         None, False),
    Pair("snapshot_kib", "... its files", "KiB", None, False),
    Pair("restore_us", "exec to the first byte of a restored copy", "us",
         "restore_first_byte_us", True),
    Pair("teardown_us", "SIGTERM to the end of the process", "us", None,
         False),
    Pair("program_kib", "program file, without its libraries", "KiB",
         "binary_bytes", False),
)


class Cannot(Exception):
    """What a monitor has no way to do, or did not do in time."""


def now_us():
    return time.monotonic_ns() / 1e3


def until(done, what):
    """Polls; what starts shall not have to share its processor with us."""
    end = time.monotonic() + PATIENCE
    while True:
        result = done()
        if result is not None:
            return result
        if time.monotonic() > end:
            raise Cannot(what)
        time.sleep(NAP)


def memory_of(pid):
    """(resident, private and dirty) KiB, guest RAM apart, which is told by its
    size."""
    rss = dirty = size = 0
    with open("/proc/%d/smaps" % pid) as lines:
        for line in lines:
            key, _, rest = line.partition(":")
            if key == "Size":
                size = int(rest.split()[0])
            elif size < RAM_MIB * 1024:
                rss += int(rest.split()[0]) if key == "Rss" else 0
                dirty += int(rest.split()[0]) if key == "Private_Dirty" else 0
    return rss, dirty


def cpu_us(pid):
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task)) as source:
            total += int(source.read().split()[0])
    return total / 1e3


class Console(threading.Thread):
    """Reads what the guest says, and notes when it said something first. It
    has to be read: there are monitors that wait for that."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.heard = threading.Event()
        self.first_us = None
        self.start()

    def run(self):
        while self.pipe.read(65536):
            if not self.first_us:
                self.first_us = now_us()
                self.heard.set()

    def first(self):
        """When the first byte came."""
        if not self.heard.wait(PATIENCE):
            raise Cannot("the guest said nothing")
        return self.first_us


class Monitor:
    """A process with a control socket and a console that is a pipe."""

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.process = self.control = self.console = None
        self.sock = os.path.join(directory, "control")

    def spawn(self, argv):
        if os.path.exists(self.sock):
            os.unlink(self.sock)
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0, env={"PATH": "/"},
            cwd=self.directory)
        self.console = Console(self.process.stdout)

    def connect(self):
        def attempt():
            if self.process.poll() is not None:
                raise Cannot("it ended")
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(self.sock)
            except OSError:
                control.close()
                return None
            control.settimeout(PATIENCE)
            return control

        self.control = until(attempt, "no control socket")

    def end(self):
        """Microseconds from SIGTERM to the end."""
        start = now_us()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Cannot("SIGTERM does not end it") from None
        took = now_us() - start
        self.close()
        return took

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self):
        if self.control:
            self.control.close()
        if self.console:
            self.console.join()
            self.process.stdout.close()
        self.process = self.control = self.console = None


class Rest(Monitor):
    """ember and Firecracker."""

    def request(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        self.control.sendall(
            b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s"
            % (method.encode(), path.encode(), len(data), data))
        answer = self.control.recv(65536)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise Cannot("%s: %s" % (path, answer.decode(errors="replace")))

    def arguments(self):
        return [self.program, "--api-sock", self.sock, "--log-path",
                "/dev/null"]

    def ask(self):
        """exec to an answer."""
        self.spawn(self.arguments())
        self.connect()
        self.request("GET", "/")

    def configure(self, guest):
        self.request("PUT", "/machine-config",
                     {"vcpu_count": 1, "mem_size_mib": RAM_MIB})
        self.request("PUT", "/boot-source",
                     {"kernel_image_path": guest, "boot_args": ""})

    def start(self):
        self.request("PUT", "/actions", {"action_type": "InstanceStart"})

    def snapshot(self):
        self.request("PATCH", "/vm", {"state": "Paused"})
        start = now_us()
        self.request("PUT", "/snapshot/create", {
            "snapshot_path": "state", "mem_file_path": "memory"})
        return now_us() - start, ("state", "memory")

    def restore(self):
        self.spawn(self.arguments())
        self.connect()
        self.request("PUT", "/snapshot/load", {
            "snapshot_path": "state", "resume_vm": True,
            "mem_backend": {"backend_type": "File",
                            "backend_path": "memory"}})


class Ember(Rest):
    name = "ember"

    def restore(self):
        self.spawn([self.program, "--restore", "state", "--mem", "memory",
                    "--api-sock", self.sock, "--log-path", "/dev/null"])


class Firecracker(Rest):
    name = "Firecracker"

    def arguments(self):
        return [self.program, "--api-sock", self.sock, "--no-seccomp",
                "--log-path", "/dev/null", "--level", "Error"]


class Qemu(Monitor):
    name = "QEMU microvm"

    def arguments(self, *more):
        return [self.program, "-M", "microvm,acpi=off,pit=off,pic=off,rtc=off",
                "-accel", "kvm", "-cpu", "host", "-m", str(RAM_MIB),
                "-nodefaults", "-no-user-config", "-display", "none",
                "-serial", "stdio", "-no-reboot", "-qmp",
                "unix:%s,server=on,wait=off" % self.sock, *more]

    def request(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self.control.sendall(json.dumps(message).encode())
        return self._answer()

    def _answer(self):
        """The next line that is no event."""
        line = b""
        while not line.endswith(b"\n") or b'"event"' in line:
            line = b"" if line.endswith(b"\n") else line
            part = self.control.recv(1)
            if not part:
                raise Cannot("no answer")
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise Cannot(str(answer["error"]))
        return answer.get("return")

    def _open(self, *more):
        self.spawn(self.arguments(*more))
        self.connect()
        self._answer()  # the greeting
        self.request("qmp_capabilities")

    def ask(self):
        # It has its guest on its command line; what is measured is how soon
        # it can be talked to.
        self._open("-S", "-kernel", self.guest)

    guest = None

    def configure(self, guest):
        pass

    def start(self):
        self.request("cont")

    def snapshot(self):
        self.request("stop")
        start = now_us()
        self.request("migrate", uri="exec:/bin/cat >memory")

        def done():
            status = self.request("query-migrate").get("status")
            if status == "failed":
                raise Cannot("migrate failed")
            return status if status == "completed" else None

        until(done, "no end of the migration")
        return now_us() - start, ("memory",)

    def restore(self):
        """It comes back as it was saved, stopped."""
        self._open("-kernel", self.guest, "-incoming", "exec:/bin/cat memory")

        def done():
            status = self.request("query-status")["status"]
            return None if status == "inmigrate" else status

        until(done, "no end of the migration")
        self.request("cont")


def find(variable, program):
    path = os.environ.get(variable) or shutil.which(program)
    return os.path.abspath(path) if path and os.path.exists(path) else None


def all_drivers(ember):
    """[(class, program)] of what is there; ember first."""
    found = [(Ember, os.path.abspath(ember)),
             (Qemu, find("QEMU", "qemu-system-x86_64")),
             (Firecracker, find("FIRECRACKER", "firecracker"))]
    return [(driver, program) for driver, program in found if program]


def measure_start(monitor, guest, figures):
    start = now_us()
    monitor.guest = guest
    monitor.ask()
    figures["answer_us"] = now_us() - start
    figures["answer_cpu_us"] = cpu_us(monitor.process.pid)
    monitor.configure(guest)
    time.sleep(0.02)
    start = now_us()
    monitor.start()
    figures["first_byte_us"] = monitor.console.first() - start
    figures["rss_kib"], figures["dirty_kib"] = memory_of(monitor.process.pid)


def measure_copy(monitor, figures):
    figures["snapshot_us"], files = monitor.snapshot()
    figures["snapshot_kib"] = sum(
        os.stat(os.path.join(monitor.directory, name)).st_blocks / 2
        for name in files)
    monitor.kill()
    start = now_us()
    monitor.restore()
    figures["restore_us"] = monitor.console.first() - start
    figures["teardown_us"] = monitor.end()


def one_run(driver, program, guest):
    """The figures of one life, as many as it has."""
    figures = {"program_kib": os.path.getsize(program) / 1024}
    with tempfile.TemporaryDirectory(prefix="ember-perf-") as directory:
        monitor = driver(program, directory)
        try:
            measure_start(monitor, guest, figures)
            measure_copy(monitor, figures)
        except (Cannot, OSError) as error:
            figures["why"] = str(error)
        finally:
            monitor.kill()
    return figures


def measure(ember, guest, runs, progress):
    """{name: {figure: median}} of all that are there."""
    drivers = all_drivers(ember)
    values = {driver.name: {} for driver, _ in drivers}
    for run in range(runs + 1):
        progress("run %d of %d" % (run, runs))
        for driver, program in drivers:
            found = one_run(driver, program, guest)
            if "why" in found:
                progress("%s: %s" % (driver.name, found.pop("why")))
            for name, value in found.items() if run else ():
                values[driver.name].setdefault(name, []).append(value)
    return {name: {figure: statistics.median(samples)
                   for figure, samples in found.items()}
            for name, found in values.items()}
