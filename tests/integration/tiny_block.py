# SPDX-License-Identifier: Apache-2.0
"""Block devices, used by a small driver of our own."""
import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, guest_points, need_kvm, skip_in_jail
from snapshots import Snapshot
from tap import Skip, main, test

SECTOR = 512
SECTORS = 256
SMALL_KIB = 256
SYS_IO_URING_SETUP = 425
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
ALLOW, REFUSE_EPERM = 0x7fff0000, 0x00050001


def numbered(count=SECTORS):
    """A disk whose sectors begin with their own number."""
    return b"".join(struct.pack("<Q", n) + bytes([n & 0xff]) * (SECTOR - 8)
                    for n in range(count))


def drive(m, name, path, **fields):
    m.put("/drives/" + name, drive_id=name, path_on_host=path,
          **{"is_root_device": False, **fields})


def use(t, boot_args, **fields):
    """Runs the well-behaved driver over a numbered disk."""
    need_kvm()
    disk = t.write("disk", numbered())
    m = Monitor(test=t)
    drive(m, "d", disk, **fields)
    m.start(guest("block"), boot_args=boot_args)
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    with open(disk, "rb") as file:
        return lines, file.read(), disk


def check_written(t, data, emptied=()):
    """The driver has written to sector 5, and emptied some."""
    want = bytearray(numbered())
    wrote = struct.pack("<Q", 0x1122334455667788)
    want[5 * SECTOR:6 * SECTOR] = wrote + data[5 * SECTOR + 8:6 * SECTOR]
    for first, count in emptied:
        want[first * SECTOR:(first + count) * SECTOR] = bytes(count * SECTOR)
    t.point(data == want, "what was written, and nothing else")


# What the guest does of it: tests/guests/block.c.
EMPTIED = ((16, 8), (33, 3), (48, 8))


def driver_uses(t, **fields):
    lines, data, disk = use(t, "rw", discard=False, **fields)
    assert "device 0xc0001000 2 %d" % SECTORS in lines, lines
    check_written(t, data)
    info = os.stat(disk)
    name = "%d%d%d" % (info.st_dev, info.st_rdev, info.st_ino)
    t.point("id " + name[:20] in lines, "serial id", "%s\n%s" % (name, lines))


@test
def driver_uses_a_disk(t):
    driver_uses(t)


@test
def driver_uses_an_async_disk(t):
    driver_uses(t, io_engine="Async")


@test
def driver_uses_a_cached_disk(t):
    for engine in ("Sync", "Async"):
        use(t, "rw flush", cache_type="Writeback", discard=False,
            io_engine=engine)


@test
def driver_empties_a_disk(t):
    for engine in ("Sync", "Async"):
        _, data, _ = use(t, "rw flush discard", cache_type="Writeback",
                         io_engine=engine)
        check_written(t, data, EMPTIED)


@test
def driver_uses_a_read_only_disk(t):
    for engine in ("Sync", "Async"):
        _, data, _ = use(t, "ro", is_read_only=True, io_engine=engine)
        t.point(data == numbered(), "file is as it was")


@test
def read_only_disk_needs_no_write_permission(t):
    need_kvm()
    disk = t.write("disk", numbered())
    os.chmod(disk, 0o444)
    m = Monitor(test=t)
    drive(m, "d", disk, is_read_only=True)
    m.start(guest("block"), boot_args="ro")
    assert m.wait() == 0
    guest_points(t, m.console)


@test
def root_drive_comes_first(t):
    need_kvm()
    m = Monitor(test=t)
    for name, sectors, root in (("a", 8, False), ("b", 16, False),
                                ("r", 300, True)):
        drive(m, name, t.write(name, numbered(sectors)), is_root_device=root)
    m.start(guest("block"), boot_args="rw discard")
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    devices = [line for line in lines if line.startswith("device")]
    assert devices == ["device 0xc0001000 2 300", "device 0xc0002000 2 8",
                       "device 0xc0003000 2 16"], devices


@test
def tail_of_an_odd_file_is_not_seen(t):
    need_kvm()
    m = Monitor(test=t)
    drive(m, "d", t.write("disk", numbered(9) + bytes(100)))
    m.start(guest("disk"))
    m.expect(b"ready\n")
    m.send(b"c")
    m.expect(b"capacity 9 changes 0\n")


@test
def as_many_drives_as_interrupts_last(t):
    """GSIs 5 to 23, two of which belong to other devices: 17 at most."""
    need_kvm()
    m = Monitor(test=t)
    disk = t.write("disk", numbered(8))
    for number in range(17):
        drive(m, "d%d" % number, disk, is_read_only=True)
    m.start(guest("block"), boot_args="ro")
    m.wait()
    devices = [line for line in m.console.decode().splitlines()
               if line.startswith("device")]
    assert len(devices) == 17, devices


@test
def too_many_drives_are_refused(t):
    need_kvm()
    m = Monitor(test=t)
    disk = t.write("disk", numbered(8))
    body = {"is_root_device": False, "path_on_host": disk}
    for number in range(24):
        name = "d%d" % number
        status, answer = m.api("PUT", "/drives/" + name,
                               {**body, "drive_id": name})
        if status != 204:
            assert status == 400 and number > 16, (number, status, answer)
            return
    m.put("/boot-source", kernel_image_path=guest("block"))
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    assert "Could not allocate GSI: The requested resource is not available." \
        in fault, fault
    assert m.get("/")["state"] == "Not started"


def at_the_console(t, disk=None, **fields):
    """The guest that does what it is told; its monitor and its disk."""
    need_kvm()
    disk = disk or t.write("disk", numbered())
    m = Monitor(test=t, args=["--metrics-path", t.write("metrics")])
    drive(m, "d", disk, cache_type="Writeback", **fields)
    m.start(guest("disk"))
    m.expect(b"ready\n")
    return m, disk


def small_file_system(t):
    """A directory with room for little more than a disk."""
    path = t.path("small")
    os.makedirs(path, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=%dk" %
                           SMALL_KIB, "none", path], capture_output=True,
                          text=True)
    if done.returncode:
        raise Skip("no file system of our own: " + done.stderr.strip())
    t.defer(subprocess.run, ["umount", "-l", path])
    return path


def fill(path):
    """Until nothing more goes into that file system."""
    with open(path, "wb", 0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def loop_device(t, path):
    """A block device over a file."""
    skip_in_jail("its root has no such device")
    done = subprocess.run(["losetup", "--find", "--show", path],
                          capture_output=True, text=True)
    if done.returncode:
        raise Skip("no block device of our own: " + done.stderr.strip())
    device = done.stdout.strip()
    t.defer(subprocess.run, ["losetup", "--detach", device])
    return device


def without_io_uring():
    """Between fork and exec: for this process the call is not permitted, as
    where an administrator has turned it off."""
    code = b"".join(struct.pack("<HBBI", *one) for one in (
        (0x20, 0, 0, 0),                        # load the number
        (0x15, 0, 1, SYS_IO_URING_SETUP),
        (0x06, 0, 0, REFUSE_EPERM),
        (0x06, 0, 0, ALLOW)))
    text = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("<HxxxxxxQ", len(code) // 8,
                          ctypes.addressof(text))
    libc = ctypes.CDLL(None)
    assert not libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    assert not libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0)


def counted(t, m):
    """The drive's counters since the start."""
    m.put("/actions", action_type="FlushMetrics")
    with open(t.path("metrics")) as file:
        lines = [json.loads(line)["block_d"] for line in file]
    return {name: sum(line[name] for line in lines) for name in lines[0]
            if not name.endswith("_agg")}


def told(m, letter, answer):
    m.send(letter)
    m.expect(answer + b"\n")


def resize(t, engine):
    m, disk = at_the_console(t, io_engine=engine)
    told(m, b"c", b"capacity 256 changes 0")
    os.truncate(disk, 512 * SECTOR)
    told(m, b"c", b"capacity 256 changes 0")
    m.patch("/drives/d", drive_id="d", path_on_host=disk)
    told(m, b"c", b"capacity 512 changes 1")
    other = t.write("other", numbered(1000))
    m.patch("/drives/d", drive_id="d", path_on_host=other)
    told(m, b"c", b"capacity 1000 changes 2")
    told(m, b"r", b"status 0 data 0x64")
    assert m.get("/vm/config")["drives"][0]["path_on_host"] == other
    told(m, b"q", b"done")
    assert m.wait() == 0


@test
def resize_is_announced(t):
    resize(t, "Sync")


@test
def resize_of_an_async_disk_is_announced(t):
    resize(t, "Async")


@test
def refused_patches_change_nothing(t):
    m, disk = at_the_console(t)
    for body, text in (
            ({"drive_id": "d", "path_on_host": t.path("none")},
             "No such file or directory (os error 2)"),
            ({"drive_id": "d"}, "Running method expected different backend."),
            ({"drive_id": "d", "is_read_only": True}, "unknown field"),
            ({"drive_id": "d", "path_on_host": t.dir}, "")):
        fault = m.fault("PATCH", "/drives/d", body)
        t.point(text in fault, str(sorted(body)), fault)
    fault = m.fault("PATCH", "/drives/x",
                    {"drive_id": "x", "path_on_host": disk})
    t.point(fault == "Drive config error: Unable to patch the block device: "
            "Failed perform action on device: Device not found Please verify "
            "the request arguments.", "unknown drive", fault)
    for engine in ("is_root_device", "io_engine", "discard"):
        fault = m.fault("PATCH", "/drives/d", {"drive_id": "d", engine: True})
        t.point("unknown field `%s`" % engine in fault, engine, fault)
    fault = m.fault("DELETE", "/drives/d")
    t.point("PCI is not enabled" in fault, "DELETE", fault)
    m.patch("/drives/d", drive_id="d", rate_limiter={})
    m.patch("/drives/d", drive_id="d", rate_limiter=None, path_on_host=disk)
    told(m, b"c", b"capacity 256 changes 1")
    told(m, b"r", b"status 0 data 0x64")


@test
def drives_cannot_be_added_to_a_running_guest(t):
    m, disk = at_the_console(t)
    fault = m.fault("PUT", "/drives/e", {
        "drive_id": "e", "is_root_device": False, "path_on_host": disk})
    assert "PCI is not enabled" in fault, fault


def shrink(t, engine):
    m, disk = at_the_console(t, io_engine=engine)
    told(m, b"r", b"status 0 data 0x64")
    os.truncate(disk, 10 * SECTOR)
    told(m, b"r", b"status 1 data 0x5555aaaa")
    assert m.get("/")["state"] == "Running"
    os.truncate(disk, SECTORS * SECTOR)
    told(m, b"r", b"status 0 data 0x0")
    told(m, b"w", b"status 0 data 0x5555aaaa")
    with open(disk, "rb") as file:
        file.seek(100 * SECTOR)
        assert file.read(4) == b"\xaa\xaa\x55\x55"
    t.point(counted(t, m)["execute_fails"] == 1, "the failure is counted")


@test
def backing_file_that_shrinks(t):
    """Reads behind the new end fail; the guest and the monitor go on, and the
    file's growing back is enough to mend it."""
    shrink(t, "Sync")


@test
def backing_file_of_an_async_disk_shrinks(t):
    shrink(t, "Async")


def full_disk(t, engine):
    """A file with holes on a file system without room for what goes there."""
    top = small_file_system(t)
    disk = os.path.join(top, "disk")
    with open(disk, "wb") as file:
        file.truncate(SECTORS * SECTOR)
    os.chmod(disk, 0o666)
    m, _ = at_the_console(t, disk, io_engine=engine)
    fill(os.path.join(top, "rest"))
    told(m, b"w", b"status 1 data 0x5555aaaa")
    told(m, b"r", b"status 0 data 0x0")
    t.point(m.get("/")["state"] == "Running", "the microVM runs")
    t.point(counted(t, m)["execute_fails"] == 1, "the failure is counted")
    os.unlink(os.path.join(top, "rest"))
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"f", b"status 0")
    told(m, b"d", b"status 0")
    told(m, b"r", b"status 0 data 0x0")
    told(m, b"q", b"done")
    assert m.wait() == 0


@test
def host_without_room(t):
    full_disk(t, "Sync")


@test
def host_without_room_for_an_async_disk(t):
    full_disk(t, "Async")


def broken_device(t, engine):
    """A block device whose second half is gone: reads, and what is written
    back, end in EIO."""
    path = t.write("backing", numbered())
    device = loop_device(t, path)
    m, _ = at_the_console(t, device, io_engine=engine)
    told(m, b"c", b"capacity 256 changes 0")
    told(m, b"d", b"status 0")
    told(m, b"z", b"status 0")
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"f", b"status 0")
    os.truncate(path, 0)
    subprocess.run(["blockdev", "--flushbufs", device], check=True)
    told(m, b"r", b"status 1 data 0x5555aaaa")
    failed = counted(t, m)["execute_fails"]
    t.point(failed == 1, "a failed read is counted", str(failed))
    t.point(m.get("/")["state"] == "Running", "the microVM runs")
    told(m, b"q", b"done")
    assert m.wait() == 0


@test
def block_device_that_breaks(t):
    broken_device(t, "Sync")


@test
def block_device_that_breaks_under_an_async_disk(t):
    broken_device(t, "Async")


@test
def discard_gives_room_back(t):
    for engine in ("Sync", "Async"):
        m, disk = at_the_console(t, io_engine=engine)
        before = os.stat(disk).st_blocks
        told(m, b"d", b"status 0")
        told(m, b"r", b"status 0 data 0x0")
        t.point(os.stat(disk).st_blocks < before and
                os.path.getsize(disk) == SECTORS * SECTOR,
                engine + ": the host has the room again")
        told(m, b"w", b"status 0 data 0x5555aaaa")
        told(m, b"z", b"status 0")
        told(m, b"r", b"status 0 data 0x0")
        m.close()


@test
def discard_can_be_turned_off(t):
    m, disk = at_the_console(t, discard=False)
    told(m, b"d", b"status 2")
    told(m, b"z", b"status 2")
    told(m, b"r", b"status 0 data 0x64")
    shown = m.get("/vm/config")["drives"][0]
    t.point(shown["discard"] is False, "it is shown where it is off")
    m.close()
    m, disk = at_the_console(t, discard=True)
    t.point("discard" not in m.get("/vm/config")["drives"][0],
            "and nowhere else")


@test
def reset_with_requests_in_flight(t):
    """By the thread that runs the guest, which waits for them, over and over:
    nothing is lost, hangs, or comes back to rings that are new."""
    m, _ = at_the_console(t, io_engine="Async")
    for number in range(20):
        told(m, b"w", b"status 0 data 0x5555aaaa")
        told(m, b"b", b"status 0")
    m.patch("/vm", state="Paused")
    m.patch("/vm", state="Resumed")
    told(m, b"r", b"status 0 data 0x5555aaaa")
    told(m, b"q", b"done")
    assert m.wait() == 0
    t.point("ERROR" not in m.log, "no error is logged", m.log)


@test
def pauses_and_snapshots_with_requests_in_flight(t):
    """A clone finds nothing in flight, and goes on where the original was."""
    m, disk = at_the_console(t, io_engine="Async")
    snapshot = Snapshot(t)
    m.send(b"l")
    for number in range(10):
        m.patch("/vm", state="Paused")
        if number == 3:
            snapshot.create(m)
            copy = t.write("copy", open(disk, "rb").read())
        m.patch("/vm", state="Resumed")
    m.expect(b"status 0\n")
    told(m, b"r", b"status 0 data 0x0")
    clone = snapshot.load(t, drive_overrides=[
        {"drive_id": "d", "path_on_host": copy}])
    clone.expect(b"status 0\n")
    told(clone, b"w", b"status 0 data 0x5555aaaa")
    shown = clone.get("/vm/config")["drives"][0]
    t.point(shown["io_engine"] == "Async" and shown["path_on_host"] == copy,
            "the clone's engine is the same", str(shown))
    told(clone, b"q", b"done")
    assert clone.wait() == 0
    failed = counted(t, m)
    t.point(not any(count for name, count in failed.items()
                    if "fail" in name or "err" in name),
            "nothing failed", str(failed))


@test
def end_with_requests_in_flight(t):
    for number in (signal.SIGTERM, signal.SIGKILL):
        m, _ = at_the_console(t, io_engine="Async")
        m.send(b"b" * 50)
        time.sleep(0.02)
        m.signal(number)
        assert m.wait() == -number
        m.close()


@test
def async_disks_share_a_ring(t):
    need_kvm()
    m = Monitor(test=t)
    disk = t.write("disk", numbered(8))
    for number in range(17):
        drive(m, "d%d" % number, disk, is_read_only=True, io_engine="Async")
    # replaced while the table of files is in use
    drive(m, "d3", disk, is_read_only=True, io_engine="Async")
    drive(m, "d4", disk, is_read_only=True)
    rings = [fd for fd in os.listdir("/proc/%d/fd" % m.pid)
             if "io_uring" in os.readlink("/proc/%d/fd/%s" % (m.pid, fd))]
    t.point(len(rings) == 1, "there is one", str(rings))
    m.start(guest("block"), boot_args="ro")
    m.wait()
    devices = [line for line in m.console.decode().splitlines()
               if line.startswith("device")]
    assert len(devices) == 17, devices


@test
def host_without_io_uring(t):
    """Says so to the request that wants it; Sync drives do without."""
    skip_in_jail("only a monitor of our own can be kept from it")
    disk = t.write("disk", numbered(8))
    m = Monitor(test=t, preexec_fn=without_io_uring)
    fault = m.fault("PUT", "/drives/d", {
        "drive_id": "d", "is_root_device": False, "path_on_host": disk,
        "io_engine": "Async"})
    t.point(fault == "Drive config error: Unable to create the virtio block "
            "device: io_engine Async needs io_uring, which this host does not "
            "let us use: Operation not permitted (os error 1)",
            "the answer names it", fault)
    t.point(m.get("/vm/config")["drives"] == [], "and nothing is configured")
    drive(m, "d", disk)


@test
def backing_file_may_be_removed(t):
    for engine in ("Sync", "Async"):
        m, disk = at_the_console(t, io_engine=engine)
        os.unlink(disk)
        told(m, b"w", b"status 0 data 0x5555aaaa")
        told(m, b"r", b"status 0 data 0x5555aaaa")
        m.close()


@test
def file_size_limit_has_its_exit_code(t):
    """Writes beyond RLIMIT_FSIZE raise SIGXFSZ, which ends the monitor with
    its own code, not silently."""
    need_kvm()
    disk = t.write("disk", numbered())
    m = Monitor(test=t, log=False, limits={"fsize": 10 * SECTOR})
    drive(m, "d", disk)
    m.start(guest("disk"))
    m.expect(b"ready\n")
    m.send(b"w")
    assert m.wait() == 151
    assert b"intercepting signal 25, code 0" in m.console, m.console


@test
def data_survives_the_monitor(t):
    m, disk = at_the_console(t)
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"q", b"done")
    assert m.wait() == 0
    m = Monitor(test=t)
    drive(m, "d", disk)
    m.start(guest("disk"))
    m.expect(b"ready\n")
    told(m, b"r", b"status 0 data 0x5555aaaa")


if __name__ == "__main__":
    main()
