"""The step that runs a model: what it answers, and models that keep state are found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import feed, run


class Counting:
    """Adds 1 to its input; a stateful one adds how often it ran."""

    inputs = (TensorSpec("x", "float32", (1, 2)),)
    outputs = (TensorSpec("y", "float32", (1, 2)),)
    notes = ("a note",)

    def __init__(self, stateful: bool) -> None:
        self.stateful, self.runs, self.closed = stateful, 0, False

    def run(self, *inputs: bytes | memoryview) -> list[bytes]:
        self.runs += 1
        add = self.runs if self.stateful else 1
        return [(np.frombuffer(inputs[0], "<f4") + add).astype("<f4").tobytes()]

    def close(self) -> None:
        self.closed = True


def perform(folder: Path, monkeypatch: pytest.MonkeyPatch, model: Any, name: str = "x") -> dict[str, Any]:
    monkeypatch.setattr(engine, "load", lambda *_, **__: model)
    files = feed.write(Dataset({name: np.arange(6, dtype=np.float32).reshape(3, 1, 2)}), folder)
    return run.perform({"format": "tflite", "library": "l", "path": "m", "threads": 1, "samples": files}, folder)


def test_answers_are_written_and_the_model_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counting(stateful=False)
    result = perform(tmp_path, monkeypatch, model)
    assert np.load(tmp_path / "answer0.npy").tolist() == [[[1, 2]], [[3, 4]], [[5, 6]]]
    assert result["notes"] == ["a note"]
    assert model.closed


def test_state_from_one_run_to_the_next_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConversionError, match="keeps state from one run to the next"):
        perform(tmp_path, monkeypatch, Counting(stateful=True))


def test_missing_inputs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConversionError, match="the samples lack x; they have z"):
        perform(tmp_path, monkeypatch, Counting(stateful=False), "z")


def test_what_the_engine_refuses_is_a_conversion_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EngineError("no such operator")

    monkeypatch.setattr(engine, "load", refuse)
    request = {"format": "tflite", "library": "l", "path": "m", "threads": 1, "samples": None}
    with pytest.raises(ConversionError, match="the engine refuses the model: no such operator"):
        run.perform(request, tmp_path)
