"""Keras sources: read from their configuration, converted by one TensorFlow child, compared with their own answers."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeship import dataset
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, MissingExtra, UsageError
from edgeship.model import ModelFacts, digest
from edgeship.optimize import carried, gate, golden, quality
from edgeship.reporter import Reporter
from edgeship.targets import answers, cache, child, registry
from edgeship.targets.base import Variant
from edgeship.targets.keras.export import EXPORTER
from edgeship.targets.onnx import named as onnx_names
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import named as tflite_names
from edgeship.targets.tflite.reader import read
from tests.simulators import keras_models

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Budget:
    max_drop: float = 2.0
    max_class_drop: float = 10.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keras_models.make(tmp_path_factory.mktemp("keras"))


@dataclass(frozen=True)
class Digits:
    facts: ModelFacts
    calibration: Dataset
    evaluation: Dataset
    folder: Path


@pytest.fixture(scope="module")
def prepared(models: Path) -> Digits:
    facts = registry.inspect(models / "digits.keras")
    calibration = dataset.load(models / "calibration.npz", facts)
    evaluation = dataset.load(models / "evaluation.npz", facts, need_labels=True)
    registry.prepare(facts, [evaluation], models / "cache")
    return Digits(facts, calibration, evaluation, models / "cache")


@pytest.fixture
def digits(prepared: Digits, monkeypatch: pytest.MonkeyPatch) -> Digits:
    """After `prepare` nothing starts TensorFlow again."""
    run = child.run

    def engine_alone(step: str, *arguments: Any, **named: Any) -> dict[str, Any]:
        assert step != EXPORTER.perform
        return run(step, *arguments, **named)

    monkeypatch.setattr(child, "run", engine_alone)
    return prepared


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_facts_come_from_the_configuration(models: Path) -> None:
    facts = registry.inspect(models / "digits.keras")
    assert (facts.format, facts.precision, facts.open_shapes) == ("keras", "float32", True)
    assert [(s.name, s.dtype, s.shape) for s in facts.inputs] == [("image", "float32", (1, 28, 28, 1))]
    assert [(s.name, s.shape) for s in facts.outputs] == [("probabilities", (1, 10))]
    assert facts.operators["Conv2D"] == 2
    assert facts.parameters == 80 + 32 + 1168 + 16 * 36 * 32 + 32 + 330
    assert facts.details["keras"]


def test_several_inputs_and_outputs_go_by_name(models: Path) -> None:
    facts = registry.inspect(models / "two.keras")
    assert {s.name: s.shape for s in facts.inputs} == {"a": (1, 6), "b": (1, 4)}
    assert {s.name: s.shape for s in facts.outputs} == {"score": (1, 3), "box": (1, 2)}


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("lambda", "Lambda layer, whose Python code", "ONNX"),
        ("custom", "custom class mine>Scale", "ONNX"),
        ("open", "leaves more than the batch open", "fixed shapes"),
        ("unbuilt", "never built", "call it once"),
        ("quantized", r"quantized its layer .held. \(int8\)", "before model.quantize"),
    ],
)
def test_what_cannot_be_converted_is_refused_when_it_is_read(models: Path, name: str, words: str, hint: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        registry.inspect(models / f"{name}.keras")
    assert hint in str(caught.value.hint)
    assert f"{name}.keras" in str(caught.value)


def test_a_truncated_file_is_an_input_error(models: Path, tmp_path: Path) -> None:
    raw = (models / "digits.keras").read_bytes()
    for percent in (0, 1, 10, 50, 90, 99):
        path = tmp_path / "cut.keras"
        path.write_bytes(raw[: len(raw) * percent // 100])
        with pytest.raises(InputError, match=r"cut\.keras"):
            registry.inspect(path)


def test_damaged_weights_are_an_input_error(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(models / "digits.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data if name != "model.weights.h5" else data[:200] + b"\0" * 200)
    with pytest.raises(InputError, match="its weights are damaged"):
        registry.inspect(path)


# ── converting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("format_name", "precision", "worst", "alike"),
    [
        ("tflite", "float32", 1e-4, 1.0), ("tflite", "float16", 0.01, 0.99), ("tflite", "dynamic", 0.2, 0.98),
        ("tflite", "int8", 0.3, 0.98), ("onnx", "float32", 1e-4, 1.0), ("onnx", "int8", 0.3, 0.98),
    ],
)  # fmt: skip
def test_every_form_answers_like_the_keras_model(
    digits: Digits, format_name: str, precision: str, worst: float, alike: float
) -> None:
    target = registry.target(format_name)
    variant = target.build(digits.facts, Scheme(precision), digits.calibration, digits.folder, Reporter())
    (spec,) = variant.inputs
    assert (spec.name, spec.shape) == ("image", (1, 28, 28, 1))
    assert spec.dtype == ("int8" if (format_name, precision) == ("tflite", "int8") else "float32")
    assert [(s.name, s.shape) for s in variant.outputs] == [("probabilities", (1, 10))]
    if precision in ("int8", "dynamic"):
        assert variant.int8_share == 1.0
    if format_name == "onnx":
        facts = target.inspect(variant.path)
        assert facts.details["opset"] == 17
        assert "MatMul" not in facts.operators
    verdict = quality.check(digits.facts, variant, digits.evaluation, Budget())
    assert verdict.float_value > 0.85
    assert verdict.max_abs < worst
    assert verdict.agreement >= alike
    assert verdict.passed
    assert variant.recipe.steps[0]["do"] == "keras-export"
    assert "keras" in variant.recipe.versions


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_layer_goes_by_its_name_in_keras(digits: Digits, format_name: str) -> None:
    """A graph calls `conv2d` "conv2d_1", and `conv2d_1` "conv2d_1_2", where nothing is done about it."""
    with zipfile.ZipFile(digits.facts.path) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    wanted = [one["config"]["name"] for one in layers if one["class_name"] in ("Conv2D", "Dense")]
    assert len(wanted) == 4
    wanted.remove("probabilities")  # in ONNX that is a tensor, the output, which the softmax writes
    plain = registry.target(format_name).build(digits.facts, Scheme("float32"), None, digits.folder, Reporter())
    for name in wanted:
        if format_name == "onnx":
            model = onnx.load(plain.path)
            kept = {node.name: node.op_type for node in model.graph.node if node.name in onnx_names.kept(model, [name])}
            assert {"Conv", "Gemm"} & {*kept.values()}
            assert all(f"/{name}/" in one for one in kept)
        else:
            structure = read(plain.path.read_bytes())
            [(subgraph, place)] = tflite_names.kept_operators(structure, [name])
            graph = structure.subgraphs[subgraph]
            written = tflite_names.scope(graph.operators[place], graph)
            assert all(f"/{name}/" in part for part in written.split(";"))


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
@pytest.mark.parametrize("scale", [255.0, 1 / 255])
def test_calibration_in_the_wrong_scale_fails_the_check_and_the_probe(
    digits: Digits, format_name: str, scale: float
) -> None:
    wrong = Dataset({"image": (digits.calibration.inputs["image"] * np.float32(scale))})
    variant = registry.target(format_name).build(digits.facts, Scheme("int8"), wrong, digits.folder, Reporter())
    verdict = quality.check(digits.facts, variant, digits.evaluation, Budget())
    assert not verdict.passed
    forced = golden.make(digits.facts, variant, digits.evaluation, verdict=None)
    assert forced.golden.min_agreement == 0.875
    probed = agreement_of(digits, variant)
    assert probed < forced.golden.min_agreement


def agreement_of(digits: Digits, variant: Any) -> float:
    """What a device's probe of the forced golden samples would see, on this host."""
    expected = registry.source_answers(digits.facts, variant, digits.evaluation, Reporter())[0]
    given = answers.of_variant(variant, digits.evaluation)[0]
    step = golden.output_step(variant.outputs[0], expected)
    at = golden.choose(expected, digits.evaluation.labels, step, 16)
    return float((expected[at].reshape(16, -1).argmax(1) == given[at].reshape(16, -1).argmax(1)).mean())


def test_a_good_release_keeps_its_golden_agreement_two_steps_off(digits: Digits) -> None:
    variant = registry.target("tflite").build(
        digits.facts, Scheme("int8"), digits.calibration, digits.folder, Reporter()
    )
    verdict = quality.check(digits.facts, variant, digits.evaluation, Budget())
    made = golden.make(digits.facts, variant, digits.evaluation, verdict=verdict)
    assert made.golden.samples == 16
    assert made.golden.min_agreement >= 0.8
    assert made.golden.max_abs < 0.3
    assert made.path.stat().st_size == 16 * (28 * 28 + 4 + 4 * 10)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("two", {"a": (1, 6), "b": (1, 4)}, {"score": (1, 3), "box": (1, 2)}),
        ("nested", {"input_layer": (1, 7)}, {"dense_2": (1, 3)}),
    ],
)
def test_other_models_convert_to_both_formats(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    """Dicts of inputs and outputs go by name; a model that was built by its first call has an input too."""
    facts = registry.inspect(models / f"{name}.keras")
    assert {s.name: s.shape for s in facts.inputs} == inputs
    data = Dataset(keras_models.samples(models, name))
    folder = models / f"{name}-cache"
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, name))
        registry.prepare(facts, [data], folder)
    for target in registry.targets().values():
        variant = target.build(facts, Scheme("float32"), None, folder, Reporter())
        assert {s.name: s.shape for s in variant.inputs} == inputs
        assert {s.shape for s in variant.outputs} == set(outputs.values())
        if name == "two":
            assert {s.name: s.shape for s in variant.outputs} == outputs
        wanted = registry.source_answers(facts, variant, data, Reporter())
        for expected, given in zip(wanted, answers.of_variant(variant, data), strict=True):
            assert np.allclose(expected, given, atol=1e-5)


def test_a_model_that_carries_its_state_is_judged_carrying_it(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras is not run in sequence: what is quantized is compared with its float32 variant."""
    facts = registry.inspect(models / "carrying.keras")
    data = Dataset(keras_models.samples(models, "carrying"))
    folder = models / "carrying-cache"
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, "carrying"))
        registry.prepare(facts, [data], folder)
    run: list[str] = []

    def answer(variant: Variant, *rest: Any, **more: Any) -> Any:
        run.append(variant.precision)
        given = real(variant, *rest, **more)
        return tuple(array * (-1 if variant.precision == broken else 1) for array in given)

    real, broken = carried.answers, ""
    monkeypatch.setattr(carried, "answers", answer)
    for target in registry.targets().values():
        variant = target.build(facts, Scheme("int8"), data, folder, Reporter())
        broken = ""
        assert gate.check(facts, variant, data).passed
        assert run[-2:] == ["float32", "int8"]
        broken = "int8"
        assert "carrying its state h: " in gate.check(facts, variant, data).reason


def test_open_axes_are_closed_by_a_shape_that_is_given(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = registry.inspect(models / "open.keras", shapes={"image": keras_models.OPEN})
    assert facts.inputs[0].shape == tuple(keras_models.OPEN)
    data, folder = Dataset(keras_models.samples(models, "open")), models / "open-cache"
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, "open"))
        registry.prepare(facts, [data], folder)
    for target in registry.targets().values():
        variant = target.build(facts, Scheme("float32"), None, folder, Reporter())
        assert variant.inputs[0].shape == tuple(keras_models.OPEN)
        assert variant.recipe.steps[0]["shapes"] == {"image": keras_models.OPEN}
        for expected, given in zip(
            registry.source_answers(facts, variant, data, Reporter()), answers.of_variant(variant, data), strict=True
        ):
            assert np.allclose(expected, given, atol=1e-5)
    with pytest.raises(UsageError, match=r"is \['\?', '\?', '\?', 3\], and cannot be \[1, 12, 10, 4\]"):
        registry.inspect(models / "open.keras", shapes={"image": [1, 12, 10, 4]})


def test_a_file_that_keras_refuses_is_an_input_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is sound and the weights are those of another model."""
    facts = registry.inspect(models / "mixed.keras")
    monkeypatch.setattr(child, "run", keras_models.exported(models, "mixed"))
    with pytest.raises(InputError, match=r"mixed\.keras: Keras cannot load it"):
        registry.prepare(facts, [], tmp_path)


# ── the seam to the child ────────────────────────────────────────────────────────────────────────────────────────────


def test_tensorflow_is_never_imported_here(models: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.targets import registry;"
        f"registry.inspect(Path({str(models / 'digits.keras')!r}));"
        "print(sorted({'tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_quantizer'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def failing(reason: str) -> Any:
    """A child in which one format succeeds and the other fails."""

    def run(step: str, request: Any, folder: Path, **_: Any) -> dict[str, Any]:
        for name in request["formats"]:
            (folder / f"float.{name}").write_bytes(b"model")
        return {"formats": {n: reason if n == "onnx" else None for n in request["formats"]}, "outputs": []}

    return run


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    """Of a file that is none of Keras: whoever reads it is made up."""
    path = tmp_path / "m.keras"
    path.write_bytes(b"keras")
    return ModelFacts(path, "keras", *digest([path]), "float32", (), (), {}, 1)


def test_a_format_that_fails_does_not_hinder_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts
) -> None:
    monkeypatch.setattr(child, "run", failing("unknown op Foo"))
    EXPORTER.prepare(facts, [], tmp_path / "c")
    assert EXPORTER.exported(facts, "tflite", tmp_path / "c").read_bytes() == b"model"
    with pytest.raises(ConversionError, match="cannot be converted to onnx: unknown op Foo"):
        EXPORTER.exported(facts, "onnx", tmp_path / "c")


def test_without_onnx_only_tflite_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts) -> None:
    monkeypatch.setattr(child, "run", failing("never asked"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    EXPORTER.prepare(facts, [], tmp_path / "c")
    assert len(list((tmp_path / "c").iterdir())) == 1
    with pytest.raises(MissingExtra, match="onnx"):
        EXPORTER.exported(facts, "onnx", tmp_path / "c")


def test_no_calibration_data_no_int8(digits: Digits) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        registry.target("tflite").build(digits.facts, Scheme("int8"), None, digits.folder, Reporter())


def test_what_was_exported_is_found_again(digits: Digits) -> None:
    first = EXPORTER.exported(digits.facts, "tflite", digits.folder)
    assert first == EXPORTER.exported(digits.facts, "tflite", digits.folder)
    assert cache.lookup(digits.folder, first.parent.name) is not None
