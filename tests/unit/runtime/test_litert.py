"""What is particular to libLiteRt.so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship.runtime import litert
from edgeship.runtime.errors import EngineError
from edgeship.runtime.litert import LiteRtModel
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.models import library, pair_tflite, samples, tiny_tflite

LIBRARY = str(library("tflite"))

_LOAD = """
import sys
from edgeship.runtime import engine
from edgeship.runtime.errors import EngineError
try:
    model = engine.load("tflite", sys.argv[1], sys.argv[2])
    model.run(*[bytes(spec.nbytes) for spec in model.inputs])
    print("ran")
except EngineError as error:
    print("refused")
"""


def test_a_model_without_signature_runs(tmp_path: Path) -> None:
    tiny = tiny_tflite(tmp_path / "m", signature=False)
    model = LiteRtModel(LIBRARY, str(tiny.path), 1)
    raw = tiny.quantize(samples(1)[0])
    assert model.run(raw) == tiny.reference(raw)
    assert model.inputs == tiny.inputs
    model.close()


def test_the_error_of_a_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nothing\.tflite is refused: .*cannot be read"):
        LiteRtModel(LIBRARY, str(tmp_path / "nothing.tflite"), 1)


def test_an_output_that_changes_its_shape_is_an_error(tmp_path: Path) -> None:
    tiny = pair_tflite(tmp_path / "m")
    model = LiteRtModel(LIBRARY, str(tiny.path), 1)
    model.outputs = (tiny.outputs[1], TensorSpec("sum", "float32", (1, 5)))  # as if it had been so at the start
    model._known = b""
    with pytest.raises(EngineError, match=r"output 'sum' changed its shape from \[1, 5\] to \[1, 4\]"):
        model.run(bytes(16), bytes(16))
    model.close()


def test_a_run_that_fails_says_what_the_library_says(tmp_path: Path) -> None:
    model = LiteRtModel(LIBRARY, str(pair_tflite(tmp_path / "m").path), 1)
    model._arguments = (*model._arguments[:2], 1, *model._arguments[3:])  # one input too few
    with pytest.raises(EngineError, match=r"LiteRtRunCompiledModel: .*status \d+"):
        model.run(bytes(16), bytes(16))
    model.close()


def test_layouts_that_cannot_be_had_are_an_error(tmp_path: Path) -> None:
    model = LiteRtModel(LIBRARY, str(pair_tflite(tmp_path / "m").path), 1)
    model.outputs = model.outputs[:1]  # the library is asked for one layout of two
    with pytest.raises(EngineError, match="LiteRtGetCompiledModelOutputTensorLayouts"):
        model._compare_shapes()
    model.close()


def test_an_unknown_element_type_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "_DTYPES", {})
    with pytest.raises(EngineError, match="tensor 'image' has element type 9, which is not a plain number"):
        LiteRtModel(LIBRARY, str(tiny_tflite(tmp_path / "m").path), 1)


def test_loading_and_closing_many_times_keeps_nothing(tmp_path: Path) -> None:
    tiny = tiny_tflite(tmp_path / "m")
    for _ in range(50):
        LiteRtModel(LIBRARY, str(tiny.path), 1).close()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        LiteRtModel(LIBRARY, str(tiny.path), 1).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.slow
def test_damaged_files_end_at_worst_the_process_that_loads_them(tmp_path: Path) -> None:
    """Why nothing unverified is loaded in a process that matters: some of these crash the library itself."""
    whole = tiny_tflite(tmp_path / "m").path.read_bytes()
    rng = np.random.default_rng(3)
    damaged = [whole[: len(whole) * part // 6] for part in range(6)]
    for _ in range(14):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for content in damaged:
        (tmp_path / "d").write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", _LOAD, LIBRARY, str(tmp_path / "d")], capture_output=True, text=True, check=False
        )
        assert done.stdout in ("ran\n", "refused\n") or done.returncode < 0, done.stderr
