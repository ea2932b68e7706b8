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
from tests.simulators import inline
from tests.simulators.models import tiny_onnx, tiny_tflite


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
    onnx_only = [o for o in found.values() if "tflite" not in o.formats]
    assert onnx_only
    assert all(o.loads is None for o in onnx_only)
    assert all("cannot be" in o.verdict or "cannot carry" in o.verdict for o in onnx_only)


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
    assert "refuses it: the engine refuses the model: an operator of tomorrow" in found["raspberry-pi-5"].verdict
