"""The Pareto plot as SVG text: what is lost over size, or over latency where it was measured; area tells size then.

Colours come from the page's style sheet; the pick is told apart by its ring and its label, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from edgeship import wording
from edgeship.bench import units
from edgeship.bench.charts import Axis, linear_ticks, log_ticks
from edgeship.optimize.search import labels
from edgeship.optimize.search.labels import Box
from edgeship.optimize.search.pick import Budget, Row, front, misses, points

WIDTH, HEIGHT = 1040, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 200, 20, 56
FORMATS = ("tflite", "onnx")  # in the order of the page's colours


def pareto(rows: Sequence[Row], picked: Row | None, budget: Budget) -> str:
    """The plot.

    Args:
        rows: candidates judged on all data; at least one.
        picked: gets a ring.
        budget: its limits are drawn as lines.
    """
    timed = all(row.latency is not None for row in rows) or sum(row.latency is not None for row in rows) >= 2
    drawn = [row for row in rows if row.latency is not None] if timed else list(rows)
    values = [_x(row, timed=timed) for row in drawn]
    x = Axis(min(values) * 0.85, max(values) * 1.18, _LEFT, WIDTH - _RIGHT, log=True)
    drops = [row.verdict.drop for row in drawn]
    top, bottom = max([*drops, budget.max_drop]), min([*drops, 0.0])
    room = max(0.2, (top - bottom) * 0.1)
    y = Axis(bottom - room, top + room, HEIGHT - _BOTTOM, _TOP)
    best = front(drawn)
    body = [*_axes(x, y, timed=timed), *_limits(x, y, budget, timed=timed), _front_line(best, x, y, timed=timed)]
    body += _dots(drawn, best, picked, budget, x, y, timed=timed)
    label = f"Points lost over {'median latency' if timed else 'size'} of {wording.counted(len(drawn), 'candidate')}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>'
        f"{''.join(body)}</svg>"
    )


def _x(row: Row, *, timed: bool) -> float:
    return row.latency.median_us if timed and row.latency is not None else float(row.variant.bytes)


def _axes(x: Axis, y: Axis, *, timed: bool) -> list[str]:
    out: list[str] = []
    shown = units.time if timed else units.size
    ticks = log_ticks(x.low, x.high)
    for tick in ticks if len(ticks) >= 2 else linear_ticks(x.low, x.high):
        at = x(tick)
        out.append(f'<line class="grid" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{HEIGHT - _BOTTOM}"/>')
        text = f'<text class="tick" x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{shown(tick)}</text>'
        out.append(text)
    for tick in linear_ticks(y.low, y.high, 6):
        at = y(tick)
        out.append(f'<line class="grid" x1="{_LEFT}" y1="{at:.1f}" x2="{WIDTH - _RIGHT}" y2="{at:.1f}"/>')
        text = f"{tick:.10g}".replace("-", "−")
        out.append(f'<text class="tick" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    title = "median latency (area: size)" if timed else "size"
    out.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 14}" text-anchor="middle">{title}</text>')
    at = (HEIGHT - _BOTTOM + _TOP) / 2
    turned = f'<text class="axis" text-anchor="middle" transform="translate(16 {at:.0f}) rotate(-90)">'
    out.append(f"{turned}points lost (lower is better)</text>")
    return out


def _limits(x: Axis, y: Axis, budget: Budget, *, timed: bool) -> list[str]:
    at = y(budget.max_drop)
    right = WIDTH - _RIGHT
    allowed = wording.counted(budget.max_drop, "point")
    out = [
        f'<line class="limit" x1="{_LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>',
        f'<text class="note" x="{right + 6}" y="{at + 4:.1f}">limit: {allowed}</text>',
    ]
    limit = budget.max_latency_us if timed else budget.max_bytes
    if limit is not None and x.low < limit < x.high:
        at = x(limit)
        shown = f"p95 {units.time(limit)}" if timed else units.size(limit)
        out.append(f'<line class="limit" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{HEIGHT - _BOTTOM}"/>')
        out.append(f'<text class="note" x="{at + 4:.1f}" y="{_TOP + 10}">limit: {shown}</text>')
    return out


def _front_line(best: Sequence[Row], x: Axis, y: Axis, *, timed: bool) -> str:
    points = _corners(best, x, y, timed=timed)
    return f'<polyline class="front" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _corners(best: Sequence[Row], x: Axis, y: Axis, *, timed: bool) -> list[tuple[float, float]]:
    return sorted((x(_x(row, timed=timed)), y(row.verdict.drop)) for row in best)


def _along(points: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Small boxes along a line, for names to keep away from."""
    for (a, b), (c, d) in pairwise(points):
        steps = max(1, int(math.hypot(c - a, d - b) // 8))
        for step in range(steps + 1):
            yield labels.around(a + (c - a) * step / steps, b + (d - b) * step / steps, 1.0)


def _dots(
    rows: Sequence[Row], best: Sequence[Row], picked: Row | None, budget: Budget, x: Axis, y: Axis, *, timed: bool
) -> list[str]:  # fmt: skip
    largest = max(row.variant.bytes for row in rows)
    out: list[str] = []
    named: list[tuple[Row, float, float, float]] = []
    taken = [Box(WIDTH - _RIGHT, y(budget.max_drop) - 9, WIDTH, y(budget.max_drop) + 9)]  # what the limit says
    taken += _along(_corners(best, x, y, timed=timed))
    for row in sorted(rows, key=lambda r: -r.variant.bytes):
        a, b = x(_x(row, timed=timed)), y(row.verdict.drop)
        radius = 5 + 9 * math.sqrt(row.variant.bytes / largest) if timed else 7.0
        series = FORMATS.index(row.candidate.format) if row.candidate.format in FORMATS else 2
        over = " over" if misses(row, budget) else ""
        out.append(
            f'<circle class="dot s{series}{over}" cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}">'
            f"<title>{escape(_hover(row, budget))}</title></circle>"
        )
        if row is picked:
            out.append(f'<circle class="ring" cx="{a:.1f}" cy="{b:.1f}" r="{radius + 4:.1f}"/>')
        taken.append(labels.around(a, b, radius))
        if row is picked or row in best:
            named.append((row, a, b, radius + (4 if row is picked else 0)))
    return out + _names(sorted(named, key=lambda one: one[0] is not picked), picked, taken)


def _names(
    named: Sequence[tuple[Row, float, float, float]], picked: Row | None, taken: list[Box]
) -> list[str]:  # fmt: skip
    """The names of dots, the first one where it likes best; a thin line leads to one that stands further off."""
    frame = Box(_LEFT, 2, WIDTH - 2, HEIGHT - _BOTTOM)
    out: list[str] = []
    for row, a, b, radius in named:
        box = labels.place(row.candidate.name, a, b, radius, taken, frame)
        taken.append(box)
        near = labels.around(a, b, radius + labels.HEIGHT)
        if not box.overlap(near):
            end = min(max(a, box.left), box.right), box.bottom if box.bottom < b else box.top
            out.append(f'<line class="lead" x1="{a:.1f}" y1="{b:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>')
        left, base = box.base
        kind = "value" if row is picked else "label"
        out.append(f'<text class="{kind}" x="{left:.1f}" y="{base:.1f}">{escape(row.candidate.name)}</text>')
    return out


def _hover(row: Row, budget: Budget) -> str:
    """All that is known of a candidate, one figure a line."""
    (low, high), latency = row.verdict.interval, row.latency
    lines = [
        row.candidate.name,
        f"{points(row.verdict.drop)} points lost (95 %: {points(low)} … {points(high)}, n = {row.verdict.samples:,})",
        units.size(row.variant.bytes),
    ]
    if latency is not None:
        lines.append(f"median {units.time(latency.median_us)}, p95 {units.time(latency.p95_us)} on {latency.place}")
    lines += [f"over the budget: {miss.text}" for miss in misses(row, budget)]
    return "\n".join(lines)
