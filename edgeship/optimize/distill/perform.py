"""The step that distills, with TensorFlow: a student is built or loaded, taught, asked, saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import UsageError
from edgeship.optimize.distill import student as deriving
from edgeship.optimize.distill.plan import Plan
from edgeship.optimize.prune import channels, network
from edgeship.optimize.prune.channels import macs
from edgeship.optimize.tuning import fit, losses, models
from edgeship.optimize.tuning.samples import Samples
from edgeship.targets.keras.inspect import plain_name


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Distill.

    Args:
        request: "path" of the teacher; "student": path or null; "plan"; "parts" as `samples.write` left them.
        folder: gets student.keras, before_<j>.npy and after_<j>.npy: answers of the teacher and of the student to the
            evaluation samples.

    Returns:
        Facts for the report.
    """
    plan = Plan.parse(request["plan"])
    fit.start(plan.settings.seed)
    teacher = models.flat(models.load(request["path"]))
    config, shapes = models.serialized(teacher)
    dropped: list[str] = []
    if request["student"] is None:
        student, dropped = _derived(config, shapes, plan)
    else:
        student = models.flat(models.load(request["student"]))
    names = [plain_name(tensor.name) for tensor in teacher.inputs]
    _check(teacher, student, names)
    train, validation, evaluation = fit.taught(teacher, request["parts"], names, "the teacher")
    kinds = _kinds(student, train)
    objective = fit.Objective(plan.settings, train, [kind for kind, _ in kinds], [kind for _, kind in kinds])
    features = _features(teacher, student, plan.features, train) if plan.features else None
    fitted = fit.fit(student, train, validation, objective, plan.settings, folder, features=features)
    for stem, model in (("before", teacher), ("after", student)):
        for j, out in enumerate(fit.answers(model, evaluation)):
            np.save(folder / f"{stem}_{j}.npy", out, allow_pickle=False)
    models.save(student, folder / "student.keras")
    return {
        "kinds": [list(pair) for pair in kinds], "dropped": dropped, "parameters_before": models.parameters(teacher),
        "parameters_after": models.parameters(student), "macs_before": _macs(config, shapes),
        "macs_after": _macs(*models.serialized(student)), **fit.report(fitted),
    }  # fmt: skip


def _derived(config: dict[str, Any], shapes: list[list[int | None]], plan: Plan) -> tuple[Any, list[str]]:
    """A student with new weights, and the layers that it lacks."""
    assert plan.width is not None
    found = network.read(config, shapes)
    dropped: list[str] = []
    # Wide first: what is left out by depth was read from the whole network.
    new = deriving.narrower(config, channels.analyse(found), plan.width)
    if plan.depth < 1:
        new, dropped = deriving.shallower(new, found, plan.depth)
    new["config"]["name"] = f"{new['config'].get('name', 'model')}_student"
    return models.built(new), dropped


def _macs(config: dict[str, Any], shapes: list[list[int | None]]) -> int:
    found = channels.analyse(network.read(config, shapes))
    return macs(found.works, found.sizes())


def _check(teacher: Any, student: Any, names: Sequence[str]) -> None:
    """Raise UsageError unless both take and give the same."""
    own = [plain_name(tensor.name) for tensor in student.inputs]
    for what, theirs, mine in (
        ("inputs", teacher.inputs, student.inputs), ("outputs", teacher.outputs, student.outputs)
    ):  # fmt: skip
        wanted, given = ([list(tensor.shape[1:]) for tensor in tensors] for tensors in (theirs, mine))
        if wanted != given:
            raise UsageError(
                f"the {what} of teacher and student differ: {wanted} and {given}",
                hint="build the student with the teacher's inputs and outputs, in the same order",
            )
    if len(own) > 1 and own != list(names):
        raise UsageError(f"the inputs of teacher and student are named {list(names)} and {own}", hint="name them alike")


def _kinds(student: Any, train: Samples) -> list[tuple[str, str]]:
    """What each output is, of the teacher and of the student: classes for one are classes for both."""
    few = Samples(tuple(array[:64] for array in train.inputs))
    pairs: list[tuple[str, str]] = []
    for teacher, given in zip(fit.kinds_of(train, train.answers), fit.answers(student, few), strict=True):
        own = losses.kind_of(given, None)
        if teacher in (losses.SHARE, losses.MARGIN):
            pairs.append((teacher, losses.MARGIN if _linear(student, len(pairs)) else losses.one_number(given)))
            continue
        if losses.PROBABILITIES in (teacher, own) and teacher == losses.VALUES:
            teacher = losses.LOGITS  # noqa: PLW2901 - scores of a softmax that the student ends with
        pairs.append((teacher, losses.LOGITS if teacher != losses.VALUES and own == losses.VALUES else own))
    return pairs


def _linear(student: Any, output: int) -> bool:
    """Whether an output's layer says that it has no activation: with new weights it may answer from 0 to 1 too."""
    layer = student.outputs[output]._keras_history.operation  # noqa: SLF001 - the only way from a tensor to its layer
    return getattr(getattr(layer, "activation", None), "__name__", "") == "linear"


def _features(teacher: Any, student: Any, pairs: Sequence[tuple[str, str]], train: Samples) -> fit.Features:
    """Models that give the tensors that should be alike. Raises UsageError."""
    import keras

    theirs = [_layer(teacher, name, "teacher").output for name, _ in pairs]
    mine = [_layer(student, name, "student").output for _, name in pairs]
    regressors = []
    for (left, right), goal, own in zip(pairs, theirs, mine, strict=True):
        if goal.shape[1:-1] != own.shape[1:-1]:
            raise UsageError(
                f"layers {left} and {right} give {list(goal.shape[1:])} and {list(own.shape[1:])}: only the last axis "
                "may differ",
                hint="choose layers of the same height and width",
            )
        layer = keras.layers.Dense(goal.shape[-1], use_bias=False)
        layer.build(own.shape)
        regressors.append(layer if goal.shape[-1] != own.shape[-1] else keras.layers.Identity())
    giving = keras.Model(teacher.input, theirs)
    few = Samples(tuple(array[:256] for array in train.inputs))
    variances = [max(float(np.var(out)), 1e-12) for out in fit.answers(giving, few)]
    return fit.Features(giving, keras.Model(student.input, [*mine, *student.outputs]), regressors, variances)


def _layer(model: Any, name: str, whose: str) -> Any:
    found = {layer.name: layer for layer in model.layers}
    if name not in found:
        shown = ", ".join(key for key, layer in found.items() if layer.weights) or ", ".join(found)
        raise UsageError(f"the {whose} has no layer {name!r}", hint=f"it has {shown:.400}")
    return found[name]
