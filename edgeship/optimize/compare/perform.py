"""Compares two models: always what the files say; with data also every tensor that both have, and the answers.

Nothing is run on made-up data: without samples there are no errors to report, and none are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import wording
from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.model import FORMATS, ModelFacts
from edgeship.optimize.compare import answers as judged
from edgeship.optimize.compare.answers import Answers
from edgeship.optimize.compare.graph import Layer, added, labels, match
from edgeship.optimize.compare.side import Side, answers_of, feeds, renamed, side
from edgeship.reporter import Reporter, Step
from edgeship.targets import answers, child, feed, registry, routes

#: Samples whose inner tensors are looked at; of more, a seeded draw. Answers are compared on all.
MAX_TRACED = 100
SEED = 0
FAINT = 0.01  # a channel that varies by less than this share of the largest one is told as nearly constant


@dataclass(frozen=True)
class Part:
    """The channel (or column) of a tensor that came out worst."""

    axis: int
    index: int
    sqnr_db: float
    share: float = 1.0  # how much it varies, of what the channel that varies most does

    @property
    def words(self) -> str:
        """For people: `channel 3`; of one that hardly varies beside the others that too."""
        if self.share >= FAINT:
            return f"channel {self.index}"
        return f"channel {self.index}, nearly constant: varies by {wording.share(self.share)} of the largest"


@dataclass(frozen=True)
class Difference:
    """How far a tensor of b lies from that of a; formulas in `targets.difference`."""

    cosine: float
    sqnr_db: float
    noise: float  # Σd²/Σa²
    added: float  # of it, made in this layer: Σ(b − f(b's inputs))²/Σa² with the layer f of a
    max_abs: float
    low: float  # range of a
    high: float
    relative: float  # max_abs over the range of a
    worst_part: Part | None
    nan_a: int
    nan_b: int
    made: Part | None = None  # where the error that this layer makes by itself is worst


@dataclass(frozen=True)
class Row:
    """A layer of a, its partner in b, sizes of both and, where it was measured, the difference."""

    a: Layer
    b: Layer | None
    label: str  # short name of a, for people
    difference: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Two models beside each other."""

    a: ModelFacts
    b: ModelFacts
    format: str | None  # that both were looked at in; None: layers of different formats are not matched
    layers: tuple[Row, ...]  # in the order of a
    only_b: tuple[Layer, ...]  # without a partner in a
    samples: int
    traced: int  # samples whose inner tensors were looked at
    answers: Answers | None  # None without data

    @property
    def worst(self) -> tuple[Row, ...]:
        """Measured layers, by the error that they add, then by their own."""
        known = [row for row in self.layers if row.difference is not None]
        return tuple(sorted(known, key=_severity, reverse=True))


def _severity(row: Row) -> tuple[bool, float, float]:
    assert row.difference is not None
    broken = row.difference.nan_b > row.difference.nan_a
    return broken, row.difference.added, row.difference.noise


def compare(
    a: ModelFacts, b: ModelFacts, data: Dataset | None, folder: Path, reporter: Reporter
) -> Comparison:  # fmt: skip
    """Compare b with a, the reference.

    Args:
        a: most often the float model.
        b: most often a variant of it.
        data: samples for the inputs of a, with labels for changes of right and wrong; None: only what the files say.
        folder: the cache of conversions and answers.
        reporter: is told of each stage.

    Raises:
        ConversionError: a model cannot be converted or run.
        InputError, UsageError: a file cannot be read; the inputs or outputs of the models do not correspond.
    """
    formats = _formats(a, b)
    first, second = side(a, formats[0], folder, reporter), side(b, formats[1], folder, reporter)
    same = formats[0] == formats[1]
    pairs = match(first.graph, second.graph) if same else _outputs(first, second)
    differences: Mapping[str, Difference] = {}
    verdict, traced = None, 0
    if data is not None:
        names = feeds(second.plain.inputs, first.plain.inputs, str(b.path))
        few = data.take(MAX_TRACED, SEED)
        traced = len(few)
        differences = _measure(first, second, names, few, pairs, reporter)
        verdict = _answers(first, second, names, data, reporter)
    there = second.graph.by_tensor
    short = labels(first.graph)
    rows = tuple(
        Row(layer, there.get(pairs.get(layer.name, "")), short[layer.name], differences.get(layer.name))
        for layer in first.graph.layers
    )
    partners = {there[name].name for name in pairs.values() if name in there}
    only_b = tuple(layer for layer in second.graph.layers if layer.name not in partners)
    return Comparison(
        a, b, formats[0] if same else None, rows, only_b, 0 if data is None else len(data), traced, verdict
    )


def _formats(a: ModelFacts, b: ModelFacts) -> tuple[str, str]:
    """What each is looked at in: its own format; a Keras model in the other's, so that layers can be matched."""
    engines = [name for name in FORMATS if name in registry.targets()]
    own = [facts.format if facts.format in engines else None for facts in (a, b)]

    def seen(at: int) -> str:
        if (mine := own[at]) is not None:
            return mine
        other = own[1 - at]
        source = (a, b)[at].format
        for name in ([other] if other else []) + ["tflite", "onnx"]:
            if routes.unreachable(source, name) is None:
                return name
        raise UsageError(
            f"{(a, b)[at].path}: no engine runs what can be made of {source}",
            hint="convert it first: edgeship model convert MODEL --output FILE",
        )

    return seen(0), seen(1)


def _outputs(a: Side, b: Side) -> dict[str, str]:
    """Layers that write the outputs, by order where they are as many: all that two formats surely have in common."""
    one = [a.graph.by_tensor[name] for name in a.graph.outputs if name in a.graph.by_tensor]
    two = [b.graph.by_tensor[name] for name in b.graph.outputs if name in b.graph.by_tensor]
    if len(one) != len(two):
        return {}
    return {x.name: y.name for x, y in zip(one, two, strict=True)}


def _measure(
    a: Side, b: Side, names: Mapping[str, str], data: Dataset, pairs: Mapping[str, str], reporter: Reporter
) -> dict[str, Difference]:  # fmt: skip
    step = Step("trace", f"{a.facts.path.name} and {b.facts.path.name}")
    reporter.started(step)
    asked = [
        (name, a.graph.by_tensor[name].read, b.graph.by_tensor[other].read)
        for name, other in pairs.items()
        if a.graph.by_tensor[name].read is not None and b.graph.by_tensor[other].read is not None
    ]
    with child.workspace() as work:
        request = {
            "a": {"format": a.plain.format, "path": str(a.plain.path.resolve()),
                  "inputs": {spec.name: spec.name for spec in a.plain.inputs}},
            "b": {"format": b.plain.format, "path": str(b.plain.path.resolve()), "inputs": dict(names)},
            "pairs": [[one, two] for _, one, two in asked], "samples": feed.write(data, work),
        }  # fmt: skip
        found = child.run(
            "edgeship.targets.difference", request, work, limits=child.RUN,
            subject=f"{a.facts.path} and {b.facts.path}",
        )["pairs"]  # fmt: skip
    measured = {name: item for (name, _, _), item in zip(asked, found, strict=True) if item is not None}
    extra = added(a.graph, {name: float(item["noise"]) for name, item in measured.items()})
    extra |= {name: float(item["own"]) for name, item in measured.items() if item["own"] is not None}
    reporter.finished(
        step, f"{len(measured)} of {len(a.graph.layers)} layers on {wording.counted(len(data), 'sample')}"
    )
    return {name: _difference(item, extra[name]) for name, item in measured.items()}


def _difference(item: Mapping[str, Any], extra: float) -> Difference:
    return Difference(
        float(item["cosine"]), float(item["sqnr_db"]), float(item["noise"]), extra, float(item["max_abs"]),
        float(item["low"]), float(item["high"]), float(item["relative"]),
        _part(item["worst_part"]), int(item["nan_a"]), int(item["nan_b"]), _part(item["own_part"]),
    )  # fmt: skip


def _part(data: Mapping[str, Any] | None) -> Part | None:
    return (
        None
        if data is None
        else Part(int(data["axis"]), int(data["index"]), float(data["sqnr_db"]), float(data["share"]))
    )


def _answers(a: Side, b: Side, names: Mapping[str, str], data: Dataset, reporter: Reporter) -> Answers:
    step = Step("answers")
    reporter.started(step)
    given = answers.of_variant(b.plain, renamed(data, names), reporter=reporter)
    expected = answers.align(answers_of(a, data, reporter), b.plain.outputs, str(a.facts.path))
    out = judged.judge(expected, given, b.plain.outputs, data.labels)
    reporter.finished(step, f"agreement {out.agreement:.1%} of {wording.counted(out.samples, 'sample')}")
    return out
