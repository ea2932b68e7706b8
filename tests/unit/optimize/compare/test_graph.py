"""Which layers belong together and where an error comes from: pure decisions."""

from __future__ import annotations

from typing import Any

from edgeship.optimize.compare.graph import Graph, added, labels, match


def graph(*layers: tuple[str, str, list[str], list[int] | None], outputs: tuple[str, ...] = ()) -> Graph:
    items: list[dict[str, Any]] = [
        {"name": n, "operator": o, "node": "", "inputs": i, "outputs": [n], "shape": s, "weights": 0, "read": n}
        for n, o, i, s in layers
    ]
    return Graph.parse({"layers": items, "inputs": ["x"], "outputs": list(outputs) or [layers[-1][0]]})


def test_layers_of_one_name_belong_together_unless_their_sizes_differ() -> None:
    a = graph(("c", "Conv", ["x"], [1, 8, 4, 4]), ("y", "Relu", ["c"], [1, 8, 4, 4]))
    b = graph(("c", "Conv", ["x"], [1, 9, 4, 4]), ("y", "Relu", ["c"], [1, 8, 4, 4]))
    assert match(a, b) == {"y": "y"}


def test_layers_that_were_renamed_are_found_by_order_kind_and_size() -> None:
    a = graph(("a1", "Conv", ["x"], [1, 8, 4, 4]), ("a2", "Conv", ["a1"], [1, 8, 4, 4]), ("a3", "Gemm", ["a2"], [1, 5]))
    b = graph(
        ("b1", "QLinearConv", ["x"], [1, 8, 4, 4]), ("b2", "QLinearConv", ["b1"], [1, 8, 4, 4]),
        ("new", "Reshape", ["b2"], [1, 128]), ("b3", "Gemm", ["new"], [1, 5]),
    )  # fmt: skip
    assert match(a, b) == {"a1": "b1", "a2": "b2", "a3": "b3"}


def test_shapes_that_are_not_known_match_by_name_alone() -> None:
    a = graph(("p", "Loop", ["x"], None), ("q", "Relu", ["p"], None))
    b = graph(("p", "Loop", ["x"], None), ("r", "Relu", ["p"], None))
    assert match(a, b) == {"p": "p"}


def test_error_is_added_where_it_first_appears_and_not_where_it_is_passed_on() -> None:
    g = graph(
        ("clean", "Conv", ["x"], [1]), ("bad", "Conv", ["clean"], [1]), ("unmeasured", "Shape", ["bad"], [1]),
        ("passed", "Relu", ["unmeasured"], [1]), ("joined", "Add", ["passed", "clean"], [1]),
    )  # fmt: skip
    extra = added(g, {"clean": 0.01, "bad": 0.5, "passed": 0.5, "joined": 0.3})
    assert extra == {"clean": 0.01, "bad": 0.49, "passed": 0.0, "joined": 0.0}


def test_short_names_stay_different_from_each_other() -> None:
    long = graph(
        ("m/seq/conv/Relu;m/seq/conv/BiasAdd", "CONV_2D", ["x"], [1]), ("m/seq/dense/MatMul:0", "FC", ["x"], [1]),
    )  # fmt: skip
    assert list(labels(long).values()) == ["conv/Relu", "dense/MatMul"]
    same = graph(("a/b;1", "X", ["x"], [1]), ("a/b;2", "X", ["x"], [1]))
    assert list(labels(same).values()) == ["a/b;1", "a/b;2"]
