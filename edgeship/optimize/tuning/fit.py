"""The training loop, in the child: labels and a teacher, early stop on samples held out, best weights kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.optimize.tuning import losses
from edgeship.optimize.tuning.samples import Samples, read
from edgeship.optimize.tuning.settings import Settings

PROGRESS = "progress.json"  # {"done", "total"}: epochs, for the parent to show
EVALUATED = 256  # samples at a time

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """How it went."""

    epochs: int  # that were run
    best: int  # the epoch whose weights were kept; 0: those at the start
    validation: tuple[float, ...]  # loss on the held-out samples, before and after each epoch


@dataclass(frozen=True)
class Features:
    """Inner tensors of teacher and student that should be alike, with a linear regressor for each pair.

    FitNets: Hints for Thin Deep Nets (Romero et al., 2015). `teacher` gives these tensors, `student` these and then its
    outputs.
    """

    teacher: Any
    student: Any
    regressors: Sequence[Any]  # layers
    variances: Sequence[float]


def start(seed: int) -> None:
    """Make what follows the same each time."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def call(model: Any, tensors: Sequence[Any], *, training: bool) -> list[Any]:
    """A model's outputs as a list, given its inputs as one."""
    import keras

    given = tensors[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, [*tensors])
    return list(keras.tree.flatten(model(given, training=training)))


def answers(model: Any, samples: Samples) -> list[FloatArray]:
    """What a model answers, float32 [n, …] an output."""
    import tensorflow as tf

    run = tf.function(lambda *tensors: call(model, tensors, training=False), reduce_retracing=True)
    parts: list[list[FloatArray]] = []
    for begin in range(0, len(samples), EVALUATED):
        chunk = [tf.convert_to_tensor(np.ascontiguousarray(a[begin : begin + EVALUATED])) for a in samples.inputs]
        parts.append([np.asarray(out, dtype=np.float32) for out in run(*chunk)])
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def taught(model: Any, files: Mapping[str, Any], names: Sequence[str], who: str) -> tuple[Samples, Samples, Samples]:
    """The parts (train, validation, evaluation) that a step was given, the first two with a teacher's answers.

    Args:
        model: the teacher.
        files: part -> what `samples.write` left.
        names: of the inputs, in the teacher's order.
        who: the teacher, for the message.

    Raises:
        ConversionError: it answers NaN or infinity: nothing can be learnt from that.
    """
    train, validation, evaluation = (read(files[part], names) for part in ("train", "validation", "evaluation"))
    train, validation = (part.answered(answers(model, part)) for part in (train, validation))
    if not all(np.isfinite(out).all() for out in train.answers):
        raise ConversionError(
            f"{who} answers NaN or infinity", hint="are its weights sound, and is the data scaled as in training?"
        )
    return train, validation, evaluation


def kinds_of(samples: Samples, given: Sequence[FloatArray]) -> list[str]:
    """The kind of each output; labels belong to the first."""
    return [losses.kind_of(out, samples.labels if j == 0 else None) for j, out in enumerate(given)]


class Objective:
    """What is made small: each output's distance from the teacher, the first one's also from labels or targets."""

    def __init__(self, settings: Settings, train: Samples, teacher: Sequence[str], student: Sequence[str]) -> None:
        self.alpha, self.temperature = settings.alpha, settings.temperature
        self.kinds = list(zip(teacher, student, strict=True))
        self.variances = [max(float(np.var(out)), 1e-12) for out in train.answers]
        self.labelled = train.labels is not None and all(kind in losses.LABELLED for kind in self.kinds[0])
        self.targeted = not self.labelled and train.targets is not None and (
            train.targets.shape == train.answers[0].shape
        )  # fmt: skip

    def __call__(self, given: Sequence[Any], wanted: Sequence[Any], truth: Any) -> Any:
        """The loss of a batch; `truth` is its labels or targets, where there are some."""
        total: Any = 0.0
        for j, (out, answer, kinds) in enumerate(zip(given, wanted, self.kinds, strict=True)):
            if losses.VALUES in kinds:
                part = losses.squared(answer, out, self.variances[j])
                if j == 0 and self.targeted:
                    part = self.alpha * losses.squared(truth, out, self.variances[j]) + (1 - self.alpha) * part
            else:
                part = losses.soft(answer, out, kinds, self.temperature)
                if j == 0 and self.labelled:
                    part = self.alpha * losses.hard(truth, out, kinds[1]) + (1 - self.alpha) * part
            total = total + part
        return total

    def truth(self, samples: Samples) -> NDArray[Any]:
        """Labels or targets of samples; zeros where neither counts."""
        if self.labelled and samples.labels is not None:
            return np.asarray(samples.labels)
        if self.targeted and samples.targets is not None:
            return np.asarray(samples.targets)
        return np.zeros(len(samples), np.int32)


def fit(
    student: Any, train: Samples, validation: Samples, objective: Objective, settings: Settings, folder: Path, *,
    after_update: Callable[[], None] | None = None, before_epoch: Callable[[int], None] | None = None,
    eligible_from: int = 0, features: Features | None = None,
) -> Fitted:  # fmt: skip
    """Train a student in place.

    Args:
        student: a Keras model.
        train: with the teacher's answers.
        validation: decides when to stop and which weights are kept.
        objective: the loss.
        settings: of the training.
        folder: gets `PROGRESS`.
        after_update: called in the compiled step after each update (masks).
        before_epoch: called before epoch 0, 1, ….
        eligible_from: weights before this epoch are not kept.
        features: inner tensors to be alike.

    Raises:
        ConversionError: the loss is no number any more.
    """
    import keras
    import tensorflow as tf

    batch = min(settings.batch, len(train))
    each = len(train) // batch
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(settings.rate, max(1, each * settings.epochs))
    )
    extra = [w for layer in (features.regressors if features else ()) for w in layer.trainable_variables]
    variables = [*student.trainable_variables, *extra]
    truth = objective.truth(train)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types here
    def update(inputs: Any, wanted: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            if features is None:
                loss = objective(call(student, inputs, training=True), wanted, labels)
            else:
                loss = _with_features(features, objective, inputs, wanted, labels)
            for penalty in student.losses:
                loss = loss + penalty
        gradients = tape.gradient(loss, variables)
        optimizer.apply([g if g is not None else tf.zeros_like(v) for g, v in zip(gradients, variables, strict=True)],
                        variables)  # fmt: skip
        if after_update is not None:
            after_update()
        return loss

    if variables:
        optimizer.build(variables)
    rng = np.random.default_rng(settings.seed)
    history = [_validate(student, validation, objective)]
    best, best_loss, kept = 0, history[0] if eligible_from == 0 else math.inf, student.get_weights()
    epochs = settings.epochs if variables else 0
    for epoch in range(epochs):
        _tell(folder, epoch, epochs)
        if before_epoch is not None:
            before_epoch(epoch)
        order, total = rng.permutation(len(train)), 0.0
        for begin in range(0, each * batch, batch):
            rows = np.sort(order[begin : begin + batch])
            total += float(
                update([a[rows] for a in train.inputs], [a[rows] for a in train.answers], truth[rows])
            )  # fmt: skip
        history.append(_validate(student, validation, objective))
        if not math.isfinite(total) or not math.isfinite(history[-1]):
            raise ConversionError(
                f"the loss became {'infinite' if math.isinf(total + history[-1]) else 'NaN'} in epoch {epoch + 1}",
                hint="is the data scaled as in training? else a smaller --rate, such as a tenth",
            )
        if epoch + 1 >= eligible_from and history[-1] < best_loss:
            best, best_loss, kept = epoch + 1, history[-1], student.get_weights()
        elif epoch + 1 - max(best, eligible_from) >= settings.patience:
            break
    student.set_weights(kept)
    _tell(folder, epochs, epochs)
    return Fitted(len(history) - 1, best, tuple(round(loss, 6) for loss in history))


def _with_features(features: Features, objective: Objective, inputs: Any, wanted: Any, labels: Any) -> Any:
    count = len(features.regressors)
    theirs = call(features.teacher, inputs, training=False)
    everything = call(features.student, inputs, training=True)
    loss = objective(everything[count:], wanted, labels)
    for goal, mine, layer, variance in zip(theirs, everything, features.regressors, features.variances, strict=False):
        loss = loss + losses.squared(goal, layer(mine), variance) / count
    return loss


def _validate(model: Any, samples: Samples, objective: Objective) -> float:
    loss = objective(answers(model, samples), samples.answers, objective.truth(samples))
    return float(loss)


def _tell(folder: Path, done: int, total: int) -> None:
    part = folder / f"{PROGRESS}.part"
    part.write_text(json.dumps({"done": done, "total": total}), encoding="utf-8")
    part.replace(folder / PROGRESS)


def report(fitted: Fitted) -> Mapping[str, Any]:
    """As JSON."""
    return {"epochs": fitted.epochs, "best_epoch": fitted.best, "validation_loss": list(fitted.validation)}
