# SPDX-License-Identifier: Apache-2.0
"""Files of snapshots that are not what they should be, are in use, or do not
fit on the disk."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import Monitor, guest, skip_in_jail
from snapshots import (MIB, RESTORE, Snapshot, merge, pages, pause,
                       refused_load, turning, turns, whole)
from tap import Skip, main, test

MAP = RESTORE + ("Failed to load guest memory: Error creating guest memory "
                 "from file: ")
FULL_DISK = "No space left on device (os error 28)"


def mount(t, *args):
    """mount(8), until the end of the test."""
    done = subprocess.run(["mount", *args], capture_output=True, text=True)
    if done.returncode:
        raise Skip("no mounts: " + done.stderr)
    t.defer(lambda: subprocess.run(["umount", "-l", args[-1]],
                                   capture_output=True))


def taken(t, **machine):
    """A snapshot, and the monitor that it is of, paused."""
    m = turning(t, **machine)
    pause(m)
    snapshot = Snapshot(t)
    snapshot.create(m)
    return snapshot, m


@test
def memory_that_is_none(t):
    snapshot, _ = taken(t)

    def refused(path, text, name):
        refused_load(t, {**snapshot.body(), "mem_backend": {
            "backend_type": "File", "backend_path": path}}, text, name, MAP)

    size = os.stat(snapshot.memory).st_size
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    for path, name in ((t.dir, "a directory"), (fifo, "a FIFO"),
                       ("/dev/zero", "a device")):
        refused(path, "The memory file is not a regular file", name)
    for length in (0, 1, size - 4096, size - 1):
        path = t.write("short", b"")
        os.truncate(path, length)
        refused(path, "memory file is %d bytes, the snapshot needs %d" % (
            length, size), "%d bytes" % length)
    refused("/nowhere", "Failed to load guest memory: No such file or "
            "directory (os error 2)", "nothing")
    os.truncate(snapshot.memory, size + 5)
    t.point(whole(snapshot.load(t)), "one that is too long will do")


@test
def state_that_is_no_file(t):
    snapshot, _ = taken(t)
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    for path in (t.dir, fifo, "/dev/zero"):
        refused_load(t, {**snapshot.body(), "snapshot_path": path},
                     "IO Error: not a file of at most 10485760 bytes", path)


@test
def places_that_are_no_good(t):
    snapshot, m = taken(t)
    fifo = t.path("fifo")
    os.mkfifo(fifo)
    before = sorted(os.listdir(t.dir))

    def refused(text, name, **fields):
        fault = m.fault("PUT", "/snapshot/create", snapshot.fields(**fields))
        t.point(fault.startswith("Create snapshot error: ") and text in fault,
                name, fault)
        t.point(sorted(os.listdir(t.dir)) == before, "nothing is left",
                str(os.listdir(t.dir)))

    for kind in ("Full", "Diff"):
        refused("Cannot perform open on the memory backing file: " + fifo +
                " is not a regular file", "memory into a FIFO, " + kind,
                mem_file_path=fifo, snapshot_type=kind)
        refused("Cannot perform open on the memory backing file: Is a "
                "directory (os error 21)", "memory into a directory, " + kind,
                mem_file_path=t.dir, snapshot_type=kind)
        refused("`snapshot_path` and `mem_file_path` are the same file",
                "both in one, " + kind, mem_file_path=snapshot.state,
                snapshot_type=kind)
    refused("`snapshot_path` and `mem_file_path` are the same file",
            "both in one that is not there yet", snapshot_path=t.path("one"),
            mem_file_path=os.path.join(t.dir, ".", "one"))
    refused("Cannot perform open on the snapshot backing file: ",
            "state into a FIFO", snapshot_path=fifo)
    refused("Cannot perform open on the snapshot backing file: Is a directory",
            "state into a directory", snapshot_path=t.dir)
    refused("Filename too long", "a name that is too long",
            snapshot_path=t.path("x" * 300))
    m.patch("/vm", state="Resumed")
    t.point(whole(m), "the guest goes on")
    pause(m)
    longest = t.path("x" * 255)
    snapshot.state = longest
    snapshot.create(m)
    t.point(whole(snapshot.load(t)), "a name may be as long as names can be")


@test
def a_file_that_is_a_mount_cannot_be_replaced(t):
    snapshot, m = taken(t)
    for path, what in ((snapshot.memory, "memory"), (snapshot.state,
                                                     "snapshot")):
        mount(t, "--bind", t.write("mounted"), path)
        fault = m.fault("PUT", "/snapshot/create", snapshot.fields())
        t.point("Cannot perform open on the %s backing file: Resource busy "
                "(os error 16)" % what in fault, what, fault)
        subprocess.run(["umount", path], check=True)
    t.point(whole(snapshot.load(t)), "the old snapshot is whole")


@test
def a_diff_changes_no_file_in_use(t):
    snapshot, m = taken(t)
    m.close()
    first = snapshot.load(t, track_dirty_pages=True)
    second = snapshot.load(t, track_dirty_pages=True)
    assert whole(first) and whole(second)
    pause(first)
    body = snapshot.fields(snapshot_type="Diff")
    fault = first.fault("PUT", "/snapshot/create", body)
    t.point("which another microVM has mapped; write it elsewhere" in fault,
            "another microVM's", fault)
    second.close()
    link = t.path("link")
    os.link(snapshot.memory, link)
    fault = first.fault("PUT", "/snapshot/create", body)
    t.point("a file with 2 names" in fault, "one with two names", fault)
    os.unlink(link)
    last = turns(first.console)[-1]
    snapshot.create(first, snapshot_type="Diff")
    first.patch("/vm", state="Resumed")
    first.expect(b"turn %d\n" % (last + 3))
    t.point(b"torn" not in first.console, "its own it may")
    first.close()
    clone = snapshot.load(t)
    t.point(whole(clone) and turns(clone.console)[0] > last,
            "and nothing is lost of it", str(clone.console))


@test
def a_full_takes_the_place_of_the_file_it_runs_on(t):
    snapshot, m = taken(t)
    m.close()
    m = snapshot.load(t)
    other = snapshot.load(t, resume=False)
    for _ in range(3):
        assert whole(m)
        pause(m)
        snapshot.create(m)
        last = turns(m.console)[-1]
        m.patch("/vm", state="Resumed")
        m.expect(b"turn %d\n" % (last + 3))
    t.point(b"torn" not in m.console, "and goes on", str(m.console))
    other.patch("/vm", state="Resumed")
    t.point(whole(other), "as does another that runs on the old one")
    clone = snapshot.load(t)
    t.point(whole(clone) and turns(clone.console)[0] > last - 3,
            "the new file is whole", str(clone.console))


# ------------------------------------------------------------------ full disks


def small_disk(t, kib):
    """A file system of that size; its path."""
    path = t.path("disk%d" % kib)
    os.mkdir(path)
    mount(t, "-t", "tmpfs", "-o", "size=%dk" % kib, "none", path)
    injail.share(path)
    return path


def fill(path, leave_kib):
    """Leaves a file system so much room; the file that takes the rest."""
    filler = os.path.join(path, "filler")
    stat = os.statvfs(path)
    with open(filler, "wb") as target:
        target.write(b"x" * (stat.f_bavail * stat.f_bsize
                             - (leave_kib << 10)))
    return filler


def moved(snapshot, state=None, memory=None):
    """A snapshot's files into other directories."""
    if state:
        snapshot.state = os.path.join(state, "snap")
    if memory:
        snapshot.memory = os.path.join(memory, "snap.mem")
    return snapshot


def no_room(t, m, snapshot, name, **fields):
    """A snapshot that must fail, and leave all as it was."""
    paths = [os.path.dirname(path) for path in (snapshot.state,
                                                snapshot.memory)]
    before = [sorted(os.listdir(path)) for path in paths]
    fault = m.fault("PUT", "/snapshot/create", snapshot.fields(**fields))
    t.point(fault.startswith("Create snapshot error: ") and FULL_DISK in fault,
            name, fault)
    t.point([sorted(os.listdir(path)) for path in paths] == before,
            "nothing is left behind", str(os.listdir(paths[0])))


@test
def full_snapshot_on_a_full_disk(t):
    disk = small_disk(t, 2048)
    for name, places in (("memory", {"memory": disk}),
                         ("state", {"state": disk})):
        m = turning(t)
        pause(m)
        snapshot = moved(Snapshot(t), **places)
        no_room_at_first = fill(disk, 8)
        no_room(t, m, snapshot, "the first, " + name)
        os.unlink(no_room_at_first)
        snapshot.create(m)
        old = turns(m.console)[-1]
        filler = fill(disk, 8)
        m.patch("/vm", state="Resumed")
        m.expect(b"turn %d\n" % (old + 4))
        pause(m)
        no_room(t, m, snapshot, "the second, " + name)
        clone = snapshot.load(t)
        t.point(whole(clone) and turns(clone.console)[0] <= old + 2,
                "the old one is whole", str(clone.console))
        clone.close()
        os.unlink(filler)
        snapshot.create(m)
        m.close()
        clone = snapshot.load(t)
        t.point(whole(clone) and turns(clone.console)[0] > old + 3,
                "and then there is a new one", str(clone.console))
        clone.close()
        for path in (snapshot.state, snapshot.memory):
            os.unlink(path)


def after_a_failed_diff(t, m, base, snapshot, name):
    """The next one must have all, as one sees when it is merged."""
    last = turns(m.console)[-1]
    snapshot.create(m, snapshot_type="Diff")
    merge(snapshot.memory, base.memory)
    base.state = snapshot.state
    clone = base.load(t)
    t.point(whole(clone) and turns(clone.console)[0] > last, name,
            str(clone.console))
    clone.close()


@test
def diff_on_a_full_disk_loses_no_page(t):
    base, m = taken(t, track_dirty_pages=True)
    disk = small_disk(t, 1024)
    m.patch("/vm", state="Resumed")
    m.expect(b"turn %d\n" % (turns(m.console)[-1] + 3))
    pause(m)
    filler = fill(disk, 40)
    snapshot = moved(Snapshot(t, "diff"), memory=disk)
    no_room(t, m, snapshot, "into a new file", snapshot_type="Diff")
    size = os.stat(base.memory).st_size
    with open(snapshot.memory, "wb") as target:
        target.truncate(size)
    no_room(t, m, snapshot, "into one that is there", snapshot_type="Diff")
    t.point(os.stat(snapshot.memory).st_size == size and
            not pages(snapshot.memory), "which is as it was")
    os.unlink(filler)
    after_a_failed_diff(t, m, base, snapshot, "the next one has them all")


@test
def diff_whose_state_does_not_fit_loses_no_page(t):
    base, m = taken(t, track_dirty_pages=True)
    disk = small_disk(t, 1024)
    m.patch("/vm", state="Resumed")
    m.expect(b"turn %d\n" % (turns(m.console)[-1] + 3))
    pause(m)
    fill(disk, 4)
    snapshot = moved(Snapshot(t, "diff"), state=disk)
    no_room(t, m, snapshot, "the state", snapshot_type="Diff")
    after_a_failed_diff(t, m, base, Snapshot(t, "other"),
                        "the next one has them all")


# ----------------------------------------------------------- memory in a memfd


def memfd_of(m):
    """The path by which others reach a monitor's guest memory."""
    fds = "/proc/%d/fd" % m.pid
    for fd in os.listdir(fds):
        try:
            if "guest-memory" in os.readlink(os.path.join(fds, fd)):
                return os.path.join(fds, fd)
        except FileNotFoundError:
            pass  # it was of a request that is over
    raise AssertionError("no guest memory in a memfd")


@test
def memory_may_stay_in_a_memfd(t):
    skip_in_jail("other processes' descriptors are out of reach")
    m = Monitor(test=t, args=["--memory-backing", "memfd"])
    m.start(guest("torn"))
    m.expect(b"turn 5\n")
    pause(m)
    last = turns(m.console)[-1]
    snapshot = Snapshot(t)
    for kind in ("Full", "Diff"):
        m.put("/snapshot/create", snapshot_path=snapshot.state,
              snapshot_type=kind)
    t.point(os.listdir(t.dir) == ["snap"], "there is a state file only",
            str(os.listdir(t.dir)))
    snapshot.memory = memfd_of(m)
    first, second = snapshot.load(t), snapshot.load(t)
    for clone in (first, second):
        t.point(whole(clone) and turns(clone.console)[0] > last,
                "clones run on the memory of a paused microVM",
                str(clone.console))
    with open(snapshot.memory, "rb") as source:
        t.point(os.fstat(source.fileno()).st_size == 128 * MIB,
                "it is as large as the guest's")
    m.patch("/vm", state="Resumed")
    t.point(whole(m), "which may go on when they do not need it any more")
    pause(m)
    full = Snapshot(t, "full")
    full.create(m)
    t.point(whole(full.load(t)), "a memory file may be written as well")
    clone = full.load(t, resume=False, args=["--memory-backing", "memfd"])
    fault = clone.fault("PUT", "/snapshot/create",
                        {"snapshot_path": t.path("lost")})
    t.point("missing field `mem_file_path`" in fault,
            "and must be: what was loaded is in no memfd", fault)


if __name__ == "__main__":
    main()
