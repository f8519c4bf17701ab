# SPDX-License-Identifier: Apache-2.0
"""ember and other monitors, driven alike: a class per monitor knows how it is
started, asked, saved and restored. Used here with tiny guests (peers.py) and in
the counted lab with Linux ones (counted*.py).

    monitor = Ember(program, directory, guest)
    monitor.launch()       exec until it has answered a request
    monitor.configure()    all that the guest needs
    monitor.boot()         the start command, until it is answered
    monitor.console        what the guest says, and when it began to
    monitor.save()         pauses it and saves it; (microseconds, files)
    monitor.restore()      a new process from what was saved, until it runs
    monitor.end()          SIGTERM to the end of the process; microseconds
    monitor.kill()

What a monitor cannot do raises Cannot, with the reason, and is a dash in the
report.

QEMU is found on PATH (Debian's qemu-system-x86), others if their variable names
a program or PATH has one: FIRECRACKER."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import namedtuple

PATIENCE = 20  # seconds
NAP = 20e-6

# drives: [(name, path)], not the root; tap: a device's name; vsock: a path.
Guest = namedtuple("Guest", "kernel ram_mib initrd args drives tap vsock",
                   defaults=(128, None, "", (), None, None))
MAC = "06:00:ac:10:00:02"
CID = 3


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


class Console(threading.Thread):
    """Reads what the guest says, and notes when it began to. It has to be read:
    there are monitors that wait for that."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.changed = threading.Condition()
        self.first_us = None
        self.text = b""
        self.ended = False
        self.start()

    def run(self):
        while True:
            part = self.pipe.read(65536)
            with self.changed:
                if part and not self.first_us:
                    self.first_us = now_us()
                self.text += part
                self.ended = not part
                self.changed.notify_all()
            if not part:
                break

    def _until(self, done, what, patience):
        with self.changed:
            if not self.changed.wait_for(lambda: done() or self.ended,
                                         patience) or not done():
                raise Cannot(what)

    def first(self):
        """When the first byte came."""
        self._until(lambda: self.first_us, "the guest said nothing", PATIENCE)
        return self.first_us

    def wait_for(self, text, patience=PATIENCE):
        """Takes what was said up to a text."""
        self._until(lambda: text in self.text,
                    "the guest did not say " + text.decode(), patience)
        before, _, self.text = self.text.partition(text)
        return before


class Monitor:
    """A process with a control socket, and a console on its standard streams."""

    name = ""        # in the report
    variable = ""    # of the environment, with the program's path
    command = ""     # on PATH
    vcpu = "vcpu"    # what the names of its vCPU threads have in them

    def __init__(self, program, directory, guest):
        self.program = program
        self.directory = directory
        self.guest = guest
        self.process = self.control = self.console = None
        self.sock = os.path.join(directory, "control")

    # ---------------------------------------------------------- the process

    def spawn(self, argv):
        for path in (self.sock, self.guest.vsock):
            if path and os.path.exists(path):
                os.unlink(path)
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0,
            env={"PATH": "/usr/bin:/bin"}, cwd=self.directory)
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
        start = now_us()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Cannot("SIGTERM does not end it") from None
        took = now_us() - start
        self._close()
        return took

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self):
        if self.control:
            self.control.close()
        if self.console:
            self.console.join()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = self.control = self.console = None

    # -------------------------------------------------------------- figures

    def cpu_us(self, vcpus=True):
        """CPU time of its threads so far; without its vCPUs', what the guest
        costs beside itself."""
        total = 0
        base = "/proc/%d/task" % self.process.pid
        for task in os.listdir(base):
            with open("%s/%s/comm" % (base, task)) as source:
                if not vcpus and re.search(self.vcpu, source.read()):
                    continue
            with open("%s/%s/schedstat" % (base, task)) as source:
                total += int(source.read().split()[0])
        return total / 1e3

    def memory(self):
        """(resident, private and dirty) KiB, without guest RAM, which is told
        by its size."""
        rss = dirty = size = 0
        with open("/proc/%d/smaps" % self.process.pid) as lines:
            for line in lines:
                key, _, rest = line.partition(":")
                if key == "Size":
                    size = int(rest.split()[0])
                elif size < self.guest.ram_mib * 1024:
                    rss += int(rest.split()[0]) if key == "Rss" else 0
                    dirty += (int(rest.split()[0])
                              if key == "Private_Dirty" else 0)
        return rss, dirty

    # ------------------------------------------- what each has its own way of

    def launch(self):
        raise Cannot("it is not controlled by requests")

    def configure(self):
        """Nothing, if all of it is on the command line."""

    def boot(self):
        raise NotImplementedError

    def save(self):
        raise Cannot("it has no snapshots")

    def restore(self):
        raise Cannot("it has no snapshots")

    def socket_to(self, port):
        """A connection to a vsock port of the guest."""
        raise Cannot("it has no vsock")


class Rest(Monitor):
    """ember and Firecracker."""

    options = ()

    def request(self, method, path, **fields):
        data = json.dumps(fields).encode() if fields else b""
        self.control.sendall(
            b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s"
            % (method.encode(), path.encode(), len(data), data))
        answer = self.control.recv(65536)
        if not answer.startswith(b"HTTP/1.1 2"):
            raise Cannot("%s: %s" % (path, answer.decode(errors="replace")))

    def launch(self):
        self.spawn([self.program, "--api-sock", self.sock, *self.options])
        self.connect()
        self.request("GET", "/")

    def configure(self):
        guest = self.guest
        self.request("PUT", "/machine-config", vcpu_count=1,
                     mem_size_mib=guest.ram_mib)
        initrd = {"initrd_path": guest.initrd} if guest.initrd else {}
        self.request("PUT", "/boot-source", kernel_image_path=guest.kernel,
                     boot_args=guest.args, **initrd)
        for name, path in guest.drives:
            self.request("PUT", "/drives/" + name, drive_id=name,
                         path_on_host=path, is_root_device=False)
        if guest.tap:
            self.request("PUT", "/network-interfaces/eth0", iface_id="eth0",
                         host_dev_name=guest.tap, guest_mac=MAC)
        if guest.vsock:
            self.request("PUT", "/vsock", guest_cid=CID, uds_path=guest.vsock)

    def boot(self):
        self.request("PUT", "/actions", action_type="InstanceStart")

    def save(self):
        self.request("PATCH", "/vm", state="Paused")
        start = now_us()
        self.request("PUT", "/snapshot/create", snapshot_path="state",
                     mem_file_path="memory")
        return now_us() - start, ("state", "memory")

    def restore(self):
        self.spawn([self.program, "--api-sock", self.sock, *self.options])
        self.connect()
        self.request("PUT", "/snapshot/load", snapshot_path="state",
                     resume_vm=True, mem_backend={
                         "backend_type": "File", "backend_path": "memory"})

    def socket_to(self, port):
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(self.guest.vsock)
        conn.sendall(b"CONNECT %d\n" % port)
        if not conn.recv(64).startswith(b"OK"):
            raise Cannot("the guest does not listen on port %d" % port)
        return conn


class Ember(Rest):
    name = "ember"
    options = ("--log-path", "/dev/null")

    def restore(self):
        self.spawn([self.program, "--restore", "state", "--mem", "memory",
                    "--api-sock", self.sock, *self.options])


class Firecracker(Rest):
    name = "Firecracker"
    variable, command = "FIRECRACKER", "firecracker"
    options = ("--log-path", "/dev/null", "--level", "Error")


class Qemu(Monitor):
    """The microvm machine, with no devices but what the guest needs."""

    name = "QEMU microvm"
    variable, command = "QEMU", "qemu-system-x86_64"
    vcpu = "CPU 0/KVM"

    def arguments(self, *more):
        guest = self.guest
        words = [
            self.program, "-name", "microvm,debug-threads=on", "-accel", "kvm",
            "-M", "microvm,acpi=%s,pit=off,pic=off,rtc=off"
            % ("on" if guest.initrd else "off"),
            "-cpu", "host", "-m", str(guest.ram_mib), "-nodefaults",
            "-no-user-config", "-display", "none", "-serial", "stdio",
            "-no-reboot", "-qmp", "unix:%s,server=on,wait=off" % self.sock,
            "-kernel", guest.kernel, "-append", guest.args]
        if guest.initrd:
            words += ["-initrd", guest.initrd]
        for name, path in guest.drives:
            words += ["-drive", "if=none,format=raw,id=%s,file=%s"
                      % (name, path),
                      "-device", "virtio-blk-device,drive=" + name]
        if guest.tap:
            words += ["-netdev", "tap,id=eth0,script=no,downscript=no,ifname="
                      + guest.tap, "-device",
                      "virtio-net-device,netdev=eth0,mac=" + MAC]
        if guest.vsock:
            words += ["-device", "vhost-vsock-device,guest-cid=%d" % CID]
        return words + list(more)

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

    def launch(self):
        self._open("-S")

    def boot(self):
        self.request("cont")

    def save(self):
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
        self._open("-incoming", "exec:/bin/cat memory")

        def done():
            status = self.request("query-status")["status"]
            return None if status == "inmigrate" else status

        until(done, "no end of the migration")
        self.request("cont")

    def socket_to(self, port):
        conn = socket.socket(socket.AF_VSOCK)
        conn.connect((CID, port))
        return conn


OTHERS = (Qemu, Firecracker)


def find(driver):
    """The path of a monitor's program, None without."""
    path = os.environ.get(driver.variable) or shutil.which(driver.command)
    return os.path.abspath(path) if path and os.path.exists(path) else None


def all_drivers(ember):
    """[(class, program)] of what is there; ember first."""
    found = [(Ember, os.path.abspath(ember))]
    found += [(driver, find(driver)) for driver in OTHERS]
    return [(driver, program) for driver, program in found if program]
