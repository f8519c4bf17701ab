#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rate limits of a network interface, watched for seconds."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import json  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from netguest import GUEST, iperf, start  # noqa: E402
from tap import main, test  # noqa: E402


# Bytes per second that a limited direction may carry, and for how long it is
# watched. Both directions have a bucket that is full at the start.
RATE = 250000
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


if __name__ == "__main__":
    main()
