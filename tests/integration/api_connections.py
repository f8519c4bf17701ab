# SPDX-License-Identifier: Apache-2.0
"""Interfaces, sockets and limiters as a client configures them, before the
start and after. A tiny guest at most."""
import fcntl
import json
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import (NOT_AFTER_START, NOT_BEFORE_START, Monitor, guest, run,
                   skip_in_jail)
from network import ip, network, put_net
from rows import DESERIALIZING, check
from tap import main, test

TUNSETIFF = 0x400454ca
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 2, 0x100, 0x1000, 0x4000
OS_2 = "No such file or directory (os error 2)"
NOT_FOUND = "Device not found"
BAD_TAP = ("Network config error: Could not create the network device: Open "
           "tap device failed: ")
BUCKET = {"size": 1000, "refill_time": 100}
FULL_BUCKET = {"size": 1000, "one_time_burst": 77, "refill_time": 100}
LIMITER = {"bandwidth": FULL_BUCKET, "ops": BUCKET}


def open_tap(t, name="", flags=IFF_TAP | IFF_NO_PI | IFF_VNET_HDR):
    """A descriptor of a tap of our own."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    t.defer(os.close, fd)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


# ------------------------------------------------------------- interfaces

@test
def interface_put(t):
    network(t, "tap0", "tap1")
    m = Monitor(test=t)
    path = "/network-interfaces/eth0"
    ok = {"iface_id": "eth0", "host_dev_name": "tap0"}
    out_of_range = DESERIALIZING + "MTU %d is out of range [68, 65535]"
    bad_mac = DESERIALIZING + "The provided MAC address is invalid."
    rows = [({**ok, **more}, text) for more, text in (
        ({}, None),
        ({"guest_mac": "06:00:AC:10:00:02"}, None),
        ({"guest_mac": None}, None),
        ({"guest_mac": "06:00:ac:10:00"}, bad_mac),
        ({"guest_mac": "06:00:ac:10:00:02:03"}, bad_mac),
        ({"guest_mac": "6:0:ac:10:0:2"}, bad_mac),
        ({"guest_mac": "06-00-ac-10-00-02"}, bad_mac),
        ({"guest_mac": "06:00:ac:10:00:0g"}, bad_mac),
        ({"guest_mac": ""}, bad_mac),
        ({"guest_mac": 6}, DESERIALIZING),
        ({"mtu": 68}, None),
        ({"mtu": 65535}, None),
        ({"mtu": None}, None),
        ({"mtu": 67}, out_of_range % 67),
        ({"mtu": 65536}, out_of_range % 65536),
        ({"mtu": 0}, out_of_range % 0),
        ({"mtu": -1}, DESERIALIZING),
        ({"mtu": "1500"}, DESERIALIZING),
        ({"mtu": 1500.5}, DESERIALIZING),
        ({"rx_rate_limiter": LIMITER, "tx_rate_limiter": {}}, None),
        ({"rx_rate_limiter": None}, None),
        ({"tx_rate_limiter": {"bandwidth": None, "ops": None}}, None),
        ({"tx_rate_limiter": {"bandwidth": {"size": 1}}},
         DESERIALIZING + "missing field `refill_time`"),
        ({"tx_rate_limiter": {"ops": {"refill_time": 1}}},
         DESERIALIZING + "missing field `size`"),
        ({"tx_rate_limiter": {"ops": {"size": -1, "refill_time": 1}}},
         DESERIALIZING),
        ({"tx_rate_limiter": {"ops": [1]}}, DESERIALIZING),
        ({"tx_rate_limiter": 7}, DESERIALIZING),
        ({"iface_id": "eth1"}, "The id from the path [eth0] does not match "
         "the id from the body [eth1]!"),
        ({"host_dev_name": "a_name_that_is_too_long"}, BAD_TAP),
        ({"host_dev_name": ""}, BAD_TAP),
        ({"host_dev_name": "lo"}, BAD_TAP),
        ({"host_dev_name": "a/b"}, BAD_TAP),
        ({"host_dev_name": 5}, DESERIALIZING),
        ({"allow_mmds_requests": True}, DESERIALIZING + "unknown field"),
    )]
    rows.append(({"iface_id": "eth0"},
                 DESERIALIZING + "missing field `host_dev_name`"))
    rows.append(({"host_dev_name": "tap0"},
                 DESERIALIZING + "missing field `iface_id`"))
    rows.append((ok, None))
    check(t, m, [("PUT", path, body, text) for body, text in rows])
    check(t, m, [
        ("PUT", "/network-interfaces", ok, "The ID cannot be empty."),
        ("PUT", "/network-interfaces/a-b", ok, "API Resource IDs can only"),
        ("PATCH", path, {"iface_id": "eth0"}, NOT_BEFORE_START),
        ("DELETE", path, None, NOT_BEFORE_START),
        ("GET", path, None, "Invalid request method and/or path"),
    ])


@test
def interface_texts(t):
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0", guest_mac="06:00:aa:bb:cc:dd")
    fault = m.fault("PUT", "/network-interfaces/eth1", {
        "iface_id": "eth1", "host_dev_name": "tap0"})
    assert fault.startswith(BAD_TAP), fault
    assert "Resource busy" in fault, fault
    assert "Invalid TUN/TAP Backend provided by tap0. Check our " \
        "documentation on setting up the network devices." in fault, fault
    fault = m.fault("PUT", "/network-interfaces/eth1", {
        "iface_id": "eth1", "host_dev_name": "tap9",
        "guest_mac": "06:00:AA:BB:CC:DD"})
    assert fault == ("Network config error: The MAC address is already in "
                     "use: 06:00:aa:bb:cc:dd"), fault


@test
def interface_of_another_kind(t):
    """A multi-queue tap, and a tun."""
    network(t)
    for mode in (("mode", "tap", "multi_queue"), ("mode", "tun")):
        ip("tuntap", "add", "tap0", *mode)
        m = Monitor(test=t)
        fault = m.fault("PUT", "/network-interfaces/eth0", {
            "iface_id": "eth0", "host_dev_name": "tap0"})
        assert fault.startswith(BAD_TAP), fault
        m.close()
        ip("link", "delete", "tap0")


@test
def interface_tap_is_made(t):
    """One that does not exist appears, and goes with the monitor."""
    network(t)
    m = Monitor(test=t)
    if m.jail:
        fault = m.fault("PUT", "/network-interfaces/eth0", {
            "iface_id": "eth0", "host_dev_name": "fresh0"})
        assert fault.startswith(BAD_TAP) and "(os error 1)" in fault, fault
        skip_in_jail("nobody may make taps")
    put_net(m, "eth0", "fresh0")
    assert "fresh0" in os.listdir("/sys/class/net") or \
        socket.if_nametoindex("fresh0")
    m.close()
    assert "fresh0" not in [name for _, name in socket.if_nameindex()]


@test
def interface_replaced(t):
    network(t, "tap0", "tap1")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0", guest_mac="06:00:00:00:00:01")
    put_net(m, "eth1", "tap1")
    put_net(m, "eth0", "tap0", mtu=1400)
    (first, second) = m.get("/vm/config")["network-interfaces"]
    assert first == {"iface_id": "eth0", "host_dev_name": "tap0",
                     "guest_mac": None, "mtu": 1400, "rx_rate_limiter": None,
                     "tx_rate_limiter": None}, first
    assert second["iface_id"] == "eth1"
    # One that is refused takes the old one along.
    m.fault("PUT", "/network-interfaces/eth0", {
        "iface_id": "eth0", "host_dev_name": "tap1"})
    assert [net["iface_id"] for net in
            m.get("/vm/config")["network-interfaces"]] == ["eth1"]
    put_net(m, "eth2", "tap0", guest_mac="06:00:00:00:00:01")


@test
def interface_config_round_trip(t):
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0", guest_mac="06:00:AC:10:00:02", mtu=1500,
            rx_rate_limiter=LIMITER, tx_rate_limiter={"ops": BUCKET})
    (net,) = m.get("/vm/config")["network-interfaces"]
    no_burst = {**BUCKET, "one_time_burst": None}
    assert net == {
        "iface_id": "eth0", "host_dev_name": "tap0",
        "guest_mac": "06:00:ac:10:00:02", "mtu": 1500,
        "rx_rate_limiter": {"bandwidth": FULL_BUCKET, "ops": no_burst},
        "tx_rate_limiter": {"bandwidth": None, "ops": no_burst}}, net


@test
def interface_limiters_that_are_empty(t):
    """They limit nothing, and nothing is shown of them."""
    network(t, "tap0", "tap1", "tap2")
    m = Monitor(test=t)
    nothing = {"size": 0, "refill_time": 100}
    put_net(m, "eth0", "tap0", rx_rate_limiter={}, tx_rate_limiter={
        "bandwidth": None, "ops": nothing})
    put_net(m, "eth1", "tap1", rx_rate_limiter={"ops": BUCKET})
    put_net(m, "eth2", "tap2")
    before = m.get("/vm/config")["network-interfaces"]
    assert [(net["rx_rate_limiter"], net["tx_rate_limiter"])
            for net in before] == [
        (None, None),
        ({"bandwidth": None, "ops": {**BUCKET, "one_time_burst": None}},
         None),
        (None, None)], before
    m.start(guest("echo"))
    for name in ("eth0", "eth1", "eth2"):
        m.patch("/network-interfaces/" + name, iface_id=name,
                rx_rate_limiter={}, tx_rate_limiter={"ops": None})
        assert m.get("/vm/config")["network-interfaces"] == before, name
    m.patch("/network-interfaces/eth1", iface_id="eth1",
            rx_rate_limiter={"ops": nothing})
    assert m.get("/vm/config")["network-interfaces"][1][
        "rx_rate_limiter"] is None


@test
def interface_from_a_descriptor(t):
    """The monitor is given an open tap and needs no rights of its own."""
    network(t)
    fd = open_tap(t, "mine0")
    tun = open_tap(t, "mine1", IFF_TAP | IFF_NO_PI)
    other = os.open("/dev/null", os.O_RDWR)
    t.defer(os.close, other)
    m = Monitor(test=t, pass_fds=(fd, tun, other))
    put_net(m, "eth0", "ignored", tap_fd=fd)
    (net,) = m.get("/vm/config")["network-interfaces"]
    assert net["tap_fd"] == fd, net
    for number, text in ((other, "descriptor %d is not a tap" % other),
                         (tun, "IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"),
                         (9999, "descriptor 9999 is not a tap"),
                         (-1, DESERIALIZING), ("4", DESERIALIZING),
                         (2 ** 31, DESERIALIZING)):
        fault = m.fault("PUT", "/network-interfaces/eth1", {
            "iface_id": "eth1", "host_dev_name": "x", "tap_fd": number})
        assert text in fault, fault


@test
def interface_descriptor_of_a_tap_in_use(t):
    """One tap, one interface, however it was given."""
    network(t)
    fd = open_tap(t, "mine0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
                  | IFF_MULTI_QUEUE)
    again = open_tap(t, "mine0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
                     | IFF_MULTI_QUEUE)
    m = Monitor(test=t, pass_fds=(fd, again))
    put_net(m, "eth0", "x", tap_fd=fd)
    for number in (fd, again):
        fault = m.fault("PUT", "/network-interfaces/eth1", {
            "iface_id": "eth1", "host_dev_name": "y", "tap_fd": number})
        assert fault == (
            BAD_TAP + "Error while creating ifreq structure: Resource busy "
            "(os error 16). Invalid TUN/TAP Backend provided by mine0. Check "
            "our documentation on setting up the network devices."), fault
    put_net(m, "eth0", "x", tap_fd=again)  # itself does not count
    m.fault("PUT", "/network-interfaces/eth1", {
        "iface_id": "eth1", "host_dev_name": "mine0"})


@test
def interface_with_vhost(t):
    network(t, "tap0")
    m = Monitor(test=t)
    path = "/network-interfaces/eth0"
    body = {"iface_id": "eth0", "host_dev_name": "tap0", "vhost": True}
    prefix = "Network config error: Could not create the network device: "
    exists = os.path.exists("/dev/vhost-net")
    works = None if exists else (prefix + "vhost was asked for, but "
                                 "/dev/vhost-net cannot be opened: " + OS_2)
    check(t, m, [
        ("PUT", path, {**body, "vhost": "yes"}, DESERIALIZING),
        ("PUT", path, {**body, "rx_rate_limiter": LIMITER},
         prefix + "vhost knows no rate limiters: an interface has either"),
        ("PUT", path, {**body, "vhost": False}, None),
        ("PUT", path, {**body, "rx_rate_limiter": {}, "tx_rate_limiter": {
            "ops": {"size": 0, "refill_time": 1}}}, works),
        ("PUT", path, body, works),
    ])
    if not exists:
        return
    assert m.get("/vm/config")["network-interfaces"][0]["vhost"] is True
    check(t, m, [("PUT", "/mmds/config", {"network_interfaces": ["eth0"]},
                  "The interface eth0 has vhost, which the metadata service "
                  "cannot be combined with.")])
    m.put("/machine-config", vcpu_count=1, mem_size_mib=128,
          track_dirty_pages=True)
    m.put("/boot-source", kernel_image_path=guest("echo"))
    m.put("/actions", action_type="InstanceStart")


@test
def interface_after_start(t):
    network(t, "tap0", "tap1")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0", rx_rate_limiter={"ops": BUCKET})
    m.start(guest("echo"))
    path = "/network-interfaces/eth0"
    patch = {"iface_id": "eth0"}
    check(t, m, [
        ("PATCH", path, body, text) for body, text in (
            (patch, None),
            ({**patch, "rx_rate_limiter": {}}, None),
            ({**patch, "rx_rate_limiter": {"size": 1}}, DESERIALIZING),
            ({**patch, "tx_rate_limiter": {"bandwidth": FULL_BUCKET}}, None),
            ({**patch, "rx_rate_limiter": {
                "bandwidth": {"size": 5, "refill_time": 5}}}, None),
            ({**patch, "rx_rate_limiter": {
                "ops": {"size": 0, "refill_time": 5}}}, None),
            ({**patch, "host_dev_name": "tap1"},
             DESERIALIZING + "unknown field"),
            ({"iface_id": "eth1"}, "The id from the path"),
            ({}, DESERIALIZING + "missing field `iface_id`"),
        )])
    check(t, m, [
        ("PATCH", "/network-interfaces/eth1", {"iface_id": "eth1"},
         NOT_FOUND),
        ("PUT", "/network-interfaces/eth1",
         {"iface_id": "eth1", "host_dev_name": "tap1"}, "PCI is not enabled"),
        ("DELETE", path, None, "PCI is not enabled"),
    ])
    (net,) = m.get("/vm/config")["network-interfaces"]
    assert net["rx_rate_limiter"] == {
        "bandwidth": {"size": 5, "one_time_burst": None, "refill_time": 5},
        "ops": None}, net
    assert net["tx_rate_limiter"]["bandwidth"] == FULL_BUCKET, net


# ------------------------------------------------------------------- vsock

@test
def vsock_put(t):
    m = Monitor(test=t)
    path = t.path("v")
    ok = {"guest_cid": 3, "uds_path": path}
    binding = ("Vsock config error: Cannot create backend for vsock device: "
               "Error binding to the host-side Unix socket: ")
    rows = [({**ok, **more}, text) for more, text in (
        ({}, None),
        ({}, None),  # the first socket makes room for the second
        ({"guest_cid": 2 ** 32 - 2}, None),
        ({"guest_cid": 2}, "guest_cid 2 is reserved"),
        ({"guest_cid": 0}, "guest_cid 0 is reserved"),
        ({"guest_cid": 2 ** 32 - 1}, "is reserved"),
        ({"guest_cid": 2 ** 32}, DESERIALIZING),
        ({"guest_cid": -3}, DESERIALIZING),
        ({"guest_cid": "3"}, DESERIALIZING),
        ({"guest_cid": None}, DESERIALIZING),
        ({"uds_path": t.path("missing/v")}, binding + OS_2),
        ({"uds_path": "/" + "x" * 200}, binding),
        ({"uds_path": None}, DESERIALIZING),
        ({"uds_path": 7}, DESERIALIZING),
        ({"max_connections": 5}, None),
        ({"max_connections": 2 ** 21}, DESERIALIZING),
        ({"max_connections": -1}, DESERIALIZING),
        ({"other": 1}, DESERIALIZING + "unknown field"),
    )]
    rows.append(({"guest_cid": 3},
                 DESERIALIZING + "missing field `uds_path`"))
    rows.append(({"uds_path": path},
                 DESERIALIZING + "missing field `guest_cid`"))
    check(t, m, [("PUT", "/vsock", body, text) for body, text in rows])
    check(t, m, [
        ("GET", "/vsock", None, "Invalid request method and/or path"),
        ("PATCH", "/vsock", ok, "Invalid request method and/or path"),
    ])


@test
def vsock_socket_in_the_way(t):
    m = Monitor(test=t)
    path = t.write("v", "something else")
    fault = m.fault("PUT", "/vsock", {"guest_cid": 3, "uds_path": path})
    assert "Address in use (os error 98)" in fault, fault
    with open(path, encoding="ascii") as file:
        assert file.read() == "something else"
    assert m.get("/vm/config")["vsock"] is None


@test
def vsock_refused_after_a_good_one(t):
    """Nothing of the first is left, also for the end of the process."""
    m = Monitor(test=t)
    m.put("/vsock", guest_cid=3, uds_path=t.path("a"))
    m.fault("PUT", "/vsock", {"guest_cid": 3, "uds_path": t.path("no/v")})
    assert not os.path.exists(t.path("a"))
    assert m.get("/vm/config")["vsock"] is None
    m.start(guest("hello"))
    assert m.wait() == 0


@test
def vsock_replaced(t):
    m = Monitor(test=t)
    m.put("/vsock", guest_cid=3, uds_path=t.path("a"))
    assert os.path.exists(t.path("a"))
    m.put("/vsock", guest_cid=4, uds_path=t.path("b"))
    assert not os.path.exists(t.path("a"))
    assert m.get("/vm/config")["vsock"] == {"guest_cid": 4,
                                            "uds_path": t.path("b")}


@test
def vsock_id_is_deprecated(t):
    m = Monitor(test=t)
    body = {"guest_cid": 3, "uds_path": t.path("v")}
    response = m.request("PUT", "/vsock", {**body, "vsock_id": "x"})
    assert response.status == 204
    assert response.header(b"Deprecation") == b"true"
    response = m.request("PUT", "/vsock", body)
    assert response.header(b"Deprecation") is None
    m.wait_log("PUT /vsock: vsock_id field is deprecated.")
    m.put("/metrics", metrics_path=t.write("metrics"))
    m.start(guest("echo"))
    with open(t.path("metrics"), encoding="ascii") as file:
        line = json.loads(file.readline())
    assert line["deprecated_api"]["deprecated_http_api_calls"] == 1, line


@test
def vsock_after_start(t):
    m = Monitor(test=t)
    m.put("/vsock", guest_cid=3, uds_path=t.path("v"))
    m.start(guest("echo"))
    assert m.fault("PUT", "/vsock", {
        "guest_cid": 3, "uds_path": t.path("w")}) == NOT_AFTER_START
    # A guest without a driver: nobody accepts, nothing breaks.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(t.path("v"))
        client.sendall(b"CONNECT 5\n")
    assert m.alive()


# ------------------------------------------------------ configuration files

@test
def all_of_it_in_a_config_file(t):
    """What GET /vm/config says can be given to another monitor."""
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0", guest_mac="06:00:ac:10:00:02", mtu=1500,
            tx_rate_limiter=LIMITER)
    m.put("/vsock", guest_cid=3, uds_path=t.path("v"))
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2")
    m.put("/boot-source", kernel_image_path=guest("echo"))
    config = m.get("/vm/config")
    m.close()
    os.unlink(t.path("v"))
    path = t.write("config", json.dumps(config))
    again = Monitor(test=t, args=["--config-file", path])
    assert again.get("/")["state"] == "Running"
    assert again.get("/vm/config") == config


@test
def broken_sections_of_a_config_file(t):
    network(t, "tap0")
    base = {"boot-source": {"kernel_image_path": guest("echo")}, "drives": []}
    net = {"iface_id": "a", "host_dev_name": "tap0"}
    for section, text in (
            ({"network-interfaces": [{**net, "mtu": 5}]}, "MTU 5 is out of"),
            ({"network-interfaces": {}}, ""),
            ({"network-interfaces": [{**net, "host_dev_name": "lo"}]},
             "Open tap device failed"),
            ({"vsock": {"guest_cid": 2, "uds_path": "v"}}, "is reserved"),
            ({"vsock": {"guest_cid": 3}}, "missing field `uds_path`"),
            ({"vsock": []}, ""),
            ({"mmds-config": {"network_interfaces": ["b"]}},
             "does not correspond to any existing"),
            ({"mmds-config": {"network_interfaces": []}}, "is empty")):
        log = t.write("log")
        code, _, _ = run("--no-api", "--log-path", log, "--config-file",
                         t.write("config", json.dumps({**base, **section})))
        with open(log, encoding="utf-8") as file:
            written = file.read()
        assert code == 1, (section, code)
        assert text in written, (section, written)


# ----------------------------------------------------------------- limiters

@test
def drive_limiters(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(4096))
    drive = {"drive_id": "a", "path_on_host": disk, "is_root_device": False}
    check(t, m, [("PUT", "/drives/a", {**drive, "rate_limiter": limiter},
                  text) for limiter, text in (
        ({}, None),
        (None, None),
        (LIMITER, None),
        ({"bandwidth": {"size": 0, "refill_time": 0}}, None),
        ({"bandwidth": {**BUCKET, "x": 1}}, None),
        ({"bytes": BUCKET}, DESERIALIZING),
        ({"ops": {"size": 1}}, DESERIALIZING),
        ({"ops": {"size": 1.5, "refill_time": 1}}, DESERIALIZING),
        ({"ops": BUCKET}, None))])
    m.start(guest("echo"))
    patch = {"drive_id": "a"}
    check(t, m, [("PATCH", "/drives/a", {**patch, "rate_limiter": limiter},
                  text) for limiter, text in (
        ({}, None),
        ({"bandwidth": FULL_BUCKET}, None),
        ({"ops": {"size": 0, "refill_time": 0}}, None),
        ({"ops": 1}, DESERIALIZING))])
    (config,) = m.get("/vm/config")["drives"]
    assert config["rate_limiter"] == {"bandwidth": FULL_BUCKET,
                                      "ops": None}, config


@test
def drive_limiters_that_are_empty(t):
    m = Monitor(test=t)
    drive = {"path_on_host": t.write("disk", bytes(4096)),
             "is_root_device": False}
    m.put("/drives/a", drive_id="a", rate_limiter={}, **drive)
    m.put("/drives/b", drive_id="b", **drive)
    m.put("/drives/c", drive_id="c", rate_limiter={"ops": BUCKET}, **drive)
    before = m.get("/vm/config")["drives"]
    assert [d["rate_limiter"] for d in before] == [
        None, None, {"bandwidth": None,
                     "ops": {**BUCKET, "one_time_burst": None}}], before
    m.start(guest("echo"))
    for name in "abc":
        m.patch("/drives/" + name, drive_id=name, rate_limiter={})
    assert m.get("/vm/config")["drives"] == before


@test
def metrics_have_the_devices(t):
    network(t, "tap0")
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=t.write("metrics"))
    put_net(m, "eth0", "tap0")
    m.put("/vsock", guest_cid=3, uds_path=t.path("v"))
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2")
    m.start(guest("echo"))
    with open(t.path("metrics"), encoding="ascii") as file:
        line = json.loads(file.readline())
    assert set(line["net"]) == set(line["net_eth0"]), line
    for section in ("net", "net_eth0", "vsock", "mmds"):
        for name, value in line[section].items():
            bad = any(word in name for word in ("fail", "err"))
            assert not bad or value == 0, (section, name, value)
    calls = line["put_api_requests"]
    assert calls["network_count"] == calls["vsock_count"] == 1, calls


if __name__ == "__main__":
    main()
