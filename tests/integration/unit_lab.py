#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The test bed's own judgement: what counts as passed, failed, skipped."""

import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "lab"))

import kernel  # noqa: E402
import results  # noqa: E402
import steps  # noqa: E402
from cpio import Cpio  # noqa: E402
from tap import main, test  # noqa: E402

# Output, exit code, then passed, failed and skipped.
READINGS = (
    ("all pass", "1..2\nok 1 - a\nok 2 - b\n", 0, (2, 0, 0)),
    ("plan at the end", "ok 1 - a\n1..1\n", 0, (1, 0, 0)),
    ("one fails", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n", 1, (1, 1, 0)),
    ("one is skipped", "1..1\nok 1 - a # SKIP no disk\n", 0, (0, 0, 1)),
    ("all are skipped", "1..0 # SKIP no tool\n", 0, (0, 0, 1)),
    ("dies early", "1..2\nok 1 - a\n", 139, (1, 1, 0)),
    ("loses a test", "1..2\nok 1 - a\n", 0, (1, 1, 0)),
    ("prints nothing", "", 0, (0, 1, 0)),
    ("cannot start", "exec: not found\n", 127, (0, 1, 0)),
    ("fails without saying which", "1..1\nok 1 - a\n", 1, (1, 1, 0)),
    ("takes too long", "1..1\n", 124, (0, 1, 0)),
)


@test
def read_tap_counts(t):
    for name, text, code, wanted in READINGS:
        got = results.read_tap(name, text, code)
        counts = (len(got.passed), len(got.failed), len(got.skipped))
        t.point(counts == wanted, name, "%s, not %s" % (counts, wanted))


@test
def read_tap_keeps_reasons(t):
    got = results.read_tap(
        "x", "1..2\nnot ok 1 - a\n# first\n# second\n"
        "ok 2 - b # SKIP no disk\n", 1)
    assert got.failed == [("a", "first\nsecond")], got.failed
    assert got.skipped == [("b", "no disk")], got.skipped


@test
def cpio_repeats_itself_and_adds_parents(t):
    def archive():
        made = Cpio()
        made.file("a/b/c", b"text", 0o755)
        made.link("a/d", "b/c")
        return made.bytes()

    assert archive() == archive()
    names = [part for part in (b"a\0", b"a/b\0", b"a/b/c\0", b"a/d\0",
                               b"TRAILER!!!\0") if part in archive()]
    assert len(names) == 5, names
    assert len(archive()) % 4 == 0


@test
def extract_vmlinux_refuses_other_files(t):
    for data in (b"", b"\x7fELF" * 1000, b"\0" * 4096):
        try:
            kernel.extract_vmlinux(data)
        except steps.LabError:
            continue
        raise AssertionError("accepted %r..." % data[:8])


@test
def step_is_built_once_by_two_at_once(t):
    os.environ["XDG_CACHE_HOME"] = t.dir
    built = []

    def build(directory):
        built.append(directory)
        with open(os.path.join(directory, "file"), "w") as out:
            out.write("whole")

    threads = [threading.Thread(target=steps.step, args=("x", "1", build))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = os.path.join(steps.step("x", "1", build), "file")
    assert len(built) == 1, built
    assert open(path).read() == "whole"


@test
def step_that_fails_leaves_nothing(t):
    os.environ["XDG_CACHE_HOME"] = t.dir

    def build(directory):
        raise steps.LabError("no network")

    try:
        steps.step("x", "2", build)
    except steps.LabError:
        pass
    left = [name for name in os.listdir(steps.cache_dir())
            if not name.endswith(".lock")]
    assert not left, left


if __name__ == "__main__":
    main()
