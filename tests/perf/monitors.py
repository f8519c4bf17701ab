# SPDX-License-Identifier: Apache-2.0
"""ember and other monitors, driven alike: a class per monitor knows how it is
started, asked, saved and restored. Used here with tiny guests (peers.py) and in
the counted lab with Linux ones (counted*.py).

    monitor = Ember(program, directory, guest)
    monitor.launch()       exec until it has answered a request
    monitor.ask()          a request that changes nothing
    monitor.configure()    all that the guest needs
    monitor.boot()         the start command, until it is answered; send_boot()
                           and booted() if that is not to be waited for
    monitor.run()          instead of these: exec with all of it on the command
                           line, or in a file
    monitor.first_byte()   when the guest began to speak
    monitor.console        what it says
    monitor.type(text)     to the guest's console
    monitor.save()         pauses it and saves it; (microseconds, files)
    monitor.save_changes() the same of what the guest wrote to since; it goes on
                           then
    monitor.resume()
    monitor.restore()      a new process from what was saved; it goes on by
                           itself, or has been told to
    monitor.learn(word)    what a copy touches until it says the word, for those
                           that follow, if it can
    monitor.end()          SIGTERM to the end of the process; microseconds
    monitor.kill()

What a monitor cannot do raises Cannot, with the reason, and is a dash in the
report.

QEMU is found on PATH (Debian's qemu-system-x86), others if their variable names
a program or PATH has one: FIRECRACKER, CLOUD_HYPERVISOR, KVMTOOL."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
import tty
from collections import namedtuple

PATIENCE = 20  # seconds
NAP = 20e-6

# drives: [(name, path)], not the root; tap: a device's name; vsock: a path.
# tracked: what it writes to is noted, for snapshots of changes; template: it is
# saved to be restored many times, and will not go on; typed: its console is
# typed on.
Guest = namedtuple(
    "Guest", "kernel ram_mib initrd args drives tap vsock tracked template "
    "typed", defaults=(128, None, "", (), None, None, False, False, False))
MAC = "06:00:ac:10:00:02"
CID = 3


# Resident, and of it private and dirty, without guest RAM; the proportional set
# size, and what is private and dirty, with it.
Memory = namedtuple("Memory", "rss dirty pss private")


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
    """What the guest says. It has to be read: there are monitors that wait for
    that. Until somebody waits for its first byte or a text nobody reads, since
    a thread more would cost those a quarter of a millisecond who start."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.changed = threading.Condition()
        self.text = b""
        self.ended = False

    def run(self):
        while True:
            try:
                part = self.pipe.read(65536)
            except OSError:  # a terminal whose other side was closed
                part = b""
            with self.changed:
                self.text += part
                self.ended = not part
                self.changed.notify_all()
            if not part:
                break

    def first(self):
        """When the first byte comes, or at once if it has come."""
        came = select.select([self.pipe], [], [], PATIENCE)[0]
        now = now_us()
        self.read()
        with self.changed:
            self.changed.wait_for(lambda: self.text or self.ended, PATIENCE)
        if not came or not self.text:
            raise Cannot("the guest said nothing")
        return now

    def read(self):
        """From now on."""
        if not self.is_alive() and not self.ended:
            self.start()

    def wait_for(self, text, patience=PATIENCE):
        """Takes what was said up to a text."""
        self.read()
        with self.changed:
            self.changed.wait_for(lambda: text in self.text or self.ended,
                                  patience)
            if text not in self.text:
                raise Cannot("the guest did not say " + text.decode())
            before, _, self.text = self.text.partition(text)
        return before

    def close(self):
        """The monitor is gone."""
        if self.is_alive():
            self.join()
        self.pipe.close()


class Monitor:
    """A process with a control socket, and a console on its standard streams."""

    name = ""        # in the report
    variable = ""    # of the environment, with the program's path
    command = ""     # on PATH
    vcpu = "vcpu"    # what the names of its vCPU threads have in them
    only_bzimage = False  # takes no other kernels
    saves_changes = False
    types_on_terminals = False  # takes no input from a pipe

    def __init__(self, program, directory, guest, number=0):
        """Several may use the same directory if they have numbers."""
        self.program = program
        self.directory = directory
        self.guest = guest
        self.process = self.control = self.console = self.input = None
        self.sock = self.path("control%d" % number)
        self.errors = self.path("errors%d" % number)

    def path(self, name):
        """Of one of its files."""
        return os.path.join(self.directory, name)

    # ---------------------------------------------------------- the process

    def spawn(self, argv):
        for path in (self.sock, self.guest.vsock):
            if path and os.path.exists(path):
                os.unlink(path)
        output, stdin, self.input, stdout = self._streams()
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=errors,
                close_fds=False,  # none is inherited, and it costs time
                env={"PATH": "/usr/bin:/bin", "HOME": self.directory})
        os.close(stdin)
        os.close(stdout)
        self.console = Console(output)

    def _streams(self):
        """Our end of its output, its input, and the other way round."""
        if self.guest.typed and self.types_on_terminals:
            ours, theirs = os.openpty()
            tty.setraw(theirs)
            return (open(os.dup(ours), "rb", 0), theirs, open(ours, "wb", 0),
                    os.dup(theirs))
        ours_out, theirs_out = os.pipe()
        theirs_in, ours_in = os.pipe()
        return (open(ours_out, "rb", 0), theirs_in, open(ours_in, "wb", 0),
                theirs_out)

    def type(self, text):
        self.input.write(text)

    def last_words(self):
        """The first line of what it complained of."""
        with open(self.errors, errors="replace") as lines:
            return next((line.strip() for line in lines if line.strip()),
                        "it ended without a word")

    def connect(self):
        def attempt():
            if self.process.poll() is not None:
                raise Cannot(self.last_words())
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(self.sock)
            except OSError:
                control.close()
                return None
            control.settimeout(PATIENCE)
            return control

        self.control = until(attempt, "no control socket")

    def first_byte(self):
        """When the guest began to speak."""
        try:
            return self.console.first()
        except Cannot:
            if not self.console.ended:
                raise
            # Its output ends a little before it does.
            until(self.process.poll, "it closed the guest's console")
            raise Cannot(self.last_words()) from None

    def end(self):
        # Popen.wait with a limit sleeps longer and longer.
        watch = os.pidfd_open(self.process.pid)
        start = now_us()
        self.process.send_signal(signal.SIGTERM)
        ended, _, _ = select.select([watch], [], [], PATIENCE)
        took = now_us() - start
        os.close(watch)
        self.kill()
        if not ended:
            raise Cannot("SIGTERM does not end it")
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
            self.console.close()
            self.input.close()
        self.process = self.control = self.console = self.input = None

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
        """Its memory in KiB; guest RAM is told by its size."""
        sums = {}
        size = 0
        with open("/proc/%d/smaps" % self.process.pid) as lines:
            for line in lines:
                key, _, rest = line.partition(":")
                if key == "Size":
                    size = int(rest.split()[0])
                elif key in ("Rss", "Pss", "Private_Dirty"):
                    place = key, size >= self.guest.ram_mib * 1024
                    sums[place] = sums.get(place, 0) + int(rest.split()[0])
        return Memory(sums["Rss", False], sums["Private_Dirty", False],
                      sums["Pss", False] + sums.get(("Pss", True), 0),
                      sums["Private_Dirty", False]
                      + sums.get(("Private_Dirty", True), 0))

    # ------------------------------------------- what each has its own way of

    def launch(self):
        raise Cannot("it is not controlled by requests")

    def ask(self):
        raise Cannot("it is not controlled by requests")

    def configure(self):
        """Nothing, if all of it is on the command line."""

    def boot(self):
        self.send_boot()
        self.booted()

    def send_boot(self):
        """Only the start command ..."""
        raise Cannot("it has no start command")

    def booted(self):
        """... and its answer."""

    def prepare(self):
        """Writes files that run() reads, if there are any."""

    def run(self):
        raise NotImplementedError

    def save(self):
        raise Cannot("it has no snapshots")

    def save_changes(self):
        raise Cannot("it has no snapshots of changes")

    def resume(self):
        raise Cannot("it has no snapshots")

    def restore(self):
        """A new process, until it says that the guest runs."""
        self.spawn_copy()
        self.load_copy()
        self.loaded()

    def spawn_copy(self):
        """The exec of a new process, which is not waited for; many may be on
        their way at once."""
        raise Cannot("it has no snapshots")

    def load_copy(self):
        """What has to be asked of it then, if anything; is not waited for."""

    def loaded(self):
        """Waits for the answer to that."""

    def learn(self, word):
        """Nothing."""

    def socket_to(self, port):
        """A connection to a vsock port of the guest."""
        raise Cannot("it has no vsock")


def complaint(answer):
    """What an answer says of an error: the sentence, or the last of them."""
    text = answer.partition(b"\r\n\r\n")[2].decode(errors="replace").strip()
    try:
        body = json.loads(text)
    except ValueError:
        return text or "refused"
    if isinstance(body, dict):
        body = list(body.values())
    return str(body[-1] if isinstance(body, list) and body else body)


class Http(Monitor):
    """HTTP on a Unix socket."""

    ping = "/"

    def request(self, method, url, **fields):
        self.send(method, url, **fields)
        self.receive(url)

    def send(self, method, url, **fields):
        data = json.dumps(fields).encode() if fields else b""
        kind = b"Content-Type: application/json\r\n" if data else b""
        self.control.sendall(
            b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s"
            % (method.encode(), url.encode(), kind, len(data), data))

    def receive(self, url):
        """An answer, whole."""
        answer = b""
        while not self._is_whole(answer):
            part = self.control.recv(65536)
            if not part:
                raise Cannot("no answer to %s; %s" % (url,
                                                      self.last_words()))
            answer += part
        if not answer.startswith(b"HTTP/1.1 2"):
            raise Cannot("%s: %s" % (url, complaint(answer)))

    @staticmethod
    def _is_whole(answer):
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        return bool(end) and len(body) >= int(length[1] if length else 0)

    def launch(self):
        self.spawn(self.arguments())
        self.connect()
        self.ask()

    def ask(self):
        self.request("GET", self.ping)

    def arguments(self, *more):
        raise NotImplementedError


def connect_to(path, port):
    """To a port of the guest whose vsock device has a socket here."""
    conn = socket.socket(socket.AF_UNIX)
    conn.connect(path)
    conn.sendall(b"CONNECT %d\n" % port)
    if not conn.recv(64).startswith(b"OK"):
        raise Cannot("the guest does not listen on port %d" % port)
    return conn


class Rest(Http):
    """ember and Firecracker."""

    options = ()
    saves_changes = True

    def arguments(self, *more):
        return [self.program, "--api-sock", self.sock, *self.options, *more]

    def settings(self):
        """[(path, name in a configuration file, fields)]."""
        guest = self.guest
        tracked = {"track_dirty_pages": True} if guest.tracked else {}
        yield ("/machine-config", "machine-config",
               {"vcpu_count": 1, "mem_size_mib": guest.ram_mib, **tracked})
        initrd = {"initrd_path": guest.initrd} if guest.initrd else {}
        yield ("/boot-source", "boot-source",
               {"kernel_image_path": guest.kernel, "boot_args": guest.args,
                **initrd})
        for name, path in guest.drives:
            yield ("/drives/" + name, "drives",
                   [{"drive_id": name, "path_on_host": path,
                     "is_root_device": False}])
        if guest.tap:
            yield ("/network-interfaces/eth0", "network-interfaces",
                   [{"iface_id": "eth0", "host_dev_name": guest.tap,
                     "guest_mac": MAC}])
        if guest.vsock:
            yield "/vsock", "vsock", {"guest_cid": CID,
                                      "uds_path": guest.vsock}

    def configure(self):
        for path, _, fields in self.settings():
            self.request("PUT", path, **(
                fields[0] if isinstance(fields, list) else fields))

    def send_boot(self):
        self.send("PUT", "/actions", action_type="InstanceStart")

    def booted(self):
        self.receive("/actions")

    def prepare(self):
        whole = {"drives": []}
        for _, name, fields in self.settings():
            if isinstance(fields, list):
                whole.setdefault(name, []).extend(fields)
            else:
                whole[name] = fields
        with open(self.path("config"), "w") as out:
            json.dump(whole, out)

    def run(self):
        if not os.path.exists(self.path("config")):
            self.prepare()
        self.spawn(self.arguments("--config-file", self.path("config")))

    def _save(self, **kind):
        self.request("PATCH", "/vm", state="Paused")
        start = now_us()
        self.request("PUT", "/snapshot/create",
                     snapshot_path=self.path("state"),
                     mem_file_path=self.path("memory"), **kind)
        return now_us() - start, ("state", "memory")

    def save(self):
        return self._save()

    def save_changes(self):
        took = self._save(snapshot_type="Diff")
        self.resume()
        return took

    def resume(self):
        self.request("PATCH", "/vm", state="Resumed")

    def spawn_copy(self):
        self.spawn(self.arguments())

    def load_copy(self):
        self.connect()
        self.send("PUT", "/snapshot/load", snapshot_path=self.path("state"),
                  resume_vm=True, mem_backend={
                      "backend_type": "File",
                      "backend_path": self.path("memory")})

    def loaded(self):
        self.receive("/snapshot/load")

    def socket_to(self, port):
        return connect_to(self.guest.vsock, port)


class Ember(Rest):
    name = "ember"
    options = ("--log-path", "/dev/null")

    def _spawn_copy(self, *more):
        self.spawn(self.arguments("--restore", self.path("state"), "--mem",
                                  self.path("memory"), *more))

    def spawn_copy(self):
        learnt = self.path("set")
        self._spawn_copy(*(("--working-set", learnt, "--prefetch", "copy")
                           if os.path.exists(learnt) else ()))

    def load_copy(self):
        """The command line had it all."""

    def learn(self, word):
        path = self.path("set")
        self._spawn_copy("--record-working-set", path, "--record-until",
                         "request")
        self.connect()
        self.console.wait_for(word)
        self.request("PUT", "/vm/working-set", path=path)
        self.kill()

    def loaded(self):
        """The same."""


class Firecracker(Rest):
    name = "Firecracker"
    variable, command = "FIRECRACKER", "firecracker"
    options = ("--log-path", "/dev/null", "--level", "Error")


class Qemu(Monitor):
    """The microvm machine, with no devices but what the guest needs. Templates
    have their memory in a file that copies map privately."""

    name = "QEMU microvm"
    variable, command = "QEMU", "qemu-system-x86_64"
    vcpu = "CPU 0/KVM"
    lines = None     # of its control socket

    def arguments(self, *more):
        guest = self.guest
        words = [
            self.program, "-name", "microvm,debug-threads=on", "-accel", "kvm",
            "-M", "microvm,acpi=%s,pit=off,pic=off,rtc=off%s"
            % ("on" if guest.initrd else "off",
               ",memory-backend=ram" if guest.template else ""),
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

    def _give_state(self, mode):
        """Its migrations know files by descriptors."""
        with open(self.path("state"), mode) as file:
            socket.send_fds(self.control, [
                b'{"execute":"getfd","arguments":{"fdname":"state"}}'],
                [file.fileno()])
        self.receive()

    def _ram(self, shared):
        """Where a template's memory is."""
        if not self.guest.template:
            return ()
        return ("-object", "memory-backend-file,id=ram,mem-path=%s,size=%dM,"
                "share=%s" % (self.path("memory"), self.guest.ram_mib, shared))

    def request(self, command, **arguments):
        self.send(command, **arguments)
        return self.receive()

    def send(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self.control.sendall(json.dumps(message).encode())

    def receive(self):
        """The next line that is no event."""
        while True:
            line = self.lines.readline()
            if not line:
                raise Cannot("no answer; " + self.last_words())
            answer = json.loads(line)
            if "error" in answer:
                raise Cannot(str(answer["error"]))
            if "event" not in answer:
                return answer.get("return")

    def _open(self):
        self.connect()
        self.lines = self.control.makefile("rb")
        self.receive()  # the greeting
        self.request("qmp_capabilities")
        if self.guest.template:
            self.request("migrate-set-capabilities", capabilities=[
                {"capability": "x-ignore-shared", "state": True}])

    def launch(self):
        self.spawn(self.arguments("-S", *self._ram("on")))
        self._open()

    def ask(self):
        self.request("query-status")

    def send_boot(self):
        self.send("cont")

    def booted(self):
        self.receive()

    def run(self):
        self.spawn(self.arguments(*self._ram("on")))

    def save(self):
        """A template is saved running, so that its copies run by
        themselves."""
        if not self.guest.template:
            self.request("stop")
        # As fast as it can; the default is a limit for networks.
        self.request("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        start = now_us()
        self._give_state("wb")
        self.request("migrate", uri="fd:state")

        def done():
            status = self.request("query-migrate").get("status")
            if status == "failed":
                raise Cannot("its migration failed")
            return status if status == "completed" else None

        until(done, "no end of the migration")
        return now_us() - start, (
            ("state", "memory") if self.guest.template else ("state",))

    def resume(self):
        self.request("cont")

    def spawn_copy(self):
        self.spawn(self.arguments("-incoming", "defer", *self._ram("off")))

    def load_copy(self):
        self._open()
        self._give_state("rb")
        self.send("migrate-incoming", uri="fd:state")

    def loaded(self):
        self.receive()

        def done():
            status = self.request("query-status")["status"]
            return None if status == "inmigrate" else status

        # What was saved while it was stopped is so now.
        if until(done, "no end of the migration") != "running":
            self.request("cont")

    def socket_to(self, port):
        conn = socket.socket(socket.AF_VSOCK)
        conn.connect((CID, port))
        return conn


class CloudHypervisor(Http):
    """Copies read their memory when they need it."""

    name = "Cloud Hypervisor"
    variable, command = "CLOUD_HYPERVISOR", "cloud-hypervisor"
    types_on_terminals = True
    ping = "/api/v1/vmm.ping"

    def arguments(self, *more):
        return [self.program, "--api-socket", "path=" + self.sock, *more]

    def configure(self):
        guest = self.guest
        payload = {"kernel": guest.kernel, "cmdline": guest.args}
        if guest.initrd:
            payload["initramfs"] = guest.initrd
        settings = {
            "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
            "memory": {"size": guest.ram_mib << 20}, "payload": payload,
            "serial": {"mode": "Tty"}, "console": {"mode": "Off"}}
        if guest.drives:
            settings["disks"] = [{"id": name, "path": path,
                                  "image_type": "Raw"}
                                 for name, path in guest.drives]
        if guest.tap:
            settings["net"] = [{"tap": guest.tap, "mac": MAC}]
        if guest.vsock:
            settings["vsock"] = {"cid": CID, "socket": guest.vsock}
        self.request("PUT", "/api/v1/vm.create", **settings)

    def send_boot(self):
        self.send("PUT", "/api/v1/vm.boot")

    def booted(self):
        self.receive("/api/v1/vm.boot")

    def run(self):
        guest = self.guest
        words = ["--cpus", "boot=1", "--memory", "size=%dM" % guest.ram_mib,
                 "--kernel", guest.kernel, "--serial", "tty", "--console",
                 "off"]
        if guest.args:
            words += ["--cmdline", guest.args]
        if guest.initrd:
            words += ["--initramfs", guest.initrd]
        if guest.drives:
            words += ["--disk"] + ["id=%s,path=%s,image_type=raw" % drive
                                   for drive in guest.drives]
        if guest.tap:
            words += ["--net", "tap=%s,mac=%s" % (guest.tap, MAC)]
        if guest.vsock:
            words += ["--vsock", "cid=%d,socket=%s" % (CID, guest.vsock)]
        self.spawn(self.arguments(*words))

    def save(self):
        self.request("PUT", "/api/v1/vm.pause")
        start = now_us()
        self.request("PUT", "/api/v1/vm.snapshot",
                     destination_url="file://" + self.directory)
        return now_us() - start, ("state.json", "config.json",
                                  "memory-ranges")

    def resume(self):
        self.request("PUT", "/api/v1/vm.resume")

    def spawn_copy(self):
        self.spawn(self.arguments(
            "--restore", "source_url=file://%s,memory_restore_mode=ondemand,"
            "resume=true" % self.directory))

    def socket_to(self, port):
        return connect_to(self.guest.vsock, port)


class Kvmtool(Monitor):
    """A command line and nothing else."""

    name = "kvmtool"
    variable, command = "KVMTOOL", "lkvm"
    vcpu = "kvm-vcpu"
    # It takes no kernel but a bzImage, and enters that in real mode.
    only_bzimage = True
    types_on_terminals = True

    def run(self):
        guest = self.guest
        words = [self.program, "run", "--kernel", guest.kernel, "--cpus", "1",
                 "--mem", str(guest.ram_mib), "--params", guest.args,
                 "--console", "serial", "--nodefaults", "--loglevel", "error",
                 "--name", "ember-perf-%d" % os.getpid(), "--network",
                 "mode=tap,tapif=%s,guest_mac=%s,script=none"
                 % (guest.tap, MAC) if guest.tap else "mode=none"]
        if guest.initrd:
            words += ["--initrd", guest.initrd]
        for _, path in guest.drives:
            words += ["--disk", path]
        if guest.vsock:
            words += ["--vsock", str(CID)]
        self.spawn(words)

    def socket_to(self, port):
        conn = socket.socket(socket.AF_VSOCK)
        conn.connect((CID, port))
        return conn


OTHERS = (Qemu, Firecracker, CloudHypervisor, Kvmtool)


def find(driver):
    """The path of a monitor's program, None without."""
    path = os.environ.get(driver.variable) or shutil.which(driver.command)
    return os.path.abspath(path) if path and os.path.exists(path) else None


def all_drivers(ember):
    """[(class, program)] of what is there; ember first."""
    found = [(Ember, os.path.abspath(ember))]
    found += [(driver, find(driver)) for driver in OTHERS]
    return [(driver, program) for driver, program in found if program]
