# SPDX-License-Identifier: Apache-2.0
"""The entropy device, used by a small driver of our own."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest, guest_points, need_kvm
from tap import main, test


def started(t, boot_args="quick", configure=None, **entropy):
    need_kvm()
    metrics = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", metrics])
    if configure:
        configure(m)
    m.put("/entropy", **entropy)
    m.start(guest("entropy"), boot_args=boot_args)
    m.expect(b"ready\n")
    return m, metrics


def counted(m, path):
    """Sums of the section since the start."""
    m.put("/actions", action_type="FlushMetrics")
    total = {}
    with open(path) as file:
        for line in file:
            for key, value in json.loads(line)["entropy"].items():
                total[key] = total.get(key, 0) + value
    return total


def random(m):
    m.send(b"r")
    return m.expect(b"\n")


@test
def driver_uses_it(t):
    m, metrics = started(t, boot_args="")
    got = counted(m, metrics)
    t.point(got["entropy_bytes"] == 64 + 64 + 65536 + 8 + 16, "bytes", got)
    t.point(got["entropy_event_fails"] == 3, "misuse is counted", got)
    t.point(got["entropy_event_count"] >= 8, "events", got)
    t.point(got["host_rng_fails"] == got["activate_fails"] == 0
            and got["entropy_rate_limiter_throttled"] == 0, "no more", got)
    m.send(b"q")
    assert m.wait() == 0
    guest_points(t, m.console)


@test
def healthy_use_has_no_fails(t):
    m, metrics = started(t)
    assert random(m) != random(m)
    got = counted(m, metrics)
    assert got["entropy_bytes"] == 32, got
    assert not any(value for key, value in got.items() if "fail" in key), got


@test
def it_comes_behind_other_devices(t):
    disk = t.write("disk", bytes(4096))

    def configure(m):
        m.put("/drives/d", drive_id="d", is_root_device=False,
              path_on_host=disk)
        m.put("/vsock", guest_cid=3, uds_path=t.path("v"))

    m, _ = started(t, configure=configure)
    assert "ok found" in m.console.decode()
    random(m)


@test
def limiter_holds_requests_back(t):
    """64 KiB at once, then 512 KiB a second."""
    m, metrics = started(t, rate_limiter={
        "bandwidth": {"size": 65536, "refill_time": 125}})
    start = time.monotonic()
    m.send(b"k")
    m.expect(b"sum 524288\n")
    took = time.monotonic() - start
    got = counted(m, metrics)
    t.point(took > 0.7, "it took its time", "%g s" % took)
    t.point(got["entropy_rate_limiter_throttled"] > 0
            and got["rate_limiter_event_count"] > 0, "counted", got)


@test
def limiter_of_operations(t):
    m, _ = started(t, rate_limiter={"ops": {"size": 2, "refill_time": 200}})
    start = time.monotonic()
    m.send(b"k")
    m.expect(b"sum 524288\n")
    assert time.monotonic() - start > 0.5


@test
def snapshot_keeps_it(t):
    limiter = {"ops": {"size": 1000, "one_time_burst": None,
                       "refill_time": 100}, "bandwidth": None}
    m, _ = started(t, rate_limiter={"ops": limiter["ops"]})
    before = random(m)
    m.patch("/vm", state="Paused")
    m.put("/snapshot/create", snapshot_path=t.path("state"),
          mem_file_path=t.path("memory"))
    m.close()
    seen = {before}
    for _ in range(2):
        clone = Monitor(test=t)
        clone.put("/snapshot/load", snapshot_path=t.path("state"),
                  mem_backend={"backend_type": "File",
                               "backend_path": t.path("memory")},
                  resume_vm=True)
        assert clone.get("/vm/config")["entropy"] == {"rate_limiter": limiter}
        seen.add(random(clone))
        clone.send(b"q")
        assert clone.wait() == 0
    t.point(len(seen) == 3, "clones get bytes of their own", seen)


@test
def config_file_has_it(t):
    need_kvm()
    config = t.write("config", json.dumps({
        "boot-source": {"kernel_image_path": guest("entropy"),
                        "boot_args": "quick"},
        "drives": [], "entropy": {}}))
    m = Monitor(test=t, args=["--config-file", config])
    m.expect(b"ready\n")
    document = m.get("/vm/config")
    assert document["entropy"] == {"rate_limiter": None}, document
    random(m)
    m.close()
    again = Monitor(test=t, args=["--config-file", t.write(
        "again", json.dumps(document))])
    again.expect(b"ready\n")
    assert again.get("/vm/config") == document


if __name__ == "__main__":
    main()
