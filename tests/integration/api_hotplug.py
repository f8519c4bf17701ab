# SPDX-License-Identifier: Apache-2.0
"""/hotplug/memory before a guest runs, and in the configuration. No guest."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, NOT_BEFORE_START
from rows import DESERIALIZING, check
from tap import main, test

PATH = "/hotplug/memory"
BAD = "Memory hotplug config error: "
U32 = 2 ** 32 - 1


@test
def put(t):
    m = Monitor(test=t)
    rows = [({"total_size_mib": 1024, **more}, text) for more, text in (
        ({}, None),
        ({"block_size_mib": 2, "slot_size_mib": 128}, None),
        ({"block_size_mib": 128}, None),
        ({"block_size_mib": 1024, "slot_size_mib": 1024}, None),
        ({"slot_size_mib": 512}, None),
        ({"total_size_mib": 128}, None),
        ({"total_size_mib": 2 ** 32 - 128}, None),
        ({"block_size_mib": 0}, BAD +
         "Block size must not be lower than 2 MiB"),
        ({"block_size_mib": 1}, BAD +
         "Block size must not be lower than 2 MiB"),
        ({"block_size_mib": 3}, BAD + "Block size must be a power of 2"),
        ({"block_size_mib": U32}, BAD + "Block size must be a power of 2"),
        ({"slot_size_mib": 0}, BAD +
         "Slot size must not be lower than 128 MiB"),
        ({"slot_size_mib": 127}, BAD +
         "Slot size must not be lower than 128 MiB"),
        ({"slot_size_mib": 129}, BAD +
         "Slot size must be a multiple of block size (2 MiB)"),
        ({"block_size_mib": 256}, BAD +
         "Slot size must be a multiple of block size (256 MiB)"),
        ({"total_size_mib": 0}, BAD +
         "Total size must not be lower than slot size (128 MiB)"),
        ({"total_size_mib": 127}, BAD +
         "Total size must not be lower than slot size (128 MiB)"),
        ({"slot_size_mib": 2048}, BAD +
         "Total size must not be lower than slot size (2048 MiB)"),
        ({"total_size_mib": 1025}, BAD +
         "Total size must be a multiple of slot size (128 MiB)"),
        ({"total_size_mib": U32}, BAD +
         "Total size must be a multiple of slot size (128 MiB)"),
        ({"total_size_mib": 2 ** 32}, DESERIALIZING),
        ({"total_size_mib": 2 ** 64}, DESERIALIZING),
        ({"total_size_mib": -1}, DESERIALIZING),
        ({"total_size_mib": 1.5}, DESERIALIZING + "invalid type"),
        ({"total_size_mib": "1024"}, DESERIALIZING + "invalid type"),
        ({"total_size_mib": True}, DESERIALIZING + "invalid type"),
        ({"total_size_mib": []}, DESERIALIZING + "invalid type"),
        ({"total_size_mib": None}, DESERIALIZING +
         "invalid type: null, expected u32"),
        ({"block_size_mib": None}, DESERIALIZING +
         "invalid type: null, expected u32"),
        ({"slot_size_mib": None}, DESERIALIZING +
         "invalid type: null, expected u32"),
        ({"block_size_mib": "2"}, DESERIALIZING + "invalid type"),
        ({"slot_size_mib": 2 ** 32}, DESERIALIZING),
        ({"requested_size_mib": 0}, DESERIALIZING +
         "unknown field `requested_size_mib`"),
    )]
    rows += [
        ({}, DESERIALIZING + "missing field `total_size_mib`"),
        ({"block_size_mib": 2}, DESERIALIZING +
         "missing field `total_size_mib`"),
        ('{"total_size_mib":128,"total_size_mib":128}', DESERIALIZING +
         "duplicate field `total_size_mib`"),
        ("[]", DESERIALIZING),
        ("", "Empty PUT request."),
    ]
    check(t, m, [("PUT", PATH, body, text) for body, text in rows])


@test
def other_methods_and_paths(t):
    m = Monitor(test=t)
    text = "Invalid request method and/or path: %s hotplug."
    check(t, m, [
        ("GET", PATH, None, NOT_BEFORE_START),
        ("PATCH", PATH, {"requested_size_mib": 0}, NOT_BEFORE_START),
        ("PATCH", PATH, {}, DESERIALIZING +
         "missing field `requested_size_mib`"),
        ("PATCH", PATH, {"requested_size_mib": None}, DESERIALIZING +
         "invalid type: null, expected u32"),
        ("PATCH", PATH, {"requested_size_mib": 2 ** 32}, DESERIALIZING),
        ("PATCH", PATH, {"requested_size_mib": -1}, DESERIALIZING),
        ("PATCH", PATH, {"requested_size_mib": "2"}, DESERIALIZING),
        ("PATCH", PATH, {"requested_size_mib": 2, "x": 1},
         "unknown field `x`"),
        ("PATCH", PATH, "", "Empty PATCH request."),
        ("GET", PATH, {}, "GET request cannot have a body."),
        ("DELETE", PATH, None, text % "DELETE"),
        ("PUT", "/hotplug", {"total_size_mib": 128}, text % "PUT"),
        ("PUT", "/hotplug/cpu", {"total_size_mib": 128}, text % "PUT"),
        ("GET", "/hotplug", None, text % "GET"),
    ])


@test
def what_is_configured_is_shown(t):
    m = Monitor(test=t)
    assert m.get("/vm/config")["memory-hotplug"] is None
    m.put(PATH, total_size_mib=1024)
    want = {"total_size_mib": 1024, "block_size_mib": 2, "slot_size_mib": 128}
    assert m.get("/vm/config")["memory-hotplug"] == want
    m.fault("PUT", PATH, {"total_size_mib": 1})
    assert m.get("/vm/config")["memory-hotplug"] == want
    m.put(PATH, total_size_mib=2048, block_size_mib=4, slot_size_mib=256)
    assert m.get("/vm/config")["memory-hotplug"] == {
        "total_size_mib": 2048, "block_size_mib": 4, "slot_size_mib": 256}


@test
def it_spoils_a_load(t):
    m = Monitor(test=t)
    m.put(PATH, total_size_mib=1024)
    fault = m.fault("PUT", "/snapshot/load", {
        "snapshot_path": t.path("none"), "mem_file_path": t.path("none")})
    assert "not allowed after configuring boot-specific resources" in fault


def refused_file(t, section, text):
    """A configuration file with such a section."""
    document = {"boot-source": {"kernel_image_path": t.write("kernel", b"x")},
                "drives": [], "memory-hotplug": section}
    path = t.write("config", json.dumps(document).encode())
    m = Monitor(test=t, args=["--config-file", path], wait=False)
    code = m.wait()
    t.point(code != 0 and "section `memory-hotplug`: " + text in m.log,
            "config file %s" % section, m.log)


@test
def configuration_file(t):
    refused_file(t, {"total_size_mib": 1}, "Total size must not be lower")
    refused_file(t, {}, "missing field `total_size_mib`")
    refused_file(t, [1], "")
    refused_file(t, {"total_size_mib": 128, "a": 1}, "unknown field `a`")


if __name__ == "__main__":
    main()
