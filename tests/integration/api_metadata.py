# SPDX-License-Identifier: Apache-2.0
"""The metadata service as the host sees it: the store, its configuration, the
options. A tiny guest at most."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, NOT_AFTER_START, guest, run
from network import network, put_net
from rows import DESERIALIZING, check
from tap import main, test

OS_2 = "No such file or directory (os error 2)"
UNINITIALIZED = "MMDS error: The MMDS data store is not initialized."


@test
def metadata_put(t):
    network(t, "tap0")
    m = Monitor(test=t)
    assert m.get("/mmds") == {}
    assert m.fault("PATCH", "/mmds", {"a": 1}) == UNINITIALIZED
    for value in ({"b": 1, "a": {"d": None, "c": [1, "x"]}}, "text", [1, 2],
                  7, True, {}, None):
        status, _ = m.api("PUT", "/mmds", json.dumps(value))
        assert status == 204, value
        assert m.get("/mmds") == value
    check(t, m, [
        ("PUT", "/mmds", "{", DESERIALIZING),
        ("PUT", "/mmds", "", "Empty PUT request."),
        ("PATCH", "/mmds", "", "Empty PATCH request."),
        ("PUT", "/mmds/x", {}, "Unrecognized PUT request path `x`."),
        ("PATCH", "/mmds/x", {}, "Unrecognized PATCH request path `x`."),
        ("GET", "/mmds/x", None, "Unrecognized GET request path `x`."),
        ("DELETE", "/mmds", None, "Invalid request method and/or path"),
        ("PUT", "/mmds", "[1, 2]", None),
        ("PATCH", "/mmds", {"a": {"b": 1, "c": None}}, None),
        ("PATCH", "/mmds", {"a": {"d": 2}}, None),
        ("PATCH", "/mmds", {"z": 0}, None),
    ])
    response = m.request("GET", "/mmds")
    assert response.body == b'{"a":{"b":1,"d":2},"z":0}', response.body


@test
def metadata_numbers_come_back(t):
    texts = ("12.12", "0.1", "1.0", "-9223372036854775808",
             "9223372036854775807", "9223372036854775808",
             "18446744073709551615", "1.9223372036854775808",
             "1e18446744073709551", "18446744073709551616", "-1e-9")
    m = Monitor(test=t, args=["--metadata", t.write(
        "data", '{"n":[18446744073709551615,12.12]}')])
    assert m.request("GET", "/mmds").body == \
        b'{"n":[18446744073709551615,12.12]}'
    for text in texts:
        status, _ = m.api("PUT", "/mmds", '{"n": %s}' % text)
        if text == "1e18446744073709551":
            assert status == 400, text
            continue
        assert status == 204, text
        # Equal as integers where they are some; 2^64 is a real.
        assert m.get("/mmds") == {"n": json.loads(text)}, text
    m.put("/mmds", a=2 ** 64 - 1, b={"c": 2 ** 63})
    m.patch("/mmds", a={"d": 2 ** 63 + 1}, b={"e": 2 ** 63 + 2})
    assert m.get("/mmds") == {"a": {"d": 2 ** 63 + 1}, "b": {
        "c": 2 ** 63, "e": 2 ** 63 + 2}}
    m.patch("/mmds", a=2 ** 63, b=None)
    assert m.request("GET", "/mmds").body == b'{"a":9223372036854775808}'


@test
def metadata_too_large(t):
    m = Monitor(test=t, args=["--mmds-size-limit", "100"])
    fits = {"a": "x" * 92}
    assert len(json.dumps(fits, separators=(",", ":"))) == 100
    m.put("/mmds", **fits)
    for method in ("PUT", "PATCH"):
        status, body = m.api(method, "/mmds", {"b": "y" * 93})
        assert status == 413, status
        assert body == {"fault_message": "MMDS limit exceeded error: The MMDS "
                        "patch request doesn't fit."}, body
        assert m.get("/mmds") == fits
    assert m.alive()


@test
def metadata_too_large_after_start(t):
    network(t, "tap0")
    m = Monitor(test=t, args=["--mmds-size-limit", "100"])
    put_net(m, "eth0", "tap0")
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2")
    m.put("/mmds", a=1)
    m.start(guest("echo"))
    for method in ("PUT", "PATCH"):
        status, body = m.api(method, "/mmds", {"b": "y" * 100})
        assert status == 413, (status, body)
    assert m.get("/mmds") == {"a": 1}


@test
def metadata_limit_is_that_of_requests(t):
    m = Monitor(test=t, args=["--http-api-max-payload-size", "100"])
    m.put("/mmds", a="x" * 40)
    m.patch("/mmds", b="x" * 40)  # 95 bytes
    status, body = m.api("PATCH", "/mmds", {"c": ""})
    assert status == 413, (status, body)


@test
def metadata_limit_may_be_zero(t):
    m = Monitor(test=t, args=["--mmds-size-limit", "0"])
    status, body = m.api("PUT", "/mmds", {})
    assert status == 413, (status, body)
    assert m.get("/mmds") == {}


@test
def metadata_is_not_logged(t):
    m = Monitor(test=t)
    m.put("/mmds", key="a-secret")
    m.patch("/mmds", key="another-secret")
    m.wait_log("Patch request")
    assert "secret" not in m.log


@test
def metadata_config(t):
    network(t, "tap0")
    m = Monitor(test=t)
    prefix = "MMMDS config error: The "
    not_local = prefix + "MMDS IPv4 address is not link local."
    unknown = (prefix + "list of network interface IDs provided contains at "
               "least one ID that does not correspond to any existing "
               "network interface.")
    eth0 = {"network_interfaces": ["eth0"]}
    check(t, m, [("PUT", "/mmds/config", eth0, unknown)])
    put_net(m, "eth0", "tap0")
    check(t, m, [("PUT", "/mmds/config", body, text) for body, text in (
        ({"network_interfaces": []}, prefix + "list of network interface IDs "
         "that allow forwarding MMDS requests is empty."),
        ({"network_interfaces": ["eth0", "eth1"]}, unknown),
        ({}, DESERIALIZING + "missing field `network_interfaces`"),
        ({"network_interfaces": "eth0"}, DESERIALIZING),
        ({"network_interfaces": [1]}, DESERIALIZING),
        ({"network_interfaces": None}, DESERIALIZING),
        ({**eth0, "version": "V3"}, DESERIALIZING + "unknown variant `V3`"),
        ({**eth0, "version": None}, DESERIALIZING),
        ({**eth0, "imds_compat": None}, DESERIALIZING),
        ({**eth0, "imds_compat": 1}, DESERIALIZING),
        ({**eth0, "ipv4_address": "169.254.0.255"}, not_local),
        ({**eth0, "ipv4_address": "169.254.255.0"}, not_local),
        ({**eth0, "ipv4_address": "10.0.0.1"}, not_local),
        ({**eth0, "ipv4_address": "169.254.1"}, DESERIALIZING),
        ({**eth0, "ipv4_address": "::1"}, DESERIALIZING),
        ({**eth0, "ipv4_address": 5}, DESERIALIZING),
        ({**eth0, "other": 5}, DESERIALIZING + "unknown field"),
        ({**eth0, "ipv4_address": "169.254.1.0"}, None),
        ({**eth0, "ipv4_address": None}, None),
        ({**eth0, "version": "V2", "imds_compat": True,
          "ipv4_address": "169.254.254.255"}, None),
    )])
    assert m.get("/vm/config")["mmds-config"] == {
        "version": "V2", "network_interfaces": ["eth0"],
        "ipv4_address": "169.254.254.255", "imds_compat": True}
    check(t, m, [("GET", "/mmds/config", None, "Unrecognized GET"),
                 ("PATCH", "/mmds/config", eth0, "Unrecognized PATCH")])


@test
def metadata_version_1_is_deprecated(t):
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0")
    eth0 = {"network_interfaces": ["eth0"]}
    for body, deprecated in ((eth0, b"true"),
                             ({**eth0, "version": "V1"}, b"true"),
                             ({**eth0, "version": "V2"}, None)):
        response = m.request("PUT", "/mmds/config", body)
        assert response.status == 204
        assert response.header(b"Deprecation") == deprecated, body
    m.wait_log("PUT /mmds/config: V1 is deprecated. Use V2 instead.")


@test
def metadata_config_refused_is_deprecated_too(t):
    """Whoever refuses a request, what is deprecated in it is told."""
    network(t, "tap0")
    m = Monitor(test=t)
    response = m.request("PUT", "/mmds/config",
                         {"network_interfaces": ["eth0"]})
    assert response.status == 400
    assert response.header(b"Deprecation") == b"true"
    response = m.request("PUT", "/mmds/config",
                         {"network_interfaces": ["eth0"], "version": "V2"})
    assert response.status == 400
    assert response.header(b"Deprecation") is None
    put_net(m, "eth0", "tap0")
    m.put("/metrics", metrics_path=t.write("metrics"))
    m.start(guest("echo"))
    response = m.request("PUT", "/mmds/config",
                         {"network_interfaces": ["eth0"]})
    assert response.json == {"fault_message": NOT_AFTER_START}
    assert response.header(b"Deprecation") == b"true"
    m.put("/actions", action_type="FlushMetrics")
    with open(t.path("metrics"), encoding="ascii") as file:
        lines = [json.loads(line) for line in file]
    assert [line["deprecated_api"]["deprecated_http_api_calls"]
            for line in lines] == [1, 1], lines


@test
def metadata_config_names_one_often(t):
    network(t, "tap0", "tap1")
    for count in (2, 300):
        m = Monitor(test=t)
        put_net(m, "eth0", "tap0")
        put_net(m, "eth1", "tap1")
        names = ["eth0"] * count + ["eth1", "eth0"]
        m.put("/mmds/config", network_interfaces=names, version="V2")
        assert m.get("/vm/config")["mmds-config"][
            "network_interfaces"] == names
        m.start(guest("echo"))
        m.put("/mmds", a=1)
        assert m.get("/mmds") == {"a": 1}
        m.close()


@test
def metadata_config_names_too_many(t):
    """There cannot be more interfaces than there are, so one is unknown."""
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0")
    fault = m.fault("PUT", "/mmds/config", {
        "network_interfaces": ["eth%d" % n for n in range(33)]})
    assert "does not correspond to any existing" in fault, fault


@test
def metadata_config_names_one_that_is_gone(t):
    """Lost by a refused replacement: the start goes on without it."""
    network(t, "tap0", "tap1")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0")
    put_net(m, "eth1", "tap1")
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2")
    m.fault("PUT", "/network-interfaces/eth0", {
        "iface_id": "eth0", "host_dev_name": "tap1"})
    m.put("/mmds", a=1)
    m.start(guest("hello"))
    assert m.wait() == 0


@test
def metadata_after_start(t):
    network(t, "tap0")
    m = Monitor(test=t)
    put_net(m, "eth0", "tap0")
    m.put("/mmds/config", network_interfaces=["eth0"], version="V2")
    m.start(guest("echo"))
    assert m.fault("PUT", "/mmds/config", {
        "network_interfaces": ["eth0"]}) == NOT_AFTER_START
    m.put("/mmds", a=1)
    m.patch("/mmds", b=2)
    assert m.get("/mmds") == {"a": 1, "b": 2}


@test
def metadata_after_start_without_config(t):
    m = Monitor(test=t)
    m.put("/mmds", a=1)
    m.start(guest("echo"))
    check(t, m, [("PUT", "/mmds", {"a": 1}, UNINITIALIZED),
                 ("PATCH", "/mmds", {"a": 1}, UNINITIALIZED),
                 ("GET", "/mmds", None, UNINITIALIZED)])


@test
def metadata_from_a_file(t):
    path = t.write("data", json.dumps({"from": "file"}))
    m = Monitor(test=t, args=["--metadata", path])
    assert m.get("/mmds") == {"from": "file"}
    m.wait_log("Successfully added metadata to mmds from file")


@test
def metadata_file_that_is_none(t):
    for data, limit, text in (
            (None, [], OS_2), ("", [], ""), ("{\"a\":", [], ""),
            (json.dumps({"a": "b" * 100}), ["--mmds-size-limit", "50"],
             "The MMDS patch request doesn't fit.")):
        path = t.path("none") if data is None else t.write("data", data)
        log = t.write("log")
        code, _, _ = run("--no-api", "--log-path", log, "--config-file",
                         t.write("config", "{}"), "--metadata", path, *limit)
        assert code != 0, data
        with open(log, encoding="utf-8") as file:
            written = file.read()
        assert text in written and written.strip(), (data, written)


if __name__ == "__main__":
    main()
