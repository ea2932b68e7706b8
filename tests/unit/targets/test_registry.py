"""Any file finds its reader by its bytes, any format its target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, source, tiny_onnx, tiny_tflite


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def test_the_targets_are_those_of_the_profiles() -> None:
    assert set(registry.targets()) == {"tflite", "onnx"}
    assert all(target.name == name for name, target in registry.targets().items())
    with pytest.raises(UsageError, match="no target builds the format 'tensorrt'") as caught:
        registry.target("tensorrt")
    assert "tflite, onnx" in str(caught.value.hint)


@pytest.mark.parametrize(("maker", "format_name"), [(tiny_tflite, "tflite"), (tiny_onnx, "onnx")])
def test_a_file_is_read_by_what_it_is(tmp_path: Path, maker: Any, format_name: str) -> None:
    assert registry.inspect(maker(tmp_path / f"m.{format_name}").path).format == format_name


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.keras"])
def test_missing_empty_and_tiny_files_are_told_apart(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no such file"):
        registry.inspect(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match="the file is empty"):
        registry.inspect(tmp_path / name)
    (tmp_path / name).write_bytes(b"8 bytes!")
    with pytest.raises(InputError, match=name):
        registry.inspect(tmp_path / name)


def test_an_8_byte_tflite_file_is_refused_before_any_interpreter_sees_it(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\x00\x00\x00\x00TFL3")
    with pytest.raises(InputError, match="not a sound TFLite file: 8 bytes, cut off right behind the mark TFL3"):
        registry.inspect(tmp_path / "m.tflite")


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_model_without_inputs_or_outputs_is_refused(tmp_path: Path, part: str) -> None:
    model = onnx.load(tiny_onnx(tmp_path / "m.onnx").path)
    if part == "input":
        name = model.graph.input[0].name
        held = onnx.numpy_helper.from_array(np.zeros((1, *SHAPE), np.float32), name)
        model.graph.initializer.append(held)
    model.graph.ClearField(part)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(InputError, match=f"bad.onnx: .* has no {part}s"):
        registry.inspect(tmp_path / "bad.onnx")


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_a_source_answers_in_the_engine(tmp_path: Path, format_name: str) -> None:
    maker: Any = {"tflite": tiny_tflite, "onnx": tiny_onnx}[format_name]
    facts = registry.inspect(maker(tmp_path / f"m.{format_name}", "float32", dynamic=True).path)
    x, labels = samples(30)
    data = Dataset({"image": x.reshape(30, *SHAPE)}, labels)
    variant = registry.target(format_name).build(facts, Scheme("int8"), data, tmp_path / "c", Reporter())
    registry.prepare(facts, [data], tmp_path / "c")  # nothing to do for these
    (answer,) = registry.source_answers(facts, variant, data, Reporter())
    assert answer.shape == (30, 1, 10)
    assert np.allclose(answer[:, 0], source(x), atol=1e-4)


def test_answers_are_kept_by_model_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = registry.inspect(tiny_tflite(tmp_path / "m.tflite").path)
    variant = registry.target("tflite").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    x, labels = samples(10)
    data = Dataset({"image": x.reshape(10, *SHAPE)}, labels)
    (first,) = answers.of_variant(variant, data)
    monkeypatch.setattr(answers, "_run", None)
    (again,) = answers.of_variant(variant, Dataset(data.inputs))
    assert np.array_equal(first, again)


def test_data_of_another_model_is_an_error(tmp_path: Path) -> None:
    facts = registry.inspect(tiny_tflite(tmp_path / "m.tflite").path)
    variant = registry.target("tflite").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
    with pytest.raises(ConversionError, match="the samples lack image; they have other"):
        answers.of_variant(variant, Dataset({"other": np.zeros((2, 3), np.float32)}))


def test_what_the_engine_notes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: ModelFacts = registry.inspect(tiny_tflite(tmp_path / "m.tflite").path)
    plain = answers.load
    told: list[str] = []

    class Told(Reporter):
        def note(self, text: str) -> None:
            told.append(text)

    def noting(*arguments: Any) -> answers.Loaded:
        loaded = plain(*arguments)
        return answers.Loaded(loaded.inputs, loaded.outputs, ("optimizations disabled: a reason",))

    monkeypatch.setattr(answers, "load", noting)
    variant = registry.target("tflite").build(facts, Scheme("int8"), None, tmp_path / "c", Told())
    assert variant.notes == ("optimizations disabled: a reason",)
    assert "tflite int8: optimizations disabled: a reason" in told[0]


def test_outputs_that_differ_from_the_sources_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = registry.inspect(tiny_tflite(tmp_path / "m.tflite").path)
    monkeypatch.setattr(answers, "load", lambda *_: answers.Loaded(facts.inputs, (), ()))
    with pytest.raises(ConversionError, match="its outputs are"):
        registry.target("tflite").build(facts, Scheme("int8"), None, tmp_path / "c", Reporter())
