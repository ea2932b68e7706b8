"""What is odd about two sets of samples: another scale is refused, the rest is said."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.dataset import Dataset, check_scale, doubts, doubts_alone
from edgeship.dataset.samples import Array
from edgeship.errors import InputError


def pixels(seed: int, n: int = 60) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8, 1)).astype(np.float32)


def pair(one: Array, other: Array) -> tuple[str, ...]:
    check_scale(Dataset({"image": one}), Dataset({"image": other}))
    return doubts(Dataset({"image": one}), Dataset({"image": other}))


def test_two_sets_of_one_preparation_raise_no_doubt() -> None:
    assert pair(pixels(0), pixels(1)) == ()
    assert pair(pixels(0) / 127.5 - 1, pixels(1) / 127.5 - 1) == ()
    assert pair(np.zeros((60, 1, 3), np.float32) + np.arange(60)[:, None, None].astype(np.float32),
                200 - np.arange(60)[:, None, None].astype(np.float32).repeat(3, axis=2)) == ()  # fmt: skip


def test_another_scale_is_refused_with_both_ranges() -> None:
    with pytest.raises(InputError, match="calibration data is 0 to 255, evaluation data 0 to 1") as caught:
        pair(pixels(0), pixels(1) / 255)
    assert "the same way" in str(caught.value.hint)
    with pytest.raises(InputError, match="calibration data is -1 to 1, evaluation data 0 to 255"):
        pair(pixels(0) / 127.5 - 1, pixels(1))
    (doubt,) = doubts(Dataset({"image": pixels(0) / 100}), Dataset({"image": pixels(1)}))
    assert doubt.endswith(
        "calibration data is 0 to 2.55, evaluation data 0 to 255: were they prepared in the same way?"
    )


def test_alone_the_bytes_of_pictures_are_odd_unless_the_model_scales_them() -> None:
    (doubt,) = doubts_alone(Dataset({"image": pixels(0)}))
    assert doubt == (
        "input 'image': calibration data is whole numbers from 0 to 255, as a file has them: is that what the model "
        "was trained on, or 0 to 1, or -1 to 1?"
    )
    assert doubts_alone(Dataset({"image": pixels(0)}), {"Rescaling": 1, "Conv2D": 3}) == ()
    for fine in (
        pixels(0) / 255, pixels(0) - 128, pixels(0) * 2, pixels(0)[:, 0, :, 0, 0],
        (pixels(0) > 100).astype(np.float32), pixels(0).astype(np.uint8),
    ):  # fmt: skip
        assert doubts_alone(Dataset({"image": fine})) == ()


def test_alone_one_class_and_few_samples_are_said_too() -> None:
    data = Dataset({"image": pixels(0, 9) / 255}, np.full(9, 2, np.int32))
    assert doubts_alone(data) == (
        "calibration data has 9 samples only: 200 to 1,000 are usual",
        "all 9 samples of the calibration data are of class 2",
    )


def test_one_outlier_does_not_decide() -> None:
    other = pixels(1)
    other[3, 0, 2, 2, 0] = 1e6
    assert pair(pixels(0), other) == ()


def test_zeros_against_values_are_refused_and_zeros_against_zeros_are_not() -> None:
    zeros = np.zeros((60, 1, 4), np.float32)
    with pytest.raises(InputError, match="is 0 to 0, evaluation data 1 to 1"):
        pair(zeros, zeros + 1)
    assert pair(zeros, zeros) == ("60 of 60 evaluation samples are in the calibration data too",)


def test_signs_on_one_side_only_are_odd() -> None:
    (doubt,) = pair(pixels(0) / 255, pixels(1) / 127.5 - 1)
    assert doubt == (
        "input 'image': calibration data is 0 to 1, evaluation data -1 to 1: were they prepared in the same way?"
    )


def test_integers_may_be_of_any_range() -> None:
    tokens = np.ones((60, 1, 4), np.int32)
    tokens[:, 0, 0] = np.arange(60)
    assert pair(tokens, tokens * 1000) == ()


def test_one_class_and_few_samples_are_said() -> None:
    one = Dataset({"x": pixels(0)}, np.full(60, 3, np.int32))
    few = Dataset({"x": pixels(1, 5)}, np.arange(5, dtype=np.int32))
    assert doubts(one, few) == (
        "all 60 samples of the calibration data are of class 3",
        "evaluation data has 5 samples only: 200 to 1,000 are usual",
    )


def test_samples_in_both_sets_are_counted() -> None:
    known = pixels(0)
    both = np.concatenate([pixels(1), known[:7]])
    assert pair(known, both) == ("7 of 67 evaluation samples are in the calibration data too",)
