"""`edgeship optimize`: without a project, in one, and what is refused. Frameworks run in real children."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeship import config
from edgeship.cli import State
from edgeship.cli import optimize as command
from edgeship.cli.options import preparation
from edgeship.cli.output import Output
from edgeship.deploy import transport
from edgeship.deploy.device import Device
from edgeship.errors import UnreachableError
from edgeship.optimize.search import on_device
from edgeship.optimize.search.run import Found, Search
from edgeship.reporter import Reporter
from edgeship.targets import registry
from tests.simulators import media
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.models import SHAPE, samples, tiny_onnx, tiny_tflite


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A float model and data in an empty folder, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    tiny_tflite(here / "m.tflite", "float32")
    x, labels = samples(400)
    np.savez(here / "data.npz", image=x.reshape(400, *SHAPE), labels=labels)
    np.savez(here / "foreign.npz", image=x.reshape(400, *SHAPE), labels=labels + 1)
    np.savez(here / "wrong.npz", image=x[:60].reshape(60, *SHAPE) / 255)
    return here


def foreign_operator(path: Path) -> None:
    """An ONNX model whose first operator no runtime library has."""
    import onnx

    model = onnx.load(tiny_onnx(path, precision="float32").path)
    model.graph.node[0].domain, model.graph.node[0].op_type = "my.ops", "Frobnicate"
    model.opset_import.append(onnx.helper.make_opsetid("my.ops", 1))
    onnx.save(model, path)


LIMITED = ("--format", "tflite", "--precision", "int8", "--precision", "float32", "--jobs", "1")


@pytest.mark.slow
def test_no_project_is_needed_and_a_fifth_is_held_out(folder: Path) -> None:
    data = run_json("optimize", "optimize", "m.tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", *LIMITED)
    assert data["pick"] == "tflite int8"
    assert (data["calibration_samples"], data["evaluation_samples"]) == (320, 80)
    assert Path(data["files"]["model"]).read_bytes()[4:8] == b"TFL3"
    assert json.loads(Path(data["files"]["data"]).read_text())["pick"] == "tflite int8"
    again = run("optimize", "m.tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", *LIMITED)
    assert "picked" in again.stdout
    assert "m-optimized/m.int8.tflite" in again.stdout
    assert "next: edgeship init, then edgeship device add NAME USER@HOST" in again.stderr
    push = "edgeship push m-optimized/m.int8.tflite --precision int8 --evaluation data.npz -l profile=raspberry-pi-5"
    assert f"then: {push}\n" in again.stderr
    assert "also: " not in again.stderr  # arrays are taken as they are


def test_a_device_that_does_not_answer_is_known_before_anything_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init")

    def off(device: Device, *_: object, **__: object) -> None:
        raise UnreachableError(f"{device.name}: nothing listens there", device=device.name)

    def build(*_: object) -> None:
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr(transport, "connect", off)
    monkeypatch.setattr(registry, "prepare", build)
    error = run_error("optimize", "m.tflite", "--data", "data.npz", "--on", "sim", exit_code=5)
    assert error["message"] == "sim: nothing listens there"


@pytest.mark.parametrize("reached", [True, False])
def test_what_a_search_reached_is_known_to_status_afterwards(
    enrolled: Device, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    class Timed:
        """A stopwatch that has timed something on the device, or found all of it in the cache."""

        def __init__(self, *_: object) -> None:
            self.reached = reached

        def close(self) -> None:
            pass

    monkeypatch.setattr(on_device, "OnDevice", Timed)
    asked = SimpleNamespace(source=None, evaluation=None, folder=None)
    with command._stopwatch(cast("Any", asked), config.load(), enrolled, Reporter()):
        pass
    [status] = run_json("status", "status")
    assert (status["status"], status["reason"]) == (
        ("degraded", "serves no model") if reached else ("offline", "never reached")
    )


def test_ctrl_c_says_that_what_is_done_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_search: Search) -> Found:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupt)
    error = run_error(
        "optimize", "m.tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", *LIMITED, exit_code=130
    )
    assert error["message"] == "interrupted; what was built, judged or timed is kept"
    assert error["hint"] == "the same command goes on from there"


@pytest.mark.slow
def test_nothing_within_the_budget_is_exit_6_with_the_nearest_miss(folder: Path) -> None:
    error = run_error(
        "optimize", "m.tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", *LIMITED, "--max-size", "1kB",
        "--output", "out", exit_code=6,
    )  # fmt: skip
    assert "no candidate meets the budget; tflite int8 comes nearest: " in error["message"]
    assert "of 1.00 kB allowed" in error["message"]
    assert "out/report.html" in error["hint"]
    assert "data" not in error["hint"].replace("out/report.html shows all", "")
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["report.html", "search.json"]


def test_any_name_of_a_file_can_be_timed_and_a_full_disk_names_the_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "m.tflite").rename(folder / "my 'model' (é).tflite")
    words = (
        "optimize", "my 'model' (é).tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", "--format", "tflite",
        "--precision", "float32", "--jobs", "1", "--max-latency", "10s", "--output", "out",
    )  # fmt: skip
    data = run_json("optimize", *words)
    assert data["pick"] == "tflite float32"

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    error = run_error(*words, exit_code=2)
    assert error["message"] == "out: No space left on device"


def test_a_metric_that_raises_ends_with_its_own_exit_code_and_advises_no_wider_budget(folder: Path) -> None:
    (folder / "mine.py").write_text("def odd(answers):\n    raise ValueError('boom')\n")
    error = run_error(
        "optimize", "m.tflite", "--data", "data.npz", "--profile", "raspberry-pi-5", "--format", "tflite",
        "--precision", "float32", "--jobs", "1", "--metric", "mine:odd", exit_code=1,
    )  # fmt: skip
    assert error["kind"] == "InputError"
    assert error["message"].startswith("the metric mine:odd: it raised ValueError: boom")
    assert error["hint"].startswith("call the function by itself on a few answers")
    assert "m-optimized/report.html shows all" in error["hint"]


def test_an_operator_that_the_runtime_library_lacks_is_no_broken_budget(folder: Path) -> None:
    foreign_operator(folder / "unknown.onnx")
    error = run_error(
        "optimize", "unknown.onnx", "--data", "data.npz", "--profile", "raspberry-pi-5", "--format", "onnx",
        "--precision", "float32", "--jobs", "1", exit_code=1,
    )  # fmt: skip
    assert error["kind"] == "ConversionError"
    assert "Frobnicate" in error["message"]
    assert ".making" not in error["message"], "a temporary folder says nothing to anybody"
    assert error["hint"].startswith("the runtime library has no such operator")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--data", "data.npz"), 2, "for which board?"),
        (("--profile", "raspberry-pi-5"), 2, "there is no data to calibrate and to judge with"),
        (("--profile", "raspberry-pi-6", "--data", "data.npz"), 2, "raspberry-pi-6"),
        (("--profile", "raspberry-pi-5", "--data", "nope.npz"), 2, "no such data"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--max-latency", "fast"), 2, "--max-latency 'fast'"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--max-size", "-3"), 2, "--max-size '-3'"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--max-drop", "nan"), 2, "--max-drop nan"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--max-class-drop", "inf"), 2, "--max-class-drop inf"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--format", "tensorrt"), 2, "'tensorrt'"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--output", "data.npz"), 2, "data.npz"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--metric", "accuracy"), 2, "metric 'accuracy'"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--metric", "mae"), 2, "mae needs targets"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--metric", "nowhere:f"), 2, "no module 'nowhere'"),
        (("--profile", "raspberry-pi-5", "--data", "data.npz", "--metric", "json:loads"), 2, "it takes s; known are"),
        (("--profile", "raspberry-pi-5", "--data", "foreign.npz"), 1, "the label 10, the model has the classes 0 to 9"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_built(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    error: dict[str, Any] = run_error("optimize", "m.tflite", *words, exit_code=code)
    assert said in error["message"]
    assert not (folder / "xdg").exists()


def test_calibration_data_of_another_scale_is_refused_with_both_ranges(folder: Path) -> None:
    error = run_error(
        "optimize", "m.tflite", "--data", "wrong.npz", "--evaluation", "data.npz", "--profile", "raspberry-pi-5",
        exit_code=1,
    )  # fmt: skip
    assert "calibration data is 0" in error["message"]


def test_a_model_that_is_not_there_is_said(folder: Path) -> None:
    words = ("--profile", "raspberry-pi-5", "--data", "data.npz")
    assert "nope.keras: no such file" in run_error("optimize", "nope.keras", *words, exit_code=2)["message"]


def test_a_folder_of_images_is_parted_by_class_and_prepared_as_stated(folder: Path) -> None:
    x, labels = samples(60)
    media.pictures(folder / "pictures", x, labels)
    words = ("optimize", "m.tflite", "--profile", "raspberry-pi-5", "--data", "pictures")
    assert "how were pixels scaled in training" in run_error(*words, exit_code=2)["message"]
    assert "normalize must be one of" in run_error(*words, "--normalize", "0-1", exit_code=2)["message"]
    stated = preparation(("normalize=0..1", "resize=none"))
    source = registry.inspect(folder / "m.tflite")
    calibration, judged = command._data(None, source, Path("pictures"), None, stated, Reporter())
    assert calibration is not None
    assert calibration.labels is not None
    assert judged.labels is not None
    assert len(calibration) + len(judged) == 60
    counts = np.bincount(labels, minlength=10)
    assert np.abs(np.bincount(judged.labels, minlength=10) - counts / 5).max() <= 1
    assert calibration.preparation is not None
    assert calibration.preparation["resize"] == "none"
    assert judged.inputs["image"].max() <= 1


def test_what_a_push_has_to_know_of_files_and_metric_is_said_before_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = SimpleNamespace(candidate=SimpleNamespace(scheme=SimpleNamespace(precision="int8")))
    board = SimpleNamespace(name="raspberry-pi-5", supported=None)
    found = SimpleNamespace(pick=SimpleNamespace(row=row), request=SimpleNamespace(profile=board))
    saved = SimpleNamespace(model=Path("m.tflite"))
    stated = preparation(("normalize=0..1", "mean=0.5,0.25"))
    out = Output(State())
    command._say_next(out, cast("Any", found), cast("Any", saved), None, None, Path("pictures"), stated, "./a:b")
    said = capsys.readouterr().err.splitlines()
    assert said[1] == 'also: in edgeship.toml, below [data]: metric = "./a:b"'
    assert said[2] == 'also: in edgeship.toml, below [data.preparation]: normalize = "0..1"; mean = [0.5, 0.25]'
    assert said[3].startswith("then: edgeship push m.tflite --precision int8 --evaluation pictures")
    project = SimpleNamespace(data=SimpleNamespace(preparation=stated, evaluation=Path("pictures"), metric="f1"))
    command._say_next(
        out, cast("Any", found), cast("Any", saved), cast("Any", project), None, Path("pictures"), stated, "f1"
    )
    assert capsys.readouterr().err == "next: edgeship push m.tflite --precision int8 -l profile=raspberry-pi-5\n"
