"""What was built is kept by content, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeship.errors import ConversionError
from edgeship.targets import cache


def maker(content: bytes = b"model", calls: list[Path] | None = None) -> Any:
    def make(place: Path) -> Mapping[str, Any]:
        if calls is not None:
            calls.append(place)
        (place / "model.tflite").write_bytes(content)
        return {"n": 1}

    return make


def test_the_same_key_is_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = cache.keep(tmp_path / "c", "k", maker(calls=calls))
    second = cache.keep(tmp_path / "c", "k", maker(calls=calls))
    assert len(calls) == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.path("model.tflite") == second.path("model.tflite")
    assert second.facts == {"n": 1}
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["k"]


def test_another_key_is_made_again(tmp_path: Path) -> None:
    cache.keep(tmp_path, "a", maker(b"1"))
    assert cache.keep(tmp_path, "b", maker(b"2")).path("model.tflite").read_bytes() == b"2"


@pytest.mark.parametrize("damage", ["flip", "remove", "entry", "no entry"])
def test_what_was_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    entry = cache.keep(tmp_path, "k", maker())
    if damage == "flip":
        entry.path("model.tflite").write_bytes(b"xodel")
    elif damage == "remove":
        entry.path("model.tflite").unlink()
    elif damage == "entry":
        (entry.folder / "entry.json").write_bytes(b"{")
    else:
        (entry.folder / "entry.json").unlink()
    assert cache.lookup(tmp_path, "k") is None
    again = cache.keep(tmp_path, "k", maker())
    assert not again.cached
    assert again.path("model.tflite").read_bytes() == b"model"


def _disk(rooms: Mapping[Path, int], folder: Path) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=rooms[folder], f_frsize=1)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("800 requested and 96 written")]
)
def test_the_full_disk_is_named_and_what_to_do(tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy.save says of a full disk how many numbers it wrote, and gives no code of the system."""

    def fail(place: Path) -> Mapping[str, Any]:
        raise error

    for cache_is_full, words, hint in ((True, "variants: ", "room on that disk"), (False, "temporary: ", "TMPDIR")):
        rooms = {tmp_path / "variants": 10, tmp_path / "temporary": 20 if cache_is_full else 5}
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
            patch.setattr(
                os, "statvfs", lambda folder, rooms=rooms: SimpleNamespace(f_bavail=rooms[folder], f_frsize=1)
            )
            with pytest.raises(ConversionError, match=f"/{words}cannot be written: No space left on dev") as caught:
                cache.keep(tmp_path / "variants", "k", fail)
        assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (FileNotFoundError(2, "No such file or directory", "/models/gone"), "^/models/gone: No such", "there"),
        (PermissionError(13, "Permission denied", "/models/m.onnx"), "^/models/m.onnx: Permission denied$", "may you"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "could not be made: Resource temp", "fewer --jobs"),
        (OSError(12, "Cannot allocate memory"), "could not be made: Cannot allocate memory", "short of memory"),
    ],
)  # fmt: skip
def test_what_is_not_the_disks_fault_is_not_laid_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str, hint: str
) -> None:
    def fail(place: Path) -> Mapping[str, Any]:
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConversionError, match=words) as caught:
        cache.keep(tmp_path / "c", "k", fail)
    assert hint in str(caught.value.hint)
    assert "cannot be written" not in str(caught.value)


def test_nothing_is_kept_of_what_failed(tmp_path: Path) -> None:
    def fail(place: Path) -> Mapping[str, Any]:
        (place / "half").touch()
        raise ConversionError("no")

    with pytest.raises(ConversionError, match=r"^no$"):
        cache.keep(tmp_path, "k", fail)
    assert not list(tmp_path.iterdir())


def test_somebody_who_was_faster_wins(tmp_path: Path) -> None:
    def slow(place: Path) -> Mapping[str, Any]:
        cache.keep(tmp_path, "k", maker())
        return dict(maker()(place))

    entry = cache.keep(tmp_path, "k", slow)
    assert entry.path("model.tflite").read_bytes() == b"model"
    assert json.loads((entry.folder / "entry.json").read_bytes())["facts"] == {"n": 1}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConversionError, match="file/c: cannot be written"):
        cache.keep(tmp_path / "file" / "c", "k", maker())


def test_a_folder_above_that_cannot_be_written_is_named_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(ConversionError, match=r"/a/b: cannot be written: Permission denied") as caught:
        cache.keep(tmp_path / "a" / "b", "k", maker())
    assert "XDG_CACHE_HOME" in str(caught.value.hint)


def test_a_disk_error_while_it_is_kept_is_named(tmp_path: Path) -> None:
    def make(place: Path) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(ConversionError, match="No space left on device"):
        cache.keep(tmp_path, "k", make)


def test_keys_are_of_values_not_of_order() -> None:
    assert cache.key_of({"a": 1, "b": 2}) == cache.key_of({"b": 2, "a": 1})
    assert cache.key_of({"a": 1}) != cache.key_of({"a": 2})
