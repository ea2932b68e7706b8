"""A TFLite file that leaves its shapes open takes those that are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite.prepare import packed
from tests.simulators import inline
from tests.simulators.models import pair_tflite, tiny_tflite


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def opened(path: Path) -> Path:
    """The file with both axes of every tensor open; all shapes say 1."""
    data = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.shape, tensor.shapeSignature = [1, 1], [-1, -1]
    path.write_bytes(packed(model, len(data)))
    return path


def test_all_shapes_follow_from_those_of_the_inputs(tmp_path: Path) -> None:
    path = opened(pair_tflite(tmp_path / "m.tflite").path)
    with pytest.raises(InputError, match="leaves more than the batch open") as caught:
        registry.inspect(path)
    assert "--shape a=1,224" in str(caught.value.hint)
    facts = registry.inspect(path, shapes={"a": (1, 7), "b": (1, 7)})
    assert [spec.shape for spec in facts.inputs] == [(1, 7), (1, 7)]
    variant = registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())
    assert {spec.shape for spec in (*variant.inputs, *variant.outputs)} == {(1, 7)}
    assert variant.recipe.steps[0] == {
        "do": "fix-shapes", "shapes": {"a": [1, 7], "b": [1, 7]}, "by": "tflite-shapes/1"
    }  # fmt: skip
    rng = np.random.default_rng(0)
    data = Dataset({name: rng.normal(size=(3, 1, 7)).astype(np.float32) for name in "ab"})
    named = dict(zip([spec.name for spec in variant.outputs], answers.of_variant(variant, data), strict=True))
    assert np.allclose(named["sum"], data.inputs["a"] + data.inputs["b"], atol=1e-6)
    for own, again in zip(registry.source_answers(facts, variant, data, Reporter()), named.values(), strict=True):
        assert np.array_equal(own, again)


def test_shapes_that_the_graph_cannot_take_are_a_conversion_error(tmp_path: Path) -> None:
    facts = registry.inspect(opened(pair_tflite(tmp_path / "m.tflite").path), shapes={"a": (1, 7), "b": (1, 5)})
    with pytest.raises(ConversionError, match="its graph cannot take inputs"):
        registry.target("tflite").build(facts, Scheme("float32"), None, tmp_path / "c", Reporter())


@pytest.mark.parametrize(
    ("shapes", "words"), [({"imag": (1, 8, 8, 1)}, "no input 'imag'"), ({"image": (1, 9, 9, 1)}, "cannot be")]
)
def test_a_shape_that_contradicts_the_file_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        registry.inspect(tiny_tflite(tmp_path / "m.tflite").path, shapes=shapes)
