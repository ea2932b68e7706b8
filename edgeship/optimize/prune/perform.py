"""The step that prunes, with TensorFlow: ranks channels on data, cuts them out, tunes what is left, answers, saves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError, UsageError
from edgeship.optimize.prune import channels as groups
from edgeship.optimize.prune import choose, cut, masks, network
from edgeship.optimize.prune.channels import Channels, Kept
from edgeship.optimize.prune.plan import CHANNELS, TWO_OF_FOUR, Plan
from edgeship.optimize.tuning import fit, losses, models
from edgeship.optimize.tuning.samples import Samples
from edgeship.targets.keras.inspect import plain_name

RANKED = 1024  # samples that importance is taken from
RANKED_BATCH = 16  # a small batch: importance is the square of a mean over it
SAME = 1e-3  # of the range of the answers, between the cut model and the old one with these channels silenced

MASKED = ("Dense", "Conv1D", "Conv2D", "Conv3D")
_SPARSE_FROM = 0.5  # part of the epochs after which a magnitude mask has all its zeros


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Prune.

    Args:
        request: "path"; "plan"; "parts": {"train", "validation", "evaluation"} as `samples.write` left them.
        folder: gets pruned.keras, before_<j>.npy, cut_<j>.npy and after_<j>.npy: answers to the evaluation samples of
            the model as it was, pruned, and tuned.

    Returns:
        Facts for the report.
    """
    plan = Plan.parse(request["plan"])
    fit.start(plan.settings.seed)
    model = models.flat(models.load(request["path"]))
    names = [plain_name(tensor.name) for tensor in model.inputs]
    train, validation, evaluation = fit.taught(model, request["parts"], names, "the model itself")
    kinds = fit.kinds_of(train, train.answers)
    _answer(model, evaluation, folder, "before")
    facts: dict[str, Any] = {"kinds": kinds, "parameters_before": models.parameters(model)}
    objective = fit.Objective(plan.settings, train, kinds, kinds)
    if plan.method == CHANNELS:
        small, more = _cut(model, plan, train, kinds)
        _answer(small, evaluation, folder, "cut")
        fitted = fit.fit(small, train, validation, objective, plan.settings, folder)
    else:
        small, (mask, more) = model, _masks(model, plan)
        mask.to(1.0)
        whole = small.get_weights()
        mask.apply()
        _answer(small, evaluation, folder, "cut")
        small.set_weights(whole)
        fitted = fit.fit(
            small, train, validation, objective, plan.settings, folder,
            after_update=mask.apply, before_epoch=mask.epoch, eligible_from=mask.complete,
        )  # fmt: skip
        mask.apply()
        facts["zeros"] = mask.zeros()
    _answer(small, evaluation, folder, "after")
    models.save(small, folder / "pruned.keras")
    return facts | more | dict(fit.report(fitted)) | {"parameters_after": models.parameters(small)}


def _answer(model: Any, samples: Samples, folder: Path, stem: str) -> None:
    for j, out in enumerate(fit.answers(model, samples)):
        np.save(folder / f"{stem}_{j}.npy", out, allow_pickle=False)


# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cut(model: Any, plan: Plan, train: Samples, kinds: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    config, shapes = models.serialized(model)
    found = groups.analyse(network.read(config, shapes))
    if not found.free:
        choose.choose(found, {}, plan)  # raises with the reasons
    scores = choose.importance(found, _products(model, found, train, kinds))
    kept = choose.choose(found, scores, plan)
    wanted = sorted({(item.layer, item.weight) for item in found.cuts})
    old = models.weights(model, wanted)
    small = models.built(cut.configuration(config, found, kept))
    models.carry(model, small, but={layer for layer, _ in wanted})
    models.assign(small, cut.weights(old, found, kept))
    _check(model, small, old, found, kept, train)
    before, after = choose.costs(found, kept)
    return small, {
        "macs_before": before, "macs_after": after, "groups": choose.summary(found, kept),
        "held": choose.why_held(found),
    }  # fmt: skip


def _products(
    model: Any, found: Channels, train: Samples, kinds: Sequence[str]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Gradient × weight of everything that reads channels, [batches, *shape].

    The loss is the cross-entropy with the labels. Where there are none, it is the outputs' scalar product with random
    signs: the mean of its squared change is the squared change of the outputs (Hutchinson, 1990).
    """
    import tensorflow as tf
    from keras import ops

    wanted = sorted({(item.layer, item.weight) for item in found.cuts if item.reads})
    layers = {layer.name: layer for layer in model.layers}
    variables = [attrgetter(weight)(layers[name]) for name, weight in wanted]
    labelled = train.labels is not None and kinds[0] in losses.LABELLED
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(train))[:RANKED])
    size = min(RANKED_BATCH, len(rows))
    variances = [max(float(np.var(out)), 1e-12) for out in train.answers]

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow has no types here
    def products(inputs: Any, labels: Any, signs: Any) -> Any:
        with tf.GradientTape() as tape:
            given = fit.call(model, inputs, training=False)
            if labelled:
                loss = losses.hard(labels, given[0], kinds[0])
            else:
                parts = [
                    ops.mean(losses.scores(out, kind) * sign) / math.sqrt(variance)
                    for out, kind, sign, variance in zip(given, kinds, signs, variances, strict=True)
                ]
                loss = sum(parts[1:], parts[0])
        gradients = tape.gradient(loss, [v.value for v in variables])
        return [
            tf.zeros(v.shape) if g is None else g * ops.convert_to_tensor(v)
            for g, v in zip(gradients, variables, strict=True)
        ]

    out: list[list[NDArray[np.float64]]] = [[] for _ in wanted]
    for begin in range(0, len(rows) - size + 1, size):
        at = rows[begin : begin + size]
        labels = train.labels[at] if labelled and train.labels is not None else np.zeros(size, np.int32)
        signs = [rng.choice(np.array([-1, 1], np.float32), size=(size, *a.shape[1:])) for a in train.answers]
        for pieces, product in zip(out, products([a[at] for a in train.inputs], labels, signs), strict=True):
            pieces.append(np.asarray(product, np.float64))
    return {key: np.stack(pieces) for key, pieces in zip(wanted, out, strict=True)}


def _check(
    model: Any, small: Any, old: models.Weights, found: Channels, kept: Kept, train: Samples
) -> None:  # fmt: skip
    """The smaller model answers like the old one whose lost channels are read as zeros; weights are put back.

    Raises ConversionError: a layer does something else to channels than `rules` say. Where a LayerNormalization takes
    means over what was cut, the two differ rightly, and this cannot be told.
    """
    if any(found.groups[number].normalized for number in kept):
        return
    few = Samples(tuple(array[:8] for array in train.inputs))
    models.assign(model, cut.silenced(old, found, kept))
    expected = fit.answers(model, few)
    models.assign(model, old)
    for wanted, given in zip(expected, fit.answers(small, few), strict=True):
        width = max(float(wanted.max() - wanted.min()), 1e-6)
        if wanted.shape != given.shape or not np.abs(given - wanted).max() <= SAME * width:
            raise ConversionError(
                "cutting channels changed more than those: a layer treats them in a way that is not known here",
                hint="report the model's layers as a bug; --method magnitude leaves the shapes as they are",
            )


# ── masks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Mask:
    """Masks of kernels as variables that the compiled step multiplies with, and how they grow."""

    plan: Plan
    kernels: Mapping[str, Any]  # layer -> variable
    variables: Mapping[str, Any]  # layer -> mask

    @property
    def complete(self) -> int:
        """The first epoch after which all zeros are there."""
        return 1 if self.plan.method == TWO_OF_FOUR else max(1, math.ceil(_SPARSE_FROM * self.plan.settings.epochs))

    def epoch(self, number: int) -> None:
        """Before an epoch: as many zeros as the schedule wants."""
        if number < self.complete:
            self.to((number + 1) / self.complete)

    def to(self, done: float) -> None:
        """Choose the zeros after this part of the schedule."""
        values = {name: np.asarray(kernel) for name, kernel in self.kernels.items()}
        if self.plan.method == TWO_OF_FOUR:
            chosen = {name: masks.two_of_four(value) for name, value in values.items()}
        else:
            chosen = masks.by_magnitude(values, masks.schedule(done, self.plan.amount or 0.0))
        for name, mask in chosen.items():
            self.variables[name].assign(mask.astype(np.float32))

    def apply(self) -> None:
        """Set what is masked to zero; part of the compiled step."""
        for name, kernel in self.kernels.items():
            kernel.assign(kernel * self.variables[name])

    def zeros(self) -> float:
        """Share of zeros in the masked kernels."""
        values = [np.asarray(kernel) for kernel in self.kernels.values()]
        return sum(int((v == 0).sum()) for v in values) / sum(v.size for v in values)


def _masks(model: Any, plan: Plan) -> tuple[_Mask, dict[str, Any]]:
    import tensorflow as tf

    kernels = {layer.name: layer.kernel for layer in model.layers if type(layer).__name__ in MASKED}
    left = []
    if plan.method == TWO_OF_FOUR:
        left = [name for name, kernel in kernels.items() if not masks.fits(tuple(kernel.shape))]
        kernels = {name: kernel for name, kernel in kernels.items() if name not in left}
    if not kernels:
        raise UsageError(
            f"{plan.method} finds no kernel to mask" + (": inputs are no multiple of 4" if left else ""),
            hint="it masks Dense and convolution layers; --method magnitude takes any shape",
        )
    variables = {name: tf.Variable(tf.ones(kernel.shape), trainable=False) for name, kernel in kernels.items()}
    held = [f"{name}: its number of inputs is no multiple of 4" for name in left]
    return _Mask(plan, kernels, variables), {"held": held}
