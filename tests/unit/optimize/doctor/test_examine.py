"""The doctor on models that fail in known ways: it names the operator, and the fix that it prints works when typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from edgeship import dataset
from edgeship.optimize.doctor import examine
from edgeship.optimize.doctor.diagnosis import ANSWERS, CONVERT, OK, SOURCE, Diagnosis, Limits, Request
from edgeship.reporter import Reporter, Step
from edgeship.targets import registry
from edgeship.targets.scheme import Scheme
from tests.simulators import failing_models, inline
from tests.simulators.commandline import run, run_json


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    if "child" not in request.node.name:  # what crashes needs a child
        inline.patch(monkeypatch)


def diagnosed(name: str, folder: Path, precision: str = "int8", output: Path | None = None) -> Diagnosis:
    path, arrays = getattr(failing_models, name)(folder)
    np.savez(folder / "data.npz", **arrays)
    facts = registry.inspect(path)
    data = dataset.load(folder / "data.npz", facts)
    request = Request(facts, facts.format, Scheme(precision), data, folder / "data.npz", folder / "c", output)
    return examine.examine(request, Reporter())


def typed(command: str) -> Path:
    """Run what the doctor printed; the file that it wrote."""
    words = shlex.split(command)
    assert words[0] == "edgeship"
    run(*words[1:])
    return Path(words[words.index("--output") + 1])


@pytest.mark.parametrize("name", ["healthy", "branch", "shared_scale_head"])
def test_what_can_be_quantized_is_healthy(tmp_path: Path, name: str) -> None:
    found = diagnosed(name, tmp_path)
    assert (found.stage, found.trouble, found.culprit) == (OK, "", None)


def test_per_channel_on_an_old_opset_is_healthy_since_the_opset_is_raised(tmp_path: Path) -> None:
    path, arrays = failing_models.healthy(tmp_path, opset=12)
    facts = registry.inspect(path)
    data = dataset.Dataset(arrays)
    found = examine.examine(Request(facts, "onnx", Scheme("int8"), data, None, tmp_path / "c", None), Reporter())
    assert found.stage == OK


def test_an_operator_that_no_engine_has_is_named_and_saved(tmp_path: Path) -> None:
    found = diagnosed("custom_operator", tmp_path)
    assert (found.stage, found.kind) == (CONVERT, "refused")
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers, found.culprit.parts) == ("Sparkle", ("magic",), 1)
    assert found.culprit.attributes == {"strength": "3"}
    assert found.culprit.node == "block/magic/Sparkle"
    assert found.fix is None
    assert "no standard one" in found.advice
    assert [path.name for path in found.saved] == ["part.onnx", "part.npz"]
    part = registry.inspect(found.saved[0])
    assert part.operators == {"my.ops.Sparkle": 1}
    assert dataset.load(found.saved[1], part).inputs["r2"].shape == (8, 1, 4, 8, 8)
    words = shlex.split(found.reproduce)  # fails again, in the same way
    assert "not a registered function" in str(run(*words[1:], exit_code=1).stderr)


def test_a_custom_operator_of_tflite_is_named_and_saved(tmp_path: Path) -> None:
    found = diagnosed("custom_tflite", tmp_path)
    assert (found.stage, found.kind) == (CONVERT, "refused")
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers) == ("custom Sparkle", ("probabilities",))
    assert [path.name for path in found.saved] == ["part.tflite", "part.npz"]
    part = registry.inspect(found.saved[0])
    assert part.operators == {"custom Sparkle": 1}
    assert dataset.load(found.saved[1], part).inputs["logits"].shape == (8, 1, 10)


def test_an_attribute_that_contradicts_the_weights_is_left_out(tmp_path: Path) -> None:
    found = diagnosed("wrong_kernel_shape", tmp_path)
    assert (found.stage, found.kind) == (CONVERT, "refused")
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers) == ("Conv", ("c3",))
    assert found.culprit.attributes["kernel_shape"] == "[5, 5]"
    assert found.fix is not None
    assert "kernel_shape" in found.fix.name
    made = registry.inspect(typed(found.fix.command))
    assert (made.precision, made.int8_share) == ("int8", 1.0)
    assert found.saved == ()  # only where no fix works


def test_layers_that_spoil_what_comes_after_them_twice_are_all_found(tmp_path: Path) -> None:
    """After the first of them errors of later layers say nothing; what each alone costs does."""
    found = diagnosed("two_regions", tmp_path)
    assert found.stage == ANSWERS
    assert found.culprit is not None
    assert sorted(found.culprit.layers) == ["calm1", "calm2", "loud1", "loud2"]
    assert found.fix is not None
    assert found.fix.name == "keep in float what is to blame"
    assert registry.inspect(typed(found.fix.command)).int8_share == 1.0


def test_strides_of_0_are_left_out(tmp_path: Path) -> None:
    found = diagnosed("zero_strides", tmp_path)
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers, found.culprit.parts) == ("MaxPool", ("still",), 1)
    assert found.fix is not None
    assert registry.inspect(typed(found.fix.command)).precision == "int8"


def test_the_fix_says_how_its_data_is_prepared_where_it_reads_it(tmp_path: Path) -> None:
    path, arrays = failing_models.extreme_range(tmp_path)
    facts, said = registry.inspect(path), ("--prepare", "normalize=0..1")
    place = tmp_path / "pictures"
    request = Request(facts, "onnx", Scheme("int8"), dataset.Dataset(arrays), place, tmp_path / "c", None, (), said)
    fix = examine.examine(request, Reporter()).fix
    assert fix is not None
    assert f"--data {place}" in fix.command
    assert "--prepare normalize=0..1" in fix.command


def test_a_source_of_open_shapes_is_cut_with_those_of_the_data(tmp_path: Path) -> None:
    import onnx

    path, arrays = failing_models.wrong_kernel_shape(tmp_path)
    model = onnx.load(str(path))
    for axis in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    onnx.save(model, str(path))
    np.savez(tmp_path / "data.npz", allow_pickle=False, **arrays)
    facts = registry.inspect(path, None, {"x": (1, 4, 8, 8)})
    data, options = dataset.load(tmp_path / "data.npz", facts), ("--shape", "x=1,4,8,8")
    place = tmp_path / "data.npz"
    request = Request(facts, "onnx", Scheme("int8"), data, place, tmp_path / "c", None, options)
    found = examine.examine(request, Reporter())
    assert found.culprit is not None
    assert found.culprit.layers == ("c3",)
    assert found.fix is not None
    assert registry.inspect(typed(found.fix.command)).precision == "int8"


def test_infinity_of_the_float_model_is_no_fault_of_quantization(tmp_path: Path) -> None:
    found = diagnosed("infinite", tmp_path)
    assert (found.stage, found.kind) == (SOURCE, "NaN")
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers) == ("Log", ("log",))


def test_silently_wrong_answers_are_traced_to_the_layers_that_lose_them(tmp_path: Path) -> None:
    found = diagnosed("extreme_range", tmp_path, output=tmp_path / "out")
    assert (found.stage, found.kind) == (ANSWERS, "wrong numbers")
    assert found.culprit is not None
    assert found.culprit.layers == ("scaled",)
    assert found.fix is not None
    assert found.fix.scheme.keep == ("scaled",)
    assert {path.name for path in found.saved} == {"part.onnx", "part.npz"}
    fixed = typed(found.fix.command)
    after = run_json("model.compare", "model", "compare", "extreme.onnx", str(fixed), "--data", "data.npz")
    last = next(layer for layer in after["layers"] if layer["name"] == "y")
    assert last["error"]["sqnr_db"] > 30
    plain = run("model", "quantize", "extreme.onnx", "--data", "data.npz", "--output", "plain.onnx", exit_code=6)
    assert "does not compute what its source does" in plain.stderr


@pytest.mark.slow
def test_a_crash_of_the_child_is_found_and_mended(tmp_path: Path) -> None:
    found = diagnosed("crashing", tmp_path)
    assert (found.stage, found.kind) == (CONVERT, "crash")
    assert "SIGFPE" in found.trouble
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.attributes) == ("ConvTranspose", {"group": "0"})
    assert found.fix is not None
    assert registry.inspect(typed(found.fix.command)).precision == "int8"


@pytest.mark.slow
def test_the_keras_layer_that_tflite_has_no_operator_for_is_named_and_saved_by_a_child(tmp_path: Path) -> None:
    path, arrays = failing_models.counting_keras(tmp_path)
    facts = registry.inspect(path)
    request = Request(facts, "tflite", Scheme("int8"), dataset.Dataset(arrays), None, tmp_path / "c", None)
    found = examine.examine(request, Reporter())
    assert (found.stage, found.kind) == (CONVERT, "converter")
    assert found.culprit is not None
    assert (found.culprit.operator, found.culprit.layers, found.culprit.parts) == ("CategoryEncoding", ("counts",), 1)
    assert found.culprit.attributes["output_mode"] == "count"
    assert "DenseBincount" in found.trouble
    assert [one.name for one in found.tried] == ["onnx instead"]
    assert found.fix is None
    part = registry.inspect(found.saved[0])
    assert part.operators["CategoryEncoding"] == 1
    assert "Dense" not in part.operators
    with np.load(found.saved[1]) as samples:
        assert next(iter(samples.values())).shape == (8, 1, 8)


def test_trials_are_counted_told_and_limited(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    class Listener(Reporter):
        def progress(self, step: Step, done: int, total: int) -> None:
            assert step.name == "doctor"
            told.append((done, total))

    path, arrays = failing_models.custom_operator(tmp_path)
    facts, data = registry.inspect(path), dataset.Dataset(arrays)
    request = Request(facts, "onnx", Scheme("int8"), data, None, tmp_path / "c", None)
    found = examine.examine(request, Listener(), Limits(trials=3))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found.trials == 3
    assert found.culprit is not None
    assert "magic" in found.culprit.span  # the best so far, not nothing


def test_a_first_stage_that_took_all_the_time_still_leads_to_a_diagnosis(tmp_path: Path) -> None:
    """What was asked for is tried; then there is no more time, which is no reason to end without a word."""
    for name, stage in (("healthy", OK), ("custom_operator", CONVERT)):
        (tmp_path / name).mkdir()
        path, arrays = getattr(failing_models, name)(tmp_path / name)
        facts = registry.inspect(path)
        request = Request(facts, "onnx", Scheme("int8"), dataset.Dataset(arrays), None, tmp_path / "c", tmp_path / "o")
        found = examine.examine(request, Reporter(), Limits(seconds=0.0))
        assert found.stage == stage
        assert found.tried == ()
