#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Network interfaces, used by Debian's own tools."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import json  # noqa: E402
import subprocess  # noqa: E402

import network  # noqa: E402
from ember import Monitor, TIMEOUT, guest_points  # noqa: E402
from ember import guest as tiny  # noqa: E402
from netguest import (  # noqa: E402
    GUEST, HOST, MAC, UP, flush, iperf, longest_frame, start, with_metrics)
from tap import SLOW, Skip, main, test  # noqa: E402

VIRTIO_NET = 1  # behind the disk with the tools
MAX_FRAME = 1514  # of one segment: the MTU and the Ethernet header


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
    t.point(sent["sum_received"]["bytes"] > 1 << 18 and
            got["sum_received"]["bytes"] > 1 << 18, "TCP both ways",
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
    t.point(to_guest > 60000, "64 KiB segments cross whole to the guest",
            str(to_guest))
    # How much a guest has to send at once is up to its speed.
    t.point(from_guest > MAX_FRAME, "segments of several frames, from it",
            str(from_guest))
    # What is still in buffers when the time is over is not counted.
    arrived, left = (sent["sum_" + way]["bytes"] for way in
                     ("received", "sent"))
    t.point(arrived > left / 2, "what the guest sent arrived",
            "%.1f of %.1f MB" % (arrived / 1e6, left / 1e6))
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
    t.point(max(frames()) <= MAX_FRAME, "no frame is longer than the MTU")
    t.point(sent["sum_received"]["bytes"] > 0, "the guest sends")
    t.point(got["sum_received"]["bytes"] > 0, "the guest receives")
    udp = iperf(guest, prefix, "-u", "-b", "2M", seconds=3)
    lost = udp["sum"]["lost_packets"]
    t.point(lost == 0, "no datagram is lost", str(lost))
    guest.power_off()


if __name__ == "__main__":
    main()
