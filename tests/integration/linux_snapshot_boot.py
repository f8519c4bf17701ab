#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest that is still booting: vCPUs that wait for their start,
devices whose drivers are half way."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))

import time  # noqa: E402

import network  # noqa: E402
from ember import Monitor  # noqa: E402
from linuxguest import (  # noqa: E402
    BOOT_ARGS, BOOT_SECONDS, READY, Guest, asset, drive, with_agent)
from netguest import HOST, MAC, UP  # noqa: E402
from snapshots import Snapshot  # noqa: E402
from soakguest import make_disk  # noqa: E402
from tap import SLOW, main, test  # noqa: E402
from vsock import Vsock, execute  # noqa: E402

# So long the guest runs each time: much less, and in the lab it gets nowhere
# for fetching its memory again. A boot takes some five seconds there.
STEP_SECONDS = 0.05 * SLOW
STEPS_MAX = 12
PORT = 1000
# A boot in the lab has other complaints, about the processor.
HANGS = "lockup|stall|hung task|nobody cared|I/O error|timed out"


class Restored(Guest):
    """One that was started elsewhere."""

    def __init__(self, monitor):
        self.monitor = monitor


class Boot:
    """A boot that goes from monitor to monitor."""

    def __init__(self, t):
        self.test = t
        network.own_network()
        network.add_tap(t, "tap0", HOST + "/24")
        self.vsock = Vsock(t)
        self.snapshot = Snapshot(t)
        self.console = b""
        self.monitor = Monitor(test=t)
        self.monitor.put("/drives/data", **drive("data", make_disk(t)))
        self.monitor.put("/network-interfaces/eth0", iface_id="eth0",
                         host_dev_name="tap0", guest_mac=MAC)
        self.vsock.configure(self.monitor)
        self.monitor.start(
            kernel=asset("vmlinux"), initrd=with_agent(t, "initrd"),
            boot_args=BOOT_ARGS, vcpu_count=2, mem_size_mib=128)

    def step(self):
        """Lets the guest run for a while, then moves it."""
        time.sleep(STEP_SECONDS)
        self.monitor.patch("/vm", state="Paused")
        self.snapshot.create(self.monitor, sync=False)
        self.monitor.close()
        self.console += self.monitor.console
        os.unlink(self.vsock.path)
        self.monitor = self.snapshot.load(self.test, clock_realtime=True)

    def is_over(self):
        return READY in self.console + self.monitor.console

    def finish(self):
        """Lets it boot to the end; the guest."""
        deadline = time.monotonic() + 2 * BOOT_SECONDS
        while not self.is_over():
            assert time.monotonic() < deadline, "no end of the boot"
            time.sleep(0.1)
        guest = Restored(self.monitor)
        # What was half a word on the console is a line of its own now.
        guest.sh("")
        return guest


@test
def a_boot_goes_on_wherever_it_is_interrupted(t):
    boot = Boot(t)
    count = 0
    while count < STEPS_MAX and not boot.is_over():
        boot.step()
        count += 1
    t.point(count > 2, "a boot with %d snapshots" % count)
    guest = boot.finish()
    cpus = guest.sh("nproc").split()[-1]
    t.point(cpus == "2", "both vCPUs came up", cpus)
    guest.sh(UP + "; mkdir /data; mount -t ext4 /dev/vda /data; "
             "echo written >/data/file; sync; umount /data")
    t.point(True, "the disk works")
    text = guest.sh("ping -c 2 " + HOST)
    t.point("2 packets received" in text, "the network works", text)
    guest.spawn("agent exec %d" % PORT, "ready")
    answer = execute(boot.vsock.connect(PORT), "echo hello")
    t.point(answer == (b"hello\n", 0), "sockets work", str(answer))
    bad = guest.sh("dmesg | grep -E '%s' || true" % HANGS)
    t.point(bad == "", "the kernel has no complaints", bad)
    guest.power_off()


if __name__ == "__main__":
    main()
