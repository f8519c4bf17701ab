# SPDX-License-Identifier: Apache-2.0
"""The report of a `make perf`: report.md with tables, report.json with all
numbers, and drawings beside them."""

import json
import os
import platform

import svg
from figures import (FIGURES, GOALS, ORIGIN, SECTIONS, UNMEASURED, kept,
                     within)
from monitors import OTHERS
from peers import ALL_FIGURES

WHERE = {"wall": "this machine, wall time", "counted": "counted lab",
         "files": "the build"}
DASH = "\u2013"
EMBER = "ember"
NAMES = [driver.name for driver in OTHERS]
FIRECRACKER = "Firecracker"

# What time is divided: title and subtitle.
FAST = "means of the faster quarter of all runs"
PHASES = {
    "boot": ("Start, phase by phase: exec to a tiny guest's first byte", FAST),
    "restore": ("Restore, phase by phase: exec to the copy's first byte",
                FAST),
    "restore_linux": ("Loading a Debian guest, phase by phase",
                      "counted lab, any host"),
    "tuned_restore_linux": ("Loading a Debian guest, phase by phase",
                            "counted lab, a host with favordynmods"),
}

# (file, title, samples with their labels, or their figures')
DISTRIBUTIONS = (
    ("start.svg", "Start", (
        ("api_wall_us", None), ("first_byte_us", None))),
    ("restore.svg", "Restore: exec to the first byte", (
        ("restore_first_byte_us", "ember"),
        ("restore_floor_us", None))),
    ("working-set.svg", "Restore and touch 24 MB", (
        ("ws_copy_us", "copied before"), ("ws_before_us", "mapped before"),
        ("ws_beside_us", "mapped beside"), ("ws_lazy_us", None),
        ("ws_uffd_us", "external handler"))),
    ("requests.svg", "A request to the API", (
        ("api_request_us", "one connection"),
        ("api_8_request_us", "8 connections at once"))),
    ("jails.svg", "Each of 100 jails at once", (
        ("jails_copy_entry_us", "to main, by copy"),
        ("jails_bind_entry_us", "to main, by bind"),
        ("jails_restore_us", "to a copy's first byte"))),
    ("end.svg", "End of a microVM", (
        ("teardown_us", "hardly touched"),
        ("teardown_touched_us", "128 MiB touched"),
        ("teardown_kill_us", "... SIGKILL"),
        ("teardown_reset_us", "... by the guest"))),
)


def shown(value):
    """A number as tables have it; a dash for none."""
    return DASH if value is None else svg.number(value)


def mark(figure, value):
    held = kept(figure, value)
    return "" if held is not False else "**missed**"


def _row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(head, rows):
    return [_row(head), _row(["---"] * len(head))] + [_row(r) for r in rows]


def _with_unit(value, unit):
    return shown(value) + (" " + unit if value is not None and unit else "")


def _limit(limit, unit):
    """`<= 1500` and a unit, as a reader has it."""
    relation, number = limit.split()
    return "%s %s" % ({"<=": "\u2264", ">=": "\u2265"}[relation],
                      _with_unit(float(number), unit))


def machine():
    """What the figures were measured on, in a few words each."""
    model = memory = "unknown"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as lines:
        memory = "%.0f GiB" % (int(lines.readline().split()[1]) / 1048576)
    return {"processor": model, "processors": os.cpu_count(),
            "memory": memory, "kernel": platform.release()}


def sentence(label):
    """A row's label where it stands alone."""
    words = label.lstrip(". ")
    return words[:1].upper() + words[1:]


def in_handy_unit(samples):
    """Microseconds in milliseconds, if some are long."""
    if max(max(values) for _, values in samples) < 1e4:
        return "us", samples
    return "ms", [(name, [value / 1e3 for value in values])
                  for name, values in samples]


class Report:
    """What one run found."""

    def __init__(self, readings, notes):
        self.readings = readings
        # Always in this order, whoever was measured first.
        self.peers = {name: readings.peers[name] for name in (EMBER, *NAMES)
                      if name in readings.peers}
        self.notes = notes  # sentences about the run
        self.drawings = []  # (file, title)

    # ------------------------------------------------------------- numbers

    def value(self, name):
        return self.readings.values.get(name)

    def to_json(self):
        return json.dumps({
            "machine": machine(), "notes": self.notes,
            "figures": {
                name: {"value": value, "unit": FIGURES[name].unit
                       if name in FIGURES else "",
                       "promise": FIGURES[name].promise
                       if name in FIGURES else None,
                       "from": ORIGIN.get(name),
                       **self.readings.more.get(name, {})}
                for name, value in sorted(self.readings.values.items())},
            "phases": self.readings.phases, "curves": self.readings.curves,
            "samples": self.readings.samples, "peers": self.peers,
            "missing": self.readings.missing,
        }, indent=1) + "\n"

    # ------------------------------------------------------------ sentences

    def _goals(self):
        rows = []
        for goal in GOALS:
            rows.append(("**%s**" % goal.name, "**%s**" % goal.text, "", "",
                         "", ""))
            rows += [self._target(target) for target in goal.targets]
        return _table(("", "figure", EMBER, "target", "reached",
                       "of a peer's, same run"), rows)

    def _target(self, target):
        """A row: what it is, what it should be, and what peers make of it."""
        figure = FIGURES.get(target.figure)
        if not figure:
            return ("", UNMEASURED[target.figure], DASH,
                    _limit(target.limit, ""), "", DASH)
        label = "%s (%s)" % (figure.label.lstrip(". "),
                             WHERE[ORIGIN[figure.name]])
        wanted = [_limit(target.limit, figure.unit)] if target.limit else []
        if target.share:
            wanted.append("%g of %s" % (target.share, FIRECRACKER))
        shares = self._shares(target.figure)
        return ("", label, self._with_fast_tenth(figure), ", ".join(wanted),
                self._reached(target, shares.get(FIRECRACKER)),
                ", ".join("%s %s" % (shown(share), peer)
                          for peer, share in shares.items()) or DASH)

    def _fast_tenth(self, name):
        return self.readings.more.get(name, {}).get("p10")

    def _with_fast_tenth(self, figure):
        fast = self._fast_tenth(figure.name)
        return _with_unit(self.value(figure.name), figure.unit) + (
            " (p10 %s)" % shown(fast) if fast is not None else "")

    def _reached(self, target, share):
        """Both the limit and the share, as far as there are figures."""
        held = [within(target.limit, self.value(target.figure))]
        if target.share and share is not None:
            held.append(share <= target.share)
        known = [one for one in held if one is not None]
        if not known:
            return ""
        if held[0] is False and all(known[1:]) and within(
                target.limit, self._fast_tenth(target.figure)):
            return "by a tenth"
        return "yes" if all(known) else "**no**"

    def _shares(self, name):
        """{peer: what part of its figure ours is}."""
        found = {}
        for pair in ALL_FIGURES:
            ours = self.peers.get(EMBER, {}).get(pair.name)
            for peer, values in self.peers.items():
                theirs = values.get(pair.name)
                if (pair.goal_figure == name and peer != EMBER and theirs
                        and ours is not None):
                    found[peer] = ours / theirs
        return found

    def _peers(self):
        others = [name for name in self.peers if name != EMBER]
        head = ["figure", EMBER]
        for name in others:
            head += [name, "ratio"]
        rows = []
        for pair in ALL_FIGURES:
            ours = self.peers.get(EMBER, {}).get(pair.name)
            row = [pair.label, _with_unit(ours, pair.unit)]
            for name in others:
                theirs = self.peers[name].get(pair.name)
                ratio = ours / theirs if theirs and ours is not None else None
                row += [_with_unit(theirs, pair.unit), shown(ratio)]
            rows.append(row)
        return _table(head, rows)

    def _dashes(self):
        """What a monitor could not do, and why."""
        labels = {pair.name: pair.label for pair in ALL_FIGURES}
        lines = []
        for name, values in self.peers.items():
            reasons = {}
            for figure, why in values.get("why", {}).items():
                reasons.setdefault(why, []).append(
                    labels[figure].lstrip(". "))
            lines += ["- %s: %s (%s)" % (name, why, ", ".join(found))
                      for why, found in reasons.items()]
        return [""] + lines if lines else []

    def _section(self, title, origin, figures):
        rows = []
        for figure in figures:
            value = self.value(figure.name)
            more = self.readings.more.get(figure.name, {})
            rest = ", ".join("%s %s" % (key, shown(number))
                             for key, number in more.items())
            if value is not None:
                rows.append((figure.label, _with_unit(value, figure.unit),
                             rest, _limit(figure.promise, "")
                             if figure.promise else "",
                             mark(figure, value)))
        if not rows:
            return []
        return ["", "### %s (%s)" % (title, WHERE[origin]), ""] + _table(
            ("", "value", "", "expected", ""), rows)

    def _missing(self):
        if not self.readings.missing:
            return []
        return ["", "## Not measured", ""] + [
            "- %s: %s" % item for item in self.readings.missing.items()]

    def to_markdown(self):
        lines = ["# What ember costs", ""]
        lines += ["- %s: %s" % item for item in machine().items()]
        lines += ["- " + note for note in self.notes]
        lines += ["", "Medians; p10: a tenth of all runs is faster, what it "
                  "takes when nobody else runs.", "", "## Goals", ""]
        lines += self._goals()
        if self.peers:
            lines += ["", "## Peers", "", "Same machine, same guests, same "
                      "run, in turn. A dash: it cannot do that.", ""]
            lines += self._peers() + self._dashes()
        if self.drawings:
            lines += ["", "## Drawings", ""]
            lines += ["![%s](%s)" % (title, name)
                      for name, title in self.drawings]
        lines += ["", "## All figures"]
        for section in SECTIONS:
            lines += self._section(*section)
        return "\n".join(lines + self._missing()) + "\n"

    # -------------------------------------------------------------- drawings

    def _draw(self, directory, name, title, document):
        with open(os.path.join(directory, name), "w") as out:
            out.write(document)
        self.drawings.append((name, title))

    def _draw_phases(self, directory):
        for name, phases in self.readings.phases.items():
            title, subtitle = PHASES.get(name, (name, ""))
            self._draw(directory, "phases-%s.svg" % name, title,
                       svg.waterfall(title, phases, "us", subtitle))

    def _draw_samples(self, directory):
        for file, title, names in DISTRIBUTIONS:
            found = [(label or self._label(name), self.readings.samples[name])
                     for name, label in names
                     if self.readings.samples.get(name)]
            if found:
                unit, found = in_handy_unit(found)
                self._draw(directory, file, title, svg.distribution(
                    title, found, unit, self._sizes(found)))

    @staticmethod
    def _sizes(samples):
        sizes = sorted({len(values) for _, values in samples})
        return "%s of each" % " or ".join(map(str, sizes))

    @staticmethod
    def _label(name):
        return FIGURES[name].label if name in FIGURES else name

    def _draw_clones(self, directory):
        curves = self.readings.curves
        found = [(label, curves[name]) for name, label in (
            ("clone_dirty_kib", "private and dirty"),
            ("clone_pss_kib", "proportional set size")) if name in curves]
        if found:
            title = "Memory of each clone"
            self._draw(directory, "clones.svg", title, svg.lines(
                title, found, "KiB", "clones at once"))
        if "clones_up_ms" in curves:
            title = "Clones at once: time until all have answered, per clone"
            self._draw(directory, "clones-time.svg", title, svg.lines(
                title, [(EMBER, [(count, ms / count) for count, ms
                                 in curves["clones_up_ms"]])],
                "ms", "clones at once"))

    def _draw_disks(self, directory):
        groups = [(way, [self.value("disk_%s_%s_mib_per_s" % (engine, word))
                         for engine in ("sync", "async")])
                  for word, way in (("read", "reading"),
                                    ("write", "writing"))]
        if any(value is not None for _, values in groups for value in values):
            title = "Throughput of a disk, requests of 1 MiB, one at a time"
            self._draw(directory, "disk.svg", title, svg.bars(
                title, groups, ["Sync", "Async"], "MiB per s",
                "a tiny guest, a file in the page cache"))

    def _draw_traffic(self, directory):
        names = ("vsock_mib_in_us", "vsock_mib_out_us", "tcp_mib_in_us",
                 "tcp_mib_out_us")
        groups = [(self._label(name).replace("network, ", ""),
                   [self.value(name)]) for name in names
                  if self.value(name) is not None]
        if groups:
            title = "CPU of the monitor per MiB"
            self._draw(directory, "traffic.svg", title, svg.bars(
                title, groups, ["us"], "us per MiB", "counted lab"))

    def _draw_peers(self, directory):
        if len(self.peers) < 2:
            return
        for pair in ALL_FIGURES:
            values = [(name, [found.get(pair.name)])
                      for name, found in self.peers.items()]
            if sum(v[0] is not None for _, v in values) > 1 and pair.drawn:
                title = sentence(pair.label)
                self._draw(directory, "peers-%s.svg" % pair.name, title,
                           svg.bars(title, values, [pair.unit], pair.unit,
                                    "same machine, same run", EMBER))

    def write(self, directory):
        os.makedirs(directory, exist_ok=True)
        for name in os.listdir(directory):
            if name.endswith(".svg"):  # of a run before
                os.unlink(os.path.join(directory, name))
        for draw in (self._draw_phases, self._draw_samples,
                     self._draw_clones, self._draw_disks, self._draw_traffic,
                     self._draw_peers):
            draw(directory)
        for name, text in (("report.json", self.to_json()),
                           ("report.md", self.to_markdown())):
            with open(os.path.join(directory, name), "w") as out:
                out.write(text)
