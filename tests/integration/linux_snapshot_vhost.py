#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest whose frames the kernel moves: what vhost has written
is part of them, and vhost goes on."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

from snapshotchain import Chain, FileMemory  # noqa: E402
from soakguest import tcp_connect  # noqa: E402
from tap import Skip, main, test  # noqa: E402
from vsock import Stream, pattern  # noqa: E402

SINK = 1003
# Fits into the receive buffer of a guest that does not read.
WAITING_BYTES = 48 << 10


def start_sink(soak):
    """A server that can be stopped without the others."""
    soak.guest.sh("cp /bin/agent /tmp/sink; "
                  "AGENT_TCP=0.0.0.0 /tmp/sink sink %d >/tmp/sink.out &"
                  "until grep -q ready /tmp/sink.out; do sleep 0.1; done"
                  % SINK)


def send_unread(soak):
    """A connection with bytes in the guest that only vhost has written."""
    conn = Stream(tcp_connect(SINK))
    soak.guest.sh("until [ $(pidof sink | wc -w) = 2 ]; do sleep 0.1; done; "
                  "killall -STOP sink")
    conn.send(pattern(0, WAITING_BYTES))
    conn.half_close()
    soak.guest.sh("until grep -q ' 08 [0-9A-F]*:0000%04X ' /proc/net/tcp; "
                  "do sleep 0.1; done" % (WAITING_BYTES + 1))
    return conn


@test
def what_vhost_wrote_is_in_a_diff(t):
    if not os.path.exists("/dev/vhost-net"):
        raise Skip("/dev/vhost-net does not exist")
    chain = Chain(t, FileMemory(t), vhost=True)
    start_sink(chain.soak)
    for number in range(8):
        # A page that KVM maps afresh counts as dirty, whoever wrote to it: so
        # the guest has had those that vhost will write to.
        chain.snapshot_and_go_on()
        conn = send_unread(chain.soak)
        bad = chain.step(number)
        chain.soak.guest.sh("killall -CONT sink")
        verdict = conn.rest()
        if verdict != b"%d 1\n" % WAITING_BYTES:
            bad.append("what waited in the guest: %r" % verdict)
        conn.close()
        t.point(not bad, chain.name(number), "\n".join(bad))
    chain.end()


if __name__ == "__main__":
    main()
