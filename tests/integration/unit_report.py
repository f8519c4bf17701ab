#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The report of `make perf`: what is read from the measuring programs, what the
tables say of it, and that the drawings are well-formed."""

import json
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "perf"))

import figures  # noqa: E402
import peers  # noqa: E402
import svg  # noqa: E402
from readings import Readings  # noqa: E402
from report import DASH, Report  # noqa: E402
from tap import main, test  # noqa: E402

# A run in which P1 is reached, P2 only in the fast tenth and P9 is not.
RUN = """# a comment
api_wall_us 900 p10 800
api_cpu_us 700
first_byte_us 1400 p10 950
rss_kib 2000
dirty_kib 100
samples api_wall_us 800 900 1000
phases boot exec=200 libc_and_arguments=300
curve clone_dirty_kib 1=200 16=180 256=170
peer ember answer_us 900
peer ember first_byte_us 1000
peer Firecracker answer_us 1800 p10 1700
dash Firecracker first_byte_us it did not start
peer QEMU_microvm answer_us 90000
"""


def report_of(text, notes=()):
    readings = Readings()
    readings.take(text)
    return Report(readings, list(notes))


def row(markdown, label):
    """The cells of the first row that has a label in it."""
    for line in markdown.splitlines():
        if line.startswith("|") and label in line:
            return [cell.strip() for cell in line.strip("|").split("|")]
    raise AssertionError("no row with " + label)


@test
def lines_are_read_by_their_kind(t):
    found = Readings()
    names = found.take(RUN)
    assert names == ["api_wall_us", "api_cpu_us", "first_byte_us", "rss_kib",
                     "dirty_kib"], names
    assert found.more["api_wall_us"] == {"p10": 800}, found.more
    assert found.samples["api_wall_us"] == [800, 900, 1000]
    assert found.phases["boot"] == [("exec", 200),
                                    ("libc and arguments", 300)]
    assert found.curves["clone_dirty_kib"][1] == (16, 180)
    assert found.peers["QEMU microvm"] == {"answer_us": 90000}


@test
def other_lines_are_for_people(t):
    found = Readings()
    for line in ("", "one", "Two 2", "three many", "# four 4", "peer five 5"):
        assert not found.take(line), line
    assert not found.values and not found.peers


@test
def goals_are_judged(t):
    text = report_of(RUN).to_markdown()
    for label, reached in (
            ("exec to the first API answer", "**no**"),  # half, not 0.4
            ("CPU time of it", "yes"),
            ("InstanceStart to a tiny guest's first byte (this", "by a tenth"),
            ("resident beside guest RAM, 128 MiB", "**no**"),
            ("of it private and dirty", "yes"),
            ("InstanceStart to its answer (counted", "")):
        got = row(text, label)[4]
        t.point(got == reached, label, "%r, not %r" % (got, reached))


@test
def every_goal_has_a_figure_and_a_target(t):
    assert [goal.name for goal in figures.GOALS] == [
        "P%d" % number for number in range(1, 12)]
    for goal in figures.GOALS:
        for target in goal.targets:
            t.point(target.limit or target.share, target.figure)
            t.point(target.figure in figures.FIGURES or
                    target.figure in figures.UNMEASURED,
                    target.figure + " is known")


@test
def peers_are_compared(t):
    text = report_of(RUN).to_markdown()
    shares = row(text, "exec to the first API answer")[5]
    assert "0.5 Firecracker" in shares, shares
    assert "0.01 QEMU microvm" in shares, shares
    assert row(text, "exec to an answered request")[1:] == [
        "900 us", "90000 us", "0.01", "1800 us", "0.5"]


@test
def what_a_peer_cannot_do_is_a_dash(t):
    text = report_of(RUN).to_markdown()
    cells = row(text, "start command to the guest's first byte")
    assert cells[1:] == ["1000 us", DASH, DASH, DASH, DASH], cells
    assert ("- Firecracker: it did not start (start command to the guest's "
            "first byte)" in text), text


@test
def every_figure_of_peers_names_one_of_ours(t):
    for pair in peers.ALL_FIGURES:
        t.point(pair.goal_figure is None or
                pair.goal_figure in figures.FIGURES, pair.name)


@test
def what_was_not_measured_is_said(t):
    readings = Readings()
    readings.missing["start"] = "there is no /dev/kvm to use"
    text = Report(readings, ["a note"]).to_markdown()
    assert "- start: there is no /dev/kvm to use" in text
    assert "- a note" in text


@test
def a_report_is_written_with_its_drawings(t):
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "old.svg"), "w"):
            pass
        report_of(RUN).write(directory)
        names = os.listdir(directory)
        with open(os.path.join(directory, "report.json")) as source:
            data = json.load(source)
        with open(os.path.join(directory, "report.md")) as source:
            text = source.read()
        for name in names:
            if name.endswith(".svg"):
                ElementTree.parse(os.path.join(directory, name))
                t.point("(%s)" % name in text, name + " is shown")
    assert data["figures"]["api_wall_us"]["value"] == 900
    assert data["figures"]["api_wall_us"]["p10"] == 800
    assert data["peers"]["Firecracker"]["answer_us"] == 1800
    assert "old.svg" not in names, "drawings of a run before"
    assert "phases-boot.svg" in names and "clones.svg" in names, names


@test
def numbers_have_three_digits(t):
    for value, text in ((0, "0"), (0.0123, "0.012"), (0.5, "0.5"),
                        (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
                        (123456, "123456")):
        t.point(svg.number(value) == text, text, svg.number(value))


@test
def scales_end_above_the_highest_value(t):
    for top in (0, 0.003, 1, 7, 99, 100, 101, 12345):
        steps = svg.ticks(top)
        t.point(steps[-1] >= top and len(steps) <= 12, str(top), str(steps))


@test
def scales_by_factors_hold_all_values(t):
    for low, high in ((1, 100), (0.02, 3e6), (999, 10001), (1000, 20000),
                      (17, 171)):
        steps = svg.factor_ticks(low, high)
        t.point(steps[0] <= low * 1.001 and steps[-1] >= high * 0.999,
                "%s to %s" % (low, high), str(steps))


@test
def drawings_take_awkward_names_and_values(t):
    odd = "<a & b>"
    for document in (
            svg.bars(odd, [(odd, [0, None]), ("x", [1e6, 1])], [odd, "y"],
                     odd),
            svg.waterfall(odd, [(odd, 0), ("x", 1)], "us"),
            svg.lines(odd, [(odd, [(1, 5)])], "KiB", "clones"),
            svg.distribution(odd, [(odd, [1])], "us"),
            svg.distribution(odd, [(odd, [0, 0.5, 1e6])], "us"),
            svg.distribution(odd, [(odd, [0.02, 3e6])], "us")):
        ElementTree.fromstring(document)


if __name__ == "__main__":
    main()
