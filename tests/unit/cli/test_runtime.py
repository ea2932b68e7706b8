"""`edgeship runtime fetch`."""

from __future__ import annotations

import platform
from pathlib import Path

from edgeship.profile import host_profile
from tests.simulators.commandline import run, run_error, run_json

OURS = host_profile(platform.machine())


def test_the_libraries_of_a_profile_are_fetched() -> None:
    data = run_json("runtime.fetch", "runtime", "fetch", OURS)
    assert [d["format"] for d in data] == ["tflite", "onnx"]
    assert all(Path(d["path"]).stat().st_size == d["bytes"] for d in data)
    assert "litert-" in run("runtime", "fetch", OURS).stdout


def test_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    error = run_error("runtime", "fetch", "jetson-nano", exit_code=6)
    assert "cannot carry the agent: Python 3.6" in error["message"]
    assert "not made for riscv64" in run_error("runtime", "fetch", OURS, "--arch", "riscv64", exit_code=2)["message"]
    missing = str(tmp_path / "none")
    assert "wheelhouse" in run_error("runtime", "fetch", OURS, "--wheelhouse", missing, exit_code=2)["message"]
