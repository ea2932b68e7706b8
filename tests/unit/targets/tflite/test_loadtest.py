"""A variant is loaded in the runtime package of a device, which lives in an environment of its own."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import ConversionError, UsageError
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.scheme import PRECISIONS, Scheme
from edgeship.targets.tflite import loadtest
from tests.simulators import inline, real_environment
from tests.simulators.tflite_graphs import mlp, samples

HERE = loadtest.Environment(Path(sys.executable), "ai_edge_litert")


def newer(path: Path, version: int) -> Path:
    """A file whose FULLY_CONNECTED is of a version that is yet to come."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(bytearray(mlp(path).read_bytes()), 0)
    for code in model.operatorCodes:
        code.version = version
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


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


def test_an_operator_that_is_too_new_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="knows no version 99 of the operator FULLY_CONNECTED") as caught:
        loadtest.load(HERE, newer(tmp_path / "m.tflite", 99))
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


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_variant_loads_in_tflite_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:  # fmt: skip
    real_environment.use("tflite-runtime", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)
    target = registry.target("tflite")
    facts = target.inspect(mlp(tmp_path / "m.tflite"))
    variant = target.build(facts, Scheme(precision), samples(20), tmp_path / "c", Reporter())
    environment = loadtest.environment()
    assert loadtest.load(environment, variant.path).version.startswith("2.")
    with pytest.raises(ConversionError, match="knows no version 12 of the operator FULLY_CONNECTED"):
        loadtest.load(environment, newer(tmp_path / "new.tflite", 12))
