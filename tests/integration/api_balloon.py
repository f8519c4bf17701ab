# SPDX-License-Identifier: Apache-2.0
"""The balloon's requests before a guest runs."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import NOT_BEFORE_START, Monitor
from rows import DESERIALIZING, check
from tap import main, test

CONFIG = "Balloon config error: "
NEEDED = {"amount_mib": 64, "deflate_on_oom": False}
DEFAULTS = {**NEEDED, "stats_polling_interval_s": 0,
            "free_page_hinting": False, "free_page_reporting": False}
TOO_LARGE = CONFIG + "Amount of pages requested is too large."


@test
def put(t):
    m = Monitor(test=t)
    check(t, m, [("GET", "/balloon", None,
                  CONFIG + "No balloon device found.")])
    assert m.get("/vm/config")["balloon"] is None
    m.put("/balloon", **NEEDED)
    t.point(m.get("/balloon") == DEFAULTS, "defaults", str(m.get("/balloon")))
    full = {"amount_mib": 128, "deflate_on_oom": True,
            "stats_polling_interval_s": 65535, "free_page_hinting": True,
            "free_page_reporting": True}
    m.put("/balloon", **full)
    t.point(m.get("/balloon") == full, "all of it", str(m.get("/balloon")))
    t.point(m.get("/vm/config")["balloon"] == full, "in the configuration")
    m.put("/balloon", **NEEDED)
    t.point(m.get("/balloon") == DEFAULTS, "a PUT replaces")
    check(t, m, [("PUT", "/balloon", {**NEEDED, "amount_mib": 129},
                  TOO_LARGE)])
    t.point(m.get("/balloon") == DEFAULTS, "one that is refused does not")


@test
def fields(t):
    def row(text, **changes):
        return "PUT", "/balloon", {**NEEDED, **changes}, text

    def missing(field):
        return ("PUT", "/balloon", {name: value for name, value
                                    in NEEDED.items() if name != field},
                DESERIALIZING + "missing field `%s`" % field)

    m = Monitor(test=t)
    numbers = ("amount_mib", "stats_polling_interval_s")
    flags = ("deflate_on_oom", "free_page_hinting", "free_page_reporting")
    check(t, m, [missing("amount_mib"), missing("deflate_on_oom"),
                 row(DESERIALIZING + "unknown field `x`", x=1),
                 row(None, amount_mib=0), row(None, amount_mib=128),
                 row(TOO_LARGE, amount_mib=2 ** 32 - 1),
                 row(DESERIALIZING, amount_mib=2 ** 32),
                 row(DESERIALIZING, stats_polling_interval_s=65536),
                 ("PUT", "/balloon", "[", DESERIALIZING),
                 ("PUT", "/balloon", "", "Empty PUT request."),
                 ("PUT", "/balloon", '{"amount_mib":1,"amount_mib":1,'
                  '"deflate_on_oom":true}', DESERIALIZING)] +
          [row(DESERIALIZING + "invalid type", **{name: value})
           for name in numbers for value in (-1, 1.5, "1", None, True)] +
          [row(DESERIALIZING + "invalid type", **{name: value})
           for name in flags for value in (0, "true", None)])


@test
def memory_below_the_balloon(t):
    m = Monitor(test=t)
    m.put("/balloon", **NEEDED)
    text = ("Machine config error: The memory size (MiB) is smaller than the "
            "previously set balloon device target size.")
    machine = {"vcpu_count": 1, "mem_size_mib": 63}
    check(t, m, [
        ("PUT", "/machine-config", machine, text),
        ("PATCH", "/machine-config", {"mem_size_mib": 63}, text),
        ("PATCH", "/machine-config", {"vcpu_count": 2}, None),
        ("PATCH", "/machine-config", {"mem_size_mib": 64}, None),
        ("PUT", "/balloon", {**NEEDED, "amount_mib": 65}, TOO_LARGE),
        ("PUT", "/balloon", {**NEEDED, "amount_mib": 63}, None),
        ("PATCH", "/machine-config", {"mem_size_mib": 63}, None),
    ])
    t.point(m.get("/machine-config")["vcpu_count"] == 2, "others are kept")


@test
def only_after_the_start(t):
    m = Monitor(test=t)
    m.put("/balloon", **NEEDED)
    check(t, m, [
        ("PATCH", "/balloon", {"amount_mib": 1}, NOT_BEFORE_START),
        ("GET", "/balloon/statistics", None, NOT_BEFORE_START),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1},
         NOT_BEFORE_START),
        ("PATCH", "/balloon/hinting/start", None, NOT_BEFORE_START),
        ("PATCH", "/balloon/hinting/start", {"acknowledge_on_stop": False},
         NOT_BEFORE_START),
        ("PATCH", "/balloon/hinting/stop", None, NOT_BEFORE_START),
        ("PUT", "/balloon/hinting/stop", None, NOT_BEFORE_START),
        ("GET", "/balloon/hinting/status", None, NOT_BEFORE_START),
    ])


@test
def bodies_and_paths(t):
    m = Monitor(test=t)
    m.put("/balloon", **NEEDED)
    text = "Unrecognized %s request path `%s`."
    method = "Invalid request method and/or path: %s balloon."
    check(t, m, [
        ("GET", "/balloon/x", None, text % ("GET", "x")),
        ("GET", "/balloon/hinting/x", None, text % ("GET", "/hinting/x")),
        ("GET", "/balloon/hinting/start", None,
         text % ("GET", "/hinting/start")),
        ("GET", "/balloon/hinting", None, text % ("GET", "/hinting/")),
        ("PATCH", "/balloon/x", {"amount_mib": 1}, text % ("PATCH", "x")),
        ("PATCH", "/balloon/hinting/x", None, text % ("PATCH", "/hinting/x")),
        ("PATCH", "/balloon/hinting/status", {},
         text % ("PATCH", "/hinting/status")),
        ("PUT", "/balloon/hinting/x", None, text % ("PUT", "/hinting/x")),
        ("PATCH", "/balloon", None, "Empty PATCH request."),
        ("PATCH", "/balloon/statistics", None, "Empty PATCH request."),
        ("PATCH", "/balloon", {}, DESERIALIZING + "missing field `amount_mib`"),
        ("PATCH", "/balloon", {"amount_mib": None}, DESERIALIZING),
        ("PATCH", "/balloon", {"amount_mib": 2 ** 32}, DESERIALIZING),
        ("PATCH", "/balloon", {"amount_mib": 1, "deflate_on_oom": True},
         DESERIALIZING + "unknown field `deflate_on_oom`"),
        ("PATCH", "/balloon/statistics", {},
         DESERIALIZING + "missing field `stats_polling_interval_s`"),
        ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 1.5},
         DESERIALIZING),
        ("GET", "/balloon", "{}", "GET request cannot have a body."),
        ("GET", "/balloon/statistics", "{}", "GET request cannot have a body."),
        ("DELETE", "/balloon", None, method % "DELETE"),
        ("DELETE", "/balloon/hinting/stop", None, method % "DELETE"),
    ])


if __name__ == "__main__":
    main()
