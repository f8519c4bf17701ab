# SPDX-License-Identifier: Apache-2.0
"""A Linux guest at work, for tests that interrupt it: `agent soak` ticks on
every CPU and writes numbered blocks to a disk, a shell copies files there, and
the host talks to it over TCP and vsock all the time.

    soak = Soak(t)                # boots it, starts the work; disk={...}:
                                  # further fields of its drive
    soak.status()                 # how the work stands, over vsock
    soak.run("command")           # in the guest, over vsock
    soak.monitor = ...            # after a restore: the same guest elsewhere
    soak.clone(...)               # or one of several
    soak.end(t)                   # stops the work, checks what is on the disk
"""
import copy
import itertools
import json
import os
import re
import socket
import subprocess
import threading
import time

import network
from linuxguest import MIB, Guest, drive, with_agent
from netguest import GUEST, HOST, MAC, UP
from tap import SLOW
from vsock import TIMEOUT, Stream, Vsock, echo_back, execute

# Ports of the guest, then one of the host, on vsock and TCP alike.
SOAK, ECHO, EXEC, HOST_ECHO = 1000, 1001, 1002, 2000
REQUEST_SECONDS = 1.9  # a little less than the device waits
HOST_MAC = "06:00:ac:10:00:01"
DISK_MIB = 64
BLOCK, SLOTS = 4096, 8192  # of guest/soak.c
COPY_FILES = (
    "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); f=/data/file$((i%4)); "
    "head -c 65536 /dev/urandom >/tmp/copy; cp /tmp/copy $f; sync; "
    "cmp /tmp/copy $f || echo file $i; sleep 0.3; done >/tmp/bad 2>&1; "
    "touch /tmp/stopped")
COMPLAINTS = re.compile(
    r"soft lockup|hard lockup|detected stall|self-detected|hung task|"
    r"blocked for more|clocksource: (timekeeping|.*skew|.*unstable)|"
    r"[Mm]arking .*unstable|BUG|WARNING|Call Trace|I/O error|EXT4-fs error|"
    r"needs reset|timed out|nobody cared|unexpected")


def make_disk(t, name="data"):
    """An empty ext4 file system in a file."""
    path = t.path(name)
    with open(path, "wb") as file:
        file.truncate(DISK_MIB * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E",
                    "lazy_itable_init=0", path], check=True)
    return path


class Pump(threading.Thread):
    """Sends numbered blocks over a connection whose other end sends them
    back, until it ends: .count blocks came back, .bad tells of one that is
    not what was sent."""
    WORDS = 64

    def __init__(self, sock):
        super().__init__(daemon=True)
        self.stream = Stream(sock)
        self.count, self.bad = 0, ""
        self.start()

    def run(self):
        for number in itertools.count(1):
            block = number.to_bytes(8, "little") * self.WORDS
            try:
                self.stream.send(block)
                got = self.stream.receive(len(block))
            except OSError as error:
                self.bad = self.bad or (
                    "" if isinstance(error, ConnectionError) else str(error))
                return
            if not block.startswith(got):
                self.bad = "block %d is not what was sent" % number
            if len(got) < len(block):
                return
            self.count = number
            time.sleep(0.005)

    def goes_on(self, since, timeout=TIMEOUT):
        """Whether more than @since blocks have come back, soon."""
        deadline = time.monotonic() + timeout
        while self.count <= since and self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return self.count > since

    def stop(self):
        try:
            self.stream.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was first
        self.join(TIMEOUT)
        self.stream.close()


def add_tap(t, name):
    """All have the same addresses, so that a guest finds its host behind
    each, and clones can have one each at a time."""
    network.add_tap(t, name, HOST + "/24")
    network.ip("link", "set", name, "address", HOST_MAC)


def tcp_socket(tap):
    """One whose traffic is that of one interface."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, tap.encode())
    sock.settimeout(TIMEOUT)
    return sock


def tcp_connect(port, tap="tap0"):
    """A connection to the guest behind a tap."""
    sock = tcp_socket(tap)
    sock.connect((GUEST, port))
    return sock


def tcp_listen(t, port, tap="tap0"):
    """Sends back what the guest behind a tap sends to @port of the host."""
    sock = tcp_socket(tap)
    sock.bind((HOST, port))
    sock.listen(16)
    t.defer(sock.close)
    echo_back(sock)


class Status(dict):
    """What `agent soak` tells, and between which moments it did."""

    def __init__(self, text, before_ns, after_ns):
        super().__init__(json.loads(text))
        self.lag_ns = (before_ns - self["realtime_ns"],
                       after_ns - self["realtime_ns"])


class Soak:
    """The guest and what belongs to it on the host. @hotplug: MiB that are
    plugged in before the work begins, up to four times as many later; the
    kernel takes them for itself first."""

    def __init__(self, t, kernel="vmlinux", initrd="initrd", vcpus=2, mem=128,
                 vhost=False, disk=None, hotplug=0, balloon=True, **machine):
        self.test = t
        network.own_network()
        self.tap = "tap0"
        add_tap(t, self.tap)
        tcp_listen(t, HOST_ECHO)
        self.vsock = Vsock(t)
        echo_back(self.vsock.listen(HOST_ECHO))
        self.disk = make_disk(t)
        self.vcpus = vcpus

        def configure(monitor):
            monitor.put("/machine-config", vcpu_count=vcpus,
                        mem_size_mib=mem, **machine)
            monitor.put("/network-interfaces/eth0", iface_id="eth0",
                        host_dev_name=self.tap, guest_mac=MAC,
                        **({"vhost": True} if vhost else {}))
            self.vsock.configure(monitor)
            if balloon:  # what is free is given back all the time
                monitor.put("/balloon", amount_mib=0, deflate_on_oom=True,
                            stats_polling_interval_s=1,
                            free_page_reporting=True)
            if hotplug:
                monitor.put("/hotplug/memory", total_size_mib=4 * hotplug)

        self.guest = Guest(
            t, kernel=kernel, initrd=with_agent(t, initrd), vcpus=vcpus,
            mem=mem, drives=[drive("data", self.disk, **(disk or {}))],
            configure=configure,
            extra="memhp_default_state=online" if hotplug else "")
        if hotplug:
            self.plug(hotplug)
        self.start_work()
        self.boot_log = len(self.kernel_log())

    @property
    def monitor(self):
        return self.guest.monitor

    @monitor.setter
    def monitor(self, monitor):
        self.guest.monitor = monitor

    def plug(self, size_mib):
        """Has so much of pluggable memory plugged; waits for it."""
        path = "/hotplug/memory"
        self.monitor.patch(path, requested_size_mib=size_mib)
        deadline = time.monotonic() + TIMEOUT
        while self.monitor.get(path)["plugged_size_mib"] != size_mib:
            assert time.monotonic() < deadline, self.monitor.get(path)
            time.sleep(0.01)

    def start_work(self):
        sh = self.guest.sh
        sh(UP + "; mkdir /data; mount -t ext4 /dev/vda /data")
        for command in ("agent soak %d /data/blocks" % SOAK,
                        "agent echo %d" % ECHO, "agent exec %d" % EXEC,
                        "AGENT_TCP=0.0.0.0 agent echo %d" % ECHO):
            sh("%s >>/tmp/agents 2>&1 &" % command)
        sh("until [ $(grep -c ready /tmp/agents) = 4 ]; do sleep 0.1; done")
        sh("(%s) &" % COPY_FILES)

    def clone(self, monitor, vsock, disk, tap):
        """The same guest once more, with what is its own."""
        other = copy.copy(self)
        other.guest = copy.copy(self.guest)
        other.guest.monitor = monitor
        other.vsock, other.disk, other.tap = vsock, disk, tap
        return other

    # ------------------------------------------------------------ over vsock

    def connect(self, port):
        """A connection to a port of the guest. It has two seconds to take
        it, which may be too few in a lab; refusing one is another thing."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            start, start_ns = time.monotonic(), time.time_ns()
            try:
                conn = self.vsock.connect(port)
                conn.since_ns = start_ns
                return conn
            except AssertionError:
                now = time.monotonic()
                if now - start < REQUEST_SECONDS or now > deadline:
                    raise

    def status(self):
        conn = self.connect(SOAK)
        text = conn.rest()
        conn.close()
        return Status(text, conn.since_ns, time.time_ns())

    def run(self, command):
        """(output, exit status) of a command, on a connection of its own."""
        conn = self.connect(EXEC)
        output, code = execute(conn, command)
        conn.close()
        return output.decode(errors="replace"), code

    def kernel_log(self):
        return self.run("dmesg")[0].splitlines()

    def complaints(self):
        """What the guest's kernel did not like since it was started."""
        return [line for line in self.kernel_log()[self.boot_log:]
                if COMPLAINTS.search(line)]

    # ------------------------------------------------------- what must hold

    def wait_for_ticks(self, since, more=5):
        """A status in which every CPU has ticked on, with the worst lateness
        from @since on; None if that does not come."""
        deadline = time.monotonic() + TIMEOUT
        late = since["late_ms"]
        while True:
            status = self.status()
            late = status["late_ms"] = [max(pair) for pair in
                                        zip(late, status["late_ms"])]
            if all(now >= then + more for now, then in
                   zip(status["ticks"], since["ticks"])):
                return status
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)

    def connections(self):
        """Tries new ones in all directions; what did not work."""
        bad = []
        output, code = self.run(
            "agent ping %d 2 && AGENT_TCP=%s agent ping %d 2"
            % (HOST_ECHO, HOST, HOST_ECHO))
        if code:
            bad.append("from the guest: " + output)
        with tcp_connect(ECHO, self.tap) as sock:
            sock.sendall(b"new")
            if Stream(sock).receive(3) != b"new":
                bad.append("TCP from the host")
        return bad

    def end(self, t, last):
        """Stops the guest; everything that it said was written must be on
        its disk."""
        sh = self.guest.sh
        sh("touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.1; done")
        bad = sh("cat /tmp/bad")
        t.point(bad == "", "files are what was copied", bad)
        sh("killall agent; sleep 0.1; umount /data", 10 * SLOW)
        self.guest.power_off()
        check_disk(t, self.disk, last["durable"])


def check_disk(t, path, durable):
    """The file system is whole, and so is each block up to @durable."""
    done = subprocess.run(["e2fsck", "-fn", path], capture_output=True,
                          text=True)
    t.point(done.returncode == 0, "fsck finds nothing",
            done.stdout + done.stderr)
    copy = path + ".blocks"
    subprocess.run(["debugfs", "-R", "dump /blocks " + copy, path],
                   check=True, capture_output=True)
    with open(copy, "rb") as source:
        data = source.read()
    os.unlink(copy)
    wrong = wrong_blocks(data, durable)
    t.point(durable > 0 and not wrong,
            "all %d blocks are there" % durable, str(wrong[:20]))


def wrong_blocks(data, durable):
    """Numbers of blocks that are not as `agent soak` has written them. After
    @durable came some that nobody was told of."""
    wrong = []
    for number in range(max(1, durable - SLOTS + 1), durable + 1):
        at = number % SLOTS * BLOCK
        found = int.from_bytes(data[at:at + 8], "little")
        later = found > durable and (found - number) % SLOTS == 0
        if not (found == number or later) or (
                data[at:at + BLOCK] != data[at:at + 8] * (BLOCK // 8)):
            wrong.append(number)
    return wrong
