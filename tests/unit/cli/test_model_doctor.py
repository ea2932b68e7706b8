"""`edgeship model doctor` for people and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulators import failing_models, inline, media, models
from tests.simulators.commandline import run, run_error, run_json


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def made(name: str, folder: Path) -> str:
    path, arrays = getattr(failing_models, name)(folder)
    np.savez(folder / "d.npz", **arrays)
    return str(path.name)


def test_a_sound_model_exits_with_0(tmp_path: Path) -> None:
    data = run_json("model.doctor", "model", "doctor", made("healthy", tmp_path), "--data", "d.npz")
    assert (data["stage"], data["culprit"], data["tried"]) == ("ok", None, [])


def test_the_diagnosis_holds_to_its_schema_and_exits_with_6(tmp_path: Path) -> None:
    name = made("custom_operator", tmp_path)
    data = run_json("model.doctor", "model", "doctor", name, "--data", "d.npz", "--output", "out", exit_code=6)
    assert (data["culprit"]["operator"], data["saved"]) == ("Sparkle", ["out/part.onnx", "out/part.npz"])
    text = run("model", "doctor", name, "--data", "d.npz", "--precision", "float32", exit_code=6).stdout
    assert "operator      Sparkle" in text
    assert "attributes    strength 3" in text
    assert "the operator is no standard one" in text
    assert (tmp_path / "doctor-custom" / "part.onnx").is_file()


def test_what_makes_no_sense_is_a_usage_error(tmp_path: Path) -> None:
    name = made("healthy", tmp_path)
    assert "needs calibration data" in run_error("model", "doctor", name, exit_code=2)["message"]
    assert "unknown precision" in run_error("model", "doctor", name, "--precision", "int9", exit_code=2)["message"]
    assert "no such file" in run_error("model", "doctor", "x.onnx", exit_code=2)["message"]


def test_a_folder_of_images_is_prepared_as_stated(tmp_path: Path) -> None:
    media.pictures(tmp_path / "pictures", *models.samples(60))
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    command = ("model", "doctor", "m.tflite", "--data", "pictures")
    assert "how were pixels scaled in training?" in run_error(*command, exit_code=2)["message"]
    data = run_json("model.doctor", *command, "--normalize", "0..1", "--resize", "none")
    assert data["stage"] == "ok"
