"""ONNX models that take text: what they answer as variants, and what is left out or put right when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeship.dataset import Dataset
from edgeship.dataset.archive import assemble
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme
from tests.simulators import inline, text_models


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def categories(folder: Path, count: int = 60) -> tuple[ModelFacts, Dataset]:
    facts = registry.inspect(text_models.categories(folder / "m.onnx"))
    return facts, assemble("made", text_models.samples(count), facts.inputs)


def built(facts: ModelFacts, data: Dataset, folder: Path, scheme: Scheme) -> Variant:
    return registry.target("onnx").build(facts, scheme, data, folder, Reporter())


def test_text_is_an_input_beside_numbers(tmp_path: Path) -> None:
    facts, _ = categories(tmp_path)
    assert [(spec.name, spec.dtype, spec.shape) for spec in facts.inputs] == [
        ("kind", "string", (1, 3)), ("numbers", "float32", (1, 6)),
    ]  # fmt: skip


def test_the_engine_answers_to_text_what_onnx_runtime_does(tmp_path: Path) -> None:
    facts, data = categories(tmp_path)
    variant = built(facts, data, tmp_path / "c", Scheme("float32"))
    (got,) = answers.of_variant(variant, data)
    given = text_models.samples(60)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"kind": given["kind"].astype(object), "numbers": given["numbers"]})
    assert np.allclose(got[:, 0], wanted, atol=1e-5)
    assert np.ptp(wanted) > 0.5


@pytest.mark.parametrize("scheme", [Scheme("int8"), Scheme("int8", ranges="entropy"), Scheme("int8-weights")])
def test_the_numbers_behind_text_are_quantized(tmp_path: Path, scheme: Scheme) -> None:
    facts, data = categories(tmp_path)
    variant = built(facts, data, tmp_path / "c", scheme)
    (wanted,) = registry.source_answers(facts, variant, data, Reporter())
    (got,) = answers.of_variant(variant, data)
    assert variant.int8_share == 1
    assert (got.argmax(axis=-1) == wanted.argmax(axis=-1)).mean() > 0.95


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("locale", [None, "en_US", "C.UTF-8"])
def test_a_pipeline_of_text_runs_on_a_machine_without_its_locale(
    tmp_path: Path, locale: str | None, *, zipped: bool
) -> None:
    facts = registry.inspect(text_models.topics(tmp_path / "m.onnx", zipped=zipped, locale=locale))
    assert [(spec.name, spec.shape) for spec in facts.outputs] == [("shares", (1, 3))]
    assert "an output of text is left out: topic" in facts.notes
    texts, topic = text_models.texts(60)
    data = assemble("made", {"text": texts}, facts.inputs)
    variant = built(facts, data, tmp_path / "c", Scheme("int8"))
    assert [spec.name for spec in variant.outputs] == ["shares"]
    (got,) = answers.of_variant(variant, data)
    assert (got.reshape(60, 3).argmax(axis=1) == topic).all()


def test_a_locale_with_rules_of_its_own_stays(tmp_path: Path) -> None:
    path = text_models.topics(tmp_path / "m.onnx", locale="tr_TR")
    facts = registry.inspect(path)
    data = assemble("made", {"text": text_models.texts(4)[0]}, facts.inputs)
    with pytest.raises(ConversionError, match="tr_TR"):  # which is not installed where tests run
        built(facts, data, tmp_path / "c", Scheme("float32"))


def test_a_model_that_answers_with_text_alone_is_refused(tmp_path: Path) -> None:
    model = onnx.load(str(text_models.topics(tmp_path / "m.onnx")))
    del model.graph.output[1:]
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(InputError, match="output 'topic' is text, and there is no other") as caught:
        registry.inspect(tmp_path / "m.onnx")
    assert "the numbers that the text is chosen by" in str(caught.value.hint)


def test_tflite_takes_none(tmp_path: Path) -> None:
    facts, data = categories(tmp_path)
    with pytest.raises(UsageError, match="input 'kind' is text, which only ONNX models may take") as caught:
        registry.target("tflite").build(facts, Scheme("float32"), data, tmp_path / "c", Reporter())
    assert caught.value.hint == "stay with ONNX"
