from __future__ import annotations

import json

import pytest

from edgeship.errors import UsageError
from edgeship.targets.scheme import PRECISIONS, Scheme


@pytest.mark.parametrize(
    "scheme",
    [*map(Scheme, PRECISIONS), Scheme("int8", "entropy", per_channel=False, symmetric=True, endpoints="float32"),
     Scheme("int8", keep=("a", "b"))],
)  # fmt: skip
def test_it_comes_back_from_json_as_it_was(scheme: Scheme) -> None:
    assert Scheme.parse(json.loads(json.dumps(scheme.encode()))) == scheme


def test_what_is_as_by_default_is_not_written() -> None:
    assert Scheme("int8").encode() == {"precision": "int8"}
    assert Scheme("int8", "mse", keep=("x",)).encode() == {"precision": "int8", "ranges": "mse", "keep": ["x"]}


def test_its_name_says_what_is_not_as_usual() -> None:
    assert Scheme("int8").name == "int8"
    assert Scheme("int8", "mse", per_channel=False, keep=("x", "y")).name == "int8 mse per-tensor, 2 layers float32"
    assert Scheme("int8", symmetric=True, endpoints="float32").name == "int8 symmetric float32 in and out"


def test_only_calibrated_precisions_take_data() -> None:
    assert [p for p in PRECISIONS if Scheme(p).calibrated] == ["int8", "int16x8"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"precision": "int9"}, "unknown precision 'int9'; did you mean 'int8'"),
        ({"precision": "int8", "ranges": "percentil"}, "did you mean 'percentile'"),
        ({"precision": "int8", "endpoints": "uint8"}, "unknown type of inputs and outputs"),
        ({"precision": "int8", "ranges": "distribution"}, "unknown choice of ranges 'distribution'"),  # 53 % accuracy
        ({"precision": "int8", "bits": 4}, "not a scheme"),
        ({}, "not a scheme"),
    ],
)
def test_words_that_are_not_known_are_refused(data: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Scheme.parse(data)
