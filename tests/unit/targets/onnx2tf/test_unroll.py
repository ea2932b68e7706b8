"""Recurrent operators written out compute what ONNX Runtime's own do; what cannot be written out is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeship.errors import ConversionError
from edgeship.targets.onnx2tf import unroll

STEPS, BATCH, WIDTH, HIDDEN = 7, 2, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(kind: str, *, states: bool = False, bias: bool = True, steps: int = STEPS, **attributes: Any) -> Any:
    """A model of one recurrent operator with all its outputs, seeded."""
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(3)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN
    held = {
        "w": rng.normal(0, 0.5, (directions, rows, WIDTH)), "r": rng.normal(0, 0.5, (directions, rows, HIDDEN)),
        "b": rng.normal(0, 0.5, (directions, 2 * rows)),
    }  # fmt: skip
    names = ["y", "h", "c"][: 3 if kind == "LSTM" else 2]
    inputs = {"x": [steps, BATCH, WIDTH]}
    if states:
        inputs |= {f"{name}0": [directions, BATCH, HIDDEN] for name in names[1:]}
    given = ["x", "w", "r", "b" if bias else "", "", *list(inputs)[1:]]
    node = helper.make_node(kind, given, names, name="cell", hidden_size=HIDDEN, **attributes)
    shapes = {"y": [steps, directions, BATCH, HIDDEN]}
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(k, 1, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, 1, shapes.get(k, [directions, BATCH, HIDDEN])) for k in names],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model: Any) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(4)
    return list(session.run(None, {i.name: rng.normal(0, 1, i.shape).astype(np.float32) for i in session.get_inputs()}))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("LSTM", {}), ("GRU", {"linear_before_reset": 0}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})],
)
def test_every_output_is_that_of_the_operator(
    kind: str, attributes: dict[str, Any], direction: str, states: bool
) -> None:
    import onnx

    model = recurrent(kind, states=states, direction=direction, **attributes)
    expected = run(model)
    unroll.unroll(model)
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & set(GATES)
    for a, b in zip(expected, run(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_step_and_no_bias_are_no_exception() -> None:
    model = recurrent("LSTM", steps=1, bias=False)
    expected = run(model)
    unroll.unroll(model)
    for a, b in zip(expected, run(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: recurrent("LSTM", steps=600), "it runs over 600 steps, 512 are the limit"),
        (lambda: recurrent("LSTM", clip=3.0), "it has peepholes, a coupled gate, a clip"),
        (lambda: recurrent("RNN", activations=["Relu"]), "its activations are not the usual ones"),
    ],
)
def test_what_cannot_be_written_out_is_named(model: Any, reason: str) -> None:
    with pytest.raises(ConversionError, match=f"'cell' cannot become plain operators: {reason}") as caught:
        unroll.unroll(model())
    assert "stay with ONNX" in str(caught.value.hint)
