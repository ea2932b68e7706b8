"""The step that makes the ONNX file which onnx2tf is given: prepared, without recurrent operators, plain names.

onnx2tf writes some names otherwise than they are (`a:0` becomes `a__0`), and then knows an input no more that it was
told to keep the layout of: it takes it for channels first and turns it. Plain names stay, and are put back later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import ConversionError
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx import prepare
from edgeship.targets.onnx2tf.unroll import unroll

FILE = "start.onnx"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `start.onnx` in `folder`.

    Args:
        request: "path": an ONNX file of float32, fixed but for the batch.
        folder: gets the file, and what the tools leave behind.

    Returns:
        "inputs", "outputs": [[plain name, name in the source]], in the source's order; "shapes": of the outputs, by
        name in the source, from a run where there was one.
    """
    import onnx

    from edgeship.targets.onnx.inspect import graphs

    facts = prepare.perform({"path": request["path"], "from": "float32", "prepare": True}, folder)
    model = onnx.load(str(folder / prepare.FILE))
    unroll(model)
    inputs, outputs = [v.name for v in g.inputs(model.graph)], [v.name for v in model.graph.output]
    if both := set(outputs) & ({v.name for v in model.graph.input} | {t.name for t in model.graph.initializer}):
        raise ConversionError(
            f"its output {min(both)!r} is one of its inputs, or a constant, as it is",
            hint="take that output out of the model: it computes nothing",
        )
    used = {name for graph in graphs(model.graph) for node in graph.node for name in (*node.input, *node.output)}
    if unused := sorted(set(inputs) - used):
        raise ConversionError(f"it does not use its input {unused[0]!r}", hint="take that input out of the model")
    plain = _plain(inputs, "input", used) | _plain(outputs, "output", used)
    for graph in graphs(model.graph):
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [plain.get(name, name) for name in names]
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = plain.get(value.name, value.name)
    onnx.save(model, str(folder / FILE))
    shapes = {str(spec["name"]): spec["shape"] for spec in facts["outputs"]}
    return {
        "inputs": [[plain[n], n] for n in inputs], "outputs": [[plain[n], n] for n in outputs], "shapes": shapes
    }  # fmt: skip


def _plain(names: list[str], kind: str, taken: set[str]) -> dict[str, str]:
    """Name -> a plain one that nothing else in the graph has."""
    stem = f"model_{kind}"
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    return {name: f"{stem}{index}" for index, name in enumerate(names)}
