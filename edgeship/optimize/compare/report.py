"""The comparison as data for programs, as lines for people, and as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeship import __version__, wording
from edgeship.model import ModelFacts
from edgeship.optimize.compare import charts
from edgeship.optimize.compare.answers import Answers
from edgeship.optimize.compare.perform import Comparison, Difference, Row

_MOST_CHANGES = 50


def encode(found: Comparison) -> dict[str, Any]:
    """To what `json.dumps` takes: the schema `model.compare`."""
    order = {row.a.name: index for index, row in enumerate(found.worst)}
    return {
        "a": _facts(found.a), "b": _facts(found.b), "looked_at_as": found.format, "samples": found.samples,
        "traced_samples": found.traced,
        "layers": [_row(row, order.get(row.a.name)) for row in found.layers],
        "only_in_b": [{"name": x.name, "operator": x.operator, "weight_bytes": x.weights} for x in found.only_b],
        "answers": None if found.answers is None else _answers(found.answers),
    }  # fmt: skip


def _facts(facts: ModelFacts) -> dict[str, Any]:
    return {
        "path": str(facts.path), "format": facts.format, "precision": facts.precision, "bytes": facts.bytes,
        "sha256": facts.sha256, "operators": dict(facts.operators), "parameters": facts.parameters,
        "int8_share": facts.int8_share,
    }  # fmt: skip


def _row(row: Row, rank: int | None) -> dict[str, Any]:
    item = row.difference
    return {
        "name": row.a.name, "label": row.label, "operator": row.a.operator,
        "shape": None if row.a.shape is None else list(row.a.shape),
        "partner": None if row.b is None else row.b.name, "partner_operator": None if row.b is None else row.b.operator,
        "weight_bytes_a": row.a.weights, "weight_bytes_b": None if row.b is None else row.b.weights,
        "rank": None if rank is None else rank + 1, "error": None if item is None else _error(item),
    }  # fmt: skip


def _error(item: Difference) -> dict[str, Any]:
    part = item.worst_part
    return {
        "cosine": item.cosine, "sqnr_db": item.sqnr_db, "noise": item.noise, "added": item.added,
        "max_abs": item.max_abs, "range": [item.low, item.high], "relative": item.relative,
        "worst_part": None if part is None else {
            "axis": part.axis, "index": part.index, "sqnr_db": part.sqnr_db, "share": part.share,
        },
        "nan_a": item.nan_a, "nan_b": item.nan_b,
    }  # fmt: skip


def _answers(found: Answers) -> dict[str, Any]:
    return {
        "samples": found.samples, "agreement": found.agreement, "right_a": found.right_a, "right_b": found.right_b,
        "changes": [
            {"a": c.before, "b": c.after, "samples": c.samples, "right_a": c.right_a, "right_b": c.right_b}
            for c in found.changes[:_MOST_CHANGES]
        ],
        "confusion_a": None if found.confusion_a is None else found.confusion_a.tolist(),
        "confusion_b": None if found.confusion_b is None else found.confusion_b.tolist(),
    }  # fmt: skip


def verdict(found: Comparison) -> str:
    """One line: where to look first."""
    if found.answers is None:
        return "no data was given: sizes, operators and shapes only; errors need --data"
    worst = found.worst
    if not worst:
        return "no layer of the two could be matched: only the answers are compared"
    first = worst[0]
    assert first.difference is not None
    if first.difference.nan_b > first.difference.nan_a:
        return f"{first.label} ({first.a.operator}) gives NaN or infinity in b and numbers in a"
    if first.difference.noise == 0:
        return "every tensor that could be compared is the same"
    return (
        f"most error is added in {first.label} ({first.a.operator}): {first.difference.added:.3%} of its signal; "
        f"SQNR there {charts.decibels(first.difference.sqnr_db)}"
    )


def worst_rows(found: Comparison, count: int = 10) -> list[list[object]]:
    """Cells of the table of worst layers."""
    out: list[list[object]] = []
    for row in found.worst[:count]:
        item = row.difference
        assert item is not None
        part = (
            "" if item.worst_part is None else f"{charts.decibels(item.worst_part.sqnr_db)} ({item.worst_part.words})"
        )
        out.append(
            [row.label, row.a.operator, f"{item.added:.3%}", charts.decibels(item.sqnr_db), part, f"{item.cosine:.5f}",
             f"{item.relative:.2%}"]
        )  # fmt: skip
    return out


WORST_COLUMNS = ("layer", "operator", "error added", "SQNR", "worst channel", "cosine", "max error of range")


def change_rows(found: Answers, names: Sequence[str], count: int = 10) -> list[list[object]]:
    """Cells of the table of changed answers."""

    def name(label: int) -> str:
        return names[label] if label < len(names) else str(label)

    return [[name(c.before), name(c.after), c.samples, c.right_a, c.right_b] for c in found.changes[:count]]


CHANGE_COLUMNS = ("answer of a", "answer of b", "samples", "a right", "b right")


def html(found: Comparison, names: Sequence[str] = ()) -> str:
    """The comparison as one self-contained page; `names` are those of the classes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgeship.optimize.compare"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    answers = found.answers
    measured = any(row.difference is not None for row in found.layers)
    # `charts` escapes every text that it draws.
    context: dict[str, Any] = {
        "version": __version__, "found": found, "verdict": verdict(found), "tiles": tiles(found),
        "errors": Markup(charts.errors(found.layers)) if measured else None,  # noqa: S704
        "blame": Markup(charts.blame(found.worst)) if measured else None,  # noqa: S704
        "sizes": Markup(charts.sizes(found.layers)) if any(row.a.weights for row in found.layers) else None,  # noqa: S704
        "changes": Markup(charts.changes(answers.changes, names)) if answers and answers.changes else None,  # noqa: S704
        "worst_columns": WORST_COLUMNS, "worst": worst_rows(found, 20),
        "change_columns": CHANGE_COLUMNS, "changed": change_rows(answers, names, 20) if answers else [],
        "operators": operator_rows(found),
    }  # fmt: skip
    return environment.get_template("compare.html.j2").render(context)


def operator_rows(found: Comparison) -> list[tuple[str, int, int]]:
    """Operator, how many in a and in b."""
    names = sorted({*found.a.operators, *found.b.operators})
    return [(name, found.a.operators.get(name, 0), found.b.operators.get(name, 0)) for name in names]


def tiles(found: Comparison) -> list[tuple[str, str, str]]:
    """(title, figure, explanation) at the head of the page."""
    share = found.b.bytes / found.a.bytes
    out = [("size", wording.share(share), f"{found.a.bytes:,} → {found.b.bytes:,} bytes")]
    answers = found.answers
    if answers is not None:
        out.append(("agreement", f"{answers.agreement:.1%}", f"of {answers.samples:,} samples answered alike"))
        if answers.right_a is not None and answers.right_b is not None:
            text = f"a {answers.right_a:.1%}, n = {answers.samples:,}"
            out.append(("right answers of b", f"{answers.right_b:.1%}", text))
        known = [row.difference for row in found.layers if row.difference is not None]
        if known:
            last = known[-1]
            out.append(("SQNR of the last layer", charts.decibels(last.sqnr_db), f"cosine {last.cosine:.5f}"))
    return out
