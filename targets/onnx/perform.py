"""The step that makes an ONNX variant: fixed shapes, opset 17, onnxsim, static int8 with ONNX Runtime.

Route and settings, chosen by running them:

* Opset first: per-channel int8 on an opset below 13 gives INVALID_GRAPH on every file.
* QDQ with int8 activations and per-channel int8 weights, min-max ranges: collected a sample at a time, so memory does
  not grow with their number (entropy and percentile keep every tensor of every sample).
* `quant_pre_process` leaves files in the working directory, which here is the child's own folder. Its optimization
  turns MatMul + Add into Gemm and folds normalizations; its symbolic shape inference fails on some real graphs and is
  then left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.onnx.inspect import describe, graphs, opset_of, read
from edgeship.targets.scheme import Scheme

OPSET = 17


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make `model.onnx` in `folder` out of the file at `request["path"]`.

    Args:
        request: "path"; "scheme"; "from": what the file is now; "prepare": whether more than the batch is to be
            changed; "samples": a feed or null.
        folder: gets model.onnx, and what the tools leave behind.

    Returns:
        Facts of the result (`inspect.describe`).
    """
    import onnx

    model = _fixed_model(Path(request["path"]))
    if request["prepare"]:
        model = _prepared(model, simplify=request["from"] == "float32")
    result = folder / "model.onnx"
    if Scheme.parse(request["scheme"]).precision == request["from"]:
        onnx.save(model, str(result))
    else:
        _quantize(model, request["samples"] or [], folder, result)
    made = read(result)
    return describe(made, result)


def _fixed_model(path: Path) -> Any:
    """The model with its data and a batch of 1."""
    import onnx

    model = read(path)
    onnx.load_external_data_for_model(model, str(path.parent))
    for value in _inputs(model):
        _fix(value)
    for value in model.graph.output:
        _forget_batch(value)
    return model


def _prepared(model: Any, *, simplify: bool) -> Any:
    """Opset 17 or later, simplified, checked, with the shapes of all tensors."""
    import onnx
    from onnx import version_converter

    if opset_of(model) < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise ConversionError(
                f"opset {opset_of(model)} cannot be raised to {OPSET}: {' '.join(str(error).split())[:400]}",
                hint=f"export the model with opset {OPSET} or later",
            ) from error
    if simplify:
        model = _simplified(model)
    try:
        model = onnx.shape_inference.infer_shapes(model)
        if all(v.type.tensor_type.HasField("shape") for v in model.graph.output):  # the checker insists on it
            onnx.checker.check_model(model)
        return model
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"the graph is not valid: {' '.join(str(error).split())[:400]}") from error


def _inputs(model: Any) -> list[Any]:
    """The graph's inputs, without initializers that old files list among them."""
    held = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in held]


def _fix(value: Any) -> None:
    """Set an open batch of an input to 1; the other axes were checked when the file was read."""
    dims = value.type.tensor_type.shape.dim
    if dims and dims[0].dim_value < 1:
        dims[0].dim_value = 1


def _forget_batch(value: Any) -> None:
    """Let an output's open axes be inferred from the inputs: their names would contradict a batch of 1."""
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_value < 1:
            dim.Clear()


def _simplified(model: Any) -> Any:
    """Constants folded and shapes propagated by onnxsim; the model as it is where onnxsim cannot or gets it wrong."""
    import onnxsim

    shapes = {v.name: [int(d.dim_value) for d in v.type.tensor_type.shape.dim] for v in _inputs(model)}
    try:
        simple, same = onnxsim.simplify(model, overwrite_input_shapes=shapes)
    except Exception as error:  # noqa: BLE001 - simplification is a convenience: what it cannot do stays as it is
        print(f"onnxsim: {error}")  # noqa: T201 - the child's log
        return model
    return simple if same else model


# ── int8 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _quantize(model: Any, samples: list[Mapping[str, str]], folder: Path, result: Path) -> None:
    import onnx
    from onnxruntime import quantization

    _refuse_branches(model)
    plain, ready = folder / "float.onnx", folder / "ready.onnx"
    onnx.save(model, str(plain))
    try:
        quantization.quant_pre_process(str(plain), str(ready))
    except Exception as error:  # noqa: BLE001 - symbolic shape inference raises anything
        print(f"symbolic shape inference: {error}")  # noqa: T201 - the child's log
        quantization.quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(ready), str(result), _reader(samples), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )  # fmt: skip


def _refuse_branches(model: Any) -> None:
    """The quantizer leaves branches and loop bodies in float and says nothing."""
    if sum(1 for _ in graphs(model.graph)) > 1:
        names = sorted({n.op_type for n in model.graph.node for a in n.attribute if a.type in (5, 10)})
        raise ConversionError(
            f"it holds {', '.join(names)}, whose inner graphs the int8 quantizer leaves in float without a word",
            hint="push it as float32, or export the model without branches and loops",
        )


def _reader(samples: list[Mapping[str, str]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    arrays = feed.read(samples)
    count = min((len(array) for array in arrays.values()), default=0)
    if not count:
        raise ConversionError("no calibration samples arrived")

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
        """Gives one sample after the other, then None."""

        def __init__(self) -> None:
            self._items: Iterator[int] = iter(range(count))

        def get_next(self) -> dict[str, feed.Array] | None:
            index = next(self._items, None)
            return None if index is None else {name: array[index] for name, array in arrays.items()}

    return Reader()
