"""Samples that processes share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.optimize.search import store
from edgeship.targets.base import calibration_of


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    data = Dataset(
        {"a/b": x, "c": x.astype(np.int32)}, np.arange(4, dtype=np.int32), x[:, :1], {"dark": x[:, 0] > 3}
    )  # fmt: skip
    found = store.put(data, tmp_path).load()
    assert found.sha256 == data.sha256
    assert list(found.inputs) == ["a/b", "c"]
    assert store.put(Dataset({"a": x}), tmp_path).load().labels is None
    labels = np.arange(4, dtype=np.int32)
    for one in (labels, labels[::-1].copy()):  # of the same inputs
        found = store.put(Dataset({"a": x}, one), tmp_path).load()
        assert found.labels is not None
        assert found.labels.tolist() == one.tolist()


def test_how_they_were_made_of_files_comes_along_for_the_recipe(tmp_path: Path) -> None:
    plain = Dataset({"a": np.zeros((4, 3), np.float32)})
    for said in (None, {"kind": "images", "mean": [0.5]}, {"kind": "images", "mean": [0.4]}):
        found = store.put(replace(plain, preparation=said), tmp_path).load()
        assert found.preparation == said
        assert calibration_of(found)[1] == calibration_of(replace(plain, preparation=said))[1]


def test_samples_that_were_changed_are_not_used(tmp_path: Path) -> None:
    stored = store.put(Dataset({"a": np.zeros((4, 3), np.float32)}), tmp_path)
    (tmp_path / stored.key / "input0.npy").write_bytes(b"other")
    with pytest.raises(ConversionError, match="the samples are gone"):
        stored.load()
