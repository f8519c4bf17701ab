# SPDX-License-Identifier: Apache-2.0
"""As many devices as there are interrupts for: 17, of any kinds."""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, guest_points, need_kvm
from network import network, put_net
from tap import main, test

NET, BLOCK, ENTROPY, VSOCK = 1, 2, 4, 19
LIMIT = 17
FIRST_GSI = 5
TOO_MANY = ("Start microvm error: Could not attach device: Error while "
            "registering ACPI with KVM: VMClock: Could not allocate GSI: The "
            "requested resource is not available.")


def put_drives(t, m, count):
    for number in range(count):
        disk = t.write("disk%d" % number,
                       struct.pack("<Q", 1000 + number) + bytes(504))
        m.put("/drives/d%d" % number, drive_id="d%d" % number,
              is_root_device=False, path_on_host=disk)


def taps_for(t, count):
    """Their names; they are there before the monitor, which may not make any."""
    taps = ["tap%d" % number for number in range(count)]
    if taps:
        network(t, *taps)
    return taps


def put_nets(m, taps):
    for tap in taps:
        put_net(m, "if_" + tap, tap)


def configured(t, drives=0, nets=0, others=False):
    """A monitor with that many devices, and the lines of a guest in it."""
    need_kvm()
    taps = taps_for(t, nets)
    m = Monitor(test=t)
    if others:
        m.put("/entropy")
        m.put("/vsock", guest_cid=3, uds_path=t.path("vsock"))
    put_nets(m, taps)
    put_drives(t, m, drives)
    ids = [BLOCK] * drives + [NET] * nets + (
        [VSOCK, ENTROPY] if others else [])
    want = ["used %d at %d" % (number, FIRST_GSI + place)
            for place, number in enumerate(ids)]
    for number in range(drives):
        want[number] += " data %d" % (1000 + number)
    m.put("/boot-source", kernel_image_path=guest("many"))
    return m, want


def all_work(t, m, want):
    m.put("/actions", action_type="InstanceStart")
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    used = [line for line in lines if line.startswith(("used", "lost"))]
    t.point(used == want, "%d devices work" % len(want), used)
    t.point("count %d" % len(want) in lines, "and are all there are")


@test
def seventeen_drives(t):
    all_work(t, *configured(t, drives=LIMIT))


@test
def seventeen_interfaces(t):
    all_work(t, *configured(t, nets=LIMIT))


@test
def seventeen_of_all_kinds(t):
    """The last one is used too: it is the entropy device."""
    all_work(t, *configured(t, drives=9, nets=6, others=True))


@test
def none_at_all(t):
    all_work(t, *configured(t))


def one_too_many(t, **devices):
    m, _ = configured(t, **devices)
    for _ in range(2):
        fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
        t.point(fault == TOO_MANY, "refused", fault)
        t.point(m.get("/")["state"] == "Not started", "not started")
    return m


@test
def eighteen_drives(t):
    m = one_too_many(t, drives=LIMIT + 1)
    # Nothing of a start that failed is left: others can still be replaced.
    m.put("/drives/d0", drive_id="d0", is_root_device=False,
          path_on_host=t.write("other", bytes(512)))
    assert len(m.get("/vm/config")["drives"]) == LIMIT + 1


@test
def eighteen_interfaces(t):
    one_too_many(t, nets=LIMIT + 1)


@test
def eighteen_of_all_kinds(t):
    one_too_many(t, drives=8, nets=8, others=True)


@test
def thirty_two_of_each_can_be_configured(t):
    """A limit is one of the machine; how many are configured has its own."""
    m = one_too_many(t, drives=32, nets=32, others=True)
    disk = t.write("another", bytes(512))
    fault = m.fault("PUT", "/drives/x", {
        "drive_id": "x", "is_root_device": False, "path_on_host": disk})
    t.point("More than 32 drives cannot be configured" in fault, "a 33rd drive",
            fault)
    fault = m.fault("PUT", "/network-interfaces/x", {
        "iface_id": "x", "host_dev_name": "tap9"})
    t.point("More than 32 interfaces cannot be configured" in fault,
            "a 33rd interface", fault)
    m.put("/drives/d31", drive_id="d31", is_root_device=False,
          path_on_host=disk)


@test
def config_file_with_too_many(t):
    need_kvm()
    disk = t.write("disk", bytes(512))
    config = t.write("config", json.dumps({
        "boot-source": {"kernel_image_path": guest("many")},
        "drives": [{"drive_id": "d%d" % number, "is_root_device": False,
                    "path_on_host": disk} for number in range(18)]}))
    m = Monitor(test=t, args=["--config-file", config], wait=False)
    assert m.wait() == 1
    assert TOO_MANY.partition(": ")[2] in m.log, m.log


if __name__ == "__main__":
    main()
