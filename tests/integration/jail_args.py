# SPDX-License-Identifier: Apache-2.0
"""The jailer's command line: every refusal, and that it leaves nothing."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from jail import Jail, difference
from tap import main, test

LONG = "a" * 65

REFUSED = (
    ({"id": ""}, "Invalid instance ID: Invalid len (0);  the length must be "
     "between 1 and 64"),
    ({"id": LONG}, "Invalid instance ID: Invalid len (65);  the length must "
     "be between 1 and 64"),
    ({"id": "a_b"}, "Invalid instance ID: Invalid char (_) at position 1"),
    ({"id": "../x"}, "Invalid instance ID: Invalid char (.) at position 0"),
    ({"id": "a/b"}, "Invalid instance ID: Invalid char (/) at position 1"),
    ({"id": None}, "Argument 'id' required, but not found."),
    ({"uid": None}, "Argument 'uid' required, but not found."),
    ({"gid": None}, "Argument 'gid' required, but not found."),
    ({"exec_file": None}, "Argument 'exec-file' required, but not found."),
    ({"uid": "root"}, "'root' of argument 'uid' is not a number."),
    ({"uid": "-1"}, "'-1' of argument 'uid' is not a number."),
    ({"gid": "1x"}, "'1x' of argument 'gid' is not a number."),
    ({"gid": ""}, "'' of argument 'gid' is not a number."),
    ({"uid": 4294967296}, "'4294967296' of argument 'uid' is not below "
     "4294967295."),
    ({"uid": 4294967295}, "'4294967295' of argument 'uid' is not below "
     "4294967295."),
    ({"gid": 4294967295}, "'4294967295' of argument 'gid' is not below "
     "4294967295."),
    ({"exec_file": "/nowhere/x"}, "Failed to canonicalize path /nowhere/x: "
     "No such file or directory (os error 2)"),
    ({"exec_file": "/dev/null"}, "/dev/null is not a file"),
    ({"exec_file": "/etc"}, "/etc is not a file"),
    ({"chroot_base_dir": "/nowhere"}, "Failed to canonicalize path /nowhere: "
     "No such file or directory (os error 2)"),
    ({"chroot_base_dir": "/etc/passwd"}, "/etc/passwd is not a directory"),
    ({"cgroup": "cpu.shares"}, "Invalid format for cgroups: 'cpu.shares' is "
     "not FILE=VALUE with one '='."),
    ({"cgroup": "cpu.shares="}, "Invalid format for cgroups: "),
    ({"cgroup": "cpu.shares=1=2"}, "Invalid format for cgroups: "),
    ({"cgroup": "shares=1"}, "Invalid file for cgroups: 'shares' is not "
     "CONTROLLER.NAME."),
    ({"cgroup": ".shares=1"}, "Invalid file for cgroups: "),
    ({"cgroup": "cpu.=1"}, "Invalid file for cgroups: "),
    ({"cgroup": "=1"}, "Invalid file for cgroups: "),
    ({"cgroup": "../cpu.shares=1"}, "Invalid file for cgroups: "),
    ({"cgroup": "cpu.x/../../y=1"}, "Invalid file for cgroups: "),
    ({"cgroup": "cpu." + "x" * 300 + "=1"}, "Invalid file for cgroups: "),
    ({"cgroup_version": 3}, "Invalid cgroup version 3: there are 1 and 2."),
    ({"cgroup_version": 0}, "Invalid cgroup version 0: there are 1 and 2."),
    ({"cgroup_version": "two"}, "'two' of argument 'cgroup-version' is not a "
     "number."),
    ({"parent_cgroup": "/abs"}, "Invalid parent cgroup: '/abs' is not a "
     "relative path without '.' and '..'."),
    ({"parent_cgroup": ".."}, "Invalid parent cgroup: "),
    ({"parent_cgroup": "a/../b"}, "Invalid parent cgroup: "),
    ({"parent_cgroup": "a/./b"}, "Invalid parent cgroup: "),
    ({"parent_cgroup": "a/.."}, "Invalid parent cgroup: "),
    ({"resource_limit": "fsize"}, "Invalid format for resources: 'fsize' is "
     "neither fsize=BYTES nor no-file=NUMBER."),
    ({"resource_limit": "fsize="}, "Invalid format for resources: "),
    ({"resource_limit": "fsize=-1"}, "Invalid format for resources: "),
    ({"resource_limit": "fsize=1k"}, "Invalid format for resources: "),
    ({"resource_limit": "no-file=99999999999999999999"},
     "Invalid format for resources: "),
    ({"resource_limit": "nofile=3"}, "Invalid format for resources: "),
    ({"resource_limit": "=3"}, "Invalid format for resources: "),
    ({"exec_by": "move"}, "'move' of argument 'exec-by' is none of: copy, "
     "link, bind."),
    ({"netns": "/nowhere"}, "Failed to open network namespace /nowhere: No "
     "such file or directory (os error 2)"),
    ({"netns": "/etc/passwd"}, "/etc/passwd is not a network namespace"),
    ({"netns": "/proc/self/ns/mnt"}, "/proc/self/ns/mnt is not a network "
     "namespace"),
    ({"unknown": True}, "Found argument 'unknown' which wasn't expected, or "
     "isn't valid in this context."),
    ({"uid=5": True}, "Found argument 'uid=5' which wasn't expected"),
    ({"id": ["a", "b"]}, "The argument 'id' was provided more than once."),
    ({"daemonize": "yes"}, "Found argument 'yes' which wasn't expected"),
)


@test
def refusals_have_a_sentence_and_leave_nothing(t):
    jail = Jail(t)
    before = jail.listing()
    for arguments, text in REFUSED:
        done = jail.run("--to", "/report", **arguments)
        after = jail.listing()
        first, _, second = done.err.partition("\n")
        t.point(done.code == 1 and first.startswith(text) and not done.out
                and second == "Error: %s\n" % first and before == after,
                ascii(str(arguments))[1:70].replace("#", ""),
                "%s\nwanted: %s\n%s" % (done, text,
                                        difference(before, after)))


@test
def a_value_is_missing(t):
    jail = Jail(t)
    done = jail.run(prefix=("sh", "-c", '"$@" --netns', "sh"))
    assert done.code == 1, done
    assert done.err.startswith("The argument 'netns' requires a value, but "
                               "none was supplied."), done
    assert os.listdir(jail.base) == []


@test
def version_and_help_come_before_mistakes(t):
    jail = Jail(t)
    done = jail.run(version=True, id="", nonsense=True)
    assert (done.code, done.err) == (0, ""), done
    assert re.fullmatch(r"Jailer v\d+\.\d+\.\d+\S*\n\n", done.out), done
    done = jail.run(help=True, nonsense=True)
    assert (done.code, done.err) == (0, ""), done
    for name in ("id", "exec-file", "uid", "gid", "chroot-base-dir", "netns",
                 "daemonize", "new-pid-ns", "cgroup", "cgroup-version",
                 "parent-cgroup", "resource-limit", "version", "help",
                 "exec-by", "cleanup"):
        t.point("--%s " % name in done.out, name, done.out)


@test
def what_follows_the_dashes_is_not_ours(t):
    jail = Jail(t)
    done = jail.run("--help", "--uid", "x", "--", "--version")
    assert done.code == 0, done
    assert jail.report(done.out).all("arg")[-5:] == [
        "--help", "--uid", "x", "--", "--version"], done


@test
def too_long_a_path_is_refused(t):
    jail = Jail(t)
    deep = jail.base
    while len(deep) < 3900:
        deep += "/" + "d" * 100
    os.makedirs(deep)
    binary = t.write("n" * 200)
    done = jail.run(exec_file=binary, chroot_base_dir=deep)
    assert done.code == 1, done
    assert "The jail's path is too long: Filename too long (os error 36)" in \
        done.err, done


if __name__ == "__main__":
    main()
