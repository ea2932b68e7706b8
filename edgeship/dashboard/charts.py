"""Charts as geometry: series over time become paths, ticks and marks that a template writes as SVG.

Drawn on the server because the policy of the pages allows no inline style and no foreign script (docs/decisions/0006).
A page without JavaScript shows everything; with it, `live.js` adds a crosshair from `Chart.points`.

Rules this module keeps: a time that no window covers breaks the line and is shaded, never bridged; every scale begins
at zero; pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.dashboard import text
from edgeship.fleet.query import Point, Span

_TIME_STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    2_592_000,
)  # fmt: skip
_LABEL = 14.0  # least distance of two labels at the end of lines, px


@dataclass(frozen=True)
class Frame:
    """The size of a drawing and the space around its plot, px."""

    name: str
    width: float
    height: float
    left: float = 66.0
    right: float = 48.0
    top: float = 22.0
    bottom: float = 24.0
    time_ticks: int = 9

    @property
    def plot_width(self) -> float:
        """Between the margins."""
        return self.width - self.left - self.right

    @property
    def plot_height(self) -> float:
        """Between the margins."""
        return self.height - self.top - self.bottom


WIDE = Frame("wide", 1060, 268)
NARROW = Frame("narrow", 372, 236, left=66, right=42, time_ticks=4)


@dataclass(frozen=True)
class Measure:
    """One line: its key (class of the style sheet), its label, and what it shows of a step."""

    key: str
    label: str
    value: Callable[[Point], float | None]


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment."""

    at: float
    label: str
    title: str


@dataclass(frozen=True)
class Limit:
    """A horizontal line."""

    value: float
    label: str


@dataclass(frozen=True)
class Line:
    """A drawn line: `M x y L x y …` by uninterrupted piece, and the points that stand alone."""

    key: str
    label: str
    path: str
    dots: tuple[tuple[float, float], ...]
    label_y: float | None


@dataclass(frozen=True)
class Drawing:
    """A chart at one size; all numbers are px."""

    frame: Frame
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    gaps: tuple[tuple[float, float], ...]  # x, width
    marks: tuple[tuple[float, str, str], ...]  # x, label, title
    limit: tuple[float, str] | None  # y, label


@dataclass(frozen=True)
class Chart:
    """A chart at all sizes, and its points for the crosshair."""

    title: str
    drawings: tuple[Drawing, ...]
    keys: tuple[tuple[str, str], ...]  # key, label
    points: str  # JSON: [[position 0…1, time, [text of each line]], …]
    empty: bool
    start: float
    end: float


def chart(
    title: str,
    of: Span,
    points: Sequence[Point],
    measures: Sequence[Measure],
    write: Callable[[float | None], str],
    axis: Callable[[float, float], str],
    *,
    gaps: Sequence[Span] = (),
    marks: Sequence[Mark] = (),
    limit: Limit | None = None,
) -> Chart:
    """Lay a chart out.

    Args:
        title: what it shows.
        of: the time axis.
        points: steps with data, in order.
        measures: the lines.
        write: a value for people.
        axis: a tick of the vertical axis, of (value, top of the axis).
        gaps: times without data (`query.breaks`).
        marks: moments to mark.
        limit: a horizontal line, drawn where it lies within three times the largest value.
    """
    table = [(_middle(point, of), [measure.value(point) for measure in measures]) for point in points]
    highest = max((v for _, values in table for v in values if v is not None), default=0.0)
    shown = limit if limit is not None and (not highest or limit.value <= 3 * highest) else None
    top, step = scale(max(highest, shown.value if shown else 0.0))
    drawings = tuple(_draw(frame, of, table, measures, top, step, axis, gaps, marks, shown) for frame in (WIDE, NARROW))
    records = [
        [round((at - of.start) / of.seconds, 4), text.moment(at), [write(v) for v in values]] for at, values in table
    ]
    return Chart(
        title, drawings, tuple((m.key, m.label) for m in measures), json.dumps(records, separators=(",", ":")),
        empty=not any(v is not None for _, values in table for v in values), start=of.start, end=of.end,
    )  # fmt: skip


def _middle(point: Point, of: Span) -> float:
    """Where a step is drawn: the middle of what its windows cover."""
    return min(max((point.summary.first + point.summary.last) / 2, of.start), of.end)


def scale(highest: float, ticks: int = 4) -> tuple[float, float]:
    """A round top of the axis above `highest`, and the step of its ticks (1, 2, 2.5 or 5 times a power of ten)."""
    if highest <= 0:
        return 1.0, 1.0
    rough = highest / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.999)
    return math.ceil(highest / step * 0.999) * step, step


def _draw(
    frame: Frame,
    of: Span,
    table: Sequence[tuple[float, list[float | None]]],
    measures: Sequence[Measure],
    top: float,
    step: float,
    axis: Callable[[float, float], str],
    gaps: Sequence[Span],
    marks: Sequence[Mark],
    limit: Limit | None,
) -> Drawing:
    def x(at: float) -> float:
        return round(frame.left + (min(max(at, of.start), of.end) - of.start) / of.seconds * frame.plot_width, 1)

    def y(value: float) -> float:
        return round(frame.top + (1 - min(value / top, 1.0)) * frame.plot_height, 1)

    edges = [gap.start for gap in gaps]
    lines = []
    for index, measure in enumerate(measures):
        pieces = _pieces([(at, values[index]) for at, values in table], edges)
        path = "".join(_path([(x(at), y(value)) for at, value in piece]) for piece in pieces if len(piece) > 1)
        dots = tuple((x(piece[0][0]), y(piece[0][1])) for piece in pieces if len(piece) == 1)
        lines.append(Line(measure.key, measure.label, path, dots, y(pieces[-1][-1][1]) if pieces else None))
    width = _time_step(of.seconds, frame.time_ticks)
    first = math.ceil(of.start / width) * width
    times = [first + n * width for n in range(int((of.end - first) // width) + 1)] if first <= of.end else []
    return Drawing(
        frame=frame,
        lines=_spread(lines, frame),
        x_ticks=tuple((x(at), text.tick(at, width)) for at in times),
        y_ticks=tuple((y(n * step), axis(n * step, top)) for n in range(round(top / step) + 1)),
        gaps=tuple((x(gap.start), round(max(1.0, x(gap.end) - x(gap.start)), 1)) for gap in gaps),
        marks=_labelled([(x(mark.at), mark.label, mark.title) for mark in marks if of.start <= mark.at <= of.end]),
        limit=(y(limit.value), limit.label) if limit else None,
    )


def _pieces(values: Sequence[tuple[float, float | None]], edges: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Uninterrupted pieces: a gap between two points, or a step without a value, ends one."""
    out: list[list[tuple[float, float]]] = []
    before: float | None = None
    for at, value in values:
        if value is None:
            before = None
            continue
        if before is None or any(before <= edge < at for edge in edges):
            out.append([])
        out[-1].append((at, value))
        before = at
    return out


def _labelled(marks: Sequence[tuple[float, str, str]]) -> tuple[tuple[float, str, str], ...]:
    """Marks whose label would run into the one before go without it; their title still says what they are."""
    out: list[tuple[float, str, str]] = []
    free = -math.inf
    for x, label, title in sorted(marks):
        half = 4.0 * len(label) + 3
        fits = x - half >= free
        free = x + half if fits else free
        out.append((x, label if fits else "", title))
    return tuple(out)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _time_step(seconds: float, most: int) -> float:
    return next((float(step) for step in _TIME_STEPS if seconds / step <= most), float(_TIME_STEPS[-1]))


def _spread(lines: Sequence[Line], frame: Frame) -> tuple[Line, ...]:
    """Move the labels at the ends of lines apart, so that each can be read."""
    placed: dict[str, float] = {}
    lowest = frame.height - frame.bottom
    # From below; where ends lie together, the line that is named first stands highest.
    for line in sorted(lines, key=lambda line: (line.label_y or 0.0, lines.index(line)), reverse=True):
        if line.label_y is None:
            continue
        placed[line.key] = round(min(line.label_y, lowest), 1)
        lowest = placed[line.key] - _LABEL
    return tuple(Line(line.key, line.label, line.path, line.dots, placed.get(line.key)) for line in lines)


def sparkline(
    values: Sequence[float | None], *, from_zero: bool = True, width: float = 96.0, height: float = 22.0
) -> str:
    """The path of a small line without axes; None breaks it. Empty where there is nothing to draw.

    Args:
        values: evenly spaced in time.
        from_zero: the scale begins at zero; else at the smallest value, for readings such as a temperature.
        width: px.
        height: px.
    """
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return ""
    bottom = 0.0 if from_zero else min(known)
    extent = max(known) - bottom
    step = width / (len(values) - 1)

    def y(value: float) -> float:
        return round(height - 2 - ((value - bottom) / extent if extent > 0 else 0.5) * (height - 4), 1)

    pieces = _pieces([(float(i), v) for i, v in enumerate(values)], ())
    return "".join(_path([(round(i * step, 1), y(v)) for i, v in piece]) for piece in pieces if len(piece) > 1)
