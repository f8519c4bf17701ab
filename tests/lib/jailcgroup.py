# SPDX-License-Identifier: Apache-2.0
"""What holds for the cgroups of a jail, whichever version they are of."""
import os

import jail as jails
from jail import (MODES, Cgroups, Jail, cgroup_of, difference, mode_name,
                  need_root)
from tap import skip_unless


def mounts(version):
    """{controller (None with v2): where it is mounted}"""
    found = {}
    with open("/proc/self/mounts") as file:
        for line in file:
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup2" and version == 2:
                found.setdefault(None, where)
            elif kind == "cgroup" and version == 1:
                for word in options.split(","):
                    found.setdefault(word, where)
    return found


def controllers(version):
    """Those that this host has with one version of cgroups."""
    found = mounts(version)
    if version == 1 or not found:
        return set(found)
    with open(found[None] + "/cgroup.controllers") as file:
        return set(file.read().split())


class Host:
    """One version of cgroups, with some files that take a value. Skips the
    test where this host lacks what these are of."""

    def __init__(self, t, version, values):
        need_root()
        missing = {file.partition(".")[0] for file in values} - controllers(
            version)
        skip_unless(not missing, "this host has no cgroup v%d for: %s" % (
            version, ", ".join(sorted(missing))))
        self.t, self.version, self.values = t, version, values
        found = mounts(version)
        self.roots = {None: found.get(None)} if version == 2 else {
            file.partition(".")[0]: found[file.partition(".")[0]]
            for file in values}
        self.cgroups = Cgroups(t, sorted(set(self.roots.values())))
        self.parent = self.cgroups.name

    def root(self, file):
        return self.roots[None if self.version == 2
                          else file.partition(".")[0]]

    def jail(self, name="vm-1", **arguments):
        return Jail(self.t, name, **dict(
            {"cgroup_version": self.version, "parent_cgroup": self.parent},
            **arguments))

    def path(self, file, jail, parent=None):
        return os.path.join(self.root(file), parent or self.parent,
                            jail.arguments["id"], file)

    def read(self, file, jail, parent=None):
        with open(self.path(file, jail, parent)) as out:
            return out.read().strip()

    def arguments(self):
        return ["%s=%s" % row for row in self.values.items()]

    def of(self, pid):
        """The paths of a process in these hierarchies."""
        rows = cgroup_of(pid)
        if self.version == 2:
            return {rows[""]}
        return {path for names, path in rows.items()
                if set(names.split(",")) & set(self.roots)}


def check_values_and_process(host):
    """Values are written, and the process is there, in every mode."""
    t = host.t
    for number, mode in enumerate(MODES):
        jail = host.jail("vm-%d" % number, cgroup=host.arguments(), **mode)
        process = None
        if mode:
            done = jail.run("--to", "/report", "--pause")
            assert done.code == 0, done
            jail.report()
            pid = jail.pid
        else:
            process = jail.start("--wait")
            assert process.stdout.readline()
            pid = process.pid
        for file, value in host.values.items():
            t.point(host.read(file, jail) == value, "%s: %s" % (
                mode_name(mode), file), host.read(file, jail))
        want = {"/%s/vm-%d" % (host.parent, number)}
        t.point(host.of(pid) == want, mode_name(mode) + ": the process",
                str(host.of(pid)))
        if process:
            process.stdin.close()
            process.wait(jails.TIMEOUT)
        jails.end(pid)


def check_nested_parent(host):
    """Each component is made, and the jail's own one below."""
    parent = host.parent + "/a//b/"
    jail = host.jail(cgroup=host.arguments(), parent_cgroup=parent)
    assert jail.run().code == 0
    for file, value in host.values.items():
        host.t.point(host.read(file, jail, parent) == value, file)


def check_default_parent(host):
    """The binary's name."""
    binary = jails.loop_copy(os.path.join(jails.ember.GUESTS, "jailed"),
                             host.t.path(host.parent))
    jail = host.jail(cgroup=host.arguments(), exec_file=binary,
                     parent_cgroup=None)
    assert jail.run().code == 0
    for file, value in host.values.items():
        host.t.point(host.read(file, jail) == value, file)


def check_refusals(host, rows):
    """Bad values are refused with the file's path, and what was made is gone
    again, also where the process had joined."""
    t = host.t
    for bad, text in rows:
        for mode in MODES:
            jail = host.jail(cgroup=host.arguments() + [bad], **mode)
            here, before = cgroup_of("self"), jail.listing()
            done = jail.run()
            name = "%s, %s" % (bad, mode_name(mode))
            t.point(done.code == 1 and text in done.err, name,
                    "%s\nwanted: %s" % (done, text))
            t.point(host.cgroups.paths() == [], name + ": no cgroup is left",
                    str(host.cgroups.paths()))
            t.point(jail.listing() == before and cgroup_of("self") == here,
                    name + ": nothing else")


def check_late_failure(host):
    """The process has joined when exec fails."""
    t = host.t
    binary = t.write("text", "no program")
    for mode in MODES:
        jail = host.jail(cgroup=host.arguments(), exec_file=binary, **mode)
        before = jail.listing()
        done = jail.run()
        t.point(done.code == 1 and "Failed to exec /text" in done.err,
                mode_name(mode), str(done))
        t.point(host.cgroups.paths() == [],
                mode_name(mode) + ": no cgroup is left",
                str(host.cgroups.paths()))
        t.point(jail.listing() == before, mode_name(mode) + ": no file",
                difference(before, jail.listing()))


def check_existing_stays(host):
    """A cgroup that was there is used, and stays when something fails."""
    t = host.t
    for root in set(host.roots.values()):
        os.makedirs(os.path.join(root, host.parent))
    kept = host.cgroups.paths()
    jail = host.jail(cgroup=host.arguments(),
                     exec_file=t.write("text", "no program"))
    assert jail.run().code == 1
    t.point(host.cgroups.paths() == kept, "after a failure",
            str(host.cgroups.paths()))
    jail = host.jail(cgroup=host.arguments())
    assert jail.run().code == 0
    t.point(len(host.cgroups.paths()) == 2 * len(kept), "after a success",
            str(host.cgroups.paths()))


def check_cleanup(host):
    """--cleanup removes the jail's own cgroups, unless somebody is there."""
    t = host.t
    jail = host.jail(cgroup=host.arguments())
    process = jail.start("--wait")
    assert process.stdout.readline()
    done = jail.run(cleanup=True)
    t.point(done.code == 1 and "Process %d runs in %s" % (
        process.pid, jail.path()) in done.err, "somebody lives there",
            str(done))
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    done = jail.run(cleanup=True)
    t.point((done.code, done.err) == (0, ""), "nobody does", str(done))
    t.point(not any(path.endswith("vm-1") for path in host.cgroups.paths()),
            "cgroups are gone", str(host.cgroups.paths()))
    t.point(not os.path.exists(jail.dir), "files are gone")


def check_cleanup_of_a_busy_cgroup(host):
    """A process outside of the jail's root, but in its cgroup."""
    t = host.t
    jail = host.jail(cgroup=host.arguments())
    assert jail.run().code == 0
    file = next(iter(host.values))
    where = os.path.dirname(host.path(file, jail))
    stranger = jails.subprocess.Popen(["sleep", "1000"])
    t.defer(stranger.wait)
    t.defer(stranger.kill)
    with open(where + "/cgroup.procs", "w") as out:
        out.write(str(stranger.pid))
    done = jail.run(cleanup=True)
    t.point(done.code == 1 and "Failed to remove cgroup %s: Resource busy" %
            where in done.err, "refused", str(done))
    t.point(os.path.exists(jail.path("jailed")), "files are still there")
