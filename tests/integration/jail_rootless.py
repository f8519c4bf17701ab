#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--new-user-ns: jails that an ordinary user makes."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import ember
from jail import GID, TIMEOUT, UID, end, listing
from jailnet import (AS_USER, JailedMonitor, UserJail, open_device, place,
                     rootless)
from network import own_network
from tap import main, test

INSIDE = {"uid": 100, "gid": 200}


def run(jail, *extra, **arguments):
    return jail.run(*extra, prefix=AS_USER, **arguments)


@test
def it_is_the_caller_under_another_name(t):
    jail = rootless(t, **INSIDE)
    done = run(jail)
    report = jail.report(done.out)
    t.point(report.one("uids") == "100 100 100", "uids", report.text)
    t.point(report.one("gids") == "200 200 200", "gids", report.text)
    t.point(set("".join(report.one("caps").split())) == {"0"}, "no caps",
            report.text)
    t.point(report.one("bounding") == "0", "empty bounding set", report.text)
    t.point(report.one("no_new_privs") == "1", "no_new_privs", report.text)
    owners = {(uid, gid) for path, (_, uid, gid, *_) in
              listing(jail.base).items()}
    t.point(owners == {(UID, GID)}, "all of it is the caller's", str(owners))


@test
def id_zero_is_no_root(t):
    jail = rootless(t, uid=0, gid=0)
    done = run(jail)
    report = jail.report(done.out)
    t.point(report.one("uids") == "0 0 0", "uids", report.text)
    t.point(set("".join(report.one("caps").split())) == {"0"}, "no caps",
            report.text)
    t.point("is root" not in done.err, "no warning", str(done))


@test
def every_process_mode_works(t):
    """In the end the pid file names a process of the caller's."""
    for mode in ({}, {"new_pid_ns": True}, {"daemonize": True},
                 {"daemonize": True, "new_pid_ns": True}):
        name = "vm" + "".join("-" + word[:3] for word in mode)
        jail = rootless(t, name, **INSIDE, **mode)
        done = run(jail, "--to", "/report")
        report = jail.report()
        t.point(done.code == 0, "exit code %s" % mode, str(done))
        t.point((report.one("pid") == "1") == ("new_pid_ns" in mode),
                "PID inside %s" % mode, report.text)
        t.point(jail.read("jailed.pid").isdigit(), "pid file %s" % mode)


@test
def binary_can_be_bound_or_linked(t):
    for how in ("bind", "link", "copy"):
        jail = rootless(t, how, exec_by=how, **INSIDE)
        done = run(jail)
        t.point(done.code == 0, how, str(done))


@test
def guest_runs_without_root(t):
    ember.need_kvm()
    own_network()
    jail = rootless(t, exec_file=ember.BINARY, **INSIDE)
    kernel = place(jail, ember.guest("hello"), "kernel")
    os.chown(jail.base, UID, GID)
    for path in (jail.dir, os.path.dirname(jail.dir), jail.path()):
        os.chown(path, UID, GID)
    m = JailedMonitor(t, jail, prefix=AS_USER, new_net_ns=True,
                      tap="tap0,addr=10.0.0.1/24")
    answer = m.put("/network-interfaces/eth0", iface_id="eth0",
                   host_dev_name="tap0")
    t.point(answer[0] == 204, "it has a tap", str(answer))
    with open("/proc/%d/uid_map" % m.process.pid) as file:
        words = file.read().split()
    t.point(words == ["100", str(UID), "1"], "ids are the caller's", str(words))
    answer = m.start(kernel)
    t.point(answer[0] == 204, "it starts", str(answer))
    t.point(m.wait() == 0, "the guest comes to its end", m.output())
    t.point("hello" in m.output(), "and says so", m.output())


@test
def kvm_that_cannot_be_opened_is_the_end(t):
    jail = UserJail(t, **INSIDE)
    open_device(t, "/dev/kvm", mode=0o600)
    before = jail.listing()
    done = run(jail)
    t.point(done.code == 1 and done.err.startswith(
        "This user cannot open /dev/kvm of the host: Permission denied (os "
        "error 13)\n"), "a sentence", str(done))
    t.point(jail.listing() == before, "nothing was made", str(done))


@test
def other_devices_that_cannot_be_opened_are_a_warning(t):
    jail = UserJail(t, **INSIDE)
    open_device(t, "/dev/kvm")
    open_device(t, "/dev/net/tun", mode=0o600)
    done = run(jail)
    t.point(done.code == 0, "exit code", str(done))
    t.point("Warning! Cannot open /dev/net/tun: Permission denied. Hence the "
            "microVM can have no network interface.\n" in done.err,
            "a warning", str(done))
    t.point(not os.path.exists(jail.path("dev/net/tun")), "and no node")


@test
def failures_leave_nothing(t):
    own_network()
    jail = rootless(t, **INSIDE)
    before = jail.listing()
    for name, arguments, sentence in (
            ("a tap that is there", {"new_net_ns": True, "tap": ["a", "lo"]},
             "Failed to create tap lo"),
            ("a limit that is too high", {"resource_limit":
             "no-file=1000000000"}, "Failed to set"),
            ("a cgroup that is not ours", {"cgroup": "pids.max=100"},
             "Failed to")):
        done = run(jail, **arguments)
        t.point(done.code == 1 and sentence in done.err, name, str(done))
        t.point(jail.listing() == before, name + ": nothing is left", str(done))


@test
def node_that_is_there_is_refused(t):
    jail = rootless(t, **INSIDE)
    os.makedirs(jail.path("dev"))
    with open(jail.path("dev/kvm"), "w"):
        pass
    for where, dirs, files in os.walk(jail.base):
        for name in dirs + files:
            os.chown(os.path.join(where, name), UID, GID)
    before = jail.listing()
    done = run(jail)
    t.point(done.code == 1 and "Failed to create /dev/kvm in the jail: File "
            "exists (os error 17)\n" in done.err, "a sentence", str(done))
    t.point(jail.listing() == before, "all is as before", str(done))


@test
def links_in_the_way_are_not_followed(t):
    """A former tenant may have left them."""
    for name in ("dev", "run"):
        jail = rootless(t, "link-" + name, **INSIDE)
        os.makedirs(jail.path())
        os.symlink("/", jail.path(name))
        for where, dirs, _ in os.walk(jail.base):
            for each in dirs:
                os.chown(os.path.join(where, each), UID, GID,
                         follow_symlinks=False)
        done = run(jail)
        t.point(done.code == 1 and "/%s in the jail" % name in done.err, name,
                str(done))


@test
def a_jail_that_somebody_lives_in_stays(t):
    """Who made it can see that, across the user namespace."""
    for number, mode in enumerate(({}, {"new_pid_ns": True})):
        jail = rootless(t, "vm-%d" % number, daemonize=True, **mode, **INSIDE)
        assert run(jail, "--pause").code == 0
        pid = jail.pid
        done = run(jail, cleanup=True)
        t.point(done.code == 1 and done.err.startswith(
            "Process %d runs in " % pid), "refused %s" % mode, str(done))
        end(pid)
        done = run(jail, cleanup=True)
        t.point(done.code == 0 and not os.path.exists(jail.dir),
                "gone afterwards %s" % mode, str(done))


@test
def a_jail_goes_with_all_that_was_closed_in_it(t):
    """Who made it is who locked it, and may do both."""
    jail = rootless(t, **INSIDE)
    assert run(jail).code == 0
    script = ("mkdir -p a/b/c d/e && touch a/b/c/file d/file && "
              "chmod 0 a/b/c a/b d/e && chmod 500 d && chmod 0 a .")
    subprocess.run([*AS_USER, "sh", "-c", script], cwd=jail.path(), check=True)
    done = run(jail, cleanup=True)
    t.point((done.code, done.err) == (0, ""), "it succeeds", str(done))
    t.point(not os.path.exists(jail.dir), "all is gone")


@test
def root_is_warned(t):
    """It works, but is less than what root could have without."""
    jail = rootless(t, **INSIDE)
    os.chown(jail.base, 0, 0)
    done = jail.run()
    t.point(done.code == 0, "exit code", str(done))
    t.point("Warning! The caller of --new-user-ns is root" in done.err,
            "a warning", str(done))


@test
def no_namespaces_left_is_a_sentence(t):
    """As where the administrator does not allow any."""
    jail = rootless(t, **INSIDE)
    script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh",
         *jail.command()], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, timeout=TIMEOUT)
    t.point(done.returncode == 1 and "Failed to make a user namespace: "
            "No space left on device (os error 28)" in done.stderr,
            "a sentence", done.stderr)


if __name__ == "__main__":
    main()
