"""Samples that processes share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.optimize.search import store


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


def test_samples_that_were_changed_are_not_used(tmp_path: Path) -> None:
    stored = store.put(Dataset({"a": np.zeros((4, 3), np.float32)}), tmp_path)
    (tmp_path / stored.key / "input0.npy").write_bytes(b"other")
    with pytest.raises(ConversionError, match="the samples are gone"):
        stored.load()
