#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that no compiler knows (CONTRIBUTING.md).

Licence lines, length and nesting of functions, length of the README, notes to
self without an issue, threads that unwind, runs of lines that stand twice,
scripts that parse.
"""

import ast
import os
import re
import subprocess
import sys

FUNCTION_LINES_MAX = 100
NESTING_MAX = 4
README_LINES_MAX = 150
DUPLICATE_LINES = 12
CODE = (".c", ".h", ".S", ".ld", ".py", ".sh")


def tracked():
    out = subprocess.run(["git", "ls-files", "--cached", "--others",
                          "--exclude-standard"],
                         stdout=subprocess.PIPE, check=True)
    return [name for name in out.stdout.decode().splitlines()
            if os.path.isfile(name)]


def lines_of(name):
    with open(name, encoding="utf-8") as source:
        return source.read().splitlines()


def is_script(name):
    """Programs without an extension count by their first line."""
    if "." in os.path.basename(name):
        return False
    with open(name, "rb") as source:
        return source.read(2) == b"#!"


def check_licence(name, lines):
    if not any("SPDX-License-Identifier: Apache-2.0" in line
               for line in lines[:3]):
        yield "%s: no SPDX line" % name


def check_functions(name, lines):
    """clang-format puts a function's braces, and only those and those of
    types, into column 0."""
    start = None
    deepest = 0
    for number, line in enumerate(lines, 1):
        if line == "{":
            start, deepest = number, 0
        elif start and line.startswith("}"):
            length = number - start - 1
            if length > FUNCTION_LINES_MAX:
                yield "%s:%d: function of %d lines" % (name, start, length)
            if deepest > NESTING_MAX:
                yield "%s:%d: nested %d deep" % (name, start, deepest)
            start = None
        elif start and line.rstrip().endswith("{"):
            deepest = max(deepest, len(line) - len(line.lstrip("\t")))


def check_notes(name, lines):
    for number, line in enumerate(lines, 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)", line):
            yield "%s:%d: a note to self without an issue" % (name, number)


def check_unwinding(name, lines):
    """The release is linked without the tables that these need
    (vmm/no_unwind.ld)."""
    for number, line in enumerate(lines, 1):
        if re.search(r"\bpthread_(exit|cancel)\b", line):
            yield "%s:%d: a thread that ends by unwinding" % (name, number)


def check_readme():
    length = len(lines_of("README.md"))
    if length > README_LINES_MAX:
        yield "README.md: %d lines" % length


def normalized(lines):
    """(number, text) of the lines that carry logic."""
    for number, line in enumerate(lines, 1):
        text = re.sub(r"\s+", " ", line.split("/*")[0]).strip()
        if len(text) > 3 and not text.startswith(("#", "*", "//")):
            yield number, text


def check_duplicates(files):
    """Runs of lines that stand somewhere else to the letter."""
    seen = {}
    for name in files:
        rows = list(normalized(lines_of(name)))
        for i in range(len(rows) - DUPLICATE_LINES + 1):
            run = tuple(text for _, text in rows[i:i + DUPLICATE_LINES])
            where = "%s:%d" % (name, rows[i][0])
            if run in seen and not seen[run].startswith(name + ":"):
                yield "%s: %d lines stand at %s too" % (
                    where, DUPLICATE_LINES, seen[run])
                break
            seen.setdefault(run, where)


def check_script(name):
    if name.endswith(".py") or "python" in lines_of(name)[0]:
        try:
            ast.parse("\n".join(lines_of(name)), name)
        except SyntaxError as error:
            yield "%s: %s" % (name, error)
    else:
        done = subprocess.run(["sh", "-n", name], stderr=subprocess.PIPE)
        if done.returncode:
            yield done.stderr.decode().strip()


def problems():
    names = [name for name in tracked() if "/corpus/" not in name]
    code = [name for name in names if name.endswith(CODE) or is_script(name)]
    sources = [name for name in code if name.endswith((".c", ".h"))]
    for name in code:
        lines = lines_of(name)
        yield from check_licence(name, lines)
        if name != "tests/style/style.py":
            yield from check_notes(name, lines)
        if name in sources:
            yield from check_functions(name, lines)
            yield from check_unwinding(name, lines)
        elif name.endswith((".py", ".sh")) or is_script(name):
            yield from check_script(name)
    yield from check_duplicates(
        [name for name in sources if not name.startswith("tests/unit/")])
    yield from check_readme()


def main():
    found = list(problems())
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
