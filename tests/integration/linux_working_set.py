#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The working set of a Linux guest: recorded until it accepts a connection,
brought in for the next clones."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import injail  # noqa: E402
from linuxguest import Guest, with_agent  # noqa: E402
from snapshots import taken  # noqa: E402
from tap import SLOW, main, test  # noqa: E402
from touch import WorkingSet  # noqa: E402
from vsock import Vsock  # noqa: E402

MEMORY_MIB = 256


class Server:
    """A snapshot of a guest that answers on a socket."""

    def __init__(self, t):
        self.test = t
        vsock = Vsock(t)
        guest = Guest(t, initrd=with_agent(t, "initrd"), mem=MEMORY_MIB,
                      configure=vsock.configure)
        guest.spawn("agent echo 1000", "ready")
        self.snapshot = taken(t, guest.monitor)

    def clone(self, name, **fields):
        """A running clone, its console not looked at, and the way to it."""
        vsock = Vsock(self.test, name)
        m = self.snapshot.load(
            self.test, vsock_override={"uds_path": vsock.path}, **fields)
        return m, vsock


def answers(vsock):
    conn = vsock.connect(1000)
    conn.send(b"hello")
    return conn.receive(5) == b"hello"


@test
def a_record_ends_with_the_first_connection(t):
    server = Server(t)
    path = t.write("set", b"old")
    m, vsock = server.clone("first", record_working_set={"path": path})
    time.sleep(0.1)
    t.point(os.stat(path).st_size == 3, "nothing before that")
    t.point(answers(vsock), "the guest answers")
    deadline = time.monotonic() + 10 * SLOW
    while os.stat(path).st_size == 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    found = WorkingSet(path)
    written, read = len(found.written), len(found.read)
    print("# %d pages written, %d read" % (written, read))
    t.point(written > 20 and read > 20, "it touched something")
    t.point((written + read) * 4096 < MEMORY_MIB << 18, "and not everything",
            "%d and %d pages" % (written, read))
    m.close()
    for way in "Beside", "Before", "Copy":
        m, vsock = server.clone(way, working_set_path=path, prefetch=way)
        t.point(answers(vsock), way + ": a clone that has it answers")
        m.wait_log("The working set was brought in: %d pages written, %d read"
                   % (written, read))
        m.close()


if __name__ == "__main__":
    injail.give_proc()
    main()
