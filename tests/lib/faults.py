# SPDX-License-Identifier: Apache-2.0
"""Page-fault handlers: tests/lib/fault_handler.c, which is a good one, and one
of the worst kind, which serves what it likes, when it likes, for as long as it
likes."""
import array
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import threading

from ember import GUESTS

UFFDIO_COPY = 0xc028aa03
PAGE = 4096
PAGEFAULT = 0x12


def good_handler(path, memory, ahead=0):
    """Serves a memory file, and @ahead pages behind each that is asked for, at
    a socket; the process, which is ready."""
    process = subprocess.Popen(
        [os.path.join(GUESTS, "fault_handler"), path, memory, str(ahead)],
        stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


class Handler:
    """Serves one microVM in a thread. @page_of(offset, number) gives the bytes
    for the page at that offset of the memory file, in the fault of that
    number, or None: then the page is not served."""

    def __init__(self, t, page_of):
        self.path = t.path("handler.sock")
        self.page_of = page_of
        self.faults = 0
        self.message = None
        self._uffd = self._stream = None
        self._stop, stop = os.pipe()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, args=(stop,),
                                        daemon=True)
        self._thread.start()
        t.defer(self.die)

    def body(self, snapshot, **fields):
        """A request to load a snapshot from here."""
        return {**snapshot.body(**fields), "mem_backend": {
            "backend_type": "Uffd", "backend_path": self.path}}

    def die(self):
        """As a process does: everything it had is closed."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._stop is not None:
            os.close(self._stop)  # the other end is watched
            self._stop = None
        self._thread.join()
        self._listener.close()
        if self._uffd is not None:
            os.close(self._uffd)
            self._uffd = None
        if self._stream:
            self._stream.close()

    def _run(self, stop):
        # The pipe's write end is ours, its read end the caller's: closing that
        # makes this one readable with an error.
        try:
            self._stream, _ = self._listener.accept()
            self._take()
            self._serve(stop)
        except OSError:
            pass
        finally:
            os.close(stop)

    def _take(self):
        fds = array.array("i")
        text, control, _, _ = self._stream.recvmsg(
            65536, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(control[0][2][:fds.itemsize])
        self._uffd = fds[0]
        self.message = json.loads(text)

    def _offset(self, address):
        for region in self.message:
            inside = address - region["base_host_virt_addr"]
            if 0 <= inside < region["size"]:
                return region["offset"] + inside
        raise AssertionError("a fault outside of all regions")

    def _serve(self, stop):
        poll = select.poll()
        for fd in (self._uffd, self._stream.fileno(), stop):
            poll.register(fd, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._uffd not in ready:
                return  # told to die, or the microVM is gone
            message = os.read(self._uffd, 32)
            if message[0] == PAGEFAULT:
                self._answer(struct.unpack_from("<Q", message, 16)[0])

    def _answer(self, address):
        address -= address % PAGE
        self.faults += 1
        data = self.page_of(self._offset(address), self.faults)
        if data is None:
            return
        source = ctypes.create_string_buffer(data, PAGE)
        fcntl.ioctl(self._uffd, UFFDIO_COPY, bytearray(struct.pack(
            "<QQQQq", address, ctypes.addressof(source), PAGE, 0, 0)))


def honest(snapshot):
    """The pages as they were saved."""
    fd = os.open(snapshot.memory, os.O_RDONLY)
    return lambda offset, number: os.pread(fd, PAGE, offset)
