#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The comparison with other monitors, on this one alone: every stage works."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "perf"))

import peers  # noqa: E402
from ember import BINARY, guest, need_kvm  # noqa: E402
from injail import JAILER  # noqa: E402
from monitors import Ember, Guest, Monitor  # noqa: E402
from tap import Skip, main, test  # noqa: E402


def peer(t, driver=Ember):
    need_kvm()
    if JAILER:
        raise Skip("monitors are measured outside of jails")
    return peers.Peer(driver, BINARY, guest, t.dir)


@test
def every_stage_has_its_figures(t):
    one = peer(t)
    one.prepare()
    peers.one_run(peers.WARM_UPS, [one])
    for count in peers.MANY:
        one.many(count)
    found = one.result()
    assert not found["why"], found["why"]
    for pair in peers.PEER_FIGURES:
        t.point(found.get(pair.name, 0) > 0, pair.name, str(found))


@test
def only_a_copy_that_may_go_does(t):
    one = peer(t)
    monitor = one.driver(BINARY, t.dir, Guest(guest("copy")))
    t.defer(monitor.kill)
    monitor.launch()
    monitor.configure()
    monitor.boot()
    monitor.console.wait_for(b"ready\n")
    _, files = monitor.save()
    monitor.resume()
    monitor.ask()
    assert not monitor.console.text, monitor.console.text
    monitor.kill()
    peers.let_copies_go(t.dir, files)
    monitor.restore()
    monitor.console.wait_for(b"copy\n")


@test
def a_monitor_that_ends_leaves_its_words(t):
    class Deaf(Monitor):
        def run(self):
            self.spawn(["/bin/sh", "-c", "echo '  no such thing' >&2"])

    one = peer(t, Deaf)
    one.ran()
    assert one.result()["why"] == {"run_us": "no such thing",
                                   "teardown_us": "no such thing"}, one.why


if __name__ == "__main__":
    main()
