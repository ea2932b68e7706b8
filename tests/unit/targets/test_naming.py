"""Which layers are meant by whole names, by those of the source, and by what a report tells."""

from __future__ import annotations

import pytest

from edgeship.errors import UsageError
from edgeship.targets.naming import Known, chosen, told

NET = (
    Known(0, "Conv", ("a/Conv_out",), "block/a", frozenset({"conv1"})),
    Known(1, "Pad", ("b/Pad_out",), "block/b", listed=False),
    Known(2, "Conv", ("b/Conv_out",), "block/b", frozenset({"conv1"})),
    Known(3, "MatMul", ("c/MatMul_out",), "c"),
    Known(4, "Softmax", ("c/Softmax_out",), "c"),
    Known(5, "Relu", ("c",), "d/act"),
    Known(6, "Reshape", ("flat_out",), "flat", listed=False),
)


def places(*wanted: str) -> list[int]:
    return chosen(wanted, NET, "the float model")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/Conv_out", 0), ("block/a", 0), ("a", 0), ("block/a (Conv)", 0), ("a/Conv_out (Conv)", 0),
        ("block/b", 2),  # a Pad comes of it too, which no search lists
        ("block/b (Pad)", 1), ("flat", 6), ("act", 5), ("d", 5), ("Pad_out", 1),
        ("b/Pad_out", 1), ("act (Relu)", 5), ("b (Conv)", 2),
        ("c", 5),  # a whole name before that of a source, which two have
        ("c (MatMul)", 3), ("c (Softmax)", 4),
    ],
)  # fmt: skip
def test_a_layer_goes_by_each_of_its_names(name: str, place: int) -> None:
    assert places(name) == [place]


@pytest.mark.parametrize("one", NET)
def test_what_is_told_of_a_layer_can_be_given_back(one: Known[int]) -> None:
    assert places(told(one.source, one.operator)) == [one.place]


def test_a_name_that_several_have_is_refused_with_theirs() -> None:
    with pytest.raises(UsageError, match=r"2 layers go by 'conv1': 'a/Conv_out' \(Conv\), 'b/Conv_out' \(Conv\)$") as e:
        places("conv1")
    assert e.value.hint == "give the whole name of the one that is meant, or of each of them"


def test_of_many_the_first_are_named() -> None:
    net = [Known(i, "Add", (f"t{i}",), "sum") for i in range(9)]
    with pytest.raises(UsageError, match=r"9 layers go by 'sum': 't0' \(Add\), .*'t5' \(Add\) and 3 more$"):
        chosen(["sum"], net, "the float model")


@pytest.mark.parametrize(("name", "close"), [("blok/a", "'block/a'"), ("c/Matmul_ou", "'c/MatMul_out'")])
def test_a_name_that_none_has_is_refused_with_those_that_are_close(name: str, close: str) -> None:
    with pytest.raises(UsageError, match=f"no layer is called '{name}'; did you mean .*{close}") as caught:
        places("a", name)
    assert "the tensors that they write in the float model" in str(caught.value.hint)


def test_an_operator_that_the_layer_is_not_names_none() -> None:
    with pytest.raises(UsageError, match="no layer is called"):
        places("block/a (Gemm)")
