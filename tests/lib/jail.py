# SPDX-License-Identifier: Apache-2.0
"""Makes jails, and tells what became of the host's files.

    jail = Jail(t)                     # a base directory and a name
    done = jail.run("--wait")          # the jailer, to its end
    seen = jail.report(done.out)       # what the program in the jail saw
    before = jail.listing()            # paths, modes, owners, contents

The program is tests/lib/jailed.c. Arguments of the jailer are keywords
(netns="/run/x", daemonize=True); a list is given as often as it is long.
"""
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import ember
from tap import SLOW, skip_unless

JAILER = os.environ.get("EMBER_JAILER", os.path.join(
    os.path.dirname(ember.BINARY), "ember-jailer"))
TIMEOUT = 20 * SLOW
UID, GID = 4321, 8765
MODES = ({}, {"new_pid_ns": True}, {"daemonize": True},
         {"daemonize": True, "new_pid_ns": True})
# A jailer with sanitizers cannot look for leaks where there is no /proc.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")
NODES = {"dev/kvm": (10, 232), "dev/net/tun": (10, 200),
         "dev/urandom": (1, 9)}


def need_root():
    skip_unless(os.geteuid() == 0, "jails are made by root")


def misc_minor(name):
    """The number of a driver that not every kernel has, or None."""
    with open("/proc/misc") as file:
        rows = dict(reversed(line.split()) for line in file)
    return int(rows[name]) if name in rows else None


def nodes():
    """{path in the jail: (major, minor)} of what this host's jails have."""
    minor = misc_minor("userfaultfd")
    more = {} if minor is None else {"dev/userfaultfd": (10, minor)}
    return dict(NODES, **more)


def mode_name(mode):
    return "+".join(sorted(mode)) or "plain"


def listing(top):
    """{path: what it is} of everything below a directory, itself included."""
    found = {}
    for path in [top] + [os.path.join(where, name)
                         for where, dirs, files in os.walk(top)
                         for name in dirs + files]:
        st = os.lstat(path)
        content = None
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        found[os.path.relpath(path, top)] = (
            oct(st.st_mode), st.st_uid, st.st_gid, st.st_nlink
            if not stat.S_ISDIR(st.st_mode) else 0, st.st_rdev, content)
    return found


def difference(before, after):
    """What tells two listings apart, for people."""
    short = {True: lambda v: str(v)[:80], False: lambda v: "nothing"}
    return "\n".join(
        "%s: %s -> %s" % (path, short[path in before](before.get(path)),
                          short[path in after](after.get(path)))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path))


class Report:
    """What the program in the jail said, line by line."""

    def __init__(self, text):
        self.text = text
        self.rows = [line.partition(" ")[::2] for line in text.splitlines()]
        assert self.rows and self.rows[-1][0] == "end", text

    def all(self, key):
        return [value for name, value in self.rows if name == key]

    def one(self, key):
        (value,) = self.all(key)
        return value


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return "exit code %d\n%s%s" % (self.code, self.out, self.err)


class Jail:
    """One name in one base directory, and what the jailer is told of it."""

    def __init__(self, t, name="vm-1", binary="jailed", **arguments):
        need_root()
        self.base = t.path("base")
        self.arguments = dict(
            {"id": name, "uid": UID, "gid": GID,
             "exec_file": os.path.join(ember.GUESTS, binary),
             "chroot_base_dir": self.base}, **arguments)
        os.makedirs(self.base, exist_ok=True)
        os.chmod(t.dir, 0o755)
        self.pids = []
        t.defer(self._kill)

    @property
    def binary(self):
        return os.path.basename(os.path.realpath(self.arguments["exec_file"]))

    @property
    def dir(self):
        return os.path.join(self.base, self.binary, self.arguments["id"])

    def path(self, name=""):
        """A path in the jail's root, as the host sees it."""
        return os.path.join(self.dir, "root", name) if name else os.path.join(
            self.dir, "root")

    def command(self, *extra, prefix=(), **arguments):
        """The jailer's command line. An argument that is None is left out."""
        words = []
        for name, value in dict(self.arguments, **arguments).items():
            name = "--" + name.replace("_", "-")
            if value is True:
                words.append(name)
            elif value is not None and value is not False:
                values = value if isinstance(value, list) else [value]
                words += [w for v in values for w in (name, str(v))]
        return [*prefix, JAILER, *words, *(["--", *extra] if extra else [])]

    def run(self, *extra, prefix=(), popen=None, **arguments):
        """Runs it to its end, with standard input at its end."""
        with tempfile.TemporaryFile("w+") as out, \
                tempfile.TemporaryFile("w+") as err:
            # Files, because whoever stays behind would hold a pipe open.
            done = subprocess.run(
                self.command(*extra, prefix=prefix, **arguments),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                timeout=TIMEOUT, **(popen or {}))
            out.seek(0)
            err.seek(0)
            return Done(done.returncode, out.read(), err.read())

    def start(self, *extra, **arguments):
        """Starts it, with a pipe as standard input that `--wait` waits on."""
        return subprocess.Popen(self.command(*extra, **arguments), text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def report(self, text=None, name="report"):
        """Parsed; without a text, of `--to /NAME`, when it is complete."""
        if text is not None:
            return Report(text)
        wait_until(lambda: os.path.exists(self.path(name))
                   and self.read(name).endswith("end\n"), "a report")
        return Report(self.read(name))

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    @property
    def pid(self):
        """From the pid file; it is killed when the test is over."""
        text = self.read(self.binary + ".pid")
        assert text.isdigit(), repr(text)
        self.pids.append(int(text))
        return int(text)

    def listing(self):
        return listing(self.base)

    def _kill(self):
        for pid in self.pids:
            end(pid)


def end(pid):
    """Kills a process that is not ours, and waits for its end."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until(lambda: not alive(pid), "the end of %d" % pid)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what):
    limit = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < limit, "no sign of " + what
        time.sleep(0.005)


def token():
    """A part of a name that no other test run has."""
    return secrets.token_hex(4)


class Cgroups:
    """The directories of one name in the host's hierarchies."""

    def __init__(self, t, roots, name=None):
        self.roots = roots
        self.name = name or "ember-test-" + token()
        t.defer(self.remove)

    def paths(self):
        """Which there are now, parents first."""
        return [where for root in self.roots
                for where, _, _ in os.walk(os.path.join(root, self.name))]

    def remove(self):
        for path in reversed(self.paths()):
            os.rmdir(path)


def cgroup_of(pid):
    """{controllers: path} of a process."""
    with open("/proc/%s/cgroup" % pid) as file:
        return {row[1]: row[2] for row in
                (line.rstrip("\n").split(":", 2) for line in file)}


def loop_copy(source, target):
    """A file of our own with the same content and mode."""
    shutil.copy(source, target)
    return target
