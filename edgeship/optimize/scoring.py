"""The step that runs a user's metric over the answers of both models. Nothing is pickled."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship import child
from edgeship.errors import InputError, UsageError
from edgeship.optimize.drops import Double, Indices, draws

#: What a function may ask for, by the name of its parameter.
PARAMETERS = ("answers", "expected", "labels", "targets", "inputs")

HINT = (
    "def score(answers, labels): …   answers is a dict of output name -> array [n, …]; return an array of n scores, or "
    "one number; 1 is perfect"
)

#: A call with a variant's answers may take so many times as long as the first, with the source's; never fewer seconds.
SLOWER, SHORTEST = 20, 60.0

Function = Callable[..., object]


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Call the function with the answers of each model; where it gives one number, on subsets and resamples too.

    Args:
        request: "folder" to look for the module in, "path": the parent's `sys.path`, "cwd", "module", "function",
            "outputs", "inputs": names; "labels", "targets": whether there are any; "subsets": their names; "resamples";
            "seconds": that all of it may take.
        folder: holds expected<i>.npy, given<i>.npy, input<i>.npy, labels.npy, targets.npy, subset<i>.npy; gets
            scores.npy, float64 [2, n], or values<i>.npy, float64 [1 + resamples, 2], for each subset.

    Returns:
        {"kind": "scores" or "numbers"}.
    """
    first = First.call(request, folder)
    function, have, before = first.function, first.arguments, first.scores
    everything = have.subset(0)
    deadline = child.Deadline(folder, "a call with the variant's answers", max(SHORTEST, SLOWER * first.seconds))
    with deadline:
        after = scores_of(_called(function, have.of(1, everything)), len(everything))
    if before.ndim != after.ndim:
        raise InputError("it gave one number for one model and an array for the other", hint=HINT)
    if before.ndim:
        np.save(folder / "scores.npy", np.stack([before, after]), allow_pickle=False)
        return {"kind": "scores"}
    for number, name in enumerate(request["subsets"]):
        at = have.subset(number)
        pairs = [[_value(function, have.of(model, drawn), deadline) for model in (0, 1)] for drawn in
                 [at, *draws(at, request["resamples"])]]  # fmt: skip
        if not np.isfinite(pairs[0]).all():
            raise InputError(f"it has no value on {name} ({len(at)})", hint="score it with 0")
        np.save(folder / f"values{number}.npy", np.array(pairs), allow_pickle=False)
    return {"kind": "numbers"}


@dataclass(frozen=True)
class First:
    """The first call of the function, with the source's answers to all samples."""

    function: Function
    arguments: Arguments
    scores: Double
    seconds: float  # that it took
    calls: int  # that judge a variant

    @classmethod
    def call(cls, request: Mapping[str, Any], folder: Path) -> First:
        """Find the function and call it.

        Args:
            request: as `perform`.
            folder: likewise.

        Raises:
            UsageError: no such module or function, or it takes other arguments.
            InputError: it raised, gave something else than scores, or is too slow to be called as often as it has to.
        """
        sys.path[:] = [request["folder"], *request["path"], *sys.path]
        os.chdir(request["cwd"])
        function = find(request["module"], request["function"])
        have = Arguments(request, folder, asked_for(function))
        everything = have.subset(0)
        begun = time.monotonic()
        with child.Deadline(folder, "its first call, with the source's answers,"):
            scores = scores_of(_called(function, have.of(0, everything)), len(everything))
        seconds = time.monotonic() - begun
        calls = 2 * (1 + request["resamples"]) * len(request["subsets"]) if scores.ndim == 0 else 2
        if calls * seconds > request["seconds"]:
            raise InputError(
                f"a call takes {seconds:.1f} s, and {calls} calls are needed to know how sure one number is: more than "
                f"its limit of {request['seconds']:.0f} s",
                hint=f"return one score a sample (2 calls do then), give fewer samples, or set {child.STEP_LIMIT}=5h "
                "in the environment",
            )
        return cls(function, have, scores, seconds, calls)


class Arguments:
    """What a call gets: the arrays that the function asks for, at some positions."""

    def __init__(self, request: Mapping[str, Any], folder: Path, wanted: tuple[str, ...]) -> None:
        self._request, self._folder, self._wanted = request, folder, wanted

    def subset(self, number: int) -> Indices:
        """The positions of a part of the samples; 0 is all of them."""
        return np.asarray(self._load(f"subset{number}"), dtype=np.intp)

    def of(self, model: int, at: Indices) -> dict[str, Any]:
        """Arguments of a call: model 0 is the source, 1 the variant."""
        out: dict[str, Any] = {}
        for name in self._wanted:
            if name in ("labels", "targets"):
                out[name] = self._load(name)[at] if self._request[name] else None
            elif name == "inputs":
                out[name] = {key: self._load(f"input{i}")[at] for i, key in enumerate(self._request["inputs"])}
            else:
                kind = "given" if name == "answers" and model else "expected"
                out[name] = {key: self._load(f"{kind}{i}")[at] for i, key in enumerate(self._request["outputs"])}
        return out

    def _load(self, name: str) -> Any:
        return np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def find(module: str, name: str) -> Function:
    """The user's function. Raises UsageError, InputError."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UsageError(f"no module {error.name!r} in {sys.path[0]}, nor where Python looks", hint=HINT) from error
    except BaseException as error:
        raise InputError(
            f"importing {module} raised {_told(error)}", hint="import the module by itself, and mend what it raises"
        ) from error
    if not callable(found):
        raise UsageError(f"{module} has no function {name!r}", hint=HINT)
    return found  # type: ignore[no-any-return]  # a user's function


def asked_for(function: Function) -> tuple[str, ...]:
    """Which of `PARAMETERS` it takes. Raises UsageError: others, or no answers."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise UsageError("its parameters cannot be read", hint=HINT) from error
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    strange = [p.name for p in named if p.name not in PARAMETERS and p.default is p.empty]
    strange += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if strange:
        raise UsageError(f"it takes {', '.join(strange)}; known are {', '.join(PARAMETERS)}", hint=HINT)
    if "answers" not in [p.name for p in named]:
        raise UsageError("it does not take answers", hint=HINT)
    return tuple(p.name for p in named if p.name in PARAMETERS)


def scores_of(result: object, count: int) -> Double:
    """What a call gave, as float64 [count] or []. Raises InputError: no such array, NaN, outside −1 to 1."""
    if result is None:
        raise InputError("it gave None", hint=f"does it end without return? {HINT}")
    try:
        given = np.asarray(result)
        if given.dtype.kind in "cSUmM":  # numpy would make real numbers of complex ones, of text and of times
            raise TypeError(given.dtype)
        scores = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"it gave {type(result).__name__}, real numbers are wanted", hint=HINT) from error
    if scores.shape not in ((), (count,)):
        raise InputError(f"it gave an array {list(scores.shape)} for {count} samples", hint=HINT)
    if not np.isfinite(scores).all():
        raise InputError("it gave NaN or infinity", hint="score an answer that is no number with 0")
    if scores.min() < -1 or scores.max() > 1:
        raise InputError(
            f"it gave {scores.min():.4g} to {scores.max():.4g}; scores lie between −1 and 1, and more is better",
            hint="for an error, return 1 − error / the largest that can be",
        )
    return scores


def _called(function: Function, arguments: Mapping[str, Any]) -> object:
    try:
        return function(**arguments)
    except BaseException as error:
        raise InputError(
            f"it raised {_told(error)}", hint="call the function by itself on a few answers, and mend what it raises"
        ) from error


def _value(function: Function, arguments: Mapping[str, Any], deadline: child.Deadline) -> float:
    """One number, NaN where it has none: a draw without positives has no recall."""
    try:
        with deadline:
            return float(function(**arguments))  # type: ignore[arg-type]  # a user's function
    except (Exception, SystemExit):  # noqa: BLE001 - the user's; it has shown on all samples that it works
        return float("nan")


def _told(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(sys.path[0])]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{where}"
