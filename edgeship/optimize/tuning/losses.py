"""What a student's answers cost against labels and a teacher; in the child, on tensors of Keras.

An output is of one of these kinds:

| kind | is |
|---|---|
| probabilities, logits | scores of classes, one a class |
| share, margin | one number for class 1 against class 0: its probability (sigmoid), or its logit |
| places | probabilities of classes at each of several places: the steps of a text, the pixels of a scene |
| values | anything else |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBABILITIES, LOGITS, VALUES = "probabilities", "logits", "values"
SHARE, MARGIN, PLACES = "share", "margin", "places"

#: Kinds that a label for each sample says something about.
LABELLED = (PROBABILITIES, LOGITS, SHARE, MARGIN)

_SMALL = 1e-7


def kind_of(answers: NDArray[np.float32], labels: NDArray[np.int32] | None) -> str:
    """What an output is, told from its values.

    Args:
        answers: [n, …].
        labels: class of each sample, where this is the output that they belong to.

    Returns:
        "probabilities" where rows of two numbers and more sum up to 1, "logits" where they do not and labels say that
        they are classes; "share" or "margin" where the labels of one number are 0 and 1; "places" where rows sum up to
        1 at each of several places; else "values".
    """
    if answers.ndim == 2 and answers.shape[1] == 1:
        return VALUES if labels is None or labels.max() > 1 else one_number(answers)
    if answers.ndim < 2 or answers.shape[-1] < 2:
        return VALUES
    if answers.min() >= -_SMALL and np.abs(answers.sum(axis=-1) - 1).max() < 1e-3:
        return PROBABILITIES if answers.ndim == 2 else PLACES
    return LOGITS if answers.ndim == 2 and labels is not None and labels.max() < answers.shape[1] else VALUES


def one_number(answers: NDArray[np.float32]) -> str:
    """Whether one number for class 1 is its probability or its logit, told by its range as metrics do."""
    return SHARE if answers.min() >= 0 and answers.max() <= 1 else MARGIN


def scores(answers: Any, kind: str) -> Any:
    """Logits of classes; of probabilities up to a constant for each sample, which no softmax sees.

    One number for class 1 becomes the logits of two classes.
    """
    from keras import ops

    if kind == MARGIN:
        return ops.concatenate([ops.zeros_like(answers), answers], axis=-1)
    if kind == SHARE:
        answers, kind = ops.concatenate([1 - answers, answers], axis=-1), PROBABILITIES
    return ops.log(ops.clip(answers, _SMALL, 1.0)) if kind in (PROBABILITIES, PLACES) else answers


def soft(teacher: Any, student: Any, kinds: tuple[str, str], temperature: float) -> Any:
    """T² × Kullback–Leibler divergence of softened scores, mean over samples (and places).

    Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015), section 2; T² keeps the size of the
    gradient when the temperature changes.
    """
    from keras import ops

    wanted = ops.log_softmax(scores(teacher, kinds[0]) / temperature, axis=-1)
    given = ops.log_softmax(scores(student, kinds[1]) / temperature, axis=-1)
    each = ops.sum(ops.exp(wanted) * (wanted - given), axis=-1)
    return temperature**2 * ops.mean(each)


def hard(labels: Any, student: Any, kind: str) -> Any:
    """Cross-entropy with the labels, mean over samples."""
    from keras import ops

    given = ops.log_softmax(scores(student, kind), axis=-1)
    picked = ops.take_along_axis(given, ops.expand_dims(ops.cast(labels, "int32"), -1), axis=-1)
    return -ops.mean(picked)


def squared(wanted: Any, given: Any, variance: float) -> Any:
    """Mean squared error in units of the variance of what is wanted."""
    from keras import ops

    return ops.mean(ops.square(ops.cast(given, "float32") - wanted)) / variance
