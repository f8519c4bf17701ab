# SPDX-License-Identifier: Apache-2.0
"""What /pmem accepts and refuses before a guest runs. No guest."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, NOT_BEFORE_START
from rows import DESERIALIZING, check
from tap import main, test

BLOCK_ROOT = ("Drive config error: Attempt to add block as a root device "
              "while the root device defined as a pmem device")
PMEM_ROOT = ("Pmem config error: Attempt to add pmem as a root device while "
             "the root device defined as a block device")
SECOND_ROOT = "Pmem config error: A root pmem device already exist"
NO_BOOL = "invalid type: null, expected a boolean"


def shown(m):
    return m.get("/vm/config")["pmem"]


@test
def put(t):
    """The file is not looked at before the start."""
    m = Monitor(test=t)
    good = {"id": "p1", "path_on_host": "/nowhere"}

    def row(text, name="p1", **more):
        body = {k: v for k, v in {**good, **more}.items() if v != "absent"}
        return ("PUT", "/pmem/" + name, body, text)

    bucket = {"size": 1, "refill_time": 1}
    check(t, m, [
        row(None),
        row(None, root_device=True, read_only=True),
        row(None, root_device=False, read_only=False, rate_limiter=None),
        row(None, rate_limiter={}),
        row(None, rate_limiter={"bandwidth": bucket, "ops": bucket}),
        row(None, rate_limiter={"bandwidth": None, "ops": {
            **bucket, "one_time_burst": 5, "unknown": 1}}),
        row(None, name="With_1_Und", id="With_1_Und"),
        row(None, path_on_host=""),
        row("The id from the path does not match the id from the body!",
            name="p2"),
        row("API Resource IDs can only contain alphanumeric characters and "
            "underscores.", name="p-1", id="p-1"),
        row("API Resource IDs can only contain alphanumeric", name="p.1",
            id="p.1"),
        row("The ID cannot be empty.", name="", id=""),
        row(DESERIALIZING + "missing field `id`", id="absent"),
        row(DESERIALIZING + "missing field `path_on_host`",
            path_on_host="absent"),
        row(DESERIALIZING + "invalid type", id=1),
        row(DESERIALIZING + "invalid type", id=None),
        row(DESERIALIZING + "invalid type", path_on_host=7),
        row(DESERIALIZING + "invalid type", path_on_host=None),
        row(DESERIALIZING + "invalid type", path_on_host=["/a"]),
        row(DESERIALIZING + "invalid type", root_device=1),
        row(DESERIALIZING + NO_BOOL, root_device=None),
        row(DESERIALIZING + "invalid type", read_only="yes"),
        row(DESERIALIZING + NO_BOOL, read_only=None),
        row(DESERIALIZING + "unknown field `is_read_only`, expected",
            is_read_only=True),
        row(DESERIALIZING + "unknown field `drive_id`", drive_id="p1"),
        row(DESERIALIZING, rate_limiter=[1]),
        row(DESERIALIZING, rate_limiter=5),
        row(DESERIALIZING + "unknown field `speed`",
            rate_limiter={"speed": 1}),
        row(DESERIALIZING + "missing field",
            rate_limiter={"bandwidth": {"size": 1}}),
        row(DESERIALIZING + "invalid",
            rate_limiter={"ops": {"size": -1, "refill_time": 1}}),
        ("PUT", "/pmem/p1", "{}", DESERIALIZING + "missing field `id`"),
        ("PUT", "/pmem/p1", "", "Empty PUT request."),
        ("PUT", "/pmem/p1", '{"id":"p1","id":"p1","path_on_host":"/a"}',
         DESERIALIZING + "duplicate field `id`"),
        ("PUT", "/pmem", json.dumps(good), "The ID cannot be empty."),
    ])
    assert [p["id"] for p in shown(m)] == ["p1", "With_1_Und"], shown(m)


@test
def before_the_start(t):
    m = Monitor(test=t)
    m.put("/pmem/p", id="p", path_on_host="/nowhere")
    limiter = {"ops": {"size": 1, "refill_time": 1}}
    check(t, m, [
        ("PATCH", "/pmem/p", {"id": "p"}, NOT_BEFORE_START),
        ("PATCH", "/pmem/p", {"id": "p", "rate_limiter": limiter},
         NOT_BEFORE_START),
        ("PATCH", "/pmem/p", {"id": "q"},
         "The id from the path does not match the id from the body!"),
        ("PATCH", "/pmem/p", {}, DESERIALIZING + "missing field `id`"),
        ("PATCH", "/pmem/p", {"id": None}, DESERIALIZING),
        ("PATCH", "/pmem/p", {"id": "p", "path_on_host": "/x"},
         DESERIALIZING + "unknown field `path_on_host`, expected"),
        ("PATCH", "/pmem/p", {"id": "p", "read_only": True},
         DESERIALIZING + "unknown field `read_only`"),
        ("PATCH", "/pmem/p", {"id": "p", "rate_limiter": 1}, DESERIALIZING),
        ("PATCH", "/pmem/p", "", "Empty PATCH request."),
        ("PATCH", "/pmem/p-q", {"id": "p-q"}, "API Resource IDs can only"),
        ("DELETE", "/pmem/p", None, NOT_BEFORE_START),
        ("DELETE", "/pmem/q", None, NOT_BEFORE_START),
        ("DELETE", "/pmem/p", "{}", "Empty Delete request."),
        ("DELETE", "/pmem/", None, "The ID cannot be empty."),
        ("GET", "/pmem/p", None,
         "Invalid request method and/or path: GET pmem."),
        ("GET", "/pmem", None,
         "Invalid request method and/or path: GET pmem."),
    ])
    assert len(shown(m)) == 1


@test
def put_replaces(t):
    m = Monitor(test=t)
    for name in ("b", "a"):
        m.put("/pmem/" + name, id=name, path_on_host="/" + name)
    m.put("/pmem/b", id="b", path_on_host="/c", read_only=True,
          rate_limiter={"bandwidth": {"size": 1, "refill_time": 2}})
    assert shown(m) == [
        {"id": "b", "path_on_host": "/c", "root_device": False,
         "read_only": True, "rate_limiter": {
             "bandwidth": {"size": 1, "one_time_burst": None,
                           "refill_time": 2}, "ops": None}},
        {"id": "a", "path_on_host": "/a", "root_device": False,
         "read_only": False, "rate_limiter": None}], shown(m)
    m.fault("PUT", "/pmem/b", {"id": "b"})
    assert shown(m)[0]["path_on_host"] == "/c"


@test
def one_root(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(4096))
    drive = {"is_root_device": True, "path_on_host": disk}
    root = {"root_device": True, "path_on_host": "/p"}
    check(t, m, [
        ("PUT", "/pmem/p", {"id": "p", **root}, None),
        ("PUT", "/pmem/p", {"id": "p", **root}, None),
        ("PUT", "/pmem/q", {"id": "q", **root}, SECOND_ROOT),
        ("PUT", "/drives/d", {"drive_id": "d", **drive}, BLOCK_ROOT),
        ("PUT", "/drives/d", {"drive_id": "d", **drive,
                              "is_root_device": False}, None),
        ("PUT", "/drives/d", {"drive_id": "d", **drive}, BLOCK_ROOT),
        ("PUT", "/pmem/p", {"id": "p", "path_on_host": "/p"}, None),
        ("PUT", "/drives/d", {"drive_id": "d", **drive}, None),
        ("PUT", "/pmem/p", {"id": "p", **root}, PMEM_ROOT),
        ("PUT", "/pmem/q", {"id": "q", **root}, PMEM_ROOT),
        ("PUT", "/pmem/q", {"id": "q", "path_on_host": "/q"}, None),
    ])
    assert [p["root_device"] for p in shown(m)] == [False, False]


@test
def many(t):
    m = Monitor(test=t)
    for number in range(32):
        name = "p%d" % number
        m.put("/pmem/" + name, id=name, path_on_host="/p")
    fault = m.fault("PUT", "/pmem/more", {"id": "more", "path_on_host": "/p"})
    assert fault == ("Pmem config error: More than 32 pmem devices cannot be "
                     "configured"), fault
    assert len(shown(m)) == 32


@test
def config_file_sections(t):
    """What is wrong with one ends the monitor."""
    for name, section, text in (
            ("no array", {"id": "p"}, "it is not an array"),
            ("no path", [{"id": "p"}], "missing field `path_on_host`"),
            ("a bad id", [{"id": "p-1", "path_on_host": "/p"}],
             "API Resource IDs can only contain"),
            ("two roots", [{"id": "p%d" % n, "path_on_host": "/p",
                            "root_device": True} for n in (1, 2)],
             "A root pmem device already exist"),
            ("an unknown field", [{"id": "p", "path_on_host": "/p",
                                   "x": 1}], "unknown field `x`")):
        kernel = t.write("kernel", b"not one")
        path = t.write("config", json.dumps({
            "boot-source": {"kernel_image_path": kernel}, "drives": [],
            "pmem": section}))
        m = Monitor(test=t, args=["--config-file", path], wait=False)
        code = m.wait()
        t.point(code == 1 and text in m.log, name,
                "exit code %s: %s" % (code, m.log))


if __name__ == "__main__":
    main()
