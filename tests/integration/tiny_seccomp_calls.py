# SPDX-License-Identifier: Apache-2.0
"""Threads of each class of a running monitor are made to make calls that they
never meant to make. Each costs a monitor, hence a program of their own."""
import json
import os
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import TIMEOUT, Monitor, guest
from injection import (FILTERED, FORBIDDEN, FORMS, NOT_OF_OTHERS,
                       check_violation, inject, need_filters, need_ptrace,
                       seccomp_modes, threads, waiting_monitor)
from tap import main, test
from touch import READ, WAIT, TouchSnapshot

GETPID, GETTID = 39, 186


def recording_monitor(t, snapshot):
    """One with a thread of class memory."""
    injail.give_proc(t)
    m = Monitor(test=t, args=[
        "--restore", snapshot.state, "--mem", snapshot.memory,
        "--record-working-set", t.path("set"), "--record-until", "request"])
    deadline = time.monotonic() + TIMEOUT
    while "ember_recorder" not in threads(m.pid):
        assert time.monotonic() < deadline, threads(m.pid)
        time.sleep(0.005)
    check_filtered(m, "ember_recorder")
    return m


def check_filtered(m, thread):
    deadline = time.monotonic() + TIMEOUT
    while seccomp_modes(m.pid)[thread] != FILTERED:
        assert time.monotonic() < deadline, seccomp_modes(m.pid)
        time.sleep(0.005)


def check_all(t, thread, begin):
    """@begin makes a monitor with that thread, anew for each call."""
    need_ptrace()
    m = begin()
    pid, tid = m.pid, threads(m.pid)[thread]
    t.point(inject(m.pid, thread, GETPID) == ("returned", pid) and
            inject(m.pid, thread, GETTID) == ("returned", tid),
            thread + " goes on after what is allowed")
    m.close()
    for name, number in FORBIDDEN.items():
        check_violation(t, begin(), thread, name, number, ())
    others = () if thread == "ember" else NOT_OF_OTHERS
    for name, number, arguments in FORMS + others:
        check_violation(t, begin(), thread, name, number, arguments)
    m = begin()
    # Its own process, but not its own signals.
    check_violation(t, m, thread, "tgkill", 234, (m.pid, m.pid, 9))


@test
def the_loop_thread(t):
    need_filters()
    check_all(t, "ember", lambda: waiting_monitor(t))


@test
def the_api_thread(t):
    need_filters()
    check_all(t, "ember_api", lambda: waiting_monitor(t))


@test
def a_vcpu_thread(t):
    need_filters()
    check_all(t, "ember_vcpu 0", lambda: waiting_monitor(t))
    for name, number, arguments in (
            ("openat", 257, (0xffffff9c, 0, 0)), ("read", 0, ()),
            ("close", 3, ()), ("socket", 41, (1, 1, 0)), ("unlink", 87, ()),
            ("getdents", 78, ()), ("sendmsg", 46, ()),
            ("io_uring_enter", 426, (0, 1, 0, 0))):
        check_violation(t, waiting_monitor(t), "ember_vcpu 0", name, number,
                        arguments)


@test
def a_memory_thread(t):
    need_filters()
    m = Monitor(test=t)
    snapshot = TouchSnapshot(m, t.path("touch"))
    snapshot.set_steps((READ, 0, 10, 1), (WAIT, 0, 0, 0))
    m.close()
    check_all(t, "ember_recorder", lambda: recording_monitor(t, snapshot))


@test
def calls_of_another_kind(t):
    need_filters()
    need_ptrace()
    m = waiting_monitor(t)
    x32 = 0x40000000 | GETPID
    check_violation(t, m, "ember", "unknown", x32, ())


@test
def a_violation_counts_and_gives_the_terminal_back(t):
    need_filters()
    need_ptrace()
    master, slave = os.openpty()
    t.defer(os.close, master)
    t.defer(os.close, slave)
    before = termios.tcgetattr(slave)
    m = Monitor(test=t, args=["--metrics-path", t.write("metrics")],
                stdin=slave, start_new_session=True)
    m.start(guest("echo"))
    m.expect(b"ready")
    t.point(termios.tcgetattr(slave) != before, "the terminal is raw")
    inject(m.pid, "ember_vcpu 0", FORBIDDEN["execve"])
    assert m.wait() == 148
    t.point(termios.tcgetattr(slave) == before, "and then as it was")
    with open(t.path("metrics")) as file:
        last = json.loads(file.read().splitlines()[-1])
    t.point(last["seccomp"]["num_faults"] == 1, "it is counted",
            str(last["seccomp"]))


if __name__ == "__main__":
    main()
