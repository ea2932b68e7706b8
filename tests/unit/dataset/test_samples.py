"""The record of samples: draws, selections, and a digest of the content alone."""

from __future__ import annotations

import numpy as np

from edgeship.dataset import Dataset


def test_a_draw_is_seeded_ordered_and_without_repeats() -> None:
    data = Dataset({"x": np.arange(100)}, np.arange(100, dtype=np.int32))
    once, again, other = data.take(10, 1), data.take(10, 1), data.take(10, 2)
    assert once.inputs["x"].tolist() == again.inputs["x"].tolist() != other.inputs["x"].tolist()
    assert len(set(once.inputs["x"].tolist())) == 10
    assert (np.diff(once.inputs["x"]) > 0).all()
    assert once.labels is not None
    assert once.labels.tolist() == once.inputs["x"].tolist()
    assert data.take(100, 1) is data
    assert Dataset({"x": np.arange(3)}).take(1, 0).labels is None


def test_the_hash_is_of_the_content() -> None:
    a = Dataset({"x": np.arange(4, dtype=np.float32)}, np.arange(4, dtype=np.int32))
    assert a.sha256 == Dataset({"x": np.arange(4, dtype=np.float32)}, np.arange(4, dtype=np.int32)).sha256
    others = [
        Dataset({"y": a.inputs["x"]}, a.labels), Dataset({"x": a.inputs["x"]}),
        Dataset({"x": a.inputs["x"] + 1}, a.labels), Dataset({"x": a.inputs["x"].reshape(4, 1)}, a.labels),
    ]  # fmt: skip
    assert len({a.sha256, *(other.sha256 for other in others)}) == 5
    assert a.inputs_sha256 == others[1].inputs_sha256 == others[1].sha256


def test_a_selection_keeps_targets_and_slices_in_step() -> None:
    values = np.arange(4, dtype=np.float32)
    data = Dataset({"x": values}, targets=values * 10, slices={"dark": np.array([True, False, True, False])})
    chosen = data.select([3, 0])
    assert chosen.targets is not None
    assert chosen.targets.tolist() == [30, 0]
    assert chosen.slices["dark"].tolist() == [False, True]
    assert len({data.sha256, Dataset({"x": values}).sha256, Dataset({"x": values}, targets=values).sha256}) == 3


def test_a_selection_keeps_what_is_said_of_all_samples() -> None:
    data = Dataset(
        {"x": np.arange(3)}, groups=np.array([4, 4, 9], np.int32), classes=("a", "b"), preparation={"kind": "images"}
    )
    chosen = data.select([2, 0])
    assert chosen.groups is not None
    assert chosen.groups.tolist() == [9, 4]
    assert (chosen.classes, chosen.preparation) == (("a", "b"), {"kind": "images"})
