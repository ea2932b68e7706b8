"""What boards can do with a model: formats by route, the file by loading it, memory by the count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import profile
from edgeship.optimize.survey import BASE, Outlook, survey
from edgeship.reporter import Reporter
from edgeship.targets import cost, registry
from tests.simulators import inline, real_environment
from tests.simulators.models import tiny_onnx, tiny_tflite
from tests.simulators.tflite_file import newer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def outlooks(path: Path, folder: Path, weights: int | None = None) -> dict[str, Outlook]:
    facts = registry.inspect(path)
    counted = cost.count(facts)
    assert counted is not None
    if weights is not None:
        counted = replace(counted, weight_bytes=weights)
    boards = [profile.load(name) for name in profile.names()]
    return {o.profile: o for o in survey(facts, counted, boards, folder, Reporter())}


def test_a_file_runs_where_its_format_does_and_is_converted_elsewhere(tmp_path: Path) -> None:
    found = outlooks(tiny_tflite(tmp_path / "m.tflite").path, tmp_path / "c")
    pi = found["raspberry-pi-5"]
    assert (pi.verdict, pi.loads, pi.formats["tflite"]) == ("runs", True, None)
    assert pi.memory is not None
    assert BASE["tflite"] < pi.memory < BASE["tflite"] + 10_000
    onnx = outlooks(tiny_onnx(tmp_path / "m.onnx").path, tmp_path / "c")
    assert (onnx["raspberry-pi-5"].verdict, onnx["raspberry-pi-5"].loads) == ("runs", True)
    assert onnx["raspberry-pi-os-32bit"].loads is None, "it takes TFLite alone"


def test_boards_that_cannot_carry_the_agent_say_why(tmp_path: Path) -> None:
    found = outlooks(tiny_onnx(tmp_path / "m.onnx").path, tmp_path / "c")
    refused = [profile.load(name) for name in profile.names() if profile.load(name).supported]
    assert refused
    assert all(str(board.supported) in found[board.name].verdict for board in refused)


def test_a_float_model_is_told_what_the_board_is_for(tmp_path: Path) -> None:
    found = outlooks(tiny_tflite(tmp_path / "m.tflite", "float32").path, tmp_path / "c")
    assert found["raspberry-pi-5"].verdict == "runs; int8 is what this board is for"


@pytest.mark.parametrize(("weights", "words"), [(300_000_000, "of its memory"), (900_000_000, "does not fit")])
def test_what_crowds_or_breaks_the_memory_is_said(tmp_path: Path, weights: int, words: str) -> None:
    found = outlooks(tiny_tflite(tmp_path / "m.tflite").path, tmp_path / "c", weights)
    assert words in found["raspberry-pi-zero-2-w"].verdict
    share = found["raspberry-pi-zero-2-w"].memory_share
    assert share is not None
    assert share * 512e6 == pytest.approx(weights + BASE["tflite"], rel=1e-3)


def test_a_file_that_the_engine_refuses_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeship.errors import ConversionError
    from edgeship.targets import answers

    def refuse(*_: Any, **__: Any) -> None:
        raise ConversionError("the engine refuses the model: an operator of tomorrow")

    monkeypatch.setattr(answers, "load", refuse)
    found = outlooks(tiny_tflite(tmp_path / "m.tflite").path, tmp_path / "c")
    assert found["raspberry-pi-5"].loads is False
    assert found["raspberry-pi-5"].verdict == "refused: the engine refuses the model: an operator of tomorrow"


def test_a_runtime_that_is_not_here_is_named_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = outlooks(tiny_tflite(tmp_path / "m.tflite").path, tmp_path / "c")["raspberry-pi-os-32bit"]
    assert found.loads is None
    assert "not tried in tflite-runtime-2.14.0" in found.verdict
    assert "edgeship setup tflite-runtime makes it" in found.verdict


def test_a_file_is_loaded_in_the_package_that_a_board_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_environment.use("tflite-runtime", monkeypatch)
    path = tiny_tflite(tmp_path / "m.tflite").path
    fine = outlooks(path, tmp_path / "c")["raspberry-pi-os-32bit"]
    assert fine.loads is True
    assert fine.verdict.endswith("in a program of yours: runs")
    newer(path, "FULLY_CONNECTED", 12)
    found = outlooks(path, tmp_path / "c")
    assert found["raspberry-pi-5"].verdict == "runs", "the library that goes along knows that version"
    assert found["raspberry-pi-os-32bit"].loads is False
    assert "it knows no version 12 of the operator FULLY_CONNECTED" in found["raspberry-pi-os-32bit"].verdict
