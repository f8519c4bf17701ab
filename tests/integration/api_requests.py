# SPDX-License-Identifier: Apache-2.0
"""What each route accepts and refuses before a guest runs. No guest."""
import os
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, NOT_BEFORE_START, shrink_pipe
from rows import DESERIALIZING, check
from tap import main, test

BAD_VCPUS = ("The number of vCPUs must be greater than 0, less than 32 and "
             "must be 1 or an even number if SMT is enabled.")
BAD_MEMORY = ("The memory size (MiB) is either 0, or not a multiple of the "
              "configured page size.")
NO_FILE = "No such file or directory (os error 2)"
DEFAULT_MACHINE = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False,
                   "track_dirty_pages": False, "huge_pages": "None"}
NOTHING_CONFIGURED = {
    "balloon": None, "drives": [], "boot-source": {
        "kernel_image_path": "", "initrd_path": None, "boot_args": None},
    "cpu-config": None, "logger": None, "machine-config": DEFAULT_MACHINE,
    "metrics": None, "mmds-config": None, "network-interfaces": [],
    "vsock": None, "entropy": None, "pmem": [], "memory-hotplug": None}


@test
def instance_info(t):
    m = Monitor(test=t, args=["--id", "a-name-1"])
    assert m.get("/") == {"id": "a-name-1", "state": "Not started",
                          "vmm_version": "1.16.1",
                          "app_name": "Firecracker"}, m.get("/")


@test
def instance_info_defaults(t):
    m = Monitor(test=t)
    assert m.get("/")["id"] == "anonymous-instance"
    assert m.get("/version") == {"firecracker_version": "1.16.1"}


@test
def unknown_routes(t):
    m = Monitor(test=t)
    text = "Invalid request method and/or path: %s."
    check(t, m, [
        ("GET", "/nothing", None, text % "GET nothing"),
        ("GET", "/nothing/below", None, text % "GET nothing"),
        ("GET", "/actions", None, text % "GET actions"),
        ("GET", "/boot-source", None, text % "GET boot-source"),
        ("GET", "/vm", None, text % "GET vm"),
        ("GET", "/drives", None, text % "GET drives"),
        ("GET", "/Version", None, text % "GET Version"),
        ("PUT", "/version", "{}", text % "PUT version"),
        ("PUT", "/", "{}", "Invalid request method and/or path: PUT "),
        ("PATCH", "/boot-source", "{}", text % "PATCH boot-source"),
        ("PATCH", "/actions", "{}", text % "PATCH actions"),
        ("DELETE", "/machine-config", None, text % "DELETE machine-config"),
        ("DELETE", "/vm", None, text % "DELETE vm"),
    ])


@test
def broken_json(t):
    m = Monitor(test=t)
    bodies = [
        "{", "}", "nul", "[", "\"", "{\"vcpu_count\"", "{\"vcpu_count\":}",
        "{\"vcpu_count\":1,}", "{'vcpu_count':1}", "{\"vcpu_count\":1}}",
        "{\"vcpu_count\":1} x", "{\"vcpu_count\":01}", "{\"vcpu_count\":+1}",
        "{\"vcpu_count\":1e999}", "{\"vcpu_count\":NaN}", " ", "1", "true",
        "\"text\"", "null", b"\xff\xfe{}", b"{\"vcpu_count\":1\0}",
        b"{\"vcpu_\xc3(\":1}", "[" * 40000, "{\"a\":" * 8000,
        "{\"\\ud800\":1}",
    ]
    check(t, m, [("PUT", "/machine-config", body, DESERIALIZING)
                 for body in bodies])


@test
def machine_config_put(t):
    m = Monitor(test=t)
    path = "/machine-config"
    ok = {"vcpu_count": 1, "mem_size_mib": 128}
    rows = [({**ok, **more}, text) for more, text in (
        ({"vcpu_count": 32}, None),
        ({"vcpu_count": 3}, None),
        ({"vcpu_count": 0}, "Machine config error: " + BAD_VCPUS),
        ({"vcpu_count": 33}, BAD_VCPUS),
        ({"vcpu_count": 3, "smt": True}, BAD_VCPUS),
        ({"vcpu_count": 2, "smt": True}, None),
        ({"vcpu_count": 1, "smt": True}, None),
        ({"vcpu_count": 256}, DESERIALIZING),
        ({"vcpu_count": -1}, DESERIALIZING + "invalid "),
        ({"vcpu_count": 1.5}, DESERIALIZING + "invalid type"),
        ({"vcpu_count": 1.0}, DESERIALIZING + "invalid type"),
        ({"vcpu_count": "1"}, DESERIALIZING + "invalid type"),
        ({"vcpu_count": True}, DESERIALIZING + "invalid type"),
        ({"vcpu_count": [1]}, DESERIALIZING + "invalid type"),
        ({"vcpu_count": None}, DESERIALIZING + "invalid type"),
        ({"mem_size_mib": 0}, "Machine config error: " + BAD_MEMORY),
        ({"mem_size_mib": -128}, DESERIALIZING + "invalid "),
        ({"mem_size_mib": 2 ** 64 - 1}, None),
        ({"mem_size_mib": 2 ** 64}, DESERIALIZING + "invalid type"),
        ({"mem_size_mib": 10 ** 400}, DESERIALIZING),
        ({"mem_size_mib": {}}, DESERIALIZING + "invalid type"),
        ({"mem_size_mib": 127}, None),
        ({"mem_size_mib": 127, "huge_pages": "2M"}, BAD_MEMORY),
        ({"mem_size_mib": 127, "huge_pages": "Transparent"}, BAD_MEMORY),
        ({"mem_size_mib": 126, "huge_pages": "2M"}, None),
        ({"huge_pages": "Transparent"}, None),
        ({"huge_pages": "1G"}, DESERIALIZING + "unknown variant `1G`"),
        ({"huge_pages": 2}, DESERIALIZING),
        ({"huge_pages": None}, DESERIALIZING + "expected value"),
        ({"smt": "true"}, DESERIALIZING + "invalid type"),
        ({"smt": 1}, DESERIALIZING + "invalid type"),
        ({"smt": None}, DESERIALIZING +
         "invalid type: null, expected a boolean"),
        ({"track_dirty_pages": None}, DESERIALIZING +
         "invalid type: null, expected a boolean"),
        ({"track_dirty_pages": True}, None),
        ({"cpu_template": None}, None),
        ({"cpu_template": "None"}, None),
        ({"cpu_template": "T3"}, DESERIALIZING + "unknown variant `T3`"),
        ({"cpu_template": "V1N1"}, DESERIALIZING + "unknown variant `V1N1`"),
        ({"vcpus": 1}, DESERIALIZING + "unknown field `vcpus`"),
        ({"": 1}, DESERIALIZING + "unknown field ``"),
    )]
    rows += [
        ({"mem_size_mib": 128}, DESERIALIZING +
         "missing field `vcpu_count` at line 1 column 21."),
        ({"vcpu_count": 2}, DESERIALIZING +
         "missing field `mem_size_mib` at line 1 column 17."),
        ({}, DESERIALIZING + "missing field `vcpu_count`"),
        ('{"vcpu_count":1,"vcpu_count":2,"mem_size_mib":128}',
         DESERIALIZING + "duplicate field `vcpu_count`"),
    ]
    check(t, m, [("PUT", path, body, text) for body, text in rows])


@test
def machine_config_is_replaced_by_put(t):
    m = Monitor(test=t)
    assert m.get("/machine-config") == DEFAULT_MACHINE
    m.put("/machine-config", vcpu_count=4, mem_size_mib=256, smt=True,
          track_dirty_pages=True, huge_pages="2M")
    assert m.get("/machine-config") == {
        "vcpu_count": 4, "mem_size_mib": 256, "smt": True,
        "track_dirty_pages": True, "huge_pages": "2M"}
    m.put("/machine-config", vcpu_count=2, mem_size_mib=64)
    assert m.get("/machine-config") == {
        **DEFAULT_MACHINE, "vcpu_count": 2, "mem_size_mib": 64}


@test
def machine_config_patch(t):
    m = Monitor(test=t)
    path = "/machine-config"
    check(t, m, [
        ("PATCH", path, {}, "Empty PATCH request."),
        ("PATCH", path, {"vcpu_count": None}, "Empty PATCH request."),
        ("PATCH", path, {"vcpu_count": 2}, None),
        ("PATCH", path, {"smt": True, "mem_size_mib": None}, None),
        ("PATCH", path, {"vcpu_count": 3}, BAD_VCPUS),
        ("PATCH", path, {"mem_size_mib": 0}, BAD_MEMORY),
        ("PATCH", path, {"mem_size_mib": 2 ** 64}, DESERIALIZING),
        ("PATCH", path, {"unknown": 0}, "unknown field `unknown`"),
        ("PATCH", path, {"huge_pages": "2M"}, None),
        ("PATCH", path, {"mem_size_mib": 127}, BAD_MEMORY),
        ("PATCH", path, {"huge_pages": "None"}, None),
        ("PATCH", path, {"mem_size_mib": 127}, None),
    ])
    assert m.get(path) == {**DEFAULT_MACHINE, "vcpu_count": 2, "smt": True,
                           "mem_size_mib": 127}


@test
def refused_machine_config_changes_nothing(t):
    m = Monitor(test=t)
    m.put("/machine-config", vcpu_count=2, mem_size_mib=64)
    for body in ({"vcpu_count": 4, "mem_size_mib": 0},
                 {"vcpu_count": 99, "mem_size_mib": 32},
                 {"vcpu_count": 4, "mem_size_mib": 32, "x": 1}):
        m.fault("PUT", "/machine-config", body)
        m.fault("PATCH", "/machine-config", body)
    assert m.get("/machine-config") == {
        **DEFAULT_MACHINE, "vcpu_count": 2, "mem_size_mib": 64}


@test
def deprecated_field_is_announced(t):
    m = Monitor(test=t)
    body = {"vcpu_count": 1, "mem_size_mib": 128}
    for method in ("PUT", "PATCH"):
        for value, deprecated in ((None, False), ("None", True)):
            fields = {**body, **({"cpu_template": value} if value else {})}
            answer = m.request(method, "/machine-config", fields)
            got = answer.header(b"Deprecation") == b"true"
            t.point(answer.status == 204 and got == deprecated,
                    "%s cpu_template %s" % (method, value), repr(answer.raw))
    text = "/machine-config: cpu_template field is deprecated."
    assert "PUT " + text in m.log and "PATCH " + text in m.log


@test
def boot_source(t):
    m = Monitor(test=t)
    kernel = t.write("kernel", b"x")
    path = "/boot-source"
    good = {"kernel_image_path": kernel}
    check(t, m, [
        ("PUT", path, good, None),
        ("PUT", path, {**good, "initrd_path": None, "boot_args": None}, None),
        ("PUT", path, {**good, "initrd_path": kernel}, None),
        ("PUT", path, {**good, "boot_args": ""}, None),
        ("PUT", path, {**good, "boot_args": "a" * 2000}, None),
        ("PUT", path, {**good, "boot_args": "a" * 2048},
         "Boot source error: The kernel command line is invalid: "),
        ("PUT", path, {**good, "boot_args": "caf\u00e9"},
         "Boot source error: The kernel command line is invalid: "),
        ("PUT", path, {**good, "boot_args": "a\x07"},
         "Boot source error: The kernel command line is invalid: "),
        ("PUT", path, {**good, "boot_args": "a\0b"}, ""),
        ("PUT", path, {"kernel_image_path": t.path("none")},
         "Boot source error: The kernel file cannot be opened: " + NO_FILE),
        ("PUT", path, {"kernel_image_path": ""}, "Boot source error: "),
        ("PUT", path, {"kernel_image_path": kernel + "\0"}, ""),
        ("PUT", path, {**good, "initrd_path": t.path("none")},
         "Boot source error: The initrd file cannot be opened due to invalid "
         "path or invalid permissions. " + NO_FILE),
        ("PUT", path, {}, DESERIALIZING + "missing field `kernel_image_path`"),
        ("PUT", path, {"kernel_image_path": None}, DESERIALIZING),
        ("PUT", path, {"kernel_image_path": 1}, DESERIALIZING),
        ("PUT", path, {**good, "kernel": 1}, "unknown field `kernel`"),
    ])


@test
def boot_source_is_kept_and_reported(t):
    m = Monitor(test=t)
    kernel, initrd = t.write("kernel", b"x"), t.write("initrd", b"y")
    m.put("/boot-source", kernel_image_path=kernel, initrd_path=initrd,
          boot_args="one two")
    want = {"kernel_image_path": kernel, "initrd_path": initrd,
            "boot_args": "one two"}
    assert m.get("/vm/config")["boot-source"] == want
    m.fault("PUT", "/boot-source", {"kernel_image_path": t.path("none")})
    assert m.get("/vm/config")["boot-source"] == want
    m.put("/boot-source", kernel_image_path=kernel)
    assert m.get("/vm/config")["boot-source"] == {
        "kernel_image_path": kernel, "initrd_path": None, "boot_args": None}


@test
def drives_put(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(4096))
    os.mkfifo(t.path("fifo"))
    good = {"drive_id": "d1", "is_root_device": False, "path_on_host": disk}
    backend = ("Drive config error: Unable to create the virtio block device: "
               "Virtio backend error: ")

    def put(text, drive="d1", **more):
        body = {k: v for k, v in {**good, **more}.items() if v != "absent"}
        return ("PUT", "/drives/" + drive, body, text)

    check(t, m, [
        put(None),
        put(None, is_read_only=True, partuuid="1234", cache_type="Writeback",
            io_engine="Sync"),
        put(None, is_read_only=None, partuuid=None, rate_limiter=None,
            socket=None),
        put(None, cache_type="Unsafe"),
        put(None, io_engine="Async"),
        put(None, io_engine="Async", is_read_only=True, discard=False),
        put(None, io_engine=None, discard=None),
        put(None, discard=True),
        put(None, drive="With_1_Und", drive_id="With_1_Und"),
        put(backend + "Error manipulating the backing file: " + NO_FILE + " "
            + t.path("none"), path_on_host=t.path("none")),
        put("Drive config error: ", path_on_host=t.dir),
        put("Drive config error: ", path_on_host=t.path("fifo")),
        put("Drive config error: ", path_on_host="/dev/null"),
        put("Drive config error: ", path_on_host=""),
        put("Invalid block config.", path_on_host="absent"),
        put("Invalid block config.", socket="/tmp/vhost"),
        put("The id from the path does not match the id from the body!",
            drive="d2"),
        put("API Resource IDs can only contain alphanumeric characters and "
            "underscores.", drive="d-1", drive_id="d-1"),
        put("API Resource IDs can only contain alphanumeric", drive="d.1",
            drive_id="d.1"),
        put("The ID cannot be empty.", drive="", drive_id=""),
        put(DESERIALIZING + "missing field `drive_id`", drive_id="absent"),
        put(DESERIALIZING + "missing field `is_root_device`",
            is_root_device="absent"),
        put(DESERIALIZING + "invalid type", is_root_device=1),
        put(DESERIALIZING + "invalid type", is_root_device=None),
        put(DESERIALIZING + "invalid type", is_read_only="yes"),
        put(DESERIALIZING + "unknown variant `Always`", cache_type="Always"),
        put(DESERIALIZING + "expected value", cache_type=None),
        put(DESERIALIZING + "unknown variant `sync`", io_engine="sync"),
        put(DESERIALIZING + "invalid type", discard="yes"),
        put(DESERIALIZING + "invalid type", discard=0),
        put(DESERIALIZING, path_on_host=7),
        put(DESERIALIZING + "unknown field `read_only`", read_only=True),
        put(DESERIALIZING, rate_limiter=[1]),
        put(DESERIALIZING + "unknown field `speed`",
            rate_limiter={"speed": 1}),
        put(DESERIALIZING + "missing field",
            rate_limiter={"bandwidth": {"size": 1}}),
    ])


@test
def drives_are_reported(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(4096))
    for drive, root in (("b", False), ("a", False), ("r", True)):
        m.put("/drives/" + drive, drive_id=drive, is_root_device=root,
              path_on_host=disk)
    drives = m.get("/vm/config")["drives"]
    assert [d["drive_id"] for d in drives] == ["r", "b", "a"], drives
    assert drives[0] == {
        "drive_id": "r", "partuuid": None, "is_root_device": True,
        "cache_type": "Unsafe", "is_read_only": False, "path_on_host": disk,
        "rate_limiter": None, "io_engine": "Sync", "socket": None}, drives[0]
    fault = m.fault("PUT", "/drives/q", {
        "drive_id": "q", "is_root_device": True, "path_on_host": disk})
    assert "A root block device already exists!" in fault, fault
    m.put("/drives/r", drive_id="r", is_root_device=True, path_on_host=disk,
          is_read_only=True)
    drives = m.get("/vm/config")["drives"]
    assert [d["drive_id"] for d in drives] == ["r", "b", "a"], drives
    assert drives[0]["is_read_only"] is True
    m.put("/drives/a", drive_id="a", is_root_device=False, path_on_host=disk,
          io_engine="Async", discard=False)
    drive = m.get("/vm/config")["drives"][2]
    assert drive["io_engine"] == "Async" and drive["discard"] is False, drive
    m.put("/drives/a", drive_id="a", is_root_device=False, path_on_host=disk,
          discard=True)
    drive = m.get("/vm/config")["drives"][2]
    assert "discard" not in drive, drive


@test
def refused_drive_leaves_the_old_one(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(4096))
    m.put("/drives/d", drive_id="d", is_root_device=False, path_on_host=disk)
    m.fault("PUT", "/drives/d", {"drive_id": "d", "is_root_device": True,
                                 "path_on_host": t.path("none")})
    drives = m.get("/vm/config")["drives"]
    assert len(drives) == 1 and drives[0]["path_on_host"] == disk, drives


@test
def drive_of_odd_size_is_accepted_with_a_warning(t):
    m = Monitor(test=t)
    disk = t.write("disk", bytes(1000))
    m.put("/drives/d", drive_id="d", is_root_device=False, path_on_host=disk)
    assert ":WARN" in m.log, m.log


@test
def actions_before_start(t):
    m = Monitor(test=t)
    check(t, m, [
        ("PUT", "/actions", {"action_type": "InstanceStart"},
         "Start microvm error: Cannot start microvm without kernel "
         "configuration."),
        ("PUT", "/actions", {"action_type": "FlushMetrics"},
         NOT_BEFORE_START),
        ("PUT", "/actions", {"action_type": "SendCtrlAltDel"},
         NOT_BEFORE_START),
        ("PUT", "/actions", {"action_type": "Stop"},
         DESERIALIZING + "unknown variant `Stop`"),
        ("PUT", "/actions", {"action_type": None}, DESERIALIZING),
        ("PUT", "/actions", {}, DESERIALIZING + "missing field `action_type`"),
        ("PUT", "/actions", {"action_type": "InstanceStart", "x": 1},
         DESERIALIZING + "unknown field `x`"),
        ("PATCH", "/vm", {"state": "Paused"}, NOT_BEFORE_START),
        ("PATCH", "/vm", {"state": "Resumed"}, NOT_BEFORE_START),
        ("PATCH", "/vm", {"state": "Stopped"},
         DESERIALIZING + "unknown variant `Stopped`"),
        ("PATCH", "/vm", {}, DESERIALIZING + "missing field `state`"),
        ("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": "/x"},
         NOT_BEFORE_START),
        ("PATCH", "/drives/d", {"drive_id": "d", "is_read_only": True},
         DESERIALIZING + "unknown field `is_read_only`, expected"),
        ("PATCH", "/drives/d", {"drive_id": "d", "io_engine": "Async"},
         DESERIALIZING + "unknown field `io_engine`, expected"),
        ("PATCH", "/drives/d", {"drive_id": "d", "is_root_device": True},
         DESERIALIZING + "unknown field `is_root_device`, expected"),
        ("PATCH", "/drives/d", {"drive_id": "d", "discard": True},
         DESERIALIZING + "unknown field `discard`, expected"),
        ("PATCH", "/drives/d", {"drive_id": "d", "path_on_host": 1},
         DESERIALIZING + "invalid type"),
        ("PATCH", "/drives/d", {"path_on_host": "/x"},
         DESERIALIZING + "missing field `drive_id`"),
        ("PATCH", "/drives/d", {"drive_id": "d", "rate_limiter": 7},
         DESERIALIZING + "invalid type"),
        ("DELETE", "/drives/d", None, NOT_BEFORE_START),
        ("PATCH", "/drives/d", {"drive_id": "e"},
         "The id from the path does not match the id from the body!"),
    ])
    assert m.get("/")["state"] == "Not started"


@test
def vm_config_before_any_configuration(t):
    got = Monitor(test=t).get("/vm/config")
    assert got == NOTHING_CONFIGURED, got


@test
def logger(t):
    m = Monitor(test=t, log=False)
    path = t.path("log")
    check(t, m, [
        ("PUT", "/logger", {"log_path": t.path("no/log")},
         "Logger error: Failed to open target file: " + NO_FILE),
        ("PUT", "/logger", {"level": "Loud"}, DESERIALIZING),
        ("PUT", "/logger", {"level": 1}, DESERIALIZING),
        ("PUT", "/logger", {"show_level": "yes"}, DESERIALIZING),
        ("PUT", "/logger", {"unknown": 1}, "unknown field `unknown`"),
        ("PUT", "/logger", {}, None),
        ("PUT", "/logger", {"log_path": path, "level": "deBug",
                            "show_level": True, "show_log_origin": True},
         None),
    ])
    console = m.console
    m.get("/version")
    assert m.console == console, "logged to stdout behind its back"
    with open(path) as file:
        assert "received a Get request on \"/version\"." in file.read()
    for level in ("Off", "Trace", "Info", "Warn", "WARNING", "error"):
        m.put("/logger", level=level)


@test
def logger_level_goes_back_to_info(t):
    m = Monitor(test=t)
    m.put("/logger", level="Error")
    m.get("/version")
    assert "Get request on \"/version\"" not in m.log
    m.put("/logger", show_level=True)
    m.get("/version")
    assert "Get request on \"/version\"" in m.log, m.log


@test
def log_fifo_without_reader_blocks_nobody(t):
    m = Monitor(test=t, log=False)
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    m.put("/logger", log_path=fifo, level="Debug")
    shrink_pipe(fifo)
    for _ in range(50):  # more than it holds
        m.get("/machine-config")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    t.defer(os.close, reader)
    text = os.read(reader, 1 << 20).decode()
    assert text.startswith("20") and "Get request" in text, text[:200]
    m.get("/version")
    text = os.read(reader, 1 << 20).decode()
    assert "/version" in text, "the reader's pipe has room: %r" % text


@test
def metrics(t):
    m = Monitor(test=t)
    os.mkfifo(t.path("fifo"))
    good = {"metrics_path": t.path("fifo")}
    check(t, m, [
        ("PUT", "/metrics", {}, DESERIALIZING + "missing field "
         "`metrics_path`"),
        ("PUT", "/metrics", {"metrics_path": None}, DESERIALIZING),
        ("PUT", "/metrics", {**good, "emit_id": None},
         DESERIALIZING + "invalid type: null, expected a boolean"),
        ("PUT", "/metrics", {**good, "properties": {"a": 1}}, DESERIALIZING),
        ("PUT", "/metrics", {"metrics_path": t.path("no/metrics")},
         "Metrics error: "),
        ("PUT", "/metrics", {**good, "not_a_field": 1}, None),
        ("PUT", "/metrics", good,
         "Metrics error: Cannot initialize the metrics system due to bad user "
         "input: Reinitialization of metrics not allowed."),
    ])
    assert stat.S_ISFIFO(os.stat(t.path("fifo")).st_mode)


@test
def requests_are_logged(t):
    m = Monitor(test=t)
    m.put("/machine-config", vcpu_count=1, mem_size_mib=128)
    m.fault("PUT", "/boot-source", '{"kernel_image_path":"/non"}')
    m.get("/version")
    for text in (
            'The API server received a Put request on "/machine-config" with '
            'body "{\\"vcpu_count\\": 1, \\"mem_size_mib\\": 128}".',
            "The request was executed successfully. Status code: 204 No "
            "Content.",
            'with body "{\\"kernel_image_path\\":\\"/non\\"}".',
            "Received Error. Status code: 400 Bad Request. Message: "
            "Boot source error: The kernel file cannot be opened: " + NO_FILE,
            'The API server received a Get request on "/version".',
            "The request was executed successfully. Status code: 200 OK."):
        t.point(text in m.log, text.replace("#", ""), m.log)


if __name__ == "__main__":
    main()
