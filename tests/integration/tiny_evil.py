# SPDX-License-Identifier: Apache-2.0
"""Guests that break the rules of virtio. Whatever they do, the monitor lives,
its API answers, and a device that is reset works again."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import network
from ember import Monitor, TIMEOUT, guest, guest_points, need_kvm
from tap import main, test

SECTOR = 512
SECTORS = 256


def numbered():
    return b"".join(struct.pack("<Q", n).ljust(SECTOR, bytes([n & 0xff]))
                    for n in range(SECTORS))


def be_evil(t, name, engine="Sync"):
    need_kvm()
    m = Monitor(test=t)
    disk = t.write("disk", numbered())
    m.put("/drives/d", drive_id="d", is_root_device=False, path_on_host=disk,
          io_engine=engine)
    m.start(guest(name), mem_size_mib=128)
    try:
        m.expect(b"done\n", 6 * TIMEOUT)
    finally:
        t.point(m.alive(), "monitor is alive", m.log)
    guest_points(t, m.console)
    assert m.get("/")["state"] == "Running"
    m.patch("/vm", state="Paused")
    m.patch("/vm", state="Resumed")
    lines = len(m.log.splitlines())
    t.point(lines < 500, "log stays short", "%d lines" % lines)
    t.point("ERROR" not in m.log, "no error is logged", m.log)
    with open(disk, "rb") as file:
        t.point(file.read() == numbered(), "disk is as it was")


@test
def registers_in_every_wrong_order(t):
    be_evil(t, "evil_mmio")


@test
def rings_full_of_nonsense(t):
    be_evil(t, "evil_ring")


@test
def requests_that_cannot_be_done(t):
    be_evil(t, "evil_block")


@test
def registers_of_an_async_disk(t):
    be_evil(t, "evil_mmio", "Async")


@test
def rings_of_an_async_disk(t):
    be_evil(t, "evil_ring", "Async")


@test
def requests_of_an_async_disk(t):
    be_evil(t, "evil_block", "Async")


@test
def network_rings_full_of_nonsense(t):
    need_kvm()
    network.own_network()
    network.add_tap(t, "tap0")
    m = Monitor(test=t)
    m.put("/network-interfaces/n", iface_id="n", host_dev_name="tap0")
    m.start(guest("evil_net"), mem_size_mib=128)
    m.expect(b"done\n", 6 * TIMEOUT)
    guest_points(t, m.console)
    assert m.get("/")["state"] == "Running"


if __name__ == "__main__":
    main()
