# SPDX-License-Identifier: Apache-2.0
"""Drives one monitor process the way a client does.

    from ember import Monitor

    m = Monitor(test=t)                       # starts it, waits for its socket
    m.put("/boot-source", kernel_image_path=guest("hello"))
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"hello")                        # on the serial console
    m.send(b"typed\\n")                        # into the serial console
    assert m.wait() == 0                      # exit code
    status, body = m.api("GET", "/")          # any request, any answer

The socket is spoken to byte by byte, without an HTTP library, because the
exact bytes of the answers are part of the interface.
"""
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import injail
from tap import SLOW, Skip

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
BINARY = os.environ.get("EMBER", os.path.join(ROOT, "build", "ember"))
GUESTS = os.environ.get("EMBER_GUESTS", os.path.join(
    os.path.dirname(os.path.abspath(BINARY)), "tests", "guests"))
TIMEOUT = 10 * SLOW
# Names of resource limits as the jailer has them, where others differ.
LIMITS = {"no-file": "NOFILE"}

NOT_BEFORE_START = ("The requested operation is not supported before "
                    "starting the microVM.")
NOT_AFTER_START = ("The requested operation is not supported after "
                   "starting the microVM.")


def guest(name):
    """Path of a tiny guest (tests/guests/NAME.c)."""
    path = os.path.join(GUESTS, name + ".elf")
    if not os.path.exists(path):
        raise FileNotFoundError("%s is not built (make guests)" % path)
    return path


def guest_points(test, console):
    """Turns a guest's report into points of the test; returns its lines.
    Reports are "ok NAME" and "fail NAME DETAIL"; the last line is "done"."""
    lines = console.decode("latin-1").splitlines()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word in ("ok", "fail"):
            name, _, detail = rest.partition(" ")
            test.point(word == "ok", name, detail)
    assert "done" in lines, "the guest did not come to its end"
    return lines


def need_kvm():
    """Skips the running test where no guest can be started."""
    kvm_get_api_version = 0xae00
    try:
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Skip("/dev/kvm: " + error.strerror)
    try:
        fcntl.ioctl(fd, kvm_get_api_version)
    except OSError as error:
        raise Skip("/dev/kvm is not KVM: " + error.strerror)
    finally:
        os.close(fd)


def shrink_pipe(pipe, size=4096):
    """Gives a pipe (its descriptor, or a FIFO's path while somebody has it
    open) little room, so that a test fills it quickly."""
    f_setpipe_sz = 1031  # fcntl.F_SETPIPE_SZ, from Python 3.10 on
    if isinstance(pipe, int):
        fcntl.fcntl(pipe, f_setpipe_sz, size)
        return
    fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, f_setpipe_sz, size)
    os.close(fd)


def sanitized(kind=""):
    """True for a binary built with (this kind of) sanitizer."""
    with open(BINARY, "rb") as file:
        return kind.encode() + b"Sanitizer" in file.read()


def observed(command):
    """The command so that its system calls are written down, if somebody wants
    that (EMBER_STRACE, a directory): thread, number, raw arguments, result. The
    monitor stays our child."""
    directory = os.environ.get("EMBER_STRACE")
    if not directory:
        return command
    os.makedirs(directory, exist_ok=True)
    handle, path = tempfile.mkstemp(prefix="calls-", dir=directory)
    os.close(handle)
    return ["strace", "-D", "-f", "-Y", "-qq", "-e", "signal=none", "-X",
            "raw", "-e", "raw=all", "-o", path, "--"] + command


def skip_in_jail(reason):
    """Skips the running test where monitors run in jails."""
    if injail.JAILER:
        raise Skip("in a jail: " + reason)


class Gone(AssertionError):
    """The monitor, or its side of a connection, is no longer there."""


class Response:
    """An answer as it came: raw bytes, and what they mean."""

    def __init__(self, head, body):
        self.raw = head + body
        lines = head[:-4].split(b"\r\n")
        self.status_line = lines[0]
        self.headers = [tuple(line.split(b": ", 1)) for line in lines[1:]]
        self.body = body

    @property
    def status(self):
        return int(self.status_line.split(b" ")[1])

    def header(self, name):
        """The header's value, or None."""
        return dict(self.headers).get(name)

    @property
    def json(self):
        return json.loads(self.body) if self.body else None


def request_bytes(method, path, body=None, headers=()):
    """The bytes of a request; @body may be bytes, text, or a JSON value."""
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: localhost"]
    lines += headers
    if body is not None:
        lines += ["Content-Type: application/json",
                  "Content-Length: %d" % len(body)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class Connection:
    """One connection to the API socket."""

    def __init__(self, path, timeout=TIMEOUT):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.pending = b""

    def send(self, data):
        self.socket.sendall(data)

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise Gone("connection closed after %r" % self.pending)
        self.pending += data

    def receive(self):
        """The next Response, taken apart by its own Content-Length."""
        while b"\r\n\r\n" not in self.pending:
            self._more()
        end = self.pending.index(b"\r\n\r\n") + 4
        head = self.pending[:end]
        length = Response(head, b"").header(b"Content-Length")
        total = end + int(length or 0)
        while len(self.pending) < total:
            self._more()
        body = self.pending[end:total]
        self.pending = self.pending[total:]
        return Response(head, body)

    def receive_all(self):
        """Everything until the monitor closes the connection."""
        data, self.pending = self.pending, b""
        while True:
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError:
                part = b""
            if not part:
                return data
            data += part

    def silent(self, seconds):
        """True when nothing arrives and nothing is closed for that long."""
        if self.pending:
            return False
        return not select.select([self.socket], [], [], seconds)[0]

    def request(self, method, path, body=None, headers=()):
        self.send(request_bytes(method, path, body, headers))
        return self.receive()

    def close(self):
        self.socket.close()


class Console:
    """What a pipe has delivered so far, read by a thread of its own, so that
    the monitor never waits for us."""

    def __init__(self, file):
        self._file = file
        self._data = b""
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while not self._ended:
            self._wait()
            with self._changed:
                self._take()

    def _wait(self, milliseconds=None):
        """Until there is something, or the end; false if that is later."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return poll.poll(milliseconds)

    def _take(self):
        """What there is, if there is anything. Lock held."""
        if self._ended or not self._wait(0):
            return
        data = os.read(self._file.fileno(), 65536)
        self._data += data
        self._ended = not data
        self._changed.notify_all()

    @property
    def data(self):
        """All that was written up to now."""
        with self._changed:
            self._take()
            return self._data

    def wait_for(self, text, start, timeout):
        """Index just behind @text, looked for from @start on; or None."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                at = self._data.find(text, start)
                if at >= 0:
                    return at + len(text)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    return None
                self._changed.wait(left)

    def close(self):
        self._thread.join(TIMEOUT)
        with self._changed:
            self._ended = True
            self._file.close()


class Monitor:
    """A running monitor.

    @args     further command line arguments
    @api      serve the API (False adds --no-api)
    @log      keep log lines out of the console: --log-path to a file
    @test     a tap.Test: the monitor ends with it, and its console and log
              are shown when it fails
    @wait     return when the API answers to connections
    @limits   resource limits, soft = hard: "fsize", "no-file", "as", "core"
    Other keywords go to subprocess.Popen.
    """

    def __init__(self, binary=None, args=(), test=None, api=True, log=True,
                 wait=True, limits=None, **popen):
        self.binary = binary or BINARY
        self.dir = tempfile.mkdtemp(prefix="ember-")
        self.socket_path = os.path.join(self.dir, "api.socket")
        self.log_path = os.path.join(self.dir, "log")
        self._seen = 0
        own = ["--api-sock", self.socket_path] if api else ["--no-api"]
        if log:
            own += ["--log-path", self.log_path, "--level", "Debug",
                    "--show-level"]
        self.jail = self.process = None
        try:
            self._start(own + list(args), limits or {}, popen)
        except BaseException:
            self._forget()
            raise
        self._out = self._pipe(self.process.stdout)
        self._err = self._pipe(self.process.stderr)
        if test:
            test.defer(self.close)
            test.attach("console", lambda: self.console.decode("latin-1"))
            test.attach("stderr", lambda: self.stderr.decode("latin-1"))
            test.attach("log", lambda: self.log)
        if api and wait:
            self._wait_for_socket()

    def _start(self, args, limits, popen):
        self.command = [self.binary] + args
        if injail.JAILER:
            injail.share(self.dir)
            self.jail = injail.Jail(self.binary, args,
                                    popen.get("pass_fds", ()), limits)
            self.command = self.jail.command
            popen = {"umask": 0o022, **popen}
            limits = self.jail.inherited
        if limits:
            popen["preexec_fn"] = lambda: _set_limits(limits)
        self.process = subprocess.Popen(
            observed(self.command), **{"stdin": subprocess.PIPE, "bufsize": 0,
                             "stdout": subprocess.PIPE,
                             "stderr": subprocess.PIPE, **popen})

    @staticmethod
    def _pipe(file):
        return Console(file) if file else None

    def _wait_for_socket(self):
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.connect().close()
                if self.jail:
                    self.jail.check(self.pid)
                return
            except OSError:
                time.sleep(0.001)
        raise Gone("no API socket; exit code %s, stderr %r, log:\n%s" % (
            self.process.poll(), self.stderr, self.log))

    # ------------------------------------------------------------------- API

    def connect(self, timeout=TIMEOUT):
        return Connection(self.socket_path, timeout)

    def request(self, method, path, body=None, headers=()):
        """One request on a connection of its own; a Response."""
        connection = self.connect()
        try:
            return connection.request(method, path, body, headers)
        finally:
            connection.close()

    def api(self, method, path, body=None):
        """(status, parsed body or None)"""
        response = self.request(method, path, body)
        return response.status, response.json

    def api_quietly(self, *request):
        """A request that may cost the monitor its life."""
        try:
            self.request(*request)
        except (Gone, OSError):
            pass

    def get(self, path):
        """The body of a GET that must succeed."""
        status, body = self.api("GET", path)
        assert status == 200, "GET %s: %s %s" % (path, status, body)
        return body

    def _change(self, method, path, fields):
        status, body = self.api(method, path, fields)
        assert status == 204, "%s %s %s: %s %s" % (method, path, fields,
                                                   status, body)

    def put(self, path, **fields):
        """A PUT that must succeed."""
        self._change("PUT", path, fields)

    def patch(self, path, **fields):
        """A PATCH that must succeed."""
        self._change("PATCH", path, fields)

    def fault(self, method, path, body=None):
        """The fault message of a request that must be refused."""
        status, answer = self.api(method, path, body)
        assert status == 400, "%s %s %s: %s %s, not 400" % (
            method, path, body, status, answer)
        assert list(answer) == ["fault_message"], answer
        return answer["fault_message"]

    def start(self, kernel=None, boot_args=None, initrd=None, **machine):
        """Configures what is given, then starts the guest."""
        if machine:
            self.patch("/machine-config", **machine)
        if kernel:
            source = {"kernel_image_path": kernel}
            if boot_args is not None:
                source["boot_args"] = boot_args
            if initrd:
                source["initrd_path"] = initrd
            self.put("/boot-source", **source)
        self.put("/actions", action_type="InstanceStart")

    # --------------------------------------------------------------- console

    @property
    def console(self):
        """Bytes of standard output so far: the guest's serial console."""
        return self._out.data if self._out else b""

    @property
    def stderr(self):
        return self._err.data if self._err else b""

    def expect(self, text, timeout=TIMEOUT):
        """Waits for @text behind what was expected before; returns the bytes
        up to and with it."""
        start = self._seen
        end = self._out.wait_for(text, start, timeout)
        if end is None:
            raise AssertionError("%r did not appear on the console; since "
                                 "the last match: %r" % (
                                     text, self.console[start:][-2000:]))
        self._seen = end
        return self.console[start:end]

    def send(self, data):
        """Types into the console."""
        while data:
            data = data[os.write(self.process.stdin.fileno(), data):]

    # --------------------------------------------------------------- process

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        try:
            with open(self.log_path, errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def wait_log(self, text, timeout=TIMEOUT):
        """Waits until the log contains @text."""
        deadline = time.monotonic() + timeout
        while text not in self.log:
            assert time.monotonic() < deadline, "%r not in the log" % text
            time.sleep(0.005)

    def alive(self):
        return self.process.poll() is None

    def signal(self, signum):
        self.process.send_signal(signum)

    def wait(self, timeout=TIMEOUT):
        """The exit code; negative: the signal that killed it. All of the
        console has arrived when this returns."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("still runs after %g s" % timeout)
        for pipe in (self._out, self._err):
            if pipe:
                pipe.close()
        for word in (b"Sanitizer: ", b"runtime error: "):
            assert word not in self.stderr, self.stderr.decode("latin-1")
        return code

    def close(self):
        """Ends the monitor if it still runs, and forgets its files."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        try:
            self.wait()
        finally:
            if self.process.stdin:
                self.process.stdin.close()
            self._forget()

    def _forget(self):
        if self.jail:
            self.jail.close()
            self.jail = None
        shutil.rmtree(self.dir, ignore_errors=True)


def _set_limits(limits):
    for name, value in limits.items():
        number = getattr(resource, "RLIMIT_" + LIMITS.get(name, name.upper()))
        resource.setrlimit(number, (value, value))


def run(*args, timeout=TIMEOUT, jail=True):
    """Runs the monitor to its end with these arguments; (exit code, standard
    output, standard error) as text."""
    inside = injail.JAILER and jail and injail.Jail(BINARY, args, (), {})
    try:
        done = subprocess.run(
            observed(inside.command if inside else [BINARY, *args]),
            text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
            umask=0o022)
        return done.returncode, done.stdout, done.stderr
    finally:
        if inside:
            inside.close()
