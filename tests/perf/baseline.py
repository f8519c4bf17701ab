# SPDX-License-Identifier: Apache-2.0
"""What the counted figures were, and whether they still are: baseline.json, and
how a measurement is compared with it.

Figures of the counted lab are numbers of instructions. They repeat exactly, but
they belong to what else is executed: the emulator, the kernel, the compiler and
the libc of the monitor. So there is a set of figures for each combination that
somebody wrote down, its key. With a key that is not known, the set that has most
in common is compared with, and more growth is allowed; the message says which part
is new."""

import json

GROWTH_PC = 3        # with figures that belong to the same key
UNKNOWN_KEY_PC = 10  # with those of another one
KEY = ("qemu", "kernel", "compiler", "libc")


class Damaged(Exception):
    """A file that is no baseline; the text says why."""


def _check_set(one):
    if not isinstance(one, dict) or set(one) != {"key", "figures"}:
        raise Damaged('a set has a "key" and "figures", and nothing else')
    key, figures = one["key"], one["figures"]
    if not isinstance(key, dict) or set(key) != set(KEY) \
            or not all(isinstance(part, str) for part in key.values()):
        raise Damaged("a key has the words " + ", ".join(KEY))
    if not isinstance(figures, dict) or not figures:
        raise Damaged("a set has no figures")
    for name, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) \
                or not value > 0:
            raise Damaged("%s is %r, not a number above zero" % (name, value))


def parse(text):
    """The sets of a baseline file's text."""
    try:
        sets = json.loads(text)
    except ValueError as error:
        raise Damaged("it is not JSON: %s" % error) from None
    if not isinstance(sets, list) or not sets:
        raise Damaged("it is no list of sets")
    for one in sets:
        _check_set(one)
    if len({tuple(sorted(one["key"].items())) for one in sets}) < len(sets):
        raise Damaged("two sets have the same key")
    return sets


def read(path):
    """The sets of a file; none if it is not there."""
    try:
        with open(path, encoding="utf-8") as source:
            return parse(source.read())
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise Damaged("it is not text: %s" % error) from None


def text_of(sets):
    """One figure a line, so that a change of one is a line in a diff."""
    return json.dumps(sets, indent=1, sort_keys=True) + "\n"


def updated(sets, key, figures):
    """The sets with one more, in place of the one with that key."""
    others = [one for one in sets if one["key"] != key]
    return others + [{"key": key, "figures": figures}]


def nearest(sets, key):
    """The set that has most of its key in common; earlier parts count more.
    Then the parts that are not: [(part, theirs, ours)]."""
    def likeness(one):
        same = [one["key"][part] == key[part] for part in KEY]
        return sum(same), same

    best = max(sets, key=likeness)
    return best, [(part, best["key"][part], key[part]) for part in KEY
                  if best["key"][part] != key[part]]


class Verdict:
    """A figure: whether that is fine, and a sentence."""

    def __init__(self, name, fine, sentence, notable=False):
        self.name = name
        self.fine = fine
        self.sentence = sentence
        self.notable = notable  # to be said although it is fine


def _number(value):
    return "%.4g" % value if value < 1000 else "%.0f" % value


def judge(name, was, now, limit):
    """The verdict on one figure; @was or @now may be missing."""
    if now is None:
        return Verdict(name, False, "%s was %s and is not measured any more"
                       % (name, _number(was)))
    if was is None:
        return Verdict(name, False, "%s is %s and has no baseline: gate "
                       "--update writes one" % (name, _number(now)))
    change = (now / was - 1) * 100
    sentence = "%s was %s and is %s, %.1f %% %s" % (
        name, _number(was), _number(now), abs(change),
        "more" if change >= 0 else "less")
    if now * 100 > was * (100 + limit):
        return Verdict(name, False, sentence + " (limit: %d %%)" % limit)
    if now * 100 < was * (100 - limit):
        return Verdict(name, True, sentence + ": gate --update, in the same "
                       "commit, keeps the gain", True)
    return Verdict(name, True, sentence)


def compare(sets, key, figures):
    """(verdicts, what has to be said of the key). @figures: what was measured;
    a set and it have the same names, or that is a verdict as well."""
    if not sets:
        return [judge(name, None, now, 0)
                for name, now in figures.items()], []
    best, unknown = nearest(sets, key)
    limit = UNKNOWN_KEY_PC if unknown else GROWTH_PC
    notes = ["no baseline for %s %s, only for %s: figures may have grown by "
             "%d %%; gate --update writes one" % (part, ours, theirs, limit)
             for part, theirs, ours in unknown]
    names = list(best["figures"])
    names += [name for name in figures if name not in best["figures"]]
    return [judge(name, best["figures"].get(name), figures.get(name), limit)
            for name in names], notes
