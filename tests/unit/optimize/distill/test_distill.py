"""The distillation step on real Keras models, and what is made of it outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import dataset
from edgeship.errors import ConversionError, UsageError
from edgeship.optimize.distill import make
from edgeship.optimize.distill.plan import Plan
from edgeship.reporter import Reporter
from edgeship.targets import child, registry
from tests.simulators import distilled_models, models
from tests.simulators.commandline import run, run_error, run_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distilled_models.make(tmp_path_factory.mktemp("distilled"))


def answers(made: Path, case: str, stem: str) -> Any:
    return np.load(made / case / f"{stem}_0.npy")


def agreement(made: Path, case: str) -> float:
    before, after = (answers(made, case, stem) for stem in ("before", "after"))
    return float((before.argmax(axis=1) == after.argmax(axis=1)).mean())


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_losses_are_what_the_papers_say(made: Path) -> None:
    """Against numpy: T² × the divergence of softened scores, and cross-entropy; probabilities count as their logits."""
    found = json.loads((made / "losses.json").read_text())
    teacher, student, labels = (np.array(found[key]) for key in ("teacher", "student", "labels"))

    def softmax(z: Any) -> Any:
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    for t in (1.0, 4.0):
        p, q = softmax(teacher / t), softmax(student / t)
        assert found["soft"][str(t)] == pytest.approx(t**2 * (p * np.log(p / q)).sum(axis=1).mean(), rel=1e-4)
    assert found["mixed"] == pytest.approx(found["soft"]["4.0"], rel=1e-4)
    assert found["same"] == pytest.approx(0, abs=1e-5)
    cross_entropy = -np.log(softmax(student)[np.arange(6), labels]).mean()
    assert found["hard"] == pytest.approx(cross_entropy, rel=1e-5)
    assert found["hard-of-probabilities"] == pytest.approx(cross_entropy, rel=1e-4)


def test_one_number_for_class_1_costs_what_two_classes_would(made: Path) -> None:
    soft, of_two, hard, of_two_hard = json.loads((made / "losses.json").read_text())["one-number"]
    assert soft == pytest.approx(of_two, rel=1e-3)
    assert hard == pytest.approx(of_two_hard, rel=1e-3)


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", ["half", "unlabelled"])
def test_a_derived_student_learns_from_its_teacher(made: Path, case: str) -> None:
    """With labels and without. It starts from new weights, so agreement comes from what it was taught."""
    found = distilled_models.outcome(made, case)
    assert found["kinds"] == [["probabilities", "probabilities"]]
    assert found["parameters_after"] < found["parameters_before"] / 2
    assert found["macs_after"] < found["macs_before"] / 2
    assert found["validation_loss"][found["best_epoch"]] < found["validation_loss"][0] / 2
    assert agreement(made, case) > 0.5
    student, teacher = registry.inspect(made / case / "student.keras"), registry.inspect(made / "teacher.keras")
    assert (student.inputs, student.outputs) == (teacher.inputs, teacher.outputs)


def test_labels_teach_one_number_too(made: Path) -> None:
    """A teacher that knows nothing, and labels that alone count: a sigmoid's student without an activation learns."""
    found = distilled_models.outcome(made, "even")
    assert found["kinds"] == [["share", "margin"]]
    assert found["validation_loss"][found["best_epoch"]] < found["validation_loss"][0] / 1.5


def test_depth_leaves_out_repeated_blocks(made: Path) -> None:
    """The stem makes what the others make, so there are four of a kind; a third of them is one."""
    found = distilled_models.outcome(made, "shallow")
    assert found["dropped"] == ["conv0", "conv1", "conv2"]
    facts = registry.inspect(made / "shallow" / "student.keras")
    assert facts.operators["Conv2D"] == 1
    assert facts.parameters == found["parameters_after"]


def test_a_given_student_that_ends_in_logits_learns_from_probabilities_and_features(made: Path) -> None:
    found = distilled_models.outcome(made, "given")
    assert found["kinds"] == [["probabilities", "logits"]]
    after = answers(made, "given", "after")
    assert np.abs(after.sum(axis=1) - 1).max() > 0.1
    assert agreement(made, "given") > 0.5
    assert registry.inspect(made / "given" / "student.keras").operators == {"InputLayer": 1, "Flatten": 1, "Dense": 2}


@pytest.mark.parametrize(
    ("case", "words", "hint"),
    [
        ("other", "the outputs of teacher and student differ: [[10]] and [[3]]", "teacher's inputs and outputs"),
        ("no-layer", "the teacher has no layer 'nowhere'", "stem, conv0, conv1"),
        ("no-match", "layers stem and pool give [8, 8, 16] and [32]", "same height and width"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(made: Path, case: str, words: str, hint: str) -> None:
    found = distilled_models.outcome(made, case)
    assert found["kind"] == "UsageError"
    assert words in found["error"]
    assert hint in found["hint"]


# ── outside ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_student_is_kept_by_plan_data_and_where_it_started(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = registry.inspect(made / "teacher.keras"), registry.inspect(made / "student.keras")
    data = dataset.load(made / "digits.npz", teacher)
    monkeypatch.setattr(child, "run", distilled_models.performed(made, "half"))
    first = make.distill(teacher, Plan(0.5), data, tmp_path, Reporter())
    again = make.distill(teacher, Plan(0.5), data, tmp_path, Reporter())
    given = make.distill(teacher, Plan(), data, tmp_path, Reporter(), student=student)
    assert (first.cached, again.cached, given.cached) == (False, True, False)
    assert first.path == again.path != given.path
    (step,) = given.recipe.steps
    assert (step["do"], step["teacher"], step["from"]) == ("distill", teacher.sha256, student.sha256)
    assert first.recipe.steps[0]["from"] == teacher.sha256


@pytest.mark.parametrize("given", [True, False])
def test_a_student_is_given_or_derived(made: Path, given: bool) -> None:
    teacher = registry.inspect(made / "teacher.keras")
    with pytest.raises(UsageError, match="either given or derived"):
        make.check(teacher, teacher if given else None, Plan(0.5) if given else Plan())


def test_other_formats_are_refused(tmp_path: Path, made: Path) -> None:
    models.tiny_tflite(tmp_path / "m.tflite")
    teacher, other = registry.inspect(made / "teacher.keras"), registry.inspect(tmp_path / "m.tflite")
    with pytest.raises(UsageError, match="distillation takes Keras models, this is tflite"):
        make.check(other, None, Plan(0.5))
    with pytest.raises(UsageError, match="distillation takes Keras models, this is tflite"):
        make.check(teacher, other, Plan())


def test_a_step_that_fails_keeps_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = registry.inspect(made / "teacher.keras")
    data = dataset.load(made / "digits.npz", teacher)
    monkeypatch.setattr(child, "run", distilled_models.performed(made, "other"))
    with pytest.raises(ConversionError, match=r"teacher\.keras: the outputs of teacher and student differ"):
        make.distill(teacher, Plan(0.5), data, tmp_path, Reporter())
    assert list(tmp_path.iterdir()) == []


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_a_student_that_prune_takes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(child, "run", distilled_models.performed(made, "half"))
    words = (
        "model", "distill", str(made / "teacher.keras"), "--width", "0.5", "--data", str(made / "digits.npz"),
        "--output", "small.keras",
    )  # fmt: skip
    data = run_json("model.distill", *words, "--max-drop", "100")
    assert (data["teacher"], data["student"], data["output"]) == (str(made / "teacher.keras"), None, "small.keras")
    assert data["check"]["metric"] == "top1"
    text = run(*words, "--max-drop", "100").stdout
    assert "check       teacher → student: top-1" in text
    assert "times less)  multiply-accumulates a sample" in text
    error = run_error(*words, "--max-drop", "0", exit_code=6)
    assert "the student of" in error["message"]
    recipe = json.loads((tmp_path / "small.keras.recipe.json").read_text())
    assert recipe["steps"][0]["do"] == "distill"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "either given or derived"),
        (("--width", "0"), "a width of 0"),
        (("--width", "0.5", "--alpha", "2"), "weight of the labels: 2 makes no sense"),
        (("--width", "0.5", "--temperature", "0"), "temperature: 0 makes no sense"),
        (("--width", "0.5", "--match-features", ":x"), "names no layers"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = run_error(
        "model", "distill", str(made / "teacher.keras"), "--data", str(made / "digits.npz"), "--output", "s.keras",
        *options, exit_code=2,
    )  # fmt: skip
    assert words in error["message"]
