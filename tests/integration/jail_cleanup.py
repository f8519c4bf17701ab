# SPDX-License-Identifier: Apache-2.0
"""--cleanup: takes all of a jail away, and nothing else."""
import fcntl
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import jail as jails
from jail import GID, MODES, UID, Jail, difference, token
from jailnet import AS_USER
from network import ip, own_network
from tap import main, test

DEPTH = 3000


def used(t, name="vm-1", **arguments):
    """A jail that was lived in."""
    jail = Jail(t, name, **arguments)
    done = jail.run()
    assert done.code == 0, done
    return jail


@test
def what_the_jailer_made_goes(t):
    for way in ("copy", "link", "bind"):
        before = os.stat(os.path.join(jails.ember.GUESTS, "jailed"))
        jail = used(t, "vm-" + way, exec_by=way)
        done = jail.run(cleanup=True)
        t.point((done.code, done.out, done.err) == (0, "", ""), way,
                str(done))
        t.point(os.listdir(jail.base) == ["jailed"] and
                os.listdir(os.path.dirname(jail.dir)) == [],
                way + ": files are gone", str(jail.listing().keys()))
        after = os.stat(jail.arguments["exec_file"])
        t.point((before.st_mode, before.st_size, before.st_nlink) ==
                (after.st_mode, after.st_size, after.st_nlink),
                way + ": the host's binary is not touched")


@test
def ids_and_other_arguments_are_not_needed(t):
    jail = used(t)
    done = jail.run("--what", "ever", cleanup=True, uid=None, gid=None,
                    daemonize=True)
    assert (done.code, done.err) == (0, ""), done
    assert not os.path.exists(jail.dir)


@test
def a_jail_that_is_not_there_is_no_mistake(t):
    jail = Jail(t)
    assert jail.run(cleanup=True).code == 0
    used(t, "other")
    before = jail.listing()
    assert jail.run(cleanup=True).code == 0
    assert jail.listing() == before


@test
def mistakes_on_the_command_line_are_still_some(t):
    jail = used(t)
    before = jail.listing()
    for arguments, text in (({"id": "../other"}, "Invalid instance ID"),
                            ({"id": None}, "Argument 'id' required"),
                            ({"exec_file": "/nowhere"}, "canonicalize"),
                            ({"parent_cgroup": ".."}, "Invalid parent")):
        done = jail.run(cleanup=True, **arguments)
        t.point(done.code == 1 and text in done.err, str(arguments),
                str(done))
    t.point(jail.listing() == before, "nothing is gone")


@test
def other_jails_stay(t):
    jail = used(t)
    before = jail.listing()
    other = used(t, "vm-2")
    assert other.run(cleanup=True).code == 0
    after = jail.listing()
    assert before == after, difference(before, after)


@test
def somebody_lives_there(t):
    for number, mode in enumerate(MODES):
        jail = Jail(t, "vm-%d" % number, **mode)
        process = jail.start("--wait" if not mode else "--pause")
        if mode:
            assert process.wait(jails.TIMEOUT) == 0
        else:
            assert process.stdout.readline()
        pid = jail.pid
        before = jail.listing()
        done = jail.run(cleanup=True)
        t.point(done.code == 1 and done.err.startswith(
            "Process %d runs in %s.\n" % (pid, jail.path())),
                jails.mode_name(mode), str(done))
        t.point(jail.listing() == before, jails.mode_name(mode) + ": all stays",
                difference(before, jail.listing()))
        jails.end(pid)
        if not mode:
            process.wait()
        t.point(jail.run(cleanup=True).code == 0
                and not os.path.exists(jail.dir),
                jails.mode_name(mode) + ": gone afterwards")


@test
def a_pid_file_is_not_believed(t):
    """Its directory is the microVM's: it could say anything."""
    jail = used(t)
    with open(jail.path("jailed.pid"), "w") as file:
        file.write("1")
    assert jail.run(cleanup=True).code == 0
    assert not os.path.exists(jail.dir)


@test
def a_jailer_at_work_is_not_disturbed(t):
    jail = used(t)
    fd = os.open(jail.dir, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    done = jail.run(cleanup=True)
    os.close(fd)
    assert done.code == 1 and "Another jailer is at work in" in done.err, done
    assert os.path.exists(jail.path("jailed"))


@test
def whatever_the_tenant_left_goes(t):
    jail = used(t)
    victim = t.path("victim")
    os.makedirs(victim + "/below")
    t.write("victim/below/file", "precious")
    before = jails.listing(victim)
    os.symlink(victim, jail.path("link"))
    os.symlink(victim + "/below/file", jail.path("run/file-link"))
    os.symlink("/nowhere", jail.path("dangling"))
    os.symlink(".", jail.path("loop"))
    os.link(victim + "/below/file", jail.path("hard-link"))
    os.mkfifo(jail.path("run/fifo"))
    os.makedirs(jail.path("a/b/c/d"))
    os.makedirs(jail.path(".removed-0/.removed-1/x"))
    os.makedirs(os.path.join(jail.dir, ".removed-2"))
    os.mkdir(jail.path("closed"), 0)
    os.mkdir(jail.path("a/locked"), 0)
    with open(jail.path("run/big"), "wb") as file:
        file.truncate(1 << 30)
    with open(jail.path("new\nline \\ \udcff"), "w"):
        pass
    os.remove(jail.path("dev/kvm"))
    done = jail.run(cleanup=True)
    t.point((done.code, done.err) == (0, ""), "it succeeds", str(done))
    t.point(not os.path.exists(jail.dir), "all is gone")
    os.stat(victim + "/below/file")
    after = jails.listing(victim)
    t.point(before == after, "what was linked to stays",
            difference(before, after))


def make_deep(path, depth):
    """Deeper than any path name reaches."""
    here = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=here)
        next_fd = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = next_fd
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@test
def depth_does_not_matter(t):
    jail = used(t)
    make_deep(jail.path("run"), DEPTH)
    done = jail.run(cleanup=True, prefix=("prlimit", "--nofile=32",
                                          "--stack=65536"))
    assert (done.code, done.err) == (0, ""), done
    assert not os.path.exists(jail.dir)


@test
def many_files_do_not_matter(t):
    jail = used(t)
    for n in range(5000):
        os.close(os.open(jail.path("run/file-%d" % n),
                         os.O_CREAT | os.O_WRONLY))
    for n in range(500):
        os.makedirs(jail.path("d/%d/x" % n))
    assert jail.run(cleanup=True).code == 0
    assert not os.path.exists(jail.dir)


def unmount(path):
    if os.path.ismount(path):
        subprocess.run(["umount", "-l", path], check=True)


@test
def mounts_are_not_crossed(t):
    for name in ("data", "run", ""):
        jail = used(t, "vm-" + (name or "root"))
        os.makedirs(jail.path(name), exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none",
                        jail.path(name)], check=True)
        t.defer(unmount, jail.path(name))
        path = os.path.join(jail.path(name), "precious")
        with open(path, "w"):
            pass
        before = jail.listing()
        done = jail.run(cleanup=True)
        t.point(done.code == 1 and done.err.startswith(
            "%s is a mount point: unmount it first.\n" % jail.path(name)),
                name or "root", str(done))
        t.point(jail.listing() == before, (name or "root") + ": all stays")
        subprocess.run(["umount", jail.path(name)], check=True)
        t.point(jail.run(cleanup=True).code == 0
                and not os.path.exists(jail.dir),
                (name or "root") + ": gone afterwards")


@test
def mounts_in_a_jail_of_the_root_directory_are_seen(t):
    """BASE is /, and the jail's path begins with one slash."""
    name = "jailed-" + token()
    jail = Jail(t)
    program = shutil.copy(jail.arguments["exec_file"], t.path(name))
    jail.base = jail.arguments["chroot_base_dir"] = "/"
    jail.arguments["exec_file"] = program
    assert jail.run().code == 0
    t.defer(shutil.rmtree, "/" + name)
    os.makedirs(jail.path("data"))
    subprocess.run(["mount", "-t", "tmpfs", "none", jail.path("data")],
                   check=True)
    t.defer(unmount, jail.path("data"))
    done = jail.run(cleanup=True)
    t.point(done.code == 1 and done.err.startswith(
        "/%s/vm-1/root/data is a mount point: unmount it first.\n" % name),
        "refused", str(done))
    t.point(os.path.exists(jail.path(name)), "all stays")
    unmount(jail.path("data"))
    t.point(jail.run(cleanup=True).code == 0 and os.listdir("/" + name) == [],
            "gone afterwards")


@test
def a_mount_that_comes_later_is_not_crossed(t):
    """After it was looked for mounts, and before anything is removed."""
    jail = used(t)
    process = subprocess.Popen(
        jail.command(cleanup=True, prefix=(
            "strace", "-qq", "-o", "/dev/null", "-e", "trace=getdents64", "-e",
            "inject=getdents64:delay_enter=2s:when=1")),
        text=True, stderr=subprocess.PIPE)
    jails.wait_until(lambda: reads_processes(process.pid), "a look at /proc")
    subprocess.run(["mount", "-t", "tmpfs", "none", jail.path()], check=True)
    t.defer(unmount, jail.path())
    with open(jail.path("precious"), "w"):
        pass
    err = process.communicate(timeout=jails.TIMEOUT)[1]
    t.point(process.returncode == 1 and err.startswith("Failed to open root "),
            "refused", err)
    t.point(os.path.exists(jail.path("precious")), "what is mounted stays")


def reads_processes(tracer):
    """Whether the only child of a process has /proc open."""
    with open("/proc/%d/task/%d/children" % (tracer, tracer)) as file:
        pids = file.read().split()
    try:
        links = [os.readlink("/proc/%s/fd/%s" % (pid, fd)) for pid in pids
                 for fd in os.listdir("/proc/%s/fd" % pid)]
    except OSError:
        return False
    return "/proc" in links


@test
def nobody_else_holds_the_lock(t):
    """Others pass through the directory, but cannot open it."""
    jail = used(t)
    done = subprocess.run([*AS_USER, "flock", jail.dir, "true"],
                          stderr=subprocess.PIPE, text=True)
    t.point(done.returncode != 0 and "Permission denied" in done.stderr,
            "refused", str(done))
    t.point(subprocess.run([*AS_USER, "ls", jail.path()],
                           stdout=subprocess.DEVNULL).returncode == 0,
            "the microVM's user gets to the root")


@test
def links_in_place_of_directories_lead_nowhere(t):
    victim = t.path("victim")
    os.makedirs(victim + "/root/dev")
    os.makedirs(victim + "/vm-1/root")
    before = jails.listing(victim)
    jail = Jail(t)
    os.makedirs(os.path.dirname(jail.dir))
    os.symlink(victim, jail.dir)
    done = jail.run(cleanup=True)
    t.point(done.code == 1 and "Failed to open" in done.err, "the jail",
            str(done))
    os.remove(jail.dir)
    os.rmdir(os.path.dirname(jail.dir))
    os.symlink(victim, os.path.dirname(jail.dir))
    done = jail.run(cleanup=True)
    t.point(done.code == 1 and "Failed to open" in done.err, "above it",
            str(done))
    os.remove(os.path.dirname(jail.dir))
    os.makedirs(jail.dir)
    os.symlink(victim, jail.path())
    done = jail.run(cleanup=True)
    t.point(done.code == 0 and not os.path.exists(jail.dir), "the root",
            str(done))
    t.point(jails.listing(victim) == before, "the victim is untouched")


def has_link(namespace, name):
    return subprocess.run(
        ["ip", "-n", namespace, "link", "show", name],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@test
def taps_that_stayed_go(t):
    jails.need_root()
    own_network()
    name = "ember-" + token()
    ip("netns", "add", name)
    jail = used(t, netns="/run/netns/" + name, tap=["tap0", "tap1"])
    try:
        ip("-n", name, "tuntap", "add", "other", "mode", "tap")
        t.point(has_link(name, "tap0") and has_link(name, "tap1"), "before")
        done = jail.run(cleanup=True)
        t.point((done.code, done.err) == (0, ""), "it succeeds", str(done))
        t.point(not has_link(name, "tap0") and not has_link(name, "tap1"),
                "they are gone")
        t.point(has_link(name, "other"), "others are not")
        ip("-n", name, "tuntap", "add", "tap0", "mode", "tap")
        done = jail.run(cleanup=True)
        t.point(done.code == 0 and has_link(name, "tap0"),
                "one of another jail stays when this one is gone", str(done))
    finally:
        ip("netns", "delete", name)
    jail = used(t, "vm-2")
    done = jail.run(cleanup=True, netns="/run/netns/" + name, tap="tap0")
    t.point(done.code == 0 and not os.path.exists(jail.dir),
            "the namespace may be gone already", str(done))


@test
def a_cleaned_jail_can_be_used_again(t):
    jail = Jail(t)
    for _ in range(3):
        done = jail.run()
        assert done.code == 0, done
        assert jail.run(cleanup=True).code == 0
    assert os.listdir(os.path.dirname(jail.dir)) == []


@test
def tenants_files_of_another_owner_go(t):
    jail = used(t)
    os.makedirs(jail.path("theirs/below"))
    os.chown(jail.path("theirs"), UID, GID)
    os.chmod(jail.path("theirs"), 0o500)
    assert jail.run(cleanup=True).code == 0
    assert not os.path.exists(jail.dir)


if __name__ == "__main__":
    main()
