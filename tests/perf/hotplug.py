#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What memory that comes and goes costs the monitor: a gigabyte plugged,
touched, and given back, by a tiny guest. One line per figure.

    tests/perf/hotplug.py [--rounds N]
"""
import argparse
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import tap  # noqa: E402
from hotplug import BLOCK, MIB, PLUG, UNPLUG, start  # noqa: E402

GIB_BLOCKS = 1024 * MIB // BLOCK


def took(g, metrics, kind, blocks, addr=0):
    """Microseconds that the device says it needed for one request."""
    key = {PLUG: "plug_agg", UNPLUG: "unplug_agg"}[kind]
    assert g.ask(kind, addr, blocks) == 0
    g.m.put("/actions", action_type="FlushMetrics")
    with open(metrics) as file:
        line = file.read().splitlines()[-1]
    return json.loads(line)["memory_hotplug"][key]["sum_us"]


def touch_all(pid):
    """In the guest's place, which may be interpreted and take minutes for it.
    The region was mapped last: it is the lower end of the largest mapping."""
    with open("/proc/%d/maps" % pid) as maps:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")]
                  for line in maps]
    start_at = max(ranges, key=lambda ends: ends[1] - ends[0])[0]
    with open("/proc/%d/mem" % pid, "r+b", buffering=0) as memory:
        for off in range(0, 1024 * MIB, MIB):
            memory.seek(start_at + off)
            memory.write(b"\1" * MIB)


def measure(t, rounds):
    metrics = t.path("metrics")
    g = start(t, total=1024, args=["--metrics-path", metrics],
              config={"slot_size_mib": 128})
    g.resize(1024)
    figures = {}

    def note(name, us):
        figures.setdefault(name, []).append(us)

    for _ in range(rounds):
        note("plug 1 GiB, 8 slots", took(g, metrics, PLUG, GIB_BLOCKS))
        note("unplug 1 GiB, untouched", took(g, metrics, UNPLUG, GIB_BLOCKS))
        note("plug a block, new slot", took(g, metrics, PLUG, 1))
        note("plug a block, slot is there",
             took(g, metrics, PLUG, 1, 2 * BLOCK))
        note("unplug a block, slot stays",
             took(g, metrics, UNPLUG, 1, 2 * BLOCK))
        note("unplug a block, slot goes", took(g, metrics, UNPLUG, 1))
        took(g, metrics, PLUG, GIB_BLOCKS)
        touch_all(g.m.pid)
        note("unplug 1 GiB, all of it in use",
             took(g, metrics, UNPLUG, GIB_BLOCKS))
    for name, values in figures.items():
        print("%-34s median %8.0f us  min %8.0f  max %8.0f" % (
            name, statistics.median(values), min(values), max(values)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    test = tap.Test("hotplug")
    try:
        measure(test, options.rounds)
    finally:
        test.finish()


if __name__ == "__main__":
    main()
