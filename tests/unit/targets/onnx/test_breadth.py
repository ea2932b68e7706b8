"""ONNX as it is found: every opset from 7, open axes with a shape given, channels last, integers, old habits, lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts, parse_shapes
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry, routes
from edgeship.targets.base import Variant
from edgeship.targets.onnx import inspect
from edgeship.targets.scheme import Scheme
from tests.simulators import inline, onnx_graphs

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def weights(*shape: int, seed: int = 0, kind: Any = np.float32) -> Any:
    return (np.random.default_rng(seed).normal(size=shape) * 0.3).astype(kind)


def save(
    path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], held: dict[str, Any],
    opset: int = 17, change: Callable[[Any], None] = lambda model: None,
) -> Path:  # fmt: skip
    """Write a model. Inputs and outputs: name -> shape of float32, or (type, shape)."""

    def values(specs: dict[str, Any]) -> list[Any]:
        pairs = {n: s if isinstance(s, tuple) else (FLOAT, s) for n, s in specs.items()}
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in pairs.items()]

    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def detector(path: Path, image: list[Any], **more: Any) -> Path:
    """Channels first: convolution, batch norm, pooling to one value a channel, dense."""
    held = {
        "w": weights(4, 3, 3, 3), "scale": weights(4, seed=1), "shift": weights(4, seed=2), "mean": weights(4, seed=3),
        "var": np.ones(4, np.float32), "dense": weights(4, 5, seed=4), "bias": weights(5, seed=5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "dense", "bias"], ["scores"]),
    ]
    return save(path, nodes, {"image": image}, {"scores": [image[0], 5]}, held, **more)


def built(facts: ModelFacts, folder: Path) -> Variant:
    return registry.target("onnx").build(facts, Scheme("float32"), None, folder, Reporter())


def compare(facts: ModelFacts, data: Dataset, folder: Path) -> Variant:
    """The variant answers as the source does. Returns it."""
    variant = built(facts, folder)
    wanted = registry.source_answers(facts, variant, data, Reporter())
    for expected, got in zip(wanted, answers.of_variant(variant, data), strict=True):
        assert np.allclose(expected, got, atol=1e-4)
        assert np.ptp(expected) > 1e-3
    return variant


def pictures(*shape: int, count: int = 4) -> Dataset:
    return Dataset({"image": np.random.default_rng(9).normal(size=(count, *shape)).astype(np.float32)})


# ── opsets and old habits ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21])
def test_every_opset_from_7_is_taken(tmp_path: Path, opset: int) -> None:
    facts = registry.inspect(detector(tmp_path / "m.onnx", [1, 3, 8, 8], opset=opset))
    assert facts.details["opset"] == opset
    variant = compare(facts, pictures(1, 3, 8, 8), tmp_path / "c")
    assert registry.inspect(variant.path).details["opset"] >= 17


def test_old_files_list_their_weights_among_the_inputs(tmp_path: Path) -> None:
    def old(model: Any) -> None:
        model.ir_version = 3
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    facts = registry.inspect(detector(tmp_path / "m.onnx", [1, 3, 8, 8], opset=7, change=old))
    assert [spec.name for spec in facts.inputs] == ["image"]
    compare(facts, pictures(1, 3, 8, 8), tmp_path / "c")


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_open_batch_is_fixed(tmp_path: Path) -> None:
    facts = registry.inspect(detector(tmp_path / "m.onnx", ["N", 3, 8, 8]))
    assert facts.open_shapes
    assert compare(facts, pictures(1, 3, 8, 8), tmp_path / "c").inputs[0].shape == (1, 3, 8, 8)


def test_open_axes_need_a_shape_and_the_hint_says_how(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", ["N", 3, "H", "W"])
    with pytest.raises(InputError, match=r"more than the batch open: \['\?', 3, '\?', '\?'\]") as caught:
        registry.inspect(path)
    assert "--shape image=1,3,224,224" in str(caught.value.hint)


def test_a_shape_that_is_given_closes_them_for_the_source_and_its_variants(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", ["N", 3, "H", "W"])
    facts = registry.inspect(path, shapes=parse_shapes(["image=1,3,16,12"]))
    assert facts.inputs[0].shape == (1, 3, 16, 12)
    variant = compare(facts, pictures(1, 3, 16, 12), tmp_path / "c")
    assert variant.inputs[0].shape == (1, 3, 16, 12)
    assert variant.recipe.steps[0] == {
        "do": "fix-shapes", "shapes": {"image": [1, 3, 16, 12]}, "by": "onnx-shapes/1"
    }  # fmt: skip
    other = built(registry.inspect(path, shapes={"image": (1, 3, 8, 8)}), tmp_path / "c")
    assert other.inputs[0].shape == (1, 3, 8, 8)
    assert other.recipe.key != variant.recipe.key
    assert routes.float_model(facts, "onnx", tmp_path / "c", Reporter()) != path


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ("imag=1,3,8,8", "no input 'imag'; did you mean 'image'"),
        ("image=1,4,8,8", r"is \['\?', 3, '\?', '\?'\], and cannot be \[1, 4, 8, 8\]"),
        ("image=1,3,8", "cannot be"),
        ("image=1,3,99999,99999", "over the limit"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path, shapes: str, words: str) -> None:
    path = detector(tmp_path / "m.onnx", ["N", 3, "H", "W"])
    with pytest.raises((UsageError, InputError), match=words):
        registry.inspect(path, shapes=parse_shapes([shapes]))


@pytest.mark.parametrize("text", ["image", "image=", "=1,2", "image=1,a", "image=1,0", "image=-1,3"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no shape of an input"):
        parse_shapes([text])


def test_channels_last_stays_channels_last(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["r"], ["map"], perm=[0, 2, 3, 1]),
    ]
    held = {"w": weights(4, 3, 3, 3)}
    facts = registry.inspect(save(tmp_path / "m.onnx", nodes, {"image": [1, 9, 7, 3]}, {"map": [1, 7, 5, 4]}, held))
    variant = compare(facts, pictures(1, 9, 7, 3), tmp_path / "c")
    assert (variant.inputs[0].shape, variant.outputs[0].shape) == ((1, 9, 7, 3), (1, 7, 5, 4))


# ── kinds of inputs ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_integer_inputs_and_several_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["found"]),
        helper.make_node("Mul", ["found", "gain"], ["scaled"]),
        helper.make_node("ReduceMax", ["scaled"], ["highest"], axes=[2], keepdims=0),
    ]
    held = {"table": weights(11, 6)}
    path = save(
        tmp_path / "m.onnx", nodes, {"ids": (INT64, [1, 4]), "gain": [1]}, {"scaled": [1, 4, 6], "highest": [1, 4]},
        held,
    )  # fmt: skip
    facts = registry.inspect(path)
    assert [(s.name, s.dtype) for s in facts.inputs] == [("ids", "int64"), ("gain", "float32")]
    rng = np.random.default_rng(2)
    data = Dataset(
        {"ids": rng.integers(0, 11, (5, 1, 4)), "gain": rng.uniform(1, 2, (5, 1)).astype(np.float32)}
    )  # fmt: skip
    variant = compare(facts, data, tmp_path / "c")
    assert [s.shape for s in variant.outputs] == [(1, 4, 6), (1, 4)]


def test_a_float16_model_is_known_as_one(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": (half, [1, 8])}, {"y": (half, [1, 4])}, {"w": weights(8, 4, kind=np.float16)}
    )
    facts = registry.inspect(path)
    assert (facts.precision, facts.inputs[0].dtype) == ("float16", "float16")
    with pytest.raises(UsageError, match="the model is float16 already"):
        registry.target("onnx").build(
            facts, Scheme("int8"), Dataset({"x": np.zeros((2, 1, 8), np.float32)}), tmp_path / "c", Reporter()
        )


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8-weights", "int8"])
@pytest.mark.parametrize("as_", ["constant", "initializer"])
def test_weights_that_are_only_stored_as_float16_become_anything(tmp_path: Path, as_: str, precision: str) -> None:
    """A quantizer sees a Cast and leaves the weights behind it as they are."""
    w = weights(8, 4, kind=np.float16)
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    if as_ == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(w)))
    held = {} if as_ == "constant" else {"w": w}
    path = save(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 8])}, {"y": (FLOAT, [1, 4])}, held)
    facts = registry.inspect(path)
    assert facts.precision == "float32"
    data = Dataset({"x": np.random.default_rng(0).normal(size=(30, 1, 8)).astype(np.float32)})
    variant = registry.target("onnx").build(facts, Scheme(precision), data, tmp_path / "c", Reporter())
    assert variant.int8_share == (precision != "float32")
    wanted = data.inputs["x"] @ w.astype(np.float32)
    assert np.abs(answers.of_variant(variant, data)[0] - wanted).max() < 0.05 * np.abs(wanted).max()


def test_weights_that_float16_is_computed_with_are_float16(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), helper.make_node("MatMul", ["h", "w"], ["z"]),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
    ]  # fmt: skip
    held = {"w": weights(8, 4, kind=np.float16)}
    path = save(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 8])}, {"y": (FLOAT, [1, 4])}, held)
    assert registry.inspect(path).precision == "float16"


def sparse(path: Path, places: Any, shape: tuple[int, ...] = (8, 4)) -> Path:
    """MatMul with four weights that are not 0, at these places."""
    values = helper.make_tensor("w", FLOAT, [4], [1.0, -2.0, 3.0, 4.0])
    at = np.asarray(places, np.int64)
    held = helper.make_sparse_tensor(values, helper.make_tensor("at", TensorProto.INT64, at.shape, at.ravel()), shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 4])], sparse_initializer=[held],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8-weights", "int8"])
@pytest.mark.parametrize("places", [[1, 6, 20, 31], [[0, 1], [1, 2], [5, 0], [7, 3]]])
def test_sparse_weights_are_written_out(tmp_path: Path, places: Any, precision: str) -> None:
    facts = registry.inspect(sparse(tmp_path / "m.onnx", places))
    assert (facts.precision, facts.parameters, facts.int8_share) == ("float32", 32, 0.0)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(30, 1, 8)).astype(np.float32)})
    variant = registry.target("onnx").build(facts, Scheme(precision), data, tmp_path / "c", Reporter())
    assert variant.int8_share == (precision != "float32")
    full = np.zeros((8, 4), np.float32)
    full[[0, 1, 5, 7], [1, 2, 0, 3]] = [1.0, -2.0, 3.0, 4.0]
    wanted = data.inputs["x"] @ full
    assert np.abs(answers.of_variant(variant, data)[0] - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("places", "shape"),
    [([1, 6, 20, 32], (8, 4)), ([-1, 6, 20, 31], (8, 4)), ([[0, 1], [1, 2], [5, 0], [8, 3]], (8, 4)),
     ([[0, 1], [1, 2], [5, 0], [7, -1]], (8, 4)), ([1, 6, 20], (8, 4)), ([1, 6, 20, 31], (1 << 20, 1 << 20))],
)  # fmt: skip
def test_sparse_weights_that_point_elsewhere_or_are_endless_are_refused(
    tmp_path: Path, places: Any, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="its sparse weights 'w' are not described soundly"):
        registry.inspect(sparse(tmp_path / "m.onnx", places, shape))


def test_over_two_gigabytes_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = detector(tmp_path / "m.onnx", [1, 3, 8, 8])
    monkeypatch.setattr(inspect, "MAX_PROTO", 100)
    with pytest.raises(InputError, match="bytes in one ONNX file: over 2 GB"):
        registry.inspect(path)
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="m.data", size_threshold=8)
    monkeypatch.setattr(inspect, "MAX_PROTO", path.stat().st_size + 10)
    with pytest.raises(InputError, match="with its external data: over 2 GB"):
        registry.inspect(path)


# ── weights that are no numbers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("external", [False, True])
def test_nan_weights_are_refused_and_infinite_masks_are_not(tmp_path: Path, external: bool) -> None:
    def spoil(value: float) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            tensor = next(t for t in model.graph.initializer if t.name == "dense")
            values = numpy_helper.to_array(tensor).copy()
            values[1, 2] = value
            tensor.CopyFrom(numpy_helper.from_array(values, "dense"))

        return change

    path = detector(tmp_path / "m.onnx", [1, 3, 8, 8], change=spoil(float("nan")))
    if external:
        model = onnx.load(str(path))
        onnx.save_model(model, str(path), save_as_external_data=True, location="m.data", size_threshold=8)
    with pytest.raises(InputError, match="1 of the weights 'dense' are NaN") as caught:
        registry.inspect(path)
    assert "earlier checkpoint" in str(caught.value.hint)
    registry.inspect(detector(tmp_path / "m.onnx", [1, 3, 8, 8], change=spoil(float("-inf"))))


# ── branches that cannot run, weights that were trained for int8 ─────────────────────────────────────────────────────


def two_rates(path: Path) -> Path:
    """Windows of "x" [1, n]: of 64 samples in the one branch, of 32 in the other, as "rate" says."""

    def branch(name: str, width: int) -> Any:
        nodes = [helper.make_node("Gemm", ["x", f"{name}_w"], [f"{name}_y"], name=name)]
        tensors = [numpy_helper.from_array(weights(width, 6), f"{name}_w")]
        outputs = [helper.make_tensor_value_info(f"{name}_y", FLOAT, None)]
        return helper.make_graph(nodes, name, [], outputs, tensors)

    nodes = [
        helper.make_node("Equal", ["rate", "fast"], ["is_fast"]),
        helper.make_node("If", ["is_fast"], ["y"], then_branch=branch("fast", 64), else_branch=branch("slow", 32)),
    ]
    inputs: dict[str, Any] = {"x": [None, None], "rate": (INT64, [])}
    return save(path, nodes, inputs, {"y": None}, {"fast": np.array(16000)})


@pytest.mark.parametrize(("width", "rate", "lost"), [(64, 16000, "else"), (32, 8000, "then")])
def test_a_branch_that_cannot_run_with_the_chosen_shape_is_taken_out(
    tmp_path: Path, width: int, rate: int, lost: str
) -> None:
    path = two_rates(tmp_path / "m.onnx")
    facts = registry.inspect(path, shapes={"x": [1, width]})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 1, width)).astype(np.float32)
    data = Dataset({"x": x, "rate": np.full(24, rate, np.int64)})
    variant = registry.target("onnx").build(facts, Scheme("int8"), data, tmp_path / "c", Reporter())
    (wanted,) = registry.source_answers(facts, variant, data, Reporter())
    (given,) = answers.of_variant(variant, data)
    assert np.abs(wanted.reshape(24, 6) - x[:, 0] @ weights(width, 6)).max() < 1e-4
    assert np.abs(given - wanted).max() < 0.05 * np.abs(wanted).max()
    assert {t.name for t in variant.inputs} == {"x", "rate"}
    start = registry.target("onnx").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert any(f"the {lost} branch of If" in note for note in start.notes)


@pytest.mark.parametrize("axis", [None, 0])
def test_weights_that_were_trained_for_int8_become_int8(tmp_path: Path, axis: int | None) -> None:
    """Their QuantizeLinear stands behind float numbers: a file of float weights that calls itself int8."""
    w = weights(40, 12)
    scale = np.float32(0.01) if axis is None else np.linspace(0.005, 0.02, 40).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], **({} if axis is None else {"axis": axis})),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], **({} if axis is None else {"axis": axis})),
        helper.make_node("Gemm", ["xd", "wd"], ["y"], transB=1),
    ]
    held = {"w": w, "s": np.float32(0.02), "z": np.int8(0), "ws": scale, "wz": np.zeros(scale.shape, np.int8)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 12]}, {"y": [1, 40]}, held)
    facts = registry.inspect(path)
    assert (facts.precision, facts.int8_share) == ("int8", 0)
    data = Dataset({"x": np.random.default_rng(0).normal(size=(20, 1, 12)).astype(np.float32)})
    variant = registry.target("onnx").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    assert variant.int8_share == 1
    (wanted,) = registry.source_answers(facts, variant, data, Reporter())
    assert np.abs(answers.of_variant(variant, data)[0] - wanted).max() < 1e-5


def test_a_model_whose_float_weights_go_by_int8_says_so(tmp_path: Path) -> None:
    path = onnx_graphs.quantized_already(tmp_path / "m.onnx")
    variant = registry.target("onnx").build(registry.inspect(path), Scheme("int8"), None, tmp_path / "c", Reporter())
    assert variant.int8_share == 0
    assert any("100% of its weights are stored as float" in note for note in variant.notes)
