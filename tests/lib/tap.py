# SPDX-License-Identifier: Apache-2.0
"""Tests as functions, results as TAP (Test Anything Protocol).

    from tap import main, test

    @test
    def version_is_served(t):
        ...assert something...

    if __name__ == "__main__":
        main()

A test that returns has passed, one that raises has failed, one that raises
Skip was not possible here. A test that checks several things in one run (a
guest that reports line by line) says so with t.point(); then each point is a
result of its own.

Every test gets a directory of its own and undoes what it did through
t.defer(), also after a failure or a signal. `FILE.py WORD...` runs only the
tests whose name contains one of the words; `FILE.py --list` names them.
"""
import os
import shutil
import signal
import sys
import tempfile
import traceback

import injail

TESTS = []

# TEST_SLOW=10 for emulated machines and sanitizers: all timeouts grow.
SLOW = float(os.environ.get("TEST_SLOW", "1"))


class Skip(Exception):
    """This test cannot run on this machine; the message says why."""


class Test:
    """What a running test may use: its directory, its points, its end."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="ember-test-")
        injail.share(self.dir)
        self.points = []
        self._undo = []
        self._attachments = []

    def path(self, name):
        """A path in the test's own directory."""
        return os.path.join(self.dir, name)

    def write(self, name, data=b""):
        """Creates a file with these bytes (or this text); returns its path."""
        path = self.path(name)
        if isinstance(data, str):
            data = data.encode()
        with open(path, "wb") as file:
            file.write(data)
        return path

    def point(self, good, name, detail=""):
        """One result among several of this test."""
        self.points.append((bool(good), name, str(detail)))

    def defer(self, action, *args):
        """Runs action(*args) when the test is over; last come, first run."""
        self._undo.append((action, args))

    def attach(self, title, get_text):
        """Text that helps to understand a failure, fetched after one."""
        self._attachments.append((title, get_text))

    def explain(self):
        lines = []
        for title, get_text in self._attachments:
            text = get_text().strip()
            if text:
                lines.append("--- %s (last lines)" % title)
                lines += text.splitlines()[-25:]
        return "\n".join(lines)

    def finish(self):
        """Undoes everything; returns what went wrong with that."""
        errors = []
        while self._undo:
            action, args = self._undo.pop()
            try:
                action(*args)
            except Exception:  # the rest is to be undone all the same
                errors.append(traceback.format_exc())
        shutil.rmtree(self.dir, ignore_errors=True)
        return "".join(errors)


def test(function):
    """Registers a test: its name in the report is the function's."""
    TESTS.append(function)
    return function


def skip_unless(condition, reason):
    if not condition:
        raise Skip(reason)


class _Report:
    def __init__(self):
        self.count = 0
        self.failed = 0

    def result(self, good, name, remark="", detail=""):
        self.count += 1
        self.failed += not good
        print("%s %d - %s%s" % ("ok" if good else "not ok", self.count, name,
                                remark and " # " + remark))
        for line in detail.splitlines():
            print("# " + line)
        sys.stdout.flush()


def _place(error):
    """Where in the test's own file an assertion failed, and its text."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename == os.path.abspath(sys.argv[0])
           or f.filename == sys.argv[0]] or frames
    return "%s:%d: %s\n%s" % (os.path.basename(own[-1].filename),
                              own[-1].lineno, own[-1].line, error)


def _outcome(function, t):
    """Runs one test: (reason it was skipped for, reason it failed for)."""
    try:
        function(t)
    except Skip as reason:
        return str(reason), ""
    except AssertionError as error:
        return "", _place(error)
    except Exception:
        return "", traceback.format_exc()
    return "", ""


def _run(function, report):
    t = Test(function.__name__)
    story = skipped = error = ""
    try:
        skipped, error = _outcome(function, t)
        # Monitors still run while the story of a failure is told.
        if error or not all(good for good, _, _ in t.points):
            story = t.explain()
    finally:
        error += t.finish()
    if skipped and not error:
        report.result(True, t.name, "SKIP " + skipped)
        return
    for good, point, detail in t.points:
        report.result(good, "%s: %s" % (t.name, point), "",
                      "" if good else detail)
    if error or not t.points:
        report.result(not error, t.name, "", error)
    for line in story.splitlines():
        print("# " + line)


def main():
    """Runs the registered tests; exits 1 when one of them failed."""
    words = sys.argv[1:]
    chosen = [f for f in TESTS
              if not words or any(word in f.__name__ for word in words)]
    if words == ["--list"]:
        print("\n".join(f.__name__ for f in TESTS))
        return
    # A terminated run still ends its monitors.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(143))
    report = _Report()
    for function in chosen:
        _run(function, report)
    print("1..%d" % report.count)
    sys.exit(1 if report.failed else 0)
