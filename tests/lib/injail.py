# SPDX-License-Identifier: Apache-2.0
"""Runs the tests' monitors in jails, when $EMBER_JAIL names the jailer.

A jail has a root of its own, but what the tests use (/tmp, the project, kernels)
is mounted in it at the same paths, which the jailer leaves as it is: so paths
mean the same on both sides, and tests need not know. The monitor is another
user; it shares files with the tests through its group.

Mounts are made in a mount namespace of the tests' own, to which the jails are
slaves: what a test mounts appears in the jail as well. A jail lies on a tmpfs
outside of what it shares and goes when that is unmounted: nothing here ever
removes a tree that has mounts in it.
"""
import atexit
import ctypes
import os
import stat
import tempfile

JAILER = os.environ.get("EMBER_JAIL")
UID = GID = 20000
DEFAULT_ID = "anonymous-instance"  # the monitor's, without a jailer
PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC = 0x1000, 0x4000
MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x40000, 0x80000, 0x100000
MNT_DETACH = 2
# Outside of all that is mounted in the jails.
WORLDS = "/run"
# What an orchestrator adds to a jail whose interfaces have "vhost", and what
# tests name as files of the wrong kind.
DEVICES = ("/dev/vhost-net", "/dev/null", "/dev/zero")
# Disks of guests: files, or a block device that only they read.
TOOLS = os.environ.get("EMBER_TOOLS", "")
# Limits that the jailer sets; others are inherited through it.
LIMITS = ("fsize", "no-file")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result:
        code = ctypes.get_errno()
        raise OSError(code, "%s: %s" % (what, os.strerror(code)))


def _mount(source, target, kind, flags):
    _check(_libc.mount(source.encode(), target.encode(),
                       kind.encode() if kind else None, flags, None),
           "mount " + target)


def share(path):
    """A directory of a test's, for the monitor in the jail as well: what is
    made in it from now on belongs to the jail's group."""
    if JAILER:
        os.chown(path, -1, GID)
        os.chmod(path, 0o2770)


def relative(path, directory):
    """A path as a monitor sees it that was started in @directory: in a jail it
    works in the root."""
    return os.path.relpath(path, "/" if JAILER else directory)


def _shared_paths():
    """Directories that jails have at the same paths; none inside another."""
    wanted = {"/tmp", PROJECT}
    for name in ("EMBER_GUESTS", "EMBER_ASSETS", "B"):
        if os.environ.get(name):
            wanted.add(os.path.realpath(os.environ[name]))
    if os.path.isfile(TOOLS):
        wanted.add(os.path.dirname(os.path.realpath(TOOLS)))
    return sorted(path for path in wanted if os.path.isdir(path) and not any(
        path.startswith(other + "/") for other in wanted))


class _World:
    """What all jails of this process have in common."""

    def __init__(self):
        # Files of tests are for them and for the jail's group.
        os.umask(0o007)
        _check(_libc.unshare(CLONE_NEWNS), "unshare")
        _mount("none", "/", None, MS_REC | MS_PRIVATE)
        _mount("none", "/", None, MS_REC | MS_SHARED)
        self.dir = tempfile.mkdtemp(prefix="ember-jails-", dir=WORLDS)
        _mount("jails", self.dir, "tmpfs", 0)
        _mount("none", self.dir, None, MS_PRIVATE)
        os.chmod(self.dir, 0o755)
        self.count = 0
        self.proc = False
        atexit.register(self._end, os.getpid())

    def _end(self, pid):
        if os.getpid() == pid:
            _libc.umount2(self.dir.encode(), MNT_DETACH)
            os.rmdir(self.dir)

    def new_base(self):
        self.count += 1
        return os.path.join(self.dir, str(self.count))


_world = _World() if JAILER else None


def give_proc(t=None):
    """From now on (until the end of this test) jails have a /proc: without one
    a monitor cannot tell which pages of a file's are its guest's own."""
    if JAILER:
        _world.proc = True
    if JAILER and t:
        t.defer(setattr, _world, "proc", False)


class Jail:
    """One jail, and the command that runs a monitor in it.

    @args     of the monitor; --id goes to the jailer
    @pass_fds descriptors that the monitor shall have
    @limits   resource limits; .inherited are those that the jailer has no
              option for
    """

    def __init__(self, binary, args, pass_fds, limits):
        binary = os.path.realpath(binary)
        args, name = self._without_id(args)
        self.base = _world.new_base()
        os.mkdir(self.base)
        _mount("jail", self.base, "tmpfs", 0)
        self.root = os.path.join(self.base, os.path.basename(binary), name,
                                 "root")
        for path in _shared_paths():
            self._bind(path)
        if _world.proc:
            self._bind("/proc")
        os.mkdir(self.root + "/dev")
        for path in filter(os.path.exists, DEVICES):
            self._add_device(path)
        if TOOLS.startswith("/dev/"):
            self._add_device(TOOLS)
        self.inherited = {name: value for name, value in limits.items()
                          if name not in LIMITS}
        self.command = [
            JAILER, "--id", name, "--exec-file", binary, "--uid", str(UID),
            "--gid", str(GID), "--chroot-base-dir", self.base,
            *(word for name in LIMITS if name in limits for word in (
                "--resource-limit", "%s=%d" % (name, limits[name]))),
            *(word for fd in pass_fds for word in ("--keep-fd", str(fd))),
            "--", *args]

    @staticmethod
    def _without_id(args):
        args = list(args)
        if "--id" not in args:
            return args, DEFAULT_ID
        at = args.index("--id")
        return args[:at] + args[at + 2:], args[at + 1]

    def _bind(self, path):
        target = self.root + path
        os.makedirs(target, 0o755)
        while target != self.base:  # whatever the umask is
            os.chmod(target, 0o755)
            target = os.path.dirname(target)
        _mount(path, self.root + path, None, MS_BIND | MS_REC)
        # What goes with the jail stays where it came from.
        _mount("none", self.root + path, None, MS_SLAVE | MS_REC)

    def _add_device(self, path):
        inside = self.root + path
        status = os.stat(path)
        os.mknod(inside, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev)
        os.chown(inside, UID, GID)

    def check(self, pid):
        """That the monitor really is in there."""
        assert os.stat("/proc/%d" % pid).st_uid == UID
        assert os.path.samefile("/proc/%d/root" % pid, self.root)

    def close(self):
        """The process is gone: so is everything that the jail had."""
        _libc.umount2(self.base.encode(), MNT_DETACH)
        try:
            os.rmdir(self.base)
        except OSError:  # something is mounted there still: it stays
            pass
