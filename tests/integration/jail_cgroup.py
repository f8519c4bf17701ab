# SPDX-License-Identifier: Apache-2.0
"""Cgroups of version 1 as this host has them, and what its version 2 can."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
import jailcgroup
from jail import Cgroups, Jail, cgroup_of, need_root
from tap import main, skip_unless, test

VALUES = {"cpu.shares": "123", "pids.max": "40",
          "memory.limit_in_bytes": str(64 << 20)}


def host(t, values=None):
    return jailcgroup.Host(t, 1, values or VALUES)


@test
def values_are_written_and_the_process_is_there(t):
    jailcgroup.check_values_and_process(host(t))


@test
def nested_parents_are_made(t):
    jailcgroup.check_nested_parent(host(t))


@test
def the_default_parent_is_the_binary_s_name(t):
    jailcgroup.check_default_parent(host(t))


@test
def refused_values_are_undone(t):
    jailcgroup.check_refusals(host(t), (
        ("cpu.shares=many", "cpu.shares: Invalid argument (os error 22)"),
        ("cpu.nonesuch=1", "cpu.nonesuch: "),
        ("nonesuch.x=1", "Controller nonesuch is unavailable"),
        ("pids.max=-5", "Failed to write '-5' to /sys/fs/cgroup/pids/"),
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
def an_empty_cpuset_inherits(t):
    """Both files, at each level: without memory nodes no process fits in."""
    on = host(t, {"cpuset.cpus": "0"})
    root = on.root("cpuset.cpus")
    on.parent += "/x/y"
    jailcgroup.check_values_and_process(on)
    with open(root + "/cpuset.mems") as file:
        mems = file.read()
    with open(root + "/cpuset.cpus") as file:
        cpus = file.read()
    for path in on.cgroups.paths():
        with open(path + "/cpuset.mems") as file:
            t.point(file.read() == mems, path + ": memory nodes")
        with open(path + "/cpuset.cpus") as file:
            want = cpus if "vm-" not in path else "0\n"
            t.point(file.read() == want, path + ": processors")


@test
def an_existing_cpuset_keeps_what_it_has(t):
    on = host(t, {"cpuset.mems": "0"})
    parent = os.path.join(on.root("cpuset.cpus"), on.parent)
    os.mkdir(parent)
    for name, value in (("cpuset.cpus", "0"), ("cpuset.mems", "0")):
        with open(os.path.join(parent, name), "w") as file:
            file.write(value)
    jail = on.jail(cgroup=on.arguments())
    assert jail.run().code == 0
    assert on.read("cpuset.cpus", jail) == "0"
    with open(parent + "/cpuset.cpus") as file:
        assert file.read() == "0\n"


@test
def several_values_of_a_controller_have_one_cgroup(t):
    on = host(t, {"cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "25000",
                  "cpu.shares": "77"})
    jailcgroup.check_values_and_process(on)


@test
def limits_are_not_the_jailer_s(t):
    """It makes two more processes before it joins."""
    on = host(t, {"pids.max": "1"})
    jailcgroup.check_values_and_process(on)


@test
def without_values_nothing_is_made(t):
    on = host(t)
    for version in (1, 2):
        jail = on.jail("vm-%d" % version, cgroup_version=version)
        before = cgroup_of("self")
        process = jail.start("--wait")
        assert process.stdout.readline()
        inside = cgroup_of(process.pid)
        process.stdin.close()
        process.wait(jails.TIMEOUT)
        t.point(inside == before, "v%d: the process stays" % version,
                str(inside))
    t.point(on.cgroups.paths() == [], "no cgroup", str(on.cgroups.paths()))


@test
def the_first_fork_may_be_refused(t):
    """By a cgroup that the caller is in already."""
    on = host(t, {"pids.max": "1"})
    where = os.path.join(on.root("pids.max"), on.parent)
    os.mkdir(where)
    with open(where + "/pids.max", "w") as file:
        file.write("1")
    for mode in jails.MODES:
        jail = Jail(t)
        before = jail.listing()
        done = jail.run(prefix=(
            "sh", "-c", 'echo $$ >%s/cgroup.procs; exec "$@"' % where, "sh"),
            **mode)
        t.point(done.code == 1 and "Resource temporarily unavailable" in
                done.err, jails.mode_name(mode), str(done))
        t.point(jail.listing() == before,
                jails.mode_name(mode) + ": nothing is left")


def unified(t):
    need_root()
    where = jailcgroup.mounts(2).get(None)
    skip_unless(where, "this host has no cgroup v2")
    return where, Cgroups(t, [where])


@test
def v2_needs_the_controller(t):
    where, cgroups = unified(t)
    with open(where + "/cgroup.controllers") as file:
        skip_unless("cpu" not in file.read().split(), "v2 has cpu here")
    jail = Jail(t, cgroup_version=2, parent_cgroup=cgroups.name,
                cgroup="cpu.weight=100")
    before = jail.listing()
    done = jail.run()
    assert done.code == 1, done
    assert done.err.startswith("Controller cpu is unavailable\n"), done
    assert cgroups.paths() == [] and jail.listing() == before


@test
def v2_parent_without_values_is_joined(t):
    where, cgroups = unified(t)
    os.mkdir(os.path.join(where, cgroups.name))
    for mode in jails.MODES:
        jail = Jail(t, "vm-" + str(len(mode)) + "x" * ("daemonize" in mode),
                    cgroup_version=2, parent_cgroup=cgroups.name, **mode)
        done = jail.run("--to", "/report")
        assert done.code == 0, done
        jail.report()
    assert len(cgroups.paths()) == 1, cgroups.paths()
    jail = Jail(t, "vm-9", cgroup_version=2, parent_cgroup=cgroups.name)
    process = jail.start("--wait")
    assert process.stdout.readline()
    inside = cgroup_of(process.pid)[""]
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    assert inside == "/" + cgroups.name, inside


@test
def v2_busy_parent_is_refused_with_a_hint(t):
    where, cgroups = unified(t)
    parent = os.path.join(where, cgroups.name)
    with open(where + "/cgroup.controllers") as file:
        controllers = file.read().split()
    skip_unless(controllers, "v2 has no controllers here")
    with open(where + "/cgroup.subtree_control") as file:
        enabled = file.read().split()
    name = controllers[0]
    if name not in enabled:
        with open(where + "/cgroup.subtree_control", "w") as file:
            file.write("+" + name)
        t.defer(write, where + "/cgroup.subtree_control", "-" + name)
    os.mkdir(parent)
    write(parent + "/cgroup.subtree_control", "+" + name)
    for mode in jails.MODES:
        jail = Jail(t, cgroup_version=2, parent_cgroup=cgroups.name, **mode)
        before = jail.listing()
        done = jail.run()
        t.point(done.code == 1 and done.err.startswith(
            "Failed to move process to cgroup (%s): Resource busy (os error "
            "16).\nHint: " % parent), jails.mode_name(mode), str(done))
        t.point(jail.listing() == before,
                jails.mode_name(mode) + ": nothing is left")
    cgroups.remove()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
