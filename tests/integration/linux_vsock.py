#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stream sockets between host and guest."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import resource  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from linuxguest import Guest, with_agent  # noqa: E402
from tap import SLOW, main, test  # noqa: E402
from vsock import Vsock, echo_back, execute, pattern  # noqa: E402


def start(t, limits=None, **config):
    """A guest with a socket device, and the way to it."""
    vsock = Vsock(t)
    guest = Guest(t, initrd=with_agent(t, "initrd"), mem=256, limits=limits,
                  configure=lambda m: vsock.configure(m, **config))
    return guest, vsock


@test
def host_reaches_the_guest(t):
    guest, vsock = start(t)
    guest.spawn("agent echo 1000", "ready")
    conn = vsock.connect(1000)
    t.point(conn.port == 1 << 30, "the first host port is 2^30",
            str(conn.port))
    conn.send(b"hello")
    t.point(conn.receive(5) == b"hello", "what is sent comes back")
    second = vsock.connect(1000)
    t.point(second.port == (1 << 30) + 1, "the next port is the next number")
    refused = vsock.try_connect(999)
    t.point(refused == b"", "nobody listens: closed without a word",
            repr(refused))
    guest.power_off()


@test
def guest_reaches_the_host(t):
    guest, vsock = start(t)
    echo_back(vsock.listen(2000))
    text = guest.sh("agent ping 2000 100", timeout=60 * SLOW)
    t.point("round-trips 100" in text, "a hundred round trips", text)
    code, text = guest.run("agent ping 2001 1")
    t.point(code == 1 and "reset" in text.lower(),
            "nobody listens: connection reset", text)
    sock = vsock.listen(2002)
    guest.type("agent half-close 2002")
    conn, _ = sock.accept()
    got = conn.recv(100)
    end = conn.recv(100)
    t.point((got, end) == (b"ping\n", b""), "the guest ends its direction",
            repr((got, end)))
    conn.sendall(b"and still there is an answer\n")
    conn.close()
    guest.monitor.expect(b"still there is an answer")
    guest.monitor.expect(b"EXIT 0")
    guest.power_off()


@test
def host_ends_one_direction(t):
    guest, vsock = start(t)
    guest.spawn("agent sink 1000", "ready")
    conn = vsock.connect(1000)
    conn.send(pattern(0, 100000))
    conn.half_close()
    verdict = conn.rest()
    t.point(verdict == b"100000 1\n", "the guest answers after our end",
            repr(verdict))
    guest.power_off()


# One block of random bytes, sent again and again with its number in front:
# cheap to make and to check, and nothing can be lost or swapped unseen.
BLOCK = 1 << 20
COUNT = 1024


def numbered(block, number):
    return number.to_bytes(8, "little") + block[8:]


@test
def one_gibibyte_each_way_through_an_echo(t):
    guest, vsock = start(t)
    guest.spawn("agent echo 1000", "ready")
    block = os.urandom(BLOCK)
    conn = vsock.connect(1000)

    def send():
        for number in range(COUNT):
            conn.send(numbered(block, number))
        conn.half_close()

    sender = threading.Thread(target=send)
    sender.start()
    bad = 0
    for number in range(COUNT):
        if conn.receive(BLOCK) != numbered(block, number):
            bad += 1
            break
    t.point(bad == 0, "1 GiB comes back as it was sent")
    t.point(conn.receive(1) == b"", "then the stream ends")
    sender.join()
    guest.power_off()


@test
def many_connections_one_after_the_other(t):
    guest, vsock = start(t)
    guest.spawn("agent echo 1000", "ready")
    good = 0
    for _ in range(2500):
        conn = vsock.connect(1000)
        conn.send(b"x")
        good += conn.receive(1) == b"x"
        conn.close()
    t.point(good == 2500, "2,500 from the host, which closes first", str(good))
    echo_back(vsock.listen(2000))
    text = guest.sh("agent sequential 2000 2500", timeout=200 * SLOW)
    t.point("good 2500" in text, "2,500 from the guest, which closes first",
            text)
    guest.power_off()


@test
def two_thousand_connections_at_once(t):
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    guest, vsock = start(t, limits={"no-file": 8192})  # the jailer: 2048
    guest.spawn("agent echo 1000", "ready")
    conns = [vsock.connect(1000) for _ in range(2000)]
    for number, conn in enumerate(conns):
        conn.send(b"%08d" % number)
    good = sum(conn.receive(8) == b"%08d" % number
               for number, conn in enumerate(conns))
    t.point(good == 2000, "2,000 connections from the host", str(good))
    status, _ = guest.monitor.api("GET", "/")
    t.point(status == 200, "the API answers beside them")
    before = cpu(guest.monitor.pid)
    time.sleep(2)
    used = cpu(guest.monitor.pid) - before
    t.point(used == 0, "idle, they cost the loop no time", "%d ns" % used)
    # Half of them end here, the others where the guest's server is killed.
    for conn in conns[:1000]:
        conn.close()
    guest.sh("killall agent; sleep 1")
    ended = sum(conn.rest() == b"" for conn in conns[1000:])
    t.point(ended == 1000, "all end when the guest's side does", str(ended))
    sock = vsock.listen(2000, 2048)
    echo_back(sock)
    text = guest.sh("agent connect-echo 2000 2000 8", timeout=100 * SLOW)
    t.point("good 2000" in text, "2,000 connections from the guest", text)
    guest.power_off()


def cpu(pid):
    """Nanoseconds the loop's thread has run."""
    with open("/proc/%d/task/%d/schedstat" % (pid, pid)) as source:
        return int(source.read().split()[0])


@test
def a_full_backlog_stalls_nobody(t):
    guest, vsock = start(t)
    guest.spawn("agent echo 1000", "ready")
    vsock.listen(2000, backlog=0)  # and nobody accepts
    guest.sh("(agent connect-echo 2000 4 1 >/tmp/out 2>&1) & sleep 0.5")
    started = time.monotonic()
    conn = vsock.connect(1000)
    conn.send(b"x")
    t.point(conn.receive(1) == b"x", "others are served meanwhile",
            "%.2f s" % (time.monotonic() - started))
    status, _ = guest.monitor.api("GET", "/")
    t.point(status == 200, "so is the API")
    guest.power_off()


@test
def commands_run_and_tell_how_they_ended(t):
    guest, vsock = start(t)
    guest.spawn("agent exec 1000", "ready")
    conn = vsock.connect(1000)
    for command, output, status in (("echo hi", b"hi\n", 0),
                                    ("echo no >&2; exit 3", b"no\n", 3),
                                    ("kill -9 $$", b"", 137)):
        result = execute(conn, command)
        t.point(result == (output, status), command, repr(result))
    conn.close()
    other = vsock.connect(1000)
    other.send(b"\xff\xff\xff\xff")
    t.point(other.rest() == b"", "a request too long ends the connection")
    guest.power_off()


@test
def pause_keeps_connections(t):
    guest, vsock = start(t)
    guest.spawn("agent echo 1000", "ready")
    conn = vsock.connect(1000)
    guest.monitor.patch("/vm", state="Paused")
    conn.send(b"meanwhile")
    conn.socket.settimeout(1)
    try:
        data = conn.receive(1)
    except TimeoutError:
        data = None
    t.point(data is None, "nothing comes from a paused guest", repr(data))
    guest.monitor.patch("/vm", state="Resumed")
    conn.socket.settimeout(10 * SLOW)
    t.point(conn.receive(9) == b"meanwhile", "it comes after resuming")
    guest.power_off()


if __name__ == "__main__":
    main()
