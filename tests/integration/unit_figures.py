#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What measuring programs print and what the report expects are the same names:
each that a program can print has a row in figures.py, each row is what a program
says it prints, each section is filled by a benchmark."""

import os
import re
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PERF = os.path.join(HERE, "..", "perf")
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
sys.path.insert(0, PERF)

import benchmarks  # noqa: E402
import figures  # noqa: E402
from tap import main, test  # noqa: E402

# Strings of Python that begin with a figure's name, and of C that are one, too.
# %s stands for any word.
NAME = r'"([a-z0-9_%]+_(?:us|ms|kib|mib|pc|ratio|bytes|per_s))'
NAMES = {".py": re.compile(NAME + " %"), ".c": re.compile(NAME + '(?:"| %)')}
# Those that are not printed: names of metrics, and of samples without a figure.
OTHERS = re.compile(r'metric_in\([^)]*\)')
SAMPLES = {"api_request_us", "api_8_request_us", "%s_us"}


def sources():
    """(name, text) of what measures on this machine."""
    for name in sorted(os.listdir(PERF)):
        if name.endswith((".c", ".py")) and not name.startswith(
                ("counted", "peers", "monitors", "figures", "report")):
            with open(os.path.join(PERF, name), encoding="utf-8") as source:
                yield name, source.read()


def printed(source, text):
    names = NAMES[os.path.splitext(source)[1]]
    return set(names.findall(OTHERS.sub("", text))) - SAMPLES


def head(text):
    """The comment at its beginning, which says what it prints."""
    found = re.search(r'/\*\n \*.*?\*/|""".*?"""', text, re.DOTALL)
    return found.group(0) if found else ""


@test
def names_are_found(t):
    text = ('printf("ws_%s_us %.0f"); names = {"rss_kib"}; "no_figure";'
            'x = metric_in(text, "startup_time_us")')
    assert printed("a.c", text) == {"ws_%s_us", "rss_kib"}
    assert printed("a.py", text) == {"ws_%s_us"}


@test
def every_name_that_is_printed_has_a_row(t):
    seen = 0
    for source, text in sources():
        for name in sorted(printed(source, text)):
            pattern = re.compile(name.replace("%s", "[a-z0-9_]+"))
            rows = [row for row in figures.FIGURES if pattern.fullmatch(row)]
            t.point(rows, "%s of %s" % (name, source))
            seen += 1
    t.point(seen > 60, "there are names", seen)


@test
def every_row_is_printed_by_a_program_that_says_so(t):
    words = set()
    for source, text in sources():
        said = text if source == "benchmarks.py" else head(text)
        words |= set(re.findall(r"[a-z0-9_]+", said))
    for _, origin, rows in figures.SECTIONS:
        for row in rows if origin != figures.COUNTED else ():
            t.point(row.name in words, row.name)


@test
def every_figure_has_one_row(t):
    names = [row.name for _, _, rows in figures.SECTIONS for row in rows]
    for name in sorted(set(names)):
        t.point(names.count(name) == 1, name)


@test
def every_section_is_filled_by_a_benchmark(t):
    filled = {title for one in benchmarks.BENCHMARKS for title in one.fills}
    titles = {title for title, _, _ in figures.SECTIONS}
    for title in sorted(titles | filled):
        t.point(title in titles and title in filled, title)


@test
def missing_figures_are_missed_if_their_benchmarks_ran(t):
    values = {"binary_bytes": 1}
    assert benchmarks.missed(["size"], values) == ["jailer_bytes"]
    assert benchmarks.missed(["start"], {}) == [
        row.name for title, _, rows in figures.SECTIONS if title == "Start"
        for row in rows]
    assert not benchmarks.missed([], {})
    assert benchmarks.unknown(["binary_bytes", "odd_us"]) == ["odd_us"]


@test
def a_part_can_be_taken_or_left_out(t):
    wanted = runpy.run_path(os.path.join(PERF, "run"))["wanted"]
    for words, name, taken in (
            ([], "start", True), (["rest"], "restore", True),
            (["rest"], "start", False), (["-counted"], "counted-io", False),
            (["-counted"], "start", True), (["io", "-counted"], "x-io", True),
            (["io", "-counted"], "counted-io", False),
            (["io", "-counted"], "start", False)):
        t.point(wanted(name, words) == taken, "%s of %s" % (name, words))


if __name__ == "__main__":
    main()
