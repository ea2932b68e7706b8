"""The user's data in three parts that share no sample."""

from __future__ import annotations

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.optimize.tuning import parts


def data(count: int, classes: int | None = 4) -> Dataset:
    x = np.arange(count, dtype=np.float32).reshape(count, 1, 1)
    return Dataset({"x": x}, None if classes is None else np.arange(count, dtype=np.int32) // -(-count // classes))


def members(part: Dataset) -> set[int]:
    return set(part.inputs["x"].ravel().astype(int).tolist())


@pytest.mark.parametrize(("count", "classes"), [(20, 4), (103, 4), (1000, None)])
def test_no_sample_is_in_two_parts_and_none_is_lost(count: int, classes: int | None) -> None:
    divided = parts.divide(data(count, classes), None, 0)
    found = [members(part) for part in (divided.train, divided.validation, divided.evaluation)]
    assert set.union(*found) == set(range(count))
    assert sum(map(len, found)) == count
    assert len(divided.evaluation) == round(0.2 * count)


def test_each_class_is_held_out_in_proportion() -> None:
    divided = parts.divide(data(400), None, 0)
    assert divided.evaluation.labels is not None
    assert np.bincount(divided.evaluation.labels).tolist() == [20, 20, 20, 20]


def test_the_seed_decides() -> None:
    drawn = [members(parts.divide(data(100), None, seed).evaluation) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_evaluation_data_of_its_own_leaves_all_for_training() -> None:
    own = data(7)
    divided = parts.divide(data(100), own, 0)
    assert divided.evaluation is own
    assert len(divided.train) + len(divided.validation) == 100


@pytest.mark.parametrize("count", [1, 19])
def test_too_few_samples_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"few\.npz: {count} samples? cannot be trained on") as caught:
        parts.divide(data(count, 1), None, 0, "few.npz")
    assert "at least 20" in str(caught.value.hint)
