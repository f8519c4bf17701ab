# SPDX-License-Identifier: Apache-2.0
"""The life of a microVM through its API: states, pause, metrics, signals."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import (Monitor, NOT_AFTER_START, TIMEOUT, guest, guest_points,
                   need_kvm, run)
from tap import main, test

READ_WRITE_AGG = {"min_us", "max_us", "sum_us"}
BLOCK = set("""activate_fails cfg_fails no_avail_buffer event_fails
    execute_fails invalid_reqs_count flush_count queue_event_count
    rate_limiter_event_count update_count update_fails read_bytes write_bytes
    read_count write_count rate_limiter_throttled_events
    io_engine_throttled_events remaining_reqs_count read_agg
    write_agg""".split())
SECTIONS = {
    "api_server": {"process_startup_time_us", "process_startup_time_cpu_us"},
    "block": BLOCK,
    "deprecated_api": {"deprecated_http_api_calls"},
    "get_api_requests": set("""instance_info_count machine_cfg_count
        mmds_count vmm_version_count hotplug_memory_count""".split()),
    "put_api_requests": {
        name + end for end in ("_count", "_fails") for name in """actions
        boot_source drive logger machine_cfg cpu_cfg metrics network mmds
        vsock pmem serial hotplug_memory""".split()},
    "patch_api_requests": {
        name + end for end in ("_count", "_fails") for name in """drive
        network machine_cfg mmds hotplug_memory pmem""".split()},
    "i8042": set("""error_count missed_read_count missed_write_count
        read_count reset_count write_count""".split()),
    "uart": set("""error_count flush_count missed_read_count
        missed_write_count read_count write_count
        rate_limiter_dropped_bytes""".split()),
    "latencies_us": {
        prefix + name for prefix in ("", "vmm_") for name in
        """full_create_snapshot diff_create_snapshot load_snapshot pause_vm
        resume_vm""".split()},
    "logger": set("""missed_metrics_count metrics_fails missed_log_count
        rate_limited_log_count""".split()),
    "seccomp": {"num_faults"},
    "signals": set("""sigbus sigsegv sigxfsz sigxcpu sigpipe sighup
        sigill""".split()),
    "vcpu": set("""exit_io_in exit_io_out exit_mmio_read exit_mmio_write
        failures kvmclock_ctrl_fails exit_io_in_agg exit_io_out_agg
        exit_mmio_read_agg exit_mmio_write_agg""".split()),
    "vmm": {"panic_count"},
    "interrupts": {"triggers", "config_updates"},
}


def start(t, name="counter", boot_args=None, **options):
    need_kvm()
    m = Monitor(test=t, **options)
    m.start(guest(name), boot_args=boot_args)
    return m


def metrics_lines(path):
    with open(path) as file:
        text = file.read()
    assert not text or text.endswith("\n"), text[-100:]
    return [json.loads(line) for line in text.splitlines()]


@test
def requests_after_the_start(t):
    m = start(t)
    disk = t.write("disk", bytes(4096))
    for method, path, body in (
            ("PUT", "/actions", {"action_type": "InstanceStart"}),
            ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 1}),
            ("PATCH", "/machine-config", {"vcpu_count": 1}),
            ("PUT", "/boot-source", {"kernel_image_path": disk}),
            ("PUT", "/logger", {"level": "Info"}),
            ("PUT", "/metrics", {"metrics_path": disk})):
        fault = m.fault(method, path, body)
        t.point(fault == NOT_AFTER_START, method + " " + path, fault)
    for path in ("/", "/version", "/machine-config", "/vm/config"):
        assert m.get(path)
    assert m.get("/")["state"] == "Running"
    m.put("/actions", action_type="FlushMetrics")


@test
def states_are_reported(t):
    need_kvm()
    m = Monitor(test=t)
    assert m.get("/")["state"] == "Not started"
    m.start(guest("counter"))
    assert m.get("/")["state"] == "Running"
    for state, shown in (("Paused", "Paused"), ("Paused", "Paused"),
                         ("Resumed", "Running"), ("Resumed", "Running")):
        m.patch("/vm", state=state)
        assert m.get("/")["state"] == shown
    for text in ("'pause vm' VMM action took", "'resume vm' VMM action took",
                 "'pause vm' API request took",
                 "'resume vm' API request took"):
        t.point(text in m.log, text, m.log)


def still(m):
    """True when nothing is printed for a while."""
    time.sleep(0.05)  # what was on its way
    before = len(m.console)
    time.sleep(0.3)
    return len(m.console) == before


@test
def paused_guest_stands_still(t):
    m = start(t)
    m.expect(b"50\n")
    for _ in range(3):
        m.patch("/vm", state="Paused")
        assert still(m), "the guest goes on while paused"
        m.patch("/vm", state="Resumed")
        seen = len(m.console)
        deadline = time.monotonic() + TIMEOUT
        while len(m.console) < seen + 100:
            assert time.monotonic() < deadline, "does not go on"
            time.sleep(0.01)
    numbers = m.console.split(b"\n")[1:-1]
    assert numbers == [b"%d" % n for n in range(len(numbers))], \
        "numbers were lost or repeated"


@test
def pause_of_halted_and_many_cpus(t):
    need_kvm()
    for cpus in (1, 4, 32):
        m = Monitor(test=t)
        m.start(guest("counter"), boot_args="quiet", vcpu_count=cpus)
        m.expect(b"counting\n")
        for _ in range(20):
            m.patch("/vm", state="Paused")
            m.patch("/vm", state="Resumed")
        t.point(m.get("/")["state"] == "Running", "%d CPUs" % cpus)
        m.close()


@test
def pause_under_fire(t):
    """Pauses at arbitrary moments of a guest that exits all the time."""
    m = start(t)
    for number in range(200):
        m.patch("/vm", state="Paused" if number % 2 == 0 else "Resumed")
    seen = len(m.console)
    deadline = time.monotonic() + TIMEOUT
    while len(m.console) < seen + 20:
        assert time.monotonic() < deadline, "does not go on"
        time.sleep(0.01)


@test
def input_while_paused_is_kept(t):
    m = start(t, "echo")
    m.expect(b"ready\n")
    m.patch("/vm", state="Paused")
    m.send(b"typed")
    assert still(m)
    m.patch("/vm", state="Resumed")
    m.expect(b"typed")


@test
def paused_guest_can_be_ended(t):
    m = start(t)
    m.patch("/vm", state="Paused")
    m.signal(signal.SIGTERM)
    assert m.wait() == -signal.SIGTERM


@test
def metrics_of_a_whole_life(t):
    """One line for the start, one for the end, with the documented keys."""
    need_kvm()
    path = t.path("metrics")
    m = Monitor(test=t)
    m.put("/metrics", metrics_path=path)
    m.start(guest("hello"))
    assert m.wait() == 0
    lines = metrics_lines(path)
    assert len(lines) == 2, len(lines)
    for line in lines:
        for section, fields in SECTIONS.items():
            got = line.get(section)
            t.point(isinstance(got, dict) and set(got) == fields, section,
                    "%s\nwanted %s" % (got, sorted(fields)))
        for name, value in line["vcpu"].items():
            if name.endswith("_agg"):
                assert set(value) == READ_WRITE_AGG, value
    first, last = lines
    t.point(first["put_api_requests"]["metrics_count"] == 1,
            "metrics_count", str(first["put_api_requests"]))
    t.point(last["put_api_requests"]["metrics_count"] == 0,
            "counters are differences", str(last["put_api_requests"]))
    t.point(last["i8042"]["reset_count"] == 1, "reset_count",
            str(last["i8042"]))
    t.point(last["uart"]["write_count"] == len(m.console), "uart writes",
            "%s %d" % (last["uart"], len(m.console)))
    for line in lines:
        bad = {"%s.%s" % (section, name): value
               for section, fields in line.items() if isinstance(fields, dict)
               for name, value in fields.items() if value
               and any(word in name
                       for word in ("err", "fail", "panic", "num_faults"))}
        t.point(not bad, "nothing failed", str(bad))


@test
def metrics_time_stamp(t):
    need_kvm()
    path = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", path])
    m.start(guest("hello"))
    assert m.wait() == 0
    stamp = metrics_lines(path)[0]["utc_timestamp_ms"]
    assert abs(stamp - time.time() * 1000) < 20000, stamp


@test
def metrics_of_a_drive(t):
    need_kvm()
    path = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", path])
    m.put("/drives/d", drive_id="d", is_root_device=False,
          path_on_host=t.write("disk", bytes(256 * 512)))
    m.start(guest("disk"))
    m.expect(b"ready\n")
    for _ in range(3):
        m.send(b"r")
        m.expect(b"status 0")
    m.send(b"w")
    m.expect(b"status 0")
    m.put("/actions", action_type="FlushMetrics")
    line = metrics_lines(path)[-1]
    own, both = line["block_d"], line["block"]
    assert set(own) == BLOCK, own
    for name, value in (("read_count", 3), ("write_count", 1),
                        ("read_bytes", 3 * 512), ("write_bytes", 512),
                        ("execute_fails", 0)):
        t.point(own[name] == both[name] == value, name,
                "%s %s" % (own[name], both[name]))
    t.point(both["read_agg"]["min_us"] == both["read_agg"]["max_us"] == 0,
            "aggregate has no extremes", str(both["read_agg"]))
    t.point(own["read_agg"]["sum_us"] == both["read_agg"]["sum_us"],
            "aggregate has the sum", str(both["read_agg"]))


@test
def metrics_id_and_properties(t):
    need_kvm()
    path = t.path("metrics")
    m = Monitor(test=t, args=["--id", "vm-7"])
    m.put("/metrics", metrics_path=path, emit_id=True,
          properties={"a": "b \"c\"", "d": ""})
    m.start(guest("hello"))
    assert m.wait() == 0
    for line in metrics_lines(path):
        assert line["id"] == "vm-7", line
        assert line["properties"] == {"a": "b \"c\"", "d": ""}, line


@test
def metrics_fifo_without_reader(t):
    need_kvm()
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    m = Monitor(test=t, args=["--metrics-path", fifo])
    m.start(guest("counter"), boot_args="quiet")
    for _ in range(20):  # more than it holds
        m.api("PUT", "/actions", {"action_type": "FlushMetrics"})
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    t.defer(os.close, reader)
    text = os.read(reader, 1 << 20).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines, "nothing was written"
    m.put("/actions", action_type="FlushMetrics")
    line = json.loads(os.read(reader, 1 << 20))
    assert line["logger"]["missed_metrics_count"] > 0, line["logger"]
    # What the lost lines would have told is in the next one.
    total = sum(each["put_api_requests"]["actions_count"]
                for each in lines + [line])
    assert total >= 20, total


@test
def flush_without_metrics_file(t):
    m = start(t)
    m.put("/actions", action_type="FlushMetrics")


@test
def fatal_signal_leaves_metrics_behind(t):
    need_kvm()
    path = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", path])
    m.start(guest("counter"), boot_args="quiet")
    m.signal(signal.SIGHUP)
    assert m.wait() == 156
    lines = metrics_lines(path)
    assert lines[-1]["signals"]["sighup"] == 1, lines[-1]["signals"]


@test
def signals_while_running(t):
    m = start(t)
    for _ in range(20):
        m.signal(35)
    m.signal(signal.SIGPIPE)
    m.wait_log("Received signal 13")
    seen = len(m.console)
    time.sleep(0.1)
    assert len(m.console) > seen and m.get("/")["state"] == "Running"
    m.signal(signal.SIGTERM)
    assert m.wait() == -signal.SIGTERM


def config(t, **sections):
    document = {"boot-source": {"kernel_image_path": guest("hello"),
                                "boot_args": "from a file"},
                "drives": [], **sections}
    return t.write("config.json", json.dumps(document))


@test
def config_file_starts_the_guest(t):
    need_kvm()
    m = Monitor(test=t, api=False, args=["--config-file", config(t)])
    assert m.wait() == 0
    guest_points(t, m.console)
    assert b"cmdline from a file pci=off" in m.console
    assert ("Successfully started microvm that was configured from one "
            "single json") in m.log, m.log


@test
def config_file_with_the_api(t):
    need_kvm()
    disk = t.write("disk", bytes(4096))
    path = config(
        t, **{"boot-source": {"kernel_image_path": guest("counter")},
              "machine-config": {"vcpu_count": 2, "mem_size_mib": 64},
              "drives": [{"drive_id": "d", "is_root_device": False,
                          "path_on_host": disk}],
              "logger": None, "unknown": {"x": 1}})
    m = Monitor(test=t, args=["--config-file", path])
    assert m.get("/")["state"] == "Running"
    assert m.get("/machine-config")["vcpu_count"] == 2
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    assert fault == NOT_AFTER_START, fault
    m.expect(b"counting\n")


@test
def config_file_with_logger_and_metrics(t):
    need_kvm()
    log, metrics = t.path("log"), t.path("metrics")
    path = config(t, logger={"log_path": log, "level": "Debug",
                             "show_level": True},
                  metrics={"metrics_path": metrics, "emit_id": True})
    m = Monitor(test=t, api=False, log=False, args=["--config-file", path])
    assert m.wait() == 0
    with open(log) as file:
        text = file.read()
    assert ":DEBUG] Kernel loaded using PVH boot protocol" in text, text
    lines = metrics_lines(metrics)
    assert [line["id"] for line in lines] == ["anonymous-instance"] * 2


@test
def config_file_may_be_large(t):
    """Larger than any limit of a request body."""
    need_kvm()
    path = config(t, unknown=["x" * 1000] * 200)
    m = Monitor(test=t, api=False, args=["--config-file", path])
    assert m.wait() == 0


@test
def vm_config_round_trips(t):
    need_kvm()
    disk = t.write("disk", bytes(4096))
    m = Monitor(test=t)
    m.put("/machine-config", vcpu_count=2, mem_size_mib=64, smt=True)
    m.put("/drives/d", drive_id="d", is_root_device=True, path_on_host=disk,
          cache_type="Writeback", is_read_only=True)
    m.put("/drives/e", drive_id="e", is_root_device=False, path_on_host=disk,
          io_engine="Async", discard=False)
    m.put("/boot-source", kernel_image_path=guest("counter"), boot_args="x")
    document = m.get("/vm/config")
    path = t.write("config.json", json.dumps(document))
    again = Monitor(test=t, args=["--config-file", path])
    assert again.get("/vm/config") == document, again.get("/vm/config")


@test
def config_file_with_a_bad_kernel(t):
    need_kvm()
    path = t.write("config.json", json.dumps({
        "boot-source": {"kernel_image_path": t.write("k", "none")},
        "drives": []}))
    code, out, err = run("--no-api", "--config-file", path)
    assert code == 1, (code, out, err)
    assert "Could not Start MicroVM from one single json" in out, out


@test
def start_failure_can_be_mended(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/boot-source", kernel_image_path=t.write("k", "none"))
    for _ in range(5):
        m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
        assert m.get("/")["state"] == "Not started"
    m.start(guest("hello"))
    m.expect(b"done\n")
    assert m.wait() == 0


@test
def threads_have_names(t):
    m = start(t)
    m.expect(b"counting\n")
    names = set()
    for tid in os.listdir("/proc/%d/task" % m.pid):
        with open("/proc/%d/task/%s/comm" % (m.pid, tid)) as file:
            names.add(file.read().strip())
    names = {name for name in names if not name.startswith("kvm-")}
    assert names == {"ember", "ember_api", "ember_vcpu 0"}, names


@test
def many_microvms_side_by_side(t):
    need_kvm()
    monitors = [Monitor(test=t, args=["--id", "vm-%d" % n])
                for n in range(20)]
    for m in monitors:
        m.start(guest("hello"))
    for m in monitors:
        assert m.wait() == 0
        guest_points(t, m.console)


if __name__ == "__main__":
    main()
