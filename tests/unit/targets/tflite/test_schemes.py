"""A float TFLite file under every scheme: what becomes int8, what stays in float, and that answers stay right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, UsageError
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import PRECISIONS, Scheme
from edgeship.targets.tflite.layers import layers
from edgeship.targets.tflite.named import source_name
from edgeship.targets.tflite.reader import Structure, Tensor, read
from tests.simulators import inline
from tests.simulators.tflite_file import Float
from tests.simulators.tflite_graphs import (
    branches,
    conv3d,
    detector,
    divided,
    handed,
    looped,
    matmul,
    mlp,
    recurrent,
    samples,
    shaped,
    sparse,
    stacked,
    tapped,
    tokens,
)  # fmt: skip

TFLITE = registry.target("tflite")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps run in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def build(path: Path, scheme: Scheme, data: Dataset | None = None) -> Variant:
    return TFLITE.build(TFLITE.inspect(path), scheme, data, path.parent / "c", Reporter())


def compared(path: Path, variant: Variant, data: Dataset) -> tuple[Float, Float]:
    """Answers of the float file and of the variant."""
    plain = TFLITE.as_is(TFLITE.inspect(path), path.parent / "c", Reporter())
    return answers.of_variant(plain, data)[0], answers.of_variant(variant, data)[0]


def error(path: Path, variant: Variant, data: Dataset) -> float:
    """Largest error as a part of the largest value."""
    wanted, got = compared(path, variant, data)
    return float(np.abs(wanted - got).max() / np.abs(wanted).max())


def dense(variant: Variant, graph: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """FULLY_CONNECTED layers: what it is called -> (weights, what it writes)."""
    structure: Structure = read(variant.path.read_bytes())
    out = {}
    for operator in structure.subgraphs[graph].operators:
        if structure.codes[operator.code][0] == 9:
            written = structure.subgraphs[graph].tensors[operator.outputs[0]]
            out[written.name] = (structure.subgraphs[graph].tensors[operator.inputs[1]], written)
    return out


SCHEMES: dict[str, tuple[Scheme, str, str, float]] = {
    # scheme, dtype of the weights, dtype between layers, largest error
    "dynamic": (Scheme("dynamic"), "int8", "float32", 0.03),
    "dynamic per tensor": (Scheme("dynamic", per_channel=False), "int8", "float32", 0.03),
    "int8 weights": (Scheme("int8-weights"), "float32", "float32", 0.03),
    "int8": (Scheme("int8"), "int8", "int8", 0.06),
    "int8 per tensor": (Scheme("int8", per_channel=False), "int8", "int8", 0.06),
    "int8 symmetric": (Scheme("int8", symmetric=True), "int8", "int8", 0.06),
    "int8 float endpoints": (Scheme("int8", endpoints="float32"), "int8", "int8", 0.06),
    "int8 percentile": (Scheme("int8", ranges="percentile"), "int8", "int8", 0.06),
    "int8 mse": (Scheme("int8", ranges="mse"), "int8", "int8", 0.06),
    "int16x8": (Scheme("int16x8"), "int8", "int16", 0.02),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_gives_what_it_says(tmp_path: Path, name: str) -> None:
    scheme, weight, between, worst = SCHEMES[name]
    path, data = mlp(tmp_path / "m.tflite"), samples(64)
    variant = build(path, scheme, data)
    assert error(path, variant, data) < worst
    assert variant.int8_share == 1.0
    assert TFLITE.inspect(variant.path).precision == scheme.precision
    layer = dense(variant)["dense_b"]
    assert (layer[0].dtype, layer[1].dtype) == (weight, between)
    if weight == "int8":
        assert layer[0].scales == (16 if scheme.per_channel else 1)
    if scheme.precision == "int8":
        assert (layer[1].zero_point == 0) == scheme.symmetric
    integers = scheme.calibrated and scheme.endpoints != "float32"
    wanted = {"int8": "int8", "int16x8": "int16"}[scheme.precision] if integers else "float32"
    assert (variant.inputs[0].dtype, variant.outputs[0].dtype) == (wanted, wanted)


def test_a_recipe_says_all_of_the_scheme(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(20)
    scheme = Scheme("int8", symmetric=True, per_channel=False, endpoints="float32", keep=("dense_b",))
    step = build(path, scheme, data).recipe.steps[-1]
    assert Scheme.parse(step["to"]) == scheme
    assert step["ranges"] == "min-max"
    assert build(path, Scheme("int8"), data).recipe.key != build(path, scheme, data).recipe.key


# ── layers that stay in float ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", ["dynamic", "int8", "int16x8"])
@pytest.mark.parametrize("kept", [("dense_b",), ("dense_a", "dense_c")])
def test_exactly_the_named_layers_stay_in_float(tmp_path: Path, precision: str, kept: tuple[str, ...]) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme(precision, keep=kept), data)
    found = {name.removesuffix("_dequant"): weight.dtype for name, (weight, _) in dense(variant).items()}
    names = ("dense_a", "dense_b", "dense_c")
    assert [dtype for _, dtype in sorted(found.items())] == ["float32" if n in kept else "int8" for n in names]
    assert error(path, variant, data) < 0.06
    assert 0.1 < variant.int8_share < 0.8  # what was to stay is no failure


def test_names_are_names_and_no_patterns(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite", name="a.b+(c)[0]|x;y/dense"), samples(20)
    variant = build(path, Scheme("dynamic", keep=("a.b+(c)[0]|x;y/dense_b",)), data)
    found = {name: weight.dtype for name, (weight, _) in dense(variant).items()}
    assert [dtype for _, dtype in sorted(found.items())] == ["int8", "float32", "int8"]


def test_a_name_that_begins_like_another_is_another(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite", name=""), samples(20)  # _a, _b, _c; and none of them is "b"
    with pytest.raises(UsageError, match=r"no layer is called 'b'; did you mean .*'_b'"):
        build(path, Scheme("dynamic", keep=("b",)), data)


def test_outputs_of_a_float_layer_stay_in_float_unless_int8_was_asked(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(20)
    usual = build(path, Scheme("int8", keep=("dense_c",)), data)
    asked = build(path, Scheme("int8", keep=("dense_c",), endpoints="int8"), data)
    assert [v.outputs[0].dtype for v in (usual, asked)] == ["float32", "int8"]
    assert [v.inputs[0].dtype for v in (usual, asked)] == ["int8", "int8"]


def test_layers_are_listed_by_the_names_that_keep_takes(tmp_path: Path) -> None:
    path, data = branches(tmp_path / "m.tflite"), samples(20)
    found = layers(path)
    assert [(layer.operator, layer.weights, layer.subgraph) for layer in found] == [
        ("FULLY_CONNECTED", 192, 0), ("MEAN", 0, 0), ("FULLY_CONNECTED", 64, 0),
        ("FULLY_CONNECTED", 256, 1), ("FULLY_CONNECTED", 256, 2),
    ]  # fmt: skip
    assert found[0].shape == (1, 16)
    names = [layer.name for layer in found if layer.weights]
    assert len(set(names)) == 4
    variant = build(path, Scheme("dynamic", keep=(names[2],)), data)
    kept = [[weight.dtype for weight, _ in dense(variant, graph).values()] for graph in range(3)]
    assert kept == [["int8", "int8"], ["float32"], ["int8"]]


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("functional_7_1/sequential_3_1/re_lu_1_2/Relu6;functional_7_1/conv2d_1/convolution", "re_lu_1_2"),
        ("sequential_1/dense_2/MatMul", "dense_2"), ("model/conv2d_1/Conv2D", "conv2d_1"),
        ("/model/layer1/conv/Conv_output_0", "layer1/conv"),
        ("logits", "logits"),
    ],
)  # fmt: skip
def test_the_sources_layer_is_read_from_a_tensors_name(tensor: str, layer: str) -> None:
    assert source_name(tensor) == layer


# ── traps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("precision", ["dynamic", "int8", "int16x8"])
def test_branches_get_int8_weights_though_nothing_calibrates_them(tmp_path: Path, precision: str) -> None:
    """The quantizer alone fails on them ("not found in tensor_name_to_qsv"), and on names that are not unique."""
    path, data = branches(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme(precision), data)
    wanted, got = compared(path, variant, data)
    off = np.abs(wanted - got).max(axis=(1, 2)) / np.abs(wanted).max()
    assert (off < 0.08).mean() > 0.95  # a sample on the edge takes the other branch
    assert variant.int8_share == 1.0
    for graph in (1, 2):
        ((weight, written),) = dense(variant, graph).values()
        assert (weight.dtype, written.dtype) == ("int8", "float32")
    assert any("in branches or loops" in note for note in variant.notes) == (precision != "dynamic")


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8-weights", "int8", "int16x8"])
def test_a_table_that_is_looked_up_shrinks_too(tmp_path: Path, precision: str) -> None:
    path = tokens(tmp_path / "m.tflite")
    data = Dataset({"ids": np.random.default_rng(0).integers(0, 40, (64, 1, 5)).astype(np.int32)})
    variant = build(path, Scheme(precision), data)
    assert error(path, variant, data) < 0.03
    assert variant.bytes < path.stat().st_size
    assert variant.int8_share == (0.0 if precision == "float16" else 1.0)


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8", "int16x8"])
def test_a_product_with_a_constant_is_right(tmp_path: Path, precision: str) -> None:
    """As BATCH_MATMUL with a scale a column, int8 answers have nothing to do with the float ones, without any error."""
    path = matmul(tmp_path / "m.tflite")
    data = Dataset({"x": np.random.default_rng(0).normal(size=(64, 1, 6, 8)).astype(np.float32)})
    variant = build(path, Scheme(precision), data)
    assert error(path, variant, data) < 0.03
    assert TFLITE.inspect(variant.path).operators.get("FULLY_CONNECTED") == 1


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_a_product_with_stacked_constants_is_right_with_one_scale(tmp_path: Path, precision: str) -> None:
    """No dense layer can be made of it; its kernel reads one scale for the constant and applies it to all columns."""
    path = stacked(tmp_path / "m.tflite")
    data = Dataset({"x": np.random.default_rng(0).normal(size=(64, 1, 2, 6, 8)).astype(np.float32)})
    variant = build(path, Scheme(precision), data)
    assert error(path, variant, data) < 0.05
    assert TFLITE.inspect(variant.path).operators.get("BATCH_MATMUL") == 1
    assert variant.int8_share == 1.0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sparse_weights_are_written_out_and_shrink_like_others(tmp_path: Path, precision: str) -> None:
    """The quantizer leaves them as they are and says nothing; XNNPACK answers NaN, in float too."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path, data = sparse(tmp_path / "m.tflite"), samples(64)
    facts = TFLITE.inspect(path)
    assert any("stored without their zeros" in note for note in facts.notes)
    reference = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    right = []
    for sample in data.inputs["x"]:
        reference.set_tensor(reference.get_input_details()[0]["index"], sample)
        reference.invoke()
        right.append(reference.get_tensor(reference.get_output_details()[0]["index"]))
    variant = build(path, Scheme(precision), data)
    wanted, got = compared(path, variant, data)
    assert np.abs(wanted - np.stack(right)).max() < 1e-5
    assert np.abs(wanted - got).max() < 0.06 * np.abs(wanted).max()
    assert variant.int8_share == (0.0 if precision.startswith("float") else 1.0)
    assert variant.recipe.steps[0] == {"do": "write-out", "what": "sparse weights", "by": "tflite-runnable/1"}


@pytest.mark.parametrize("precision", ["dynamic", "int8-weights", "int8"])
def test_a_file_whose_weights_stay_in_float_is_never_called_int8(tmp_path: Path, precision: str) -> None:
    path = conv3d(tmp_path / "m.tflite")
    data = Dataset({"x": np.random.default_rng(0).normal(size=(8, 1, 4, 4, 4, 2)).astype(np.float32)})
    with pytest.raises(ConversionError, match=r"only 0% of the weights became int8.*left as they were: w"):
        build(path, Scheme(precision), data)


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8"])
def test_weights_that_an_if_hands_to_its_branches_shrink_too(tmp_path: Path, precision: str) -> None:
    """As arguments they are no constants to a quantizer, which leaves them in float32 and says nothing."""
    path, data = handed(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme(precision), data)
    assert error(path, variant, data) < 0.06
    assert variant.int8_share == (0.0 if precision == "float16" else 1.0)
    assert variant.bytes < path.stat().st_size


def test_parts_of_an_output_with_different_ranges_are_not_given_one_scale(tmp_path: Path) -> None:
    path, data = detector(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme("int8"), data)
    wanted, got = compared(path, variant, data)
    boxes, scores = np.abs(wanted - got)[..., :8], np.abs(wanted - got)[..., 8:]
    assert boxes.max() < 0.05 * np.abs(wanted).max()
    assert scores.max() < 0.08  # with one scale for both, a score is wrong by half a step of several
    assert (variant.inputs[0].dtype, variant.outputs[0].dtype, variant.int8_share) == ("int8", "float32", 1.0)
    assert any("parts of an output differ in range" in note for note in variant.notes)
    joined = build(path, Scheme("int8", endpoints="int8"), data)  # who wants int8 there gets it
    assert joined.outputs[0].dtype == "int8"
    wanted, got = compared(path, joined, data)
    assert np.abs(wanted - got)[..., 8:].max() > 0.3


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_shapes_that_are_worked_out_while_it_runs_become_constants(tmp_path: Path, precision: str) -> None:
    path, data = shaped(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme(precision), data)
    assert TFLITE.inspect(variant.path).operators.keys() == {"RESHAPE", "SUM", "FULLY_CONNECTED"} | (
        {"DEQUANTIZE", "QUANTIZE"} & TFLITE.inspect(variant.path).operators.keys()
    )
    assert variant.outputs[0].shape == (1, 4)
    x = data.inputs["x"][:, 0].reshape(64, 4, 3).sum(axis=2)
    (got,) = answers.of_variant(build(path, Scheme("float32"), data), data)
    factors, *_ = np.linalg.lstsq(x.astype(np.float64), got[:, 0].astype(np.float64), rcond=None)
    assert np.abs(x @ factors - got[:, 0]).max() < 1e-4  # it is the linear map of the sums
    assert [step["do"] for step in variant.recipe.steps][:1] == ["fix-shapes"]


def test_an_output_that_is_read_too_stays_one_output(tmp_path: Path) -> None:
    """The quantizer puts the reader's float copy among the outputs, beside a signature that says otherwise."""
    path, data = tapped(tmp_path / "m.tflite"), samples(64)
    variant = build(path, Scheme("int8"), data)
    structure = read(variant.path.read_bytes())
    assert {index for _, index in structure.signatures[0].outputs} == set(structure.subgraphs[0].outputs)
    assert [spec.dtype for spec in variant.outputs] == ["int8", "int8"]
    assert error(path, variant, data) < 0.06


def test_a_division_stays_in_float(tmp_path: Path) -> None:
    """An int8 divisor that rounds to zero ends the run: "data[i] != zero_point was not true"."""
    path = divided(tmp_path / "m.tflite")
    x = samples(64).inputs["x"] * np.geomspace(0.05, 3, 64, dtype=np.float32)[:, None, None]
    variant = build(path, Scheme("int8"), Dataset({"x": x}))
    assert answers.of_variant(variant, Dataset({"x": x}))[0].shape == (64, 1, 4)
    structure = read(variant.path.read_bytes())
    (division,) = (o for o in structure.subgraphs[0].operators if structure.codes[o.code][0] == 42)
    assert structure.subgraphs[0].tensors[division.outputs[0]].dtype == "float32"


@pytest.mark.parametrize("first", ["float16", "dynamic", "int8-weights"])
@pytest.mark.parametrize("second", ["float32", "dynamic", "int8"])
def test_a_file_that_is_packed_already_is_made_anything_else(tmp_path: Path, first: str, second: str) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(64)
    packed = tmp_path / "packed.tflite"
    packed.write_bytes(build(path, Scheme(first), data).path.read_bytes())
    assert TFLITE.inspect(packed).precision == first
    variant = build(packed, Scheme(second), data)
    assert TFLITE.inspect(variant.path).precision == second
    assert error(path, variant, data) < 0.06
    assert variant.int8_share == (0.0 if second == "float32" else 1.0)


def test_what_is_int8_already_says_what_works(tmp_path: Path) -> None:
    path, data = mlp(tmp_path / "m.tflite"), samples(64)
    whole = tmp_path / "whole.tflite"
    whole.write_bytes(build(path, Scheme("int8"), data).path.read_bytes())
    with pytest.raises(UsageError, match="the model is int8 already") as caught:
        build(whole, Scheme("float16"), data)
    assert "--precision int8 takes it as it is" in str(caught.value.hint)


def test_a_loop_that_collects_its_answers_runs(tmp_path: Path) -> None:
    """As slices of another length at every step and a concatenation, the engine refuses it: in float too."""
    path = looped(tmp_path / "m.tflite")
    x = np.random.default_rng(0).normal(size=(6, 5, 1, 4)).astype(np.float32)
    with pytest.raises(ConversionError, match="the engine refuses the model"):
        answers.load("tflite", path, "as it was written")
    variant = build(path, Scheme("float32"))
    (got,) = answers.of_variant(variant, Dataset({"x": x}))
    assert np.allclose(got, 2 * x, atol=1e-6)
    assert "DYNAMIC_UPDATE_SLICE" in TFLITE.inspect(variant.path).operators
    assert [step["do"] for step in variant.recipe.steps] == ["fix-shapes"]


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_a_recurrent_operator_with_state_answers_every_request_alike(
    tmp_path: Path, kind: str, precision: str
) -> None:  # fmt: skip
    """Fused, its state outlives a run: LiteRT refuses it, and other runtimes answer rightly the first time only."""
    from ai_edge_litert.interpreter import Interpreter

    path = recurrent(tmp_path / "m.tflite", kind)
    facts = TFLITE.inspect(path)
    assert "state" in facts.details["state"]
    assert any("keeps state from one run to the next" in note for note in facts.notes)
    x = np.random.default_rng(0).normal(size=(64, 1, 5, 4)).astype(np.float32)
    fused = Interpreter(model_content=path.read_bytes())
    fused.allocate_tensors()
    wanted = []
    for sample in x:
        fused.reset_all_variables()
        fused.set_tensor(fused.get_input_details()[0]["index"], sample)
        fused.invoke()
        wanted.append(fused.get_tensor(fused.get_output_details()[0]["index"]))
    variant = build(path, Scheme(precision), Dataset({"x": x}))
    (got,) = answers.of_variant(variant, Dataset({"x": x}))
    worst = {"float32": 1e-6, "float16": 2e-3, "dynamic": 0.03, "int8": 0.08}[precision]
    assert np.abs(np.stack(wanted) - got).max() < worst
    assert variant.int8_share == (1.0 if precision in ("dynamic", "int8") else 0.0)
    assert any("every run begins at a state of zero" in note for note in variant.notes)


@pytest.mark.parametrize(("steps", "tied"), [(5, True), (1, False)])
def test_state_that_cannot_be_taken_away_is_refused_with_the_way_out(tmp_path: Path, steps: int, tied: bool) -> None:
    """Peepholes, which are not unrolled; and a single step, whose state is what it is for."""
    path = recurrent(tmp_path / "m.tflite", "LSTM", steps=steps, tied=tied)
    with pytest.raises(ConversionError, match=r"keeps state from one run to the next \(state, cell\)") as caught:
        build(path, Scheme("dynamic"))
    assert "unroll=True" in str(caught.value.hint)
