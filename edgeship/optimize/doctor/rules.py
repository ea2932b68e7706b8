"""The known fixes, as data: what to change, for which trouble. The first that works, in this order, is told.

A fix costs something; the cheaper ones stand first: a repair that changes nothing in the numbers, then fewer layers in
int8, other ranges, then fewer bits saved. Adding one is adding a line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.optimize.doctor.failure import Failure
from edgeship.targets.scheme import Scheme

CONVERT, QUANTIZE, ANSWERS = "convert", "quantize", "answers"
_CULPRIT = "the layer"  # stands for the layers to blame, in `keep` and `layer`


@dataclass(frozen=True)
class Rule:
    """One fix.

    Attributes:
        name: what is done, for people.
        stages: where it can help.
        formats: of the variant that is made.
        scheme: fields of the Scheme to set; `_CULPRIT` in `keep` stands for the layers to blame.
        repair: of the source model: {"repair", …} as `targets.mend` takes it; ONNX sources only.
        operators: it is for these alone; () is for all.
        calibrated: it is for int8 and int16x8 alone.
    """

    name: str
    stages: tuple[str, ...]
    formats: tuple[str, ...] = ("tflite", "onnx")
    scheme: Mapping[str, Any] = field(default_factory=dict)
    repair: Mapping[str, Any] | None = None
    operators: tuple[str, ...] = ()
    calibrated: bool = False


#: (operator, attribute, value or None for any): attributes that may be left out. The operator takes them from its
#: inputs, or the value is invalid and the default is what is meant.
OPTIONAL: tuple[tuple[str, str, str | None], ...] = (
    ("Conv", "kernel_shape", None), ("ConvTranspose", "kernel_shape", None), ("Conv", "group", "0"),
    ("ConvTranspose", "group", "0"), ("Conv", "dilations", "[0, 0]"), ("MaxPool", "dilations", "[0, 0]"),
    ("Conv", "strides", "[0, 0]"), ("MaxPool", "strides", "[0, 0]"), ("AveragePool", "strides", "[0, 0]"),
)  # fmt: skip

_BOTH, _LATE = (CONVERT, QUANTIZE), (QUANTIZE, ANSWERS)

RULES: tuple[Rule, ...] = (
    *(
        Rule(f"leave out the attribute {name} of {operator}", _BOTH, ("tflite", "onnx"),
             repair={"repair": "attribute", "layer": _CULPRIT, "attribute": name, "value": value},
             operators=(operator,))
        for operator, name, value in OPTIONAL
    ),
    Rule("raise the opset", _BOTH, repair={"repair": "opset", "layer": None}),
    Rule("MatMul and Add as Gemm", _LATE, repair={"repair": "gemm", "layer": None}, operators=("MatMul", "Add")),
    Rule("keep in float what is to blame", _LATE, scheme={"keep": (_CULPRIT,)}),
    Rule("ranges without outliers", (ANSWERS,), scheme={"ranges": "percentile"}, calibrated=True),
    Rule("ranges of the least squared error", (ANSWERS,), scheme={"ranges": "mse"}, calibrated=True),
    Rule("weights fitted to what their layers read", (ANSWERS,), scheme={"rounding": "fitted"}, calibrated=True),
    Rule("what the output joins as outputs of their own", (ANSWERS,), repair={"repair": "split-output", "layer": None}),
    Rule("one scale a weight", (QUANTIZE,), scheme={"per_channel": False}, calibrated=True),
    Rule("int16 activations", (ANSWERS,), ("tflite",), scheme={"precision": "int16x8"}, calibrated=True),
    Rule("int8 weights, computed in float", _LATE, scheme={"precision": "int8-weights"}, calibrated=True),
    Rule("dynamic int8", _LATE, scheme={"precision": "dynamic"}, calibrated=True),
    Rule("float16 weights", _LATE, ("tflite",), scheme={"precision": "float16"}),
)  # fmt: skip

#: Where no fix works: (kind of failure, what the message holds, what to do).
ADVICE = (
    ("refused", r"not a registered function",
     "the operator is no standard one: export the model with standard operators, or replace the layer"),
    ("refused", r"InferenceError|not equal to kernel channels",
     "the model breaks the rules of this operator: correct the attribute or the weights, and export it again"),
    ("crash", r"",
     "the engine or converter dies of this part: report it with the saved files, and replace the layer until then"),
    ("memory", r"", "give fewer or smaller samples, or use a machine with more memory"),
    ("converter", r"[Uu]nsupported|not supported|ops:",
     "the converter has no form of this operator: replace the layer, or try the other format"),
)  # fmt: skip


@dataclass(frozen=True)
class Remedy:
    """A rule made concrete: the scheme to build with, and the repair of the source before, if any."""

    rule: Rule
    scheme: Scheme
    repair: Mapping[str, Any] | None


def remedies(
    stage: str, format: str, scheme: Scheme, layers: tuple[str, ...], operator: str | None, *, source: str,  # noqa: A002
) -> Iterator[Remedy]:  # fmt: skip
    """What can be tried, in order.

    Args:
        stage: where it failed.
        format: of the variant.
        scheme: that was asked for.
        layers: to blame; () where none was found.
        operator: of the layer to blame, where there is one.
        source: format of the source; repairs are for ONNX.
    """
    for rule in RULES:
        if stage not in rule.stages or format not in rule.formats or (rule.calibrated and not scheme.calibrated):
            continue
        if rule.operators and operator not in rule.operators:
            continue
        repair = None
        if rule.repair is not None:
            if source != "onnx":
                continue
            repair = dict(rule.repair)
            if repair["layer"] == _CULPRIT:
                if not layers:
                    continue
                repair["layer"] = layers[-1]
        changes = dict(rule.scheme)
        if changes.get("keep") == (_CULPRIT,):
            if not layers:
                continue
            changes["keep"] = tuple(dict.fromkeys([*scheme.keep, *layers]))
        changed = dataclasses.replace(scheme, **changes)
        if not changed.calibrated:
            changed = dataclasses.replace(changed, ranges="min-max", symmetric=False, endpoints="default")
        if changed != scheme or repair is not None:
            yield Remedy(rule, changed, repair)


def advice(failure: Failure) -> str:
    """What to do where no fix worked."""
    for kind, pattern, text in ADVICE:
        if failure.kind == kind and re.search(pattern, failure.message):
            return text
    return "report it with the saved files, and replace the layer until it is mended"
