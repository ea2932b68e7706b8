"""The comparison's charts as SVG text: no script, no font, no file beside it.

Rules as in `bench.charts`: every text that comes from outside is escaped; shape and not colour alone tells series
apart; colours come from the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgeship.bench.charts import WIDTH, Axis
from edgeship.optimize.compare.answers import Change
from edgeship.optimize.compare.perform import Row

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 44
_MOST_BARS = 14
_MOST_CLASSES = 30
FLOOR, CEILING = -10.0, 80.0  # dB that are drawn; what lies beyond stands at the edge


def errors(rows: Sequence[Row]) -> str:
    """SQNR of every measured layer in the order they run in, and of its worst channel."""
    bottom = 280.0
    x = Axis(0.0, float(max(len(rows), 1)), _LEFT, WIDTH - _RIGHT)
    shown = [_clip(row.difference.sqnr_db) for row in rows if row.difference is not None]
    parts = [_clip(r.difference.worst_part.sqnr_db) for r in rows if r.difference and r.difference.worst_part]
    low, high = min([0.0, *shown, *parts]), max([40.0, *shown, *parts])
    y = Axis(low - 2, high + 2, bottom, _TOP)
    body = []
    for tick in y.ticks(6):
        body += [
            _line(_LEFT, y(tick), WIDTH - _RIGHT, y(tick), "grid"),
            _text(_LEFT - 8, y(tick) + 4, f"{tick:g}", anchor="end"),
        ]
    body.append(_line(_LEFT, y(20.0), WIDTH - _RIGHT, y(20.0), "mark"))
    body.append(_text(WIDTH - _RIGHT, y(20.0) - 4, "20 dB: noise is 1 % of the signal", "note", "end"))
    points = []
    for index, row in enumerate(rows):
        item = row.difference
        if item is None:
            continue
        at, level = x(index + 0.5), y(_clip(item.sqnr_db))
        points.append(f"{at:.1f},{level:.1f}")
        title = f"{row.a.name} ({row.a.operator}): SQNR {decibels(item.sqnr_db)}"
        if item.worst_part is not None:
            low_y = y(_clip(item.worst_part.sqnr_db))
            where = f"{title}; {item.worst_part.words}: {decibels(item.worst_part.sqnr_db)}"
            body.append(_line(at, level, at, low_y, "reach"))
            body.append(
                f'<path class="part s1" d="M{at - 4:.1f} {low_y - 3:.1f} h8 l-4 7 z">'
                f"<title>{escape(where)}</title></path>"
            )
        kind = "broken" if item.nan_b > item.nan_a else "point s0"
        body.append(
            f'<circle class="{kind}" cx="{at:.1f}" cy="{level:.1f}" r="4"><title>{escape(title)}</title></circle>'
        )
    body.insert(0, f'<polyline class="curve s0" points="{" ".join(points)}"/>')
    stride = max(1, len(rows) // 20)
    body += [_text(x(i + 0.5), bottom + 16, str(i + 1)) for i in range(0, len(rows), stride)]
    body.append(_text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 36, "layer, in the order they run in", "axis"))
    body.append(_text(_LEFT - 42, _TOP - 4, "SQNR in dB", "axis", "start"))
    return _svg(bottom + _BOTTOM, "Error of every layer", body)


def blame(rows: Sequence[Row]) -> str:
    """The noise that each of the worst layers adds, as a share of its own signal."""
    known = [row for row in rows if row.difference is not None][:_MOST_BARS]
    most = max((row.difference.added for row in known if row.difference), default=0.0) or 1.0
    groups = [
        (row.label, row.a.operator, [(0, row.difference.added, f"{row.difference.added:.3%}")])
        for row in known
        if row.difference
    ]
    return _bars("Error added in a layer, the worst first", groups, most)  # fmt: skip


def sizes(rows: Sequence[Row]) -> str:
    """Bytes of the weights of the largest layers, a above b."""
    large = sorted(rows, key=lambda row: -max(row.a.weights, row.b.weights if row.b else 0))[:_MOST_BARS]
    large = [row for row in large if row.a.weights or (row.b and row.b.weights)]
    most = max((max(row.a.weights, row.b.weights if row.b else 0) for row in large), default=1)
    groups = []
    for row in large:
        bars = [(0, float(row.a.weights), _bytes(row.a.weights))]
        if row.b is not None:
            bars.append((1, float(row.b.weights), _bytes(row.b.weights)))
        groups.append((row.label, row.a.operator, bars))
    return _bars("Bytes of weights, the largest layers", groups, float(most))


def changes(found: Sequence[Change], names: Sequence[str]) -> str:
    """Which class became which: rows are the answer of a, columns that of b; only classes that changed."""
    classes = sorted({c for item in found for c in (item.before, item.after)})[:_MOST_CLASSES]
    place = {label: index for index, label in enumerate(classes)}
    cell = min(40.0, (WIDTH - 260) / max(1, len(classes)))
    left, top = 200.0, 46.0
    most = max(item.samples for item in found)
    body = [
        _text(left + cell * len(classes) / 2, 16, "answer of b", "axis"),
        _text(left - 12, top - 10, "answer of a", "axis", "end"),
    ]
    for label, index in place.items():
        text = names[label] if label < len(names) else str(label)
        body.append(_text(left - 8, top + cell * (index + 0.5) + 4, text[:24], "label", "end"))
        body.append(_text(left + cell * (index + 0.5), top - 6, text[:6]))
        body += [
            f'<rect class="cell" x="{left + cell * other:.1f}" y="{top + cell * index:.1f}" width="{cell - 1:.1f}" '
            f'height="{cell - 1:.1f}"/>'
            for other in range(len(classes))
        ]  # fmt: skip
    for item in found:
        if item.before not in place or item.after not in place:
            continue
        x, y = left + cell * place[item.after], top + cell * place[item.before]
        body.append(
            f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" '
            f'opacity="{0.2 + 0.8 * item.samples / most:.2f}"/>'
        )
        body.append(_text(x + cell / 2, y + cell / 2 + 4, str(item.samples), "value"))
    return _svg(top + cell * len(classes) + 10, "Answers that changed", body)


def _bars(label: str, groups: Sequence[tuple[str, str, Sequence[tuple[int, float, str]]]], most: float) -> str:
    """Horizontal bars: (name, operator, [(series, value, text)])."""
    left, body, y = 360.0, [], 8.0
    for name, operator, bars in groups:
        middle = y + 8 * len(bars)
        short = name if len(name) <= 44 else f"…{name[-43:]}"
        body.append(f'<text class="label" x="{left - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(short)}'
                    f"<title>{escape(name)} ({escape(operator)})</title></text>")  # fmt: skip
        for series, value, text in bars:
            long = max(1.0, (WIDTH - left - 90) * value / most)
            body.append(f'<rect class="bar s{series}" x="{left}" y="{y:.1f}" width="{long:.1f}" height="13" rx="2"/>')
            body.append(_text(left + long + 6, y + 11, text, "value", "start"))
            y += 16
        y += 8
    return _svg(y + 4, label, body)


def decibels(level: float) -> str:
    """A level in words."""
    return f"{level:.1f} dB".replace("-", "−")


def _clip(level: float) -> float:
    return max(FLOOR, min(CEILING, level))


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count} B"


def _svg(height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str = "tick", anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
