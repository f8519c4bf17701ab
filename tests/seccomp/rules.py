#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rules.py RULES DIR...: compares the rules of filters with what monitors did.

RULES is what `ember-seccomp print` says, or `-`; the directories have what
strace wrote down about monitors (EMBER_STRACE, see tests/lib/ember.py). From
the moment a thread has its filter, each call must be one that a rule of its
class allows; and each rule must have allowed one, unless it says why no test
comes to it ("untested"). Rules that nothing needs are not there to be kept.
"""

import json
import os
import re
import sys

CALL = re.compile(r"(\d+)<([^>]*)> (\w+)\(([^)<]*)")
CLASSES = (("ember_api", "api"), ("ember_vcpu", "vcpu"),
           ("ember_prefetch", "memory"), ("ember_copier", "memory"),
           ("ember_recorder", "memory"), ("ember_uffd", "memory"),
           ("ember", "loop"))
SHOWN_MAX = 20


def class_of(thread):
    """The class of rules that a thread of this name is held to."""
    for start, kind in CLASSES:
        if thread == start or thread.startswith(start + " "):
            return kind
    return None


class Rule:
    """One way in which a call may be made."""

    def __init__(self, kind, entry):
        self.kind, self.entry = kind, entry
        self.used = 0
        self.conditions = [
            (condition["index"], int(condition.get("mask", "-1"), 0),
             condition["value"]) for condition in entry.get("args", ())]

    def allows(self, arguments, pid):
        for index, mask, value in self.conditions:
            wanted = pid if value == "own_pid" else int(value, 0)
            if index >= len(arguments) or arguments[index] & mask != wanted:
                return False
        return True

    def __str__(self):
        return "%s: %s(%s): %s" % (
            self.kind, self.entry["syscall"],
            ", ".join("%d: %s" % (index, value)
                      for index, _, value in self.conditions),
            self.entry.get("comment", ""))


class Rules:
    """Those of all classes, and what was made of them."""

    def __init__(self, text):
        self.all = []
        self.by_call = {}
        self.outside = {}
        self.threads = dict.fromkeys(set(kind for _, kind in CLASSES), 0)
        for kind, entries in json.loads(text).items():
            for entry in entries:
                rule = Rule(kind, entry)
                self.all.append(rule)
                self.by_call.setdefault((kind, entry["syscall"]),
                                        []).append(rule)

    def judge(self, kind, call, arguments, pid, where):
        for rule in self.by_call.get((kind, call), ()):
            if rule.allows(arguments, pid):
                rule.used += 1
                return
        form = "%s(%s)" % (call, ", ".join(map(hex, arguments)))
        self.outside.setdefault((kind, call), (form, where))

    def read(self, path):
        """One monitor's calls."""
        confined = {}
        pid = None
        with open(path, errors="replace") as calls:
            for line in calls:
                # A thread that died while strace looked at it made none.
                found = "<detached ...>" not in line and CALL.match(line)
                if not found:
                    continue
                thread, name, call, words = found.groups()
                if call.startswith("syscall_0xf"):
                    continue  # none: the thread was killed on its way in
                pid = pid or int(thread)
                if thread in confined:
                    self.judge(confined[thread], call, numbers(words), pid,
                               path)
                elif call == "seccomp" and ") = -1 " not in line:
                    confined[thread] = class_of(name)
                    self.threads[confined[thread]] += 1


def numbers(words):
    return [int(word, 0) for word in words.split(",") if word.strip()]


def report(rules):
    """TAP; the number of failures."""
    points = []
    for kind, count in sorted(rules.threads.items()):
        points.append((count > 0, "threads of class %s" % kind, str(count)))
        outside = [story for (k, _), story in rules.outside.items()
                   if k == kind]
        points.append((not outside, "%s stays within its rules" % kind,
                       "\n".join("%s in %s" % story
                                 for story in outside[:SHOWN_MAX])))
    for rule in rules.all:
        if "untested" not in rule.entry:
            points.append((rule.used > 0, "used: %s" % rule, ""))
    for number, (good, name, detail) in enumerate(points, 1):
        print("%s %d - %s" % ("ok" if good else "not ok", number, name))
        for line in detail.splitlines():
            print("# " + line)
    print("1..%d" % len(points))
    return sum(not good for good, _, _ in points)


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    with (sys.stdin if sys.argv[1] == "-" else open(sys.argv[1])) as source:
        rules = Rules(source.read())
    for directory in sys.argv[2:]:
        for name in sorted(os.listdir(directory)):
            rules.read(os.path.join(directory, name))
    return 1 if report(rules) else 0


if __name__ == "__main__":
    sys.exit(main())
