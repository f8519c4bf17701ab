#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stream sockets between host and guest."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import socket  # noqa: E402
import threading  # noqa: E402

from linuxguest import Guest, with_agent  # noqa: E402
from tap import SLOW, main, test  # noqa: E402
from vsock import Vsock  # noqa: E402

MIB = 1 << 20


def start(t, **config):
    """A guest with a socket device, and the way to it."""
    vsock = Vsock(t)
    guest = Guest(t, initrd=with_agent(t, "initrd"), mem=256,
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


if __name__ == "__main__":
    main()
