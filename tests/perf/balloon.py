# SPDX-License-Identifier: Apache-2.0
"""balloon.py EMBER BUILD: what it costs to give 1 GiB of memory back to the host: by a balloon that is
inflated with one list of 262,144 page numbers, and by reports of 2 MiB, 16 a
request. Memory is anonymous, or a snapshot's file with the guest's own copies.

  balloon_inflate_ms, balloon_report_ms            CPU time of the loop
  balloon_inflate_wall_ms, balloon_report_wall_ms  until the guest has its answer
  balloon_inflate_mib, balloon_report_mib          fewer resident than before

and the same of a memory file's pages:

  balloon_inflate_file_ms, balloon_inflate_file_wall_ms, balloon_inflate_file_mib
  balloon_report_file_ms, balloon_report_file_wall_ms, balloon_report_file_mib
"""
import os
import shutil
import sys
import tempfile
import time

EMBER, BUILD = sys.argv[1], sys.argv[2]
os.environ["EMBER"] = EMBER
os.environ["EMBER_GUESTS"] = os.path.join(BUILD, "tests", "guests")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, guest  # noqa: E402

MIB = 1 << 20
FIRST_MIB, MUCH_MIB = 17, 1024
MACHINE = {"mem_size_mib": 1280}
BALLOON = {"amount_mib": 0, "deflate_on_oom": False,
           "free_page_reporting": True}


def loop_cpu_ms(m):
    with open("/proc/%d/task/%d/schedstat" % (m.pid, m.pid)) as file:
        return int(file.read().split()[0]) / 1e6


def resident_mib(m):
    with open("/proc/%d/statm" % m.pid) as file:
        return int(file.read().split()[1]) * 4096 // MIB


def measure(m, order, name):
    """All of it is there before, and the guest has written it."""
    status, _ = m.api("PUT", "/vm/pre-fault-memory", {
        "write": True, "ranges": [{"gpa": FIRST_MIB * MIB,
                                   "size": MUCH_MIB * MIB}]})
    assert status == 200
    m.send(order)
    m.expect(b"listed\n", 60)
    before = resident_mib(m)
    cpu, wall = loop_cpu_ms(m), time.monotonic()
    m.send(b"\n")
    m.expect(b"much done\n", 60)
    wall = (time.monotonic() - wall) * 1000
    print("%s_ms %.1f" % (name, loop_cpu_ms(m) - cpu))
    print("%s_wall_ms %.1f" % (name, wall))
    print("%s_mib %d" % (name, before - resident_mib(m)), flush=True)


def booted():
    m = Monitor()
    m.put("/balloon", **BALLOON)
    m.start(guest("balloon"), **MACHINE)
    m.expect(b"ready\n")
    return m


def snapshot_of_guest(directory):
    """The body of a request to load it."""
    state, memory = (os.path.join(directory, name) for name in ("s", "m"))
    m = booted()
    m.patch("/vm", state="Paused")
    m.put("/snapshot/create", snapshot_path=state, mem_file_path=memory)
    m.close()
    return {"snapshot_path": state, "resume_vm": True, "mem_backend": {
        "backend_type": "File", "backend_path": memory}}


def loaded(body):
    m = Monitor()
    m.put("/snapshot/load", **body)
    return m


def main():
    directory = tempfile.mkdtemp(prefix="ember-perf-")
    body = snapshot_of_guest(directory)
    try:
        for order, name in (b"l", "inflate"), (b"m", "report"):
            for make, suffix in (booted, ""), (lambda: loaded(body), "_file"):
                m = make()
                measure(m, order, "balloon_" + name + suffix)
                m.close()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
