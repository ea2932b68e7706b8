"""The step that makes the float model that variants start from: fixed shapes, opset 17, simplified, truthful.

What it does, in this order, and why:

* The batch is fixed at 1 and open axes of outputs are forgotten: their names would contradict it.
* A branch that cannot run with these shapes is taken out (`branches`).
* Opset 17 or later first of all: per-channel int8 on an opset below 13 is an invalid graph.
* onnxsim folds constants; where it cannot, or gets it wrong by its own check, the model stays as it is.
* ONNX Runtime's basic optimization turns MatMul + Add into Gemm and folds normalizations into convolutions.
* What a Loop carries and never changes becomes its body's own (`invariant`): else its weights are none.
* An activation that is written out becomes one operator (`merge`).
* Shapes are inferred anew and compared with a run: declared ones lie, and a rank that is not known breaks quantizers.
* Every node gets a name, constants become initializers: quantizers look for both.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.runtime.wire import TEXT
from edgeship.targets import child
from edgeship.targets.onnx import branches, fold, invariant
from edgeship.targets.onnx import graph as g
from edgeship.targets.onnx.inspect import DTYPES, describe, opset_of, read
from edgeship.targets.onnx.merge import merge

OPSET = 17
FILE = "model.onnx"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make `model.onnx` in `folder` out of the file at `request["path"]`.

    Args:
        request: "path"; "from": precision of the file; "prepare": whether more than the batch is to be changed.
        folder: gets model.onnx, and what the tools leave behind.

    Returns:
        Facts of the result (`inspect.describe`); "measured": shapes of the outputs from a run, or [] where the model
        does not run on zeros; "decided": what people should know.
    """
    import onnx

    model, decided = branches.settled(fixed_model(Path(request["path"])), folder)
    if request["prepare"]:
        model = _current(model)
        if request["from"] == "float32":
            model = _optimized(_simplified(model, folder), folder)
            g.hold_constants(model)
            invariant.settle(model.graph)
            model = _inferred(model)
            merge(model)
        elif request["from"] == "int8":
            g.hold_constants(model)
            fold.fold(model)
        model = _inferred(model)
    measured = _tell_truth(model, folder)
    if request["prepare"] and request["from"] == "float32":
        g.hold_constants(model)
        g.name_nodes(model)
    result = folder / FILE
    onnx.save(model, str(result))
    facts = describe(read(result), result)
    if request["from"] == "int8":
        decided += fold.share_said(facts["int8_share"])
    return {**facts, "measured": measured, "decided": decided}


def fixed_model(path: Path) -> Any:
    """The model with its data and a batch of 1."""
    import onnx

    model = read(path)
    onnx.load_external_data_for_model(model, str(path.parent))
    for value in g.inputs(model.graph):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value < 1:
            dims[0].dim_value = 1
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 1:
                dim.Clear()
    return model


def _current(model: Any) -> Any:
    """Opset 17 or later."""
    from onnx import version_converter

    if opset_of(model) >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise ConversionError(
            f"opset {opset_of(model)} cannot be raised to {OPSET}: {' '.join(str(error).split())[:400]}",
            hint=f"export the model with opset {OPSET} or later",
        ) from error


def _simplified(model: Any, folder: Path) -> Any:
    """Constants folded and shapes propagated by onnxsim; the model as it is where onnxsim cannot or gets it wrong."""
    onnxsim = _onnxsim()
    shapes = {v.name: [int(d.dim_value) for d in v.type.tensor_type.shape.dim] for v in g.inputs(model.graph)}
    try:
        with child.Deadline(folder, child.LOAD):
            simple, same = onnxsim.simplify(model, overwrite_input_shapes=shapes)
    except Exception as error:  # noqa: BLE001 - simplification is a convenience: what it cannot do stays as it is
        print(f"onnxsim: {error}")  # noqa: T201 - the child's log
        return model
    return simple if same else model


def _onnxsim() -> Any:
    """The module, imported as where there is no PyTorch: parts of it that we do not use would load all of that.

    It is two thirds of the import's time, and 200 MB.
    """
    if "torch" in sys.modules:
        return importlib.import_module("onnxsim")
    sys.modules["torch"] = None  # type: ignore[assignment]  # documented: an import of it fails at once
    try:
        return importlib.import_module("onnxsim")
    finally:
        del sys.modules["torch"]


def _optimized(model: Any, folder: Path) -> Any:
    """MatMul + Add as Gemm, normalizations folded, by ONNX Runtime; the model as it is where it does not load."""
    import onnx
    import onnxruntime

    before, after = folder / "before.onnx", folder / "optimized.onnx"
    onnx.save(model, str(before))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(after)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    try:
        with child.Deadline(folder, child.LOAD):
            onnxruntime.InferenceSession(str(before), options, providers=["CPUExecutionProvider"])
        made = onnx.load(str(after))
    except Exception as error:  # noqa: BLE001 - what does not load here is refused by the engine, with its reason
        print(f"onnxruntime: {error}")  # noqa: T201 - the child's log
        return model
    domains = {node.domain for graph in _graphs(made) for node in graph.node}
    if domains - {"", "ai.onnx"} - {node.domain for graph in _graphs(model) for node in graph.node}:
        return model  # operators of its own would bind the file to one runtime
    used = [o for o in made.opset_import if o.domain in ("", "ai.onnx") or o.domain in domains]
    kept = [(o.domain, o.version) for o in used]
    del made.opset_import[:]
    made.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in kept)
    made.ir_version = max(model.ir_version, 8)
    return made


def _graphs(model: Any) -> Any:
    from edgeship.targets.onnx.inspect import graphs

    return graphs(model.graph)


def _inferred(model: Any) -> Any:
    """Checked, with the shapes of all tensors inferred anew."""
    import onnx

    del model.graph.value_info[:]
    try:
        model = onnx.shape_inference.infer_shapes(model)
        if all(v.type.tensor_type.HasField("shape") for v in model.graph.output):  # the checker insists on it
            onnx.checker.check_model(model)
        return model
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the graph is not valid: {' '.join(str(error).split())[:400]}",
            hint="export it again, with a newer exporter",
        ) from error


# ── shapes from a run ────────────────────────────────────────────────────────────────────────────────────────────────


def _tell_truth(model: Any, folder: Path) -> list[list[int]]:
    """Set the shapes of the outputs, and of tensors whose shape inference did not find, to those of a run on zeros."""
    import onnx
    import onnxruntime

    known = g.shapes(model)
    unknown = [
        name for node in model.graph.node for name in node.output
        if name and known.get(name, (0, None))[1] is None and name not in {v.name for v in model.graph.output}
    ]  # fmt: skip
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    for value in probe.graph.output:
        value.type.tensor_type.ClearField("shape")
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
    path = folder / "probe.onnx"
    onnx.save(probe, str(path))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        zeros = {v.name: _zeros(v) for v in g.inputs(model.graph)}
        names = [value.name for value in session.get_outputs()]
        with child.Deadline(folder, child.ANSWER):
            arrays = dict(zip(names, session.run(names, zeros), strict=True))
    except Exception as error:  # noqa: BLE001 - what does not run is refused by the engine, with its reason
        print(f"a run on zeros: {error}")  # noqa: T201 - the child's log
        return []
    for value in model.graph.output:
        _set_shape(value, arrays[value.name])
    told = {name for name in unknown if isinstance(arrays.get(name), np.ndarray)}
    stale = [value for value in model.graph.value_info if value.name in told]
    for value in stale:
        model.graph.value_info.remove(value)
    for name in sorted(told):
        _set_shape(model.graph.value_info.add(name=name), arrays[name])
    return [list(np.shape(arrays[value.name])) for value in model.graph.output]


def _zeros(value: Any) -> Any:
    kind = value.type.tensor_type
    dtype = DTYPES[kind.elem_type]
    return np.zeros([d.dim_value for d in kind.shape.dim], np.dtype("S1" if dtype == TEXT else dtype))


def _set_shape(value: Any, array: Any) -> None:
    """Declare what a run delivered; what is no tensor of numbers stays as it is."""
    codes = {name: code for code, name in DTYPES.items()}
    if not isinstance(array, np.ndarray) or array.dtype.name not in codes:
        return
    kind = value.type.tensor_type
    kind.elem_type = codes[array.dtype.name]
    kind.ClearField("shape")
    kind.shape.SetInParent()
    for size in array.shape:
        kind.shape.dim.add().dim_value = size
