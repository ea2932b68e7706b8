"""`edgeship setup`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import environments
from edgeship.environments import State
from tests.simulators.commandline import run, run_error, run_json


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_without_a_name_it_lists_what_there_is() -> None:
    assert [(d["name"], d["ready"], d["reason"], d["bytes"]) for d in run_json("setup", "setup")] == [
        ("onnx2tf", False, "not set up", None), ("tflite-runtime", False, "not set up", None)
    ]  # fmt: skip
    assert "not set up" in run("setup").stdout


def test_what_was_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def made(name: str, *, wheelhouse: Path | None, reporter: object) -> State:
        asked.append((name, wheelhouse))
        return State(environments.recipe(name), tmp_path, True, "", "3.11.7", 346_000_000)

    monkeypatch.setattr(environments, "setup", made)
    (data,) = run_json("setup", "setup", "onnx2tf")
    assert (data["ready"], data["python"], data["bytes"], data["folder"]) == (
        True,
        "3.11.7",
        346_000_000,
        str(tmp_path),
    )
    assert "346.0 MB" in run("setup", "onnx2tf", "--wheelhouse", str(tmp_path)).stdout
    assert asked == [("onnx2tf", None), ("onnx2tf", tmp_path)]


def test_what_cannot_be_set_up_is_refused(tmp_path: Path) -> None:
    error = run_error("setup", "onnx3tf", exit_code=2)
    assert error["hint"] == "known are onnx2tf, tflite-runtime"
    assert "NAME" in run_error("setup", "--wheelhouse", str(tmp_path), exit_code=2)["message"]
    assert (
        "no such wheelhouse"
        in run_error("setup", "onnx2tf", "--wheelhouse", str(tmp_path / "x"), exit_code=2)["message"]
    )
