"""`model convert` and `model quantize`: a variant and its recipe, written anywhere, without a project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.cli import model_convert as command
from edgeship.optimize import convert
from edgeship.reporter import Reporter
from edgeship.targets import cost, registry
from edgeship.targets.base import Recipe
from edgeship.targets.scheme import Scheme
from tests.simulators import inline, media, models, real_environment
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.tflite_file import newer

GATE = 6  # the exit code


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    inline.patch(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> str:
    x, _ = models.samples(40)
    np.savez(tmp_path / "data.npz", image=x)
    return "data.npz"


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_model_is_quantized_and_its_recipe_says_how(tmp_path: Path, data: str, format_name: str) -> None:
    maker: Any = {"tflite": models.tiny_tflite, "onnx": models.tiny_onnx}[format_name]
    maker(tmp_path / f"m.{format_name}", "float32", dynamic=True)
    output = f"small.{format_name}"
    made = run_json("model.quantize", "model", "quantize", f"m.{format_name}", "--data", data, "--output", output)
    assert (made["format"], made["precision"], made["int8_share"]) == (format_name, "int8", 1.0)
    assert registry.inspect(tmp_path / output).precision == "int8"
    assert made["bytes"] == (tmp_path / output).stat().st_size
    recipe = Recipe.parse((tmp_path / f"{output}.recipe.json").read_bytes())
    assert recipe.steps[-1]["do"] == "quantize"
    assert recipe.calibration is not None
    assert recipe.calibration["samples"] == 40
    again = run_json("model.quantize", "model", "quantize", f"m.{format_name}", "--data", data, "--output", output)
    assert again["cached"]


def test_options_reach_the_scheme(tmp_path: Path, data: str) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    made = run_json(
        "model.quantize", "model", "quantize", "m.tflite", "--data", data, "--output", "s.tflite", "--per-tensor",
        "--endpoints", "float32",
    )  # fmt: skip
    assert made["scheme"] == {"precision": "int8", "per_channel": False, "endpoints": "float32"}
    assert {t["dtype"] for t in made["inputs"] + made["outputs"]} == {"float32"}


def test_people_read_size_and_share(tmp_path: Path, data: str) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    shown = run("model", "quantize", "m.tflite", "--data", data, "--output", "s.tflite").stdout
    assert "tflite int8, 100% of the weights int8" in shown
    assert "of the source's" in shown
    assert "s.tflite.recipe.json" in shown


def test_a_conversion_fixes_the_batch_and_keeps_the_precision(tmp_path: Path) -> None:
    models.tiny_onnx(tmp_path / "m.onnx", "float32", dynamic=True)
    made = run_json("model.convert", "model", "convert", "m.onnx", "--output", "out.bin", "--format", "onnx")
    assert (made["precision"], made["inputs"][0]["shape"]) == ("float32", [1, 8, 8, 1])
    assert registry.inspect(tmp_path / "m.onnx").open_shapes
    assert not registry.inspect(Path(made["file"]).rename(tmp_path / "out.onnx")).open_shapes


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (("--output", "s.tflite"), "needs calibration data", "200 to 1,000"),
        (("--output", "s.bin"), "the suffix names no format", "--format"),
        (("--output", "s.tflite", "--precision", "int9"), "unknown precision 'int9'", "int8"),
        (("--output", "s.tflite", "--format", "coreml"), "no target builds the format 'coreml'", "tflite, onnx"),
        (("--output", "m.tflite"), "that is the model itself", "another --output"),
        (("--output", "no/s.tflite"), "does not exist", "make it"),
        (("--output", "folder", "--format", "tflite"), "a folder", "--output FILE"),
        (("--output", "s.tflite", "--signature", "x"), "a signature is chosen in a SavedModel", ""),
        (("--output", "s.tflite", "--data", "no.npz"), "no.npz", ""),
    ],
)
def test_what_cannot_be_done_says_why_and_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], words: str, hint: str
) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    (tmp_path / "folder").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir() if p.name != "cache")
    error = run_error("model", "quantize", "m.tflite", *arguments, exit_code=2)
    assert words in error["message"]
    assert hint in str(error["hint"])
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == before


def test_inspection_counts_macs_memory_layers_and_boards(tmp_path: Path) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    plain = run_json("model.inspect", "model", "inspect", "m.tflite")
    assert plain["macs"] == 640
    assert plain["memory"]["weights"] == 4 * 650
    assert (plain["layers"], plain["profiles"]) == (None, None)
    full = run_json("model.inspect", "model", "inspect", "m.tflite", "--layers", "--profiles")
    assert [(layer["operator"], layer["macs"]) for layer in full["layers"]] == [
        ("FULLY_CONNECTED", 640), ("SOFTMAX", 0),
    ]  # fmt: skip
    boards = {board["profile"]: board for board in full["profiles"]}
    assert boards["raspberry-pi-5"]["loads"] is True
    shown = run("model", "inspect", "m.tflite", "--layers", "--profiles").stdout
    assert "640 MACs" in shown
    assert "2.6 kB weights + 296 B activations" in shown
    assert "raspberry-pi-zero-2-w" in shown


def test_what_cannot_be_counted_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    monkeypatch.setattr(cost, "count", lambda _: None)
    shown = run("model", "inspect", "m.tflite", "--layers")
    assert (shown.stdout + shown.stderr).count("convert the model first") == 1


def test_the_share_of_int8_weights_is_not_rounded_up_to_all(tmp_path: Path, data: str) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    facts = registry.inspect(tmp_path / "m.tflite")
    made = convert.convert(facts, Scheme("dynamic"), "tflite", None, tmp_path / "o.tflite", Reporter())
    most = replace(made, variant=replace(made.variant, int8_share=0.996))
    assert "99.6% of the weights int8" in str(command._human(most, Scheme("int8")))


def test_a_conversion_is_compared_with_its_source_on_noise_and_a_quantization_on_data(
    tmp_path: Path, data: str
) -> None:  # fmt: skip
    models.tiny_onnx(tmp_path / "m.onnx", "float32")
    plain = run_json("model.convert", "model", "convert", "m.onnx", "--output", "c.onnx")
    assert (plain["compared_on"], "dB" in plain["compared"] or "equal" in plain["compared"]) == ("noise", True)
    made = run_json("model.quantize", "model", "quantize", "m.onnx", "--data", data, "--output", "q.onnx")
    assert made["compared_on"] == "data"
    loose = run_json(
        "model.quantize", "model", "quantize", "m.onnx", "--precision", "int8-weights", "--output", "w.onnx"
    )
    assert (loose["compared_on"], loose["compared"]) == (None, None)


def test_what_is_odd_about_the_data_is_said_before_and_about_the_model_after(tmp_path: Path) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    x, labels = models.samples(60)
    np.savez(tmp_path / "fine.npz", image=x, labels=labels)
    fine = run("model", "quantize", "m.tflite", "--data", "fine.npz", "--output", "q.tflite").stderr
    assert "calibration data" not in fine
    assert "the model itself" not in fine
    np.savez(tmp_path / "one.npz", image=x[:40], labels=np.full(40, 3))
    one = run("model", "quantize", "m.tflite", "--data", "one.npz", "--output", "q.tflite").stderr
    assert "calibration data has 40 samples only: 200 to 1,000 are usual" in one
    assert "all 40 samples of the calibration data are of class 3" in one
    shifted = (labels + 1) % (labels.max() + 1)
    np.savez(tmp_path / "shifted.npz", image=x, labels=shifted)
    other = run("model", "quantize", "m.tflite", "--data", "shifted.npz", "--output", "q.tflite").stderr
    assert "the model itself is right on " in other
    np.savez(tmp_path / "bytes.npz", image=np.rint(255 * (x - x.min()) / np.ptp(x)))
    bytes_ = run("model", "quantize", "m.tflite", "--data", "bytes.npz", "--output", "q.tflite").stderr
    assert "calibration data is whole numbers from 0 to 255, as a file has them" in bytes_


@pytest.mark.parametrize("arguments", [(), ("--data", "data.npz")])
def test_what_answers_otherwise_than_its_source_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, arguments: tuple[str, ...]
) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    wrong = registry.inspect(models.tiny_tflite(tmp_path / "wrong.tflite", "float32", bad=True).path)
    target = registry.target("tflite")
    variant = target.as_is(wrong, convert.cache_folder(), Reporter())
    monkeypatch.setattr(type(target), "build", lambda *_: variant)  # a converter that makes another model of it
    error = run_error("model", "convert", "m.tflite", "--output", "q.tflite", *arguments, exit_code=GATE)
    assert "does not compute what its source does" in error["message"]
    assert "layout" in error["hint"]
    assert not (tmp_path / "q.tflite").exists()


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    run("model", "convert", "m.tflite", "--output", "other.tflite")  # it lies in the cache: what is left is the copy
    (tmp_path / "s.tflite").write_text("before")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    error = run_error("model", "convert", "m.tflite", "--output", "s.tflite", exit_code=1)
    assert "s.tflite: cannot be written: No space left on device" in error["message"]
    assert (tmp_path / "s.tflite").read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_images_is_prepared_as_stated(tmp_path: Path) -> None:
    media.pictures(tmp_path / "pictures", *models.samples(12))
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    command = ("model", "quantize", "m.tflite", "--data", "pictures", "--output", "s.tflite")
    assert "how were pixels scaled in training?" in run_error(*command, exit_code=2)["message"]
    run_json("model.quantize", *command, "--normalize", "0..1", "--resize", "none", "--prepare", "resample=box")
    calibration = Recipe.parse((tmp_path / "s.tflite.recipe.json").read_bytes()).calibration
    assert calibration is not None
    assert calibration["samples"] == 12
    assert calibration["preparation"]["normalize"] == "0..1"
    assert calibration["preparation"]["resize"] == "none"
    assert calibration["preparation"]["resample"] == "box"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--normalize", "0-1"], "normalize must be one of"),
        (["--resize", "cut"], "resize must be one of crop, squash, pad, none"),
        (["--prepare", "rate=8000"], "unknown preparation 'rate'"),
        (["--prepare", "crop"], "'crop' is not KEY=VALUE"),
    ],
)
def test_a_preparation_that_is_none_is_a_usage_error(tmp_path: Path, data: str, flags: list[str], words: str) -> None:
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    command = ("model", "quantize", "m.tflite", "--data", data, "--output", "s.tflite", *flags)
    assert words in run_error(*command, exit_code=2)["message"]
    assert not (tmp_path / "s.tflite").exists()


def test_a_shape_is_a_part_of_the_command_line(tmp_path: Path) -> None:
    from tests.unit.targets.onnx.test_breadth import detector

    detector(tmp_path / "m.onnx", ["N", 3, "H", "W"])
    error = run_error("model", "convert", "m.onnx", "--output", "c.onnx", exit_code=1)
    assert "--shape image=1,3,224,224" in error["hint"]
    made = run_json("model.convert", "model", "convert", "m.onnx", "--shape", "image=1,3,16,8", "--output", "c.onnx")
    assert made["inputs"][0]["shape"] == [1, 3, 16, 8]
    assert (
        run_json("model.inspect", "model", "inspect", "m.onnx", "--shape", "image=1,3,16,8")["macs"]
        == 128 * 4 * 27 + 20
    )


@pytest.mark.parametrize("command", [("optimize",), ("model", "doctor")])
def test_other_commands_take_a_shape_too(tmp_path: Path, data: str, command: tuple[str, ...]) -> None:
    from tests.unit.targets.onnx.test_breadth import detector

    detector(tmp_path / "m.onnx", ["N", 3, "H", "W"])
    more = ("--profile", "raspberry-pi-5") if command == ("optimize",) else ()
    error = run_error(*command, "m.onnx", "--data", data, *more, exit_code=1)
    assert "--shape image=1,3,224,224" in error["hint"]
    error = run_error(*command, "m.onnx", "--data", data, *more, "--shape", "image=1,4,8,8", exit_code=2)
    assert "cannot be [1, 4, 8, 8]" in error["message"]
    error = run_error(*command, "m.onnx", "--data", data, *more, "--shape", "image=1,3,8,8", exit_code=1)
    assert "data.npz: " in error["message"]  # its pictures have one channel: the model is read with the shape


def test_a_board_says_whether_its_runtime_takes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    models.tiny_tflite(tmp_path / "m.tflite", "float32")
    command = ("model", "quantize", "m.tflite", "--precision", "float16", "--output", "s.tflite")
    made = run_json("model.quantize", *command, "--profile", "raspberry-pi-5")
    assert made["runtime"] == {
        "runtime": "litert-2.3.0", "checked": True, "said": "loads and runs in litert-2.3.0"
    }  # fmt: skip
    assert run_json("model.quantize", *command)["runtime"] is None
    ran = run(*command, "--profile", "raspberry-pi-os-32bit")
    assert "not tried in tflite-runtime-2.14.0" in ran.stdout
    assert "edgeship setup tflite-runtime" in ran.stderr
    error = run_error(
        "model", "convert", "m.tflite", "--output", "s.onnx", "--format", "onnx", "--profile", "raspberry-pi-os-32bit",
        exit_code=2,
    )  # fmt: skip
    assert "raspberry-pi-os-32bit has no runtime for onnx" in error["message"]


def test_what_a_board_cannot_load_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_environment.use("tflite-runtime", monkeypatch)
    newer(models.tiny_tflite(tmp_path / "m.tflite", "float32").path, "FULLY_CONNECTED", 12)
    error = run_error(
        "model", "convert", "m.tflite", "--output", "s.tflite", "--profile", "raspberry-pi-os-32bit", exit_code=1
    )  # fmt: skip
    assert "it knows no version 12 of the operator FULLY_CONNECTED" in error["message"]
    assert not (tmp_path / "s.tflite").exists()
