# SPDX-License-Identifier: Apache-2.0
"""Jails without root, and namespaces for the tests of them.

    own_mounts()                       # this process's mounts are its own
    jail = rootless(t)                 # of a user who can open KVM
    done = jail.run(prefix=AS_USER)
"""
import ctypes
import os
import shutil
import stat
import subprocess

import ember
import jail
from jail import GID, UID, Jail
from tap import Skip

CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000
MS_BIND = 0x1000
AS_USER = ("setpriv", "--reuid", str(UID), "--regid", str(GID),
           "--clear-groups")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args):
        raise OSError(ctypes.get_errno(), name)


def mount(source, target, kind=None, flags=0):
    _call("mount", *(x and x.encode() for x in (source, target, kind)),
          flags, None)


def own_mounts():
    """Moves this process into a mount namespace of its own, once."""
    if os.environ.get("TEST_OWN_MOUNTS") == str(os.getpid()):
        return
    try:
        _call("unshare", CLONE_NEWNS)
    except OSError as error:
        raise Skip("no mount namespace: %s" % error) from error
    os.environ["TEST_OWN_MOUNTS"] = str(os.getpid())
    mount(None, "/", None, MS_REC_PRIVATE)


def open_device(t, path, mode=0o666):
    """Everybody may open this device, until the test is over."""
    own_mounts()
    node = t.path(path.replace("/", "-"))
    if os.path.exists(node):
        return
    os.mknod(node, stat.S_IFCHR, os.stat(path).st_rdev)
    os.chmod(node, mode)
    mount(node, path, None, MS_BIND)
    t.defer(_call, "umount2", path.encode(), 2)


def need_user_namespaces():
    """Skips the running test where ordinary users may not make any."""
    done = subprocess.run([*AS_USER, "unshare", "--user", "true"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Skip("no user namespaces: " + done.stdout.decode().strip())


def landlock_abi():
    """0: this kernel has none."""
    create_ruleset, only_version = 444, 1
    return max(_libc.syscall(create_ruleset, None, 0, only_version), 0)


class UserJail(Jail):
    """A jail that an ordinary user makes: what that takes lies where it can be
    read, and belongs to the user. Run it with prefix=AS_USER."""

    def __init__(self, t, name="vm-1", binary="jailed", **arguments):
        jail.need_root()
        need_user_namespaces()
        source = arguments.pop("exec_file",
                               os.path.join(ember.GUESTS, binary))
        self._programs = t.path("programs")
        os.makedirs(self._programs, exist_ok=True)
        super().__init__(t, name, exec_file=self._copy(source),
                         **dict({"new_user_ns": True}, **arguments))
        self._jailer = self._copy(jail.JAILER)
        os.chown(self.base, UID, GID)

    def _copy(self, program):
        path = os.path.join(self._programs, os.path.basename(program))
        if not os.path.exists(path):
            shutil.copy(program, path)
        return path

    def command(self, *extra, prefix=(), **arguments):
        words = super().command(*extra, **arguments)
        return [*prefix, self._jailer, *words[1:]]


def rootless(t, name="vm-1", **arguments):
    """A UserJail whose user can open the devices."""
    for path in ("/dev/kvm", "/dev/net/tun"):
        if not os.path.exists(path):
            raise Skip(path + " does not exist")
        open_device(t, path)
    return UserJail(t, name, **arguments)


class JailedMonitor:
    """The monitor in a jail whose exec_file it is. @stays: the process that is
    started becomes the monitor."""

    def __init__(self, t, made, *extra, prefix=(), popen=None, stays=True,
                 **arguments):
        if ember.sanitized():
            raise Skip("sanitizers need libraries that no jail has")
        self.stays = stays
        self.jail = made
        self.socket_path = made.path("run/firecracker.socket")
        self.log = open(t.path("jail-%s.out" % made.arguments["id"]), "w+")
        self.process = subprocess.Popen(
            made.command(*extra, prefix=prefix, **arguments),
            stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, **(popen or {}))
        t.defer(self._end)
        t.attach("output of the jailed monitor", self.output)
        jail.wait_until(self._answers, "an API socket")

    def _answers(self):
        assert not self.stays or self.process.poll() is None, self.output()
        try:
            ember.Connection(self.socket_path).close()
            return True
        except OSError:
            return False

    def output(self):
        with open(self.log.name) as file:
            return file.read()

    def api(self, method, path, **body):
        """(status, answer)"""
        connection = ember.Connection(self.socket_path)
        response = connection.request(method, path, body)
        connection.close()
        return response.status, response.json

    def put(self, path, **body):
        return self.api("PUT", path, **body)

    def start(self, kernel):
        """(status, answer) of a start; @kernel is found inside."""
        self.put("/machine-config", vcpu_count=1, mem_size_mib=32)
        assert self.put("/boot-source", kernel_image_path=kernel)[0] == 204
        return self.put("/actions", action_type="InstanceStart")

    def wait(self):
        return self.process.wait(jail.TIMEOUT)

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def place(made, source, name, uid=UID, gid=GID):
    """A file for the monitor, put into the jail before it begins."""
    path = made.path(name)
    owned = [path]
    while not os.path.exists(os.path.dirname(owned[-1])):
        owned.append(os.path.dirname(owned[-1]))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(source, path)
    for each in owned:
        os.chown(each, uid, gid)
    return "/" + name
