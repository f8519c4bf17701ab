#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a jailed monitor is handed: descriptors of the caller's (--keep-fd),
cgroups to join when its microVM is there (--late-cgroup)."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import ember
import jailcgroup
import jaillate
from ember import guest, need_kvm
from jail import GID, UID, Jail
from jailnet import JailedMonitor, place
from tap import main, test


def pipe(t):
    ends = os.pipe()
    for fd in ends:
        t.defer(close, fd)
    return ends


def close(fd):
    try:
        os.close(fd)
    except OSError:
        pass


def fds_of(report):
    return {int(line.split()[0]) for line in report.all("fd")} - {0, 1, 2}


# ------------------------------------------------------------ descriptors

@test
def only_what_is_named_stays_open(t):
    ends = [fd for _ in range(3) for fd in pipe(t)]
    high = os.dup2(ends[0], 900)
    t.defer(close, high)
    for keep in ([], [ends[0]], [ends[-1], ends[1]], [high, ends[2]]):
        for mode in ({}, {"new_pid_ns": True}, {"daemonize": True}):
            name = "vm-%d-%s" % (sum(keep), "".join(mode)[:3])
            jail = Jail(t, name)
            done = jail.run("--to", "/report", keep_fd=keep, **mode,
                            popen={"pass_fds": ends + [high]})
            t.point(done.code == 0 and fds_of(jail.report()) == set(keep),
                    "%s %s" % (keep, mode), str(done))


@test
def ready_line_arrives(t):
    need_kvm()
    read_end, write_end = pipe(t)
    jail = Jail(t, exec_file=ember.BINARY)
    kernel = place(jail, guest("hello"), "kernel", UID, GID)
    m = JailedMonitor(t, jail, "--ready-fd", str(write_end),
                      keep_fd=write_end, popen={"pass_fds": [write_end]})
    os.close(write_end)
    t.point(m.start(kernel)[0] == 204, "it starts", m.output())
    t.point(os.read(read_end, 100) == b"READY\n", "and says so")
    t.point(os.read(read_end, 100) == b"", "once")


@test
def descriptors_refused(t):
    here = "of argument 'keep-fd' is "
    fd = pipe(t)[0]
    for keep, sentence in (
            ("2", "'2' %sno descriptor from 3 on." % here),
            ("x", "'x' %sno descriptor from 3 on." % here),
            ("999", "Descriptor 999 %snot open." % here),
            ([fd, fd], "Descriptor %d was given to argument 'keep-fd' more "
             "than once." % fd)):
        jail = Jail(t)
        before = jail.listing()
        done = jail.run(keep_fd=keep, popen={"pass_fds": [fd]})
        t.point(done.code == 1 and done.err.startswith(sentence), sentence,
                str(done))
        t.point(jail.listing() == before, "nothing was made", str(done))


# ---------------------------------------------------------------- cgroups

VALUES = {"memory.limit_in_bytes": "268435456", "pids.max": "50"}


def host(t):
    return jailcgroup.Host(t, 1, VALUES)


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


@test
def failure_leaves_no_cgroups(t):
    """Nobody is in them yet."""
    on = host(t)
    for mode in ({}, {"new_pid_ns": True}):
        jail = on.jail(exec_file=t.write("text", "no program"),
                       late_cgroup=True, cgroup=on.arguments(), **mode)
        os.chmod(t.path("text"), 0o755)
        before = jail.listing()
        done = jail.run()
        t.point(done.code == 1 and "Failed to exec" in done.err,
                "no exec %s" % mode, str(done))
        t.point(on.cgroups.paths() == [], "no cgroups %s" % mode,
                str(on.cgroups.paths()))
        t.point(jail.listing() == before, "no files %s" % mode)


def cleaned_up(jail, on):
    """Soon: a cgroup may be busy for a moment after its last process."""
    deadline = time.monotonic() + 5
    while jail.run(cleanup=True, cgroup=on.arguments()).code:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@test
def numbers_of_the_host_s_processes_are_warned_of(t):
    """Its files could be given them."""
    on = host(t)
    for mode, warned in (({}, True), ({"new_pid_ns": True}, False)):
        jail = on.jail("vm-%d" % warned, late_cgroup=True,
                       cgroup=on.arguments(), **mode)
        done = jail.run("--to", "/report")
        t.point(done.code == 0 and done.err.startswith("Warning! Until its "
                "microVM is there, ") == warned, str(mode), str(done))
        assert cleaned_up(jail, on)


@test
def cgroup_files_refused(t):
    read_end, write_end = pipe(t)
    for value, sentence in (
            ("x", "'x' of argument 'cgroup-fd' is not a number."),
            ("1", "'1' of argument 'cgroup-fd' is no descriptor to write to, "
             "from 3 on, that was handed over."),
            (str(read_end), "'%d' of argument 'cgroup-fd' is no descriptor to "
             "write to" % read_end),
            (str(write_end), "'%d' of argument 'cgroup-fd' is no file of a "
             "cgroup." % write_end)):
        done = subprocess.run([ember.BINARY, "--cgroup-fd", value],
                              pass_fds=[read_end, write_end], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        t.point(done.returncode == 153 and sentence in done.stderr, sentence,
                done.stderr)


@test
def late_without_a_cgroup_is_refused(t):
    for arguments in ({}, {"parent_cgroup": "x"}, {"cgroup_version": 2}):
        done = Jail(t, late_cgroup=True, **arguments).run()
        t.point(done.code == 1 and done.err.startswith(
            "Argument 'cgroup' required, but not found.\n"), str(arguments),
            str(done))


if __name__ == "__main__":
    main()
