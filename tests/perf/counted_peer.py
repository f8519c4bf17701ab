#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""counted_peer.py DRIVER PROGRAM ASSETS: runs in the counted lab, where a
nanosecond is an instruction. Boots the Debian guest that ember's figures are for,
with a disk, a tap and a socket device, on any monitor (monitors.py), and prints

    peer MONITOR FIGURE VALUE

for what it can do (peers.LINUX_FIGURES), and a comment for what it cannot. CPU times
are those of the monitor's own threads, its vCPUs' apart, and of the kernel's
threads that work for it (vhost)."""

import os
import re
import socket
import subprocess
import sys
import time

import monitors
from counted_io import (GUEST, HOST, OVER_TCP, POURED_MIB, PUSH, TAKE, TAKER,
                        drain, ping, pour, round_trips)
from counted_machine import AGENT_INITRD, ARGS, MIB, took_ms
from monitors import Cannot

READS, WRITES, LARGE = 1050, 500, 24
ECHOES = 100
TRACE = "/sys/kernel/tracing/"
EXIT_EVENT = TRACE + "events/kvm/kvm_userspace_exit/"
COUNT_EXITS = "hist:keys=reason"
PATIENCE = 60
RESTORES = 4
UNANSWERED = "the guest did not answer"


def vhost_us(pid):
    """CPU time of the kernel's threads for a process."""
    total = 0
    for task in os.listdir("/proc"):
        if not task.isdigit():
            continue
        with open("/proc/%s/comm" % task) as source:
            if source.read().strip() != "vhost-%d" % pid:
                continue
        with open("/proc/%s/schedstat" % task) as source:
            total += int(source.read().split()[0])
    return total / 1e3


class Exits:
    """Exits to user space, as the kernel counts them."""

    def __enter__(self):
        if not os.path.exists(EXIT_EVENT):
            subprocess.run(["mount", "-t", "tracefs", "t", TRACE], check=True)
        self._trigger(COUNT_EXITS)
        return self

    def _trigger(self, text):
        with open(EXIT_EVENT + "trigger", "w") as out:
            out.write(text)

    def count(self):
        with open(EXIT_EVENT + "hist") as source:
            return sum(int(hits) for hits in re.findall(
                r"hitcount: *(\d+)", source.read()))

    def __exit__(self, *_):
        self._trigger("!" + COUNT_EXITS)


class Peer:
    def __init__(self, driver, program, assets):
        self.driver = driver
        self.program = program
        self.assets = assets
        self.lives = 0

    def show(self, figure, value):
        print("peer %s %s %.3f" % (self.driver.name.replace(" ", "_"), figure,
                                   value), flush=True)

    def monitor(self, number=None):
        """A new one, or one that may go on from what that number has saved."""
        if number is None:
            self.lives += 1
            number = self.lives
        directory = "/tmp/life%d" % number
        os.makedirs(directory, exist_ok=True)
        disk = directory + "/disk"
        if not os.path.exists(disk):
            with open(disk, "wb") as out:
                out.write(b"\x55" * (32 * MIB))
        return self.driver(self.program, directory, monitors.Guest(
            self.assets + self.kernel(), 256, AGENT_INITRD, ARGS,
            (("disk", disk),), "tap0", directory + "/v", typed=True))

    def kernel(self):
        """The one that most take; Firecracker 1.16 has no loader for others."""
        return "/bzImage" if self.driver.only_bzimage else "/vmlinux"

    def attempt(self, work, monitor):
        """What fails leaves a comment, and dashes in the report."""
        try:
            work(monitor)
        except (Cannot, OSError, AssertionError) as error:
            print("# %s cannot %s: %s" % (self.driver.name, work.__name__,
                                          str(error)[:300] or UNANSWERED),
                  flush=True)

    def in_a_life(self, work, number=None):
        monitor = self.monitor(number)
        try:
            self.attempt(work, monitor)
        finally:
            monitor.kill()

    # ----------------------------------------------------------------- lives

    def warm_up(self, monitor):
        """The first one pays for what is shared later."""
        monitor.run()
        monitor.console.wait_for(b"EMBER-READY", PATIENCE)

    def run(self, monitor):
        """By the command line."""
        with Exits() as exits:
            start = time.monotonic_ns()
            monitor.run()
            monitor.console.wait_for(b"EMBER-GUEST", PATIENCE)
            took = time.monotonic_ns() - start
            said = monitor.console.wait_for(b"EMBER-READY", PATIENCE)
            # Two lines; each byte is an exit, two at an end.
            printed = len(b"EMBER-GUEST" + said + b"EMBER-READY\r\n")
            self.show("linux_exec_init_ms", took / 1e6)
            self.show("linux_exits", exits.count() - printed)
        for work in (self.booted, self.disk, self.network, self.sockets):
            self.attempt(work, monitor)

    def start_and_save(self, monitor):
        """By requests."""
        monitor.launch()
        monitor.configure()
        self.show("linux_start_ms", took_ms(monitor.boot))
        monitor.console.wait_for(b"EMBER-READY", PATIENCE)
        sh(monitor, "agent echo 1000 & sleep 0.5")
        took, files = monitor.save()
        self.show("linux_snapshot_ms", took / 1e3)
        self.show("linux_snapshot_kib", sum(
            os.stat(os.path.join(monitor.directory, name)).st_blocks / 2
            for name in files))

    def restoring(self, number):
        """The median of some, but for the first."""
        found = []

        def restore(monitor):
            start = time.monotonic_ns()
            monitor.restore()
            with monitors.until(lambda: connected(monitor),
                                "the copy does not answer") as conn:
                conn.settimeout(PATIENCE)
                round_trips(conn, 1)
            found.append((time.monotonic_ns() - start) / 1e6)

        for _ in range(RESTORES):
            self.in_a_life(restore, number)
        if len(found) == RESTORES:
            self.show("linux_restore_ms", sorted(found[1:])[RESTORES // 2
                                                            - 1])

    # --------------------------------------------------------- parts of a life

    def booted(self, monitor):
        init = re.search(rb"\[ *([\d.]+)\] Run /init",
                         sh(monitor, "dmesg | grep Run./init"))
        self.show("linux_init_ms", float(init.group(1)) * 1000)
        # What is dirty of it says nothing: programs are on a file system in
        # memory here, whose pages all are.
        self.show("linux_rss_kib", monitor.memory().rss)

    def disk(self, monitor):
        """The mix of P10."""
        sh(monitor, "test -b /dev/vda")
        read = "dd if=/dev/vda of=/dev/null iflag=direct 2>/dev/null "
        sh(monitor, read + "bs=1M")
        self.show("linux_block_ms", self.cost(monitor, lambda: [
            sh(monitor, read + "bs=4k count=%d" % READS),
            sh(monitor, "dd if=/dev/zero of=/dev/vda oflag=direct bs=4k "
               "count=%d 2>/dev/null" % WRITES),
            sh(monitor, read + "bs=1M count=%d" % LARGE)]) / 1e3)

    def network(self, monitor):
        for command in ("ip link set lo up", "ip link set tap0 up",
                        "ip address replace %s/24 dev tap0" % HOST):
            subprocess.run(command.split(), check=True)
        sh(monitor, "ip link set eth0 up && ip address add %s/24 dev eth0"
           % GUEST)
        icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW,
                             socket.IPPROTO_ICMP)
        icmp.settimeout(5)
        icmp.connect((GUEST, 0))
        ping(icmp, 10)
        self.show("linux_ping_us", self.cost(
            monitor, lambda: ping(icmp, ECHOES)) / ECHOES)
        sh(monitor, "AGENT_TCP=0.0.0.0 %s & sleep 0.5" % TAKE)
        self.poured("linux_tcp_in_us", monitor,
                    lambda: socket.create_connection((GUEST, TAKER)))
        with socket.create_server((HOST, 2000)) as listener:
            listener.settimeout(PATIENCE)
            push(monitor, listener)
            self.show("linux_tcp_out_us", self.cost(
                monitor, lambda: push(monitor, listener)) / POURED_MIB)

    def sockets(self, monitor):
        sh(monitor, "agent echo 1000 & %s & sleep 0.5" % TAKE)
        conn = monitor.socket_to(1000)
        conn.settimeout(5)
        round_trips(conn, 20)
        self.show("linux_vsock_us", self.cost(
            monitor, lambda: round_trips(conn, 200)) / 200)
        conn.close()
        self.poured("linux_vsock_mib_us", monitor,
                    lambda: monitor.socket_to(TAKER))

    def poured(self, figure, monitor, connect):
        """A MiB to the guest; the first time warms up."""
        def once():
            conn = connect()
            conn.settimeout(PATIENCE)
            pour(conn)

        once()
        self.show(figure, self.cost(monitor, once) / POURED_MIB)

    @staticmethod
    def cost(monitor, work):
        """CPU microseconds of the monitor, and of the kernel for it."""
        def now():
            return monitor.cpu_us(vcpus=False) + vhost_us(
                monitor.process.pid)

        before = now()
        work()
        return now() - before

    def all(self):
        # There are monitors that save memory that was never touched.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640m", "tmpfs",
                        "/tmp"], check=True)
        self.in_a_life(self.warm_up)
        self.in_a_life(self.run)
        self.in_a_life(self.start_and_save)
        subprocess.run(["mount", "-o", "remount,favordynmods",
                        "/sys/fs/cgroup"], check=True)
        self.restoring(self.lives)


def connected(monitor):
    """A connection to the guest's echo, as soon as there can be one."""
    try:
        return monitor.socket_to(1000)
    except OSError:
        return None


def push(monitor, listener):
    """The guest sends to the host."""
    sh(monitor, OVER_TCP + PUSH, lambda: drain(listener))


def sh(monitor, line, meanwhile=None):
    """What a command in the guest says, that does well."""
    monitor.type(line.encode() + b"\n")
    if meanwhile:
        meanwhile()
    said = monitor.console.wait_for(b"EMBER-EXIT ", PATIENCE)
    code = monitor.console.wait_for(b"\n", PATIENCE).strip()
    if code != b"0":
        raise Cannot("%s ended with %s" % (line, code.decode()))
    return said


def main():
    name, program, assets = sys.argv[1:4]
    driver = getattr(monitors, name)
    Peer(driver, program, assets).all()


if __name__ == "__main__":
    main()
