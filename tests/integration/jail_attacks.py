#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program in the monitor's place tries to get out of the jail
(tests/attacks). What must be in the way of which attack is in its tables; here
are the jails it is put into, and what lies around them."""
import fcntl
import os
import pty
import select
import shutil
import socket
import stat
import subprocess
import sys
import termios

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import ember
import jailnet
from jail import GID, TIMEOUT, UID, Jail, need_root, token
from jailnet import AS_USER, landlock_abi, rootless
from network import own_network
from tap import main, test

ATTACK = os.path.join(ember.GUESTS, "attack")
NODES = {"tun": (0o666, (10, 200)), "kmsg": (0o600, (1, 11))}

# Arguments of the jailer, and the walls that stand then. The first is what
# one gets without asking for anything.
AS_ROOT = (
    ("plain", {}, "jail,landlock"),
    ("no landlock", {"no_landlock": True}, "jail"),
    ("PID namespace", {"new_pid_ns": True}, "jail,landlock,pidns"),
    ("network namespace", {"new_net_ns": True}, "jail,landlock,netns"),
    ("namespaces, no landlock", {"new_pid_ns": True, "new_net_ns": True,
                                 "no_landlock": True}, "jail,pidns,netns"),
)
ROOTLESS = (
    ("plain", {}, "jail,landlock,userns"),
    ("no landlock", {"no_landlock": True}, "jail,userns"),
    ("PID namespace", {"new_pid_ns": True}, "jail,landlock,userns,pidns"),
    ("network namespace", {"new_net_ns": True}, "jail,landlock,userns,netns"),
)
CLASSES = ("loop", "api", "vcpu", "memory")


class Victim:
    """A process of the jail's user that would notice a signal."""

    def __init__(self, t, process):
        self.process = process
        t.defer(self._end)
        assert process.stdout.readline() == "READY\n"

    @property
    def pid(self):
        return self.process.pid

    def was_hit(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 0.2)
        return bool(ready) and self.process.stdout.readline() == "HIT\n"

    def _end(self):
        self.process.kill()
        self.process.communicate()


class Ground:
    """What there is to attack: a secret, sockets, two victims, a terminal."""

    def __init__(self, t):
        need_root()
        own_network()
        far_pids()
        self.dir = t.path("outside")
        self.secret = os.path.join(self.dir, "secret")
        self.abstract = "ember-" + token()
        os.chmod(t.dir, 0o755)
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o777)
        t.write("outside/secret", "secret")
        self.listeners = self._listen()
        for listener in self.listeners:
            t.defer(listener.close)
        self.port = self.listeners[0].getsockname()[1]
        self.program = shutil.copy(ATTACK, t.path("attack"))
        self.outside = Victim(t, subprocess.Popen(
            [*AS_USER, self.program, "--role", "victim"], text=True,
            stdout=subprocess.PIPE))
        self.sibling = Victim(t, Jail(t, "sibling", binary="attack").start(
            "--role", "victim"))
        self.terminal = pty.openpty()
        self.kept = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY)
        self.left = os.dup(self.kept)
        for fd in (*self.terminal, self.kept, self.left):
            t.defer(os.close, fd)

    def _listen(self):
        tcp, name, path = (socket.socket(family) for family in (
            socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX))
        tcp.bind(("127.0.0.1", 0))
        name.bind("\0" + self.abstract)
        path.bind(self.secret + ".sock")
        os.chmod(self.secret + ".sock", 0o777)
        for listener in (tcp, name, path):
            listener.listen(64)
        return tcp, name, path

    def words(self, walls, **more):
        values = dict({
            "walls": walls, "outside": self.outside.pid,
            "sibling": self.sibling.pid, "secret": self.secret,
            "abstract": self.abstract, "port": self.port,
            "keep": self.kept}, **more)
        return [w for name, value in values.items()
                for w in ("--" + name, str(value))]

    def popen(self):
        """Session leader of a terminal, with a directory to hand over, and
        something in environment and descriptors that stays outside."""
        return {"pass_fds": [self.kept, self.left],
                "stdin": self.terminal[1], "start_new_session": True,
                "env": {"PATH": os.environ["PATH"]},
                "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}


def far_pids():
    """Victims get ids that no process in a PID namespace of its own has."""
    with open("/proc/sys/kernel/ns_last_pid", "r+") as file:
        if int(file.read()) < 20000:
            file.seek(0)
            file.write("20000")


def plant(directory, owner):
    """What somebody careless may have left in a jail."""
    os.makedirs(directory)
    suid = shutil.copy(ATTACK, os.path.join(directory, "suid"))
    os.chmod(suid, 0o4755)
    for name, (mode, numbers) in NODES.items():
        path = os.path.join(directory, name)
        os.mknod(path, stat.S_IFCHR, os.makedev(*numbers))
        os.chmod(path, mode)
    while directory.startswith(owner):
        os.chown(directory, UID, GID)
        directory = os.path.dirname(directory)


def points(t, where, text):
    """The program's lines become points of the test."""
    lines = [line for line in text.splitlines()
             if line.startswith(("ok ", "not ok "))]
    for line in lines:
        good, _, name = line.partition(" - ")
        t.point(good.startswith("ok"), "%s: %s" % (where, name))
    t.point(text.endswith("1..%d\n" % len(lines)) and len(lines) > 90,
            where + ": all were tried", text[-2000:])


def attack(t, ground, jail, name, walls, prefix=(), **more):
    """One jail, one run."""
    class_name = more.pop("class_name", None)
    where = name + (class_name and ", %s filter" % class_name or "")
    words = ground.words(walls, **(
        {"class": class_name} if class_name else {}))
    # To the end of the output: the jailer may end before the program does.
    done = subprocess.run(
        jail.command(*words, prefix=prefix, keep_fd=ground.kept, **more),
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=3 * TIMEOUT, **ground.popen())
    points(t, where, done.stdout)
    t.point(not ground.outside.was_hit() and not ground.sibling.was_hit(),
            where + ": nobody outside was hit", done.stderr)


@test
def attacks_are_real(t):
    """As root and in no jail each of them works: else it would prove nothing
    when it does not."""
    ground = Ground(t)
    jailnet.own_mounts()
    plant(t.path("scratch"), t.path("scratch"))
    done = subprocess.run(
        [ground.program, *ground.words("", scratch=t.path("scratch"),
                                       program=ground.program)],
        text=True, stdout=subprocess.PIPE, timeout=TIMEOUT,
        **ground.popen())
    points(t, "no jail", done.stdout)
    os.kill(ground.outside.pid, 10)
    t.point(ground.outside.was_hit(), "victims notice when they are hit")


@test
def jail_alone(t):
    ground = Ground(t)
    for number, (name, arguments, walls) in enumerate(AS_ROOT):
        jail = Jail(t, "root-%d" % number, binary="attack")
        plant(jail.path("run"), jail.path("run"))
        attack(t, ground, jail, name, walls, **arguments)


@test
def jail_and_filter(t):
    ground = Ground(t)
    for class_name in CLASSES:
        for number, (name, arguments, walls) in enumerate(AS_ROOT[:2]):
            jail = Jail(t, "%s-%d" % (class_name, number), binary="attack")
            plant(jail.path("run"), jail.path("run"))
            attack(t, ground, jail, name, walls, class_name=class_name,
                   **arguments)


@test
def jail_without_root(t):
    ground = Ground(t)
    for number, (name, arguments, walls) in enumerate(ROOTLESS):
        jail = rootless(t, "user-%d" % number, binary="attack")
        plant(jail.path("run"), jail.base)
        attack(t, ground, jail, name, walls, prefix=AS_USER, **arguments)


@test
def jail_without_root_and_filter(t):
    ground = Ground(t)
    for class_name in CLASSES:
        jail = rootless(t, class_name, binary="attack")
        plant(jail.path("run"), jail.base)
        attack(t, ground, jail, *("rootless", ROOTLESS[0][2]),
               prefix=AS_USER, class_name=class_name)


@test
def signals_to_everybody(t):
    """kill -1: all processes that may be signalled, but for oneself."""
    ground = Ground(t)
    scoped = landlock_abi() >= 6
    for number, (name, arguments, walls) in enumerate(AS_ROOT):
        jail = Jail(t, "all-%d" % number, binary="attack")
        jail.run("--role", "signaller", **arguments)
        held = "pidns" in walls or ("landlock" in walls and scoped)
        for who, victim in (("outside", ground.outside),
                            ("sibling", ground.sibling)):
            t.point(victim.was_hit() != held, "%s: %s %s" % (
                name, who, "is not hit" if held else "is hit"))


if __name__ == "__main__":
    main()
