"""The step that finds the Keras layer that a conversion fails on: one TensorFlow, a conversion of a shorter model each.

Layers run in the order of `model.layers`. A beginning of the model gives out what all of its layers give out, so that
a beginning that holds the failing layer fails, and a binary search finds the first that does. Where a conversion kills
the process, `progress.json` tells whoever starts the next one how far this one came, and which layer was tried
by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.keras import perform as export
from edgeship.targets.keras.inspect import plain_name

PROGRESS = "progress.json"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Find the layer, and save it as a model of its own.

    Args:
        request: "path"; "format": tflite or onnx; "low", "high": indices between which the first failing end lies, high
            −1 for the last layer; "samples": a feed or null.
        folder: gets progress.json, part.keras and, with samples, part.npz.

    Returns:
        {"layer", "class", "attributes", "error", "alone": whether it fails by itself, "before": layers before it,
        "trials"}, "layer" null where no beginning fails.
    """
    import keras

    model = keras.saving.load_model(request["path"], compile=False, safe_mode=True)
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    low, high, trials, error = int(request["low"]), int(request["high"]), 0, ""
    if high < 0:
        high = len(layers) - 1
        trials += 1
        if (error := _fails(keras, model, layers, high, request["format"], folder, low)) == "":
            return {"layer": None, "trials": trials}
    while low < high:
        middle = (low + high) // 2
        trials += 1
        found = _fails(keras, model, layers, middle, request["format"], folder, low)
        if found:
            high, error = middle, found
        else:
            low = middle + 1
    layer = layers[high]
    alone = _alone(keras, layer)
    alone.save(folder / "part.keras")
    if request["samples"] is not None:
        _samples(keras, model, layer, alone, feed.read(request["samples"]), folder)
    facts = {
        "layer": layer.name, "class": type(layer).__name__, "attributes": _attributes(layer), "before": high
    }  # fmt: skip
    _note(folder, high, high, facts)  # by itself too it may kill the process
    by_itself = _convert(alone, request["format"], folder)
    return {**facts, "error": by_itself or error, "alone": bool(by_itself), "trials": trials + 1}


def _note(folder: Path, low: int, trying: int, found: Mapping[str, Any] | None = None) -> None:
    (folder / PROGRESS).write_text(json.dumps({"low": low, "trying": trying, "found": found}), encoding="utf-8")


def _fails(keras: Any, model: Any, layers: list[Any], end: int, kind: str, folder: Path, low: int) -> str:
    """Why layers 0 to `end` cannot be converted, "" where they can."""
    _note(folder, low, end)
    outputs = [tensor for layer in layers[: end + 1] for tensor in keras.tree.flatten(layer.output)]
    return _convert(keras.Model(model.inputs, outputs), kind, folder)


def _convert(model: Any, kind: str, folder: Path) -> str:
    try:
        export.convert(model, kind, folder)
    except Exception as error:  # noqa: BLE001 - a converter may raise anything: that is what is looked for
        return export.short_reason(error)
    return ""


def _alone(keras: Any, layer: Any) -> Any:
    """A model of this layer and inputs."""
    given = keras.tree.flatten(layer.input)
    inputs = [
        keras.Input(batch_shape=(1, *tensor.shape[1:]), dtype=tensor.dtype, name=f"in{index}")
        for index, tensor in enumerate(given)
    ]
    called = inputs[0] if len(inputs) == 1 else keras.tree.pack_sequence_as(layer.input, inputs)
    return keras.Model(inputs, layer(called))


def _samples(keras: Any, model: Any, layer: Any, alone: Any, data: Mapping[str, Any], folder: Path) -> None:
    """What the layer is given for some samples, as part.npz."""
    before = keras.Model(model.inputs, keras.tree.flatten(layer.input))
    names = [plain_name(tensor.name) for tensor in model.inputs]
    arrays = [data[name] for name in names] if set(names) <= set(data) else list(data.values())
    rows = []
    for index in range(len(arrays[0])):
        values = keras.tree.flatten(before([np.asarray(array[index]) for array in arrays]))
        rows.append([np.asarray(value) for value in values])
    columns = zip(*rows, strict=True)
    kept: dict[str, Any] = {tensor.name: np.stack(row) for tensor, row in zip(alone.inputs, columns, strict=True)}
    np.savez_compressed(folder / "part.npz", allow_pickle=False, **kept)


def _attributes(layer: Any) -> dict[str, str]:
    """The settings of a layer that are numbers, texts or short lists of them."""
    try:
        config = layer.get_config()
    except (NotImplementedError, TypeError) as error:
        raise ConversionError(
            f"layer {layer.name!r} does not tell its settings: {error}", hint="give the layer a get_config()"
        ) from error
    plain = {k: v for k, v in config.items() if k not in ("name", "dtype", "trainable")}
    return {
        k: str(v) for k, v in plain.items() if isinstance(v, (int, float, str, bool, list, tuple)) and len(str(v)) < 80
    }
