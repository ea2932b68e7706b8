"""The one step that imports TensorFlow: a `.keras` file to float TFLite, float ONNX, and its own answers.

Routes, chosen by running them:

* The model is wrapped in one whose inputs have batch_shape (1, …) and whose outputs go by name, so that batch and names
  are fixed in everything that comes after. A concrete function instead leaves variables in the TFLite file
  ("READ_VARIABLE … variable != nullptr").
* ONNX through tf2onnx at opset 17: `export(format="onnx")` of Keras writes opset 15, an open batch, "Identity:0" as the
  output's name, and MatMul + Add where this writes Gemm. Channels last stays channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError, InputError
from edgeship.targets import child, feed
from edgeship.targets.keras import scopes
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.onnx import exported

OPSET = 17
BATCH = 64  # samples at a time where the model takes them


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do what `request` asks for.

    Args:
        request: "path"; "inputs": names; "shapes": of inputs, where they were chosen; "formats": which of tflite and
            onnx; "answers": list of feeds.
        folder: gets float.tflite, float.onnx, answer<i>_<j>.npy.

    Returns:
        {"formats": {format: null or why it failed}, "outputs": [{"name", "shape"}], "answers": how many}.
    """
    import keras

    try:
        model = keras.saving.load_model(request["path"], compile=False, safe_mode=True)
    except Exception as error:
        raise InputError(
            f"Keras cannot load it: {short_reason(error)}",
            hint="save it again with this Keras; a custom layer: export the model as ONNX where its class is defined",
        ) from error
    names = _input_names(model, request["inputs"])
    wrapped, outputs = _wrap(model, names, request.get("shapes") or {})
    routes: dict[str, Callable[[Any, list[str], Path], None]] = {"tflite": _to_tflite, "onnx": _to_onnx}
    formats: dict[str, str | None] = {}
    for name in request["formats"]:
        try:
            routes[name](wrapped, names, folder)
            formats[name] = None
        except Exception as error:  # noqa: BLE001 - a converter may raise anything; the other format may work
            formats[name] = short_reason(error)
    for index, files in enumerate(request["answers"]):
        _answer(model, names, feed.read(files), folder / f"answer{index}", child.Deadline(folder, child.ANSWER))
    return {
        "formats": formats,
        "outputs": [{"name": name, "shape": [int(d) for d in shape]} for name, shape in outputs],
        "answers": len(request["answers"]),
    }


#: What TensorFlow puts around the cause where an operator failed; the cause stands below it.
_FRAME = ("Graph execution error:", "Detected at node", "<stack traces unavailable>")


def short_reason(error: Exception) -> str:
    """The telling part of a framework's error, which may be pages long."""
    lines = [line for text in str(error).splitlines() if (line := text.strip()) and not line.startswith(_FRAME)]
    telling = [line for line in lines if "error:" in line or "ops:" in line.lower()] or lines
    return f"{type(error).__name__}: {' · '.join(dict.fromkeys(telling[:4]))[:800]}"


def _input_names(model: Any, wanted: list[str]) -> list[str]:
    """A name for each of `model.inputs`: its own, or by position those that the configuration gave."""
    if not model.inputs:
        raise InputError("the model was never built", hint="call it once on data and save it again")
    own = [plain_name(tensor.name) for tensor in model.inputs]
    return own if set(own) == set(wanted) or len(own) != len(wanted) else list(wanted)


def _output_names(model: Any, count: int) -> list[str]:
    """A name for each output in the order of `keras.tree.flatten`."""
    import keras

    structure = getattr(model, "output", None)
    if isinstance(structure, dict):
        paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
        names = ["_".join(str(part) for part in path) for path in paths]
    else:
        own = getattr(model, "output_names", None)
        names = list(own) if own else [model.layers[-1].name]
    if len(names) != count:
        names = [f"output_{index}" for index in range(count)]
    plain = [plain_name(name) for name in names]
    return plain if len(set(plain)) == count else [f"{name}_{index}" for index, name in enumerate(plain)]


def _structured(model: Any, tensors: list[Any]) -> Any:
    """Flat inputs in the structure that the model is called with."""
    import keras

    if isinstance(model, keras.Sequential):
        return tensors[0]
    return keras.tree.pack_sequence_as(model.input, tensors)


def _wrap(
    model: Any, names: list[str], shapes: Mapping[str, list[int]]
) -> tuple[Any, list[tuple[str, tuple[int, ...]]]]:
    """The model with a batch of 1 and named outputs; and (name, shape) of those."""
    import keras

    fixed = [
        keras.Input(batch_shape=tuple(shapes.get(name, (1, *tensor.shape[1:]))), dtype=tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, names, strict=True)
    ]
    flat = keras.tree.flatten(model(_structured(model, fixed), training=False))
    outputs = dict(zip(_output_names(model, len(flat)), flat, strict=True))
    for name, tensor in outputs.items():
        if any(d is None for d in tensor.shape):
            raise ConversionError(
                f"output {name!r} has no fixed shape: {list(tensor.shape)}", hint="build the model with fixed shapes"
            )
    wrapped = keras.Model(fixed, outputs)
    wrapped([np.zeros(tensor.shape, tensor.dtype) for tensor in fixed])  # export wants a model that was called
    return wrapped, [(name, tuple(tensor.shape)) for name, tensor in outputs.items()]


def convert(model: Any, format: str, folder: Path) -> None:  # noqa: A002 - the domain's word
    """A model with fixed shapes as float.<format> in `folder`; raises whatever the converter raises."""
    names = [plain_name(tensor.name) for tensor in model.inputs]
    {"tflite": _to_tflite, "onnx": _to_onnx}[format](model, names, folder)


def _to_tflite(model: Any, names: list[str], folder: Path) -> None:  # noqa: ARG001 - alike for both formats
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    with scopes.exact():
        (folder / "float.tflite").write_bytes(converter.convert())


def _to_onnx(model: Any, names: list[str], folder: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name) for tensor, name in zip(model.inputs, names, strict=True)
    ]

    def serve(*tensors: Any) -> Any:
        return model(list(tensors), training=False)

    function = tf.function(serve, input_signature=signature)
    with scopes.exact():
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    exported.write(proto, names, folder / "float.onnx")


def _answer(
    model: Any, names: list[str], data: dict[str, feed.Array], stem: Path, deadline: child.Deadline
) -> None:  # fmt: skip
    """Answers of the model as it is, float32 [n, 1, …] an output, as `<stem>_<j>.npy`."""
    import keras

    arrays = [data[name] for name in names]
    step = BATCH if all(tensor.shape[0] is None for tensor in model.inputs) else 1
    parts: list[list[Any]] = []
    for start in range(0, len(arrays[0]), step):
        chunk = [np.asarray(array[start : start + step, 0]) for array in arrays]
        with deadline:
            flat = keras.tree.flatten(model(_structured(model, chunk), training=False))
        parts.append([np.asarray(keras.ops.convert_to_numpy(tensor), dtype=np.float32) for tensor in flat])
    for index, pieces in enumerate(zip(*parts, strict=True)):
        np.save(f"{stem}_{index}.npy", np.concatenate(pieces)[:, None], allow_pickle=False)
