"""The report's charts as SVG text: no script, no font, no file beside it.

Rules this module keeps: every text that comes from outside is escaped; a series is told apart by a dash pattern as well
as by its colour; samples beyond an axis are counted in words; colours come from the page's style sheet, so that one
drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edgeship.bench import statistics, units
from edgeship.bench.record import Record

WIDTH = 1040
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 44
_MOST_POINTS = 1500  # dots drawn of one series
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "12 4")
_WINDOW = 25  # runs of the rolling median


@dataclass(frozen=True)
class Axis:
    """From values to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float  # pixel of `high`
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        if self.log:
            share = math.log(max(value, 1e-12) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values on the axis."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between `low` and `high`; only powers where those would be too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) <= 3 else (1,)
    return [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]


def _padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """A range with some room, never empty, never below 0."""
    room = (high - low) * share or max(high, 1.0) * 0.05
    return max(0.0, low - room), high + room


def _svg(height: float, label: str, body: Sequence[str]) -> str:
    inner = "".join(body)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{inner}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "tick", anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _x_axis(axis: Axis, top: float, bottom: float, unit: float, title: str) -> list[str]:
    out = []
    for tick in axis.ticks():
        x = axis(tick)
        out += [_line(x, top, x, bottom, "grid"), _text(x, bottom + 16, _tick(tick / unit))]
    return [*out, _text((axis.start + axis.end) / 2, bottom + 36, title, "axis")]


def _y_axis(axis: Axis, left: float, right: float, unit: float, title: str = "") -> list[str]:
    out = []
    for tick in axis.ticks(5):
        y = axis(tick)
        out += [_line(left, y, right, y, "grid"), _text(left - 8, y + 4, _tick(tick / unit), anchor="end")]
    middle = (axis.start + axis.end) / 2
    if title:
        out.append(
            f'<text class="axis" text-anchor="middle" transform="translate(13 {middle:.1f}) rotate(-90)">{title}</text>'
        )
    return out


def _tick(value: float) -> str:
    return f"{value:,.10g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _unit(records: Sequence[Record]) -> tuple[float, str]:
    return units.scaled_time(max(r.summary.median for r in records))


def ecdf(records: Sequence[Record]) -> str:
    """The share of runs that took at most so long, one curve a record."""
    bottom = 280.0
    series = [np.sort(statistics.samples_of(r.latencies_us)) for r in records]
    low = min(float(s[0]) for s in series)
    high = max(float(np.percentile(s, 98)) for s in series)
    log = high / max(low, 1e-9) > 8
    low, high = (low / 1.08, high * 1.08) if log else _padded(low, high)
    unit, name = _unit(records)
    x = Axis(max(low, 1e-6) if log else low, high, _LEFT, WIDTH - _RIGHT, log)
    y = Axis(0.0, 1.0, bottom, _TOP)
    beyond = sum(int((s > high).sum()) for s in series)
    scale = ", logarithmic" if log else ""
    title = f"latency in {name}{scale}" + (f"; {beyond} slower runs lie beyond the axis" if beyond else "")
    body = [*_x_axis(x, _TOP, bottom, unit, title), *_y_axis(y, _LEFT, WIDTH - _RIGHT, 0.01, "% of runs")]
    for percent in (0.5, 0.95):
        body.append(_line(_LEFT, y(percent), WIDTH - _RIGHT, y(percent), "mark"))
        body.append(_text(_LEFT + 4, y(percent) - 4, f"p{percent * 100:.0f}", "note", "start"))
    for index, (record, values) in enumerate(zip(records, series, strict=True)):
        body.append(_steps(values, x, y, index, record.title))
    return _svg(bottom + _BOTTOM, "Share of runs that took at most so long", body)


def _steps(values: statistics.Array, x: Axis, y: Axis, index: int, label: str) -> str:
    n = len(values)
    ranks = np.unique(np.linspace(0, n - 1, min(n, 400)).astype(int))
    points = [(x(float(values[0])), y(0.0))]
    for rank in ranks:
        value = float(values[rank])
        if value > x.high:
            points.append((x.end, points[-1][1]))
            break
        points += [(x(value), points[-1][1]), (x(value), y((rank + 1) / n))]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return (
        f'<polyline class="curve s{index % 6}" stroke-dasharray="{_DASHES[index % 6]}" points="{path}">'
        f"<title>{escape(label)}</title></polyline>"
    )


def run_order(record: Record, index: int = 0) -> str:
    """Each run in the order in which it ran, with the rolling median; far outliers at the upper edge."""
    bottom = 200.0
    values = statistics.samples_of(record.latencies_us)
    n, summary = len(values), record.summary
    far = statistics.outliers(values)
    usual = max(1.2 * float(np.percentile(values, 95)), summary.median + 12 * summary.mad, summary.interval.high)
    low, high = _padded(float(values.min()), min(usual, float(values.max())), 0.12)
    unit, name = units.scaled_time(summary.median)
    x = Axis(0.0, float(max(n, 2)), _LEFT, WIDTH - _RIGHT)
    y = Axis(low, high, bottom, _TOP)
    above = int((values > high).sum())
    title = f"run, in order (n = {n:,}" + (f"; {above} above the axis, at its edge)" if above else ")")
    body = [*_x_axis(x, _TOP, bottom, 1.0, title), *_y_axis(y, _LEFT, WIDTH - _RIGHT, unit, name)]
    band = summary.interval
    body.append(
        f'<rect class="band s{index % 6}" x="{_LEFT}" y="{y(band.high):.1f}" width="{WIDTH - _RIGHT - _LEFT}" '
        f'height="{max(1.0, y(band.low) - y(band.high)):.1f}"><title>95 % interval of the median: '
        f"{escape(units.interval(band.low, band.high))}</title></rect>"
    )
    stride = max(1, n // _MOST_POINTS)
    shown = [i for i in range(n) if i % stride == 0 or (far[i] and values[i] > high)]
    for i in shown:
        value = float(values[i])
        if value > high:
            cx = x(i + 0.5)
            body.append(
                f'<path class="above" d="M{cx - 3.5:.1f} {_TOP + 6} h7 l-3.5 -6 z">'
                f"<title>run {i + 1}: {escape(units.time(value))}</title></path>"
            )
        else:
            body.append(f'<circle class="dot s{index % 6}" cx="{x(i + 0.5):.1f}" cy="{y(value):.1f}" r="1.7"/>')
    if n >= _WINDOW * 2:
        rolling = np.median(np.lib.stride_tricks.sliding_window_view(values, _WINDOW), axis=1)[:: max(1, n // 500)]
        at = np.arange(len(rolling)) * max(1, n // 500) + _WINDOW / 2
        path = " ".join(f"{x(float(a)):.1f},{y(min(float(v), high)):.1f}" for a, v in zip(at, rolling, strict=True))
        body.append(f'<polyline class="rolling" points="{path}"><title>median of {_WINDOW} runs</title></polyline>')
    return _svg(bottom + _BOTTOM, f"Latency in run order, {record.title}", body)


def medians(records: Sequence[Record]) -> str:
    """Median and p95 of every record on one axis: dot, 95 % interval, tick of p95."""
    row, label = 46.0, 26.0
    bottom = _TOP + row * len(records)
    unit, name = _unit(records)
    most = [r.summary.percentile(95.0) or r.summary.interval.high for r in records]
    high = max(*most, *(r.summary.interval.high for r in records)) * 1.12 or 1.0
    x = Axis(0.0, high, 16, WIDTH - _RIGHT - 74)
    body = _x_axis(x, _TOP, bottom, unit, f"latency in {name}: median with 95 % interval, and p95")
    for index, record in enumerate(records):
        summary, y = record.summary, _TOP + row * index + label + 6
        low, top = summary.interval.low, summary.interval.high
        body.append(_text(x.start, y - 14, record.title, "label", "start"))
        p95 = summary.percentile(95.0)
        if p95 is not None:
            body.append(_line(x(summary.median), y, x(p95), y, "reach"))
            body.append(_line(x(p95), y - 6, x(p95), y + 6, f"end s{index % 6}"))
        body.append(_line(x(low), y, x(top), y, f"whisker s{index % 6}"))
        body.append(
            f'<circle class="point s{index % 6}" cx="{x(summary.median):.1f}" cy="{y:.1f}" r="5">'
            f"<title>{escape(units.time(summary.median))}, 95 %: {escape(units.interval(low, top))}</title></circle>"
        )
        body.append(_text(WIDTH - 4, y + 4, units.time(summary.median), "value", "end"))
    return _svg(bottom + _BOTTOM, "Median latency with its interval", body)


def bars(records: Sequence[Record]) -> str:
    """Speed beside size: median latency, size of the model file and memory of the process, bars a record."""
    panels: list[tuple[str, Sequence[float | None], Callable[[float | None], str]]] = [
        ("median latency", [r.summary.median for r in records], units.time),
        ("model file", [r.identity.bytes for r in records], units.size),
        ("memory of the process (PSS)", [r.memory.pss_bytes for r in records], units.size),
    ]
    row, gap, width = 34.0, 18.0, (WIDTH - 2 * 18.0) / 3
    top = 30.0
    body = []
    for column, (title, values, form) in enumerate(panels):
        left = column * (width + gap)
        body.append(_text(left, 16, title, "axis", "start"))
        known = [v for v in values if v is not None]
        most = max(known, default=0) or 1
        for index, value in enumerate(values):
            y = top + index * row
            body.append(_text(left, y + 8, records[index].title if column == 0 else "", "label", "start"))
            if value is None:
                body.append(_text(left, y + 24, "not measured", "note", "start"))
                continue
            long = max(2.0, (width - 72) * value / most)
            place = f'x="{left:.1f}" y="{y + 13:.1f}" width="{long:.1f}" height="13"'
            body.append(f'<rect class="bar s{index % 6}" {place} rx="2"/>')
            body.append(_text(left + long + 6, y + 24, form(value), "value", "start"))
    return _svg(top + row * len(records) + 10, "Speed beside size", body)
