# SPDX-License-Identifier: Apache-2.0
"""What is in a diff: all that has changed, and what counts as that."""
import ctypes
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import injail
from ember import Monitor, guest, need_kvm
from snapshots import (MIB, Snapshot, disk_user, merge, pages, pause,
                       start_guest, taken, turning, turns, uses_disk, whole)
from tap import Skip, main, test

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def diff(m, t, name):
    """A diff in files of its own; the pages that it has."""
    snapshot = Snapshot(t, name)
    snapshot.create(m, snapshot_type="Diff", sync=False)
    return set(pages(snapshot.memory))


def memory(path):
    """The pages of a memory file that are not zero."""
    return {number: data for number, data in pages(path).items()
            if data.strip(b"\0")}


@test
def the_first_one_equals_a_full(t):
    """What the monitor itself has put there counts as changed."""
    for tracks in (True, False):
        m = turning(t, track_dirty_pages=tracks)
        pause(m)
        first, full = Snapshot(t, "first"), Snapshot(t, "full")
        first.create(m, snapshot_type="Diff")
        full.create(m)
        t.point(memory(first.memory) == memory(full.memory),
                "tracked" if tracks else "untracked",
                "%d and %d pages" % (len(memory(first.memory)),
                                     len(memory(full.memory))))
        m.close()
        m = first.load(t)
        t.point(whole(m), "and is a snapshot by itself")
        m.close()
        for snapshot in (first, full):
            os.unlink(snapshot.state)
            os.unlink(snapshot.memory)


@test
def diffs_of_an_idle_guest_are_alike(t):
    """Also the first: a queue's pages count as changed each time, since a
    device may write to them without being asked."""
    m = start_guest(t, "torn", b"turn 1\n", "calm", track_dirty_pages=True)
    pause(m)
    diff(m, t, "first")
    sizes = [diff(m, t, "idle%d" % turn) for turn in range(3)]
    t.point(sizes[0] == sizes[1] == sizes[2], "without devices",
            str([len(size) for size in sizes]))
    m.close()
    m = disk_user(t, track_dirty_pages=True)
    pause(m)
    diff(m, t, "queue")
    sizes = [diff(m, t, "rings%d" % turn) for turn in range(3)]
    t.point(sizes[0] == sizes[1] == sizes[2], "with a queue",
            str([len(size) for size in sizes]))
    t.point(sizes[0], "whose pages are in each", str(sizes[0]))
    m.patch("/vm", state="Resumed")
    uses_disk(m)
    pause(m)
    again = diff(m, t, "again")
    t.point(again >= sizes[0], "also after it was used",
            "%s, %s" % (again, sizes[0]))


@test
def a_diff_in_its_own_file_is_merged_by_the_client(t):
    m = turning(t, track_dirty_pages=True)
    pause(m)
    base = Snapshot(t, "base")
    base.create(m)
    for turn in range(3):
        m.patch("/vm", state="Resumed")
        last = turns(m.console)[-1]
        m.expect(b"turn %d\n" % (last + 3))
        console = pause(m)
        changes = Snapshot(t, "changes%d" % turn)
        changes.create(m, snapshot_type="Diff")
        merge(changes.memory, base.memory)
        base.state = changes.state
    m.close()
    m = base.load(t)
    t.point(whole(m) and turns(m.console)[0] > turns(console)[-1],
            "and goes with the last state", str(m.console))


@test
def memory_above_the_gap_is_in_diffs(t):
    injail.give_proc(t)
    for tracks in (True, False):
        m = turning(t, "high", mem_size_mib=3200, track_dirty_pages=tracks)
        pause(m)
        snapshot = Snapshot(t)
        snapshot.create(m)
        m.patch("/vm", state="Resumed")
        last = turns(m.console)[-1]
        m.expect(b"turn %d\n" % (last + 2))
        console = pause(m)
        snapshot.create(m, snapshot_type="Diff")
        stat = os.stat(snapshot.memory)
        t.point(stat.st_size == 3200 * MIB and stat.st_blocks < 2 * MIB / 512,
                "the file has what changed in it", str(stat))
        m.close()
        clone = snapshot.load(t, track_dirty_pages=tracks)
        t.point(whole(clone) and turns(clone.console)[0] > turns(console)[-1],
                "tracked" if tracks else "untracked", str(clone.console))
        pause(clone)
        again = diff(clone, t, "of-the-clone")
        t.point(any(page >= 3072 * MIB // 4096 for page in again),
                "a clone's too")
        clone.close()
        for path in (snapshot.state, snapshot.memory):
            os.unlink(path)


@test
def untracked_diffs_have_what_is_the_clones_own(t):
    injail.give_proc(t)
    snapshot = taken(t, turning(t))
    clone = snapshot.load(t)
    assert whole(clone)
    console = pause(clone)
    changes = Snapshot(t, "changes")
    changes.create(clone, snapshot_type="Diff")
    t.point(64 <= len(pages(changes.memory)) < 128, "not much more than the "
            "guest has written", str(len(pages(changes.memory))))
    merge(changes.memory, snapshot.memory)
    clone.close()
    snapshot.state = changes.state
    again = snapshot.load(t)
    t.point(whole(again) and turns(again.console)[0] > turns(console)[-1],
            "merged it is a snapshot", str(again.console))


def without_proc():
    """In the monitor before it starts: as in a jail, which has none."""
    if injail.JAILER:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(
            b"none", b"/", None, MS_REC | MS_PRIVATE, None) or libc.mount(
                b"none", b"/proc", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "no tmpfs on /proc")


@test
def without_proc_it_is_asked_what_is_resident(t):
    need_kvm()
    try:
        m = Monitor(test=t, preexec_fn=without_proc)
    except subprocess.SubprocessError as error:
        raise Skip("no mounts of its own: %s" % error)
    m.start(guest("torn"))
    m.expect(b"turn 5\n")
    pause(m)
    first, second = Snapshot(t, "first"), Snapshot(t, "second")
    first.create(m, snapshot_type="Diff")
    m.patch("/vm", state="Resumed")
    m.expect(b"turn %d\n" % (turns(m.console)[-1] + 3))
    pause(m)
    second.create(m)
    m.close()
    for name, snapshot in (("diff", first), ("full", second)):
        clone = Monitor(test=t, preexec_fn=without_proc)
        clone.put("/snapshot/load", **snapshot.body(resume_vm=True))
        t.point(whole(clone), name, str(clone.console))
        pause(clone)
        snapshot.create(clone, snapshot_type="Diff")
        clone.close()
        t.point(whole(snapshot.load(t)), "and a clone's", str(clone.console))


@test
def snapshots_of_one_pause_are_the_same(t):
    """Of a guest that has not run between them."""
    m = disk_user(t)
    pause(m)
    first, second = Snapshot(t, "first"), Snapshot(t, "second")
    first.create(m)
    second.create(m)
    t.point(memory(first.memory) == memory(second.memory), "in memory")
    os.unlink(t.path("vsock"))
    for snapshot in (first, second):
        m = snapshot.load(t)
        uses_disk(m)
        t.point(True, "both go on")
        m.close()
        os.unlink(t.path("vsock"))


@test
def tracking_may_begin_and_end_with_a_load(t):
    snapshot = taken(t, turning(t, track_dirty_pages=True))
    for tracks in (False, True):
        m = snapshot.load(t, track_dirty_pages=tracks)
        t.point(m.get("/machine-config")["track_dirty_pages"] == tracks,
                "as the load says: %s" % tracks)
        assert whole(m)
        pause(m)
        snapshot.create(m, snapshot_type="Diff")
        m.close()
    m = Monitor(test=t)
    m.put("/snapshot/load", **snapshot.body(resume_vm=True,
                                            enable_diff_snapshots=True))
    t.point(m.get("/machine-config")["track_dirty_pages"], "the old name too")
    t.point(whole(m), "and the guest goes on")


if __name__ == "__main__":
    main()
