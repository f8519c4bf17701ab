#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How counted figures are compared with tests/perf/baseline.json, and that the
file and the gate's table are of the same figures."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PERF = os.path.join(HERE, "..", "perf")
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, PERF)

import baseline  # noqa: E402
import figures  # noqa: E402
from tap import main, test  # noqa: E402

KEY = {"qemu": "7.2.22", "kernel": "6.1.0", "compiler": "GCC 12.2.0",
       "libc": "glibc 2.36"}
NEWER = {**KEY, "qemu": "10.0.2"}
SETS = [{"key": NEWER, "figures": {"block_ms": 50, "exits": 100}},
        {"key": KEY, "figures": {"block_ms": 20.0, "exits": 100}}]

DAMAGED = (
    ("nothing", ""),
    ("half a file", '[{"key": {'),
    ("a conflict", "<<<<<<< ours\n[]\n"),
    ("no sets", "[]"),
    ("no list", '{"key": {}}'),
    ("a number for a set", "[1]"),
    ("a set without a key", '[{"figures": {"a": 1}}]'),
    ("a key that lacks a word", json.dumps(
        [{"key": {"qemu": "7"}, "figures": {"a": 1}}])),
    ("a key of numbers", json.dumps(
        [{"key": {**KEY, "qemu": 7}, "figures": {"a": 1}}])),
    ("no figures", json.dumps([{"key": KEY, "figures": {}}])),
    ("a figure that is text", json.dumps(
        [{"key": KEY, "figures": {"a": "1"}}])),
    ("a figure that is true", json.dumps(
        [{"key": KEY, "figures": {"a": True}}])),
    ("a figure that is zero", json.dumps(
        [{"key": KEY, "figures": {"a": 0}}])),
    ("a figure that is no number", '[{"key": %s, "figures": {"a": NaN}}]'
     % json.dumps(KEY)),
    ("two sets of a key", json.dumps(SETS + SETS[:1])),
)


def load_gate():
    """The program as a module."""
    path = os.path.join(PERF, "gate")
    loader = importlib.machinery.SourceFileLoader("gate", path)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("gate", loader))
    loader.exec_module(module)
    return module


def gate_on(t, sets):
    """The program, with these sets in a file of the test's."""
    gate = load_gate()
    gate.BASELINE = t.write("baseline.json", baseline.text_of(sets))
    gate.GATED = {"counted-block": ("block_ms",),
                  "counted-boot": ("exits",)}
    return gate


def said(work, *arguments):
    """(what it returns, what it prints)."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = work(*arguments)
    return result, out.getvalue()


def compare(key, **measured):
    verdicts, notes = baseline.compare(SETS, key, measured)
    return {one.name: one for one in verdicts}, notes


@test
def the_same_is_fine_and_worth_no_word(t):
    verdicts, notes = compare(KEY, block_ms=20.0, exits=100)
    assert [one.fine for one in verdicts.values()] == [True, True]
    assert not notes
    assert not any(one.notable for one in verdicts.values())


@test
def growth_up_to_the_limit_is_fine(t):
    verdicts, _ = compare(KEY, block_ms=20.59, exits=103)
    assert all(one.fine for one in verdicts.values())


@test
def growth_above_it_fails_with_a_sentence(t):
    verdicts, _ = compare(KEY, block_ms=20.7, exits=100)
    assert not verdicts["block_ms"].fine
    assert verdicts["exits"].fine
    assert verdicts["block_ms"].sentence == \
        "block_ms was 20 and is 20.7, 3.5 % more (limit: 3 %)", \
        verdicts["block_ms"].sentence


@test
def a_gain_is_fine_and_said(t):
    verdicts, _ = compare(KEY, block_ms=15.0, exits=98)
    assert verdicts["block_ms"].fine and verdicts["block_ms"].notable
    assert "25.0 % less" in verdicts["block_ms"].sentence
    assert "--update" in verdicts["block_ms"].sentence
    assert not verdicts["exits"].notable


@test
def a_figure_that_is_not_measured_fails(t):
    verdicts, _ = compare(KEY, exits=100)
    assert not verdicts["block_ms"].fine
    assert "not measured any more" in verdicts["block_ms"].sentence


@test
def a_figure_without_a_baseline_fails(t):
    verdicts, _ = compare(KEY, block_ms=20.0, exits=100, ping_us=23.0)
    assert not verdicts["ping_us"].fine
    assert "no baseline" in verdicts["ping_us"].sentence


@test
def without_any_baseline_all_fail(t):
    verdicts, _ = baseline.compare([], KEY, {"exits": 100, "block_ms": 1})
    assert [one.fine for one in verdicts] == [False, False]


@test
def each_key_has_its_own_figures(t):
    verdicts, notes = compare(NEWER, block_ms=50.1, exits=100)
    assert verdicts["block_ms"].fine and not notes
    verdicts, _ = compare(KEY, block_ms=50.1, exits=100)
    assert not verdicts["block_ms"].fine


@test
def an_unknown_key_is_named_and_has_more_room(t):
    key = {**KEY, "kernel": "6.1.1"}
    verdicts, notes = compare(key, block_ms=21.9, exits=111)
    assert verdicts["block_ms"].fine
    assert not verdicts["exits"].fine
    assert "limit: 10 %" in verdicts["exits"].sentence
    assert len(notes) == 1 and "kernel 6.1.1" in notes[0], notes


@test
def the_nearest_key_is_taken_and_all_that_is_new_is_named(t):
    key = {**NEWER, "libc": "glibc 2.41", "compiler": "GCC 14.2.0"}
    verdicts, notes = compare(key, block_ms=50.0, exits=100)
    assert verdicts["block_ms"].fine
    assert len(notes) == 2, notes


@test
def damaged_files_are_refused(t):
    for name, text in DAMAGED:
        try:
            baseline.parse(text)
            t.point(False, name)
        except baseline.Damaged as error:
            t.point(str(error), name)


@test
def a_file_that_is_not_there_has_no_sets(t):
    assert baseline.read(t.path("none")) == []
    binary = t.write("binary", b"\xff\xfe\x00")
    try:
        baseline.read(binary)
        raise AssertionError("it was read")
    except baseline.Damaged:
        pass


@test
def an_update_replaces_its_key_and_leaves_others(t):
    sets = baseline.updated(SETS, KEY, {"exits": 90})
    assert baseline.parse(baseline.text_of(sets)) == sets
    assert [one["figures"] for one in sets] == [SETS[0]["figures"],
                                                {"exits": 90}]
    assert len(baseline.updated(SETS, {**KEY, "qemu": "9"},
                                {"exits": 90})) == 3


@test
def the_gate_says_which_figure_grew(t):
    gate = gate_on(t, SETS)
    failures, text = said(gate.check, KEY, {"block_ms": 30.0, "exits": 90},
                          list(gate.GATED), {})
    assert failures == 1
    assert "1..2\nnot ok 1 - block_ms\n# block_ms was 20 and is 30, 50.0 % " \
        "more" in text, text
    assert "# NOTE exits was 100 and is 90, 10.0 % less" in text, text


@test
def the_gate_says_which_part_of_a_key_is_new(t):
    gate = gate_on(t, SETS)
    failures, text = said(gate.check, {**KEY, "libc": "glibc 2.41"},
                          {"block_ms": 20.0, "exits": 100},
                          list(gate.GATED), {})
    assert not failures
    assert "# NOTE no baseline for libc glibc 2.41, only for glibc 2.36" \
        in text, text


@test
def what_could_not_be_measured_fails_the_gate_once(t):
    gate = gate_on(t, SETS)
    failures, text = said(gate.check, KEY, {"exits": 100}, list(gate.GATED),
                          {"counted-block": "lab.py ended with 125"})
    assert failures == 1
    assert "not ok 2 - counted-block" in text, text
    assert "lab.py ended with 125" in text, text


@test
def a_part_of_the_gate_misses_nothing_else(t):
    gate = gate_on(t, SETS)
    failures, text = said(gate.check, KEY, {"exits": 100}, ["counted-boot"],
                          {})
    assert not failures and text.startswith("1..1\n"), text


@test
def a_damaged_baseline_fails_the_gate(t):
    gate = gate_on(t, SETS)
    t.write("baseline.json", "<<<<<<<")
    failures, text = said(gate.check, KEY, {"exits": 100}, list(gate.GATED),
                          {})
    assert failures == 1 and "damaged" in text, text


@test
def a_part_is_updated_alone(t):
    gate = gate_on(t, SETS)
    said(gate.update, KEY, {"exits": 80}, ["counted-boot"])
    assert baseline.read(gate.BASELINE)[1] == {
        "key": KEY, "figures": {"block_ms": 20.0, "exits": 80}}


@test
def the_file_has_what_the_gate_measures(t):
    gate = load_gate()
    names = {name for part in gate.GATED.values() for name in part}
    sets = baseline.read(gate.BASELINE)
    t.point(sets, "there are sets")
    for one in sets:
        differ = names ^ set(one["figures"])
        t.point(not differ, "of %s" % one["key"]["qemu"], sorted(differ))
    for name in sorted(names):
        t.point(figures.ORIGIN.get(name) == figures.COUNTED, name)


@test
def what_is_measured_becomes_a_result(t):
    gate = load_gate()
    found = gate.gated(["block_ms 24.7\n", "exits 217 (of them 3)\n",
                        "odd_us 7\n", "api_get_us 91.2 whole 124.1\n"])
    assert found == {"block_ms": 24.7, "exits": 217, "api_get_us": 91.2}, \
        found
    assert gate.first_number("QEMU emulator version 7.2.22 (Debian 1:7.2)") \
        == "7.2.22"
    program = t.write("program", b"\x7fELF\0GCC: (Debian 12.2.0-14) "
                      b"12.2.0\0x")
    assert gate.compiler_of(program) == "GCC 12.2.0"


if __name__ == "__main__":
    main()
