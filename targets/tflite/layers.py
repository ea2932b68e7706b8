"""Lists the layers of a float TFLite file that a quantizer can treat one by one. A step of `child`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import InputError
from edgeship.targets import child
from edgeship.targets.base import Layer
from edgeship.targets.tflite.inspect import builtin_names
from edgeship.targets.tflite.named import COMPUTING, scope, source_name, weights
from edgeship.targets.tflite.prepare import ready
from edgeship.targets.tflite.reader import Structure, read
from edgeship.targets.tflite.runnable import runnable

_STEP = "edgeship.targets.tflite.layers"


def layers(path: Path) -> tuple[Layer, ...]:
    """The layers of a float TFLite file in the order in which they run; `Layer.name` is what `Scheme.keep` takes.

    Raises:
        InputError: it is damaged.
        ConversionError: it keeps state, or the interpreter cannot run it.
    """
    with child.workspace() as work:
        found = child.run(
            _STEP, {"path": str(path.resolve())}, work, limits=child.INSPECT, subject=str(path), failure=InputError
        )
    return tuple(Layer.parse(item) for item in found["layers"])


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """{"layers": of the file at `request["path"]`}."""
    structure = read(ready(runnable(Path(request["path"]).read_bytes())[0]))
    return {"layers": [layer.encode() for layer in describe(structure)]}


def describe(structure: Structure) -> list[Layer]:
    """Operators that hold weights or compute on activations; the names of its tensors are unique."""
    names = builtin_names()
    out: list[Layer] = []
    for number, graph in enumerate(structure.subgraphs):
        for operator in graph.operators:
            code = structure.codes[operator.code][0]
            elements = sum(tensor.elements for tensor in weights(operator, graph))
            kind = names.get(code, f"builtin {code}")
            if not elements and kind not in COMPUTING:
                continue
            result = graph.tensors[operator.outputs[0]]
            if result.dtype == "float32":
                out.append(
                    Layer(scope(operator, graph), kind, elements, result.shape, source_name(result.name), number)
                )
    return out


def share(structure: Structure, operators: Collection[tuple[int, int]]) -> float:
    """What part of the elements of all weight matrices these operators read, 0 to 1.

    A matrix that others read too counts: it is written twice then, for these and for those.
    """
    sizes: dict[int, int] = {}
    chosen: set[int] = set()
    for number, graph in enumerate(structure.subgraphs):
        for index, operator in enumerate(graph.operators):
            for tensor in weights(operator, graph):
                sizes[tensor.buffer] = tensor.elements
                if (number, index) in operators:
                    chosen.add(tensor.buffer)
    total = sum(sizes.values())
    return sum(sizes[buffer] for buffer in chosen) / total if total else 0.0
