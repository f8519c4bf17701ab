# SPDX-License-Identifier: Apache-2.0
"""Every stage can fail, and leaves everything as it was; what others planted
leads nowhere."""
import ctypes
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
from jail import GID, MODES, UID, Jail, difference, mode_name
from tap import main, test

SWAPS = 60


def without(*capabilities):
    """A caller that lacks these."""
    names = ",".join("-" + name for name in capabilities)
    return {"prefix": ("setpriv", "--bounding-set", names)}


def at(call, action):
    """A prefix that does something in the midst of a system call."""
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call,
            "-e", "inject=%s:%s:when=1" % (call, action))


def plant_link(name, target="/etc"):
    def plant(jail):
        os.makedirs(os.path.dirname(jail.path(name)), exist_ok=True)
        os.symlink(target, jail.path(name))
        return {}
    return plant


def plant_file(name):
    def plant(jail):
        os.makedirs(os.path.dirname(jail.path(name)), exist_ok=True)
        with open(jail.path(name), "w") as file:
            file.write("theirs")
        return {}
    return plant


def plant_directory(name):
    def plant(jail):
        os.makedirs(jail.path(name))
        return {}
    return plant


def plant_fifo(jail):
    os.makedirs(jail.path())
    os.mkfifo(jail.path("jailed"))
    return {}


def plant_hard_link(jail):
    os.makedirs(jail.path())
    with open(os.path.join(jail.base, "victim"), "w") as file:
        file.write("the victim's")
    os.link(os.path.join(jail.base, "victim"), jail.path("jailed"))
    return {}


def plant_root_link(jail):
    os.makedirs(jail.dir)
    os.mkdir(os.path.join(jail.base, "victim"))
    os.symlink("../../victim", jail.path())
    return {}


def plant_id_link(jail):
    os.makedirs(os.path.dirname(jail.dir))
    os.mkdir(os.path.join(jail.base, "victim"))
    os.symlink("../victim", jail.dir)
    return {}


def plant_node(jail):
    os.makedirs(jail.path("dev"))
    os.mknod(jail.path("dev/kvm"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return {}


def broken(content, mode=0o755):
    def plant(jail):
        os.mkdir(jail.base + "-bin")
        path = os.path.join(jail.base + "-bin", "broken")
        with open(path, "w") as file:
            file.write(content)
        os.chmod(path, mode)
        return {"exec_file": path}
    return plant


def lock(jail):
    """Somebody else's jailer; the lock goes with the descriptor."""
    os.makedirs(jail.dir)
    jail.lock = os.open(jail.dir, os.O_RDONLY)
    fcntl.flock(jail.lock, fcntl.LOCK_EX)
    return {}


def read_only(jail):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", jail.base],
                   check=True)
    return {}


def of(**arguments):
    return lambda jail: arguments


def many(jail):
    return {"cgroup": ["x%d.y=1" % n for n in range(65)]}


STAGES = (
    ("directory cannot be made", read_only,
     "Failed to create directory jailed of "),
    ("directory is a link", plant_id_link, "Failed to create directory vm-1"),
    ("root is a link", plant_root_link, "Failed to create directory root of"),
    ("locked", lock, "Another jailer is at work in "),
    ("binary is a link", plant_link("jailed"), "Failed to open %s/jailed: "
     "Symbolic link loop (os error 40)"),
    ("binary is a dangling link", plant_link("jailed", "/nowhere"),
     "Failed to open %s/jailed: Symbolic link loop (os error 40)"),
    ("binary is a hard link", plant_hard_link,
     "Detected hard link at: %s/jailed"),
    ("binary is a FIFO", plant_fifo, "Failed to open %s/jailed: "),
    ("binary is a directory", plant_directory("jailed"),
     "Failed to open %s/jailed: Is a directory"),
    ("link where there is a file", lambda jail: dict(
        plant_file("jailed")(jail), exec_by="link"),
     "Failed to link %s/jailed: File exists"),
    ("mount where there is a file", lambda jail: dict(
        plant_file("jailed")(jail), exec_by="bind"),
     "Failed to create %s/jailed: File exists"),
    ("no network namespace", of(netns="/proc/self/ns/uts"),
     "/proc/self/ns/uts is not a network namespace"),
    ("no such controller", of(cgroup="nonesuch.x=1"),
     "Controller nonesuch is unavailable"),
    ("too many cgroup values", many,
     "The argument 'cgroup' was provided more than 64 times."),
    ("no right to mount", of(**without("sys_admin")),
     "Failed to unshare the mount namespace: Operation not permitted"),
    ("no right to mount, binary bound", of(
        exec_by="bind", **without("sys_admin")),
     "Failed to unshare the mount namespace: Operation not permitted"),
    ("dev is a link", plant_link("dev"),
     "Failed to create directory /dev in the jail: "),
    ("dev is a file", plant_file("dev"),
     "Failed to create directory /dev in the jail: Not a directory"),
    ("dev/net is a link", plant_link("dev/net", "../run"),
     "Failed to create directory /dev/net in the jail: "),
    ("run is a link", plant_link("run", "/dev"),
     "Failed to create directory /run in the jail: "),
    ("run is a file", plant_file("run"),
     "Failed to create directory /run in the jail: Not a directory"),
    ("node is there", plant_node,
     "Failed to create /dev/kvm in the jail: File exists (os error 17)"),
    ("node is a link", plant_link("dev/net/tun", "/etc/passwd"),
     "Failed to create /dev/net/tun in the jail: File exists"),
    ("no right to make nodes", of(**without("mknod")),
     "Failed to create /dev/kvm in the jail: Operation not permitted"),
    ("no right to give away", of(**without("chown")),
     "Operation not permitted (os error 1)"),
    ("pid file is there", plant_file("jailed.pid"),
     "Failed to write %s/jailed.pid: File exists (os error 17)"),
    ("pid file is a link", plant_link("jailed.pid", "/tmp/x"),
     "Failed to write %s/jailed.pid: File exists (os error 17)"),
    ("limit above the kernel's", of(resource_limit="no-file=18446744073709551"
                                    "615"),
     "Failed to set the limit no-file to "),
    ("no right to drop capabilities", of(**without("setpcap")),
     "Failed to empty the bounding set: Operation not permitted"),
    ("no right to be another group", of(**without("setgid")),
     "Failed to drop groups: Operation not permitted"),
    ("no right to be another user", of(**without("setuid")),
     "Failed to become user 4321: Operation not permitted"),
    ("no keyring", of(prefix=at("keyctl", "error=EDQUOT")),
     "Failed to leave the session's keys: "),
    ("an older kernel's descriptors", of(prefix=at(
        "close_range", "error=ENOSYS")), "Cannot close inherited descriptors: "
     "Function not implemented (os error 38)"),
    ("a container's mounts", of(prefix=at("open_tree", "error=EPERM")),
     "Failed to copy the mount of %s: Operation not permitted (os error 1)"),
    ("no program", broken("this is no program"),
     "Failed to exec /broken in the jail: Exec format error"),
    ("no program, empty", broken(""),
     "Failed to exec /broken in the jail: Exec format error"),
    ("not executable", broken("#!/x\n", 0o644),
     "Failed to exec /broken in the jail: Permission denied"),
    ("no interpreter", broken("#!/nowhere\n"),
     "Failed to exec /broken in the jail: No such file or directory"),
    ("no interpreter, binary bound", lambda jail: dict(
        broken("#!/nowhere\n")(jail), exec_by="bind"),
     "Failed to exec /broken in the jail: No such file or directory"),
    ("no interpreter, binary linked", lambda jail: dict(
        broken("#!/nowhere\n")(jail), exec_by="link"),
     "Failed to exec /broken in the jail: No such file or directory"),
)


def new_base(t, number):
    """A base directory apart, which may become a mount point."""
    os.mkdir(t.path("%d" % number))
    return t.path("%d" % number)


def try_stage(t, number, stage, mode):
    name, prepare, text = stage
    jail = Jail(t)
    jail.base = jail.arguments["chroot_base_dir"] = new_base(t, number)
    jail.lock = None
    arguments = dict(prepare(jail), **mode)
    jail.arguments.update({"exec_file": arguments.pop(
        "exec_file", jail.arguments["exec_file"])})
    before = jail.listing()
    done = jail.run(**arguments)
    after = jail.listing()
    if "%" in text:
        text = text % jail.path()
    good = done.code == 1 and text in done.err.splitlines()[0]
    t.point(good and before == after, "%s, %s" % (name, mode_name(mode)),
            "%s\nwanted: %s\n%s" % (done, text, difference(before, after)))
    if jail.lock is not None:
        os.close(jail.lock)
    if os.path.ismount(jail.base):
        subprocess.run(["umount", jail.base], check=True)


@test
def a_stage_that_fails_leaves_nothing(t):
    with open("/proc/self/mountinfo") as file:
        mounts = file.read()
    number = 0
    for stage in STAGES:
        for mode in MODES:
            try_stage(t, number, stage, mode)
            number += 1
    with open("/proc/self/mountinfo") as file:
        t.point(mounts == file.read(), "no mount is left")


@test
def a_signal_half_way_leaves_nothing(t):
    """It takes effect when all is undone."""
    jail = Jail(t)
    before = jail.listing()
    for name in ("HUP", "INT", "QUIT", "TERM"):
        number = signal.Signals["SIG" + name]
        for mode in MODES:
            done = jail.run(prefix=at("mknodat", "signal=" + name), **mode)
            t.point(done.code == -number and done.err.startswith(
                "Signal %d came before the monitor ran.\n" % number),
                "%s, %s" % (name, mode_name(mode)), str(done))
            after = jail.listing()
            t.point(before == after, "%s, %s: nothing is left" % (
                name, mode_name(mode)), difference(before, after))


@test
def a_signal_to_the_child_is_a_failure(t):
    jail = Jail(t)
    before = jail.listing()
    for mode in MODES[1:]:
        done = jail.run(prefix=at("setresuid", "signal=TERM"), **mode)
        t.point(done.code == 1 and done.err.startswith(
            "Signal 15 came before the monitor ran.\n"), mode_name(mode),
            str(done))
        after = jail.listing()
        t.point(before == after, mode_name(mode) + ": nothing is left",
                difference(before, after))


@test
def a_signal_that_is_ignored_is_none(t):
    """nohup."""
    jail = Jail(t)
    done = jail.run(prefix=("sh", "-c", 'trap "" HUP; exec "$@"', "sh",
                            *at("mknodat", "signal=HUP")))
    assert done.code == 0, done
    assert jail.report(done.out).all("ignored") == ["1"], done


@test
def a_file_that_may_not_grow_has_a_sentence(t):
    """Not a signal, which nobody would undo anything after."""
    jail = Jail(t)
    before = jail.listing()
    done = jail.run(prefix=("prlimit", "--fsize=1000"))
    after = jail.listing()
    t.point(done.code == 1 and done.err.startswith("Failed to copy ")
            and "File too large (os error 27)\n" in done.err, "a sentence",
            str(done))
    t.point(before == after, "nothing is left", difference(before, after))


@test
def a_warning_that_nobody_reads_is_no_end(t):
    jail = Jail(t, gid=0)
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(jail.command(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=write_end, text=True)
    os.close(write_end)
    assert done.returncode == 0, done
    assert jail.report(done.stdout).one("gids") == "0 0 0"


@test
def a_swapped_node_is_not_given_away(t):
    """The earlier owner of /dev is about, and has a link to a file of the
    host's, as the monitor's binary would be: it stays the host's."""
    jail = Jail(t)
    os.makedirs(jail.path("dev"))
    os.chown(jail.path("dev"), UID, GID)
    victim = t.write("base/victim", "the host's")
    os.link(victim, jail.path("link"))
    process = subprocess.Popen(
        jail.command(prefix=at("mknodat", "delay_exit=1s")), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE)
    jails.wait_until(lambda: os.path.exists(jail.path("dev/kvm")), "a node")
    os.rename(jail.path("link"), jail.path("dev/kvm"))
    err = process.communicate(timeout=jails.TIMEOUT)[1]
    t.point(process.returncode == 1 and err.startswith(
        "Failed to create /dev/kvm in the jail: File exists (os error 17)\n"),
        "refused", err)
    t.point(os.stat(victim).st_uid == 0, "the file is still the host's")


@test
def what_was_there_before_stays(t):
    jail = Jail(t, exec_file=t.write("text", "no program"))
    os.makedirs(jail.path("run/theirs"))
    os.makedirs(jail.path("dev"))
    os.chmod(jail.path("run"), 0o751)
    os.chown(jail.path("run"), 17, 18)
    os.chmod(jail.path(), 0o1777)
    for mode in MODES:
        before = jail.listing()
        done = jail.run(**mode)
        assert done.code == 1 and "Failed to exec" in done.err, done
        after = jail.listing()
        t.point(before == after, mode_name(mode), difference(before, after))


@test
def a_second_jail_of_the_name_fails_and_the_first_lives(t):
    jail = Jail(t)
    process = jail.start("--wait")
    assert process.stdout.readline()
    before = jail.listing()
    done = jail.run()
    t.point(done.code == 1 and "Failed to open %s/jailed: Text file busy" %
            jail.path() in done.err, "refused", str(done))
    after = jail.listing()
    t.point(before == after, "nothing is touched", difference(before, after))
    process.stdin.close()
    assert process.wait(jails.TIMEOUT) == 0


@test
def a_jail_is_not_used_twice(t):
    jail = Jail(t)
    assert jail.run().code == 0
    before = jail.listing()
    done = jail.run()
    assert done.code == 1, done
    assert "Failed to create /dev/kvm in the jail: File exists" in done.err
    after = jail.listing()
    assert before == after, difference(before, after)


def fail_again_and_again(jail, stop, unexpected):
    while not stop.is_set():
        done = jail.run(netns="/proc/self/ns/uts")
        if "is not a network namespace" not in done.err:
            unexpected.append(done)


@test
def others_jails_are_made_meanwhile(t):
    """A failing jailer removes the directory that others are about to use;
    they make it again."""
    stop, unexpected = threading.Event(), []
    threads = [threading.Thread(target=fail_again_and_again, args=(
        Jail(t, "bad-%d" % n), stop, unexpected)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(40):
            jail = Jail(t, "vm-%d" % number)
            done = jail.run()
            assert done.code == 0, done
            assert jail.run(cleanup=True).code == 0
            try:
                os.rmdir(os.path.dirname(jail.dir))
            except OSError:
                pass  # somebody is there, or was faster
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not unexpected, unexpected[0]


def exchange(one, other):
    """In one step, which Python has no name for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2):
        raise OSError(ctypes.get_errno(), one)


class Swapper(threading.Thread):
    """Exchanges a directory for a link, again and again. How long it rests is
    as different as the speeds of hosts."""

    def __init__(self, path, link):
        super().__init__()
        self.path, self.link, self.count, self.pace = path, link, 0, 1
        self.stop, self.lock = threading.Event(), threading.Lock()

    def run(self):
        while not self.stop.is_set():
            with self.lock:
                exchange(self.path, self.link)
            self.count += 1
            time.sleep(0.0002 * self.pace * (self.count % 7))

    def __enter__(self):
        """While the directory is held where it belongs."""
        self.lock.acquire()
        if os.path.islink(self.path):
            exchange(self.path, self.link)

    def __exit__(self, *_):
        self.lock.release()


def touched(victim):
    """What is in a directory, and when that changed, if only for a moment."""
    st = os.stat(victim)
    return jails.listing(victim), st.st_mtime_ns, st.st_ctime_ns


def run_among_swaps(t, name, victim, target):
    """(exit codes, swaps) of jailers whose directory is exchanged for a link
    to @target, which leads to @victim."""
    jail = Jail(t, "vm-" + name[-3:])
    path, link = os.path.join(jail.dir, name), t.path("link-" + name[-3:])
    os.makedirs(path)
    os.makedirs(victim(jail) + "/net")
    os.symlink(target(jail), link)
    before = touched(victim(jail))
    swapper, codes = Swapper(path, link), []
    swapper.start()
    try:
        while len(codes) < SWAPS or (set(codes) != {0, 1} and
                                     len(codes) < 10 * SWAPS):
            swapper.pace = 4 ** (len(codes) % 4)
            codes.append(jail.run().code)
            with swapper:
                subprocess.run(
                    ["find", jail.dir, "-type", "c", "-delete", "-o", "-name",
                     "jailed*", "-delete"], check=True)
    finally:
        swapper.stop.set()
        swapper.join()
    with swapper:
        pass
    after = touched(victim(jail))
    t.point(before == after, name, "%s\n%s" % (
        difference(before[0], after[0]), (before[1:], after[1:])))
    t.point(set(codes) == {0, 1}, name + ": some got through, some not",
            "%s, %d swaps" % (codes, swapper.count))


@test
def a_swapped_directory_leads_nowhere(t):
    """Somebody who could rename directories of the jail gains nothing."""
    outside = t.path("victim")
    run_among_swaps(t, "root", lambda jail: outside, lambda jail: outside)
    for name in ("dev", "run"):
        run_among_swaps(t, "root/" + name, lambda jail: jail.path("victim"),
                        lambda jail: "victim")


if __name__ == "__main__":
    main()
