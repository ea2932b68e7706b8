"""Model files are told apart by their bytes, hashed with their companions, and refused with the way out."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeship import model
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts, check_file, detect_format, digest
from edgeship.runtime.manifest import TensorSpec

FACTS = ModelFacts(
    Path("/m/net.onnx"), "onnx", "a" * 64, 12, "float32", (TensorSpec("x", "float32", (1, 3)),),
    (TensorSpec("y", "int8", (1, 2), 0.5, -3),), {"Conv": 2}, 7, 0.25, True, (Path("/m/net.data"),), ("a note",),
    {"opset": 17},
)  # fmt: skip


def test_facts_survive_their_json() -> None:
    assert ModelFacts.parse(FACTS.path, FACTS.encode()) == FACTS


@pytest.mark.parametrize(
    ("key", "value"),
    [("sha256", "short"), ("inputs", [{"name": "x"}]), ("operators", {"Conv": "many"}), ("parameters", "7"),
     ("outputs", [{"name": "y", "dtype": "complex64", "shape": [1]}]), ("companions", None)],
)  # fmt: skip
def test_facts_that_make_no_sense_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=r"net\.onnx: the model cannot be used"):
        ModelFacts.parse(FACTS.path, {**FACTS.encode(), key: value})


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_bytes_decide_the_format(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wrong.suffix", "w") as archive:
        archive.writestr("config.json", "{}")
    assert detect_format(tmp_path / "wrong.suffix") == "keras"
    assert detect_format(write(tmp_path / "m.bin", b"\x1c\0\0\0TFL3 and more")) == "tflite"
    assert detect_format(write(tmp_path / "m.onnx", b"\x08\x08\x12\x07pytorch")) == "onnx"


@pytest.mark.parametrize(
    ("name", "data", "words", "hint"),
    [
        ("m.tflite", b"12345678", "truncated or another format", "again"),
        ("m.keras", b"PK\x03", "truncated or another format", "again"),
        ("m.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 9, "HDF5 file of Keras 2", "model.keras"),
        ("m.bin", b"\x80\x04\x95", "pickle", "ONNX"),
        ("m.pt", b"anything at all", "pickle", "ONNX"),
        ("m.txt", b"hello", "not a Keras, ONNX, TFLite or PyTorch model", ".tflite"),
    ],
)
def test_other_files_are_refused_with_the_way_out(
    tmp_path: Path, name: str, data: bytes, words: str, hint: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        detect_format(write(tmp_path / name, data))
    assert hint in str(caught.value.hint)


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as new:
        for name in names:
            new.writestr(name, "{}")
    return path


def test_archives_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    assert detect_format(archive(tmp_path / "m.zip", "net/models/model.json", "net/archive_format")) == "torch"
    assert detect_format(archive(tmp_path / "m.pt2", "anything")) == "torch"  # its reader says what is wrong
    assert detect_format(archive(tmp_path / "n.zip", "config.json")) == "keras"
    with pytest.raises(InputError, match=r"torch\.save pickled") as caught:
        detect_format(archive(tmp_path / "m.pth", "net/data.pkl", "net/data/0"))
    assert "torch.export" in str(caught.value.hint)
    with pytest.raises(InputError, match=r"torch\.save pickled"):  # of a state_dict, called what it is not
        detect_format(archive(tmp_path / "weights.pt2", "weights/data.pkl", "weights/data/0"))


def test_a_folder_is_a_saved_model_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"saved_model\.pb is not in it"):
        detect_format(tmp_path)
    write(tmp_path / "saved_model.pb", b"x")
    assert detect_format(tmp_path) == "savedmodel"
    with pytest.raises(UsageError, match="one file of a SavedModel") as caught:
        detect_format(tmp_path / "saved_model.pb")
    assert str(tmp_path) in str(caught.value.hint)


def test_missing_empty_folders_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such file"):
        check_file(tmp_path / "missing.keras")
    with pytest.raises(UsageError, match="not a file") as caught:
        check_file(tmp_path)
    assert "SavedModel" in str(caught.value.hint)
    with pytest.raises(InputError, match="the file is empty"):
        check_file(write(tmp_path / "empty.onnx", b""))
    monkeypatch.setattr(model, "MAX_MODEL", 4)
    with pytest.raises(InputError, match="5 bytes is over the limit of 4"):
        check_file(write(tmp_path / "huge.onnx", b"12345"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.onnx", b"1")

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match=r"m\.onnx: Permission denied"):
        check_file(path)
    with pytest.raises(InputError, match=r"m\.onnx: Permission denied"):
        digest([path])


def test_a_digest_is_of_the_bytes_or_of_all_files_with_their_names(tmp_path: Path) -> None:
    one, two, three = (write(tmp_path / name, name.encode()) for name in ("m.onnx", "b.data", "a.data"))
    assert digest([one]) == (hashlib.sha256(b"m.onnx").hexdigest(), 6)
    both, size = digest([one, two, three])
    assert size == 18
    assert digest([one, three, two])[0] == both
    write(two, b"B.data")
    assert digest([one, two, three])[0] != both
