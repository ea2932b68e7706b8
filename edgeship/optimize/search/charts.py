"""The Pareto plot as SVG text: what is lost over size, or over latency where it was measured; area tells size then.

Colours come from the page's style sheet; the pick is told apart by its ring and its label, not by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from edgeship.bench import units
from edgeship.bench.charts import Axis, linear_ticks, log_ticks
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
    label = f"Points lost over {'median latency' if timed else 'size'} of {len(drawn)} candidates"
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
    out = [
        f'<line class="limit" x1="{_LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>',
        f'<text class="note" x="{right + 6}" y="{at + 4:.1f}">limit: {budget.max_drop:.1f} points</text>',
    ]
    limit = budget.max_latency_us if timed else budget.max_bytes
    if limit is not None and x.low < limit < x.high:
        at = x(limit)
        shown = f"p95 {units.time(limit)}" if timed else units.size(limit)
        out.append(f'<line class="limit" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{HEIGHT - _BOTTOM}"/>')
        out.append(f'<text class="note" x="{at + 4:.1f}" y="{_TOP + 10}">limit: {shown}</text>')
    return out


def _front_line(best: Sequence[Row], x: Axis, y: Axis, *, timed: bool) -> str:
    points = sorted((x(_x(row, timed=timed)), y(row.verdict.drop)) for row in best)
    return f'<polyline class="front" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def _dots(
    rows: Sequence[Row], best: Sequence[Row], picked: Row | None, budget: Budget, x: Axis, y: Axis, *, timed: bool
) -> list[str]:  # fmt: skip
    largest = max(row.variant.bytes for row in rows)
    out: list[str] = []
    taken: list[tuple[float, float]] = []
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
        if row is picked or row in best:
            out.append(_label(a, b, radius, row, picked, taken))
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


def _label(a: float, b: float, radius: float, row: Row, picked: Row | None, taken: list[tuple[float, float]]) -> str:
    """A name above its dot, moved up where another one is."""
    at = b - radius - 6
    while any(abs(at - other) < 13 and abs(a - where) < 200 for where, other in taken):
        at -= 13
    taken.append((a, at))
    kind = "value" if row is picked else "label"
    return f'<text class="{kind}" x="{a:.1f}" y="{at:.1f}">{escape(row.candidate.name)}</text>'
