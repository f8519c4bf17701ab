# SPDX-License-Identifier: Apache-2.0
"""Cgroups of version 2 that the monitor joins itself, on a host that has
nothing else."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jailcgroup
import jaillate
from tap import main, test

VALUES = {"cpu.weight": "50", "memory.max": str(256 << 20), "pids.max": "50"}


def host(t):
    return jailcgroup.Host(t, 2, VALUES)


@test
def it_joins_when_the_microvm_starts(t):
    jaillate.check_start(host(t))


@test
def it_joins_from_a_pid_namespace(t):
    jaillate.check_pid_ns(host(t))


@test
def it_joins_when_a_snapshot_is_loaded(t):
    jaillate.check_load(host(t))


@test
def guest_never_runs_outside(t):
    jaillate.check_refused(host(t))


@test
def alone_the_monitor_can_do_it_too(t):
    jaillate.check_alone(host(t))


if __name__ == "__main__":
    main()
