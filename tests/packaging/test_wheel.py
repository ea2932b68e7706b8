"""What a user gets from `pip install edgeship`, without any framework: the wheel in a clean environment.

It deploys and watches: a model that needs no conversion is checked, signed, pushed to the device sim, served, reported.
"""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.simulators.models import samples, tiny_tflite

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


class Installed:
    """The wheel in an environment of its own, with a home of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "env", with_pip=True)
        self.bin = folder / "env" / "bin"
        self.project = folder / "project"
        self.project.mkdir()
        (folder / "home").mkdir()
        keep = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "LANG", "SSL_", "REQUESTS_"))}
        self.environment = {**keep, "HOME": str(folder / "home"), "PATH": f"{self.bin}:/usr/bin:/bin"}
        pip = [str(self.bin / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        self.run(*pip, "-c", str(ROOT / "requirements.txt"), str(wheel))

    def run(self, *argv: str, exit_code: int = 0) -> str:
        done = subprocess.run(argv, cwd=self.project, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def edgeship(self, *args: str) -> Any:
        return json.loads(self.run(str(self.bin / "edgeship"), *args, "--json"))["data"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("clean"), wheel)


def test_the_wheel_holds_the_linked_folders_once(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "runtime/wire.py",
        "targets/registry.py",
        "hw_profiles/raspberry-pi-5.toml",
        "hw_profiles/runtimes.toml",
    ):
        assert names.count(f"edgeship/{wanted}") == 1
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgeship"}


def test_the_wheel_is_small_and_holds_no_model_and_no_library(wheel: Path) -> None:
    assert wheel.stat().st_size < 2_000_000
    assert not [
        n for n in zipfile.ZipFile(wheel).namelist() if n.endswith((".so", ".tflite", ".onnx", ".keras", ".npz"))
    ]


def test_no_framework_comes_along(installed: Installed) -> None:
    packages = installed.edgeship("version")["packages"]
    assert {
        name for name in ("tensorflow", "keras", "onnx", "onnxruntime", "ai-edge-litert") if packages.get(name)
    } == set()


def test_profiles_are_found_in_the_wheel(installed: Installed) -> None:
    assert "raspberry-pi-5" in {p["name"] for p in installed.edgeship("profile", "list")}


def test_the_agent_of_the_wheel_starts_isolated(installed: Installed) -> None:
    write = "import pathlib; from edgeship.deploy import zipapp; pathlib.Path('agent.pyz').write_bytes(zipapp.build())"
    installed.run(str(installed.bin / "python"), "-c", write)
    assert "0.1.0" in installed.run("/usr/bin/python3", "-I", "agent.pyz", "version")


def test_it_deploys_and_watches_without_a_framework(installed: Installed) -> None:
    project = installed.project
    x, labels = samples(300)
    np.savez_compressed(project / "evaluation.npz", image=x, labels=labels)
    tiny_tflite(project / "tiny.tflite", precision="int8")
    installed.edgeship("init", "--name", "tiny")
    try:
        pushed = installed.edgeship("push", "tiny.tflite", "-l", "name=sim")
        assert pushed["devices"][0]["probe"]["passed"]
        answers = installed.edgeship("infer", "sim", "--n", "20")
        assert sum(a["label"] == a["predicted"] for a in answers) >= 18
        installed.edgeship("agent", "stop", "-l", "name=sim", "--yes")  # a stop flushes the open window
        assert installed.edgeship("telemetry", "pull")[0]["stored"] >= 1
        (row,) = installed.edgeship("telemetry", "query", "--metric", "requests")
        assert row["values"]["requests"] >= 20
    finally:
        installed.run(str(installed.bin / "edgeship"), "agent", "stop", "-l", "name=sim", "--yes")


def test_what_needs_a_framework_says_which_extra(installed: Installed) -> None:
    (installed.project / "m.onnx").write_bytes(b"\x08\x08")
    done = subprocess.run(
        [installed.bin / "edgeship", "model", "inspect", "m.onnx", "--json"],
        cwd=installed.project, env=installed.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    error = json.loads(done.stderr.splitlines()[-1])["data"]
    assert (done.returncode, error["kind"]) == (2, "MissingExtra")
    assert error["hint"] == "pip install 'edgeship[onnx]'"
