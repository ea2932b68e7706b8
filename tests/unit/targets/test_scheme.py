from __future__ import annotations

import json

import pytest

from edgeship.errors import UsageError
from edgeship.targets.scheme import PRECISIONS, Scheme


@pytest.mark.parametrize(
    "scheme",
    [*map(Scheme, PRECISIONS), Scheme("int8", "entropy", per_channel=False, symmetric=True, endpoints="float32"),
     Scheme("int8", keep=("a", "b")), Scheme("int8", rounding="fitted", keep=("a",), weights_only=("b", "c"))],
)  # fmt: skip
def test_it_comes_back_from_json_as_it_was(scheme: Scheme) -> None:
    assert Scheme.parse(json.loads(json.dumps(scheme.encode()))) == scheme


def test_what_is_as_by_default_is_not_written() -> None:
    assert Scheme("int8").encode() == {"precision": "int8"}
    assert Scheme("int8", "mse", keep=("x",)).encode() == {"precision": "int8", "ranges": "mse", "keep": ["x"]}
    assert Scheme("int8-weights", rounding="fitted").encode() == {"precision": "int8-weights", "rounding": "fitted"}
    assert Scheme("int8", weights_only=("x",)).encode() == {"precision": "int8", "weights_only": ["x"]}


def test_its_name_says_what_is_not_as_usual() -> None:
    assert Scheme("int8").name == "int8"
    assert Scheme("int8", "mse", per_channel=False, keep=("x", "y")).name == "int8 mse per-tensor, 2 layers float32"
    assert Scheme("int8", symmetric=True, endpoints="float32").name == "int8 symmetric float32 in and out"
    mixed = Scheme("int8", "mse", rounding="fitted", keep=("x",), weights_only=("y", "z"))
    assert mixed.name == "int8 mse fitted, 2 layers int8 weights, 1 layer float32"


def test_only_calibrated_precisions_take_data() -> None:
    assert [p for p in PRECISIONS if Scheme(p).calibrated] == ["int8", "int16x8"]
    assert [p for p in PRECISIONS if Scheme(p).needs_data] == ["int8", "int16x8"]
    fitted = Scheme("int8-weights", rounding="fitted")
    assert (fitted.calibrated, fitted.needs_data) == (False, True)


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        (Scheme("dynamic", rounding="fitted"), "weights of dynamic are not fitted"),
        (Scheme("int8", per_channel=False, rounding="fitted"), "with one scale a tensor are not fitted"),
        (Scheme("int8-weights", weights_only=("a",)), "no int8 activations that layers could go without"),
    ],
)
def test_what_a_precision_has_no_use_for_is_said(scheme: Scheme, said: str) -> None:
    assert scheme.idle is not None
    assert said in scheme.idle[0]
    assert Scheme("int8", rounding="fitted", weights_only=("a",)).idle is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"precision": "int9"}, "unknown precision 'int9'; did you mean 'int8'"),
        ({"precision": "int8", "ranges": "percentil"}, "did you mean 'percentile'"),
        ({"precision": "int8", "endpoints": "uint8"}, "unknown type of inputs and outputs"),
        ({"precision": "int8", "ranges": "distribution"}, "unknown choice of ranges 'distribution'"),  # 53 % accuracy
        ({"precision": "int8", "rounding": "fited"}, "unknown rounding of weights 'fited'; did you mean 'fitted'"),
        ({"precision": "int8", "bits": 4}, "not a scheme"),
        ({}, "not a scheme"),
    ],
)
def test_words_that_are_not_known_are_refused(data: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Scheme.parse(data)
