# SPDX-License-Identifier: Apache-2.0
"""/serial: where the guest's output goes, and how much of it."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import (Monitor, NOT_AFTER_START, TIMEOUT, guest, need_kvm,
                   shrink_pipe)
from rows import DESERIALIZING, check
from tap import main, test

BUCKET = {"size": 10, "refill_time": 100}


def sums(path, section):
    total = {}
    with open(path) as file:
        for line in file:
            for key, value in json.loads(line)[section].items():
                if isinstance(value, int):
                    total[key] = total.get(key, 0) + value
    return total


def output(t, name):
    """A file that monitors in jails may write to as well."""
    path = t.write(name)
    os.chmod(path, 0o666)
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def wait_for(path, text):
    deadline = time.monotonic() + TIMEOUT
    while text not in read(path):
        assert time.monotonic() < deadline, (text, read(path))
        time.sleep(0.005)


@test
def bodies(t):
    m = Monitor(test=t)
    text = "Invalid request method and/or path: %s serial."
    out = output(t, "out")
    rows = [(body, None) for body in (
        {}, {"serial_out_path": None}, {"serial_out_path": out},
        {"rate_limiter": None}, {"rate_limiter": BUCKET},
        {"serial_out_path": out, "rate_limiter": {**BUCKET,
                                                  "one_time_burst": 4}},
        {"rate_limiter": {**BUCKET, "one_time_burst": None, "more": 1}})]
    rows += [(body, DESERIALIZING + more) for body, more in (
        ({"serial_out_path": 1}, "invalid type"),
        ({"rate_limiter": 1}, ""),
        ({"rate_limiter": {"ops": BUCKET}}, "missing field `size`"),
        ({"rate_limiter": {"size": 1}}, "missing field `refill_time`"),
        ({"rate_limiter": {**BUCKET, "size": -1}}, "invalid "),
        ({"output": "x"}, "unknown field `output`"), ("null", ""))]
    none, directory = t.path("no/file"), t.dir
    rows += [({"serial_out_path": path}, "Serial config error: The serial "
              "output file %s cannot be opened: " % path + reason)
             for path, reason in (
                 (none, "No such file or directory (os error 2)"),
                 (directory, "Is a directory (os error 21)"),
                 ("", "No such file or directory (os error 2)"))]
    check(t, m, [("PUT", "/serial", body, more) for body, more in rows])
    check(t, m, [
        ("PUT", "/serial", None, "Empty PUT request."),
        ("GET", "/serial", None, text % "GET"),
        ("PATCH", "/serial", {}, text % "PATCH"),
        ("DELETE", "/serial", None, text % "DELETE"),
    ])
    t.point("serial" not in m.get("/vm/config"), "not in /vm/config")


@test
def output_goes_to_a_file(t):
    need_kvm()
    metrics, out = t.path("metrics"), output(t, "out")
    m = Monitor(test=t, args=["--metrics-path", metrics])
    m.put("/serial", serial_out_path=output(t, "replaced"))
    m.put("/serial", serial_out_path=out)
    m.fault("PUT", "/serial", {"serial_out_path": t.path("no/file")})
    m.start(guest("echo"))
    wait_for(out, b"ready\n")
    m.send(b"typed")
    wait_for(out, b"typed")
    check(t, m, [("PUT", "/serial", {}, NOT_AFTER_START)])
    m.send(b"q")
    assert m.wait() == 0
    t.point(m.console == b"", "standard output is silent", m.console)
    t.point(read(t.path("replaced")) == b"", "the first file is empty")
    got = sums(metrics, "put_api_requests")
    # One was refused for its path, one for its time.
    t.point(got["serial_count"] == 4 and got["serial_fails"] == 2,
            "requests are counted", got)
    uart = sums(metrics, "uart")
    t.point(uart["write_count"] >= len(read(out)) - 1 > 0
            and uart["rate_limiter_dropped_bytes"] == 0, "bytes", uart)


@test
def file_is_made_and_kept(t):
    need_kvm()
    if injail.JAILER:
        os.chmod(t.dir, 0o777)
    m = Monitor(test=t)
    path = t.path("new")
    m.put("/serial", serial_out_path=path)
    assert os.path.exists(path), "not opened at once"
    m.start(guest("hello"))
    assert m.wait() == 0
    first = read(path)
    assert b"done" in first, first
    again = Monitor(test=t)
    again.put("/serial", serial_out_path=path)
    again.start(guest("hello"))
    assert again.wait() == 0
    assert read(path)[:len(first)] == read(path), "neither cut nor appended to"


@test
def back_to_standard_output(t):
    need_kvm()
    m = Monitor(test=t)
    out = output(t, "out")
    m.put("/serial", serial_out_path=out, rate_limiter=BUCKET)
    m.put("/serial")
    m.start(guest("hello"))
    m.expect(b"done\n")
    assert m.wait() == 0
    assert read(out) == b"", read(out)


def fifo(t):
    path = t.path("fifo")
    os.mkfifo(path)
    os.chmod(path, 0o666)
    return path


@test
def fifo_without_reader_stalls_nobody(t):
    need_kvm()
    metrics, path = t.path("metrics"), fifo(t)
    m = Monitor(test=t, args=["--metrics-path", metrics])
    m.put("/serial", serial_out_path=path)
    shrink_pipe(path)
    m.start(guest("counter"))
    deadline = time.monotonic() + 6 * TIMEOUT
    missed = 0
    while not missed:
        assert time.monotonic() < deadline, "nothing was dropped"
        time.sleep(0.1)
        m.put("/actions", action_type="FlushMetrics")
        missed = sums(metrics, "uart")["missed_write_count"]
    assert m.get("/")["state"] == "Running"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    t.defer(os.close, reader)
    t.point(os.read(reader, 65536).startswith(b"counting\n0\n1\n"),
            "a late reader gets what fitted")
    time.sleep(0.1)
    t.point(os.read(reader, 65536), "and then what comes")


@test
def excess_is_dropped(t):
    need_kvm()
    metrics = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", metrics])
    m.put("/serial", rate_limiter={"size": 5, "one_time_burst": 15,
                                   "refill_time": 3600000})
    m.start(guest("counter"))
    deadline = time.monotonic() + TIMEOUT
    dropped = 0
    while dropped < 50:
        assert time.monotonic() < deadline, "nothing was dropped"
        m.put("/actions", action_type="FlushMetrics")
        dropped = sums(metrics, "uart")["rate_limiter_dropped_bytes"]
        time.sleep(0.01)
    uart = sums(metrics, "uart")
    t.point(m.console == b"counting\n0\n1\n2\n3\n4\n5"[:20],
            "the burst and the bucket are written", m.console)
    t.point(uart["write_count"] == 20 and uart["missed_write_count"] == 0,
            "and counted", uart)


@test
def bucket_is_refilled(t):
    """100 bytes a second of some 4,000."""
    need_kvm()
    m = Monitor(test=t)
    m.put("/serial", rate_limiter={"size": 10, "refill_time": 100})
    m.start(guest("counter"))
    time.sleep(1)
    m.patch("/vm", state="Paused")
    got = len(m.console)
    assert 30 < got < 400, got


@test
def loaded_guest_writes_there_too(t):
    """A load takes what was set before, and no configuration spoils it."""
    need_kvm()
    out = output(t, "out")
    m = Monitor(test=t)
    m.put("/serial", serial_out_path=output(t, "first"),
          rate_limiter={"size": 1000000, "refill_time": 1})
    m.start(guest("echo"))
    wait_for(t.path("first"), b"ready\n")
    m.patch("/vm", state="Paused")
    m.put("/snapshot/create", snapshot_path=t.path("state"),
          mem_file_path=t.path("memory"))
    m.close()
    load = {"snapshot_path": t.path("state"), "resume_vm": True,
            "mem_backend": {"backend_type": "File",
                            "backend_path": t.path("memory")}}
    clone = Monitor(test=t)
    clone.put("/serial", serial_out_path=out)
    clone.put("/snapshot/load", **load)
    clone.send(b"typed to a clone")
    wait_for(out, b"typed to a clone")
    t.point(clone.console == b"", "not to standard output", clone.console)
    other = Monitor(test=t)
    other.put("/snapshot/load", **load)
    other.send(b"to another")
    other.expect(b"to another")
    t.point(b"another" not in read(t.path("first")) + read(out),
            "the path is not part of a snapshot")


@test
def config_files_have_no_such_section(t):
    need_kvm()
    out = t.path("out")
    m = Monitor(test=t, args=["--config-file", t.write("config", json.dumps({
        "boot-source": {"kernel_image_path": guest("hello")}, "drives": [],
        "serial": {"serial_out_path": out}}))], wait=False)
    m.expect(b"done\n")
    assert m.wait() == 0
    assert not os.path.exists(out)


if __name__ == "__main__":
    main()
