# SPDX-License-Identifier: Apache-2.0
"""What /entropy accepts and refuses."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, NOT_AFTER_START, guest, need_kvm
from rows import DESERIALIZING, check
from tap import main, test

BUCKET = {"size": 10, "refill_time": 100}


@test
def entropy(t):
    m = Monitor(test=t)
    text = "Invalid request method and/or path: %s entropy."
    rows = [(body, None) for body in (
        {}, {"rate_limiter": None}, {"rate_limiter": {}},
        {"rate_limiter": {"ops": BUCKET}},
        {"rate_limiter": {"bandwidth": {**BUCKET, "one_time_burst": 5},
                          "ops": None}},
        {"rate_limiter": {"ops": {**BUCKET, "what": 1}}})]
    rows += [(body, DESERIALIZING + more) for body, more in (
        ({"rate_limiter": 1}, ""), ({"rate_limiter": [1]}, ""),
        ({"rate_limiter": {"speed": 1}}, "unknown field `speed`"),
        ({"rate_limiter": {"ops": {"size": 1}}},
         "missing field `refill_time`"),
        ({"rate_limiter": {"ops": {**BUCKET, "size": -1}}}, "invalid "),
        ({"rate_limiter": {"ops": {**BUCKET, "size": "1"}}}, "invalid type"),
        ({"id": "rng"}, "unknown field `id`"),
        ("null", ""), ("1", ""), ("{", ""))]
    check(t, m, [("PUT", "/entropy", body, more) for body, more in rows])
    check(t, m, [
        ("PUT", "/entropy", None, "Empty PUT request."),
        ("GET", "/entropy", None, text % "GET"),
        ("PATCH", "/entropy", {}, text % "PATCH"),
        ("DELETE", "/entropy", None, text % "DELETE"),
    ])


@test
def put_replaces(t):
    m = Monitor(test=t)
    assert m.get("/vm/config")["entropy"] is None
    m.put("/entropy", rate_limiter={"ops": BUCKET})
    want = {"rate_limiter": {"bandwidth": None, "ops": {
        "size": 10, "one_time_burst": None, "refill_time": 100}}}
    assert m.get("/vm/config")["entropy"] == want
    m.fault("PUT", "/entropy", {"rate_limiter": 1})
    assert m.get("/vm/config")["entropy"] == want
    m.put("/entropy")
    assert m.get("/vm/config")["entropy"] == {"rate_limiter": None}


@test
def configured_entropy_is_something_to_boot(t):
    m = Monitor(test=t)
    m.put("/entropy")
    fault = m.fault("PUT", "/snapshot/load", {
        "snapshot_path": t.path("none"),
        "mem_backend": {"backend_type": "File",
                        "backend_path": t.path("none")}})
    assert "not allowed after configuring boot-specific" in fault, fault


@test
def not_after_the_start(t):
    need_kvm()
    m = Monitor(test=t)
    m.start(guest("counter"), boot_args="quiet")
    check(t, m, [("PUT", "/entropy", {}, NOT_AFTER_START)])


if __name__ == "__main__":
    main()
