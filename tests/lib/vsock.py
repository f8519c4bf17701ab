# SPDX-License-Identifier: Apache-2.0
"""The host's end of a guest's socket device."""
import os
import socket
import struct
import threading

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


def echo_back(sock, count=1 << 30):
    """Serves up to @count connections to a listening socket: sends back what
    comes, and ends when the other side does."""
    def serve(conn):
        with conn:
            while True:
                data = conn.recv(1 << 16)
                if not data:
                    return
                conn.sendall(data)

    def accept():
        for _ in range(count):
            try:
                conn, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(conn,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def execute(conn, command):
    """(output, exit status) of a command run by the agent."""
    data = command.encode()
    conn.send(struct.pack("<I", len(data)) + data)
    output = b""
    while True:
        kind, length = struct.unpack("<BI", conn.receive(5))
        data = conn.receive(length)
        if kind == 2:
            return output, int.from_bytes(data, "little")
        output += data


def pattern(start, end):
    """The agent's test bytes from @start to @end, multiples of 8."""
    mask = (1 << 64) - 1
    return b"".join(((n + 1) * 0x9e3779b97f4a7c15 & mask).to_bytes(8, "little")
                    for n in range(start // 8, end // 8))
