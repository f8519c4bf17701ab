# SPDX-License-Identifier: Apache-2.0
"""Cgroups of version 2, on a host that has nothing else, as root. No guest."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
import jailcgroup
from tap import main, test

VALUES = {"cpu.weight": "50", "memory.max": str(64 << 20), "pids.max": "40"}


def host(t, values=None):
    return jailcgroup.Host(t, 2, values or VALUES)


@test
def values_are_written_and_the_process_is_there(t):
    jailcgroup.check_values_and_process(host(t))


@test
def nested_parents_are_made_and_give_controllers(t):
    on = host(t)
    jailcgroup.check_nested_parent(on)
    for path in on.cgroups.paths():
        with open(path + "/cgroup.subtree_control") as file:
            have = set(file.read().split())
        want = set() if path.endswith("vm-1") else {"cpu", "memory", "pids"}
        t.point(want == have, path, str(have))


@test
def the_default_parent_is_the_binary_s_name(t):
    jailcgroup.check_default_parent(host(t))


@test
def refused_values_are_undone(t):
    jailcgroup.check_refusals(host(t), (
        ("cpu.weight=many", "cpu.weight: Invalid argument (os error 22)"),
        ("cpu.nonesuch=1", "cpu.nonesuch: "),
        ("nonesuch.x=1", "Controller nonesuch is unavailable"),
        ("cgroup.freeze=1", "Controller cgroup is unavailable"),
        ("pids.max=-5", "Failed to write '-5' to "),
    ))


@test
def failures_after_joining_are_undone(t):
    jailcgroup.check_late_failure(host(t))


@test
def existing_cgroups_stay(t):
    jailcgroup.check_existing_stays(host(t))


@test
def cleanup_removes_them(t):
    jailcgroup.check_cleanup(host(t))


@test
def cleanup_refuses_while_they_are_busy(t):
    jailcgroup.check_cleanup_of_a_busy_cgroup(host(t))


@test
def limits_are_not_the_jailer_s(t):
    """It makes two more processes before it joins."""
    jailcgroup.check_values_and_process(host(t, {"pids.max": "1"}))


@test
def many_values_take_one_directory_and_one_move(t):
    """What the first jail of a parent did not have to do already."""
    on = host(t, dict(VALUES, **{"memory.high": str(32 << 20),
                                 "cpu.max": "50000 100000"}))
    assert on.jail("first", cgroup=on.arguments()).run().code == 0
    jail = on.jail("second", cgroup=on.arguments())
    done = jail.run(prefix=("strace", "-f", "-qq", "-y", "-o",
                            t.path("trace"), "-e", "trace=mkdirat,write"))
    assert done.code == 0, done
    with open(t.path("trace")) as file:
        rows = [line for line in file if on.root("cpu.max") in line]
    made = [row for row in rows if "mkdirat(" in row]
    moved = [row for row in rows if "/cgroup.procs>" in row]
    enabled = [row for row in rows if "subtree_control>" in row]
    t.point(len(made) == 1, "one directory", "".join(rows))
    t.point(len(moved) == 1, "one move", "".join(rows))
    t.point(enabled == [], "controllers are enabled once", "".join(rows))


@test
def a_parent_with_processes_gives_no_controllers(t):
    on = host(t)
    parent = os.path.join(on.root("cpu.weight"), on.parent)
    os.mkdir(parent)
    stranger = jails.subprocess.Popen(["sleep", "1000"])
    t.defer(stranger.wait)
    t.defer(stranger.kill)
    with open(parent + "/cgroup.procs", "w") as file:
        file.write(str(stranger.pid))
    jail = on.jail(cgroup=on.arguments())
    before = jail.listing()
    done = jail.run()
    t.point(done.code == 1 and done.err.startswith(
        "Failed to write '+cpu +memory +pids' to %s/cgroup.subtree_control: "
        "Resource busy (os error 16)\n" % parent), "refused", str(done))
    t.point(jail.listing() == before and on.cgroups.paths() == [parent],
            "nothing is left", str(on.cgroups.paths()))


@test
def a_parent_without_values_is_joined_if_it_is_there(t):
    on = host(t)
    parent = os.path.join(on.root("cpu.weight"), on.parent)
    jail = on.jail("absent")
    assert jail.run().code == 0
    t.point(on.cgroups.paths() == [], "not made", str(on.cgroups.paths()))
    os.mkdir(parent)
    jail = on.jail("present")
    process = jail.start("--wait")
    assert process.stdout.readline()
    inside = on.of(process.pid)
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    t.point(inside == {"/" + on.parent}, "joined", str(inside))
    t.point(on.cgroups.paths() == [parent], "without a child")


@test
def a_parent_that_gives_controllers_is_refused_with_a_hint(t):
    on = host(t)
    parent = os.path.join(on.root("cpu.weight"), on.parent)
    assert on.jail("first", cgroup=on.arguments()).run().code == 0
    for mode in jails.MODES:
        jail = on.jail("second", **mode)
        before = jail.listing()
        done = jail.run()
        t.point(done.code == 1 and done.err.startswith(
            "Failed to move process to cgroup (%s): Resource busy (os error "
            "16).\nHint: " % parent), jails.mode_name(mode), str(done))
        t.point(jail.listing() == before,
                jails.mode_name(mode) + ": nothing is left")


if __name__ == "__main__":
    main()
