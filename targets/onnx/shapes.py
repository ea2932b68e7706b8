"""Closes what an ONNX file leaves open beside its batch, where a shape was chosen. The weights are not touched.

A step of `child`; see `edgeship.targets.shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.targets.shapes import Shapes, check_names, fitted


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.onnx` in `folder`: the file at `request["path"]` with `request["shapes"]`, its data within."""
    import onnx

    from edgeship.targets.onnx.inspect import read

    path = Path(request["path"])
    model = read(path)
    onnx.load_external_data_for_model(model, str(path.parent))
    put(model, request["shapes"])
    onnx.save(model, str(folder / "model.onnx"))
    return {}


def put(model: Any, shapes: Shapes) -> None:
    """Set the shapes of inputs, in place; forget those of all that comes after. Raises UsageError, InputError."""
    if not shapes:
        return
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in held}
    check_names(shapes, inputs)
    for name, shape in shapes.items():
        kind = inputs[name].type.tensor_type
        declared = [d.dim_value for d in kind.shape.dim] if kind.HasField("shape") else None
        wanted = fitted(name, declared, shape)
        del kind.shape.dim[:]
        for d in wanted:
            kind.shape.dim.add().dim_value = d
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 1:
                dim.Clear()
