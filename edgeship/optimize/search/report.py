"""What a search found, as data and as one page with the Pareto plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgeship import __version__, wording
from edgeship.bench import units
from edgeship.optimize import metrics
from edgeship.optimize.quality import PartDrop, slice_limit
from edgeship.optimize.search.candidate import Candidate
from edgeship.optimize.search.charts import FORMATS, pareto
from edgeship.optimize.search.pick import Row, misses, points
from edgeship.optimize.search.run import Found, Tried
from edgeship.optimize.search.sensitivity import Cost
from edgeship.targets import naming, routes
from edgeship.targets.base import MAX_CALIBRATION

STATUS = {
    "pick": "picked", "front": "on the Pareto front", "within": "within the budget", "over": "over the budget",
    "dropped": "dropped", "failed": "could not be made",
}  # fmt: skip
_ORDER = ("pick", "front", "within", "over", "dropped", "failed")
TOP_LAYERS = 12


def ordered(tried: Sequence[Tried]) -> list[Tried]:
    """The pick first, then by status, size and name; sets of layers last, so that the order is always the same."""

    def place(one: Tried) -> tuple[object, ...]:
        scheme = one.candidate.scheme
        return _ORDER.index(one.status), _bytes(one), one.candidate.name, scheme.keep, scheme.weights_only

    return sorted(tried, key=place)


def names(tried: Sequence[Tried]) -> dict[Candidate, str]:
    """A name of its own for each: sets of as many layers in float go by one name, and are numbered in this order."""
    seen: Counter[str] = Counter()
    out: dict[Candidate, str] = {}
    for one in ordered(tried):
        name = one.candidate.name
        seen[name] += 1
        out[one.candidate] = name if seen[name] == 1 else f"{name} #{seen[name]}"
    return out


def _bytes(tried: Tried) -> int:
    variant = tried.row.variant if tried.row else tried.outcome.variant if tried.outcome else None
    return variant.bytes if variant is not None else 1 << 62


def encode(found: Found) -> dict[str, Any]:
    """The search as JSON: schema `edgeship.optimize/v1`."""
    request, decided, called = found.request, found.pick, names(found.tried)
    return {
        "model": str(request.source.path), "sha256": request.source.sha256, "profile": request.profile.name,
        "metric": next((t.outcome.verdict.metric for t in found.tried if t.outcome and t.outcome.verdict), None),
        "calibration_samples": None if request.calibration is None else len(request.calibration),
        "evaluation_samples": len(request.evaluation),
        "budget": {
            "max_drop": request.budget.max_drop, "max_class_drop": request.budget.max_class_drop,
            "max_slice_drop": request.budget.max_slice_drop,
            "max_latency_us": request.budget.max_latency_us, "max_bytes": request.budget.max_bytes,
            "strict": request.budget.strict,
        },
        "pick": None if decided.row is None else called[decided.row.candidate],
        "nearest": None if decided.nearest is None else called[decided.nearest.candidate],
        "reason": decided.reason,
        "candidates": [_tried(t, called[t.candidate]) for t in ordered(found.tried)],
        "not_tried": [{"candidate": r.name, "why": r.why} for r in found.refused],
        "sensitivity": {
            name: [
                {"layer": c.layer.name, "source": c.layer.source_name, "operator": c.layer.operator,
                 "weights": c.layer.weights, "error": c.error, "weights_error": c.weights_error}
                for c in costs
            ]
            for name, costs in found.costs.items()
        },
        "runtimes": {name: trial.encode() for name, trial in found.runtimes.items()},
        "seconds": round(found.seconds, 3),
    }  # fmt: skip


def _tried(tried: Tried, name: str) -> dict[str, Any]:
    outcome, row = tried.outcome, tried.row
    verdict = outcome.verdict if outcome else None
    variant = row.variant if row else outcome.variant if outcome else None
    latency = row.latency if row else None
    return {
        "candidate": name, "format": tried.candidate.format,
        "scheme": tried.candidate.scheme.encode(), "from": tried.candidate.why,
        "status": tried.status, "why": tried.why, "samples": outcome.samples if outcome else 0,
        "bytes": variant.bytes if variant else None, "sha256": variant.sha256 if variant else None,
        "int8_share": variant.int8_share if variant else None,
        "float": verdict.float_value if verdict else None, "variant": verdict.variant_value if verdict else None,
        "drop": verdict.drop if verdict else None, "drop_interval": list(verdict.interval) if verdict else None,
        "agreement": verdict.agreement if verdict else None, "proven": verdict.proven if verdict else None,
        "needs_samples": verdict.needs_n if verdict else None,
        "worst_class": _part(verdict.worst_class) if verdict else None,
        "worst_slice": _part(verdict.worst_slice) if verdict else None,
        "gate": verdict.gate.reason if verdict and verdict.gate and not verdict.gate.passed else None,
        "summary": verdict.summary if verdict else None,
        "latency": latency.encode() if latency else None, "untimed": row.untimed if row else None,
    }  # fmt: skip


def _part(part: PartDrop | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        "name": part.name, "samples": part.samples, "float": part.float_value, "variant": part.variant_value,
        "drop": part.drop, "drop_interval": list(part.interval), "too_few": part.few,
    }  # fmt: skip


def cells(tried: Tried, name: str) -> dict[str, str]:
    """One row for people, by column title; `name` is the candidate's among the others (`names`)."""
    outcome, row = tried.outcome, tried.row
    verdict = outcome.verdict if outcome else None
    variant = row.variant if row else outcome.variant if outcome else None
    latency = row.latency if row else None
    return {
        "candidate": name,
        "lost": units.DASH if verdict is None else points(verdict.drop),
        "95 %": units.DASH if verdict is None else f"{points(verdict.interval[0])} … {points(verdict.interval[1])}",
        "n": units.DASH if not outcome or not outcome.samples else f"{outcome.samples:,}",
        "size": units.size(variant.bytes if variant else None),
        "median": units.time(latency.median_us if latency else None),
        "p95": units.time(latency.p95_us if latency else None),
        "": STATUS[tried.status] + (f": {tried.why.splitlines()[0]}" if tried.why else ""),
    }  # fmt: skip


def html(found: Found) -> str:
    """The page: the pick and its reason, the Pareto plot, all candidates, the layers by what int8 costs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgeship.optimize.search"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows = [t.row for t in found.tried if t.row is not None]
    chosen = found.pick.row or found.pick.nearest
    tried, called = ordered(found.tried), names(found.tried)
    costs = [(name, [_layer(c) for c in layers[:TOP_LAYERS]], len(layers)) for name, layers in found.costs.items()]
    context = {
        "title": found.request.source.path.name, "version": __version__, "profile": found.request.profile.name,
        "picked": found.pick.row is not None, "reason": found.pick.reason,
        "chosen": None if chosen is None else called[chosen.candidate],
        "tiles": [] if chosen is None else _tiles(chosen),
        # `charts` escapes every text that it draws.
        "plot": Markup(pareto(rows, found.pick.row, found.request.budget)) if rows else None,  # noqa: S704
        "columns": list(cells(tried[0], "")) if tried else [],
        "rows": [
            (t.status, [*cells(t, called[t.candidate]).values(), kept_layers(found, t.candidate)]) for t in tried
        ],
        "untried": untried(found), "refused": routes.told([(r.name, r.why) for r in found.refused]), "costs": costs,
        "budget": budget_words(found),
        "basis": _basis(found), "formats": _legend(rows),
        "some_over": any(misses(row, found.request.budget) for row in rows),
        "kept": kept_layers(found, chosen.candidate) if chosen is not None else [],
    }  # fmt: skip
    return environment.get_template("search.html.j2").render(context)


def _legend(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """Number of the colour and name of each format that is in the plot."""
    shown = {row.candidate.format for row in rows}
    return [(i, {"tflite": "TFLite", "onnx": "ONNX"}[name]) for i, name in enumerate(FORMATS) if name in shown]


def _layer(cost: Cost) -> tuple[str, ...]:
    layer = cost.layer
    alone = f"{cost.weights_error:.2e}" if layer.weights else units.DASH
    return layer.source_name, layer.operator, f"{layer.weights:,}", f"{cost.error:.2e}", alone, layer.name


def kept_layers(found: Found, candidate: Candidate) -> list[str]:
    """The layers that a candidate computes in float, by their names in the source, with their operators."""
    start = candidate.name.removesuffix(candidate.scheme.name)  # its format and pruning: others have these names too
    ranked = (costs for name, costs in found.costs.items() if name.startswith(start))
    known = {cost.layer.name: cost.layer for costs in ranked for cost in costs}
    out = []
    for name in (*candidate.scheme.keep, *candidate.scheme.weights_only):
        layer = known.get(name)
        told = name if layer is None else naming.told(layer.source_name, layer.operator)
        out.append(told + (" with int8 weights" if name in candidate.scheme.weights_only else ""))
    return out


def _basis(found: Found) -> str:
    """What the losses are measured by and on."""
    request = found.request
    verdict = next((t.row.verdict for t in found.tried if t.row is not None), None)
    calibrated = "no calibration data"
    if request.calibration is not None:
        calibrated = f"calibrated on {min(len(request.calibration), MAX_CALIBRATION):,}"
    judged = f"judged on {len(request.evaluation):,} samples, {calibrated}"
    if verdict is None:
        return judged
    has = f"the float source has {100 * verdict.float_value:.1f} %"
    return f"Points are of {metrics.title(verdict.metric)}: {has}; {judged}"


def _tiles(row: Row) -> list[tuple[str, str, str]]:
    verdict = row.verdict
    low, high = verdict.interval
    out = [
        ("lost", f"{points(verdict.drop)} points", f"95 %: {points(low)} … {points(high)}, n = {verdict.samples:,}"),
        ("size", units.size(row.variant.bytes), f"{wording.share(row.variant.int8_share)} of the weights are int8"),
    ]
    if row.latency is not None:
        text = f"p95 {units.time(row.latency.p95_us)}, {row.latency.arch}"
        out.append((f"median on {row.latency.place}", units.time(row.latency.median_us), text))
    return out


def untried(found: Found) -> list[str]:
    """A line for each format whose candidates could not be tried in the board's runtime on this host."""
    return [f"{name}: {trial.said}" for name, trial in found.runtimes.items() if not trial.checked]


def budget_words(found: Found) -> str:
    """The budget in words."""
    budget = found.request.budget
    judged = found.request.evaluation
    drops = f"at most {budget.max_drop:.1f} points lost"
    if judged.labels is not None:
        drops += f", {budget.max_class_drop:.1f} in a class"
    if judged.slices:
        drops += f", {slice_limit(budget):.1f} in a slice"
    parts = [drops]
    if budget.strict:
        parts[0] += ", all of it proven"
    if budget.max_latency_us is not None:
        parts.append(f"p95 at most {units.time(budget.max_latency_us)}")
    if budget.max_bytes is not None:
        parts.append(f"at most {units.size(budget.max_bytes)}")
    return "; ".join(parts)
