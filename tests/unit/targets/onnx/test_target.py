"""ONNX in, ONNX out: fixed shapes, opset 17, static int8; external data and branches handled or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, pair_onnx, samples, source, tiny_onnx

ONNX = registry.target("onnx")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Steps run in this process, but where a test is about the child."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "child" not in request.node.name:
        inline.patch(monkeypatch)


def data(n: int = 40) -> Dataset:
    x, labels = samples(n)
    return Dataset({"image": x.reshape(n, *SHAPE)}, labels)


def rewrite(path: Path, change: Any) -> Path:
    """A tiny float model whose graph was changed."""
    import onnx

    model = onnx.load(str(tiny_onnx(path, "float32").path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def build(path: Path, precision: str, calibration: Dataset | None = None) -> Any:
    return ONNX.build(ONNX.inspect(path), Scheme(precision), calibration, path.parent / "c", Reporter())


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_facts_are_those_of_the_file(tmp_path: Path, precision: Any) -> None:
    tiny = tiny_onnx(tmp_path / "m.onnx", precision)
    facts = ONNX.inspect(tiny.path)
    assert (facts.format, facts.precision, facts.sha256) == ("onnx", precision, tiny.sha256)
    assert [(s.name, s.shape) for s in facts.inputs + facts.outputs] == [
        ("image", SHAPE), ("probabilities", (1, 10)),
    ]  # fmt: skip
    assert facts.operators["Gemm"] == 1
    assert facts.details["opset"] == 17
    assert facts.int8_share == (1.0 if precision == "int8" else 0.0)


def test_an_open_batch_is_fixed_at_one(tmp_path: Path) -> None:
    facts = ONNX.inspect(tiny_onnx(tmp_path / "m.onnx", "float32", dynamic=True).path)
    assert (facts.open_shapes, facts.inputs[0].shape) == (True, SHAPE)
    variant = ONNX.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert variant.inputs[0].shape == SHAPE
    assert not ONNX.inspect(variant.path).open_shapes
    (answer,) = answers.of_variant(variant, data(5))
    assert np.allclose(answer[:, 0], source(samples(5)[0]), atol=1e-4)


def test_a_child_makes_it_int8_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny = tiny_onnx(tmp_path / "m.onnx", "float32")
    variant = build(tiny.path, "int8", data())
    assert (variant.precision, variant.int8_share, variant.inputs[0].dtype) == ("int8", 1.0, "float32")
    assert not list((tmp_path / "here").iterdir())  # quant_pre_process leaves files where it runs
    assert {p.name for p in variant.path.parent.iterdir()} == {"model.onnx", "recipe.json", "entry.json"}
    (answer,) = answers.of_variant(variant, data(60))
    wanted = source(samples(60)[0])
    assert (answer[:, 0].argmax(1) == wanted.argmax(1)).mean() >= 0.95
    assert np.abs(answer[:, 0] - wanted).max() < 0.1


def test_what_is_int8_stays_as_it_is(tmp_path: Path) -> None:
    variant = build(tiny_onnx(tmp_path / "m.onnx", "int8").path, "int8")
    assert variant.int8_share == 1.0
    with pytest.raises(UsageError, match="int8 already"):
        build(tmp_path / "m.onnx", "float32")


def test_an_old_opset_is_raised_first(tmp_path: Path) -> None:
    """Per-channel int8 on an opset below 13 is an invalid graph."""

    def old(model: Any) -> None:
        model.opset_import[0].version = 12

    path = rewrite(tmp_path / "m.onnx", old)
    assert ONNX.inspect(path).details["opset"] == 12
    variant = build(path, "int8", data())
    assert ONNX.inspect(variant.path).details["opset"] == 17
    (answer,) = answers.of_variant(variant, data(30))
    assert (answer[:, 0].argmax(1) == source(samples(30)[0]).argmax(1)).mean() >= 0.9


def test_matmul_and_add_are_quantized_as_gemm(tmp_path: Path) -> None:
    def split(model: Any) -> None:
        from onnx import helper, numpy_helper

        graph = model.graph
        gemm = next(node for node in graph.node if node.op_type == "Gemm")
        weights = next(t for t in graph.initializer if t.name == gemm.input[1])
        transposed = any(a.name == "transB" and a.i for a in gemm.attribute)
        array = numpy_helper.to_array(weights)
        weights.CopyFrom(numpy_helper.from_array(array.T.copy() if transposed else array, weights.name))
        place = list(graph.node).index(gemm)
        graph.node.remove(gemm)
        graph.node.insert(place, helper.make_node("MatMul", [gemm.input[0], gemm.input[1]], ["product"]))
        graph.node.insert(place + 1, helper.make_node("Add", ["product", gemm.input[2]], list(gemm.output)))

    path = rewrite(tmp_path / "m.onnx", split)
    assert ONNX.inspect(path).operators["MatMul"] == 1
    variant = build(path, "int8", data())
    operators = ONNX.inspect(variant.path).operators
    assert "MatMul" not in operators
    assert operators["Gemm"] == 1
    (answer,) = answers.of_variant(variant, data(30))
    assert (answer[:, 0].argmax(1) == source(samples(30)[0]).argmax(1)).mean() >= 0.9


def test_two_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    path = pair_onnx(tmp_path / "m.onnx").path
    variant = build(path, "float32")
    pairs = Dataset({n: np.random.default_rng(i).random((4, 1, 4)).astype(np.float32) for i, n in enumerate("ab")})
    got = dict(zip([s.name for s in variant.outputs], answers.of_variant(variant, pairs), strict=True))
    assert np.allclose(got["product"], pairs.inputs["a"] * pairs.inputs["b"])
    assert np.allclose(got["sum"], pairs.inputs["a"] + pairs.inputs["b"])
    named = registry.source_answers(ONNX.inspect(path), variant, pairs, Reporter())
    assert [array.shape for array in named] == [(4, 1, 4), (4, 1, 4)]


# ── external data ────────────────────────────────────────────────────────────────────────────────────────────────────


def external(path: Path, location: str = "net.data") -> Path:
    import onnx

    model = onnx.load(str(tiny_onnx(path, "float32").path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="net.data", size_threshold=64)
    if location != "net.data":
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model_is_part_of_it(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx")
    facts = ONNX.inspect(path)
    assert facts.companions == (tmp_path / "net.data",)
    assert facts.bytes == path.stat().st_size + (tmp_path / "net.data").stat().st_size
    variant = ONNX.build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert not ONNX.inspect(variant.path).companions
    (answer,) = answers.of_variant(variant, data(5))
    assert np.allclose(answer[:, 0], source(samples(5)[0]), atol=1e-4)
    with (tmp_path / "net.data").open("r+b") as file:
        file.write(b"\0" * 16)
    assert ONNX.inspect(path).sha256 != facts.sha256


@pytest.mark.parametrize("location", ["../net.data", "/etc/passwd", "a/net.data", "..", "a\\b", "n\0ul"])
def test_external_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(InputError, match="no plain file name"):
        ONNX.inspect(external(tmp_path / "m.onnx", location))


def test_external_data_that_is_missing_linked_or_short_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx")
    held = tmp_path / "net.data"
    whole = held.read_bytes()
    held.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"truncated|wants bytes"):
        ONNX.inspect(path)
    held.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there"):
        ONNX.inspect(path)
    (tmp_path / "elsewhere").write_bytes(whole)
    held.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link") as caught:
        ONNX.inspect(path)
    assert "cp -L" in str(caught.value.hint)


@pytest.mark.parametrize("what", ["producer_name", "an operator's input"])
def test_text_that_is_no_text_is_a_damaged_file_and_no_error_of_a_type(tmp_path: Path, what: str) -> None:
    """protobuf gives text that is no UTF-8 as bytes, which nothing behind it expects."""
    import onnx

    path = tiny_onnx(tmp_path / "m.onnx", precision="float32").path
    model = onnx.load(path)
    model.producer_name = model.graph.node[0].input[0] = mark = "a-mark-that-occurs-here"
    if what == "producer_name":
        model.graph.node[0].input[0] = model.graph.input[0].name
    else:
        model.producer_name = ""
    path.write_bytes(model.SerializeToString().replace(mark.encode(), b"\xff" + mark[1:].encode()))
    with pytest.raises(
        InputError, match=r"not a sound ONNX file: the text of a field '(producer_name|input)"
    ) as caught:
        ONNX.inspect(path)
    assert "copy it again" in str(caught.value.hint)


@pytest.mark.parametrize(("key", "value"), [("offset", "-5"), ("length", "x"), ("offset", "99999999")])
def test_external_data_with_a_wrong_extent_is_refused(tmp_path: Path, key: str, value: str) -> None:
    import onnx

    path = external(tmp_path / "m.onnx")
    model = onnx.load(str(path), load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    entry = next((e for e in tensor.external_data if e.key == key), None) or tensor.external_data.add(key=key)
    entry.value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"wants bytes|no number"):
        ONNX.inspect(path)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def branches(model: Any) -> None:
    """The last node, done by both branches of an If."""
    from onnx import TensorProto, helper

    graph = model.graph
    last = graph.node[-1]
    graph.node.remove(last)

    def branch(name: str) -> Any:
        node = helper.make_node(last.op_type, list(last.input), [name])
        node.attribute.extend(last.attribute)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10])])

    graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, [1]))
    graph.node.append(
        helper.make_node("If", ["flag"], list(last.output), then_branch=branch("then"), else_branch=branch("otherwise"))
    )


def test_branches_pass_as_float_and_as_int8(tmp_path: Path) -> None:
    path = rewrite(tmp_path / "m.onnx", branches)
    facts = ONNX.inspect(path)
    assert facts.operators["If"] == 1
    assert facts.operators["Softmax"] == 2
    calibration = Dataset({**data().inputs, "flag": np.ones((40, 1), np.bool_)})
    wanted = source(samples(40)[0])
    for scheme in (Scheme("float32"), Scheme("int8")):
        variant = ONNX.build(facts, scheme, calibration, tmp_path / "c", Reporter())
        assert variant.int8_share == (scheme.precision == "int8")
        (answer,) = answers.of_variant(variant, calibration)
        assert (answer[:, 0].argmax(1) == wanted.argmax(1)).mean() >= 0.95


def set_axis(axis: int, **value: Any) -> Any:
    def change(model: Any) -> None:
        dim = model.graph.input[0].type.tensor_type.shape.dim[axis]
        dim.Clear()
        for key, item in value.items():
            setattr(dim, key, item)

    return change


def drop_shape(model: Any) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def complex_numbers(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 14


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_axis(2, dim_param="width"), "leaves more than the batch open"),
        (drop_shape, "leaves more than the batch open: unknown"),
        (complex_numbers, "no tensor of numbers"),
    ],
)
def test_inputs_that_cannot_be_served_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ONNX.inspect(rewrite(tmp_path / "m.onnx", change))


def test_an_output_without_a_shape_gets_it_from_a_run(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.output[0].type.tensor_type.ClearField("shape")

    path = rewrite(tmp_path / "m.onnx", change)
    facts = ONNX.inspect(path)
    assert facts.outputs == ()
    assert facts.notes
    assert build(path, "float32").outputs[0].shape == (1, 10)


def test_an_output_that_is_no_number_is_refused(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.output[0].type.tensor_type.elem_type = 14

    with pytest.raises(InputError, match="output 'probabilities' is no tensor of numbers"):
        ONNX.inspect(rewrite(tmp_path / "m.onnx", change))


def test_an_invalid_graph_is_a_conversion_error(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.node[0].op_type = "NoSuchOperator"

    path = rewrite(tmp_path / "m.onnx", change)
    with pytest.raises(ConversionError, match=r"NoSuchOperator|not valid"):
        build(path, "float32")


def test_an_opset_that_cannot_be_raised_says_so(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.opset_import[0].version = 1
        model.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(ConversionError, match="opset 1 cannot be raised to 17"):
        build(rewrite(tmp_path / "m.onnx", change), "float32")


@pytest.mark.parametrize("percent", [0, 1, 10, 30, 50, 70, 90, 99])
def test_a_truncated_file_is_an_input_error(tmp_path: Path, percent: int) -> None:
    raw = tiny_onnx(tmp_path / "m.onnx").path.read_bytes()
    (tmp_path / "m.onnx").write_bytes(raw[: len(raw) * percent // 100])
    with pytest.raises(InputError, match=r"m\.onnx"):
        registry.inspect(tmp_path / "m.onnx")


def test_random_bytes_are_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for seed in range(3):
        path.write_bytes(b"\x08" + np.random.default_rng(seed).bytes(4000))
        with pytest.raises(InputError, match=r"m\.onnx"):
            registry.inspect(path)


def test_what_is_reachable() -> None:
    assert ONNX.reachable("keras", "int8") is None
    assert ONNX.reachable("onnx", "float32") is None
    assert "float16" in str(ONNX.reachable("keras", "float16"))
    assert [ONNX.reachable("onnx", p) for p in ("dynamic", "int8-weights", "int16x8")] == [None] * 3
    assert "from tflite to onnx" in str(ONNX.reachable("tflite", "int8"))
