"""What the distillation step makes of real Keras models, all in one TensorFlow child: `make(folder)`.

teacher.keras, digits.npz    a convolutional net with three equal blocks, trained for a moment on the 8 × 8 digits of
                             scikit-learn, and 600 of these digits with labels
student.keras                a small dense net that ends in logits;  other.keras: one with three outputs
even.keras                   one share of 0 … 1 that knows nothing;  margin.keras: one number without an activation

Each case of `CASES` is a folder with what the step wrote and outcome.json; losses.json holds losses of arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.optimize.distill.plan import Plan
from edgeship.optimize.tuning.settings import Settings
from edgeship.targets import child
from tests.simulators import recorded

_SHORT = Settings(epochs=6, batch=32, rate=5e-3, temperature=4.0, seed=1)

#: Case -> (given student, plan, whether the data has labels).
CASES: Mapping[str, tuple[str | None, Plan, bool]] = {
    "half": (None, Plan(0.5, settings=_SHORT), True),
    "unlabelled": (None, Plan(0.5, settings=_SHORT), False),
    "shallow": (None, Plan(1.0, 0.34, settings=Settings(epochs=1)), True),
    "given": ("student", Plan(features=(("pool", "hidden"),), settings=_SHORT), False),
    "other": ("other", Plan(settings=_SHORT), True),
    "no-layer": (None, Plan(0.5, features=(("nowhere", "pool"),), settings=_SHORT), True),
    "even": ("margin", Plan(settings=Settings(epochs=6, batch=32, rate=5e-3, alpha=1.0)), True),
    "no-match": (None, Plan(0.5, features=(("stem", "pool"),), settings=_SHORT), True),
}


def make(folder: Path) -> Path:
    """Write all of them into `folder`; takes about twenty seconds."""
    child.run("tests.simulators.distilled_models", {}, folder, limits=child.CONVERT, subject="distilled models")
    return folder


def performed(folder: Path, case: str) -> Callable[..., dict[str, Any]]:
    """What `child.run` would do with the distillation step in one of these cases."""
    return recorded.played(folder / case, "edgeship.optimize.distill.perform")


def outcome(folder: Path, case: str) -> dict[str, Any]:
    """What came of the step: see `recorded.outcome`."""
    return recorded.outcome(folder / case)


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step: runs in the child."""
    import keras
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(3)
    layers = keras.layers
    digits = load_digits()
    x, y = (digits.images[:600, :, :, None] / 16).astype("float32"), digits.target[:600].astype("int32")
    np.savez(folder / "digits.npz", image=x, labels=y)
    image = keras.Input((8, 8, 1), name="image")
    h = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(image)
    for number in range(3):
        h = layers.Conv2D(16, 3, padding="same", activation="relu", name=f"conv{number}")(h)
    h = layers.Flatten(name="pool")(layers.MaxPooling2D(4)(h))
    teacher = keras.Model(image, layers.Dense(10, activation="softmax", name="out")(h))
    teacher.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    teacher.fit(x, y, epochs=6, batch_size=32, verbose=0)
    teacher.save(folder / "teacher.keras")
    small = [keras.Input((8, 8, 1), name="image"), layers.Flatten(), layers.Dense(24, activation="relu", name="hidden")]
    keras.Sequential([*small, layers.Dense(10)]).save(folder / "student.keras")
    keras.Sequential([*small, layers.Dense(3)]).save(folder / "other.keras")
    keras.Sequential([*small, layers.Dense(1, activation="sigmoid")]).save(folder / "even.keras")
    positive = keras.initializers.RandomUniform(0, 0.001)  # it starts with answers that could be shares
    keras.Sequential([*small, layers.Dense(1, kernel_initializer=positive)]).save(folder / "margin.keras")
    for case, (student, plan, labelled) in CASES.items():
        truth = 1 - y % 2 if case == "even" else y
        _case(folder, case, student, plan, x, truth if labelled else None)
    (folder / "losses.json").write_text(json.dumps(_losses()))
    return {}


def _case(folder: Path, case: str, student: str | None, plan: Plan, x: Any, y: Any) -> None:
    from edgeship.dataset import Dataset
    from edgeship.optimize.distill import perform as step
    from edgeship.optimize.tuning import parts, samples

    out = folder / case
    out.mkdir()
    divided = parts.divide(Dataset({"image": x[:, None]}, y), None, 0)
    request = {
        "path": str(folder / ("even.keras" if case == "even" else "teacher.keras")), "plan": plan.encode(),
        "student": None if student is None else str(folder / f"{student}.keras"),
        "parts": {part: samples.write(getattr(divided, part), out, part)
                  for part in ("train", "validation", "evaluation")},
    }  # fmt: skip
    recorded.record(step.perform, request, out)


def _losses() -> dict[str, Any]:
    from edgeship.optimize.tuning import losses

    rng = np.random.default_rng(0)
    teacher, student = (rng.normal(size=(6, 4)).astype("f") for _ in range(2))
    labels = np.array([0, 1, 2, 3, 0, 1], np.int32)

    def softmax(z: Any) -> Any:
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    share, margin = softmax(teacher[:, :2])[:, 1:], student[:, 1:2] - student[:, :1]
    return {
        "teacher": teacher.tolist(), "student": student.tolist(), "labels": labels.tolist(),
        "soft": {str(t): float(losses.soft(teacher, student, ("logits", "logits"), t)) for t in (1.0, 4.0)},
        "mixed": float(losses.soft(softmax(teacher), student, ("probabilities", "logits"), 4.0)),
        "same": float(losses.soft(softmax(teacher), teacher + 3, ("probabilities", "logits"), 4.0)),
        "one-number": [
            float(losses.soft(share, margin, ("share", "margin"), 4.0)),
            float(losses.soft(teacher[:, :2], student[:, :2], ("logits", "logits"), 4.0)),
            float(losses.hard(labels % 2, softmax(student[:, :2])[:, 1:], "share")),
            float(losses.hard(labels % 2, student[:, :2], "logits")),
        ],
        "hard": float(losses.hard(labels, student, "logits")),
        "hard-of-probabilities": float(losses.hard(labels, softmax(student), "probabilities")),
    }  # fmt: skip
