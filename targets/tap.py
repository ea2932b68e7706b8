"""The step that runs a model over samples and writes the values of some of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.difference import runner


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write tap<i>.npy, [n, *shape], for each tensor that was asked for.

    Args:
        request: "model": {"format", "path", "inputs"} as `difference` takes it; "reads": tensors; "samples": a feed.
        folder: gets the files.

    Returns:
        {"taps": [{"dtype", "shape"}], "finite": [whether all its numbers are]}.

    Raises:
        ConversionError: the model cannot be run, or a tensor has no value or another shape from one sample to the next.
    """
    data = feed.read(request["samples"])
    reads = _reads(request["model"], request["reads"])
    model = runner(request["model"], reads)
    runs = [model.run(data, index) for index in range(len(next(iter(data.values()))))]
    taps, finite = [], []
    for at, key in enumerate(reads):
        values = [run[key] for run in runs if key in run]
        if len(values) != len(runs) or len({value.shape for value in values}) != 1:
            raise ConversionError(
                f"tensor {key!r} has no value, or another shape from one sample to the next",
                hint="give a layer whose output has one shape for all samples",
            )
        whole = np.stack(values)
        np.save(folder / f"tap{at}.npy", whole, allow_pickle=False)
        taps.append({"dtype": whole.dtype.name, "shape": list(whole.shape[1:])})
        finite.append(bool(np.isfinite(whole).all()) if whole.dtype.kind == "f" else True)
    return {"taps": taps, "finite": finite}


def _reads(model: Mapping[str, Any], names: list[str]) -> list[Any]:
    """What a trace asks by: names in ONNX, indices in TFLite."""
    if model["format"] != "tflite":
        return names
    from edgeship.targets.tflite.reader import read
    from edgeship.targets.tflite.trace import tensor_labels

    labels = tensor_labels(read(Path(model["path"]).read_bytes()))
    return [labels.index(name) for name in names]
