"""ONNX at every precision, and the traps that plain quantizers fall into without a word: one test each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter
from edgeship.targets import answers, child, registry
from edgeship.targets.base import Variant
from edgeship.targets.onnx import prepare
from edgeship.targets.onnx.graph import shapes
from edgeship.targets.scheme import RANGES, Scheme
from tests.simulators import inline
from tests.simulators import onnx_graphs as graphs

ONNX = registry.target("onnx")
Float = NDArray[np.float32]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def build(path: Path, data: Dataset | None, precision: str = "int8", **more: Any) -> Variant:
    scheme = Scheme(precision, **more)
    return ONNX.build(ONNX.inspect(path), scheme, data, path.parent / "c", Reporter())


def quality(variant: Variant, path: Path, data: Dataset) -> float:
    """Signal to quantization noise of the variant's answers against the source's, dB; the least of its outputs."""
    wanted = registry.source_answers(ONNX.inspect(path), variant, data, Reporter())
    got = answers.of_variant(variant, data)
    return min(sqnr(a, b) for a, b in zip(wanted, got, strict=True))


def sqnr(wanted: Float, got: Float) -> float:
    return float(10 * np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-12)))


def nodes(variant: Variant) -> list[Any]:
    return list(graphs.load(variant.path).graph.node)


def kinds(variant: Variant) -> set[str]:
    return {node.op_type for node in nodes(variant)}


# ── precisions and settings ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scheme", "least"),
    [
        (Scheme("float32"), 90), (Scheme("dynamic"), 20), (Scheme("int8-weights"), 30), (Scheme("int8"), 20),
        (Scheme("int8", symmetric=True), 20), (Scheme("int8", per_channel=False), 15), (Scheme("int16x8"), 30),
        (Scheme("int8-weights", per_channel=False), 20),
    ],
    ids=lambda value: value.name if isinstance(value, Scheme) else "",
)  # fmt: skip
def test_every_precision_answers_like_the_source(tmp_path: Path, scheme: Scheme, least: float) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    variant = ONNX.build(ONNX.inspect(path), scheme, data, tmp_path / "c", Reporter())
    assert quality(variant, path, data) > least
    assert variant.int8_share == (scheme.precision != "float32")
    assert ONNX.inspect(variant.path).precision == scheme.precision
    assert variant.recipe.precision == scheme.precision


@pytest.mark.parametrize("ranges", RANGES)
def test_every_choice_of_ranges_serves(tmp_path: Path, ranges: str) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    variant = build(path, data, ranges=ranges)
    assert quality(variant, path, data) > 10
    step = next(step for step in variant.recipe.steps if step["do"] == "calibrate")
    assert (step["ranges"], step["passes"]) == (ranges, 1)


def test_symmetric_activations_have_zero_points_of_zero(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    for symmetric in (True, False):
        model = graphs.load(build(path, data, symmetric=symmetric).path)
        held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        points = {int(held[n.input[2]]) for n in model.graph.node if n.op_type == "QuantizeLinear"}
        assert (points == {0}) == symmetric


def test_weights_have_a_scale_a_channel_or_one(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    for precision in ("int8", "int8-weights"):
        for per_channel in (True, False):
            model = graphs.load(build(path, data, precision, per_channel=per_channel).path)
            held = {t.name: t for t in model.graph.initializer}
            sizes = {
                onnx.numpy_helper.to_array(held[n.input[1]]).size
                for n in model.graph.node
                if n.op_type == "DequantizeLinear" and n.input[0] in held and len(held[n.input[0]].dims) == 4
            }
            assert sizes == ({8} if per_channel else {1})


def test_layers_to_keep_stay_in_float_and_the_others_do_not(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    tensors = [n.output[0] for n in nodes(build(path, data, "float32")) if n.op_type == "Conv"]
    for precision in ("int8", "int8-weights", "dynamic", "int16x8"):
        variant = build(path, data, precision, keep=(tensors[1],))
        model = graphs.load(variant.path)
        floats = {t.name for t in model.graph.initializer if t.data_type == graphs.FLOAT}
        (kept,) = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in floats]
        assert kept.output[0] == tensors[1]
        assert 0.5 < variant.int8_share < 1.0


def test_what_only_a_layer_to_keep_reads_is_not_rounded(tmp_path: Path) -> None:
    path, data = graphs.loud(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    assert quality(build(path, data), path, data) < 5
    mended = build(path, data, keep=("y",))
    assert quality(mended, path, data) > 25
    model = graphs.load(mended.path)
    floats = {t.name for t in model.graph.initializer if t.data_type == graphs.FLOAT and len(t.dims) > 1}
    first, second = [n for n in model.graph.node if n.op_type == "Conv"]
    assert first.input[1] not in floats
    assert second.input[1] in floats
    assert [n.op_type for n in model.graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear")] == [
        "Conv", "Relu", "MaxPool", "Conv"
    ]  # fmt: skip


def test_what_an_int8_layer_reads_too_is_rounded_for_a_layer_to_keep_as_well(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    second = [n.output[0] for n in nodes(build(path, data, "float32")) if n.op_type == "Conv"][1]
    made = nodes(build(path, data, keep=(second,)))
    writers = {name: node for node in made for name in node.output}
    (kept,) = [n for n in made if n.op_type == "Conv" and n.output[0] == second]
    assert writers[kept.input[0]].op_type == "DequantizeLinear"  # the sum reads it too, and the first layer stays int8


def test_a_layer_to_keep_that_is_not_there_is_refused_with_the_closest(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    with pytest.raises(UsageError, match="no layer is called 'summ'; did you mean 'sum'"):
        build(path, data, keep=("summ",))


@pytest.mark.parametrize("precision", ["int8", "int8-weights", "dynamic"])
def test_a_layer_to_keep_goes_by_its_name_in_the_source(tmp_path: Path, precision: str) -> None:
    """Of torch and Keras, nodes are called "/features/conv1/Conv", and a Relu behind one comes of the same layer."""
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    model = graphs.load(path)
    for node in model.graph.node:
        if node.output[0] in ("c3", "c2", "r2"):
            node.name = f"/features/{'last' if node.output[0] == 'c3' else 'middle'}/{node.op_type}"
    path.write_bytes(model.SerializeToString())

    def share(**more: Any) -> float | None:
        return build(path, data, precision, **more).int8_share

    for short, whole in (("features/last", "c3"), ("features/middle", "c2"), ("features/middle (Conv)", "c2")):
        assert share(keep=(short,)) == share(keep=(whole,)) != share()


def test_float16_is_refused_with_what_makes_a_smaller_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8-weights makes a quarter"):
        build(graphs.convolutional(tmp_path / "m.onnx"), None, "float16")


def test_ranges_and_the_float_model_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    build(path, data)
    steps: list[str] = []

    def spy(step: str, *rest: Any, **more: Any) -> dict[str, Any]:
        steps.append(step)
        return inline.run(step, *rest, **more)

    monkeypatch.setattr(child, "run", spy)
    build(path, data, keep=("sum",))
    assert [step.rpartition(".")[2] for step in steps] == ["inspect", "quantize", "run"]


# ── traps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_an_old_opset_becomes_a_valid_per_channel_model(tmp_path: Path, opset: int) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx", opset), graphs.data("x", (3, 8, 8))
    variant = build(path, data)
    assert quality(variant, path, data) > 20
    onnx.checker.check_model(graphs.load(variant.path))


def test_normalizations_are_folded_and_products_are_gemm(tmp_path: Path) -> None:
    path = graphs.convolutional(tmp_path / "m.onnx")
    assert {"BatchNormalization", "MatMul"} <= {node.op_type for node in graphs.load(path).graph.node}
    plain = kinds(build(path, None, "float32"))
    assert "Gemm" in plain
    assert not plain & {"BatchNormalization", "MatMul"}


def test_dynamic_int8_of_convolutions_says_that_it_is_slow(tmp_path: Path) -> None:
    variant = build(graphs.convolutional(tmp_path / "m.onnx"), None, "dynamic")
    assert any("3 convolutions are dynamic int8, which most processors run slower" in note for note in variant.notes)


@pytest.mark.parametrize("direct", [False, True])
def test_boxes_and_scores_that_share_an_output_are_not_given_one_scale(tmp_path: Path, direct: bool) -> None:
    """With one scale of 1.26 every score is 0 or 1.26, and the cosine of the whole output is 0.9995 all the same."""
    path, data = graphs.detector(tmp_path / "m.onnx", direct=direct), graphs.data("x", (3, 8, 8))
    variant = build(path, data)
    assert any("parts of output 'y' differ in range" in note for note in variant.notes)
    (wanted,) = registry.source_answers(ONNX.inspect(path), variant, data, Reporter())
    (got,) = answers.of_variant(variant, data)
    assert sqnr(wanted[:, 0, 4:], got[:, 0, 4:]) > 20
    assert sqnr(wanted[:, 0, :4], got[:, 0, :4]) > 20
    assert variant.int8_share == 1.0


def test_a_normalization_written_out_stays_in_float(tmp_path: Path) -> None:
    """As int8 its variance and the small constant beside it share a scale: of magika not one answer was right."""
    path = graphs.normalized(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 1, 24)) * rng.uniform(0.2, 2, (60, 1, 1))).astype(np.float32)
    variant = build(path, Dataset({"x": x}))
    assert quality(variant, path, Dataset({"x": x})) > 20
    assert variant.int8_share == 1
    written = {name for node in nodes(variant) if node.op_type == "DequantizeLinear" for name in node.output}
    read = {name for node in nodes(variant) if node.op_type in ("Mul", "Sqrt", "Reciprocal") for name in node.input}
    assert not written & read
    assert all(node.input[0] in written for node in nodes(variant) if node.op_type == "Gemm")


def test_a_spectrogram_is_computed_in_float_with_int8_weights(tmp_path: Path) -> None:
    """Its first Conv is squared and put under a logarithm: with int8 answers of it 4 dB are left, and no error."""
    path = graphs.spectrogram(tmp_path / "m.onnx")
    rng, t = np.random.default_rng(0), np.arange(512)
    tones = [np.sin(2 * np.pi * rng.uniform(0.02, 0.2) * t) * 10 ** rng.uniform(-2.5, 0) for _ in range(24)]
    data = Dataset({"x": (np.stack(tones) + rng.normal(0, 1e-3, (24, 512))).reshape(24, 1, 1, 512).astype(np.float32)})
    variant = build(path, data)
    assert quality(variant, path, data) > 20
    assert variant.int8_share == 1
    assert any("first compute in float32 with int8 weights" in note for note in variant.notes)
    read = {name for node in nodes(variant) if node.op_type in ("Pow", "Add", "Sqrt", "Log") for name in node.input}
    written = {name for node in nodes(variant) if node.op_type == "DequantizeLinear" for name in node.output}
    assert not read & written
    second = next(node for node in nodes(variant) if node.name == "second")
    assert second.input[0] in written  # what comes after is int8 again


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("precision", ["int8", "int8-weights", "dynamic"])
def test_recurrent_layers_have_int8_weights(tmp_path: Path, kind: str, precision: str) -> None:
    """A static quantizer leaves them in float and says nothing."""
    path, data = graphs.recurrent(tmp_path / "m.onnx", kind), graphs.data("x", (1, 12))
    data = Dataset({"x": np.random.default_rng(0).normal(size=(20, 10, 1, 12)).astype(np.float32)})
    variant = build(path, data, precision)
    assert variant.int8_share == 1.0
    assert quality(variant, path, data) > 25
    if precision == "int8":
        assert any("int8 weights, computed in float" in note for note in variant.notes)


@pytest.mark.parametrize("precision", ["dynamic", "int8-weights", "int8"])
def test_a_file_whose_weights_stay_in_float_is_never_called_int8(tmp_path: Path, precision: str) -> None:
    node = onnx.helper.make_node("Einsum", ["x", "w"], ["y"], equation="bi,io->bo")
    path = graphs.save(
        tmp_path / "m.onnx", [node], [graphs.value("x", (1, 12))], [graphs.value("y", (1, 5))],
        {"w": graphs.weights((12, 5))},
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"only 0% of the weights became int8.*left as they were: w"):
        build(path, graphs.data("x", (12,)), precision)


@pytest.mark.parametrize("precision", ["float32", "int8", "int8-weights", "dynamic", "int16x8"])
def test_branches_are_quantized_one_by_one(tmp_path: Path, precision: str) -> None:
    path, data = graphs.branched(tmp_path / "m.onnx"), graphs.data("x", (12,), 30)
    assert {bool((row > 0).all()) for row in data.inputs["x"].sum(axis=(1, 2))} == {True, False}
    variant = build(path, data, precision)
    assert variant.int8_share == (precision != "float32")
    assert quality(variant, path, data) > 20
    if precision == "dynamic":
        (branch,) = [node for node in nodes(variant) if node.op_type == "If"]
        inner = [{node.op_type for node in attribute.g.node} for attribute in branch.attribute]
        assert all("MatMulInteger" in kinds for kinds in inner)


def test_the_condition_of_a_branch_reads_the_input_as_it_is(tmp_path: Path) -> None:
    """Rounded to int8, a sum near the threshold takes the other branch."""
    path, data = graphs.branched(tmp_path / "m.onnx"), graphs.data("x", (12,), 30)
    (total,) = [node for node in nodes(build(path, data)) if node.op_type == "ReduceSum"]
    assert total.input[0] == "x"


def test_masks_of_minus_infinity_do_not_spoil_the_rest(tmp_path: Path) -> None:
    path, data = graphs.masked(tmp_path / "m.onnx"), graphs.data("x", (8, 16))
    for ranges in ("min-max", "percentile"):
        variant = build(path, data, ranges=ranges)
        assert any("not finite, or beyond any scale, in hidden" in note for note in variant.notes)
        assert quality(variant, path, data) > 20


def test_shapes_are_those_of_a_run(tmp_path: Path) -> None:
    path, data = graphs.untruthful(tmp_path / "m.onnx"), graphs.data("x", (12,))
    assert [spec.shape for spec in ONNX.inspect(path).outputs] == [(1, 3)]
    for precision in ("float32", "int8", "int8-weights"):
        variant = build(path, data, precision)
        assert [spec.shape for spec in variant.outputs] == [(4, 1, 3)]
        assert quality(variant, path, data) > 20


def test_no_rank_is_unknown(tmp_path: Path) -> None:
    """A Concat of parts without a rank breaks quantizers, each in its own way; a run knows the ranks."""
    path, data = graphs.rankless(tmp_path / "m.onnx"), graphs.data("x", (12,))
    inferred = shapes(onnx.shape_inference.infer_shapes(graphs.load(path)))
    assert [inferred.get(name, (1, None))[1] for name in "ab"] == [None, None]
    for precision in ("float32", "int8", "int8-weights", "dynamic"):
        variant = build(path, data, precision)
        assert [spec.shape for spec in variant.outputs] == [(2, 2, 3)]
        assert quality(variant, path, data) > 20
    known = shapes(graphs.load(build(path, data, "float32").path))
    assert [known[name][1] for name in "ab"] == [(1, 2, 3)] * 2


def test_no_declared_shape_is_believed(tmp_path: Path) -> None:
    """A shape inside that is not the true one breaks quantizers and onnx2tf."""
    path = graphs.untruthful(tmp_path / "m.onnx")
    model = graphs.load(path)
    model.graph.value_info.append(graphs.value("h", (20, 1, 6)))
    path.write_bytes(model.SerializeToString())
    prepare.perform({"path": str(path), "from": "float32", "prepare": True}, tmp_path)
    made = graphs.load(tmp_path / prepare.FILE)
    known = {name: shape for name, (_, shape) in shapes(made).items()}
    assert known["h"] == (1, 6)
    assert known["y"] == (4, 1, 3)


def test_a_shared_bias_is_copied_under_a_free_name(tmp_path: Path) -> None:
    """ONNX Runtime's quantizer calls the copy `b0`, which a tensor is called already: an invalid graph."""
    path, data = graphs.shared_bias(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    assert quality(build(path, data), path, data) > 20


@pytest.mark.parametrize("shape", [(1, 8), (1,), (1, 1), (4, 8), (4, 1)])
def test_a_bias_of_a_product_may_have_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The quantizer indexes it as a vector: "the truth value of an array with more than one element is ambiguous"."""
    held = {"w": graphs.weights((8, 96)).T.copy(), "b": graphs.weights(shape, 3), "v": graphs.weights((8, 8), 4)}
    rows = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first"),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("Gemm", ["r", "v"], ["y"], name="second"),
    ]
    path = graphs.save(
        tmp_path / "m.onnx", rows, [graphs.value("x", (4, 96))], [graphs.value("y", (4, 8))], held
    )  # fmt: skip
    x = np.random.default_rng(0).normal(size=(24, 4, 96)).astype(np.float32)
    variant = build(path, Dataset({"x": x}))
    assert quality(variant, path, Dataset({"x": x})) > 20
    assert variant.int8_share == (832 / 864 if shape == (4, 8) else 1)
    assert any("a bias that is a matrix" in note for note in variant.notes) == (shape[0] == 4)


def test_what_is_quantized_already_is_refused(tmp_path: Path) -> None:
    path = graphs.quantized_already(tmp_path / "m.onnx")
    for precision in ("int8-weights", "dynamic", "float32"):
        with pytest.raises(UsageError, match="the model is int8 already") as caught:
            build(path, graphs.data("x", (12,)), precision)
        assert "start from the float model" in str(caught.value.hint)


def test_a_table_that_is_looked_up_is_int8(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    path = graphs.save(
        tmp_path / "m.onnx",
        [node("Gather", ["table", "ids"], ["rows"]), node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
         node("Gemm", ["mean", "w"], ["y"], transB=1)],
        [graphs.value("ids", (1, 6), onnx.TensorProto.INT64)], [graphs.value("y", (1, 5))],
        {"table": graphs.weights((100, 16)), "w": graphs.weights((5, 16), 2)},
    )  # fmt: skip
    data = Dataset({"ids": np.random.default_rng(0).integers(0, 100, (20, 1, 6))})
    for precision in ("int8", "int8-weights", "dynamic"):
        variant = build(path, data, precision)
        assert variant.int8_share == 1.0
        assert quality(variant, path, data) > 20


def test_a_quantized_file_is_smaller_however_long_its_names_are(tmp_path: Path) -> None:
    """ONNX Runtime repeats the name of a tensor four times over: basic-pitch grew from 225 kB to 306 kB as int8."""
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    model = graphs.load(path)
    for each in model.graph.node:
        each.output[:] = [name if name == "y" else f"{name}{'/model' * 80}" for name in each.output]
        each.input[:] = [
            f"{name}{'/model' * 80}" if any(name == n.output[0][: len(name)] and n.output[0].startswith(f"{name}/")
                                            for n in model.graph.node) else name
            for name in each.input
        ]  # fmt: skip
    path.write_bytes(model.SerializeToString())
    plain = build(path, data, "float32")
    assert build(path, data).bytes < plain.bytes


def test_the_recipe_says_all_that_decides(tmp_path: Path) -> None:
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    variant = build(path, data, ranges="entropy", symmetric=True, per_channel=False, keep=("sum",))
    steps = {step["do"]: step for step in json.loads(variant.recipe_path.read_text())["steps"]}
    assert steps["prepare"]["opset"] == 17
    assert steps["calibrate"] | {"by": ""} == {
        "do": "calibrate", "ranges": "entropy", "symmetric": True, "levels": 256, "passes": 1, "by": "",
    }  # fmt: skip
    assert Scheme.parse(steps["quantize"]["to"]) == Scheme("int8", "entropy", False, True, keep=("sum",))
    assert steps["quantize"]["weights"] == "int8 per tensor"


def test_inputs_and_outputs_are_int8_where_they_are_asked_to_be(tmp_path: Path) -> None:
    """ONNX has no place for the scale of an input: the engine reads it from the model's metadata."""
    path, data = graphs.convolutional(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    variant = build(path, data, endpoints="int8")
    specs = variant.inputs + variant.outputs
    assert [(spec.name, spec.dtype) for spec in specs] == [("x", "int8"), ("y", "int8")]
    assert all(spec.scale > 0 for spec in specs)
    facts = ONNX.inspect(variant.path)
    assert facts.inputs + facts.outputs == specs
    model = graphs.load(variant.path)
    model.metadata_props[-1].value = "[1]"
    variant.path.with_name("damaged.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"edgeship.quantized.* is damaged"):
        ONNX.inspect(variant.path.with_name("damaged.onnx"))
    assert quality(variant, path, data) > 20
    for endpoints in ("default", "float32"):
        plain = build(path, data, endpoints=endpoints)
        assert {spec.dtype for spec in plain.inputs + plain.outputs} == {"float32"}
        assert all(
            np.allclose(a, b, atol=1e-5)
            for a, b in zip(answers.of_variant(variant, data), answers.of_variant(plain, data), strict=True)
        )


def test_an_output_whose_parts_stay_in_float_is_not_made_int8(tmp_path: Path) -> None:
    path, data = graphs.detector(tmp_path / "m.onnx"), graphs.data("x", (3, 8, 8))
    variant = build(path, data, endpoints="int8")
    assert (variant.inputs[0].dtype, variant.outputs[0].dtype) == ("int8", "float32")
    assert any("output 'y' stays float32" in note for note in variant.notes)


def test_only_int8_has_int8_inputs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dynamic has no int8 inputs"):
        build(graphs.convolutional(tmp_path / "m.onnx"), None, "dynamic", endpoints="int8")
