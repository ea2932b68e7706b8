"""What is handed to the user appears whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edgeship.errors import ConversionError
from edgeship.optimize import handover


def test_a_file_appears_under_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")

    def make(temporary: Path) -> None:
        assert temporary.parent == tmp_path, "on the same disk, so that it can be renamed"
        assert path.read_text() == "before"
        temporary.write_text("after")

    handover.put(path, make)
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("bad")])
def test_of_what_failed_nothing_is_left(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("before")

    def make(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        handover.put(path, make)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_copy_that_cannot_be_written_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"model")
    handover.copy(tmp_path / "made", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == b"model"
    for output in (tmp_path / "no" / "out.onnx", tmp_path):
        with pytest.raises(ConversionError, match=f"{output}: cannot be written: ") as caught:
            handover.copy(tmp_path / "made", output)
        assert "another --output" in str(caught.value.hint)
