# SPDX-License-Identifier: Apache-2.0
"""The host's end of a guest's socket device."""
import os
import socket
import time

from tap import SLOW

TIMEOUT = 10 * SLOW
CID = 3


class Stream:
    """One connection, as bytes."""

    def __init__(self, sock):
        self.socket = sock
        self.socket.settimeout(TIMEOUT)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, count):
        """Exactly so many bytes, fewer at the end."""
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                break
            data += part
        return data

    def line(self):
        data = b""
        while not data.endswith(b"\n"):
            part = self.socket.recv(1)
            if not part:
                break
            data += part
        return data

    def rest(self):
        """Everything up to the end."""
        data = bytearray()
        while True:
            try:
                part = self.socket.recv(1 << 18)
            except ConnectionResetError:
                part = b""
            if not part:
                return bytes(data)
            data += part

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()


class Vsock:
    """A guest's device and its Unix sockets, in the test's directory."""

    def __init__(self, t, name="v.sock"):
        self.test = t
        self.path = t.path(name)

    def configure(self, monitor, **config):
        monitor.put("/vsock", **{"guest_cid": CID, "uds_path": self.path,
                                 **config})

    def raw(self):
        """A connection that has not said anything yet."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT)
        sock.connect(self.path)
        return Stream(sock)

    def try_connect(self, port):
        """What the device answers to CONNECT: a line, or nothing."""
        stream = self.raw()
        stream.send(b"CONNECT %d\n" % port)
        answer = stream.line()
        stream.close()
        return answer

    def connect(self, port):
        """A connection to the guest's @port; .port is the host's."""
        stream = self.raw()
        stream.send(b"CONNECT %d\n" % port)
        answer = stream.line()
        assert answer.startswith(b"OK "), "CONNECT %d: %r" % (port, answer)
        stream.port = int(answer[3:])
        return stream

    def listen(self, port, backlog=128):
        """Where the guest's connections to @port arrive."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = "%s_%d" % (self.path, port)
        sock.bind(path)
        sock.listen(backlog)
        sock.settimeout(TIMEOUT)
        self.test.defer(os.unlink, path)
        self.test.defer(sock.close)
        return sock
