"""`edgeship model inspect`: what a model is, what it costs to run, and what each board can do with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship import wording
from edgeship.cli.model_convert import source_options
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs, Table, human_bytes

if TYPE_CHECKING:
    from edgeship.model import ModelFacts
    from edgeship.optimize.survey import Outlook
    from edgeship.targets.cost import Cost

_OF_CONVERSION = "MACs and memory are counted in TFLite and ONNX files: convert the model first"


@click.command()
@click.argument("file", metavar="MODEL", type=click.Path(path_type=Path))
@source_options
@click.option("--layers", is_flag=True, default=False, help="List every operator with its MACs, weights and output.")
@click.option("--profiles", is_flag=True, default=False, help="Say what each hardware profile can do with it.")
@with_output
def inspect(
    out: Output, file: Path, signature: str | None, shapes: tuple[str, ...], layers: bool, profiles: bool
) -> None:  # fmt: skip
    """Show what a model is, what it costs to run, and what boards can do with it."""
    from edgeship.model import parse_shapes
    from edgeship.targets import cost, registry

    facts = registry.inspect(file, signature, parse_shapes(shapes))
    counted = cost.count(facts)
    outlooks = _survey(out, facts, counted) if profiles else None
    data = facts.encode() | _costs(counted) | {
        "layers": [_layer(o) for o in counted.operations] if layers and counted is not None else None,
        "profiles": None if outlooks is None else [_outlook(o) for o in outlooks],
    }  # fmt: skip
    blocks: list[Pairs | Table] = [_facts(facts, counted)]
    if layers and counted is not None:  # else the notes say why there are none
        blocks.append(_layers(counted))
    if outlooks is not None:
        blocks.append(_boards(outlooks))
    out.emit("model.inspect", data, blocks)


def _survey(out: Output, facts: ModelFacts, counted: Cost | None) -> list[Outlook]:
    from edgeship import profile
    from edgeship.optimize.convert import cache_folder
    from edgeship.optimize.survey import survey

    boards = [profile.load(name) for name in profile.names()]
    with out.reporter() as reporter:
        return survey(facts, counted, boards, cache_folder(), reporter)


# ── as JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _costs(counted: Cost | None) -> dict[str, Any]:
    if counted is None:
        return {"macs": None, "memory": None}
    size, where = counted.peak
    return {
        "macs": counted.macs,
        "memory": {
            "weights": counted.weight_bytes, "activations": size, "at": where or None, "unknown": counted.unknown,
        },
    }  # fmt: skip


def _layer(operation: Any) -> dict[str, Any]:
    return {key: value for key, value in operation.encode().items() if key not in ("reads", "writes")}


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "profile": outlook.profile, "formats": dict(outlook.formats), "precisions": list(outlook.precisions),
        "loads": outlook.loads, "memory": outlook.memory, "memory_share": outlook.memory_share,
        "verdict": outlook.verdict,
    }  # fmt: skip


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _facts(facts: ModelFacts, counted: Cost | None) -> Pairs:
    def tensors(specs: Any) -> list[str]:
        return [
            f"{t.name}  {t.dtype} {list(t.shape)}"
            + (f"  scale {t.scale:g}, zero point {t.zero_point}" if t.scale else "")
            for t in specs
        ]

    operators = sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))
    by_kind: Counter[str] = Counter()
    for operation in counted.operations if counted is not None else ():
        by_kind[operation.operator] += operation.macs or 0
    details = {key: value for key, value in facts.details.items() if key not in ("left_in_float", "float16_share")}
    if "shapes" in details:
        details["shapes"] = [f"{name}={','.join(map(str, dims))}" for name, dims in details["shapes"].items()]
    notes = [*facts.notes, *([_OF_CONVERSION] if counted is None else [])]
    return Pairs(
        [
            ("file", facts.path),
            ("format", facts.format),
            ("precision", facts.precision),
            ("size", human_bytes(facts.bytes)),
            ("sha256", facts.sha256),
            ("parameters", f"{facts.parameters:,}" if facts.parameters is not None else None),
            *(_amounts(counted) if counted is not None else []),
            ("inputs", tensors(facts.inputs)),
            ("outputs", tensors(facts.outputs)),
            ("operators", [_operator(name, number, by_kind[name]) for name, number in operators]),
            *details.items(),
            *([("notes", notes)] if notes else []),
        ]
    )


def _operator(name: str, number: int, macs: int) -> str:
    return f"{number:>5} {name}" + (f"  {macs:,} MACs" if macs else "")


def _amounts(counted: Cost) -> list[tuple[str, object]]:
    size, where = counted.peak
    least = "at least " if counted.unknown else ""
    unknown = f"; {wording.counted(counted.unknown, 'operator')} only a run can count" if counted.unknown else ""
    at = f", most at {where[:60]}" if where else ""
    return [
        ("MACs", f"{least}{counted.macs:,}{unknown}"),
        ("memory", f"{least}{human_bytes(counted.weight_bytes)} weights + {human_bytes(size)} activations{at}"),
    ]


def _layers(counted: Cost) -> Table:
    rows = [
        (o.name, o.operator, " × ".join(map(str, o.shape)) or None, o.macs, o.weights or None)
        for o in counted.operations
    ]
    return Table(("layer", "operator", "output", "macs", "weights"), rows)


def _boards(outlooks: list[Outlook]) -> Table:
    rows = [
        (
            o.profile, ", ".join(name for name, reason in o.formats.items() if reason is None) or None,
            ", ".join(o.precisions), None if o.memory is None else human_bytes(o.memory),
            None if o.memory_share is None else f"{o.memory_share:.1%}", o.verdict,
        )
        for o in outlooks
    ]  # fmt: skip
    return Table(("profile", "formats", "precisions", "memory", "of board", "verdict"), rows)
