"""Pruning and distillation on Fashion-MNIST: what they gain in measured speed and what they cost in accuracy.

    python benchmarks/compress.py [--data FOLDER] [--work FOLDER] [--seeds N] [--json FILE]

* A residual network with depthwise convolutions is trained on 12,000 images, pruned and fine-tuned on the same, and
  judged on the 10,000 test images. Both are converted to TFLite, float and int8, and timed in turns in one process with
  the engine that devices run: processor time of one inference, the ratio in one run. Goals: 1.5 times as fast, at most
  1 point lost.
* A student of half the width is trained on 2,000 of these images, labels included, with the teacher and, everything
  else equal, with the labels alone (alpha 1), from the same seeds: the teacher has seen more than the user who needs a
  student has at hand. Goal: the gain is above 0 by more than its 95 % interval (Student's t over seeds).

FOLDER holds Debian's files of dataset-fashion-mnist; without --data the package is downloaded and unpacked (31 MB; no
root needed). What was made stays in --work: run again, it is only measured. Exit code 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_mnist import folder as folder_of_data
from fashion_mnist import read

from edgeship import libraries
from edgeship.dataset import Dataset
from edgeship.model import ModelFacts
from edgeship.optimize.distill import make as distilling
from edgeship.optimize.distill import plan as distill_plan
from edgeship.optimize.prune import make as pruning
from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.tuning.settings import Settings
from edgeship.reporter import Reporter, Step
from edgeship.runtime import engine
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme

TRAINED = 12_000
SPEEDUP = 2.5  # of arithmetic; time falls less
ROUNDS, RUNS = 40, 40
GOAL_SPEED, GOAL_DROP = 1.5, 1.0
TAUGHT, STUDENT_EPOCHS, WIDTH = 2_000, 30, 0.5


@dataclass(frozen=True)
class Limits:
    """Nothing is refused here: the figures are what is wanted."""

    max_drop: float = 100.0
    max_class_drop: float = 100.0


class Told(Reporter):
    """Steps on standard error."""

    def finished(self, step: Step, summary: str, data: Any = None) -> None:  # noqa: ARG002
        """A line."""
        print(f"  {step.name} {step.subject}: {summary}", file=sys.stderr, flush=True)


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────


def train(folder: Path, data: Path) -> None:
    """Write teacher.keras; runs in a process of its own, since it imports TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(20261124)
    layers = keras.layers

    def normalized(x: Any, layer: Any, *, relu: bool = True) -> Any:
        x = layers.BatchNormalization()(layer(x))
        return layers.ReLU()(x) if relu else x

    def block(x: Any, filters: int) -> Any:
        h = normalized(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False))
        h = normalized(h, layers.Conv2D(filters, 1, use_bias=False), relu=False)
        return layers.ReLU()(layers.Add()([x, h]))

    image = keras.Input((28, 28, 1), name="image")
    x = normalized(image, layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False))
    x = block(x, 32)
    x = normalized(x, layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False))
    x = normalized(x, layers.Conv2D(96, 1, use_bias=False))
    for _ in range(3):
        x = block(x, 96)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))
    images, labels = read(data, "train", TRAINED)
    epochs, batch = 10, 64
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * (TRAINED // batch))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, epochs=epochs, batch_size=batch, verbose=0)
    model.save(folder / "teacher.keras")


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def ratio(before: Path, after: Path) -> dict[str, float]:
    """Processor time of one inference of two TFLite files, in turns; µs, and before over after."""
    library = libraries.for_host("tflite")
    loaded = [engine.load("tflite", str(library.path), str(path), threads=1) for path in (before, after)]
    given = [[os.urandom(spec.nbytes) if spec.dtype == "int8" else bytes(spec.nbytes) for spec in m.inputs]
             for m in loaded]  # fmt: skip
    times: list[list[float]] = [[], []]
    for turn in range(ROUNDS + 5):
        for which in (0, 1) if turn % 2 else (1, 0):
            began = time.process_time()
            for _ in range(RUNS):
                loaded[which].run(*given[which])
            if turn >= 5:
                times[which].append((time.process_time() - began) / RUNS * 1e6)
    for model in loaded:
        model.close()
    pairs = [a / b for a, b in zip(*times, strict=True)]
    return {
        "before_us": statistics.median(times[0]), "after_us": statistics.median(times[1]),
        "ratio": statistics.median(pairs),
    }  # fmt: skip


def prune(teacher: ModelFacts, data: Dataset, test: Dataset, work: Path) -> dict[str, Any]:
    """Prune, convert, time."""
    plan = Plan(speedup=SPEEDUP, settings=Settings(epochs=10, rate=2e-3, patience=10))
    tuned = pruning.prune(teacher, plan, data, work / "cache", Told(), evaluation=test)
    verdict = tuned.judged("before", "after", Limits())
    small = registry.inspect(tuned.path)
    speed = {}
    for scheme in (Scheme("float32"), Scheme("int8")):
        files = [
            registry.target("tflite").build(facts, scheme, data.take(200, 0), work / "cache", Reporter()).path
            for facts in (teacher, small)
        ]
        speed[scheme.precision] = ratio(files[0], files[1])
    return {
        "speed": speed, "before": verdict.float_value, "after": verdict.variant_value, "drop": verdict.drop,
        "interval": verdict.interval, "samples": verdict.samples,
        "macs": [tuned.facts["macs_before"], tuned.facts["macs_after"]],
        "parameters": [tuned.facts["parameters_before"], tuned.facts["parameters_after"]],
    }  # fmt: skip


def distill(teacher: ModelFacts, data: Dataset, test: Dataset, work: Path, seeds: int) -> dict[str, Any]:
    """The same student with a teacher and with labels alone, for each seed; points of accuracy."""
    from scipy import stats

    few = data.take(TAUGHT, 0)
    values: dict[str, list[float]] = {"taught": [], "alone": []}
    for seed in range(seeds):
        for name, alpha in (("taught", 0.1), ("alone", 1.0)):
            settings = Settings(
                epochs=STUDENT_EPOCHS, rate=3e-3, patience=STUDENT_EPOCHS, temperature=4.0, alpha=alpha, seed=seed
            )
            plan = distill_plan.Plan(WIDTH, settings=settings)
            tuned = distilling.distill(teacher, plan, few, work / "cache", Told(), evaluation=test)
            values[name].append(100 * tuned.judged("before", "after", Limits()).variant_value)
    gains = [a - b for a, b in zip(values["taught"], values["alone"], strict=True)]
    mean = statistics.mean(gains)
    half = float(stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(gains) / seeds**0.5
    return {
        **values, "gain": mean, "interval": [mean - half, mean + half],
        "parameters": [tuned.facts["parameters_before"], tuned.facts["parameters_after"]],
    }  # fmt: skip


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, metavar="FOLDER", help="the files of Fashion-MNIST")
    parser.add_argument("--work", type=Path, default=None, metavar="FOLDER", help="where what is made stays")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind (3)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there")
    parser.add_argument("--train", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train, options.data)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        data = folder_of_data(options.data, work)
        path = work / "teacher.keras"
        if not path.exists():
            subprocess.run([sys.executable, __file__, "--train", str(work), "--data", str(data)], check=True)
        teacher = registry.inspect(path)
        images, labels = read(data, "train", TRAINED)
        seen, truth = read(data, "t10k", 10_000)
        training, test = Dataset({"image": images[:, None]}, labels), Dataset({"image": seen[:, None]}, truth)
        pruned = prune(teacher, training, test, work)
        distilled = distill(teacher, training, test, work, options.seeds)
    figures = {"prune": pruned, "distill": distilled}
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    reached = (
        pruned["speed"]["float32"]["ratio"] >= GOAL_SPEED and pruned["drop"] <= GOAL_DROP
        and distilled["interval"][0] > 0
    )  # fmt: skip
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
