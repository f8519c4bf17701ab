# SPDX-License-Identifier: Apache-2.0
"""Block devices, used by a small driver of our own."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, guest_points, need_kvm
from tap import main, test

SECTOR = 512
SECTORS = 256


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


@test
def driver_uses_a_disk(t):
    lines, data, disk = use(t, "rw")
    assert "device 0xc0001000 2 %d" % SECTORS in lines, lines
    wrote = struct.pack("<Q", 0x1122334455667788)
    t.point(data[5 * SECTOR:5 * SECTOR + 8] == wrote, "file was written")
    want = numbered()
    t.point(data[:5 * SECTOR] == want[:5 * SECTOR]
            and data[6 * SECTOR:] == want[6 * SECTOR:],
            "nothing else was written")
    info = os.stat(disk)
    name = "%d%d%d" % (info.st_dev, info.st_rdev, info.st_ino)
    t.point("id " + name[:20] in lines, "serial id", "%s\n%s" % (name, lines))


@test
def driver_uses_a_cached_disk(t):
    use(t, "flush", cache_type="Writeback")


@test
def driver_uses_a_read_only_disk(t):
    _, data, _ = use(t, "ro", is_read_only=True)
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
    m.start(guest("block"), boot_args="rw")
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


def at_the_console(t, sectors=SECTORS):
    """The guest that does what it is told; its monitor and its disk."""
    need_kvm()
    disk = t.write("disk", numbered(sectors))
    m = Monitor(test=t)
    drive(m, "d", disk)
    m.start(guest("disk"))
    m.expect(b"ready\n")
    return m, disk


def told(m, letter, answer):
    m.send(letter)
    m.expect(answer + b"\n")


@test
def resize_is_announced(t):
    m, disk = at_the_console(t)
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
    m.patch("/drives/d", drive_id="d", rate_limiter={})
    told(m, b"c", b"capacity 256 changes 0")
    told(m, b"r", b"status 0 data 0x64")


@test
def drives_cannot_be_added_to_a_running_guest(t):
    m, disk = at_the_console(t)
    fault = m.fault("PUT", "/drives/e", {
        "drive_id": "e", "is_root_device": False, "path_on_host": disk})
    assert "PCI is not enabled" in fault, fault


@test
def backing_file_that_shrinks(t):
    """Reads behind the new end fail; the guest and the monitor go on, and the
    file's growing back is enough to mend it."""
    m, disk = at_the_console(t)
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


@test
def backing_file_may_be_removed(t):
    m, disk = at_the_console(t)
    os.unlink(disk)
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"r", b"status 0 data 0x5555aaaa")


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
