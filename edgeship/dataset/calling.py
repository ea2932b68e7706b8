"""The step that runs a user's function and writes what it makes as `.npy` files. Nothing is pickled."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np

from edgeship.dataset import archive, values
from edgeship.dataset.samples import Array
from edgeship.errors import EdgeshipError, InputError, UsageError
from edgeship.runtime.manifest import TensorSpec

MAX_SAMPLES = 1_000_000

T = TypeVar("T")

_WANTED = "a dict of arrays by input name, with 'labels' beside them, or pairs (inputs, labels); or a generator of them"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the function.

    Args:
        request: "folder" to look for the module in, "path": the parent's `sys.path`, "cwd", "module", "function",
            "specs" of the inputs.
        folder: gets one `.npy` file an array.

    Returns:
        {"arrays": name -> file}.
    """
    sys.path[:] = [request["folder"], *request["path"], *sys.path]
    os.chdir(request["cwd"])
    home = Path(request["folder"])
    function = _find(request["module"], request["function"], home)
    collected = Collected([TensorSpec.parse(spec) for spec in request["specs"]])
    for item in _items(function, home):
        collected.add(item)
    files: dict[str, str] = {}
    for number, (name, array) in enumerate(collected.arrays().items()):
        files[name] = f"{number}.npy"
        np.save(folder / files[name], array, allow_pickle=False)
    return {"arrays": files}


class Collected:
    """What was made so far."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._parts: dict[str, list[Array]] = {}
        self._items = self._samples = self._bytes = 0

    def add(self, item: object) -> None:
        """Take one sample or one batch. Raises InputError."""
        self._items += 1
        named = self._named(item)
        inputs = {name: value for name, value in named.items() if name in self._specs}
        if missing := [name for name in self._specs if name not in inputs]:
            raise InputError(
                f"item {self._items} lacks the input {missing[0]!r}; it has {', '.join(map(repr, named)) or 'nothing'}",
                hint=f"the inputs are {', '.join(self._specs)}",
            )
        count, single = 0, False
        for name, value in inputs.items():
            rows, single = self._rows(name, _array(f"item {self._items}: {name!r}", value))
            count = len(rows)
            self._keep(name, rows)
        for name, value in named.items():
            if name not in inputs:
                array = _array(f"item {self._items}: {name!r}", value)
                self._keep(name, array[None] if single or (array.ndim == 0 and count == 1) else array)
        self._samples += count
        if self._samples > MAX_SAMPLES or self._bytes > archive.MAX_BYTES:
            raise InputError(
                f"more than {MAX_SAMPLES} samples or {archive.MAX_BYTES} bytes: does it ever end?",
                hint="stop after 200 to 1,000 samples",
            )

    def arrays(self) -> dict[str, Array]:
        """All of it by name. Raises InputError: nothing, or parts that do not fit together."""
        if not self._parts:
            raise InputError("the function made nothing", hint=_WANTED)
        out: dict[str, Array] = {}
        for name, parts in self._parts.items():
            try:
                out[name] = np.concatenate(parts)
            except ValueError as error:
                raise InputError(
                    f"{name!r} differs in shape from one item to the next: {error}",
                    hint="every item has the shape of the model's input: resize or pad in the function",
                ) from error
        return out

    def _named(self, item: object) -> dict[str, object]:
        out: dict[str, object] = {}
        if isinstance(item, tuple) or _is_pair(item):
            if len(item) != 2:
                raise InputError(f"item {self._items} is a tuple of {len(item)}, a pair is wanted", hint=_WANTED)
            item, out[archive.LABELS] = item
        if item is None:
            raise InputError(f"item {self._items} is None", hint=_WANTED)
        if isinstance(item, Mapping):
            given = {str(name): value for name, value in item.items()}
            others = [name for name in given if not archive.is_about_samples(name)]
            if len(self._specs) == len(others) == 1:  # one array is the one input's, whatever its name
                given[next(iter(self._specs))] = given.pop(others[0])
            return given | out
        if len(self._specs) != 1:
            raise InputError(
                f"item {self._items} does not name its arrays, the model has {len(self._specs)} inputs",
                hint=f"a dict with {', '.join(self._specs)}",
            )
        return {next(iter(self._specs)): item} | out

    def _rows(self, name: str, array: Array) -> tuple[Array, bool]:
        """([k, *shape], whether it was one sample without a batch axis)."""
        spec = self._specs[name]
        single = array.shape == values.sample_shape(spec)
        return values.conform(f"item {self._items}: {name!r}", array[None] if single else array, spec), single

    def _keep(self, name: str, array: Array) -> None:
        self._bytes += array.nbytes
        self._parts.setdefault(name, []).append(array.copy())  # what it was given in may be filled again


def _is_pair(item: object) -> TypeGuard[list[object]]:
    """Whether a list is a pair as PyTorch's DataLoader makes it, and not a sample written as lists of numbers."""
    return isinstance(item, list) and len(item) == 2 and (isinstance(item[0], Mapping) or hasattr(item[0], "__array__"))


def _array(where: str, value: object) -> Array:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputError(
            f"{where} is no array: {type(error).__name__}: {error}",
            hint="give numpy arrays, or what numpy.asarray takes",
        ) from error
    if array.dtype.hasobject:
        raise InputError(f"{where} is {type(value).__name__}, an array of numbers is wanted", hint=_WANTED)
    return array


# ── the user's code ──────────────────────────────────────────────────────────────────────────────────────────────────


def _find(module: str, name: str, home: Path) -> Callable[[], object]:
    found: Any = _theirs(f"importing {module}", home, lambda: importlib.import_module(module))
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key in vars(found) if callable(getattr(found, key)) and not key.startswith("_")]
            raise UsageError(f"no function {name!r} in {module}", hint=f"it has {', '.join(known[:10]) or 'none'}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{name!r} in {module} is no function", hint="module:function names a function that gives samples"
        )
    function: Callable[[], object] = found
    return function


def _items(function: Callable[[], object], home: Path) -> Iterator[object]:
    """What the function returns, or each thing that it yields."""
    made = _theirs("the function", home, function)
    if isinstance(made, (Mapping, tuple)) or hasattr(made, "__array__") or not isinstance(made, Iterable):
        yield made
        return
    each = iter(made)
    end = object()
    while (item := _theirs("the function", home, lambda: next(each, end))) is not end:
        yield item


def _theirs(what: str, home: Path, call: Callable[[], T]) -> T:
    """Run code of the user. Raises InputError that says what it raised, and where."""
    try:
        return call()
    except EdgeshipError:
        raise
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        frames = [frame for frame in frames if not frame.filename.startswith("<")]
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(home)] or frames
        where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name})" if own else ""
        text = " ".join(str(error).split())[:500]
        raise InputError(
            f"{what} raised {type(error).__name__}: {text}{where}",
            hint="run the function by itself, and mend what it raises",
        ) from error
