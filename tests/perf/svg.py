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
INK, FAINT = "#222222", "#dddddd"


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
        x = LEFT
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


def bars(title, groups, series, unit, subtitle=""):
    """@groups: [(label, [value or None for each of @series])], horizontal;
    None is not drawn, but a dash."""
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
                        COLOURS[index % len(COLOURS)])
            drawing.text(LEFT + value * scale + 5, row + thick - 4,
                         number(value))
    return drawing.svg()


def timeline(title, rows, unit, subtitle=""):
    """@rows: [(label, [(phase, length)])]: one bar each, phases end to end.
    Phases keep their colours from row to row; the list of them is below."""
    names = []
    for _, phases in rows:
        names += [name for name, _ in phases if name not in names]
    bottom = TOP + len(rows) * (ROW + 10)
    lines = (len(names) + 2) // 3
    drawing = Drawing(title, bottom + BOTTOM + 20 * lines, subtitle)
    steps = ticks(max(sum(n for _, n in phases) for _, phases in rows))
    scale = (WIDTH - LEFT - RIGHT) / steps[-1]
    _grid_across(drawing, TOP, bottom, scale, steps, unit)
    for at, (label, phases) in enumerate(rows):
        y = TOP + at * (ROW + 10) + 5
        x = LEFT
        drawing.text(LEFT - 8, y + ROW / 2 + 4, label, anchor="end")
        for name, length in phases:
            drawing.box(x, y, length * scale, ROW,
                        COLOURS[names.index(name) % len(COLOURS)])
            x += length * scale
        drawing.text(x + 5, y + ROW / 2 + 4,
                     number(sum(n for _, n in phases)))
    total = {}
    for _, phases in rows[:1]:
        total.update(phases)
    for index, name in enumerate(names):
        x = 16 + (index % 3) * (WIDTH - 32) / 3
        y = bottom + BOTTOM + 10 + 20 * (index // 3)
        drawing.box(x, y - 10, 12, 12, COLOURS[index % len(COLOURS)])
        length = " (%s)" % number(total[name]) if name in total else ""
        drawing.text(x + 17, y, name + length)
    return drawing.svg()


def _axes(drawing, steps, y_of, x_labels, unit, x_unit):
    """Horizontal lines with numbers, and words below."""
    bottom = TOP + 20 + PLOT_HEIGHT
    for step in steps:
        drawing.line(70, y_of(step), WIDTH - 30, y_of(step))
        drawing.text(62, y_of(step) + 4, number(step), anchor="end")
    for x, label in x_labels:
        drawing.line(x, bottom, x, bottom + 4, stroke=INK)
        drawing.text(x, bottom + 18, label, anchor="middle")
    drawing.text(16, TOP + 8, unit, fill="#555555")
    drawing.text(WIDTH - 30, bottom + 36, x_unit, anchor="end",
                 fill="#555555")


def _curves(title, curves, x_of, x_labels, unit, x_unit, subtitle, dots):
    bottom = TOP + 20 + PLOT_HEIGHT
    drawing = Drawing(title, bottom + BOTTOM, subtitle)
    steps = ticks(max(y for _, points in curves for _, y in points))
    scale = PLOT_HEIGHT / steps[-1]

    def y_of(value):
        return bottom - value * scale

    _axes(drawing, steps, y_of, x_labels, unit, x_unit)
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
    marks = (0, 50, 75, 90, 95, 99)
    width = WIDTH - 130

    def x_of(percent):
        return 85 + width * -math.log10(1 - min(percent, 99.5) / 100) / 2.302

    curves = []
    for name, values in samples:
        values = sorted(values)
        count = len(values)
        curves.append((name, [(100 * n / count, value)
                              for n, value in enumerate(values)]))
    return _curves(title, curves, x_of,
                   [(x_of(mark), "%d %%" % mark) for mark in marks], unit,
                   "of all runs are at most that slow", subtitle, False)
