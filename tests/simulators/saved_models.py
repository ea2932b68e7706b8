# mypy: disable-error-code="untyped-decorator"
"""Real SavedModels for tests, made by one TensorFlow child and exported by another: `make(folder)`.

Another, since the functions of a saved model and those of the same one loaded again go by one name.

net      "image" [?, 8, 8, 1] -> "probabilities", "features": convolution, dense layer, variables
two      serving_default: x [?, 4] -> y, total; scale: x [1, 4], times [1] int32 -> y (without variables)
recurrent                "signal" [?, 6, 3] -> "scores": a Keras LSTM, as `model.export` writes it, with an open batch
twice                    the same as `tf.saved_model.save` writes it: every variable stands there twice
unsafe, texts, open      what must be refused: it writes a file; it takes texts; its width is open

net, both signatures of two, open, recurrent and twice go through the export step right away: `exported(folder, name)`
of `keras_models` gives what came out of net, two-serving_default, two-scale, ….
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.targets import child

SAMPLES = 70  # more than a batch
RECURRENT = ("recurrent", "twice")
OPEN = [1, 6, 3]  # the shape that open is exported with


def make(folder: Path) -> Path:
    """Write all of them into `folder`; takes about ten seconds."""
    for part in ("save", "export"):
        child.run("tests.simulators.saved_models", {"part": part}, folder, limits=child.CONVERT, subject="saved models")
    return folder


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step: runs in the child."""
    if request["part"] == "export":
        _export(folder, "net", "serving_default", "net")
        _export(folder, "two", "serving_default", "two-serving_default")
        _export(folder, "two", "scale", "two-scale")
        _export(folder, "open", "serving_default", "open", {"x": OPEN})
        for name in RECURRENT:
            _export(folder, name, "serving_default", name)
        return {}
    import tensorflow as tf

    tf.random.set_seed(3)
    spec = tf.TensorSpec

    class Net(tf.Module):  # type: ignore[misc]  # tensorflow has no types here
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.random.normal([3, 3, 1, 4]))
            self.dense = tf.Variable(tf.random.normal([6 * 6 * 4, 10]) * 0.1)

        @tf.function(input_signature=[spec([None, 8, 8, 1], tf.float32, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            found = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 1, "VALID"))
            flat = tf.reshape(found, [-1, 6 * 6 * 4])
            return {"probabilities": tf.nn.softmax(flat @ self.dense), "features": flat}

    class Two(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[spec([None, 4], tf.float32, name="x")])
        def double(self, x: Any) -> dict[str, Any]:
            return {"y": x * 2.0, "total": tf.reduce_sum(x, 1)}

        @tf.function(input_signature=[spec([1, 4], tf.float32, name="x"), spec([1], tf.int32, name="times")])
        def scale(self, x: Any, times: Any) -> dict[str, Any]:
            return {"y": x * tf.cast(times, tf.float32)}

    class Bad(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[spec([1, 4], tf.float32, name="x")])
        def unsafe(self, x: Any) -> dict[str, Any]:
            tf.io.write_file("/tmp/written-by-a-model", "x")
            return {"y": x}

        @tf.function(input_signature=[spec([1], tf.string, name="x")])
        def texts(self, x: Any) -> dict[str, Any]:
            return {"y": tf.strings.length(x)}

        @tf.function(input_signature=[spec([1, None, 3], tf.float32, name="x")])
        def open(self, x: Any) -> dict[str, Any]:
            return {"y": tf.reduce_sum(x, [1, 2])}

    net, two, bad = Net(), Two(), Bad()
    tf.saved_model.save(net, str(folder / "net"), signatures=net.serve)
    tf.saved_model.save(two, str(folder / "two"), signatures={"serving_default": two.double, "scale": two.scale})
    for name in ("unsafe", "texts", "open"):
        tf.saved_model.save(bad, str(folder / name), signatures=getattr(bad, name))
    _save_recurrent(folder)
    return {}


def _save_recurrent(folder: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    signal = keras.Input((6, 3), name="signal")
    scores = keras.layers.Dense(4, name="scores")(keras.layers.LSTM(8)(signal))
    model = keras.Model(signal, {"scores": scores})
    model.export(str(folder / "recurrent"), verbose=False)
    spec = tf.TensorSpec([None, 6, 3], tf.float32, name="signal")
    tf.saved_model.save(model, str(folder / "twice"), signatures=tf.function(model, input_signature=[spec]))


def _export(
    folder: Path, model: str, signature: str, name: str, shapes: Mapping[str, Any] = MappingProxyType({})
) -> None:  # fmt: skip
    import numpy as np

    from edgeship.dataset import Dataset
    from edgeship.targets import feed
    from edgeship.targets.savedmodel import inspect
    from edgeship.targets.savedmodel import perform as step

    out = folder / f"{name}-export"
    out.mkdir()
    path = str(folder / model)
    specs = inspect.perform({"path": path, "signature": signature, "shapes": dict(shapes)}, out)["inputs"]
    rng = np.random.default_rng(3)
    inputs = {s["name"]: (rng.normal(size=(SAMPLES, *s["shape"])) * 3).astype(s["dtype"]) for s in specs}
    np.savez(folder / f"{name}.npz", allow_pickle=False, **inputs)
    request = {
        "path": path, "signature": signature, "shapes": dict(shapes), "formats": ["tflite", "onnx"],
        "answers": [feed.write(Dataset(inputs), out)],
    }  # fmt: skip
    (out / "outcome.json").write_text(json.dumps(step.perform(request, out)))
