"""TFLite in, TFLite out: as it is, with fixed shapes, or quantized; and what cannot be is said."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import answers, child, registry
from edgeship.targets.base import Recipe
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import shapes
from edgeship.targets.tflite.reader import read
from tests.simulators import inline
from tests.simulators.models import SHAPE, TinyModel, pair_tflite, samples, source, tiny_tflite

TFLITE = registry.target("tflite")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Steps run in this process, but where a test is about the child."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "child" not in request.node.name:
        inline.patch(monkeypatch)


def data(n: int = 40, name: str = "image") -> Dataset:
    x, labels = samples(n)
    return Dataset({name: x.reshape(n, *SHAPE)}, labels)


def write_tree(path: Path, change: Any) -> Path:
    """A tiny float model whose object tree was changed."""
    from ai_edge_litert import schema_py_generated as schema

    base = tiny_tflite(path, "float32").path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(bytearray(base), 0)
    change(model)
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_facts_are_those_of_the_file(tmp_path: Path, precision: Any) -> None:
    tiny = tiny_tflite(tmp_path / "m.tflite", precision)
    facts = TFLITE.inspect(tiny.path)
    assert (facts.format, facts.precision, facts.sha256) == ("tflite", precision, tiny.sha256)
    assert [spec.name for spec in facts.inputs] == ["image"]
    assert (facts.inputs[0].dtype, facts.inputs[0].shape) == (tiny.inputs[0].dtype, SHAPE)
    assert facts.inputs[0].scale == pytest.approx(tiny.inputs[0].scale)
    assert facts.operators == {"FULLY_CONNECTED": 1, "SOFTMAX": 1}
    assert facts.parameters == 64 * 10 + 10
    assert facts.int8_share == (1.0 if precision == "int8" else 0.0)
    assert not facts.open_shapes


def test_two_inputs_and_outputs_go_by_the_signatures_names(tmp_path: Path) -> None:
    facts = TFLITE.inspect(pair_tflite(tmp_path / "m.tflite").path)
    assert sorted(spec.name for spec in facts.inputs) == ["a", "b"]
    assert sorted(spec.name for spec in facts.outputs) == ["product", "sum"]
    assert (facts.precision, facts.int8_share, facts.parameters) == ("float32", 1.0, 0)


def test_a_model_goes_as_it_is(tmp_path: Path) -> None:
    tiny = tiny_tflite(tmp_path / "m.tflite")
    variant = TFLITE.build(TFLITE.inspect(tiny.path), Scheme("int8"), None, tmp_path / "c", Reporter())
    assert variant.path.read_bytes() == tiny.path.read_bytes()
    assert (variant.sha256, variant.bytes) == (tiny.sha256, tiny.path.stat().st_size)
    assert variant.recipe.steps == ()
    assert variant.inputs[0].scale == pytest.approx(tiny.inputs[0].scale)


@pytest.mark.parametrize(
    ("precision", "input_dtype", "worst"),
    [("float16", "float32", 0.02), ("dynamic", "float32", 0.1), ("int8", "int8", 0.1)],
)  # fmt: skip
def test_a_float_model_is_quantized_in_its_own_format(
    tmp_path: Path, precision: str, input_dtype: str, worst: float
) -> None:
    facts = TFLITE.inspect(tiny_tflite(tmp_path / "m.tflite", "float32").path)
    evaluation = data(60)
    variant = TFLITE.build(facts, Scheme(precision), data(40), tmp_path / "c", Reporter())
    assert (variant.format, variant.precision, variant.inputs[0].dtype) == ("tflite", precision, input_dtype)
    assert variant.inputs[0].name == "image"
    assert TFLITE.inspect(variant.path).precision == precision
    assert variant.bytes < facts.bytes
    (answer,) = answers.of_variant(variant, evaluation)
    wanted = source(evaluation.inputs["image"])
    assert answer.shape == (60, 1, 10)
    assert np.abs(answer[:, 0] - wanted).max() < worst
    assert (answer[:, 0].argmax(1) == wanted.argmax(1)).mean() >= 0.95


def test_a_child_quantizes_and_the_recipe_lies_beside(tmp_path: Path) -> None:
    facts = TFLITE.inspect(tiny_tflite(tmp_path / "m.tflite", "float32").path)
    variant = TFLITE.build(facts, Scheme("int8"), data(), tmp_path / "c", Reporter())
    recipe = Recipe.parse(variant.recipe_path.read_bytes())
    assert recipe == variant.recipe
    assert recipe.source_sha256 == facts.sha256
    assert recipe.calibration is not None
    assert (recipe.calibration["samples"], recipe.calibration["sha256"]) == (40, data().inputs_sha256)
    assert [step["do"] for step in recipe.steps] == ["quantize"]
    assert "ai-edge-quantizer" in recipe.versions


def test_the_same_thing_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = TFLITE.inspect(tiny_tflite(tmp_path / "m.tflite", "float32").path)
    first = TFLITE.build(facts, Scheme("int8"), data(), tmp_path / "c", Reporter())
    monkeypatch.setattr(child, "run", None)  # a second conversion would call it
    second = TFLITE.build(facts, Scheme("int8"), data(), tmp_path / "c", Reporter())
    assert (first.cached, second.cached) == (False, True)
    assert (second.sha256, second.path) == (first.sha256, first.path)


def test_every_sample_counts_for_the_ranges(tmp_path: Path) -> None:
    """The quantizer's own moving average would forget the one bright sample, and a generator would see none."""
    facts = TFLITE.inspect(tiny_tflite(tmp_path / "m.tflite", "float32").path)
    x, _ = samples(60)
    dark = x * 0.25
    dark[3] = x[3] / x[3].max()
    variant = TFLITE.build(
        facts, Scheme("int8"), Dataset({"image": dark.reshape(60, *SHAPE)}), tmp_path / "c", Reporter()
    )
    assert variant.inputs[0].scale == pytest.approx(1 / 255, rel=1e-3)


def test_without_calibration_data_there_is_no_int8(tmp_path: Path) -> None:
    facts = TFLITE.inspect(tiny_tflite(tmp_path / "m.tflite", "float32").path)
    with pytest.raises(UsageError, match="needs calibration data"):
        TFLITE.build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    assert not (tmp_path / "c").exists()


def test_a_file_without_a_signature_is_quantized_by_its_tensors_names(tmp_path: Path) -> None:
    tiny = tiny_tflite(tmp_path / "m.tflite", "float32", signature=False)
    facts = TFLITE.inspect(tiny.path)
    assert facts.notes
    name = facts.inputs[0].name
    variant = TFLITE.build(facts, Scheme("int8"), data(name=name), tmp_path / "c", Reporter())
    assert (variant.inputs[0].name, variant.inputs[0].dtype) == (name, "int8")


def test_a_file_of_before_2020_keeps_its_operators(tmp_path: Path) -> None:
    """Its codes stand in a byte of their own; quantizers read the newer field, find 0, and take all for ADD."""

    def aged(model: Any) -> None:
        for code in model.operatorCodes:
            code.builtinCode = 0

    facts = TFLITE.inspect(write_tree(tmp_path / "m.tflite", aged))
    assert "FULLY_CONNECTED" in facts.operators
    variant = TFLITE.build(facts, Scheme("int8"), data(), tmp_path / "c", Reporter())
    weights = [t for t in read(variant.path.read_bytes()).subgraphs[0].tensors if t.constant and len(t.shape) > 1]
    assert weights
    assert all(t.dtype == "int8" and t.zero_point == 0 and t.scales == t.shape[0] for t in weights)


def test_an_open_batch_becomes_one_in_place(tmp_path: Path) -> None:
    tiny = tiny_tflite(tmp_path / "m.tflite", "float32", dynamic=True)
    facts = TFLITE.inspect(tiny.path)
    assert facts.open_shapes
    variant = TFLITE.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert variant.bytes == facts.bytes
    assert variant.sha256 != facts.sha256
    assert [step["do"] for step in variant.recipe.steps] == ["fix-shapes"]
    assert not any(t.open_axes for t in read(variant.path.read_bytes()).subgraphs[0].tensors)
    (answer,) = answers.of_variant(variant, data(5))
    assert np.allclose(answer[:, 0], source(samples(5)[0]), atol=1e-4)


def open_up(axis: int) -> Any:
    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
        tensor.shapeSignature = [-1 if i == axis else d for i, d in enumerate(tensor.shape)]

    return change


def test_other_open_axes_are_refused(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "m.tflite", open_up(2))
    with pytest.raises(InputError, match=r"leaves more than the batch open: \[1, 8, -1, 1\]"):
        TFLITE.inspect(path)
    with pytest.raises(InputError, match="leaves more than the batch open"):
        shapes.close(path.read_bytes())


def test_a_shape_without_any_number_is_refused(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].shape = [-1, 10]

    with pytest.raises(InputError, match="has no fixed shape"):
        shapes.close(write_tree(tmp_path / "m.tflite", change).read_bytes())


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("type", 5, "is text, which this format cannot be served with"), ("shape", [1, 0, 8, 1], "has the shape")],
)
def test_tensors_that_cannot_be_served_are_refused(tmp_path: Path, attribute: str, value: Any, words: str) -> None:
    def change(model: Any) -> None:
        setattr(model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]], attribute, value)

    with pytest.raises(InputError, match=words):
        TFLITE.inspect(write_tree(tmp_path / "m.tflite", change))


def test_custom_and_unknown_operators_have_a_name(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
        model.operatorCodes[0].customCode = b"MyOp"
        model.operatorCodes[1].builtinCode = 9999

    assert set(TFLITE.inspect(write_tree(tmp_path / "m.tflite", change)).operators) == {"custom MyOp", "builtin 9999"}


def test_an_operator_that_the_engine_lacks_is_a_conversion_error(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
        model.operatorCodes[0].customCode = b"MyOp"

    facts = TFLITE.inspect(write_tree(tmp_path / "m.tflite", change))
    with pytest.raises(ConversionError, match=r"m\.tflite"):
        TFLITE.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())


def test_a_damaged_file_crashes_the_child_at_worst(tmp_path: Path) -> None:
    """What passes the structure check may still be poison for the library: it dies in the child."""
    raw = tiny_tflite(tmp_path / "m.tflite").path.read_bytes()
    rng = np.random.default_rng(11)
    for number in range(6):
        changed = bytearray(raw)
        for _ in range(12):
            changed[int(rng.integers(16, len(raw)))] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(changed)
        with contextlib.suppress(InputError, ConversionError, UsageError):
            TFLITE.build(TFLITE.inspect(path), Scheme("int8"), None, tmp_path / "c", Reporter())
    sound = TFLITE.build(TFLITE.inspect(tmp_path / "m.tflite"), Scheme("int8"), None, tmp_path / "c", Reporter())
    assert sound.path.read_bytes(), "this process goes on, and builds what is sound"


def test_a_source_that_changes_under_way_is_refused(tmp_path: Path) -> None:
    tiny: TinyModel = tiny_tflite(tmp_path / "m.tflite", "float32")
    facts = TFLITE.inspect(tiny.path)
    tiny_tflite(tiny.path, "float32", bad=True)
    with pytest.raises(InputError, match="it changed while"):
        TFLITE.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())


def test_what_is_reachable() -> None:
    assert TFLITE.reachable("keras", "int8") is None
    assert TFLITE.reachable("tflite", "dynamic") is None
    assert "edgeship setup onnx2tf" in str(TFLITE.reachable("onnx", "float32"))


def test_the_engines_specs_are_the_variants(tmp_path: Path) -> None:
    loaded = answers.load("tflite", pair_tflite(tmp_path / "m.tflite").path, "pair")
    assert {spec.name: spec.shape for spec in loaded.inputs} == {"a": (1, 4), "b": (1, 4)}


def test_outputs_are_matched_by_name_then_by_position() -> None:
    a, b = np.zeros((2, 1, 3), np.float32), np.ones((2, 4), np.float32)
    specs = (TensorSpec("b", "float32", (1, 4)), TensorSpec("a", "float32", (1, 3)))
    by_name = answers.align({"a": a, "b": b}, specs, "m")
    assert [array.shape for array in by_name] == [(2, 1, 4), (2, 1, 3)]
    by_position = answers.align({"x": b, "y": a}, specs, "m")
    assert [float(array.max()) for array in by_position] == [1.0, 0.0]
    with pytest.raises(ConversionError, match="do not correspond"):
        answers.align({"x": a, "y": a}, specs, "m")
