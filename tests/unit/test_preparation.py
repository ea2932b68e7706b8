"""What a person states of files is data: strict keys, and the way to JSON and back loses nothing."""

from __future__ import annotations

import json

import pytest

from edgeship.errors import UsageError
from edgeship.preparation import Preparation, from_flags


def test_it_goes_to_json_and_back() -> None:
    stated = Preparation(resize="pad", normalize="0..1", mean=(0.5, 0.25, 0.125), std=(2.0,), sample_rate=16000)
    assert Preparation.parse(json.loads(json.dumps(stated.encode()))) == stated
    assert Preparation.parse(Preparation().encode()) == Preparation() == Preparation.parse({})


def test_flags_replace_single_keys() -> None:
    base = Preparation(resize="squash", normalize="0..1")
    assert from_flags(["normalize=-1..1", "std=0.5,0.25,1", "crop=0.875", "sample_rate=8000"], base) == Preparation(
        resize="squash", normalize="-1..1", std=(0.5, 0.25, 1.0), crop=0.875, sample_rate=8000
    )
    assert from_flags([]) == Preparation()


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("resize", "'resize' is not KEY=VALUE"),
        ("rezise=crop", "unknown preparation 'rezise'; did you mean 'resize'?"),
        ("resize=cut", "resize must be one of crop, squash, pad, none"),
        ("crop=2", "crop must be a number from 0.1 to 1"),
        ("mean=a,b", "mean must be a list of finite numbers"),
        ("std=nan", "std must be a list of finite numbers"),
        ("sample_rate=1e4", "sample_rate must be a whole number"),
        ("normalize=", "normalize must be one of"),
    ],
)
def test_a_wrong_flag_is_refused_with_what_is_known(pair: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        from_flags([pair])
