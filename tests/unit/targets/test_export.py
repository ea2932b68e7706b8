"""Sources that another framework reads: what is kept of them is of the file that was inspected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError
from edgeship.model import ModelFacts, digest
from edgeship.optimize.compare.side import opened
from edgeship.reporter import Reporter
from edgeship.targets import answers, child, shapes
from edgeship.targets.export import Exporter

FRAMEWORK = Exporter("keras", "framework", ("tflite",), {"numpy": "tflite"}, 1)


def facts(path: Path, form: str = "keras", **details: Any) -> ModelFacts:
    path.write_bytes(b"first")
    sha, size = digest([path])
    return ModelFacts(path, form, sha, size, "float32", (), (), {}, None, details=details)


def framework(path: Path, *, trained: bytes | None = None) -> Any:
    """What `child.run` does: the float model is the file's bytes. A training saves other ones while it runs."""

    def run(step: str, request: Mapping[str, Any], folder: Path, *, subject: str, **_: Any) -> dict[str, Any]:
        read = path.read_bytes()
        if trained is not None:
            path.write_bytes(trained)
        if read == b"half":
            raise InputError(f"{subject}: the framework cannot load it")
        for name in ("float.tflite", "model.onnx"):
            (folder / name).write_bytes(read)
        np.save(folder / "answer0_0.npy", np.frombuffer(read, np.uint8).astype(np.float32)[None])
        return {"formats": dict.fromkeys(request.get("formats", ())), "outputs": [{"name": "y", "shape": [1, 5]}]}

    return run


def test_what_is_kept_is_of_the_file_that_was_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that saves its model meanwhile: the new one must not be found under the hash of the old one."""
    path, data = tmp_path / "m.keras", Dataset({"x": np.zeros((1, 1, 3), np.float32)})
    for before, meanwhile in ((b"other", None), (b"first", b"other"), (b"first", b"half"), (b"half", None)):
        source = facts(path)
        path.write_bytes(before)
        monkeypatch.setattr(child, "run", framework(path, trained=meanwhile))
        with pytest.raises(InputError, match=r"m\.keras: it changed while it was being worked on"):
            FRAMEWORK.prepare(source, [data], tmp_path / "c")
    source = facts(path)
    monkeypatch.setattr(child, "run", framework(path))
    assert FRAMEWORK.exported(source, "tflite", tmp_path / "c").read_bytes() == b"first"
    (told,) = FRAMEWORK.answers(source, data, tmp_path / "c").values()
    assert bytes(told[0].astype(np.uint8)) == b"first"


def test_a_source_that_cannot_be_read_is_not_said_to_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(step: str, *_: Any, subject: str, **__: Any) -> dict[str, Any]:
        raise ConversionError(f"{subject}: no such layer")

    monkeypatch.setattr(child, "run", run)
    with pytest.raises(ConversionError, match="no such layer"):
        FRAMEWORK.prepare(facts(tmp_path / "m.keras"), [], tmp_path / "c")


def test_so_are_chosen_shapes_and_a_file_that_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    monkeypatch.setattr(child, "run", framework(path))
    monkeypatch.setattr(answers, "load", lambda *_: answers.Loaded((), (), ()))
    works: tuple[Callable[[ModelFacts], Path], ...] = (
        lambda source: shapes.closed(source, tmp_path / "c"),
        lambda source: opened(source, tmp_path / "c", Reporter()).path,
    )
    for work in works:
        source = facts(path, "onnx", shapes={"x": [1, 3]})
        path.write_bytes(b"other")
        with pytest.raises(InputError, match=r"m\.onnx: it changed"):
            work(source)
        assert work(facts(path, "onnx", shapes={"x": [1, 3]})).read_bytes() == b"first"
