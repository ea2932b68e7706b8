"""The diagnosis as data for programs and as lines for people."""

from __future__ import annotations

from typing import Any

from edgeship import wording
from edgeship.optimize.doctor.bisect import attributes_text
from edgeship.optimize.doctor.diagnosis import OK, Diagnosis

_WHERE = {
    "convert": "the conversion to a float model fails", "source": "the model itself is at fault",
    "quantize": "the quantization fails", "answers": "it can be built, and its answers are wrong",
}  # fmt: skip


def encode(found: Diagnosis) -> dict[str, Any]:
    """To what `json.dumps` takes: the schema `model.doctor`."""
    culprit = found.culprit
    return {
        "source": str(found.source.path), "format": found.format, "scheme": found.scheme.encode(),
        "stage": found.stage, "kind": found.kind, "trouble": found.trouble,
        "culprit": None if culprit is None else {
            "layers": list(culprit.layers), "operator": culprit.operator, "node": culprit.node,
            "attributes": dict(culprit.attributes), "source_layer": culprit.source_layer, "parts": culprit.parts,
            "span": list(culprit.span),
        },
        "tried": [
            {"name": t.name, "scheme": t.scheme.encode(), "worked": t.worked, "outcome": t.outcome,
             "command": t.command, "repaired": None if t.repaired is None else str(t.repaired)}
            for t in found.tried
        ],
        "advice": found.advice, "saved": [str(path) for path in found.saved], "reproduce": found.reproduce,
        "trials": found.trials,
    }  # fmt: skip


def pairs(found: Diagnosis) -> list[tuple[str, object]]:
    """Names and values, one a line."""
    what = f"{found.source.path} as {found.format} {found.scheme.name}"
    if found.stage == OK:
        return [("model", what), ("diagnosis", "nothing is wrong with it")]
    out: list[tuple[str, object]] = [("model", what), ("diagnosis", _WHERE[found.stage]), ("trouble", found.trouble)]
    culprit = found.culprit
    if culprit is not None:
        out += [("layer", list(culprit.layers)), ("operator", culprit.operator)]
        if culprit.attributes:
            out.append(("attributes", attributes_text(culprit.attributes)))
        if culprit.node:
            out.append(("node", culprit.node))
        if culprit.source_layer:
            out.append(("source layer", culprit.source_layer))
        before = culprit.span[0] if culprit.span else ""
        alone = (
            "by itself"
            if culprit.parts == 1
            else f"only with the {wording.counted(culprit.parts - 1, 'layer')} before it, from {before} on"
        )
        if found.stage in ("convert", "quantize"):
            out.append(("fails", alone))
    else:
        out.append(("layer", "not found: no part of the model fails in this way"))
    out += [
        ("tried", [f"{'works' if t.worked else 'no'}: {t.name}: {t.outcome}" for t in found.tried] or "no known fix")
    ]
    if found.fix is not None:
        out.append(("type", found.fix.command))
    else:
        out.append(("advice", found.advice))
    if found.saved:
        out.append(("saved", [str(path) for path in found.saved]))
    if found.reproduce:
        out.append(("reproduce", found.reproduce))
    return out
