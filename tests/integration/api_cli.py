# SPDX-License-Identifier: Apache-2.0
"""Command line, log format, exit codes and signals. No guest."""
import datetime
import json
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
import ember
import injail
from ember import Monitor, run, skip_in_jail
from tap import main, skip_unless, test

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} "


@test
def version(t):
    code, out, err = run("--version")
    assert (code, err) == (0, ""), (code, err)
    lines = out.split("\n")
    assert lines[0] == "Ember v0.1.0", out
    assert re.search(r"^Firecracker v1\.16\.1$", out, re.M), out


@test
def help_names_every_option(t):
    code, out, err = run("--help")
    assert (code, err) == (0, ""), (code, err)
    for name in ("api-sock", "id", "config-file", "no-api", "log-path",
                 "level", "module", "show-level", "show-log-origin",
                 "metrics-path", "boot-timer", "http-api-max-payload-size",
                 "no-seccomp", "seccomp-filter",
                 "version", "help"):
        t.point("--" + name in out, name, out)
    assert run("-h") == (code, out, err)
    assert run("--unknown", "--help") == (code, out, err)


@test
def argument_errors(t):
    for args, reason in (
            (["--unknown"], "Found argument 'unknown' which wasn't expected, "
             "or isn't valid in this context."),
            (["stray"], "Found argument 'stray' which wasn't expected"),
            (["--id=x"], "Found argument 'id=x' which wasn't expected"),
            (["--id"], "The argument 'id' requires a value, but none was "
             "supplied."),
            (["--id", "--no-api"], "The argument 'id' requires a value, but "
             "none was supplied."),
            (["--id", "a", "--id", "b"], "The argument 'id' was provided more "
             "than once."),
            (["--no-api"], "Argument 'config-file' required, but not found."),
            (["--http-api-max-payload-size", "many"], ""),
            (["--start-time-us", "-1"], "")):
        # The jailer has arguments of its own for the monitor.
        code, out, err = run(*args, jail=False)
        want = "Arguments parsing error: " + reason
        t.point(code == 153 and want in err
                and err.endswith(" \n\nFor more information try --help.\n"),
                " ".join(args), "%s %r" % (code, err))
        t.point("Arguments parsing error: " + reason in out,
                " ".join(args) + " in the log", out)


@test
def extra_arguments_after_two_dashes(t):
    m = Monitor(test=t, args=["--", "--unknown", "x"])
    assert m.get("/version")


@test
def bad_ids(t):
    for name in ("", "a" * 65, "under_score", "dot.", "spa ce"):
        code, _, err = run("--api-sock", t.path("s"), "--id", name,
                           jail=False)
        t.point(code != 0 and "Invalid instance ID" in err, repr(name),
                "%s %r" % (code, err))
    m = Monitor(test=t, args=["--id", "a" * 64])
    assert m.get("/")["id"] == "a" * 64


@test
def bad_level(t):
    code, out, err = run("--api-sock", t.path("s"), "--level", "Loud")
    assert code == 152, (code, out, err)
    assert "Loud" in err, err


@test
def bad_log_path(t):
    code, _, err = run("--api-sock", t.path("s"), "--log-path",
                       t.path("no/log"))
    assert code == 152, code
    assert "No such file or directory (os error 2)" in err, err


@test
def socket_path_exists(t):
    path = t.write("socket", "mine")
    code, out, err = run("--api-sock", path)
    text = ("Failed to open the API socket at: %s. Check that it is not "
            "already used." % path)
    assert code == 1 and text in out, (code, out, err)
    with open(path) as file:
        assert file.read() == "mine"


@test
def socket_path_is_unusable(t):
    for path in (t.path("no/socket"), t.path("s" * 200)):
        code, out, err = run("--api-sock", path)
        t.point(code == 1 and "Failed to open the API socket" in out,
                path[-20:], "%s %r %r" % (code, out, err))


@test
def socket_stays_behind(t):
    m = Monitor(test=t)
    assert stat.S_ISSOCK(os.stat(m.socket_path).st_mode)
    m.signal(signal.SIGTERM)
    m.wait()
    assert os.path.exists(m.socket_path)


@test
def socket_mode_follows_umask(t):
    m = Monitor(test=t, umask=0o077)
    mode = stat.S_IMODE(os.stat(m.socket_path).st_mode)
    assert mode == 0o700, oct(mode)


@test
def log_lines(t):
    m = Monitor(test=t, log=False, args=[
        "--id", "vm-1", "--show-level", "--show-log-origin", "--level",
        "Debug"])
    m.get("/version")
    m.expect(b"API call duration")
    origin = r":[^:]+/[^:]+\.c:\d+"
    lines = m.console.decode().splitlines()
    line = re.compile(STAMP + r"\[vm-1:(ember|ember_api)"
                      r":(ERROR|WARN|INFO|DEBUG)" + origin + r"\] .+$")
    for text in lines:
        assert line.match(text), text
    assert "Running Firecracker v1.16.1" in lines[0], lines[0]
    text = "\n".join(lines)
    assert 'Listening on API socket ("%s").' % m.socket_path in text, text
    assert "API server started." in text, text


@test
def log_lines_without_options(t):
    m = Monitor(test=t, log=False)
    first = m.expect(b"\n").decode()
    assert re.match(STAMP + r"\[anonymous-instance:ember\] Running ", first), \
        first


# The second and third are in summer now, or in winter, whenever this is.
ZONES = ("TST-05:00", "AAA-1BBB,M1.1.0/0,M12.5.6/23:59:59",
         "AAA-1BBB-3:30:15,M12.5.6/23:59:58,M12.5.6/23:59:59",
         "CET-1CEST,M3.5.0,M10.5.0/3", "<+0130>-1:30", "EST5EDT,J60/2,300",
         "nonsense,M13", ":/nowhere")


def local_time(zone):
    """Now in a time zone, as the host's libc has it."""
    out = subprocess.run(
        ["date", "+%Y-%m-%dT%H:%M:%S"], check=True, stdout=subprocess.PIPE,
        env={**os.environ, "TZ": zone}).stdout.decode().strip()
    return datetime.datetime.strptime(out, "%Y-%m-%dT%H:%M:%S")


@test
def log_is_in_local_time(t):
    skip_in_jail("the environment is empty")
    for zone in ZONES:
        m = Monitor(test=t, log=False, env={**os.environ, "TZ": zone})
        m.get("/version")
        stamp = m.console.decode()[:19]
        then = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S")
        seconds = abs((then - local_time(zone)).total_seconds())
        t.point(seconds < 120, zone, stamp)


@test
def log_goes_to_its_path_only(t):
    m = Monitor(test=t)
    m.get("/version")
    assert m.console == b"", m.console
    assert "Running Firecracker" in m.log


@test
def module_filters_the_log(t):
    m = Monitor(test=t, args=["--module", "api/", "--show-log-origin"])
    m.get("/version")
    lines = m.log.splitlines()
    assert lines and all(":api/" in line for line in lines), m.log


@test
def log_file_is_not_truncated(t):
    path = t.write("log", "x" * 5000)
    m = Monitor(test=t, log=False, args=["--log-path", path])
    m.get("/version")
    assert os.path.getsize(path) == 5000


@test
def full_stdout_stalls_nobody(t):
    end, full = os.pipe()
    t.defer(os.close, end)
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, bytes(4096))
    except BlockingIOError:
        pass
    m = Monitor(test=t, log=False, stdout=full)
    os.close(full)
    for _ in range(50):
        assert m.get("/version")


@test
def closed_stdio_is_no_harm(t):
    m = Monitor(test=t, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert m.get("/version")


@test
def sigterm_kills(t):
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        m = Monitor(test=t, limits={"core": 0})
        m.signal(signum)
        code = m.wait()
        t.point(code == -signum, signal.Signals(signum).name, str(code))


@test
def fatal_signals_have_exit_codes(t):
    skip_unless(not ember.sanitized("Thread"),
                "ThreadSanitizer does not survive fatal signals")
    for signum, want in ((signal.SIGHUP, 156), (signal.SIGXCPU, 154),
                         (signal.SIGXFSZ, 151), (signal.SIGILL, 157),
                         (signal.SIGBUS, 149), (signal.SIGSEGV, 150),
                         (signal.SIGSYS, 2)):
        m = Monitor(test=t)
        m.signal(signum)
        code = m.wait()
        text = "Shutting down VM after intercepting signal %d, code 0." % signum
        t.point(code == want and text in m.log,
                signal.Signals(signum).name, "%s\n%s" % (code, m.log))
        assert "exiting with error. exit_code=%d" % want in m.log, m.log


@test
def sigpipe_is_survived_and_told(t):
    m = Monitor(test=t)
    # ThreadSanitizer dies of a signal to a thread that is just beginning.
    assert m.get("/version")
    m.signal(signal.SIGPIPE)
    m.wait_log("Received signal 13")
    assert m.get("/version")


@test
def kick_signal_is_survived(t):
    m = Monitor(test=t)
    for _ in range(20):
        m.signal(35)
    assert m.get("/version") and m.alive()


@test
def config_file_problems(t):
    kernel = t.write("kernel", b"not a kernel")
    good = '"boot-source":{"kernel_image_path":"%s"}' % kernel
    for name, text, part in (
            ("missing", None, "No such file or directory (os error 2)"),
            ("empty", "", ""),
            ("broken", "{", ""),
            ("array", "[]", ""),
            ("no boot source", '{"drives":[]}', "boot-source"),
            ("no drives", "{%s}" % good, "drives"),
            ("unknown field", '{%s,"drives":[],"machine-config":{"cpus":1}}'
             % good, "unknown field `cpus`"),
            ("bad value", '{%s,"drives":[],"machine-config":{"vcpu_count":0,'
             '"mem_size_mib":1}}' % good, "The number of vCPUs"),
            ("bad drive", '{%s,"drives":[{"drive_id":"a","is_root_device":'
             'true,"path_on_host":"/no/disk"}]}' % good, "/no/disk"),
            ("bad drive id", '{%s,"drives":[{"drive_id":"a\\"b",'
             '"is_root_device":true,"path_on_host":"/dev/null"}]}' % good,
             "API Resource IDs can only contain alphanumeric"),
            ("bad kernel", '{%s,"drives":[],"unknown-section":[1]}' % good,
             "")):
        path = t.path("none") if text is None else t.write("config", text)
        code, out, err = run("--no-api", "--config-file", path)
        t.point(code == 1 and part in out and "exit_code=1" in out, name,
                "%s\n%s\n%s" % (code, out, err))


@test
def config_file_from_a_pipe(t):
    """More than a pipe holds, so that it comes in pieces."""
    skip_in_jail("there is no /dev/fd")
    config = json.dumps({"boot-source": {"kernel_image_path": "/no/kernel"},
                         "drives": [], "padding": "x" * 200000})
    m = Monitor(test=t, api=False, args=["--config-file", "/dev/stdin"])
    m.send(config.encode())
    m.process.stdin.close()
    assert m.wait() == 1
    assert "The kernel file cannot be opened" in m.log, m.log
    end, start = os.pipe()
    t.defer(os.close, end)
    os.write(start, b'{"from": "a pipe"}')
    os.close(start)
    m = Monitor(test=t, pass_fds=(end,),
                args=["--metadata", "/dev/fd/%d" % end])
    assert m.get("/mmds") == {"from": "a pipe"}


@test
def config_file_that_is_too_long(t):
    path = t.path("config")
    with open(path, "wb") as file:
        file.truncate(16 * 2 ** 20 + 1)
    for name, text in ((path, "longer than 16 MiB"),
                       ("/dev/zero", "longer than 16 MiB"),
                       (t.dir, "Is a directory (os error 21)")):
        code, out, _ = run("--no-api", "--config-file", name)
        t.point(code == 1 and text in out, name, "%s %s" % (code, out))


@test
def descriptor_limit_is_raised(t):
    """To what is allowed, but no further than is of use."""
    skip_in_jail("it is the jailer's, soft and hard alike")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits, want in (((256, 256), 256), ((256, 300), 300),
                         ((hard, hard), hard),
                         ((256, hard), min(hard, 32768))):
        m = Monitor(test=t, preexec_fn=lambda limits=limits:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits))
        found = resource.prlimit(m.pid, resource.RLIMIT_NOFILE)
        t.point(found == (want, limits[1]), "%d of %d" % limits, str(found))
        m.close()


@test
def no_api_has_no_socket(t):
    config = t.write("config", "{}")
    code, _, _ = run("--no-api", "--config-file", config, "--api-sock",
                     t.path("socket"))
    assert code == 1 and not os.path.exists(t.path("socket"))


@test
def metrics_path_on_the_command_line(t):
    path = t.path("metrics")
    m = Monitor(test=t, args=["--metrics-path", path])
    fault = m.fault("PUT", "/metrics", {"metrics_path": path})
    assert "Reinitialization of metrics not allowed." in fault, fault
    assert os.path.exists(path)


@test
def startup_times_are_taken(t):
    skip_in_jail("every start in a jail has them")
    m = Monitor(test=t, args=[
        "--start-time-us", str(time.monotonic_ns() // 1000),
        "--start-time-cpu-us", "1", "--parent-cpu-time-us", "1000"])
    assert m.get("/version")


@test
def without_kvm_the_start_is_refused(t):
    """A machine without /dev/kvm: the API works, InstanceStart says why not."""
    binary = None
    if os.path.exists("/dev/kvm") and not injail.JAILER:
        probe = subprocess.run(
            ["unshare", "-m", "sh", "-c",
             "mount --bind /dev/null /dev/kvm"], capture_output=True)
        skip_unless(probe.returncode == 0, "/dev/kvm cannot be hidden here")
        binary = t.write("wrapper", (
            "#!/bin/sh\nexec unshare -m sh -c 'mount --bind /dev/null "
            "/dev/kvm; exec \"$0\" \"$@\"' %s \"$@\"\n" % ember.BINARY))
        os.chmod(binary, 0o755)
    m = Monitor(binary=binary, test=t)
    if m.jail:
        os.unlink(m.jail.root + "/dev/kvm")
    m.put("/boot-source", kernel_image_path=t.write("kernel", b"x"))
    fault = m.fault("PUT", "/actions", {"action_type": "InstanceStart"})
    assert "kvm" in fault.lower(), fault
    assert m.get("/")["state"] == "Not started"


if __name__ == "__main__":
    main()
