"""One table says which source reaches which format; sources answer in their framework or in the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import environments
from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.reporter import Reporter
from edgeship.targets import registry, routes
from edgeship.targets.onnx.target import OnnxTarget
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite.target import TfliteTarget
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, source, tiny_onnx, tiny_tflite

MAKERS: dict[str, Any] = {"tflite": tiny_tflite, "onnx": tiny_onnx}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def test_every_target_has_a_route_from_its_own_format_and_the_file_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in registry.targets():
        facts = registry.inspect(MAKERS[name](tmp_path / f"m.{name}", "float32").path)
        assert routes.float_model(facts, name, tmp_path / "c", Reporter()) == facts.path
        assert routes.route(name, name).steps(facts) == ()
        assert not routes.prepares(facts)


def test_an_open_batch_stands_in_the_recipe(tmp_path: Path) -> None:
    facts = registry.inspect(tiny_tflite(tmp_path / "m.tflite", "float32", dynamic=True).path)
    closed = {"do": "fix-shapes", "batch": 1, "by": "tflite-runnable/1"}
    assert routes.route("tflite", "tflite").steps(facts) == (closed,)


def test_where_there_is_no_route_the_sources_that_have_one_are_named(tmp_path: Path) -> None:
    facts = replace(registry.inspect(tiny_onnx(tmp_path / "m.onnx").path), format="tensorrt")
    with pytest.raises(UsageError, match="no conversion from tensorrt to onnx: it is built from keras, "):
        routes.float_model(facts, "onnx", tmp_path / "c", Reporter())
    assert routes.unreachable("keras", "tflite") is None


@pytest.mark.parametrize("name", ["tflite", "onnx"])
def test_a_source_that_the_engine_runs_answers_there_by_name(tmp_path: Path, name: str) -> None:
    facts = registry.inspect(MAKERS[name](tmp_path / f"m.{name}", "float32", dynamic=True).path)
    x, _ = samples(20)
    named = routes.answers(facts, Dataset({"image": x.reshape(20, *SHAPE)}), tmp_path / "c", Reporter())
    assert list(named) == ["probabilities"]
    assert named["probabilities"].shape == (20, 1, 10)
    assert np.allclose(named["probabilities"][:, 0], source(x), atol=1e-4)


def test_what_a_framework_is_started_for_goes_to_the_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Fake:
        formats = ("onnx",)

        def answers(self, source: Any, data: Any, folder: Path) -> dict[str, Any]:
            asked.append("answers")
            return {"y": np.zeros((2, 1, 3), np.float32)}

        def prepare(self, source: Any, data: Any, folder: Path, *, formats: Any) -> None:
            asked.append(f"prepare {formats}")

    monkeypatch.setattr(routes, "FRAMEWORKS", {"fake": Fake()})
    facts = replace(registry.inspect(tiny_onnx(tmp_path / "m.onnx").path), format="fake")
    assert routes.prepares(facts)
    routes.prepare(facts, [], tmp_path)
    routes.prepare(facts, [], tmp_path, ["tflite", "onnx"])
    assert list(routes.answers(facts, Dataset({}), tmp_path, Reporter())) == ["y"]
    assert asked == ["prepare None", "prepare ['onnx']", "answers"]


def test_a_reason_is_told_once_and_what_helps_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [("tflite int8", "no tool"), ("onnx float16", "slower"), ("tflite float16", "no tool")]
    assert routes.told(refused) == "tflite int8, tflite float16: no tool; onnx float16: slower"
    assert routes.remedy("onnx", ("onnx", "tflite")) == "edgeship setup onnx2tf"
    assert routes.remedy("keras", ("onnx", "tflite")) is None
    assert routes.remedy("tflite", ("onnx",)) is None
    monkeypatch.setattr(environments, "missing", lambda name: None)
    assert routes.remedy("onnx", ("tflite",)) is None


def test_every_step_of_a_recipe_says_which_version_of_it_made_the_file(tmp_path: Path) -> None:
    """An edgeship that makes another file of the same source must not find the one that an older one made."""
    float_tflite, float_onnx = (
        registry.inspect(MAKERS[name](tmp_path / f"m.{name}", "float32", dynamic=True).path)
        for name in ("tflite", "onnx")
    )
    sources = [float_tflite, float_onnx]
    sources += [replace(float_tflite, format="keras"), replace(float_tflite, format="savedmodel")]
    sources.append(replace(float_tflite, operators={"WHILE": 1}, open_shapes=False, details={"sparse": True}))
    sources += [replace(one, details={"shapes": {"image": [1, 64]}}) for one in (float_tflite, float_onnx)]
    for facts in sources:
        for target in (TfliteTarget(), OnnxTarget()):
            if routes.unreachable(facts.format, target.name) is not None:
                continue
            for precision in ("float32", "int8-weights"):
                _, recipe = target.plan(facts, Scheme(precision), None)
                assert recipe.steps, (facts.format, target.name)
                assert all("by" in step for step in recipe.steps), recipe.steps
                assert recipe.versions, "the tools that made it"
    for facts in (float_tflite, float_onnx):
        variant = registry.target(facts.format).as_is(facts, tmp_path / "c", Reporter())
        assert all("by" in step for step in variant.recipe.steps)
        assert variant.recipe.versions
