# SPDX-License-Identifier: Apache-2.0
"""Page-fault handlers that do not do what they should."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor
from faults import PAGE, Handler, honest
from snapshots import (MIB, RESTORE, Snapshot, disk_user, pause, refused_load,
                       taken, turning, uses_disk, whole)
from tap import SLOW, main, test

UFFD = RESTORE + ("Failed to load guest memory: Error creating guest memory "
                  "from uffd: ")


def served(t, snapshot, handler, **fields):
    clone = Monitor(test=t)
    clone.put("/snapshot/load", **handler.body(snapshot, resume_vm=True,
                                               **fields))
    return clone


@test
def one_that_is_honest(t):
    snapshot = taken(t, turning(t))
    handler = Handler(t, honest(snapshot))
    clone = served(t, snapshot, handler)
    t.point(whole(clone), "the guest goes on", str(clone.console))
    regions = handler.message
    t.point(len(regions) == 1 and regions[0]["size"] == 128 * MIB and
            regions[0]["offset"] == 0 and
            regions[0]["page_size"] == regions[0]["page_size_kib"] == PAGE,
            "it is told where memory is", str(regions))
    t.point(64 <= handler.faults < 200, "and asked for what is used",
            str(handler.faults))
    pause(clone)
    again = Snapshot(t, "again")
    again.create(clone)
    clone.close()
    clone = again.load(t)
    t.point(whole(clone), "a full snapshot has what was not asked for yet",
            str(clone.console))


@test
def one_that_dies(t):
    """The guest stands still, and nothing else does."""
    snapshot = taken(t, turning(t))
    honestly = honest(snapshot)
    handler = Handler(t, lambda offset, number: honestly(offset, number)
                      if number < 40 else None)
    clone = served(t, snapshot, handler)
    deadline = time.monotonic() + 10 * SLOW
    while handler.faults < 40:
        assert time.monotonic() < deadline, "%d faults" % handler.faults
        time.sleep(0.01)
    handler.die()
    console = clone.console
    time.sleep(0.2)
    t.point(clone.console == console and clone.alive(),
            "the guest stands still")
    t.point(clone.get("/")["state"] == "Running" and
            clone.get("/vm/config")["machine-config"]["vcpu_count"] == 1,
            "the API is served")
    clone.signal(15)
    t.point(clone.wait() == -15, "the monitor ends when it is told")


@test
def one_that_lies(t):
    """What becomes of the guest is nobody's business, but the monitor ends
    properly or goes on."""
    snapshot = taken(t, turning(t))
    honestly = honest(snapshot)
    for name, page_of in (
            ("zeros", lambda offset, number: bytes(PAGE)),
            ("noise", lambda offset, number: os.urandom(PAGE)),
            ("ones", lambda offset, number: b"\xff" * PAGE),
            ("zeros for the half of it", lambda offset, number: bytes(PAGE)
             if number % 2 else honestly(offset, number))):
        handler = Handler(t, page_of)
        clone = Monitor(test=t)
        status, body = clone.api("PUT", "/snapshot/load", handler.body(
            snapshot, resume_vm=True))
        if status == 204:
            time.sleep(0.1)
            clone.signal(15)
        else:
            assert status == 400 and body["fault_message"].startswith(RESTORE)
        code = clone.wait()
        t.point(code in (-15, 0, 1), name, "exit code %s" % code)
        handler.die()
        os.unlink(handler.path)


@test
def one_that_lies_about_rings(t):
    """They are looked at while the snapshot is loaded."""
    snapshot = taken(t, disk_user(t))
    os.unlink(t.path("vsock"))
    handler = Handler(t, lambda offset, number: b"\xa5" * PAGE)
    refused_load(t, handler.body(snapshot), "which its ring of size",
                 "a position that cannot be")
    handler.die()
    os.unlink(handler.path)
    handler = Handler(t, honest(snapshot))
    clone = served(t, snapshot, handler)
    uses_disk(clone)
    t.point(True, "the truth will do")


@test
def one_that_stalls(t):
    """A load waits for the pages that it needs itself, but not for ever."""
    snapshot = taken(t, turning(t))
    handler = Handler(t, lambda offset, number: None)
    clone = Monitor(test=t)
    start = time.monotonic()
    connection = clone.connect(timeout=30 * SLOW)
    answer = connection.request("PUT", "/snapshot/load", handler.body(
        snapshot, resume_vm=True))
    took = time.monotonic() - start
    fault = answer.json["fault_message"]
    t.point(answer.status == 400 and fault.startswith(RESTORE) and
            "The page-fault handler did not serve what a load needs within 10 "
            "seconds" in fault, "it is refused", fault)
    t.point(9 < took < 20 * SLOW, "after ten seconds", "%.1f s" % took)
    t.point(clone.wait() == 1, "and that is the end")


@test
def one_that_is_not_there(t):
    snapshot = taken(t, turning(t))
    backend = {"backend_type": "Uffd", "backend_path": "/nowhere"}
    refused_load(t, {**snapshot.body(), "mem_backend": backend},
                 "Failed to connect to UDS Unix stream: No such file or "
                 "directory (os error 2)", "no socket", UFFD)
    handler = Handler(t, lambda offset, number: None)
    handler.die()
    refused_load(t, handler.body(snapshot), "Failed to connect to UDS Unix "
                 "stream: Connection refused (os error 111)",
                 "nobody listens", UFFD)
    backend["backend_path"] = "/" + "x" * 200
    refused_load(t, {**snapshot.body(), "mem_backend": backend},
                 "path must be shorter than SUN_LEN", "a name too long", UFFD)


if __name__ == "__main__":
    main()
