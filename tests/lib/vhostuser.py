# SPDX-License-Identifier: Apache-2.0
"""Back ends of vhost-user block devices: QEMU's, which is a good one, and one
that says what it is told to."""
import array
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

from ember import TIMEOUT
from tap import Skip

DAEMON = "qemu-storage-daemon"


class Daemon:
    """A qemu-storage-daemon that exports a file; it ends with the test."""

    def __init__(self, t, disk, name="backend", writable=True):
        if not shutil.which(DAEMON):
            raise Skip(DAEMON + " is not installed")
        self.path = t.path(name + ".sock")
        onoff = "off" if writable else "on"
        self.process = subprocess.Popen(
            [DAEMON, "--blockdev", "driver=file,node-name=file,filename=%s,"
             "read-only=%s" % (disk, onoff),
             "--blockdev", "driver=raw,node-name=disk,file=file,read-only=%s"
             % onoff,
             "--export", "type=vhost-user-blk,id=export,node-name=disk,"
             "addr.type=unix,addr.path=%s,writable=%s" % (
                 self.path, "on" if writable else "off")],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        t.defer(self.end)
        deadline = time.monotonic() + TIMEOUT
        while not os.path.exists(self.path):
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.005)
        os.chmod(self.path, 0o666)  # for monitors in jails

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        self.process.kill()
        self.process.wait()

    def drive(self, name="d", **fields):
        """The body of a PUT /drives/{name}."""
        return {"drive_id": name, "is_root_device": False,
                "socket": self.path, **fields}


GET_FEATURES, GET_PROTOCOL_FEATURES, GET_CONFIG = 1, 15, 24
GET_VRING_BASE = 11
VERSION_1, PROTOCOL_FEATURES = 1 << 32, 1 << 30
CONFIG = 1 << 9
REPLY = 5


def reply(request, payload, flags=REPLY, size=None):
    return struct.pack("<III", request, flags,
                       len(payload) if size is None else size) + payload


def honest_answers():
    """What a back end of a disk of 256 sectors says."""
    return {
        GET_FEATURES: reply(GET_FEATURES, struct.pack(
            "<Q", VERSION_1 | PROTOCOL_FEATURES)),
        GET_PROTOCOL_FEATURES: reply(GET_PROTOCOL_FEATURES,
                                     struct.pack("<Q", CONFIG)),
        GET_CONFIG: reply(GET_CONFIG, struct.pack("<IIIQ", 0, 60, 0, 256)
                          + bytes(52)),
        GET_VRING_BASE: reply(GET_VRING_BASE, struct.pack("<II", 0, 0)),
    }


class Liar:
    """Gives the answers of a table: bytes by request, and b"" to those that it
    wants to leave unanswered. None ends the connection."""

    def __init__(self, t, answers, name="liar"):
        self.path = t.path(name + ".sock")
        self.answers = answers
        self.seen = []
        self.fds = []
        self.stream = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        os.chmod(self.path, 0o666)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        t.defer(self.end)

    def _run(self):
        try:
            while True:
                self.stream, _ = self._listener.accept()
                self._serve()
                self.stream.close()
        except OSError:
            pass

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part, ancillary, _, _ = self.stream.recvmsg(
                size - len(data), socket.CMSG_SPACE(32))
            for _, _, raw in ancillary:
                fds = array.array("i")
                fds.frombytes(raw)
                self.fds += fds
            if not part:
                raise EOFError
            data += part
        return data

    def _serve(self):
        try:
            while True:
                request, _, size = struct.unpack("<III", self._receive(12))
                self._receive(size)
                self.seen.append(request)
                answer = self.answers.get(request, b"")
                if answer is None:
                    return
                self.stream.sendall(answer)
        except (OSError, EOFError):
            pass

    def end(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.stream:
            try:
                self.stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(TIMEOUT)
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def wait_for(self, request):
        deadline = time.monotonic() + TIMEOUT
        while request not in self.seen:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.005)

    def drive(self, name="d", **fields):
        return {"drive_id": name, "is_root_device": False,
                "socket": self.path, **fields}
