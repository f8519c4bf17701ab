#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clones of one template, side by side, each with its own of everything."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import hashlib  # noqa: E402
import shutil  # noqa: E402

from snapshotchain import CLOCK_SLACK_NS  # noqa: E402
from snapshots import Snapshot  # noqa: E402
from soakguest import (  # noqa: E402
    ECHO, HOST_ECHO, Pump, Soak, add_tap, tcp_connect, tcp_listen)
from tap import main, test  # noqa: E402
from vsock import Vsock, echo_back  # noqa: E402

NAMES = ("one", "two")


def checksum(path):
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


class Template:
    """A guest at work, saved with its disk."""

    def __init__(self, t):
        self.test = t
        self.soak = Soak(t)
        self.soak.wait_for_ticks(self.soak.status())
        self.soak.run("echo template >/data/who; sync")
        self.snapshot = Snapshot(t)
        self.lag_ns = self.soak.status().lag_ns
        monitor = self.soak.monitor
        monitor.patch("/vm", state="Paused")
        self.snapshot.create(monitor, sync=False)
        monitor.signal(9)
        monitor.close()
        self.sums = self.checksums()

    def checksums(self):
        return [checksum(path) for path in (
            self.snapshot.state, self.snapshot.memory, self.soak.disk)]

    def clone(self, name):
        t = self.test
        tap, disk = "tap-" + name, t.path("disk-" + name)
        add_tap(t, tap)
        tcp_listen(t, HOST_ECHO, tap)
        shutil.copyfile(self.soak.disk, disk)
        vsock = Vsock(t, name + ".sock")
        echo_back(vsock.listen(HOST_ECHO))
        monitor = self.snapshot.load(
            t, clock_realtime=True,
            drive_overrides=[{"drive_id": "data", "path_on_host": disk}],
            network_overrides=[{"iface_id": "eth0", "host_dev_name": tap}],
            vsock_override={"uds_path": vsock.path})
        return self.soak.clone(monitor, vsock, disk, tap)


def check_work(t, name, clone):
    """It works, while the others do."""
    pumps = [Pump(clone.connect(ECHO).socket),
             Pump(tcp_connect(ECHO, clone.tap))]
    bad = clone.connections()
    status = clone.wait_for_ticks(clone.status(), more=50)
    t.point(status and not bad and not status["went_back"] and
            not status["disk_errors"], "%s works" % name,
            "%s %s" % (bad, status))
    t.point(all(pump.goes_on(0) for pump in pumps),
            "streams to %s over vsock and TCP" % name)
    for pump in pumps:
        pump.stop()
        t.point(not pump.bad, "what %s sends back is what was sent" % name,
                pump.bad)


def check_separate(t, clones):
    """What one writes is its own."""
    for name, clone in zip(NAMES, clones):
        _, code = clone.run("echo %s >/data/who; echo %s >/tmp/who; sync"
                            % (name, name))
        t.point(code == 0, "%s writes" % name)
    for name, clone in zip(NAMES, clones):
        text, _ = clone.run("echo 3 >/proc/sys/vm/drop_caches; "
                            "cat /data/who /tmp/who")
        t.point(text == "%s\n%s\n" % (name, name),
                "%s reads what it wrote" % name, text)


def check_clock(t, template, name, clone):
    """All are loaded with clock_realtime: a pause later than the template."""
    was, lag = template.lag_ns, clone.status().lag_ns
    t.point(lag[1] > was[0] - CLOCK_SLACK_NS and
            lag[0] < was[1] + CLOCK_SLACK_NS,
            "the wall clock of %s is right" % name, "%s %s" % (was, lag))


@test
def two_clones_of_a_guest_at_work(t):
    template = Template(t)
    clones = [template.clone(name) for name in NAMES]
    for name, clone in zip(NAMES, clones):
        check_clock(t, template, name, clone)
        check_work(t, name, clone)
    check_separate(t, clones)
    for name, clone in zip(NAMES, clones):
        complaints = clone.complaints()
        t.point(not complaints, "the kernel of %s has no complaints" % name,
                "\n".join(complaints))
        clone.end(t, clone.status())
    t.point(template.checksums() == template.sums,
            "the template is as it was")
    again = template.clone("three")
    text, _ = again.run("cat /data/who")
    t.point(text == "template\n", "and can be cloned again", text)
    check_clock(t, template, "three", again)
    again.end(t, again.status())


if __name__ == "__main__":
    main()
