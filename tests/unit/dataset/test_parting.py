"""Holding samples out: disjoint, whole, of every class alike, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.dataset import Dataset, split
from edgeship.errors import InputError


def data(labels: list[int] | None = None, n: int = 100, groups: list[int] | None = None) -> Dataset:
    x = np.arange(len(labels) if labels else n, dtype=np.float32)
    return Dataset(
        {"x": x}, None if labels is None else np.array(labels, np.int32), x * 2, {"even": x % 2 == 0},
        None if groups is None else np.array(groups, np.int32),
    )  # fmt: skip


def ids(part: Dataset) -> list[int]:
    return [int(value) for value in part.inputs["x"]]


def counts(part: Dataset) -> list[int]:
    assert part.labels is not None
    return [int(count) for count in np.bincount(part.labels)]


def test_the_parts_are_disjoint_whole_and_in_order() -> None:
    calibration, evaluation = split(data())
    assert len(evaluation) == 20
    assert sorted(ids(calibration) + ids(evaluation)) == list(range(100))
    assert ids(calibration) == sorted(ids(calibration))
    assert ids(evaluation) == sorted(ids(evaluation))
    assert evaluation.targets is not None
    assert evaluation.targets.tolist() == [2 * i for i in ids(evaluation)]
    assert evaluation.slices["even"].tolist() == [i % 2 == 0 for i in ids(evaluation)]


def test_a_seed_parts_alike_and_another_does_not() -> None:
    assert ids(split(data())[1]) == ids(split(data())[1])
    assert ids(split(data())[1]) != ids(split(data(), seed=1)[1])


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_every_class_is_parted_alike_though_the_data_is_sorted(fraction: float) -> None:
    calibration, evaluation = split(data([0] * 50 + [1] * 30 + [2] * 20), fraction)
    assert counts(evaluation) == [round(fraction * n) for n in (50, 30, 20)]
    assert len(calibration) + len(evaluation) == 100


def test_many_small_classes_add_up() -> None:
    calibration, evaluation = split(data([i // 2 for i in range(100)]))
    assert len(evaluation) == 20
    assert calibration.labels is not None
    assert set(calibration.labels.tolist()) == set(range(50)), "one of two samples of each class is for calibration"


def test_samples_of_a_group_stay_together() -> None:
    groups = [i // 4 for i in range(100)]
    calibration, evaluation = split(data([i // 50 for i in range(100)], groups=groups))
    assert len(evaluation) == 20
    assert not {i // 4 for i in ids(calibration)} & {i // 4 for i in ids(evaluation)}
    assert sum(i < 50 for i in ids(evaluation)) in (8, 12)


def test_too_few_samples_are_refused() -> None:
    for n in (1, 9):
        with pytest.raises(InputError, match=f"too few samples to hold 20% of them out: {n}") as caught:
            split(data(n=n))
        assert "at least 10 samples" in str(caught.value.hint)
    assert [len(part) for part in split(data(n=10))] == [8, 2]


def test_one_recording_cannot_be_parted() -> None:
    with pytest.raises(InputError, match="100 samples in 1 groups cannot be parted"):
        split(data(groups=[7] * 100))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_is_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(data(), fraction)


def test_all_of_one_class_is_parted_too() -> None:
    masks: list[NDArray[np.float32]] = [part.inputs["x"] for part in split(data([3] * 40))]
    assert [len(mask) for mask in masks] == [32, 8]
