# SPDX-License-Identifier: Apache-2.0
"""--daemonize and --new-pid-ns: who is whose child, and what callers learn."""
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
from jail import GID, MODES, UID, Jail, alive, end, mode_name, wait_until
from tap import main, test

FORKING = [mode for mode in MODES if mode]


def ids_of(pid):
    """(state, ppid, pgid, sid) of a process."""
    with open("/proc/%d/stat" % pid) as file:
        row = file.read().rpartition(")")[2].split()
    return row[0], int(row[1]), int(row[2]), int(row[3])


@test
def the_caller_s_process_ends_and_another_runs(t):
    for number, mode in enumerate(FORKING):
        jail = Jail(t, "vm-%d" % number)
        done = jail.run("--to", "/report", "--pause", **mode)
        assert (done.code, done.out, done.err) == (0, "", ""), done
        report = jail.report()
        pid = jail.pid
        name = mode_name(mode)
        t.point(alive(pid), name + ": it runs")
        t.point(os.readlink("/proc/%d/exe" % pid) == "/jailed"
                or os.path.samefile("/proc/%d/exe" % pid,
                                    jail.path("jailed")),
                name + ": it is the program")
        t.point(report.one("uids").split() == [str(UID)] * 3 and
                report.one("gids").split() == [str(GID)] * 3 and
                report.one("bounding") == "0", name + ": without rights",
                report.text)
        first = "new_pid_ns" in mode
        t.point((report.one("pid") == "1") == first
                and (int(report.one("pid")) == pid) != first,
                name + ": its PID", report.text)
        same = os.readlink("/proc/%d/ns/pid" % pid) == os.readlink(
            "/proc/self/ns/pid")
        t.point(same != first, name + ": its namespace")
        t.point([row.split()[0] for row in report.all("fd")] ==
                ["0", "1", "2"], name + ": its descriptors", report.text)


@test
def a_daemon_has_no_terminal_and_no_session_of_its_own(t):
    for number, mode in enumerate(FORKING[1:]):
        jail = Jail(t, "vm-%d" % number)
        assert jail.run("--to", "/report", "--pause", **mode).code == 0
        report = jail.report()
        pid = jail.pid
        _, parent, _, session = ids_of(pid)
        t.point([row.split()[1:] for row in report.all("fd")] ==
                [["20000", "1:3"]] * 3, mode_name(mode) + ": /dev/null",
                report.text)
        t.point(session not in (pid, os.getsid(0)),
                mode_name(mode) + ": another session", str(ids_of(pid)))
        t.point(not alive(session),
                mode_name(mode) + ": whose leader is gone", str(session))
        t.point(parent == 1, mode_name(mode) + ": init's child", str(parent))


@test
def a_session_leader_s_child_gets_a_session(t):
    jail = Jail(t)
    done = jail.run("--to", "/report", "--pause", new_pid_ns=True,
                    popen={"start_new_session": True})
    assert done.code == 0, done
    jail.report()
    _, _, group, session = ids_of(jail.pid)
    assert session == group == jail.pid, (group, session)


@test
def others_stay_in_their_session(t):
    jail = Jail(t)
    assert jail.run("--to", "/report", "--pause", new_pid_ns=True).code == 0
    jail.report()
    assert ids_of(jail.pid)[3] == os.getsid(0), ids_of(jail.pid)


@test
def a_pid_namespace_keeps_standard_files(t):
    jail = Jail(t)
    process = jail.start("--wait", new_pid_ns=True)
    assert process.wait(jails.TIMEOUT) == 0
    pid = jail.pid
    assert process.stdout.readline() and alive(pid)
    process.stdin.close()
    assert jail.report(process.stdout.read()).one("pid") == "1"
    wait_until(lambda: not alive(pid), "the end")


@test
def the_pid_file_is_complete_when_the_program_runs(t):
    """Orchestrators read it the moment that they hear from the program."""
    for number, mode in enumerate(FORKING * 5):
        jail = Jail(t, "vm-%d" % number)
        subprocess.run(["mkdir", "-p", jail.path("x")], check=True)
        os.chown(jail.path("x"), UID, GID)
        process = subprocess.Popen(
            jail.command("--to", "/x/report", "--pause", **mode),
            stdin=subprocess.DEVNULL)
        while not os.path.exists(jail.path("x/report")):
            time.sleep(0)
        text = jail.read("jailed.pid")
        assert process.wait(jails.TIMEOUT) == 0
        assert text and text == str(jail.pid), (mode, text)


@test
def failures_after_forks_reach_the_caller(t):
    """Whoever fails, the caller sees the sentence, an exit code of 1, and
    nothing left."""
    jail = Jail(t, exec_file=t.write("script", "#!/no/such/interpreter\n"))
    os.chmod(t.path("script"), 0o755)
    for mode in MODES:
        before = jail.listing()
        done = jail.run(**mode)
        t.point(done.code == 1 and done.err.startswith(
            "Failed to exec /script in the jail: No such file or directory "
            "(os error 2)\n"), mode_name(mode) + ": the sentence", str(done))
        after = jail.listing()
        t.point(before == after, mode_name(mode) + ": nothing is left",
                jails.difference(before, after))


@test
def the_end_of_the_caller_s_process_is_the_child_s_begin(t):
    """It waits for the exec: the monitor's name is there when it ends."""
    for number, mode in enumerate(FORKING * 5):
        jail = Jail(t, "vm-%d" % number)
        assert jail.run("--pause", **mode).code == 0
        with open("/proc/%d/comm" % jail.pid) as file:
            assert file.read() == "jailed\n"


@test
def other_children_of_the_caller_s_process_do_not_matter(t):
    """A shell that became the jailer may have had some."""
    jail = Jail(t, exec_file=t.write("text", "no program"))
    start = time.monotonic()
    done = jail.run(daemonize=True, new_pid_ns=True,
                    prefix=("sh", "-c", 'sleep 30 >/dev/null 2>&1 & exec "$@"',
                            "sh"))
    assert done.code == 1 and "Failed to exec /text" in done.err, done
    assert time.monotonic() - start < 20


@test
def a_killed_child_is_a_failure(t):
    """The child is stopped by a debugger's trick before it may go on: the
    process that watches says that it ended."""
    jail = Jail(t)
    before = jail.listing()
    done = jail.run(new_pid_ns=True, prefix=(
        "strace", "-f", "-qq", "-o", t.path("trace"), "-e", "trace=setresuid",
        "-e", "inject=setresuid:signal=KILL"))
    assert done.code == 1, done
    assert done.err.startswith("The child ended before it became the "
                               "monitor."), done
    assert jail.listing() == before


if __name__ == "__main__":
    main()
