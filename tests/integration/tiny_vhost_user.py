# SPDX-License-Identifier: Apache-2.0
"""Drives that another process serves: vhost-user-blk."""
import json
import os
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, TIMEOUT, guest, guest_points, need_kvm
from hugepages import HugePool
from rows import check
from tap import SLOW, Skip, main, test
from vhostuser import (GET_CONFIG, GET_FEATURES, GET_PROTOCOL_FEATURES,
                       GET_VRING_BASE, PROTOCOL_FEATURES, VERSION_1, Daemon,
                       Liar, honest_answers, reply)

SECTOR = 512
SECTORS = 256
CREATE = "Drive config error: Unable to create the virtio block device: "
BACKEND = CREATE + "Vhost user backend error: "
PATCH = "Drive config error: Unable to patch the block device: "
SET_VRING_ENABLE = 18


def numbered(count=SECTORS):
    """A disk whose sectors begin with their own number."""
    return b"".join(struct.pack("<Q", n) + bytes([n & 0xff]) * (SECTOR - 8)
                    for n in range(count))


def put(m, body):
    m.put("/drives/" + body["drive_id"], **body)


def use(t, boot_args, writable=True, **fields):
    """Runs the well-behaved driver over a numbered disk."""
    need_kvm()
    disk = t.write("disk", numbered())
    m = Monitor(test=t)
    put(m, Daemon(t, disk, writable=writable).drive(**fields))
    m.start(guest("block"), boot_args=boot_args)
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    with open(disk, "rb") as file:
        return lines, file.read()


@test
def driver_uses_it(t):
    lines, data = use(t, "rw elsewhere")
    assert "device 0xc0001000 2 %d" % SECTORS in lines, lines
    want = numbered()
    t.point(data[5 * SECTOR:5 * SECTOR + 8]
            == struct.pack("<Q", 0x1122334455667788), "file was written")
    t.point(data[:5 * SECTOR] == want[:5 * SECTOR]
            and data[6 * SECTOR:] == want[6 * SECTOR:],
            "nothing else was written")


@test
def driver_uses_a_cached_one(t):
    use(t, "flush elsewhere", cache_type="Writeback")


@test
def driver_uses_a_read_only_one(t):
    _, data = use(t, "ro elsewhere", writable=False)
    t.point(data == numbered(), "file is as it was")


def at_the_console(t, back_end, **options):
    """The guest that does what it is told; its monitor."""
    need_kvm()
    m = Monitor(test=t, args=["--metrics-path", t.path("metrics")])
    put(m, back_end.drive())
    m.start(guest("disk"), **options)
    m.expect(b"ready\n")
    return m


def told(m, letter, answer, timeout=TIMEOUT):
    m.send(letter)
    m.expect(answer + b"\n", timeout)


def metrics(m, t, name):
    """Sums over lines for counters, the last ones for times."""
    m.put("/actions", action_type="FlushMetrics")
    total = {}
    with open(t.path("metrics")) as file:
        for line in file:
            for key, value in json.loads(line)[name].items():
                total[key] = value + (0 if "_us" in key
                                      else total.get(key, 0))
    return total


@test
def it_is_described(t):
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())))
    drive = m.get("/vm/config")["drives"][0]
    t.point(drive == {
        "drive_id": "d", "partuuid": None, "is_root_device": False,
        "cache_type": "Unsafe", "is_read_only": None, "path_on_host": None,
        "rate_limiter": None, "io_engine": None, "socket": t.path(
            "backend.sock")}, "/vm/config", drive)
    told(m, b"r", b"status 0 data 0x64")
    got = metrics(m, t, "vhost_user_block_d")
    t.point(set(got) == {"activate_fails", "cfg_fails", "init_time_us",
                         "activate_time_us", "config_change_time_us"}
            and got["init_time_us"] > 0 and got["activate_fails"] == 0
            and got["cfg_fails"] == 0, "metrics", got)
    with open(t.path("metrics")) as file:
        line = json.loads(file.read().splitlines()[-1])
    t.point("block_d" not in line and "vhost_user_block" not in line
            and line["block"]["read_count"] == 0, "and no others",
            sorted(line))
    with open("/proc/%d/maps" % m.pid) as maps:
        t.point("memfd:guest-memory" in maps.read(), "memory is in a memfd")


@test
def kicks_and_interrupts_go_past_the_monitor(t):
    if os.environ.get("EMBER_STRACE"):
        raise Skip("strace switches, too")
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())))
    told(m, b"r", b"status 0 data 0x64")

    def switches():
        with open("/proc/%d/status" % m.pid) as status:
            return int(status.read().split("voluntary_ctxt_switches:")[1]
                       .split()[0])

    before = switches()
    for _ in range(20):
        told(m, b"r", b"status 0 data 0x64")
    # The loop wakes up for what is typed, once each.
    assert switches() - before < 70, switches() - before


@test
def configuration_is_fetched_again(t):
    """QEMU's back end does not notice a file that grows; another would."""
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())))
    m.patch("/drives/d", drive_id="d")
    told(m, b"c", b"capacity 256 changes 1")
    told(m, b"r", b"status 0 data 0x64")
    m.close()
    liar = Liar(t, honest_answers())
    m = at_the_console(t, liar)
    told(m, b"c", b"capacity 256 changes 0")
    liar.answers[GET_CONFIG] = config_reply(capacity=512)
    told(m, b"c", b"capacity 256 changes 0")
    m.patch("/drives/d", drive_id="d")
    told(m, b"c", b"capacity 512 changes 1")
    got = metrics(m, t, "vhost_user_block_d")
    t.point(got["config_change_time_us"] > 0, "it took its time", got)


@test
def other_changes_are_refused(t):
    disk = t.write("disk", numbered())
    m = at_the_console(t, Daemon(t, disk))
    text = PATCH + "Running method expected different backend."
    for body in ({"path_on_host": disk}, {"rate_limiter": {}},
                 {"rate_limiter": {"ops": {"size": 1, "refill_time": 1}}}):
        fault = m.fault("PATCH", "/drives/d", {"drive_id": "d", **body})
        t.point(fault == text, str(sorted(body)), fault)
    told(m, b"r", b"status 0 data 0x64")


@test
def what_does_not_go_with_a_socket(t):
    daemon = Daemon(t, t.write("disk", numbered()))
    m = Monitor(test=t)
    wrong = CREATE + "Invalid block config."
    rows = [(fields, wrong) for fields in (
        {"is_read_only": True}, {"is_read_only": False},
        {"io_engine": "Sync"}, {"io_engine": "Async"}, {"rate_limiter": {}},
        {"path_on_host": t.path("disk")})]
    rows += [(fields, None) for fields in (
        {}, {"is_read_only": None, "io_engine": None, "rate_limiter": None,
             "path_on_host": None, "partuuid": None},
        {"cache_type": "Writeback"}, {"partuuid": "1"})]
    check(t, m, [("PUT", "/drives/d", daemon.drive(**fields), text)
                 for fields, text in rows])
    # What was there is replaced by anything else, and lets go.
    m.put("/drives/d", drive_id="d", is_root_device=False,
          path_on_host=t.path("disk"))
    put(m, daemon.drive("e"))
    put(m, daemon.drive("e"))


@test
def no_back_end(t):
    m = Monitor(test=t)
    plain = t.write("plain")
    os.chmod(plain, 0o666)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(t.path("dead"))
    dead.close()
    os.chmod(t.path("dead"), 0o666)
    for path, reason in (
            (t.path("none"), "No such file or directory (os error 2)"),
            (t.path("dead"), "Connection refused (os error 111)"),
            (plain, "Connection refused (os error 111)"),
            ("", "a socket's path has 1 to 107 characters"),
            ("/" + "x" * 107, "a socket's path has 1 to 107 characters")):
        fault = m.fault("PUT", "/drives/d", {
            "drive_id": "d", "is_root_device": False, "socket": path})
        t.point(fault == BACKEND + "Cannot connect to %s: %s" % (path, reason),
                "%.20s" % path.rpartition("/")[2], fault)
    assert m.get("/vm/config")["drives"] == []


def changed(**answers):
    """Honest answers but for some, by name."""
    names = {"features": GET_FEATURES, "protocol": GET_PROTOCOL_FEATURES,
             "config": GET_CONFIG}
    return {**honest_answers(),
            **{names[name]: value for name, value in answers.items()}}


def u64(request, value, **more):
    return reply(request, struct.pack("<Q", value), **more)


def config_reply(offset=0, size=60, length=60, capacity=SECTORS, **more):
    return reply(GET_CONFIG, struct.pack("<IIIQ", offset, size, 0, capacity)
                 + bytes(length - 8), **more)


@test
def back_ends_that_lie(t):
    m = Monitor(test=t)
    not_one = "The back end's answer to %s is not one"
    gone = "The back end does not answer %s: Connection reset"
    for number, (name, answers, reason) in enumerate((
            ("another request", changed(features=u64(2, VERSION_1)),
             not_one % "GET_FEATURES"),
            ("no reply", changed(features=u64(1, VERSION_1, flags=1)),
             not_one % "GET_FEATURES"),
            ("another version", changed(features=u64(1, VERSION_1, flags=6)),
             not_one % "GET_FEATURES"),
            ("too long", changed(features=reply(1, bytes(16))),
             not_one % "GET_FEATURES"),
            ("far too long", changed(features=u64(1, 0, size=0xffffffff)),
             not_one % "GET_FEATURES"),
            ("too short", changed(features=reply(1, bytes(4))),
             not_one % "GET_FEATURES"),
            ("old", changed(features=u64(1, PROTOCOL_FEATURES)),
             "The back end has features 0x40000000, without VERSION_1 or "
             "PROTOCOL_FEATURES"),
            ("plain", changed(features=u64(1, VERSION_1)),
             "The back end has features 0x100000000, without"),
            ("no CONFIG", changed(protocol=u64(15, 0xff)),
             "The back end has protocol features 0xff, without CONFIG"),
            ("no configuration", changed(config=reply(GET_CONFIG, b"")),
             not_one % "GET_CONFIG"),
            ("short configuration", changed(config=config_reply(length=59)),
             not_one % "GET_CONFIG"),
            ("long configuration", changed(config=config_reply(length=256)),
             not_one % "GET_CONFIG"),
            ("half a configuration", changed(config=reply(
                GET_CONFIG, b"", size=72)), not_one % "GET_CONFIG"),
            ("another part", changed(config=config_reply(offset=4)),
             not_one % "GET_CONFIG"),
            ("another size", changed(config=config_reply(size=256)),
             not_one % "GET_CONFIG"),
            ("hangs up", changed(features=None), gone % "GET_FEATURES"),
            ("hangs up later", changed(config=None), gone % "GET_CONFIG"))):
        liar = Liar(t, answers, "liar%d" % number)
        fault = m.fault("PUT", "/drives/d", liar.drive())
        t.point(fault.startswith(BACKEND + reason), name, fault)
    put(m, Liar(t, honest_answers()).drive())


@test
def back_ends_that_are_silent(t):
    """A second, and the monitor goes on."""
    m = Monitor(test=t)
    late = "The back end does not answer %s within a second"
    for number, (answers, reason) in enumerate((
            (changed(features=b""), late % "GET_FEATURES"),
            (changed(features=b"\1\0\0\0"), late % "GET_FEATURES"),
            (changed(config=b""), late % "GET_CONFIG"))):
        liar = Liar(t, answers, "liar%d" % number)
        start = time.monotonic()
        fault = m.fault("PUT", "/drives/d", liar.drive())
        took = time.monotonic() - start
        t.point(fault == BACKEND + reason and 0.9 < took < 1.9 * SLOW,
                "case %d" % number, "%s %g s" % (fault, took))
    full = socket.socket(socket.AF_UNIX)
    full.bind(t.path("full"))
    os.chmod(t.path("full"), 0o666)
    full.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(t.path("full"))
    fault = m.fault("PUT", "/drives/d", {
        "drive_id": "d", "is_root_device": False, "socket": t.path("full")})
    t.point("Cannot connect to" in fault, "a full queue", fault)
    full.close()
    waiting.close()


@test
def back_end_that_dies(t):
    daemon = Daemon(t, t.write("disk", numbered()))
    m = at_the_console(t, daemon)
    told(m, b"r", b"status 0 data 0x64")
    daemon.end()
    m.wait_log("vhost-user back end %s is lost" % daemon.path)
    assert "vhost-user-block: needs reset: no back end" in m.log
    t.point(m.get("/")["state"] == "Running", "the monitor goes on")
    fault = m.fault("PATCH", "/drives/d", {"drive_id": "d"})
    t.point(fault == PATCH + "Vhost user backend error: The back end %s is "
            "gone" % daemon.path, "it can be asked no more", fault)
    got = metrics(m, t, "vhost_user_block_d")
    t.point(got["cfg_fails"] == 1, "that is counted", got)
    m.patch("/vm", state="Paused")
    m.patch("/vm", state="Resumed")
    told(m, b"c", b"capacity 256 changes 1")
    m.send(b"r")
    time.sleep(0.1)
    t.point(m.alive() and b"status" not in m.console.rpartition(
        b"changes")[2], "the request hangs")


@test
def back_end_that_died_before_the_start(t):
    need_kvm()
    daemon = Daemon(t, t.write("disk", numbered()))
    m = Monitor(test=t, args=["--metrics-path", t.path("metrics")])
    put(m, daemon.drive())
    daemon.end()
    m.start(guest("disk"))
    m.expect(b"ready\n")
    m.wait_log("is lost")
    got = metrics(m, t, "vhost_user_block_d")
    t.point(got["activate_fails"] <= 1 and m.alive(), "the guest runs", got)


@test
def back_end_that_stands_still(t):
    """The driver's reset waits for it, but not for ever."""
    need_kvm()
    liar = Liar(t, {**honest_answers(), GET_VRING_BASE: b""})
    m = Monitor(test=t)
    put(m, liar.drive())
    # It brings the device up, and then resets it.
    m.start(guest("block"), boot_args="rw elsewhere quick")
    liar.wait_for(SET_VRING_ENABLE)
    m.send(b"x")
    liar.wait_for(GET_VRING_BASE)
    m.wait_log("is lost: it does not stop")
    assert m.alive()
    # Memory, and two eventfds.
    t.point(len(liar.fds) == 3, "it got what it needs", liar.fds)


@test
def back_end_that_stops_is_started_again(t):
    need_kvm()
    liar = Liar(t, honest_answers())
    m = Monitor(test=t)
    put(m, liar.drive())
    m.start(guest("block"), boot_args="rw elsewhere quick")
    liar.wait_for(SET_VRING_ENABLE)
    m.send(b"x")
    deadline = time.monotonic() + TIMEOUT
    while liar.seen.count(SET_VRING_ENABLE) < 2:
        assert time.monotonic() < deadline, liar.seen
        time.sleep(0.01)
    t.point(liar.seen.count(GET_VRING_BASE) == 1, "stopped in between",
            liar.seen)
    t.point("is lost" not in m.log, "all is well")


@test
def refresh_waits_a_second(t):
    daemon = Daemon(t, t.write("disk", numbered()))
    m = at_the_console(t, daemon)
    daemon.signal(signal.SIGSTOP)
    start = time.monotonic()
    fault = m.fault("PATCH", "/drives/d", {"drive_id": "d"})
    took = time.monotonic() - start
    daemon.signal(signal.SIGCONT)
    told(m, b"r", b"status 0 data 0x64")
    m.patch("/drives/d", drive_id="d")
    told(m, b"c", b"capacity 256 changes 1")
    t.point("is lost" not in m.log, "a late answer costs nothing")
    t.point(fault == PATCH + "Vhost user backend error: The back end does not "
            "answer GET_CONFIG within a second" and 0.9 < took < 1.9 * SLOW,
            "and says so", "%s %g s" % (fault, took))
    assert m.alive()


@test
def memory_cannot_be_cut(t):
    """A back end that tries to have the monitor die of SIGBUS."""
    need_kvm()
    liar = Liar(t, honest_answers())
    m = Monitor(test=t)
    put(m, liar.drive())
    m.start(guest("disk"))
    m.expect(b"ready\n")
    liar.wait_for(SET_VRING_ENABLE)
    try:
        os.ftruncate(liar.fds[0], 0)
        cut = True
    except PermissionError:
        cut = False
    t.point(not cut, "it is sealed")
    t.point(os.fstat(liar.fds[0]).st_size == 128 << 20, "all of it is there")
    told(m, b"c", b"capacity 256 changes 0")


@test
def back_end_that_speaks_unasked(t):
    need_kvm()
    liar = Liar(t, honest_answers())
    m = Monitor(test=t)
    put(m, liar.drive())
    m.start(guest("disk"))
    m.expect(b"ready\n")
    liar.wait_for(SET_VRING_ENABLE)
    liar.stream.sendall(b"hello")
    m.wait_log("is lost: it speaks unasked")
    told(m, b"c", b"capacity 256 changes 1")


@test
def back_end_that_kicks_and_spins(t):
    """Whatever it does with its eventfds, the loop sleeps."""
    need_kvm()
    liar = Liar(t, honest_answers())
    m = Monitor(test=t)
    put(m, liar.drive())
    m.start(guest("disk"))
    m.expect(b"ready\n")
    liar.wait_for(SET_VRING_ENABLE)
    kick = liar.fds[2]
    try:
        os.read(kick, 8)
    except BlockingIOError:
        pass
    os.write(kick, struct.pack("<Q", (1 << 64) - 2))  # as full as can be
    for fd in liar.fds[1:]:
        os.set_blocking(fd, True)
    told(m, b"c", b"capacity 256 changes 0")
    m.patch("/vm", state="Paused")
    m.patch("/vm", state="Resumed")
    told(m, b"c", b"capacity 256 changes 0")


@test
def no_snapshots(t):
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())))
    m.patch("/vm", state="Paused")
    for kind in ("Full", "Diff"):
        fault = m.fault("PUT", "/snapshot/create", {
            "snapshot_path": t.path("state"), "snapshot_type": kind,
            "mem_file_path": t.path("memory")})
        t.point("Create snapshot error: " in fault and fault.endswith(
            "Devices without snapshot support are present: "
            "vhost-user-block(id: d)"), kind, fault)
    assert not os.path.exists(t.path("state"))
    m.patch("/vm", state="Resumed")
    told(m, b"r", b"status 0 data 0x64")


@test
def memory_of_two_regions(t):
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())),
                       mem_size_mib=3584)
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"r", b"status 0 data 0x5555aaaa")


@test
def memory_in_the_pool(t):
    HugePool(t, 64)
    m = at_the_console(t, Daemon(t, t.write("disk", numbered())),
                       mem_size_mib=128, huge_pages="2M")
    told(m, b"r", b"status 0 data 0x64")


@test
def two_of_them_and_a_file(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/entropy")
    for name, first in (("a", 7), ("b", 8)):
        disk = t.write("disk_" + name, struct.pack("<Q", first) + bytes(504))
        put(m, Daemon(t, disk, name).drive(name))
    m.put("/drives/c", drive_id="c", is_root_device=False,
          path_on_host=t.write("plain", struct.pack("<Q", 9) + bytes(504)))
    m.start(guest("many"))
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    used = [line for line in lines if line.startswith(("used", "lost"))]
    t.point(used == ["used 2 at 5 data 7", "used 2 at 6 data 8",
                     "used 2 at 7 data 9", "used 4 at 8"], "all work", used)


@test
def root_drive(t):
    need_kvm()
    for writable, word in ((True, b"rw"), (False, b"ro")):
        m = Monitor(test=t)
        daemon = Daemon(t, t.write("disk", numbered()), "to_" + word.decode(),
                        writable)
        m.put("/drives/a", drive_id="a", is_root_device=False,
              path_on_host=t.path("disk"))
        put(m, daemon.drive(is_root_device=True))
        m.start(guest("hello"), boot_args="x")
        assert m.wait() == 0
        t.point(b"cmdline x pci=off root=/dev/vda %s virtio_mmio" % word
                in m.console, word.decode(), m.console)


@test
def start_may_be_tried_again(t):
    need_kvm()
    m = Monitor(test=t)
    put(m, Daemon(t, t.write("disk", numbered())).drive())
    m.put("/machine-config", vcpu_count=1, mem_size_mib=1 << 40)
    m.put("/boot-source", kernel_image_path=guest("disk"))
    m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    m.put("/machine-config", vcpu_count=1, mem_size_mib=64)
    m.put("/actions", action_type="InstanceStart")
    m.expect(b"ready\n")
    told(m, b"w", b"status 0 data 0x5555aaaa")
    told(m, b"r", b"status 0 data 0x5555aaaa")
    told(m, b"q", b"done")
    assert m.wait() == 0


@test
def config_file(t):
    need_kvm()
    daemon = Daemon(t, t.write("disk", numbered()))
    config = t.write("config", json.dumps({
        "boot-source": {"kernel_image_path": guest("disk")},
        "drives": [daemon.drive()]}))
    m = Monitor(test=t, args=["--config-file", config])
    m.expect(b"ready\n")
    document = m.get("/vm/config")
    told(m, b"q", b"done")
    assert m.wait() == 0
    again = Monitor(test=t, args=["--config-file", t.write(
        "again", json.dumps(document))])
    again.expect(b"ready\n")
    t.point(again.get("/vm/config") == document, "round trip")
    told(again, b"r", b"status 0 data 0x64")


if __name__ == "__main__":
    main()
