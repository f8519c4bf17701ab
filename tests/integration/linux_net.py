#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Network interfaces and the metadata service, used by Debian's own tools."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import json  # noqa: E402
import re  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import network  # noqa: E402
from ember import Monitor, TIMEOUT, guest_points  # noqa: E402
from ember import guest as tiny  # noqa: E402
from linuxguest import BOOT_SECONDS, Guest, tools  # noqa: E402
from tap import SLOW, Skip, main, test  # noqa: E402

MAC = "06:00:ac:10:00:02"
HOST, GUEST = "172.16.0.1", "172.16.0.2"
UP = ("ip link set lo up; ip link set eth0 up; "
      "ip address add %s/24 dev eth0" % GUEST)
SECONDS = 10
VIRTIO_NET = 1  # behind the disk with the tools


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


@test
def ping_both_ways_and_what_is_counted(t):
    path, configure = with_metrics(t)
    guest = start(t, configure, mtu=1400)
    guest.metrics = path
    text = guest.sh("ping -c 5 -i 0.2 " + HOST)
    t.point("5 packets received" in text, "the guest pings the host", text)
    done = subprocess.run(["ping", "-c", "5", "-i", "0.2", GUEST],
                          capture_output=True, text=True)
    t.point(" 5 received" in done.stdout, "the host pings the guest",
            done.stdout)
    mac = guest.sh("cat /sys/class/net/eth0/address")
    t.point(mac == MAC, "the MAC address is the configured one", mac)
    mtu = guest.sh("cat /sys/class/net/eth0/mtu")
    t.point(mtu == "1400", "the MTU is the configured one", mtu)
    text = guest.sh("ping -c 2 -i 0.2 -s 1300 " + HOST)
    t.point("2 packets received" in text, "large packets arrive too", text)
    # busybox cannot turn offloads off, but an address can be changed.
    guest.sh("ip link set eth0 down; ip link set eth0 address "
             "06:00:ac:10:00:99; ip link set eth0 up; "
             "ping -c 1 " + HOST)
    counts = flush(guest)
    t.point(counts["tx_spoofed_mac_count"] > 0, "a foreign MAC is counted")
    t.point(counts["rx_packets_count"] >= 12 <= counts["tx_packets_count"],
            "packets are counted", json.dumps(counts))
    bad = {key: value for key, value in counts.items()
           if value and ("fail" in key or "malformed" in key)}
    t.point(not bad, "nothing failed", json.dumps(bad))
    guest.power_off()


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


LOSSES = ("cd /sys/class/net/eth0/statistics; "
          "echo $(cat rx_dropped tx_dropped rx_errors tx_errors)")


def host_losses(name):
    """The same for an interface of the host. Its sysfs may show another
    network namespace's."""
    done = subprocess.run(["ip", "-s", "-j", "link", "show", name],
                          check=True, capture_output=True)
    (link,) = json.loads(done.stdout)
    stats = link["stats64"]
    return " ".join(str(stats[way][what]) for what in ("dropped", "errors")
                    for way in ("rx", "tx"))


@test
def vhost(t):
    """The kernel moves the frames; the monitor only stands by."""
    if not os.path.exists("/dev/vhost-net"):
        raise Skip("/dev/vhost-net does not exist")
    path, configure = with_metrics(t)
    guest = start(t, configure, with_tools=True, vhost=True)
    guest.metrics = path
    prefix = guest.enter_tools()
    guest.run("ping -c 3 -W %d %s" % (int(SLOW) + 1, HOST))
    sent = iperf(guest, prefix, seconds=3)
    got = iperf(guest, prefix, reverse=True, seconds=3)
    t.point(sent["sum_received"]["bytes"] > 1 << 20 and
            got["sum_received"]["bytes"] > 1 << 20, "TCP both ways",
            "%.0f MB, %.0f MB" % (sent["sum_received"]["bytes"] / 1e6,
                                  got["sum_received"]["bytes"] / 1e6))
    seen = flush(guest)
    t.point(seen["tx_packets_count"] == 0 and seen["rx_packets_count"] == 0,
            "no frame passes through the monitor", str(seen))
    # A machine that is paused is not written to.
    guest.monitor.patch("/vm", state="Paused")
    ping = ["ping", "-c", "2", "-W", "2", GUEST]
    t.point(subprocess.run(ping, stdout=subprocess.DEVNULL).returncode != 0,
            "a paused guest does not answer")
    guest.monitor.patch("/vm", state="Resumed")
    t.point(subprocess.run(ping, stdout=subprocess.DEVNULL).returncode == 0,
            "and answers when it goes on")
    fault = guest.monitor.fault("PATCH", "/network-interfaces/eth0", {
        "iface_id": "eth0", "tx_rate_limiter": {
            "ops": {"size": 1, "refill_time": 1}}})
    t.point("vhost knows no rate limiters" in fault, "no limits", fault)
    # The driver leaves and comes back.
    guest.run("echo virtio%d > /sys/bus/virtio/drivers/virtio_net/unbind" %
              VIRTIO_NET)
    guest.run("echo virtio%d > /sys/bus/virtio/drivers/virtio_net/bind" %
              VIRTIO_NET)
    guest.sh(UP)
    guest.run("ping -c 3 -W %d %s" % (int(SLOW) + 1, HOST))
    t.point(True, "the driver comes back")


@test
def vhost_that_breaks_off(t):
    """The kernel says no more than that a queue is broken."""
    if not os.path.exists("/dev/vhost-net"):
        raise Skip("/dev/vhost-net does not exist")
    network.own_network()
    network.add_tap(t, "tap0")
    monitor = Monitor(test=t)
    monitor.put("/network-interfaces/n", iface_id="n", host_dev_name="tap0",
                vhost=True)
    monitor.start(tiny("evil_net"), mem_size_mib=128)
    monitor.expect(b"done\n", 6 * TIMEOUT)
    guest_points(t, monitor.console)
    t.point("vhost broke off" in monitor.log, "the log says so", monitor.log)


@test
def tcp_both_ways_with_offloads(t):
    path, configure = with_metrics(t)
    guest = start(t, configure, with_tools=True)
    guest.metrics = path
    prefix = guest.enter_tools()
    frames = longest_frame("tap0")
    sent = iperf(guest, prefix)
    got = iperf(guest, prefix, reverse=True)
    to_guest, from_guest = frames()
    t.point(to_guest > 32768, "large segments cross whole to the guest",
            str(to_guest))
    t.point(from_guest > 32768, "large segments cross whole from the guest",
            str(from_guest))
    t.point(sent["sum_received"]["bytes"] == sent["sum_sent"]["bytes"] or
            sent["sum_received"]["bytes"] > 0.98 * sent["sum_sent"]["bytes"],
            "what the guest sent arrived", "%.0f MB" % (
                sent["sum_received"]["bytes"] / 1e6))
    t.point(got["sum_received"]["bytes"] > 0, "the guest receives",
            "%.0f MB" % (got["sum_received"]["bytes"] / 1e6))
    lost = host_losses("tap0"), guest.sh(LOSSES)
    t.point(lost == ("0 0 0 0", "0 0 0 0"),
            "no frame is lost on either side", str(lost))
    counts = flush(guest)
    bad = {key: value for key, value in counts.items()
           if value and ("fail" in key or "malformed" in key)}
    t.point(not bad, "nothing failed", json.dumps(bad))
    guest.power_off()


OFF = "-K %s tso off gso off gro off tx off rx off"


@test
def tcp_both_ways_without_offloads(t):
    guest = start(t, with_tools=True)
    prefix = guest.enter_tools()
    guest.run(prefix + "ethtool " + OFF % "eth0")
    subprocess.run(["ethtool"] + (OFF % "tap0").split(), check=False,
                   capture_output=True)
    frames = longest_frame("tap0")
    sent = iperf(guest, prefix, seconds=3)
    got = iperf(guest, prefix, reverse=True, seconds=3)
    t.point(max(frames()) <= 1514, "no frame is longer than the MTU")
    t.point(sent["sum_received"]["bytes"] > 0, "the guest sends")
    t.point(got["sum_received"]["bytes"] > 0, "the guest receives")
    udp = iperf(guest, prefix, "-u", "-b", "2M", seconds=3)
    lost = udp["sum"]["lost_packets"]
    t.point(lost == 0, "no datagram is lost", str(lost))
    guest.power_off()


# Bytes per second that a limited direction may carry, and for how long it is
# watched. Both directions have a bucket that is full at the start.
RATE = 500000
BUCKET = {"size": RATE // 10, "refill_time": 100}
LIMIT = {"bandwidth": BUCKET}
WATCH_SECONDS = 5


def rate_sent(guest, prefix):
    """Bytes per second that leave a guest which wants to send far more."""
    done = iperf(guest, prefix, "-u", "-b", "16M", "-l", "1400",
                 seconds=WATCH_SECONDS)["sum"]
    packets = done["packets"] - done["lost_packets"]
    return packets * (1400 + 42) / done["seconds"]


def rate_received(guest):
    """Packets and bytes per second that a flooded guest receives."""
    stop = threading.Event()
    flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send():
        while not stop.is_set():
            try:
                flood.sendto(bytes(1400), (GUEST, 9))
            except OSError:
                pass  # the guest says that nobody listens
            time.sleep(0.0002)

    def arrived():
        text = guest.sh("cd /sys/class/net/eth0/statistics; "
                        "cat rx_packets rx_bytes")
        return time.monotonic(), [int(word) for word in text.split()]

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.5)
    start_time, before = arrived()
    time.sleep(WATCH_SECONDS)
    end_time, after = arrived()
    stop.set()
    thread.join()
    flood.close()
    return [(b - a) / (end_time - start_time) for a, b in zip(before, after)]


def within(t, rate, target, name):
    t.point(0.9 * target < rate < 1.1 * target, name,
            "%.0f of %.0f bytes/s" % (rate, target))


@test
def limits_hold_and_can_be_changed(t):
    guest = start(t, with_tools=True, tx_rate_limiter=LIMIT,
                  rx_rate_limiter=LIMIT)
    prefix = guest.enter_tools()
    within(t, rate_sent(guest, prefix), RATE, "what the guest sends")
    within(t, rate_received(guest)[1], RATE,
           "what the guest receives")
    doubled = {"bandwidth": {"size": RATE // 5, "refill_time": 100}}
    guest.monitor.patch("/network-interfaces/eth0", iface_id="eth0",
                        tx_rate_limiter=doubled)
    within(t, rate_sent(guest, prefix), 2 * RATE, "sending, doubled")
    ops = {"bandwidth": {"size": 0, "refill_time": 0},
           "ops": {"size": 20, "refill_time": 100}}
    guest.monitor.patch("/network-interfaces/eth0", iface_id="eth0",
                        rx_rate_limiter=ops)
    within(t, rate_received(guest)[0], 200, "receiving, by packets")
    guest.monitor.patch("/network-interfaces/eth0", iface_id="eth0",
                        rx_rate_limiter={"ops": {"size": 0,
                                                 "refill_time": 0}})
    free = iperf(guest, prefix, reverse=True, seconds=2)
    t.point(free["sum_received"]["bits_per_second"] > 8 * 4 * RATE,
            "without a limit it is faster",
            "%.0f" % free["sum_received"]["bits_per_second"])
    config = guest.monitor.get("/vm/config")["network-interfaces"][0]
    t.point(config["tx_rate_limiter"]["bandwidth"]["size"] == RATE // 5,
            "/vm/config shows what was changed", json.dumps(config))
    guest.power_off()


# -------------------------------------------------------- metadata service

DATA = {"latest": {"meta-data": {"ami-id": "ami-1", "nested": {"a": 1}},
                   "user-data": "#!/bin/sh\n", "list": ["x", "y"]},
        "number": 7}
ADDRESS = "169.254.169.254"


def curl(guest, prefix, path, *args):
    """(status, body) of a request to the service."""
    text = guest.sh(prefix + "curl -s -m 20 -w '\\n%%{http_code}' %s http://%s%s"
                    % (" ".join(args), ADDRESS, path))
    body, _, status = text.rpartition("\n")
    return int(status), body


def start_mmds(t, version, **config):
    def configure(monitor):
        monitor.put("/mmds/config", version=version,
                    network_interfaces=["eth0"], **config)
        monitor.put("/mmds", **DATA)

    guest = start(t, configure, with_tools=True)
    guest.sh("ip route add %s dev eth0" % ADDRESS)
    return guest, guest.enter_tools()


@test
def metadata_with_tokens(t):
    guest, prefix = start_mmds(t, "V2")
    ttl = "-X PUT -H 'X-metadata-token-ttl-seconds: 60'"
    seen = longest_frame("tap0")
    status, token = curl(guest, prefix, "/latest/api/token", ttl)
    t.point(status == 200 and len(token) == 48, "a token is issued", token)
    status, _ = curl(guest, prefix, "/latest")
    t.point(status == 401, "without a token: 401", str(status))
    header = "-H 'X-metadata-token: %s'" % token
    status, body = curl(guest, prefix, "/latest/", header)
    t.point((status, body) == (200, "list\nmeta-data/\nuser-data"),
            "plain text lists the keys", repr(body))
    status, body = curl(guest, prefix, "/latest/meta-data", header,
                        "-H 'Accept: application/json'")
    t.point(json.loads(body) == DATA["latest"]["meta-data"],
            "JSON is the value", body)
    status, body = curl(guest, prefix, "/latest/list/1", header)
    t.point(body == "y", "an array by index", body)
    status, body = curl(guest, prefix, "/nowhere", header)
    t.point(status == 404, "what is not there: 404", body)
    guest.monitor.patch("/mmds", latest={"meta-data": {"ami-id": "ami-2"}})
    status, body = curl(guest, prefix, "/latest/meta-data/ami-id", header)
    t.point(body == "ami-2", "what the host changes is seen", body)
    big = {"big": "x" * 40000}
    guest.monitor.patch("/mmds", **big)
    status, body = curl(guest, prefix, "/big", header)
    t.point(body == big["big"], "a large value arrives whole",
            "%d bytes" % len(body))
    to_guest, from_guest = seen()
    with open("/proc/net/dev") as source:
        line = re.search(r"tap0:.*", source.read()).group(0).split()
    t.point(int(line[2]) < 12, "the tap saw none of it", " ".join(line))
    guest.power_off()


@test
def metadata_survives_many_connections(t):
    guest, prefix = start_mmds(t, "V1", imds_compat=True)
    text = guest.sh(prefix + "sh -c 'for i in $(seq 60); do curl -s -m 30 "
                    "http://%s/number/../latest/meta-data/ami-id & done; "
                    "wait'" % ADDRESS, timeout=BOOT_SECONDS * 4)
    t.point(text.count("ami-1") == 60, "60 requests at once are answered",
            "%d" % text.count("ami-1"))
    status, _ = curl(guest, prefix, "/latest/meta-data/ami-id")
    t.point(status == 200, "and one after them")
    guest.power_off()


if __name__ == "__main__":
    main()
