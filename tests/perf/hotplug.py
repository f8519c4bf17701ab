#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hotplug.py EMBER BUILD: what memory that comes and goes costs the monitor: a
gigabyte plugged, touched, and given back, by a tiny guest. One line per figure,
the median of what the device needed for a request:

  hotplug_plug_gib_us          8 slots
  hotplug_unplug_gib_us        nobody had used it
  hotplug_unplug_used_gib_us   all of it was in use
  hotplug_plug_slot_us, hotplug_plug_block_us      a block, with and without a
  hotplug_unplug_slot_us, hotplug_unplug_block_us  slot that comes or goes
"""
import json
import os
import statistics
import sys

os.environ["EMBER"] = sys.argv[1]
os.environ["EMBER_GUESTS"] = os.path.join(sys.argv[2], "tests", "guests")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import tap  # noqa: E402
from hotplug import BLOCK, MIB, PLUG, UNPLUG, start  # noqa: E402

ROUNDS = 5
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
        note("plug_gib", took(g, metrics, PLUG, GIB_BLOCKS))
        note("unplug_gib", took(g, metrics, UNPLUG, GIB_BLOCKS))
        note("plug_slot", took(g, metrics, PLUG, 1))
        note("plug_block",
             took(g, metrics, PLUG, 1, 2 * BLOCK))
        note("unplug_block",
             took(g, metrics, UNPLUG, 1, 2 * BLOCK))
        note("unplug_slot", took(g, metrics, UNPLUG, 1))
        took(g, metrics, PLUG, GIB_BLOCKS)
        touch_all(g.m.pid)
        note("unplug_used_gib",
             took(g, metrics, UNPLUG, GIB_BLOCKS))
    for name, values in figures.items():
        print("hotplug_%s_us %.0f min %.0f max %.0f" % (
            name, statistics.median(values), min(values), max(values)))


def main():
    test = tap.Test("hotplug")
    try:
        measure(test, ROUNDS)
    finally:
        test.finish()


if __name__ == "__main__":
    main()
