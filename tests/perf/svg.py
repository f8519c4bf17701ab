# SPDX-License-Identifier: Apache-2.0
"""Small drawings for the report: bars, timelines, lines, distributions. Each
function returns a whole SVG document; sizes are in pixels."""

import math
from xml.sax.saxutils import escape

# Told apart by everyone (Okabe and Ito), strongest first.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
           "#999999", "#f0e442")
WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 210, 90, 64, 46
ROW = 26
PLOT_HEIGHT = 260
INK, FAINT, GREY = "#222222", "#dddddd", "#999999"


def number(value):
    """Three digits that count, no more than a reader wants."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(math.floor(math.log10(abs(value)))))
    text = "%.*f" % (min(digits, 3), value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(top, count=5):
    """Round steps from 0 to at least @top."""
    if top <= 0:
        return [0, 1]
    raw = top / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= raw * 0.999)
    return [step * n for n in range(int(math.ceil(top / step - 1e-9)) + 1)]


class Drawing:
    """Elements of one picture."""

    def __init__(self, title, height, subtitle=""):
        self.height = height
        self.parts = []
        self.text(16, 26, title, size=16, weight="bold")
        if subtitle:
            self.text(16, 45, subtitle, size=12, fill="#555555")

    def text(self, x, y, words, size=12, anchor="start", weight="normal",
             fill=INK):
        self.parts.append(
            '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" '
            'font-weight="%s" fill="%s">%s</text>'
            % (x, y, size, anchor, weight, fill, escape(str(words))))

    def box(self, x, y, width, height, fill):
        self.parts.append(
            '<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>'
            % (x, y, max(width, 0.5), height, fill))

    def line(self, x1, y1, x2, y2, stroke=FAINT, dash=""):
        self.parts.append(
            '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"%s/>'
            % (x1, y1, x2, y2, stroke,
               ' stroke-dasharray="%s"' % dash if dash else ""))

    def path(self, points, stroke):
        self.parts.append(
            '<polyline points="%s" fill="none" stroke="%s" '
            'stroke-width="2"/>' % (
                " ".join("%.1f,%.1f" % point for point in points), stroke))

    def dot(self, x, y, fill):
        self.parts.append('<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>'
                          % (x, y, fill))

    def legend(self, names, y):
        x = LEFT if sum(32 + 7 * len(name) for name in names) < (
            WIDTH - LEFT) else 70
        for index, name in enumerate(names):
            self.box(x, y - 10, 12, 12, COLOURS[index % len(COLOURS)])
            self.text(x + 17, y, name)
            x += 32 + 7 * len(name)

    def svg(self):
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
            'viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif">\n'
            '<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n'
            % (WIDTH, self.height, WIDTH, self.height,
               "\n".join(self.parts)))


def _grid_across(drawing, top, bottom, scale, steps, unit):
    """Vertical lines with numbers below."""
    for step in steps:
        x = LEFT + step * scale
        drawing.line(x, top, x, bottom)
        drawing.text(x, bottom + 16, number(step), anchor="middle")
    drawing.text(WIDTH - RIGHT, bottom + 34, unit, anchor="end",
                 fill="#555555")


def bars(title, groups, series, unit, subtitle="", stressed=None):
    """@groups: [(label, [value or None for each of @series])], horizontal;
    None is not drawn, but a dash. Beside a @stressed label others are grey."""
    thick = 16 if len(series) > 1 else 18
    group = thick * len(series) + 12
    top = TOP + (20 if len(series) > 1 else 0)
    bottom = top + group * len(groups)
    drawing = Drawing(title, bottom + BOTTOM, subtitle)
    peak = max([v for _, values in groups for v in values if v is not None]
               or [1])
    steps = ticks(peak)
    scale = (WIDTH - LEFT - RIGHT) / steps[-1]
    _grid_across(drawing, top, bottom, scale, steps, unit)
    if len(series) > 1:
        drawing.legend(series, TOP + 8)
    for at, (label, values) in enumerate(groups):
        y = top + at * group + 6
        drawing.text(LEFT - 8, y + thick * len(series) / 2 + 4, label,
                     anchor="end")
        for index, value in enumerate(values):
            row = y + index * thick
            if value is None:
                drawing.text(LEFT + 4, row + thick - 4, "\u2013")
                continue
            drawing.box(LEFT, row + 1, value * scale, thick - 2,
                        COLOURS[index % len(COLOURS)]
                        if stressed in (None, label) else GREY)
            drawing.text(LEFT + value * scale + 5, row + thick - 4,
                         number(value))
    return drawing.svg()


def waterfall(title, phases, unit, subtitle=""):
    """@phases: [(name, length)], one after the other: each has a row, and its
    bar begins where the one before it ends."""
    whole = sum(length for _, length in phases)
    bottom = TOP + ROW * (len(phases) + 1)
    drawing = Drawing(title, bottom + BOTTOM, subtitle)
    steps = ticks(whole)
    scale = (WIDTH - LEFT - RIGHT) / steps[-1]
    _grid_across(drawing, TOP, bottom, scale, steps, unit)
    x = LEFT
    for at, (name, length) in enumerate(phases):
        y = TOP + at * ROW
        drawing.text(LEFT - 8, y + ROW / 2 + 4, name, anchor="end")
        drawing.box(x, y + 3, length * scale, ROW - 6, COLOURS[0])
        x += length * scale
        drawing.text(x + 5, y + ROW / 2 + 4, number(length))
    y = TOP + len(phases) * ROW
    drawing.text(LEFT - 8, y + ROW / 2 + 4, "in all", anchor="end",
                 weight="bold")
    drawing.box(LEFT, y + 3, whole * scale, ROW - 6, COLOURS[1])
    drawing.text(x + 5, y + ROW / 2 + 4, number(whole), weight="bold")
    return drawing.svg()


class Scale:
    """From values to heights: straight, or by factors where some values are
    more than ten times others."""

    def __init__(self, values):
        low, high = min(values), max(values)
        self.by_factors = low > 0 and high > 10 * low
        self.steps = (factor_ticks(low, high) if self.by_factors
                      else ticks(high))
        self.bottom = TOP + 20 + PLOT_HEIGHT

    def _place(self, value):
        return math.log(value) if self.by_factors else value

    def __call__(self, value):
        first, last = (self._place(self.steps[end]) for end in (0, -1))
        return self.bottom - PLOT_HEIGHT * (self._place(value) - first) / (
            last - first)


def factor_ticks(low, high):
    """1, 2, 5, 10 and so on, from at most @low to at least @high."""
    steps = [n * 10.0 ** power
             for power in range(math.floor(math.log10(low)),
                                math.ceil(math.log10(high)) + 1)
             for n in (1, 2, 5)]
    first = max(at for at, step in enumerate(steps) if step <= low * 1.0001)
    last = min(at for at, step in enumerate(steps) if step >= high * 0.9999)
    return steps[first:last + 1]


def _axes(drawing, y_of, x_labels, unit, x_unit):
    """Lines with numbers, and words below."""
    for step in y_of.steps:
        drawing.line(70, y_of(step), WIDTH - 30, y_of(step))
        drawing.text(62, y_of(step) + 4, number(step), anchor="end")
    for x, label in x_labels:
        drawing.line(x, TOP + 20, x, y_of.bottom)
        drawing.line(x, y_of.bottom, x, y_of.bottom + 4, stroke=INK)
        drawing.text(x, y_of.bottom + 18, label, anchor="middle")
    drawing.text(16, TOP + 8, unit, fill="#555555")
    drawing.text(WIDTH - 30, y_of.bottom + 36, x_unit, anchor="end",
                 fill="#555555")


def _curves(title, curves, x_of, x_labels, unit, x_unit, subtitle, dots):
    y_of = Scale([y for _, points in curves for _, y in points])
    drawing = Drawing(title, y_of.bottom + BOTTOM, subtitle)
    _axes(drawing, y_of, x_labels, unit, x_unit)
    if len(curves) > 1:
        drawing.legend([name for name, _ in curves], TOP + 8)
    for index, (_, points) in enumerate(curves):
        colour = COLOURS[index % len(COLOURS)]
        drawing.path([(x_of(x), y_of(y)) for x, y in points], colour)
        for x, y in points if dots else ():
            drawing.dot(x_of(x), y_of(y), colour)
    return drawing.svg()


def lines(title, curves, unit, x_unit, subtitle=""):
    """@curves: [(name, [(x, y)])], x growing by factors."""
    values = sorted({x for _, points in curves for x, _ in points})
    low, high = math.log(values[0]), math.log(values[-1])
    width = WIDTH - 130

    def x_of(value):
        return 85 + width * (math.log(value) - low) / ((high - low) or 1)

    return _curves(title, curves, x_of,
                   [(x_of(x), number(x)) for x in values], unit, x_unit,
                   subtitle, True)


def distribution(title, samples, unit, subtitle=""):
    """@samples: [(name, [value])]: what part of all took at most how long. The
    last percent is stretched: that is where the trouble is."""
    marks, end = (0, 50, 75, 90, 95, 99), 99.5
    width = WIDTH - 130

    def x_of(percent):
        return 85 + width * -math.log10(1 - percent / 100) / 2.302

    curves = []
    for name, values in samples:
        values = sorted(values)
        count = len(values)
        curves.append((name, [(100 * n / count, value)
                              for n, value in enumerate(values)
                              if 100 * n / count <= end]))
    return _curves(title, curves, x_of,
                   [(x_of(mark), "%d %%" % mark) for mark in marks], unit,
                   "of all are at most that slow", subtitle, False)
