"""What a training made is found again only where everything is the same that decides it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.model import ModelFacts, digest
from edgeship.optimize.search.evaluate import Limits
from edgeship.optimize.tuning import keeping
from edgeship.optimize.tuning.settings import Settings
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import child
from edgeship.targets.base import Recipe

INPUT, OUTPUT = TensorSpec("x", "float32", (1, 3)), TensorSpec("y", "float32", (1, 2))


@pytest.fixture
def source(tmp_path: Path) -> ModelFacts:
    path = tmp_path / "m.keras"
    path.write_bytes(b"net")
    return ModelFacts(path, "keras", *digest([path]), "float32", (INPUT,), (OUTPUT,), {}, 1)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Each training: the files of samples that it was given. What it makes tells its number."""
    given: list[list[str]] = []

    def run(step: str, request: Mapping[str, Any], folder: Path, **_: Any) -> dict[str, Any]:
        given.append(sorted(path.name for path in folder.glob("*.npy")))
        (folder / "made.keras").write_bytes(b"made %d" % len(given))
        np.save(folder / "after_0.npy", np.zeros((4, 2), np.float32))
        return {"epochs": 1, "best_epoch": 1}

    monkeypatch.setattr(child, "run", run)
    return given


def data(**more: Any) -> Dataset:
    x = np.arange(120, dtype=np.float32).reshape(40, 1, 3)
    return Dataset({"x": x}, np.arange(40, dtype=np.int32) % 2, **more)


def tuned(source: ModelFacts, samples: Dataset, folder: Path, evaluation: Dataset | None = None) -> keeping.Tuned:
    order = keeping.Order(
        "prune", "step", source, {}, {"plan": {}, "by": "prune/1"}, Settings(), "made.keras", ("after",)
    )
    return keeping.run(order, samples, evaluation, folder, Reporter())


def test_the_same_is_found_again(source: ModelFacts, trainings: list[list[str]], tmp_path: Path) -> None:
    first, second = (tuned(source, data(), tmp_path / "c") for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert first.path.read_bytes() == second.path.read_bytes() == b"made 1"
    assert len(trainings) == 1
    assert "train_0.npy" in trainings[0]


def test_groups_that_part_the_data_otherwise_train_another_model(
    source: ModelFacts, trainings: list[list[str]], tmp_path: Path
) -> None:
    """Samples of one recording stay together: with evaluation data apart, groups still decide what is trained on."""
    judged = data().take(10, 1)
    plain = tuned(source, data(), tmp_path / "c", judged)
    grouped = tuned(source, data(groups=np.arange(40, dtype=np.int32) // 8), tmp_path / "c", judged)
    assert plain.recipe.calibration is not None
    assert grouped.recipe.calibration is not None
    assert plain.recipe.calibration["samples"] != grouped.recipe.calibration["samples"]
    assert grouped.path.read_bytes() == b"made 2"


def test_the_recipe_is_that_of_this_data_and_of_this_source(
    source: ModelFacts, trainings: list[list[str]], tmp_path: Path
) -> None:
    said = {"kind": "images", "mean": [0.5]}
    assert "preparation" not in (tuned(source, data(), tmp_path / "c").recipe.calibration or {})
    assert (tuned(source, data(preparation=said), tmp_path / "c").recipe.calibration or {})["preparation"] == said
    before = Recipe("a" * 64, "keras", "keras", "float32", ({"do": "distill", "made": source.sha256},))
    keeping.recipe_path(source.path).write_bytes(before.canonical())
    assert [step["do"] for step in tuned(source, data(), tmp_path / "c").recipe.steps] == ["distill", "prune"]
    other = replace(before, steps=({"do": "distill", "made": "0" * 64},))  # of another file of this name
    keeping.recipe_path(source.path).write_bytes(other.canonical())
    assert [step["do"] for step in tuned(source, data(), tmp_path / "c").recipe.steps] == ["prune"]


def test_a_source_that_is_trained_on_meanwhile_is_refused(
    source: ModelFacts, trainings: list[list[str]], tmp_path: Path
) -> None:
    source.path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"m\.keras: it changed"):
        tuned(source, data(), tmp_path / "c")
    assert not trainings


def test_what_is_delivered_is_whole(source: ModelFacts, trainings: list[list[str]], tmp_path: Path) -> None:
    made = tuned(source, data(), tmp_path / "c")
    keeping.deliver(made, tmp_path / "out.keras")
    assert (tmp_path / "out.keras").read_bytes() == b"made 1"
    recipe = json.loads((tmp_path / "out.keras.recipe.json").read_bytes())
    assert recipe["steps"][-1]["made"] == made.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "m.keras", "out.keras", "out.keras.recipe.json"]


def judged(tmp_path: Path, before: Any, after: Any, **truth: Any) -> Any:
    """What an evaluation of these answers finds, with a limit of 5 points."""
    evaluation = Dataset({"x": np.zeros((len(before), 1, 3), np.float32)}, **truth)
    answers = {"before": (np.asarray(before, np.float32),), "after": (np.asarray(after, np.float32),)}
    recipe = Recipe("a" * 64, "keras", "keras", "float32", ())
    made = keeping.Tuned(tmp_path, recipe, tmp_path, "a" * 64, {}, answers, evaluation, False)
    return made.judged("before", "after", Limits(5.0, 100.0))


def test_a_regression_is_judged_by_its_error_and_not_by_its_largest_number(tmp_path: Path) -> None:
    """Two numbers that are almost equal: which one is larger says nothing of the error."""
    targets = np.linspace(0, 1, 40, dtype=np.float32)[:, None].repeat(2, 1)
    before, after = targets + np.array([0.001, 0], np.float32), targets + np.array([0, 0.001], np.float32)
    found = judged(tmp_path, before, after, targets=targets)
    assert (found.metric, found.passed) == ("mae", True)
    assert not judged(tmp_path, before, after + 0.2, targets=targets).passed
    assert judged(tmp_path, before, after, targets=targets[:, :1]).metric == "agreement"  # of something else


def test_one_number_of_two_classes_is_judged_by_labels(tmp_path: Path) -> None:
    """Shares that move and stay on their side of a half are as right as before."""
    labels = np.arange(40, dtype=np.int32) % 2
    found = judged(tmp_path, labels[:, None] * 0.98 + 0.01, labels[:, None] * 0.4 + 0.3, labels=labels)
    assert (found.metric, found.float_value, found.variant_value) == ("top1", 1.0, 1.0)
    assert judged(tmp_path, labels[:, None], labels[:, None], labels=labels + 1).metric == "agreement"


def test_each_slice_is_judged_alone(tmp_path: Path) -> None:
    labels, mask = np.zeros(40, np.int32), np.arange(40) < 4
    right, wrong = np.array([[1, 0]] * 40), np.where(mask[:, None], np.array([0, 1]), np.array([1, 0]))
    found = judged(tmp_path, right, wrong, labels=labels, slices={"night": mask})
    assert found.worst_slice is not None
    assert (found.worst_slice.name, found.worst_slice.drop) == ("night", 100.0)
