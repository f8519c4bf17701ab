# SPDX-License-Identifier: Apache-2.0
"""What measuring programs print, line by line:

    NAME VALUE [p10 VALUE] [whole VALUE] [anything else]
    samples NAME VALUE...      all runs of a figure, for distributions
    phases NAME WORD=VALUE...  what a time consists of, in order
    curve NAME X=VALUE...      a figure for several sizes
    peer MONITOR NAME VALUE [p10 VALUE]
                               a monitor's figure (peers.ALL_FIGURES), "ember"
                               being one; _ stands for a blank in its name
    dash MONITOR NAME WORD...  why it has no such figure

Other lines, and what is in `#` comments, are for people.
"""

import re

NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Readings:
    """Everything that was read so far."""

    def __init__(self):
        self.values = {}   # name: value
        self.more = {}     # name: {"p10": value, ...}
        self.samples = {}  # name: [value]
        self.phases = {}   # name: [(word, value)]
        self.curves = {}   # name: [(x, value)]
        self.peers = {}    # monitor: {name: value}
        self.missing = {}  # benchmark: why it was not run, or failed

    def take(self, text):
        """Reads lines; the names of the figures that were in them."""
        found = []
        for line in text.splitlines():
            name = self._take_line(line.split("#")[0].split())
            if name:
                found.append(name)
        return found

    def _take_line(self, words):
        if len(words) < 2:
            return None
        if words[0] == "samples":
            self.samples[words[1]] = [float(word) for word in words[2:]]
        elif words[0] in ("peer", "dash") and len(words) >= 4:
            self._take_peer(*words)
        elif words[0] in ("phases", "curve"):
            pairs = [word.split("=") for word in words[2:]]
            if words[0] == "phases":
                self.phases[words[1]] = [(key.replace("_", " "), float(value))
                                         for key, value in pairs]
            else:
                self.curves[words[1]] = [(float(key), float(value))
                                         for key, value in pairs]
        elif NAME.match(words[0]) and is_number(words[1]):
            self._take_figure(words)
            return words[0]
        return None

    def _take_peer(self, kind, monitor, name, *rest):
        found = self.peers.setdefault(monitor.replace("_", " "), {})
        if kind == "dash":
            found.setdefault("why", {})[name] = " ".join(rest)
            return
        found[name] = float(rest[0])
        if rest[1:2] == ("p10",):
            found.setdefault("p10", {})[name] = float(rest[2])

    def _take_figure(self, words):
        self.values[words[0]] = float(words[1])
        rest = words[2:]
        self.more[words[0]] = {
            key: float(value) for key, value in zip(rest[::2], rest[1::2])
            if NAME.match(key) and is_number(value)}


def is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True
