# SPDX-License-Identifier: Apache-2.0
"""What a program in a jail sees and is, and what the host sees of the jail."""
import ctypes
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
from jail import GID, UID, Jail, Report, alive, end, nodes, wait_until
from tap import main, skip_unless, test

ADD_KEY, KEYCTL = 248, 250
JOIN_SESSION_KEYRING, SESSION_KEYRING = 1, -3


def seen(jail, *extra, **arguments):
    done = jail.run(*extra, **arguments)
    assert (done.code, done.err) == (0, ""), done
    return jail.report(done.out)


@test
def arguments_are_the_contract_s(t):
    before = time.monotonic_ns() // 1000
    jail = Jail(t)
    args = seen(jail, "--api-sock", "a b", "--x").all("arg")
    after = time.monotonic_ns() // 1000
    names = args[0::1]
    assert args[:4] == ["/jailed", "--id", "vm-1", "--start-time-us"], args
    assert args[5] == "--start-time-cpu-us", names
    assert args[7] == "--parent-cpu-time-us", names
    assert args[9:] == ["--api-sock", "a b", "--x"], args
    start, cpu, parent = int(args[4]), int(args[6]), int(args[8])
    assert before <= start <= after, (before, start, after)
    assert 0 < cpu <= parent < after - before, (cpu, parent)


@test
def it_is_somebody_else_without_rights(t):
    report = seen(Jail(t))
    t.point(report.one("uids") == "%d %d %d" % (UID, UID, UID), "uids",
            report.text)
    t.point(report.one("gids") == "%d %d %d" % (GID, GID, GID), "gids",
            report.text)
    t.point(report.all("group") == [], "no groups", report.text)
    t.point(set("".join(report.one("caps").split())) == {"0"}, "no caps",
            report.text)
    t.point(report.one("bounding") == "0", "empty bounding set", report.text)
    t.point(report.one("no_new_privs") == "1", "no_new_privs", report.text)


@test
def groups_of_the_caller_are_dropped(t):
    report = seen(Jail(t), prefix=("setpriv", "--groups", "7,8,9"))
    assert report.all("group") == [], report.text


def add_key():
    """To a new session's keyring, which is the caller's then."""
    libc = ctypes.CDLL(None, use_errno=True)
    if (libc.syscall(KEYCTL, JOIN_SESSION_KEYRING, None) < 0 or libc.syscall(
            ADD_KEY, b"user", b"ember-test", b"x", 1, SESSION_KEYRING) < 0):
        os._exit(99)


@test
def keys_of_the_caller_s_session_are_not_there(t):
    jail = Jail(t)
    shown = subprocess.run([jail.arguments["exec_file"]], text=True,
                           stdout=subprocess.PIPE, preexec_fn=add_key)
    skip_unless(shown.returncode != 99, "no keys to be had")
    t.point(Report(shown.stdout).one("key") == "found", "outside it is there",
            shown.stdout)
    report = seen(jail, popen={"preexec_fn": add_key})
    t.point(report.one("key") != "found", "inside it is not", report.text)


@test
def nothing_of_the_caller_s_is_left(t):
    jail = Jail(t)
    first, second = os.pipe()
    extra = [os.dup2(first, 3), os.dup2(second, 900)]
    done = jail.run(popen={"pass_fds": extra + [first, second],
                           "env": {"SECRET": "x", "PATH": "/bin"}})
    report = jail.report(done.out)
    t.point(report.all("env") == [], "environment", report.text)
    t.point([row.split()[0] for row in report.all("fd")] == ["0", "1", "2"],
            "descriptors", report.text)
    t.point(report.one("cwd") == "/", "working directory", report.text)
    t.point(report.one("umask") == "22", "umask", report.text)
    for fd in set(extra + [first, second]):
        os.close(fd)


def confuse_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


@test
def signals_are_as_of_a_new_process(t):
    jail = Jail(t)
    done = jail.run(popen={"preexec_fn": confuse_signals,
                           "restore_signals": False})
    report = jail.report(done.out)
    assert report.all("blocked") == [], report.text
    assert str(int(signal.SIGPIPE)) not in report.all("ignored"), report.text


@test
def closed_standard_files_are_replaced(t):
    """Or else the binary's copy would be what errors are written to."""
    jail = Jail(t)
    done = jail.run("--to", "/report", prefix=(
        "sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert done.code == 0, done
    report = jail.report()
    assert [row.split()[1:] for row in report.all("fd")[:3]] == [
        ["20000", "1:3"]] * 3, report.text


@test
def exit_code_and_standard_input_are_the_program_s(t):
    jail = Jail(t)
    process = jail.start("--wait", "--code", "77")
    assert process.stdout.readline()
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(jails.TIMEOUT) == 77


@test
def its_files_are_all_there_is(t):
    jail = Jail(t)
    report = seen(jail)
    files = {"/jailed", "/jailed.pid", "/dev", "/dev/net", "/run"} | {
        "/" + name for name in nodes()}
    assert set(report.all("file")) == files, report.text
    for path in ("/dev/kvm", "/dev/net/tun", "/dev/urandom"):
        t.point("%s ok" % path in report.all("open")
                or not os.path.exists(path), path, report.text)


@test
def modes_and_owners_are_the_contract_s(t):
    jail = Jail(t)
    seen(jail)
    for name in ("", "dev", "dev/net", "run"):
        st = os.lstat(jail.path(name))
        t.point((st.st_mode, st.st_uid, st.st_gid) == (
            stat.S_IFDIR | 0o700, UID, GID), "/" + name, str(st))
    for name, numbers in nodes().items():
        st = os.lstat(jail.path(name))
        t.point((st.st_mode, st.st_uid, st.st_gid) == (
            stat.S_IFCHR | 0o600, UID, GID) and (
                os.major(st.st_rdev), os.minor(st.st_rdev)) == numbers,
                "/" + name, str(st))
    for path, mode in ((jail.dir, 0o711), (os.path.dirname(jail.dir), 0o755)):
        st = os.lstat(path)
        t.point((st.st_mode & 0o7777, st.st_uid) == (mode, 0), path[-6:],
                str(st))
    st = os.lstat(jail.path("jailed"))
    t.point((st.st_uid, st.st_gid) == (UID, GID), "the binary", str(st))


@test
def nodes_do_not_depend_on_the_umask(t):
    jail = Jail(t)
    done = jail.run(popen={"preexec_fn": lambda: os.umask(0o777)},
                    prefix=("setpriv", "--no-new-privs"))
    assert done.code == 0, done
    for name in list(nodes()) + ["run"]:
        mode = os.lstat(jail.path(name)).st_mode & 0o777
        assert mode == (0o700 if name == "run" else 0o600), (name, oct(mode))
    assert jail.report(done.out).one("umask") == "777"


@test
def the_binary_keeps_its_mode(t):
    jail = Jail(t)
    copy = jails.loop_copy(jail.arguments["exec_file"], t.path("other-name"))
    os.chmod(copy, 0o4711)
    jail.arguments["exec_file"] = copy
    report = seen(jail)
    st = os.lstat(jail.path("other-name"))
    assert st.st_mode & 0o7777 == 0o711, oct(st.st_mode)
    assert report.all("arg")[0] == "/other-name"
    assert jail.read("other-name.pid").isdigit()


@test
def a_link_to_the_binary_gives_its_real_name(t):
    jail = Jail(t)
    os.symlink(jail.arguments["exec_file"], t.path("link"))
    seen(jail, exec_file=t.path("link"))
    assert os.path.exists(jail.path("jailed"))


@test
def a_base_directory_may_be_reached_by_links(t):
    jail = Jail(t)
    os.symlink(jail.base, t.path("link"))
    seen(jail, chroot_base_dir=t.path("link"))
    assert os.path.exists(jail.path("jailed"))


@test
def the_binary_may_be_a_link(t):
    jail = Jail(t)
    source = jails.loop_copy(jail.arguments["exec_file"], t.path("monitor"))
    report = seen(jail, exec_file=source, exec_by="link")
    inside = os.path.join(jail.base, "monitor", "vm-1", "root", "monitor")
    assert os.path.samefile(source, inside)
    assert os.lstat(source).st_uid == 0
    assert "/monitor Permission denied" in report.all("open") or \
        "/monitor Text file busy" in report.all("open"), report.text


@test
def a_link_across_file_systems_is_a_copy(t):
    jail = Jail(t)
    os.mkdir(t.path("elsewhere"))
    subprocess.run(["mount", "-t", "tmpfs", "none", t.path("elsewhere")],
                   check=True)
    t.defer(subprocess.run, ["umount", t.path("elsewhere")])
    source = jails.loop_copy(jail.arguments["exec_file"],
                             t.path("elsewhere/jailed"))
    seen(jail, exec_file=source, exec_by="link")
    assert os.lstat(jail.path("jailed")).st_uid == UID
    assert not os.path.samefile(source, jail.path("jailed"))


@test
def the_binary_may_be_the_host_s_own(t):
    jail = Jail(t)
    process = jail.start("--wait", exec_by="bind")
    lines = []
    while "end" not in lines:
        lines.append(process.stdout.readline().rstrip("\n"))
    report = jail.report("\n".join(lines) + "\n")
    host = os.stat(jail.arguments["exec_file"])
    running = os.stat("/proc/%d/exe" % process.pid)
    t.point((host.st_dev, host.st_ino) == (running.st_dev, running.st_ino),
            "what runs is the host's file")
    t.point("/jailed Read-only file system" in report.all("open")
            or "/jailed Permission denied" in report.all("open"),
            "it cannot be written", report.text)
    with open("/proc/%d/mountinfo" % process.pid) as file:
        mounts = [line.split() for line in file]
    options = {row[4]: row[5].split(",") for row in mounts}
    t.point({"ro", "nosuid", "nodev"} <= set(options["/jailed"]),
            "mounted read-only", str(options))
    t.point(os.path.getsize(jail.path("jailed")) == 0,
            "outside there is an empty file")
    process.stdin.close()
    assert process.wait(jails.TIMEOUT) == 0


@test
def mounts_do_not_reach_the_host(t):
    """Also not where the base directory is a shared mount."""
    jail = Jail(t)
    subprocess.run(["mount", "--bind", jail.base, jail.base], check=True)
    t.defer(subprocess.run, ["umount", "-l", jail.base])
    subprocess.run(["mount", "--make-shared", jail.base], check=True)
    with open("/proc/self/mountinfo") as file:
        before = file.read()
    process = jail.start("--wait", exec_by="bind")
    assert process.stdout.readline()
    with open("/proc/self/mountinfo") as file:
        after = file.read()
    with open("/proc/%d/mountinfo" % process.pid) as file:
        inside = file.read()
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    t.point(before == after, "the host's are the same", after)
    rows = [line.split() for line in inside.splitlines()]
    t.point([row[4] for row in rows] == ["/", "/jailed"], "two inside",
            inside)
    t.point(not any("shared:" in word for row in rows for word in row),
            "none is shared", inside)


@test
def mounts_made_before_are_there(t):
    jail = Jail(t)
    os.makedirs(jail.path("data"))
    subprocess.run(["mount", "-t", "tmpfs", "none", jail.path("data")],
                   check=True)
    t.defer(subprocess.run, ["umount", "-l", jail.path("data")])
    os.chmod(jail.path("data"), 0o755)
    with open(jail.path("data/image"), "w"):
        pass
    report = seen(jail)
    assert "/data/image" in report.all("file"), report.text


@test
def limits_are_soft_and_hard(t):
    jail = Jail(t)
    report = seen(jail)
    t.point(report.one("nofile") == "2048 2048", "default", report.text)
    t.point(report.one("fsize").split()[1] == str(2 ** 64 - 1), "no fsize",
            report.text)
    jail = Jail(t, "vm-2", resource_limit=["fsize=123456", "no-file=100"])
    report = seen(jail)
    t.point(report.one("nofile") == "100 100", "no-file", report.text)
    t.point(report.one("fsize") == "123456 123456", "fsize", report.text)


@test
def limits_are_not_the_jailer_s(t):
    """With fewer it could neither write the pid file nor build the jail."""
    jail = Jail(t, resource_limit=["fsize=0", "no-file=3"])
    process = jail.start()  # pipes: no file may grow
    out, _ = process.communicate(timeout=jails.TIMEOUT)
    report = jail.report(out)
    assert report.one("nofile") == "3 3" and report.one("fsize") == "0 0"
    assert jail.read("jailed.pid").isdigit()


def memory_seen(jail, trace, reader):
    """What @reader says who tries the memory of a jailer that has given up its
    rights and does not go on yet."""
    tracer = subprocess.Popen(jail.command(prefix=(
        "strace", "-f", "-qq", "-o", trace, "-e", "trace=capset", "-e",
        "inject=capset:delay_exit=2s")), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL)
    children = "/proc/%d/task/%d/children" % (tracer.pid, tracer.pid)
    pid = None
    while tracer.poll() is None and pid is None:
        with open(children) as file:
            pids = [word for word in file.read().split() if at_rest(word)]
        pid = pids[0] if pids else None
    assert pid, "it was too fast"
    said = subprocess.run([*reader, "cat", "/proc/%s/mem" % pid],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True).stderr
    assert tracer.wait(jails.TIMEOUT) == 0
    return said


def at_rest(pid):
    """Whether this process is a jailer that has no capabilities any more."""
    try:
        with open("/proc/%s/status" % pid) as file:
            status = file.read()
    except OSError:
        return False
    return (status.startswith("Name:\tember-jailer\n")
            and "\nCapPrm:\t0000000000000000\n" in status)


@test
def nobody_reads_a_jailer_that_can_still_undo(t):
    """It has a thread with rights to the end: not even who is the same user,
    be that root without rights, may trace it."""
    nobody = ("setpriv", "--no-new-privs", "--clear-groups",
              "--bounding-set=-all", "--inh-caps=-all")
    for uid in (UID, 0):
        jail = Jail(t, "vm-%d" % uid, uid=uid, gid=uid)
        said = memory_seen(jail, t.path("trace"), (
            *nobody, "--reuid", str(uid), "--regid", str(uid)))
        t.point("Permission denied" in said, "uid %d" % uid, said)


@test
def the_last_of_equal_limits_counts(t):
    report = seen(Jail(t, resource_limit=["no-file=10", "no-file=20"]))
    assert report.one("nofile") == "20 20", report.text


def lower_the_hard_limit():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@test
def a_limit_above_the_hard_one_is_refused(t):
    jail = Jail(t)
    before = jail.listing()
    done = jail.run(popen={"preexec_fn": lower_the_hard_limit},
                    resource_limit="no-file=65",
                    prefix=("capsh", "--drop=cap_sys_resource", "--", "-c",
                            'exec "$@"', "sh")
                    if has_cap_sys_resource() else ())
    assert done.code == 1, done
    assert done.err.startswith("Failed to set the limit no-file to 65, with a "
                               "hard limit of 64: Operation not permitted (os "
                               "error 1)"), done
    assert jail.listing() == before


def has_cap_sys_resource():
    with open("/proc/self/status") as file:
        caps = re.search(r"^CapEff:\s*(\w+)", file.read(), re.M).group(1)
    return bool(int(caps, 16) & 1 << 24)


@test
def root_is_warned_of_but_allowed(t):
    for uid, gid in ((0, GID), (UID, 0), (0, 0)):
        jail = Jail(t, "vm-%d-%d" % (uid, gid), uid=uid, gid=gid)
        done = jail.run()
        report = jail.report(done.out)
        t.point(done.code == 0 and done.err.startswith("Warning! ")
                and done.err.count("\n") == 1, "%d:%d is warned of" % (
                    uid, gid), str(done))
        t.point(report.one("uids").split() == [str(uid)] * 3
                and report.one("gids").split() == [str(gid)] * 3
                and report.one("bounding") == "0"
                and set(report.one("caps")) == {"0", " "},
                "%d:%d is who it is, without rights" % (uid, gid),
                report.text)


@test
def without_urandom_there_is_a_warning(t):
    jail = Jail(t)
    os.makedirs(jail.path("dev"))
    os.mkfifo(jail.path("dev/urandom"))
    done = jail.run()
    assert done.code == 0, done
    assert done.err == ("Warning! Could not create /dev/urandom (File exists)."
                        " MMDS version 2 will not be available.\n"), done
    assert stat.S_ISFIFO(os.lstat(jail.path("dev/urandom")).st_mode)


@test
def a_prepared_root_is_used(t):
    """Orchestrators put kernels and disks there, also below run/."""
    jail = Jail(t)
    os.makedirs(jail.path("run/deep"))
    for name in ("kernel", "run/deep/socket-dir"):
        with open(jail.path(name), "w") as file:
            file.write("theirs")
    report = seen(jail)
    assert {"/kernel", "/run/deep/socket-dir"} <= set(report.all("file"))
    assert os.lstat(jail.path("run")).st_uid == UID
    assert os.lstat(jail.path("kernel")).st_uid == 0


@test
def network_namespaces_are_joined(t):
    jail = Jail(t)
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    t.defer(end, holder.pid)
    ours = os.readlink("/proc/self/ns/net")
    path = "/proc/%d/ns/net" % holder.pid
    wait_until(lambda: os.readlink(path) != ours, "a namespace")
    os.symlink(path, t.path("netns"))
    process = jail.start("--wait", netns=t.path("netns"))
    assert process.stdout.readline()
    inside = os.readlink("/proc/%d/ns/net" % process.pid)
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    holder.kill()
    holder.wait()
    assert inside != ours
    os.remove(t.path("netns"))


@test
def the_pid_file_is_there_before_the_program(t):
    jail = Jail(t)
    process = jail.start("--wait")
    assert process.stdout.readline()
    text = jail.read("jailed.pid")
    st = os.lstat(jail.path("jailed.pid"))
    process.stdin.close()
    process.wait(jails.TIMEOUT)
    assert text == str(process.pid), text
    assert (st.st_mode & 0o7777, st.st_uid) == (0o644, 0), st
    assert not alive(process.pid)


if __name__ == "__main__":
    main()
