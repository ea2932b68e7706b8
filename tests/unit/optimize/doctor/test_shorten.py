"""The Keras layer that a conversion fails on, or dies of: the search, with a stand-in for Keras and its converter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgeship.errors import ConversionError
from edgeship.model import ModelFacts
from edgeship.optimize.doctor import shorten
from edgeship.optimize.doctor.trial import Clock
from edgeship.reporter import Reporter, Step
from edgeship.targets import child
from edgeship.targets.keras import perform as export
from edgeship.targets.keras import truncate

FACTS = ModelFacts(Path("m.keras"), "keras", "a" * 64, 1, "float32", (), (), {}, 1)


class KilledError(BaseException):
    """The process is gone: nothing in it can catch that."""


@dataclass(eq=False)
class Dense:
    """A layer, and a tensor of it."""

    name: str

    @property
    def output(self) -> str:
        return self.name

    @property
    def input(self) -> SimpleNamespace:
        return SimpleNamespace(shape=(None, 4), dtype="float32")

    def __call__(self, _given: object) -> str:
        return self.name

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "units": 4}


@dataclass(frozen=True)
class Model:
    inputs: object
    outputs: Sequence[str]

    def save(self, path: Path) -> None:
        path.write_text(str(self.outputs))


def keras_of(layers: Sequence[Dense]) -> Any:
    made: Any = ModuleType("keras")
    made.layers = SimpleNamespace(InputLayer=type("InputLayer", (), {}))
    made.saving = SimpleNamespace(load_model=lambda *_, **__: SimpleNamespace(layers=layers, inputs=[]))
    made.tree = SimpleNamespace(flatten=lambda value: [value])
    made.Input = lambda **_: "input"
    made.Model = lambda inputs, outputs: Model(inputs, outputs if isinstance(outputs, list) else [outputs])
    return made


def dies_of(names: Collection[str]) -> Callable[..., None]:
    def convert(model: Model, *_: object) -> None:
        if set(names) & {*model.outputs}:
            raise KilledError

    return convert


def fails_on(names: Collection[str], *, alone: bool = True) -> Callable[..., None]:
    def convert(model: Model, *_: object) -> None:
        if set(names) & {*model.outputs} and (alone or len(model.outputs) > 1):
            raise ValueError("no such operator")

    return convert


def found(
    monkeypatch: pytest.MonkeyPatch, place: Path, count: int, convert: Callable[..., None]
) -> tuple[shorten.Truncated | None, int]:  # fmt: skip
    """What comes out for a model of so many layers, and how often TensorFlow was started."""
    started: list[Mapping[str, Any]] = []

    def run(step: str, request: Mapping[str, Any], folder: Path, *, subject: str, **_: Any) -> dict[str, Any]:
        started.append(request)
        try:
            return truncate.perform(request, folder)
        except KilledError as error:
            raise ConversionError(f"{subject}: killed by SIGSEGV") from error

    monkeypatch.setitem(sys.modules, "keras", keras_of([Dense(f"d{i}") for i in range(count)]))
    monkeypatch.setattr(export, "convert", convert)
    monkeypatch.setattr(child, "run", run)
    clock = Clock(60, 900.0, Reporter(), Step("doctor"))
    return shorten.truncated(FACTS, "tflite", None, place, clock), len(started)


@pytest.mark.parametrize("bad", [0, 4, 9])
def test_the_layer_that_fails_by_itself_is_found_in_one_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    one, starts = found(monkeypatch, tmp_path, 10, fails_on({f"d{bad}"}))
    assert one is not None
    assert (one.layer, one.kind, one.before, one.alone, starts) == (f"d{bad}", "Dense", bad, True, 1)
    assert one.attributes == {"units": "4"}
    assert [path.name for path in one.files] == ["part.keras"]


def test_a_layer_that_fails_only_behind_others_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = found(monkeypatch, tmp_path, 10, fails_on({"d4"}, alone=False))
    assert one is not None
    assert (one.layer, one.before, one.alone) == ("d4", 4, False)


@pytest.mark.parametrize("bad", [0, 1, 4, 9])
def test_the_layer_that_kills_the_converter_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """It kills it by itself as well: what was found by then is not lost."""
    one, starts = found(monkeypatch, tmp_path, 10, dies_of({f"d{bad}"}))
    assert one is not None
    assert (one.layer, one.kind, one.before, one.alone) == (f"d{bad}", "Dense", bad, True)
    assert [path.name for path in one.files] == ["part.keras"]
    assert starts <= shorten.MOST_CRASHES


def test_a_model_that_is_converted_after_all_has_no_such_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, tmp_path, 10, dies_of(())) == (None, 1)


def test_what_cannot_be_loaded_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(step: str, *_: Any, subject: str, **__: Any) -> dict[str, Any]:
        raise ConversionError(f"{subject}: out of memory")

    monkeypatch.setattr(child, "run", run)
    clock = Clock(60, 900.0, Reporter(), Step("doctor"))
    assert shorten.truncated(FACTS, "tflite", None, tmp_path, clock) is None
