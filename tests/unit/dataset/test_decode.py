"""The step that reads files holds one sample at a time, and stops where there are too many."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import decode
from edgeship.errors import InputError
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.media import image, wav


def request(root: Path, kind: str, spec: TensorSpec, **stated: Any) -> dict[str, Any]:
    files = sorted(path.name for path in root.iterdir())
    return {"kind": kind, "root": str(root), "files": files, "spec": spec.encode(), "preparation": stated}


def peak(order: dict[str, Any], out: Path) -> int:
    """Bytes that Python and numpy held at most during the step."""
    out.mkdir(exist_ok=True)
    tracemalloc.start()
    try:
        decode.perform(order, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    spec = TensorSpec("image", "float32", (1, 128, 128, 3))
    for number in range(80):
        image(tmp_path / "many" / f"{number:02}.png", np.full((128, 128, 3), number, np.uint8))
    order = request(tmp_path / "many", "images", spec, normalize="0..1")
    few = peak({**order, "files": order["files"][:10]}, tmp_path / "out")
    many = peak(order, tmp_path / "out")
    assert (tmp_path / "out" / decode.SAMPLES).stat().st_size == 80 * spec.nbytes
    assert many < few * 1.1 < 10 * spec.nbytes


def test_too_many_bytes_of_samples_stop_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav(tmp_path / "in" / "a.wav", np.zeros(1000))
    monkeypatch.setattr(decode, "MAX_BYTES", 1000)
    order = request(tmp_path / "in", "recordings", TensorSpec("x", "float32", (1, 100)), windows="all")
    with pytest.raises(InputError, match="more than 1000 bytes of samples"):
        decode.perform(order, tmp_path)
    assert (tmp_path / decode.SAMPLES).stat().st_size == 0


def test_names_are_shown_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"\n  a\?\[31m\?\.wav: not a WAV file$"):
        decode.perform(request(tmp_path, "recordings", TensorSpec("x", "float32", (1, 9))), tmp_path)


def test_the_first_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError) as caught:
        decode.perform(request(tmp_path, "recordings", TensorSpec("x", "float32", (1, 9))), tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "8 of 8 files cannot be used"
    assert [line.strip() for line in lines[1:]] == [
        *(f"{number}.wav: not a WAV file" for number in range(5)), "and 3 more",
    ]  # fmt: skip
