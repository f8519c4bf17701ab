# SPDX-License-Identifier: Apache-2.0
"""Results of test programs: reading TAP, and the closing table."""

import re

NOTE = re.compile(r"^# NOTE (.*)")
LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?([^#]*)(#\s*(.*))?$")
PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*[Ss][Kk][Ii][Pp]\w*\s*(.*))?")
SKIP = re.compile(r"(?i)^skip\w*[:\s]*")
TAIL_LINES = 25
REASON_LINES = 12
WIDTH = 160


class Result:
    """What became of one test program: names of what passed, and (name,
    reason) of what failed or was skipped."""

    def __init__(self, name):
        self.name = name
        self.passed = []
        self.failed = []
        self.skipped = []
        self.notes = []  # what has to be said of what passed
        self.seconds = 0.0
        self.may_stall = False
        self.again = False  # passed, but only when it was run again

    def fail(self, name, reason):
        self.failed.append((name, reason))
        return self

    def skip(self, name, reason):
        self.skipped.append((name, reason))
        return self

    def summary(self):
        """The counts that are not zero, in words."""
        counts = ((len(self.passed), "passed"), (len(self.failed), "FAILED"),
                  (len(self.skipped), "skipped"))
        words = ["%d %s" % c for c in counts if c[0]]
        return ", ".join(words + ["again"] * self.again) or "no tests"


def _comments(lines, number):
    """The comment lines that follow a test line: its story."""
    story = []
    for line in lines[number + 1:]:
        if not line.startswith("#") or len(story) == REASON_LINES:
            break
        story.append(line.lstrip("# "))
    return "\n".join(story)


def _take_line(result, match, story):
    """Counts one "ok" or "not ok" line."""
    name = match.group(3).strip() or "test %s" % match.group(2)
    directive = match.group(5) or ""
    if SKIP.match(directive):
        reason = SKIP.sub("", directive) or story
        if not match.group(3).strip():
            # cmocka puts the name where the reason belongs.
            name, reason = reason, "skip() was called"
        result.skip(name, reason or "no reason")
    elif match.group(1):
        result.fail(name, story or directive or "no reason given")
    else:
        result.passed.append(name)


def _check_end(result, plan, seen, code, lines):
    """A program that dies or loses tests has failed, whatever it printed."""
    tail = "\n".join(lines[-TAIL_LINES:])
    if code not in (0, 1) or (code and not result.failed):
        result.fail("exit", "exit code %d after:\n%s" % (code, tail))
    elif plan is None:
        result.fail("plan", "no plan printed:\n" + tail)
    elif plan != seen:
        result.fail("plan", "%d planned, %d seen" % (plan, seen))


def read_tap(name, text, code):
    """The Result of a program that printed @text and ended with @code."""
    result = Result(name)
    lines = text.splitlines()
    plan = None
    seen = 0
    for number, line in enumerate(lines):
        match = LINE.match(line)
        if match:
            seen += 1
            _take_line(result, match, _comments(lines, number))
            continue
        match = NOTE.match(line)
        if match:
            result.notes.append(match.group(1))
        match = PLAN.match(line)
        if match:
            plan = (plan or 0) + int(match.group(1))
            if match.group(2) is not None:
                result.skip("all", match.group(2) or "no reason")
    _check_end(result, plan, seen, code, lines)
    return result


def show(tier, result):
    """One line per program, then one per failed or skipped test in it, and
    what else is to be noted."""
    print("%-10s %-28s %-34s %6.1f s" % (tier, result.name, result.summary(),
                                        result.seconds))
    for word, items in (("FAILED", result.failed),
                        ("skipped", result.skipped)):
        for name, reason in items:
            first, *rest = reason.splitlines() or [""]
            print("       %s: %s: %s" % (word, name, first[:WIDTH]))
            for line in rest:
                print("           " + line[:WIDTH])
    for note in result.notes:
        print("       " + note[:WIDTH])
    print(end="", flush=True)


def table(rows):
    """Prints the tiers and the closing line; returns the number of failures.
    @rows: (tier, where, [Result], seconds)."""
    form = "%-11s %-8s %7s %7s %8s %9s"
    print("\n" + form % ("tier", "where", "passed", "failed", "skipped",
                         "seconds"))
    totals = [0, 0, 0]
    for tier, where, results, seconds in rows:
        counts = [sum(len(getattr(r, what)) for r in results)
                  for what in ("passed", "failed", "skipped")]
        totals = [a + b for a, b in zip(totals, counts)]
        print(form % (tier, where, *counts, "%.1f" % seconds))
    again = [r.name for row in rows for r in row[2] if r.again]
    if again:
        print("\nonly when run again: " + ", ".join(again))
    print("\n%d passed, %d failed, %d skipped" % tuple(totals), flush=True)
    return totals[1]
