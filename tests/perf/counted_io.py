#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: boots a Debian
guest with a tap and a socket device and prints what each kind of traffic costs
the monitor's own threads (vCPU threads apart), one line per figure:

    NAME_us <monitor's microseconds per unit> whole <elapsed ones>
"""
import socket
import struct
import subprocess
import sys

from counted_machine import MIB, Machine, connect, show_cost

HOST, GUEST = "172.16.0.1", "172.16.0.2"
POURED_MIB = 16
PUSH = "agent push 2000 %d" % (POURED_MIB * MIB)
OVER_TCP = "AGENT_TCP=%s " % HOST
TAKER = 1001
TAKE = "agent take %d %d" % (TAKER, POURED_MIB * MIB)


class Talker(Machine):
    def add_devices(self):
        self.vsock = "/tmp/v"
        self.add_network()
        self.put("/vsock", guest_cid=3, uds_path=self.vsock)
        self.put("/entropy")

    def connect(self, port):
        conn = connect(self.vsock)
        conn.sendall(b"CONNECT %d\n" % port)
        answer = conn.recv(64)
        assert answer.startswith(b"OK"), answer
        return conn

    def push(self, listener, how=""):
        """The guest sends to the host."""
        self.type(how + PUSH)
        drain(listener)
        self.wait_for(b"EMBER-EXIT 0")

    def measure(self, name, units, work):
        show_cost(name, self.cost(work), units)


def round_trips(conn, count):
    for _ in range(count):
        conn.sendall(b"x")
        assert conn.recv(1) == b"x"


def ping(icmp, count):
    """Echo requests of the usual 64 bytes, each after the last one's reply."""
    for number in range(count):
        head = struct.pack(">BBHHH", 8, 0, 0, 1, number) + bytes(56)
        total = sum(struct.unpack(">32H", head))
        total = (total & 0xffff) + (total >> 16)
        icmp.send(head[:2] + struct.pack(">H", ~total & 0xffff) + head[4:])
        icmp.recv(2000)


def pour(conn):
    """Sends what is taken there (TAKE), and waits until it has been counted."""
    block = bytes(MIB // 4)
    for _ in range(4 * POURED_MIB):
        conn.sendall(block)
    assert conn.recv(64).startswith(b"%d " % (POURED_MIB * MIB))
    conn.close()


def drain(listener):
    """Receives what somebody sends who connects."""
    conn, _ = listener.accept()
    while conn.recv(1 << 18):
        pass
    conn.close()


def sockets(machine):
    machine.sh("agent echo 1000 & %s & sleep 0.5" % TAKE)
    conn = machine.connect(1000)
    round_trips(conn, 20)
    machine.measure("vsock_round_trip", 200, lambda: round_trips(conn, 200))
    conn.close()
    pour(machine.connect(TAKER))
    conn = machine.connect(TAKER)
    machine.measure("vsock_mib_in", POURED_MIB, lambda: pour(conn))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(machine.vsock + "_2000")
    listener.listen()
    machine.measure("vsock_mib_out", POURED_MIB,
                    lambda: machine.push(listener))


def network(machine):
    machine.sh("ip link set lo up; ip link set eth0 up; ip address add %s/24 "
               "dev eth0; AGENT_TCP=0.0.0.0 %s & sleep 0.5" % (GUEST, TAKE))
    icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW,
                         socket.IPPROTO_ICMP)
    icmp.connect((GUEST, 0))
    ping(icmp, 10)
    machine.measure("ping", 100, lambda: ping(icmp, 100))
    pour(socket.create_connection((GUEST, TAKER)))
    conn = socket.create_connection((GUEST, TAKER))
    machine.measure("tcp_mib_in", POURED_MIB, lambda: pour(conn))
    with socket.create_server((HOST, 2000)) as listener:
        machine.push(listener, OVER_TCP)
        machine.measure("tcp_mib_out", POURED_MIB,
                        lambda: machine.push(listener, OVER_TCP))


def entropy(machine):
    """Linux asks for 64 bytes at a time."""
    command = ("dd if=/dev/hwrng of=/dev/null bs=1024 count=%d "
               "iflag=fullblock 2>/dev/null")
    machine.sh(command % 1)
    machine.measure("entropy_kib", 64, lambda: machine.sh(command % 64))


def main():
    ember, assets = sys.argv[1:3]
    machine = Talker(ember, assets)
    for command in ("ip link set lo up", "ip link set tap0 up",
                    "ip address add %s/24 dev tap0" % HOST):
        subprocess.run(command.split(), check=True)
    sockets(machine)
    network(machine)
    entropy(machine)
    machine.power_off()


if __name__ == "__main__":
    main()
