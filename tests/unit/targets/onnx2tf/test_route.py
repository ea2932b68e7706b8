"""ONNX to TFLite, with a program in the place of onnx2tf: what it gets wrong does not get out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship import environments
from edgeship.errors import ConversionError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.runtime import engine
from edgeship.targets import registry, routes
from edgeship.targets.export import Exporter
from edgeship.targets.onnx2tf import finish
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import tiny_onnx, tiny_tflite

#: The names that the route gives to inputs and outputs.
PLAIN = [["image", "model_input0"]], [["probabilities", "model_output0"]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    return registry.inspect(tiny_onnx(tmp_path / "m.onnx", "float32", dynamic=True).path)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A Python whose onnx2tf is this body of `convert(**given)`; "" where it has none."""
    folder.mkdir(exist_ok=True)
    if body:
        (folder / "onnx2tf.py").write_text(f"import os, shutil, sys\ndef convert(**given):\n    {body}\n")
    python = folder / "python"
    run = f"import runpy, sys; sys.path.insert(0, {str(folder)!r}); runpy.run_path(sys.argv[1], run_name='__main__')"
    run = run.replace("runpy.run_path", "script = sys.argv.pop(1); runpy.run_path").replace("(sys.argv[1],", "(script,")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{run}" "$4" "$5"\n')
    python.chmod(0o755)
    monkeypatch.setattr(environments, "python", lambda name: python)
    monkeypatch.setattr(environments, "missing", lambda name: None)


def writes(path: Path) -> str:
    """A body that writes this file, under the name that onnx2tf gives it."""
    return (
        f"out = given['output_folder_path']; os.makedirs(out); "
        f"shutil.copy({str(path)!r}, os.path.join(out, 'start_float32.tflite'))"
    )


def converted(tmp_path: Path, *, bad: bool = False) -> Path:
    """The tiny model as onnx2tf would write it."""
    path = tiny_tflite(tmp_path / "made.tflite", "float32", bad=bad).path
    path.write_bytes(finish.restored(path.read_bytes(), PLAIN[0], PLAIN[1], {"model_output0": [1, 10]}))
    return path


def _turned() -> tuple[list[list[str]], list[list[str]]]:
    return [[b, a] for a, b in PLAIN[0]], [[b, a] for a, b in PLAIN[1]]


def test_a_model_arrives_with_its_own_names_and_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts
) -> None:
    told = "assert given['keep_shape_absolutely_input_names'] == ['model_input0'], 'the layout is not passed on'; "
    stand_in(tmp_path / "env", monkeypatch, told + writes(converted(tmp_path)))
    path = routes.float_model(facts, "tflite", tmp_path / "c", Reporter())
    found = registry.inspect(path)
    assert [(t.name, t.shape) for t in found.inputs] == [(t.name, t.shape) for t in facts.inputs]
    assert [(t.name, t.shape) for t in found.outputs] == [(t.name, t.shape) for t in facts.outputs]
    monkeypatch.setattr(environments, "python", lambda name: tmp_path / "gone")
    assert routes.float_model(facts, "tflite", tmp_path / "c", Reporter()) == path, "it is kept"


def test_the_recipe_says_how_it_came_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts) -> None:
    stand_in(tmp_path / "env", monkeypatch, writes(converted(tmp_path)))
    variant = registry.target("tflite").build(facts, Scheme("dynamic"), None, tmp_path / "c", Reporter())
    assert variant.recipe.steps[0] == {
        "do": "onnx2tf", "to": "tflite", "batch": 1, "layout": "kept", "by": "onnx2tf-route/4"
    }  # fmt: skip
    assert variant.recipe.versions["onnx2tf"] == "2.6.9"
    assert (variant.int8_share, variant.inputs[0].name) == (1.0, "image")


def test_a_model_that_answers_otherwise_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts
) -> None:
    stand_in(tmp_path / "env", monkeypatch, writes(converted(tmp_path, bad=True)))
    for _ in range(2):
        with pytest.raises(
            ConversionError, match=r"computes something else: its output 'probabilities' differs by \d+"
        ) as e:
            routes.float_model(facts, "tflite", tmp_path / "c", Reporter())
        assert "stay with ONNX" in str(e.value.hint)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise NotImplementedError('op Det is not known')", "onnx2tf: NotImplementedError: op Det is not known"),
        ("print('ERROR: no rule for Det'); sys.exit(1)", "onnx2tf: it gave up: ERROR: no rule for Det"),
        ("print('done, in a way')", "onnx2tf: it wrote no file: done, in a way"),
        ("os.kill(os.getpid(), 11)", "convert_script was killed by SIGSEGV"),
        ("bytearray(1 << 46)", "onnx2tf needs more memory than its limit"),
    ],
)
def test_what_goes_wrong_in_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts, body: str, words: str
) -> None:
    stand_in(tmp_path / "env", monkeypatch, body)
    with pytest.raises(ConversionError, match=words):
        routes.float_model(facts, "tflite", tmp_path / "c", Reporter())


def test_an_environment_without_it_says_how_to_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts
) -> None:
    stand_in(tmp_path / "env", monkeypatch, "")
    with pytest.raises(UsageError, match="onnx2tf cannot be imported: No module named 'onnx2tf'") as caught:
        routes.float_model(facts, "tflite", tmp_path / "c", Reporter())
    assert caught.value.hint == "edgeship setup onnx2tf"


def test_without_the_environment_a_plan_says_what_to_type_and_nothing_is_tried(
    tmp_path: Path, facts: ModelFacts
) -> None:
    for source in ("onnx", "torch"):
        reason = routes.unreachable(source, "tflite")
        assert reason is not None
        assert "edgeship setup onnx2tf makes it" in reason
        assert registry.target("tflite").reachable(source, "int8") == reason
    with pytest.raises(UsageError, match="not set up") as caught:
        registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert caught.value.hint == "edgeship setup onnx2tf"
    assert not (tmp_path / "c").exists()


def test_a_quantized_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "env", monkeypatch, "")
    facts = registry.inspect(tiny_onnx(tmp_path / "m.onnx", "int8").path)
    with pytest.raises(UsageError, match="it is int8 already, and onnx2tf takes float32 models"):
        routes.float_model(facts, "tflite", tmp_path / "c", Reporter())


def test_pytorch_goes_by_way_of_onnx(monkeypatch: pytest.MonkeyPatch, facts: ModelFacts, tmp_path: Path) -> None:
    stand_in(tmp_path / "env", monkeypatch, writes(converted(tmp_path)))
    monkeypatch.setattr(Exporter, "exported", lambda self, source, *_: source.path)
    program = replace(facts, format="torch")
    assert [step["do"] for step in routes.route("torch", "tflite").steps(program)] == ["torch-export", "onnx2tf"]
    assert registry.inspect(routes.float_model(program, "tflite", tmp_path / "c", Reporter())).inputs[0].name == "image"
    asked: list[object] = []
    monkeypatch.setattr(Exporter, "prepare", lambda self, *_, formats: asked.append(formats))
    routes.prepare(program, [], tmp_path, ["tflite"])
    assert asked == [["onnx"]]


def test_a_new_pytorch_makes_it_again(monkeypatch: pytest.MonkeyPatch, facts: ModelFacts, tmp_path: Path) -> None:
    """What it wrote as ONNX decides the TFLite file too."""
    stand_in(tmp_path / "env", monkeypatch, writes(converted(tmp_path)))
    monkeypatch.setattr(Exporter, "exported", lambda self, source, *_: source.path)
    made: dict[str, Path] = {}
    for version in ("2.9.0", "2.10.0", "2.9.0"):
        monkeypatch.setattr(Exporter, "versions", lambda self, version=version: {"torch": version})
        path = routes.float_model(replace(facts, format="torch"), "tflite", tmp_path / "c", Reporter())
        assert made.setdefault(version, path) == path
    assert made["2.9.0"] != made["2.10.0"]


# ── the comparison ───────────────────────────────────────────────────────────────────────────────────────────────────


def f32(values: list[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def answers(*values: object) -> list[dict[str, NDArray[Any]]]:
    return [{"y": np.asarray(value)} for value in values]


def test_noise_of_rounding_passes() -> None:
    a = [f32([1, 2]), f32([2, 1]), f32([1, 2])]
    assert 0 < finish.compare(answers(*a), answers(*(x + np.float32(1e-4) for x in a))) < finish.MOST


def test_an_offset_that_all_samples_share_hides_nothing() -> None:
    a = [f32([1000.0, 1000.1]), f32([1000.1, 1000.0]), f32([1000.0, 1000.1])]
    b = [f32([1000.1, 1000.0]), f32([1000.0, 1000.1]), f32([1000.1, 1000.0])]
    assert np.allclose(a[0], b[0], rtol=2e-4)
    with pytest.raises(ConversionError, match="'y' differs by"):
        finish.compare(answers(*a), answers(*b))


def test_a_state_that_survives_a_run_is_named() -> None:
    a = [f32([1]), f32([2]), f32([1])]
    with pytest.raises(ConversionError, match="from the second run on: something of a run stays for the next"):
        finish.compare(answers(*a), answers(a[0], a[1] + 1, a[2] + 1))


def test_the_first_sample_is_run_again_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: ModelFacts
) -> None:
    """A model that answers rightly whatever it sees for the first time may still keep something of it."""

    class Remembers:
        def __init__(self, *args: Any, **named: Any) -> None:
            self.model, self.seen = real(*args, **named), set[bytes]()
            self.inputs, self.outputs, self.notes = self.model.inputs, self.model.outputs, self.model.notes
            self.close = self.model.close

        def run(self, *inputs: bytes | memoryview) -> list[bytes]:
            given = b"".join(map(bytes, inputs))
            again = given in self.seen
            self.seen.add(given)
            return [out[::-1] if again else out for out in self.model.run(*inputs)]

    real = engine.load
    stand_in(tmp_path / "env", monkeypatch, writes(converted(tmp_path)))
    monkeypatch.setattr(engine, "load", Remembers)
    with pytest.raises(ConversionError, match=r"onnx2tf made of it|from the second run on"):
        routes.float_model(facts, "tflite", tmp_path / "c", Reporter())


def test_shapes_integers_and_what_is_no_number_count() -> None:
    with pytest.raises(ConversionError, match=r"made the output 'y' \[1, 2\], it is \[2\]"):
        finish.compare(answers(np.zeros(2)), answers(np.zeros((1, 2))))
    with pytest.raises(ConversionError, match="'y' differs"):
        finish.compare(answers(np.arange(8)), answers(np.arange(8)[::-1]))
    with pytest.raises(ConversionError, match="'y' differs"):
        finish.compare(answers(f32([1, np.nan])), answers(f32([1, 2])))
    assert finish.compare(answers(f32([1, -np.inf])), answers(f32([1, -np.inf]))) == 0


def test_what_lacks_an_input_or_output_is_refused(tmp_path: Path) -> None:
    data = converted(tmp_path).read_bytes()
    given = _turned()
    with pytest.raises(ConversionError, match="lacks the input 'text'"):
        finish.restored(data, [["model_input7", "text"]], given[1], {})
    with pytest.raises(ConversionError, match="onnx2tf made 1 outputs of its 0"):
        finish.restored(data, given[0], [], {})
