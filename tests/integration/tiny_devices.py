# SPDX-License-Identifier: Apache-2.0
"""Serial port, keyboard, power, and accesses to nothing."""
import json
import os
import pty
import signal
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, TIMEOUT, guest, guest_points, need_kvm, shrink_pipe
from tap import main, test


def start(t, name, **options):
    need_kvm()
    boot_args = options.pop("boot_args", None)
    m = Monitor(test=t, **options)
    m.start(guest(name), boot_args=boot_args)
    return m


@test
def ends_of_the_guest(t):
    for how, code, reason in (
            ("i8042", 0, "Vmm is stopping"), ("s5", 0, "Vmm is stopping"),
            ("acpi_reset", 0, "Vmm is stopping"),
            ("s3", 0, "Vmm is stopping"), ("triple", 1, "triple fault"),
            ("nowhere", 1, "exit_code=1")):
        m = start(t, "power", boot_args=how)
        got = m.wait()
        t.point(got == code and reason in m.log, how,
                "exit code %s\n%s" % (got, m.log))


@test
def accesses_to_nothing(t):
    m = start(t, "nothing")
    assert m.wait() == 0
    guest_points(t, m.console)
    for what in ("port", "address"):
        warnings = m.log.count("unknown " + what)
        t.point(1 <= warnings <= 20, "few warnings of an unknown " + what,
                "%d" % warnings)


@test
def serial_echo(t):
    m = start(t, "echo")
    m.expect(b"ready\n")
    for text in (b"a", b"hello, guest", b"\0\x01\xff\x7f", b"line\r\n"):
        m.send(text)
        got = m.expect(text)
        assert got == text, got
    m.send(b"q")
    assert m.wait() == 0
    guest_points(t, m.console)


@test
def serial_input_loses_nothing(t):
    """Far more than the 64 bytes of the input FIFO, in one write."""
    m = start(t, "echo")
    m.expect(b"ready\n")
    text = b"".join(b"%06d " % number for number in range(300))
    m.send(text)
    assert m.expect(text[-7:]) == text
    m.send(b"q")
    assert m.wait() == 0


@test
def serial_input_typed_before_the_start(t):
    need_kvm()
    m = Monitor(test=t)
    m.send(b"early ")
    m.start(guest("echo"))
    m.expect(b"early ")
    m.send(b"q")
    assert m.wait() == 0


def thread_seconds(pid, tid):
    with open("/proc/%d/task/%d/stat" % (pid, tid)) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@test
def end_of_input_is_no_end(t):
    m = start(t, "counter", boot_args="quiet")
    m.expect(b"counting\n")
    m.process.stdin.close()
    time.sleep(0.5)
    assert m.get("/")["state"] == "Running"
    # A pipe at its end is readable for ever: the loop must not spin on it.
    used = thread_seconds(m.pid, m.pid)
    assert used < 0.25, "the loop thread used %g s of CPU" % used


@test
def input_from_a_file_is_not_read(t):
    typed = t.write("typed", b"from a file")
    with open(typed) as file:
        m = start(t, "echo", stdin=file)
        m.expect(b"ready\n")
        time.sleep(0.1)
        assert file.tell() == 0 and b"from" not in m.console


@test
def full_console_stalls_nobody(t):
    """Nobody reads the guest's output; it goes on, and bytes are counted."""
    need_kvm()
    end, full = os.pipe()
    t.defer(os.close, end)
    shrink_pipe(full)
    metrics = t.path("metrics")
    m = Monitor(test=t, stdout=full, args=["--metrics-path", metrics])
    os.close(full)
    m.start(guest("counter"))
    deadline = time.monotonic() + 6 * TIMEOUT
    missed = 0
    while not missed:
        assert time.monotonic() < deadline, "nothing was dropped"
        time.sleep(0.2)
        m.put("/actions", action_type="FlushMetrics")
        with open(metrics) as file:
            line = file.read().splitlines()[-1]
        missed = json.loads(line)["uart"]["missed_write_count"]
    assert m.get("/")["state"] == "Running"


@test
def ctrl_alt_del_arrives_as_scancodes(t):
    m = start(t, "keyboard")
    m.expect(b"ready\n")
    m.put("/actions", action_type="SendCtrlAltDel")
    assert m.wait() == 0
    lines = guest_points(t, m.console)
    codes = [line.split()[1] for line in lines if line.startswith("scancode")]
    assert codes == ["0x14", "0x11", "0xe0", "0x71"], codes


@test
def unread_ctrl_alt_del_is_bounded(t):
    """A guest that never looks at its keyboard."""
    m = start(t, "counter")
    for _ in range(20):
        status, body = m.api("PUT", "/actions",
                             {"action_type": "SendCtrlAltDel"})
        assert status in (204, 400), (status, body)
    assert m.get("/")["state"] == "Running"


@test
def terminal_is_raw_and_put_back(t):
    """Standard input is a terminal: raw while the guest runs, as before
    afterwards, also when a signal ends the monitor."""
    need_kvm()
    for how in ("guest", "signal"):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        m = Monitor(test=t, stdin=theirs)
        m.start(guest("echo"))
        m.expect(b"ready\n")
        raw = not termios.tcgetattr(theirs)[3] & (termios.ICANON
                                                  | termios.ECHO)
        os.write(ours, b"\x04x")
        m.expect(b"\x04x")
        if how == "guest":
            os.write(ours, b"q")
            assert m.wait() == 0
        else:
            m.signal(signal.SIGHUP)
            assert m.wait() == 156
        after = termios.tcgetattr(theirs)
        t.point(raw and after == before, how, "raw %s\n%s\n%s" % (
            raw, before, after))
        os.close(ours)
        os.close(theirs)


if __name__ == "__main__":
    main()
