"""A variant is loaded in the runtime package of a device, which lives in an environment of its own."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, UsageError
from edgeship.targets.tflite import loadtest
from tests.simulators.models import tiny_tflite
from tests.simulators.tflite_file import newer
from tests.simulators.tflite_graphs import mlp

HERE = loadtest.Environment(Path(sys.executable), "ai_edge_litert")


def python(path: Path, body: str) -> loadtest.Environment:
    """A program in the place of a Python."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return loadtest.Environment(path)


def test_what_loads_says_what_it_is(tmp_path: Path) -> None:
    found = loadtest.load(HERE, mlp(tmp_path / "m.tflite"))
    assert (found.package, [t.shape for t in found.inputs], [t.shape for t in found.outputs]) == (
        "ai_edge_litert", [(1, 12)], [(1, 4)]
    )  # fmt: skip
    assert found.inputs[0].dtype == "float32"


def test_samples_are_answered_in_the_types_of_the_file_by_name(tmp_path: Path) -> None:
    """With a signature and without: then inputs and outputs go by the names of their tensors."""
    from edgeship.targets import answers

    for maker in (mlp, lambda path: tiny_tflite(path, "int8", signature=False).path):
        path = maker(tmp_path / "m.tflite")
        here = answers.load("tflite", path, "m")
        (spec,) = here.inputs
        data = Dataset({spec.name: np.random.default_rng(3).normal(size=(5, *spec.shape)).astype(np.float32)})
        found = loadtest.load(HERE, path, loadtest.Samples(data, here.inputs, here.outputs))
        assert found.answers is not None
        assert [a.shape for a in found.answers] == [(5, *t.shape) for t in here.outputs]
        assert np.ptp(found.answers[0], axis=0).max() > 0, "other samples, other answers"
        other = loadtest.Samples(Dataset({"elsewhere": data.inputs[spec.name]}),
                                 (replace(spec, name="elsewhere"),), here.outputs)  # fmt: skip
        assert loadtest.load(HERE, path, other).answers is None


def test_an_operator_that_is_too_new_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="knows no version 99 of the operator FULLY_CONNECTED") as caught:
        loadtest.load(HERE, newer(mlp(tmp_path / "m.tflite"), "FULLY_CONNECTED", 99))
    assert "newer than the runtime" in str(caught.value.hint)


def test_a_damaged_file_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.tflite")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConversionError, match=r"m\.tflite: ai_edge_litert"):
        loadtest.load(HERE, path)


def test_an_environment_that_is_not_there_or_not_sound_says_how_to_make_it(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.tflite")
    for environment, words in (
        (loadtest.Environment(tmp_path / "python"), "no Python there"),
        (loadtest.Environment(Path(sys.executable), "tflite_runtime"), "No module named 'tflite_runtime'"),
        (python(tmp_path / "silent", "exit 3"), "no answer from tflite_runtime"),
        (python(tmp_path / "odd", "echo '[1]'"), "no answer from tflite_runtime"),
    ):
        with pytest.raises(UsageError, match=words.replace("[", r"\[")) as caught:
            loadtest.load(environment, path)
        assert "edgeship setup tflite-runtime" in str(caught.value.hint)


def test_a_runtime_that_dies_or_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mlp(tmp_path / "m.tflite")
    with pytest.raises(ConversionError, match="killed by signal 11"):
        loadtest.load(python(tmp_path / "dies", "kill -SEGV $$"), path)
    monkeypatch.setattr(loadtest, "SECONDS", 0.2)
    with pytest.raises(ConversionError, match="did not end within"):
        loadtest.load(python(tmp_path / "hangs", "exec sleep 30"), path)
