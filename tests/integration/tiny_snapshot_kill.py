# SPDX-License-Identifier: Apache-2.0
"""Monitors that are killed while they take a snapshot: at each system call
of their loop, one after the other."""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import GUESTS, Gone, Monitor
from snapshots import PAGE, Snapshot, pause, turning, turns, whole
from statefile import State, skip_string
from tap import Skip, main, test

HALF = "was merged into the memory file and not completed"


def kill_at(m, number):
    """Has the monitor killed in its system call of this number from now on;
    the process that sees to it."""
    killer = subprocess.Popen(
        [os.path.join(GUESTS, "kill_at"), str(m.pid), str(number)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if killer.stdout.readline() != b"ready\n":
        raise Skip(killer.communicate()[1].decode())
    return killer


def create_and_die(m, snapshot, number, **fields):
    """True if the monitor was killed before it could answer."""
    killer = kill_at(m, number)
    try:
        status, body = m.api("PUT", "/snapshot/create",
                             snapshot.fields(**fields))
    except (Gone, ConnectionError):
        m.wait()
        return True
    finally:
        killer.kill()
        killer.communicate()
    assert status == 204, body
    return False


def leftovers(t):
    return glob.glob(t.path(".ember-*"))


class Copy:
    """A snapshot put aside, in case the one in its place is lost."""

    def __init__(self, t, snapshot):
        self.files = ((snapshot.state, t.path("aside")),
                      (snapshot.memory, t.path("aside.mem")))
        self._copy(self.files)

    def restore(self):
        self._copy([pair[::-1] for pair in self.files])

    @staticmethod
    def _copy(pairs):
        for source, target in pairs:
            subprocess.run(["cp", "--sparse=always", source, target],
                           check=True)


def reload(t, snapshot, aside, seen):
    """The snapshot that is there, loaded; notes what was found."""
    clone = Monitor(test=t)
    status, body = clone.api("PUT", "/snapshot/load", snapshot.body(
        resume_vm=True, track_dirty_pages=True))
    if status == 204:
        return clone
    assert HALF in body["fault_message"], body
    assert clone.wait() == 1
    seen["half"] = seen.get("half", 0) + 1
    aside.restore()
    return snapshot.load(t, track_dirty_pages=True)


def kill_everywhere(t, **fields):
    """Takes a snapshot over the last one again and again, and has the monitor
    killed a step later each time. Which snapshots there were then."""
    snapshot = Snapshot(t)
    m = turning(t, track_dirty_pages=True)
    pause(m)
    snapshot.create(m)
    m.close()
    seen, number, killed = {}, 1, True
    m = snapshot.load(t, track_dirty_pages=True)
    while killed:
        assert whole(m), "killed at %d: %r" % (number - 1, m.console)
        aside = Copy(t, snapshot)
        old = turns(m.console)[0]
        new = turns(pause(m))[-1]
        killed = create_and_die(m, snapshot, number, **fields)
        m.close()
        m = reload(t, snapshot, aside, seen)
        assert whole(m), "killed at %d: %r" % (number, m.console)
        which = "new" if turns(m.console)[0] > new else "old"
        assert which == "new" or turns(m.console)[0] == old, m.console
        seen[which] = seen.get(which, 0) + 1
        number += 1
    pause(m)
    snapshot.create(m)
    return seen


def report(t, seen, halves):
    """@seen: what there was after so many kills."""
    t.point(seen["old"] > 5, "until it is complete the old one is found",
            str(seen))
    t.point(seen["new"] > 1, "then the new one is", str(seen))
    t.point(("half" in seen) == halves, "half of one is told from a whole"
            if halves else "there is never half of one", str(seen))
    t.point(not leftovers(t), "what was left behind goes with the next",
            str(leftovers(t)))


@test
def full_onto_the_last(t):
    report(t, kill_everywhere(t, sync=True), False)


@test
def diff_into_the_last(t):
    report(t, kill_everywhere(t, snapshot_type="Diff", sync=False), True)


def unname(t, snapshot, old):
    """As if the monitor had been killed when the state file was in its place
    and the memory file, in the place of @old, was not yet."""
    pair = State(snapshot.state).find("PAIR").data
    name = pair[28:skip_string(pair, 24) - 1].decode()
    os.rename(snapshot.memory, t.path(name))
    os.rename(old, snapshot.memory)


@test
def diff_after_a_full_whose_monitor_was_killed(t):
    snapshot, check = Snapshot(t), Snapshot(t, "check")
    old = t.path("old")
    m = turning(t)
    pause(m)
    snapshot.create(m)
    subprocess.run(["cp", "--sparse=always", snapshot.memory, old], check=True)
    with open(old, "r+b") as memory:  # what is different in the old one
        memory.seek(-PAGE, os.SEEK_END)
        memory.write(b"old" * 1000)
    snapshot.create(m)
    m.close()
    unname(t, snapshot, old)
    m = snapshot.load(t)
    t.point(whole(m), "the new memory is found")
    pause(m)
    check.create(m)
    snapshot.create(m, snapshot_type="Diff")
    m.close()
    t.point(not subprocess.call(["cmp", check.memory, snapshot.memory]),
            "what is merged into is the new memory")
    t.point(not leftovers(t), "nothing is left behind", str(leftovers(t)))


if __name__ == "__main__":
    main()
