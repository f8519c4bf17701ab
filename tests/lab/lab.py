#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs jobs on a Debian host with working KVM, on any machine.

A job is a directory. On the host it appears as /job; the command runs in it;
what it leaves in /job/out comes back. See README.md.
"""

import argparse
import contextlib
import fcntl
import io
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import assets
import machine
from cpio import Cpio
from steps import (LabError, cache_dir, digest, file_bytes, heartbeat, need,
                   say, step)

LAB_FAILED = 125
TIMED_OUT = 124
DEFAULT_TIMEOUT = 300
GO_SECONDS = 45
# How often, in its own time, an emulator that counts is looked at.
PULSE_CPU_SECONDS = 20
COUNTED_STARTS = 3
RUN = """export HOME=/tmp TMPDIR=/tmp LC_ALL=C.UTF-8
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export EMBER_ASSETS=/assets TEST_SLOW=10
%s
exec timeout -k 5 %d %s
"""


class Result:
    """How a job ended: exit code, and how many starts it took."""

    def __init__(self, code, starts, console):
        self.code = code
        self.starts = starts
        self.console = console


@contextlib.contextmanager
def lane():
    """A permission to run: more hosts at once than processors gain nothing.
    Held by lock files, so that it counts over all test runs."""
    base = os.path.join(cache_dir(), "lanes")
    os.makedirs(base, exist_ok=True)
    while True:
        for number in range(os.cpu_count() or 1):
            handle = open(os.path.join(base, str(number)), "w")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.close()
                continue
            with handle:
                yield
            return
        time.sleep(0.1)


def script(command, timeout, environment):
    """The shell script that runs the job on the host. The limit inside is
    the shorter one, so that a stuck job still hands back its results."""
    exports = "".join("export %s=%s\n" % (name, shlex.quote(value))
                      for name, value in environment.items())
    quoted = " ".join(shlex.quote(word) for word in command)
    return (RUN % (exports, max(timeout - 5, 5), quoted)).encode()


def _tar_add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _without_results(info):
    """What an earlier run of the job left behind stays at home."""
    return None if (info.name + "/").startswith("job/out/") else info


def _job_disk(path, job, run):
    """The job as a disk: a tar behind the first MiB. It brings the time and
    randomness of the day, which a restored host lacks."""
    machine.blank(path, machine.JOB_DISK_MIB)
    with open(path, "r+b") as disk:
        disk.seek(machine.MIB)
        with tarfile.open(fileobj=disk, mode="w") as tar:
            tar.add(job, "job", filter=_without_results)
            _tar_add(tar, "job/.lab/run", run)
            _tar_add(tar, "job/.lab/seed", os.urandom(64))
            _tar_add(tar, "job/.lab/clock", b"%d" % time.time())
        if disk.tell() > machine.JOB_DISK_MIB * machine.MIB:
            raise LabError("the job is larger than its disk, %d MiB"
                           % machine.JOB_DISK_MIB)


def _collect(archive, job):
    """Unpacks results over <job>/out; none is an empty directory."""
    out = os.path.join(job, "out")
    os.makedirs(out, exist_ok=True)
    subprocess.run(["tar", "-xf", archive, "-C", job, "--no-same-owner"],
                   stderr=subprocess.DEVNULL, check=False)


class Lab:
    """The full lab. Building it may take a minute, the first time."""

    def __init__(self):
        need(machine.QEMU, "tar")
        self.base = assets.base()
        self.root = assets.root() + "/disk"
        self.guest = assets.guest()
        self.checkpoint = self._checkpoint()

    def _line(self, job, out, guest):
        return machine.full_line(self.base, (self.root, job, out, guest))

    def _checkpoint(self):
        """Step: "ram" and "state" of a host that waits for its job."""
        def build(directory):
            job = machine.blank(directory + "/job", machine.JOB_DISK_MIB)
            out = machine.blank(directory + "/out", machine.OUT_DISK_MIB)
            guest = machine.blank(directory + "/guest",
                                  assets.GUEST_DISK_MIB)
            with heartbeat("booting the host for its checkpoint"):
                machine.checkpoint(directory, self._line(job, out, guest))
            for path in (job, out, guest):
                os.unlink(path)

        key = digest(machine.version(), self.base, self.root,
                     file_bytes("machine.py"))
        return step("checkpoint", key, build)

    def _once(self, job, run, timeout, on_output):
        """One start; Result, or None when the host never got going, or
        stopped dead: the emulator does that to one host in a hundred."""
        with tempfile.TemporaryDirectory(prefix="ember-lab-") as temp:
            disk, out = temp + "/job", temp + "/out"
            _job_disk(disk, job, run)
            machine.blank(out, machine.OUT_DISK_MIB)
            line = self._line(disk, out, self.guest + "/disk")
            with machine.Machine(temp, line, self.checkpoint + "/ram", True,
                                 on_output) as host:
                machine.resume(host, self.checkpoint)
                if not host.saw(machine.GO, GO_SECONDS):
                    say("the host never started:\n" + host.tail())
                    return None
                ended = host.wait_while_alive(timeout)
                if not ended and host.silent():
                    say("the host stopped dead:\n" + host.tail())
                    return None
            _collect(out, job)
            code = host.code() if ended else TIMED_OUT
            return Result(LAB_FAILED if code is None else code, 1,
                          host.console)

    def run(self, job, command, timeout=DEFAULT_TIMEOUT, environment=None,
            on_output=None, on_restart=None):
        """Runs @command in @job; twice if the host fails, not the job: then
        on_restart() says that what on_output(bytes) got is void."""
        run = script(command, timeout, environment or {})
        for starts in (1, 2):
            if starts > 1 and on_restart:
                on_restart()
            with lane():
                result = self._once(job, run, timeout, on_output)
            if result:
                result.starts = starts
                return result
        return Result(LAB_FAILED, 2, b"")


def cpu_seconds(pid):
    """What a process has used so far."""
    with open("/proc/%d/stat" % pid) as source:
        words = source.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def ends(host, timeout):
    """Whether an emulator ends in so many seconds. One that hangs is busy, but
    its registers stay as they are."""
    end = time.monotonic() + timeout
    before, looked = None, 0
    while time.monotonic() < end:
        if host.wait(1):
            return True
        used = cpu_seconds(host.process.pid)
        if used - looked < PULSE_CPU_SECONDS:
            continue
        now, looked = host.registers(), used
        if now is not None and now == before:
            return False
        before = now
    return False


class CountedLab:
    """The lab for measuring: virtual time is the number of instructions.
    Without @python the host has only busybox, and starts faster."""

    def __init__(self, python=False, mode="off", seed=1):
        need(machine.QEMU, "tar")
        self.base = assets.base()
        self.parts = [self.base + "/initrd"]
        if python:
            self.parts.insert(0, assets.root_archive() + "/cpio")
        self.guest = assets.guest() + "/files"
        self.mode = mode
        self.seed = seed

    def _initrd(self, path, job, run, files):
        """Archives one after the other: later entries win."""
        archive = Cpio()
        archive.tree(job, "job", skip="job/out")
        archive.file("job/.lab/run", run)
        for name in files:
            with open(os.path.join(self.guest, name), "rb") as source:
                archive.file("assets/" + name, source.read())
        with open(path, "wb") as out:
            for part in self.parts:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, out)
            out.write(archive.bytes())

    def _once(self, job, run, timeout, files, on_output, seed):
        with tempfile.TemporaryDirectory(prefix="ember-lab-") as temp:
            self._initrd(temp + "/initrd", job, run, files)
            line = machine.count_line(self.base + "/vmlinuz",
                                      temp + "/initrd", self.mode, seed)
            with machine.Machine(temp, line, temp + "/ram",
                                 on_output=on_output,
                                 results=temp + "/out") as host:
                if not ends(host, timeout):
                    return None
            _collect(temp + "/out", job)
            code = host.code()
            return Result(LAB_FAILED if code is None else code, 1,
                          host.console)

    def run(self, job, command, timeout=DEFAULT_TIMEOUT, environment=None,
            on_output=None, files=("bzImage", "initrd")):
        """Runs @command in @job with the named guest files in /assets. The
        emulator hangs now and then when it counts, and does so every time
        with the same job and seed: it is tried again with the next one."""
        run = script(command, timeout, environment or {})
        for starts in range(1, COUNTED_STARTS + 1):
            with lane():
                result = self._once(job, run, timeout, files, on_output,
                                    self.seed + starts - 1)
            if result:
                result.starts = starts
                return result
            say("it hung, or did not end within %d s (start %d)"
                % (timeout, starts))
        return Result(TIMED_OUT, COUNTED_STARTS, b"")


def _print_bytes(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _pairs(words):
    """NAME=VALUE words as a dictionary."""
    return dict(word.split("=", 1) for word in words)


def do_assets(_):
    """Prints the paths of what Linux guests boot, one NAME=PATH a line."""
    files = assets.guest() + "/files"
    for name in sorted(os.listdir(files)):
        print("%s=%s" % (name, os.path.join(files, name)))
    return 0


def do_prepare(_):
    """Builds everything that a job needs."""
    Lab()
    return 0


def do_run(options):
    result = Lab().run(options.job, options.command, options.timeout,
                       _pairs(options.env), _print_bytes)
    if result.starts > 1:
        say("the host needed %d starts" % result.starts)
    return result.code


def do_count(options):
    lab = CountedLab(options.python, options.sleep, options.seed)
    result = lab.run(options.job, options.command, options.timeout,
                     _pairs(options.env), _print_bytes,
                     [name for name in options.files.split(",") if name])
    return result.code


def parser():
    top = argparse.ArgumentParser(description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("assets", help=do_assets.__doc__).set_defaults(
        function=do_assets)
    commands.add_parser("prepare", help=do_prepare.__doc__).set_defaults(
        function=do_prepare)
    job = argparse.ArgumentParser(add_help=False)
    job.add_argument("--job", required=True, help="directory of the job")
    job.add_argument("--timeout", type=int, default=DEFAULT_TIMEOUT)
    job.add_argument("--env", action="append", default=[],
                     metavar="NAME=VALUE")
    job.add_argument("command", nargs="+")
    run = commands.add_parser("run", parents=[job],
                              help="run a command on the restored host")
    run.set_defaults(function=do_run)
    count = commands.add_parser("count", parents=[job],
                                help="run one while counting instructions")
    count.add_argument("--python", action="store_true")
    count.add_argument("--sleep", choices=("off", "on"), default="off")
    count.add_argument("--seed", type=int, default=1)
    count.add_argument("--files", default="bzImage,initrd")
    count.set_defaults(function=do_count)
    return top


def main():
    options = parser().parse_args()
    try:
        return options.function(options)
    except LabError as error:
        say(str(error))
        return LAB_FAILED


if __name__ == "__main__":
    sys.exit(main())
