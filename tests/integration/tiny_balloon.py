# SPDX-License-Identifier: Apache-2.0
"""The balloon, used by a small driver of our own: memory comes back to the host,
and reads as zeros, whatever is behind it; also in snapshots."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import TIMEOUT, Monitor, guest, need_kvm
from faults import Handler, good_handler, honest
from rows import DESERIALIZING, check
from snapshots import MIB, PAGE, Snapshot, merge, pages, pause
from tap import SLOW, main, test

AREA_MIB = 32
AREA_PAGES = AREA_MIB * MIB // PAGE
FIRST = 16 * MIB // PAGE
FULL = {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 60,
        "free_page_hinting": True, "free_page_reporting": True}
PLAIN = {"amount_mib": 0, "deflate_on_oom": False,
         "stats_polling_interval_s": 0, "free_page_hinting": False,
         "free_page_reporting": False}
UPDATE = "Balloon update error: "
INTERNAL = "Internal VMM error: "
NO_DEVICE = "Failed perform action on device: Device not found"
ZEROS = b"zeros %d kept 0 others 0" % AREA_PAGES
KEPT = b"zeros 0 kept %d others 0" % AREA_PAGES
STATS = ("swap_in swap_out major_faults minor_faults free_memory total_memory "
         "available_memory disk_caches hugetlb_allocations hugetlb_failures "
         "oom_kill alloc_stall async_scan direct_scan async_reclaim "
         "direct_reclaim").split()


def ballooned(t, args=(), boot_args="", config=None, **machine):
    """A guest whose driver waits for orders."""
    need_kvm()
    m = Monitor(test=t, args=args)
    m.put("/balloon", **(config or FULL))
    m.start(guest("balloon"), boot_args=boot_args, **machine)
    m.expect(b"ready\n")
    return m


def told(m, letter, answer):
    m.send(letter)
    m.expect(answer + b"\n")


def resident_mib(m):
    """Of the monitor, with the guest's memory."""
    with open("/proc/%d/statm" % m.pid) as file:
        return int(file.read().split()[1]) * PAGE / MIB


def metrics(m, path):
    m.put("/actions", action_type="FlushMetrics")
    with open(path) as file:
        return json.loads(file.read().splitlines()[-1])["balloon"]


def given_back(t, m, letter, answer, what, files=False):
    """Fills the area, gives it back; zeros are what is there then."""
    told(m, b"f", b"fill done")
    before = resident_mib(m)
    told(m, letter, answer)
    after = resident_mib(m)
    if not files:
        t.point(before - after > AREA_MIB - 2, what + ": memory came back",
                "%.1f MiB, then %.1f" % (before, after))
    told(m, b"v", ZEROS)
    told(m, b"f", b"fill done")
    told(m, b"v", KEPT)
    t.point(True, what + ": it reads as zeros, and is of use again")


def in_all_ways(t, m, what, files=False):
    given_back(t, m, b"i", b"inflate done", what + "inflate", files)
    told(m, b"d", b"deflate done")
    given_back(t, m, b"r", b"report done", what + "report", files)
    m.patch("/balloon/hinting/start")
    given_back(t, m, b"h", b"hint done", what + "hint", files)


@test
def anonymous_memory(t):
    path = t.path("metrics")
    m = ballooned(t, args=["--metrics-path", path])
    in_all_ways(t, m, "")
    counts = metrics(m, path)
    t.point(counts["inflate_count"] >= 32 and counts["deflate_count"] >= 32 and
            counts["free_page_report_count"] == 16 and
            counts["free_page_report_freed"] == 32 * MIB and
            counts["free_page_hint_count"] == 16 and
            counts["free_page_hint_freed"] == 32 * MIB, "it is counted",
            str(counts))
    t.point(not any(value for name, value in counts.items()
                    if name.endswith("_fails")), "and nothing failed",
            str(counts))
    told(m, b"q", b"done")
    assert m.wait() == 0


@test
def shared_memory(t):
    in_all_ways(t, ballooned(t, args=["--memory-backing", "memfd"]), "", True)


@test
def transparent_huge_pages(t):
    in_all_ways(t, ballooned(t, huge_pages="Transparent"), "")


def saved(t, m, name="snap", **fields):
    pause(m)
    snapshot = Snapshot(t, name)
    snapshot.create(m, **fields)
    return snapshot


@test
def memory_of_a_snapshot(t):
    """The file's bytes do not come back, and the file stays as it is."""
    m = ballooned(t)
    told(m, b"f", b"fill done")
    snapshot = saved(t, m)
    m.close()
    before = pages(snapshot.memory)
    clone = snapshot.load(t)
    told(clone, b"v", KEPT)
    told(clone, b"i", b"inflate done")
    told(clone, b"v", ZEROS)
    in_all_ways(t, clone, "")
    clone.close()
    clone = snapshot.load(t, huge_pages="Transparent")
    in_all_ways(t, clone, "in huge pages: ")
    clone.close()
    t.point(pages(snapshot.memory) == before, "the file is as it was")


@test
def memory_of_a_fault_handler(t):
    m = ballooned(t)
    told(m, b"f", b"fill done")
    snapshot = saved(t, m)
    m.close()
    socket = t.path("fault.sock")
    handler = good_handler(socket, snapshot.memory)
    t.defer(handler.kill)
    clone = Monitor(test=t)
    clone.put("/snapshot/load", **{**snapshot.body(resume_vm=True),
                                   "mem_backend": {"backend_type": "Uffd",
                                                   "backend_path": socket}})
    told(clone, b"v", KEPT)
    told(clone, b"i", b"inflate done")
    told(clone, b"v", ZEROS)
    in_all_ways(t, clone, "")
    clone.close()
    handler.stdout.readline()
    last = handler.stdout.readline()
    t.point(b"removals" in last and b" 0 removals" not in last,
            "the handler was told", str(last))


@test
def fault_handler_that_died(t):
    """Memory is not given back, since nobody can be told; but the monitor goes
    on, and the guest too where it has its pages."""
    m = ballooned(t)
    told(m, b"f", b"fill done")
    snapshot = saved(t, m)
    m.close()
    handler = Handler(t, honest(snapshot))
    clone = Monitor(test=t)
    clone.put("/snapshot/load", **handler.body(snapshot, resume_vm=True))
    told(clone, b"v", KEPT)
    told(clone, b"e", b"evil done")  # and has all else that it needs
    handler.die()
    told(clone, b"r", b"report done")
    told(clone, b"v", KEPT)
    t.point(clone.get("/")["state"] == "Running", "the API is served")
    clone.wait_log("memory cannot be given back to the host")


def of_area(path):
    """The words at the start of the area's pages in a memory file, as a set of
    kinds."""
    with open(path, "rb") as file:
        file.seek(FIRST * PAGE)
        data = file.read(AREA_PAGES * PAGE)
    words = [int.from_bytes(data[i * PAGE:i * PAGE + 8], "little")
             for i in range(AREA_PAGES)]
    return {"zero" if not word else "own" if word == i + 1 else "other"
            for i, word in enumerate(words)}


@test
def snapshots_of_an_inflated_balloon(t):
    """Booted or loaded, Full or Diff, tracked or not: the pages are zeros in the
    file, and in who is loaded from it; and to save them does not bring them
    back."""
    for tracked in (False, True):
        m = ballooned(t, track_dirty_pages=tracked)
        told(m, b"f", b"fill done")
        for name in ("booted", "loaded"):
            what = "%s, %stracked: " % (name, "" if tracked else "not ")
            base = saved(t, m, "base" + name + str(tracked))
            assert of_area(base.memory) == {"own"}
            m.patch("/vm", state="Resumed")
            told(m, b"i", b"inflate done")
            before = resident_mib(m)
            diff = saved(t, m, "diff" + name + str(tracked),
                         snapshot_type="Diff")
            full = Snapshot(t, "full" + name + str(tracked))
            full.create(m)
            t.point(resident_mib(m) < before + 4, what + "nothing came back",
                    "%.1f MiB, then %.1f" % (before, resident_mib(m)))
            t.point(of_area(full.memory) == {"zero"}, what + "full",
                    str(of_area(full.memory)))
            merge(diff.memory, base.memory)
            t.point(of_area(base.memory) == {"zero"}, what + "diff",
                    str(of_area(base.memory)))
            m.close()
            m = full.load(t, track_dirty_pages=tracked)
            told(m, b"v", ZEROS)
            told(m, b"f", b"fill done")
        # In place, over the very file that is mapped.
        what = "in place, %stracked: " % ("" if tracked else "not ")
        told(m, b"i", b"inflate done")
        pause(m)
        full.create(m, snapshot_type="Diff")
        t.point(of_area(full.memory) == {"zero"}, what + "file",
                str(of_area(full.memory)))
        m.patch("/vm", state="Resumed")
        told(m, b"v", ZEROS)
        m.close()
        m = full.load(t)
        told(m, b"v", ZEROS)
        m.close()


@test
def target_is_told(t):
    m = ballooned(t, config={**FULL, "amount_mib": 7})
    told(m, b"c", b"target 1792 actual 0 cmd 0 changes 0 asked 0")
    m.patch("/balloon", amount_mib=AREA_MIB)
    told(m, b"c", b"target 8192 actual 0 cmd 0 changes 1 asked 0")
    told(m, b"a", b"actual done")
    told(m, b"c", b"target 8192 actual 8192 cmd 0 changes 1 asked 0")
    want = {**FULL, "amount_mib": AREA_MIB}
    t.point(m.get("/balloon") == want and m.get("/vm/config")["balloon"] ==
            want, "it is shown", str(m.get("/balloon")))
    snapshot = saved(t, m)
    m.close()
    m = snapshot.load(t)
    told(m, b"c", b"target 8192 actual 8192 cmd 0 changes 1 asked 0")
    t.point(m.get("/balloon") == want, "and is the clone's",
            str(m.get("/balloon")))
    m.patch("/balloon", amount_mib=1)
    told(m, b"c", b"target 256 actual 8192 cmd 0 changes 2 asked 0")


@test
def hinting(t):
    m = ballooned(t)
    status = "/balloon/hinting/status"
    t.point(m.get(status) == {"host_cmd": 0, "guest_cmd": None}, "at first",
            str(m.get(status)))
    told(m, b"f", b"fill done")
    told(m, b"h", b"hint done")
    told(m, b"v", KEPT)
    for body in (None, {}, {"acknowledge_on_stop": True},
                 {"acknowledge_on_stop": True, "unknown": 1}):
        code, _ = m.api("PATCH", "/balloon/hinting/start", body)
        assert code == 204, code
    told(m, b"g", b"hint done")
    told(m, b"v", KEPT)
    t.point(m.get(status) == {"host_cmd": 1, "guest_cmd": 0},
            "a run ends by itself", str(m.get(status)))
    m.patch("/balloon/hinting/start", acknowledge_on_stop=False)
    told(m, b"c", b"target 0 actual 0 cmd 6 changes 1 asked 0")
    told(m, b"h", b"hint done")
    told(m, b"v", ZEROS)
    t.point(m.get(status) == {"host_cmd": 6, "guest_cmd": 0},
            "or does not, if it shall not", str(m.get(status)))
    assert m.api("PATCH", "/balloon/hinting/stop")[0] == 204
    told(m, b"c", b"target 0 actual 0 cmd 1 changes 2 asked 0")
    assert m.api("PUT", "/balloon/hinting/start")[0] == 204
    assert m.get(status)["host_cmd"] == 7
    assert m.api("PUT", "/balloon/hinting/stop", {})[0] == 204
    assert m.get(status)["host_cmd"] == 1
    m.patch("/balloon/hinting/start")
    snapshot = saved(t, m)
    m.close()
    m = snapshot.load(t)
    t.point(m.get(status) == {"host_cmd": 0, "guest_cmd": None},
            "a clone has none", str(m.get(status)))
    told(m, b"c", b"target 0 actual 0 cmd 0 changes 3 asked 0")
    m.patch("/balloon/hinting/start")
    told(m, b"c", b"target 0 actual 0 cmd 9 changes 4 asked 0")


@test
def statistics(t):
    path = t.path("metrics")
    m = ballooned(t, args=["--metrics-path", path])
    sizes = {"target_pages": 0, "actual_pages": 0, "target_mib": 0,
             "actual_mib": 0}
    t.point(m.get("/balloon/statistics") == sizes, "none at first",
            str(m.get("/balloon/statistics")))

    def wait_for(turn, what):
        want = {**sizes, **{name: 1000 * (i + 1) + turn
                            for i, name in enumerate(STATS)}}
        deadline = time.monotonic() + TIMEOUT
        while m.get("/balloon/statistics") != want and (
                time.monotonic() < deadline):
            time.sleep(0.002)
        t.point(m.get("/balloon/statistics") == want, what,
                str(m.get("/balloon/statistics")))

    told(m, b"s", b"stats done")
    wait_for(1, "then all")
    told(m, b"s", b"stats are not asked for")
    m.patch("/balloon/statistics", stats_polling_interval_s=60)
    told(m, b"s", b"stats are not asked for")
    m.patch("/balloon/statistics", stats_polling_interval_s=59)
    told(m, b"s", b"stats done")
    wait_for(2, "another interval asks at once")
    m.patch("/balloon/statistics", stats_polling_interval_s=1)
    told(m, b"s", b"stats done")
    wait_for(3, "and again")
    time.sleep(1.5)
    told(m, b"s", b"stats done")
    wait_for(4, "then the clock does")
    assert metrics(m, path)["stats_updates_count"] >= 4
    snapshot = saved(t, m)
    assert m.get("/balloon/statistics")["swap_in"] == 1004
    m.close()
    m = snapshot.load(t)
    wait_for(4, "a clone knows them")
    m.patch("/balloon/statistics", stats_polling_interval_s=59)
    told(m, b"s", b"stats done")
    wait_for(5, "and can ask")


@test
def evil_driver(t):
    path = t.path("metrics")
    m = ballooned(t, args=["--metrics-path", path])
    told(m, b"f", b"fill done")
    m.patch("/balloon/hinting/start")
    told(m, b"e", b"evil done")
    told(m, b"v", KEPT)
    counts = metrics(m, path)
    t.point(counts["event_fails"] > 0 and counts["free_page_report_fails"] == 4
            and counts["free_page_hint_fails"] > 0, "it is counted",
            str(counts))
    told(m, b"i", b"inflate done")
    told(m, b"v", ZEROS)


@test
def driver_that_wants_little(t):
    """Queues are numbered as negotiated."""
    m = ballooned(t, boot_args="few")
    assert b"features 32\n" in m.console
    given_back(t, m, b"r", b"report done", "report")
    m = ballooned(t, config=PLAIN)
    assert b"features 0\n" in m.console
    given_back(t, m, b"i", b"inflate done", "inflate")


@test
def requests(t):
    m = ballooned(t)
    check(t, m, [
        ("PUT", "/balloon", FULL, "The requested operation is not supported "
         "after starting the microVM."),
        ("PATCH", "/balloon", {"amount_mib": 129}, UPDATE + "Balloon: "
         "Requested memory should be less than 128MiB"),
        ("PATCH", "/balloon", {"amount_mib": 128}, None),
        ("PATCH", "/balloon", {"amount_mib": 0}, None),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 0},
         UPDATE + "Balloon: Statistics cannot be enabled/disabled after "
         "activation."),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 60},
         None),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 65535},
         None),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 65536},
         DESERIALIZING),
        ("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": None},
         DESERIALIZING),
        ("PATCH", "/balloon/hinting/start", "[", DESERIALIZING),
        ("PATCH", "/balloon/hinting/stop", "anything", None),
    ])
    m = ballooned(t, config=PLAIN)
    disabled = UPDATE + "Balloon: Attempting to use hinting when not enabled"
    check(t, m, [
        ("GET", "/balloon/statistics", None, INTERNAL + "Balloon: Received "
         "stats query when stats are disabled."),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1},
         UPDATE + "Balloon: Statistics cannot be enabled/disabled after "
         "activation."),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 0}, None),
        ("PATCH", "/balloon/hinting/start", None, disabled),
        ("PATCH", "/balloon/hinting/stop", None, disabled),
        ("GET", "/balloon/hinting/status", None, disabled),
    ])


@test
def requests_without_a_driver(t):
    need_kvm()
    m = Monitor(test=t)
    m.put("/balloon", **FULL)
    m.start(guest("keyboard"))
    inactive = UPDATE + "Balloon: Device not activated yet."
    check(t, m, [
        ("PATCH", "/balloon", {"amount_mib": 1}, inactive),
        ("PATCH", "/balloon/hinting/start", None, inactive),
        ("PATCH", "/balloon/hinting/stop", {}, inactive),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 5},
         None),
    ])
    t.point(m.get("/balloon") == {**FULL, "stats_polling_interval_s": 5},
            "the interval is known")
    t.point(m.get("/balloon/statistics")["actual_pages"] == 0, "statistics")


@test
def requests_without_a_balloon(t):
    need_kvm()
    m = Monitor(test=t)
    m.start(guest("keyboard"))
    check(t, m, [
        ("GET", "/balloon", None, INTERNAL + NO_DEVICE),
        ("GET", "/balloon/statistics", None, INTERNAL + NO_DEVICE),
        ("PATCH", "/balloon", {"amount_mib": 1}, UPDATE + NO_DEVICE),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1},
         UPDATE + NO_DEVICE),
        ("PATCH", "/balloon/hinting/start", None, UPDATE + NO_DEVICE),
        ("PATCH", "/balloon/hinting/stop", None, UPDATE + NO_DEVICE),
        ("GET", "/balloon/hinting/status", None, UPDATE + NO_DEVICE),
    ])


@test
def from_a_configuration_file(t):
    """What GET /vm/config shows is one."""
    m = ballooned(t, config={**FULL, "amount_mib": 3})
    config = m.get("/vm/config")
    m.close()
    path = t.write("config", json.dumps(config).encode())
    m = Monitor(test=t, args=["--config-file", path])
    m.expect(b"ready\n")
    t.point(m.get("/vm/config") == config, "it is the same again",
            str(m.get("/vm/config")))
    told(m, b"c", b"target 768 actual 0 cmd 0 changes 0 asked 0")
    m.close()
    config["balloon"]["amount_mib"] = 129
    path = t.write("config2", json.dumps(config).encode())
    m = Monitor(test=t, args=["--config-file", path], wait=False)
    code = m.wait()
    t.point(code == 1 and "section `balloon`: Amount of pages requested is too "
            "large." in m.log, "too much is refused", m.log)


if __name__ == "__main__":
    main()
