"""Models that are none, damaged or hostile: `model convert` says one clear thing, and leaves outputs as they were."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.simulators import inline, models
from tests.simulators.commandline import run_error


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    inline.patch(monkeypatch)


def eight(path: Path) -> None:
    path.write_bytes(b"\x1c\0\0\0TFL3")


def truncated(path: Path) -> None:
    raw = models.tiny_tflite(path).path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def renamed(path: Path) -> None:
    """A TFLite file by another name is read as what it is, but for its data no Keras model."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)


def no_keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def climbing(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.weights.h5", "../../evil"):
            archive.writestr(name, "{}")


def packed(change: Callable[[bytearray, zipfile.ZipInfo], None]) -> Callable[[Path], None]:
    """A compressed archive of a Keras model's or a PyTorch program's members, then changed in its first member."""

    def make(path: Path) -> None:
        names = ("config.json", "model.weights.h5") if path.suffix == ".keras" else ("net/models/model.json",)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, str(list(range(300))))
            if path.suffix == ".pt2":
                archive.writestr("net/archive_format", "pt2")
        with zipfile.ZipFile(path) as archive:
            first = archive.infolist()[0]
        raw = bytearray(path.read_bytes())
        change(raw, first)
        path.write_bytes(raw)

    return make


def garble(raw: bytearray, member: zipfile.ZipInfo) -> None:
    start = member.header_offset + 30 + len(member.filename)
    raw[start : start + 40] = b"\xff" * 40


def lock(raw: bytearray, member: zipfile.ZipInfo) -> None:
    raw[member.header_offset + 6] |= 1
    raw[raw.index(b"PK\1\2") + 8] |= 1


def negative(path: Path) -> None:
    model = onnx.load(str(models.tiny_onnx(path, "float32").path))
    model.graph.initializer[0].dims[0] = -5
    path.write_bytes(model.SerializeToString())


def external(location: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        model = onnx.load(str(models.tiny_onnx(path, "float32").path))
        onnx.save_model(model, str(path), save_as_external_data=True, location="w.data", size_threshold=8)
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())

    return make


def unknown_operator(path: Path) -> None:
    model = onnx.load(str(models.tiny_onnx(path, "float32").path))
    model.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(model.SerializeToString())


def pickled(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}q\x00.")


def other_pt2(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")


def hollow(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"")


#: What is given -> (file, maker, exit code, what the message says).
BAD: dict[str, tuple[str, Callable[[Path], object], int, str]] = {
    "nothing": ("m.onnx", lambda path: None, 2, "no such file"),
    "an empty file": ("m.onnx", Path.touch, 1, "the file is empty"),
    "8 bytes": ("m.tflite", eight, 1, "not a sound TFLite file: 8 bytes"),
    "half a file": ("m.tflite", truncated, 1, "not a sound TFLite file"),
    "a picture": ("m.keras", renamed, 1, "the suffix says keras, the bytes do not"),
    "a zip that is no Keras model": ("m.keras", no_keras, 1, "a zip archive, but no Keras model"),
    "a zip whose members lead out": ("m.keras", climbing, 1, "whose path leads out of the archive"),
    "a .keras whose packed bytes are damaged": ("m.keras", packed(garble), 1, "not a sound .keras file"),
    "a .pt2 whose packed bytes are damaged": ("m.pt2", packed(garble), 1, "not a sound .pt2 file"),
    "an encrypted .keras": ("m.keras", packed(lock), 1, "is encrypted"),
    "an encrypted .pt2": ("m.pt2", packed(lock), 1, "is encrypted"),
    "a weight of negative size": ("m.onnx", negative, 1, "is damaged: its shape is [-5, 64]"),
    "data in the folder above": ("m.onnx", external("../w.data"), 1, "no plain file name"),
    "data at an absolute path": ("m.onnx", external("/etc/hostname"), 1, "no plain file name"),
    "data that is missing": ("m.onnx", external("gone.data"), 1, "'gone.data' is not there"),
    "an operator that does not exist": ("m.onnx", unknown_operator, 1, "NoSuchOperator"),
    "pickled weights": ("m.pt", pickled, 1, "could run anything and is never opened"),
    "a .pt2 without a program": ("m.pt2", other_pt2, 1, "0 exported programs"),
    "a pipe": ("m.onnx", os.mkfifo, 2, "not a file"),
    "an empty folder": ("m", Path.mkdir, 2, "no SavedModel"),
    "a SavedModel of no bytes": ("m", hollow, 1, "holds no graph"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_and_outputs_stay_as_they_were(tmp_path: Path, name: str) -> None:
    file, make, code, message = BAD[name]
    make(tmp_path / file)
    (tmp_path / "out.onnx").write_text("before")
    error = run_error("model", "convert", file, "--output", "out.onnx", exit_code=code)
    assert message in error["message"]
    assert file in error["message"]
    assert error["hint"] or name == "an operator that does not exist"
    assert "\n" not in error["message"].strip() or name == "an operator that does not exist"
    assert (tmp_path / "out.onnx").read_text() == "before"
    assert not (tmp_path / "out.onnx.recipe.json").exists()
    assert not list((tmp_path / "cache").rglob(".making-*"))
