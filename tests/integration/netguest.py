# SPDX-License-Identifier: Apache-2.0
"""A Debian guest behind a tap, in a network namespace of the test's own."""
import json
import socket
import subprocess
import threading

import network
from linuxguest import BOOT_SECONDS, Guest, tools

MAC = "06:00:ac:10:00:02"
HOST, GUEST = "172.16.0.1", "172.16.0.2"
UP = ("ip link set lo up; ip link set eth0 up; "
      "ip address add %s/24 dev eth0" % GUEST)
SECONDS = 10


def start(t, configure=None, with_tools=False, **interface):
    """A guest behind a tap, with an address and an answer from the host."""
    network.own_network()
    network.add_tap(t, "tap0", HOST + "/24")

    def all_of_it(monitor):
        monitor.put("/network-interfaces/eth0", **{
            "iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": MAC,
            **interface})
        if configure:
            configure(monitor)

    guest = Guest(t, mem=192, configure=all_of_it,
                  drives=[tools()] if with_tools else [])
    guest.sh(UP)
    return guest


def flush(guest, name="net_eth0"):
    """The sum of what a section of the metrics has counted."""
    guest.monitor.put("/actions", action_type="FlushMetrics")
    total = {}
    with open(guest.metrics) as source:
        for line in source:
            for key, value in json.loads(line)[name].items():
                if isinstance(value, int):
                    total[key] = total.get(key, 0) + value
    return total


def with_metrics(t, more=None):
    path = t.path("metrics")

    def configure(monitor):
        monitor.put("/metrics", metrics_path=path)
        if more:
            more(monitor)
    return path, configure


def iperf(guest, prefix, *args, reverse=False, seconds=SECONDS):
    """Bits per second and lost segments of a run against a server here."""
    server = subprocess.Popen(
        ["iperf3", "-s", "-1", "-B", HOST, "--forceflush"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        server.stdout.readline()
        words = ["iperf3", "-c", HOST, "-t", str(seconds), "-J", *args]
        text = guest.sh(prefix + " ".join(words + (["-R"] if reverse else [])),
                        timeout=BOOT_SECONDS + 5 * seconds)
        return json.loads(text)["end"]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def longest_frame(name):
    """Largest frame that crosses an interface until the result is asked
    for: a packet socket sees segments before they are cut."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                         socket.ntohs(3))
    sock.bind((name, 0))
    sock.settimeout(0.2)
    stop = threading.Event()
    longest = {True: 0, False: 0}

    def watch():
        while not stop.is_set():
            try:
                data, address = sock.recvfrom(1 << 17)
            except TimeoutError:
                continue
            outgoing = address[2] == 4  # PACKET_OUTGOING
            longest[outgoing] = max(longest[outgoing], len(data))

    thread = threading.Thread(target=watch)
    thread.start()

    def result():
        stop.set()
        thread.join()
        sock.close()
        return longest[True], longest[False]
    return result
