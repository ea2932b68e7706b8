"""The step that loads a SavedModel in TensorFlow: to float TFLite, float ONNX, and its own answers.

Route, chosen by running it: the graph of the signature, its variables made constants (`frozen`), is imported into a
function of fixed shapes with plain names. A function that still has variables leaves them in the TFLite file
("READ_VARIABLE … variable != nullptr").
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError, InputError
from edgeship.targets import child, feed
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.keras.perform import BATCH, OPSET, short_reason
from edgeship.targets.onnx import exported
from edgeship.targets.savedmodel import frozen


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do what `request` asks for; see `export.Exporter`."""
    try:
        signature = _Signature(request["path"], request["signature"], request.get("shapes") or {})
    except ConversionError:
        raise
    except Exception as error:
        raise InputError(
            f"TensorFlow cannot load it: {short_reason(error)}",
            hint="copy the whole folder again, or save it again with this TensorFlow",
        ) from error
    formats: dict[str, str | None] = {}
    for name in request["formats"]:
        try:
            {"tflite": _to_tflite, "onnx": _to_onnx}[name](signature, folder)
            formats[name] = None
        except Exception as error:  # noqa: BLE001 - a converter may raise anything; the other format may work
            formats[name] = short_reason(error)
    for index, files in enumerate(request["answers"]):
        _answer(signature, feed.read(files), folder / f"answer{index}", child.Deadline(folder, child.ANSWER))
    return {"formats": formats, "outputs": signature.outputs}


class _Signature:
    """A signature as a function of constants, with its batch fixed at 1 and names that every format takes."""

    def __init__(self, path: str, name: str, shapes: Mapping[str, list[int]]) -> None:
        import tensorflow as tf

        found = frozen.load(path, name)
        keys = sorted(found.inputs)
        given = [found.inputs[key] for key in keys]
        self.graph, self.given = found.graph, [each.tensor for each in given]
        self.wanted = {plain_name(key): found.outputs[key] for key in sorted(found.outputs)}
        self.specs = [
            tf.TensorSpec(
                shapes.get(plain_name(key), [1 if d < 0 else d for d in each.dims]), each.dtype, plain_name(key)
            )
            for key, each in zip(keys, given, strict=True)
        ]
        self.open = all(each.dims and each.dims[0] < 0 for each in given)
        graph = frozen.closed(self.graph) if self.open else self.graph
        for each in (self.graph, graph):
            frozen.register(each)
        self.fixed = tf.function(partial(self._call, graph), input_signature=self.specs)
        answered = self.fixed.get_concrete_function().structured_outputs
        for output, tensor in answered.items():
            if tensor.shape.rank is None or None in tuple(tensor.shape):
                raise ConversionError(
                    f"output {output!r} has no fixed shape: {tensor.shape}", hint="save the model with fixed shapes"
                )
        self.outputs = [{"name": n, "shape": [int(d) for d in answered[n].shape]} for n in self.wanted]

    def batched(self) -> Any:
        """The same function with its batch open."""
        import tensorflow as tf

        specs = [tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, spec.name) for spec in self.specs]
        return tf.function(partial(self._call, self.graph), input_signature=specs)

    def _call(self, graph: Any, *tensors: Any) -> dict[str, Any]:
        import tensorflow as tf

        found = tf.graph_util.import_graph_def(
            graph, input_map=dict(zip(self.given, tensors, strict=True)), name="",
            return_elements=list(self.wanted.values()),
        )  # fmt: skip
        return {name: tf.identity(tensor, name) for name, tensor in zip(self.wanted, found, strict=True)}


def _to_tflite(signature: _Signature, folder: Path) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature.fixed.get_concrete_function()], tf.Module())
    (folder / "float.tflite").write_bytes(converter.convert())


def _to_onnx(signature: _Signature, folder: Path) -> None:
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(signature.fixed, input_signature=signature.specs, opset=OPSET)
    exported.write(proto, [spec.name for spec in signature.specs], folder / "float.onnx")


def _answer(
    signature: _Signature, data: Mapping[str, feed.Array], stem: Path, deadline: child.Deadline
) -> None:  # fmt: skip
    """Answers float32 [n, 1, …] an output, as `<stem>_<j>.npy`: many at a time where every output has the batch too."""
    import tensorflow as tf

    arrays = [data[spec.name] for spec in signature.specs]
    batched = signature.open and all(out["shape"][:1] == [1] for out in signature.outputs)
    function, step = (signature.batched(), BATCH) if batched else (signature.fixed, 1)
    parts: list[list[Any]] = []
    for start in range(0, len(arrays[0]), step):
        chunk = [
            tf.constant(np.asarray(a[start : start + step, 0] if batched else a[start]), spec.dtype)
            for a, spec in zip(arrays, signature.specs, strict=True)
        ]
        with deadline:
            named = function(*chunk)
            values = [np.asarray(named[out["name"]], dtype=np.float32) for out in signature.outputs]
        if batched and any(len(value) != len(chunk[0]) for value in values):
            raise ConversionError(
                "it answers a batch of samples with another number of answers",
                hint="one answer for each sample of a batch: export the model without what joins them",
            )
        parts.append([value[:, None] if batched else value[None] for value in values])
    for index, pieces in enumerate(zip(*parts, strict=True)):
        np.save(f"{stem}_{index}.npy", np.concatenate(pieces), allow_pickle=False)
