#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the counted lab, where a nanosecond is an instruction: asks a monitor
that has no guest yet, and prints what an answer costs its threads. One line per
figure; names in _new have a connection for each request, the others share one.

    api_NAME_us <monitor's microseconds per request> whole <elapsed ones>

The elapsed ones have in them what this client takes.
"""
import sys

from counted_machine import call, connect, cost, request, show_cost, \
    start_monitor

SOCK = "/tmp/api"
REQUESTS = 200
CALLS = (
    ("get", "GET", "/", None),
    ("put", "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
    ("config", "GET", "/vm/config", None),
)


def measure(pid, name, ask):
    """The first requests pay for what is made once."""
    def work():
        for _ in range(REQUESTS):
            ask()

    work()
    show_cost("api_" + name, cost(pid, work), REQUESTS)


def main():
    process = start_monitor(sys.argv[1], SOCK)
    with connect(SOCK) as shared:
        for name, *what in CALLS:
            measure(process.pid, name, lambda: request(shared, *what))
    for name, *what in CALLS:
        measure(process.pid, name + "_new", lambda: call(SOCK, *what))
    process.kill()
    process.wait()


if __name__ == "__main__":
    main()
