"""The agent's command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeship.runtime import __version__
from edgeship.runtime.__main__ import main
from tests.simulators.agent import development_app


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [], ["fly"], ["version", "x"], ["rpc"], ["rpc", "--root"], ["rpc", "--folder", "x"],
        ["worker", "--control", "3"], ["supervise", "--root", "a", "--root", "b"],
    ],
)  # fmt: skip
def test_anything_else_is_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage: agent version | rpc" in capsys.readouterr().err


def test_errors_are_one_line_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "root").write_bytes(b"a file is in the way")
    assert main(["supervise", "--root", str(tmp_path / "root")], compiled=True) == 1
    assert capsys.readouterr().err.startswith("edgeship agent: ")


def test_each_command_starts_as_a_process(tmp_path: Path) -> None:
    app = development_app(tmp_path)
    run = [sys.executable, "-I", str(app)]
    assert (
        subprocess.run([*run, "rpc", "--root", tmp_path / "d"], input=b"", check=True, capture_output=True).stdout
        == b""
    )
    asked = subprocess.run([*run, "verify", "--root", tmp_path / "d"], input=b"{}", check=True, capture_output=True)
    assert b'"code": "protocol"' in asked.stdout
