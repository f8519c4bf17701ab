# SPDX-License-Identifier: Apache-2.0
"""What tests of snapshots share: two files and what is done with them, and
guests that notice what became of them."""
import os
import time

from ember import TIMEOUT, Monitor, guest, need_kvm

MIB = 1 << 20
PAGE = 4096
LOAD = "Load snapshot error: "
RESTORE = LOAD + "Failed to restore from snapshot: "


class Snapshot:
    """Two files of a test's own."""

    def __init__(self, t, name="snap"):
        self.state, self.memory = t.path(name), t.path(name + ".mem")

    def fields(self, **fields):
        """The body of a request to create it."""
        return {"snapshot_path": self.state, "mem_file_path": self.memory,
                **fields}

    def create(self, m, **fields):
        m.put("/snapshot/create", **self.fields(**fields))

    def body(self, **fields):
        """The body of a request to load it."""
        return {"snapshot_path": self.state,
                "mem_backend": {"backend_type": "File",
                                "backend_path": self.memory}, **fields}

    def load(self, t, resume=True, args=(), **fields):
        m = Monitor(test=t, args=args)
        m.put("/snapshot/load", **self.body(resume_vm=resume, **fields))
        return m


def stretches(path):
    """What of a file is not holes: (offset, bytes) of each stretch."""
    with open(path, "rb") as source:
        fd, at = source.fileno(), 0
        while True:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:  # nothing but holes
                return
            at = os.lseek(fd, start, os.SEEK_HOLE)
            yield start, os.pread(fd, at - start, start)


def pages(path):
    """Those of a memory file that are not holes: number -> bytes."""
    return {(start + i) // PAGE: data[i:i + PAGE]
            for start, data in stretches(path)
            for i in range(0, len(data), PAGE)}


def merge(diff, whole):
    """What a client does with a diff in a file of its own."""
    assert os.stat(diff).st_size == os.stat(whole).st_size
    with open(whole, "r+b") as target:
        for start, data in stretches(diff):
            target.seek(start)
            target.write(data)


def start_guest(t, name, text, boot_args="", devices=None, **machine):
    """A monitor with this guest, which has said @text. @devices: a function
    that adds them."""
    need_kvm()
    m = Monitor(test=t)
    if devices:
        devices(m)
    m.start(guest(name), boot_args=boot_args, **machine)
    m.expect(text)
    return m


def turning(t, boot_args="", devices=None, **machine):
    """A guest that knows whether its registers and memory go together."""
    return start_guest(t, "torn", b"turn 5\n", boot_args, devices, **machine)


def disk_user(t, **machine):
    """A guest that uses a disk when it is told, and has a socket device."""
    def devices(m):
        m.put("/drives/disk", drive_id="disk", is_root_device=False,
              path_on_host=t.write("disk", bytes(128 * 512)))
        m.put("/vsock", guest_cid=3, uds_path=t.path("vsock"))

    m = start_guest(t, "disk", b"ready\n", devices=devices, **machine)
    uses_disk(m)
    return m


def uses_disk(m):
    """A write and a read."""
    for letter in (b"w", b"r"):
        m.send(letter)
        m.expect(b"status 0 data 0x5555aaaa\n")


def pause(m):
    """What is on the console when nothing more comes."""
    m.patch("/vm", state="Paused")
    return m.console


def taken(t, m):
    """A snapshot of a guest; its monitor ends."""
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    m.close()
    return snapshot


def turns(console):
    """The numbers of the turns that were reported in whole lines."""
    return [int(line.split()[1]) for line in console.split(b"\n")[:-1]
            if line.startswith(b"turn ") and line[5:].isdigit()]


def whole(m, count=3):
    """Whether a guest that was loaded goes on, and not torn."""
    deadline = time.monotonic() + TIMEOUT
    while len(turns(m.console)) < count and b"torn" not in m.console and (
            time.monotonic() < deadline):
        time.sleep(0.002)
    return b"torn" not in m.console and len(turns(m.console)) >= count


def refused_load(t, body, text, name, prefix=RESTORE):
    """A load that fails ends the monitor, after it has answered."""
    m = Monitor(test=t)
    fault = m.fault("PUT", "/snapshot/load", body)
    code = m.wait()
    t.point(text in fault and fault.startswith(prefix) and code == 1, name,
            "%s; exit code %s" % (fault, code))
