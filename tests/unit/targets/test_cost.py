"""MACs, weights and live activations of graphs, against figures counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeship.errors import UsageError
from edgeship.targets import cost, registry
from edgeship.targets.cost import Operation
from tests.simulators import inline
from tests.simulators.models import pair_tflite, tiny_onnx, tiny_tflite


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline.patch(monkeypatch)


# ── liveness ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def operation(name: str, *reads: str) -> Operation:
    return Operation(name, "Op", (1,), 0, 0, reads, (name,))


def test_a_tensor_lives_until_its_last_reader() -> None:
    chain = [operation("a", "x"), operation("b", "a"), operation("c", "b")]
    sizes = {"x": 10, "a": 100, "b": 50, "c": 1}
    assert cost.peak(chain, sizes, ["x"], ["c"]) == (150, "b")  # a and b; x is gone


def test_a_residual_connection_keeps_its_start_alive() -> None:
    residual = [operation("a", "x"), operation("b", "a"), operation("sum", "x", "b")]
    sizes = {"x": 10, "a": 100, "b": 50, "sum": 10}
    assert cost.peak(residual, sizes, ["x"], ["sum"]) == (160, "b")


def test_outputs_live_to_the_end_and_what_nobody_reads_dies_at_once() -> None:
    early = [operation("out", "x"), operation("unread", "x"), operation("b", "x")]
    sizes = {"x": 1, "out": 20, "unread": 5, "b": 30}
    assert cost.peak(early, sizes, ["x"], ["out", "b"]) == (51, "b")


# ── ONNX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def onnx_model(path: Path, nodes: list[Any], x: list[Any], y: list[Any], held: dict[str, Any]) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, x)], [value("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def counted(path: Path, **more: Any) -> cost.Cost:
    found = cost.count(registry.inspect(path, **more))
    assert found is not None
    return found


def test_convolutions_plain_grouped_and_transposed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "d"], ["b"], group=8, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["b", "t"], ["y"], strides=[2, 2]),
    ]
    held = {"w": zeros(8, 3, 3, 3), "d": zeros(8, 1, 3, 3), "t": zeros(8, 4, 2, 2)}
    found = counted(onnx_model(tmp_path / "m.onnx", nodes, ["N", 3, 16, 16], ["N", 4, 16, 16], held))
    by_name = {o.name: o.macs for o in found.operations}
    assert by_name == {"a": 8 * 256 * 27, "b": 8 * 64 * 9, "y": 8 * 64 * 4 * 4}
    assert found.macs == sum(macs or 0 for macs in by_name.values())
    assert found.weight_bytes == 4 * (216 + 72 + 128)
    assert found.peak == (4 * (3 * 256 + 8 * 256), "a")
    assert found.unknown == 0


def test_products_recurrent_cells_and_einsum(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),  # [5, 1, 6] × [6, 4]
        helper.make_node("LSTM", ["a", "kernel", "recurrent"], ["h"], hidden_size=3),  # 5 steps, one direction
        helper.make_node("Squeeze", ["h", "axis"], ["s"]),
        helper.make_node("Einsum", ["s", "e"], ["y"], equation="tbh,hk->tbk"),
    ]
    held = {
        "w": zeros(6, 4), "kernel": zeros(1, 12, 4), "recurrent": zeros(1, 12, 3), "axis": np.array([1]),
        "e": zeros(3, 2),
    }  # fmt: skip
    found = counted(onnx_model(tmp_path / "m.onnx", nodes, [5, 1, 6], [5, 1, 2], held))
    assert [o.macs for o in found.operations] == [5 * 4 * 6, 5 * (48 + 36), 0, 5 * 1 * 3 * 2]


def test_quantize_and_dequantize_take_no_memory_of_their_own(tmp_path: Path) -> None:
    plain, quantized = (tiny_onnx(tmp_path / f"{p}.onnx", p) for p in ("float32", "int8"))
    small, large = counted(quantized.path), counted(plain.path)
    assert small.macs == large.macs == 64 * 10
    assert small.weight_bytes < large.weight_bytes / 2
    assert small.peak[0] < large.peak[0]


def test_what_only_a_run_tells_is_not_guessed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=1),
        helper.make_node("MatMul", ["w", "f"], ["y"]),
    ]
    found = counted(onnx_model(tmp_path / "m.onnx", nodes, [2, 3], ["a", "b"], {"w": zeros(4, 2)}))
    assert found.unknown == 3
    assert found.operations[-1].macs is None
    assert found.macs == 0


def test_shapes_that_are_given_are_counted_with(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = onnx_model(tmp_path / "m.onnx", [node], ["N", 3, "H", "W"], ["N", 2, "h", "w"], {"w": zeros(2, 3, 1, 1)})
    assert counted(path, shapes={"x": (1, 3, 10, 20)}).macs == 2 * 200 * 3
    with pytest.raises(UsageError, match="cannot be"):
        registry.inspect(path, shapes={"x": (1, 4, 10, 20)})


# ── TFLite ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tflite_classifier(tmp_path: Path) -> None:
    small, large = (counted(tiny_tflite(tmp_path / f"{p}.tflite", p).path) for p in ("int8", "float32"))
    assert small.macs == large.macs == 64 * 10
    assert large.weight_bytes == 4 * (640 + 10) == 4 * sum(o.weights for o in large.operations)
    assert small.weight_bytes == 640 + 4 * 10
    assert large.peak == (4 * (64 + 10), large.operations[0].name)


def test_elementwise_operators_count_nothing_and_both_outputs_live_to_the_end(tmp_path: Path) -> None:
    found = counted(pair_tflite(tmp_path / "m.tflite").path)
    assert found.macs == 0
    assert found.peak[0] == 4 * 4 * 4
