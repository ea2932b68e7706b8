"""The pruning step on real Keras models, and what is made of it outside: kept, judged, handed over."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import dataset
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize.prune import make
from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.tuning import keeping
from edgeship.reporter import Reporter, Step
from edgeship.targets import child, registry
from edgeship.targets.base import Recipe
from tests.simulators import pruned_models
from tests.simulators.commandline import run, run_error, run_json

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Budget:
    max_drop: float = 5.0
    max_class_drop: float = 100.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pruned_models.make(tmp_path_factory.mktemp("pruned"))


@pytest.fixture
def digits(made: Path) -> tuple[ModelFacts, Dataset]:
    facts = registry.inspect(made / "digits.keras")
    return facts, dataset.load(made / "digits.npz", facts)


def layers(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    return {layer["config"]["name"]: layer["config"] for layer in config["config"]["layers"]}


def top1(made: Path, case: str, stem: str) -> float:
    labels = np.load(made / case / "evaluation_labels.npy")
    (scores,) = pruned_models.answers(made, case, stem)
    return float((scores.argmax(axis=1) == labels).mean())


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", ["dead", "dead-unlabelled"])
def test_channels_that_nobody_reads_are_the_ones_that_go(made: Path, case: str) -> None:
    """Half of each group is read with zeros: cutting that half changes no answer; any other choice or cut would."""
    facts = pruned_models.outcome(made, case)
    assert {tuple(g["layers"]): (g["before"], g["after"]) for g in facts["groups"]} == {
        ("stem", "point", "excite"): (8, 4), ("squeeze",): (8, 4), ("separable",): (8, 4), ("dense",): (8, 4),
    }  # fmt: skip
    (before,), (cut,) = (pruned_models.answers(made, case, stem) for stem in ("before", "cut"))
    assert np.ptp(before, axis=0).max() > 0.01
    assert np.allclose(before, cut, atol=1e-5)
    assert facts["macs_before"] / facts["macs_after"] > 2


def test_gates_of_recurrent_layers_and_heads_of_attention_go_where_nobody_reads_them(made: Path) -> None:
    """As above: half of what each layer makes is read with zeros, at the next step and by the next layer."""
    groups = {
        "gates": {("both (forward)",): (8, 4), ("both (backward)",): (8, 4), ("gru",): (8, 4),
                  ("summed (forward)", "summed (backward)"): (8, 4)},
        "heads": {("mha (heads)",): (8, 4), ("table", "mha", "narrow"): (8, 4), ("wide",): (16, 8)},
    }  # fmt: skip
    for case, wanted in groups.items():
        facts = pruned_models.outcome(made, case)
        assert {tuple(g["layers"]): (g["before"], g["after"]) for g in facts["groups"]} == wanted
        (before,), (cut,) = (pruned_models.answers(made, case, stem) for stem in ("before", "cut"))
        assert np.ptp(before, axis=0).max() > 0.01
        assert np.allclose(before, cut, atol=1e-5)
        assert facts["macs_before"] / facts["macs_after"] > 1.9
        small = registry.inspect(made / case / "pruned.keras")
        assert small.parameters == facts["parameters_after"] < 0.6 * facts["parameters_before"]
    heads = layers(made / "heads" / "pruned.keras")
    assert [heads["mha"]["num_heads"], heads["table"]["output_dim"]] == [4, 4]
    assert layers(made / "gates" / "pruned.keras")["both"]["backward_layer"]["config"]["units"] == 4


def test_the_pruned_file_is_an_ordinary_dense_model(made: Path) -> None:
    facts = registry.inspect(made / "dead" / "pruned.keras")
    whole = registry.inspect(made / "dead.keras")
    assert (facts.inputs, facts.outputs) == (whole.inputs, whole.outputs)
    found = pruned_models.outcome(made, "dead")
    assert (whole.parameters, facts.parameters) == (found["parameters_before"], found["parameters_after"])
    config = layers(made / "dead" / "pruned.keras")
    assert [config[name]["filters"] for name in ("stem", "point", "separable")] == [4, 4, 4]
    assert config["out"]["units"] == 10


@pytest.mark.parametrize("case", ["fast", "taught"])
def test_fine_tuning_brings_back_what_cutting_took(made: Path, case: str) -> None:
    """With labels and without: then the model as it was is the teacher."""
    facts = pruned_models.outcome(made, case)
    assert facts["macs_before"] / facts["macs_after"] >= 1.5
    losses = facts["validation_loss"]
    assert len(losses) == facts["epochs"] + 1
    assert losses[facts["best_epoch"]] == min(losses) < 0.8 * losses[0]
    (before,), (cut,), (after,) = (pruned_models.answers(made, case, stem) for stem in ("before", "cut", "after"))
    agree = [float((out.argmax(1) == before.argmax(1)).mean()) for out in (cut, after)]
    assert agree[1] > agree[0]


def test_the_same_plan_and_data_give_the_same_weights(made: Path) -> None:
    first, second = (pruned_models.answers(made, case, "after")[0] for case in ("fast", "fast-again"))
    assert np.array_equal(first, second)


def test_magnitude_masks_hold_through_fine_tuning(made: Path) -> None:
    facts = pruned_models.outcome(made, "magnitude")
    assert facts["zeros"] == pytest.approx(0.6, abs=0.01)
    assert facts["parameters_before"] == facts["parameters_after"]
    assert facts["best_epoch"] >= 2, "weights before the mask is complete are not kept"
    assert top1(made, "magnitude", "after") > top1(made, "magnitude", "cut")


def test_two_of_four_names_the_layers_that_it_does_not_fit(made: Path) -> None:
    facts = pruned_models.outcome(made, "2:4")
    assert facts["zeros"] == pytest.approx(0.5)
    assert facts["held"] == ["stem: its number of inputs is no multiple of 4"]


def test_a_training_that_diverges_is_an_error_with_a_cause(made: Path) -> None:
    found = pruned_models.outcome(made, "nan")
    assert found["kind"] == "ConversionError"
    assert "the loss became" in found["error"]
    assert "--rate" in found["hint"]
    assert not (made / "nan" / "pruned.keras").exists()


def test_a_rule_that_is_wrong_is_found_out_by_running_the_cut_model(made: Path) -> None:
    found = pruned_models.outcome(made, "wrong-rule")
    assert "cutting channels changed more than those" in found["error"]


def test_several_inputs_and_outputs_a_shared_nested_model_and_no_classes(made: Path) -> None:
    found = pruned_models.outcome(made, "two")
    assert found["kinds"] == ["values", "values"]
    assert [g["before"] for g in found["groups"]] == [16, 16]
    facts, whole = registry.inspect(made / "two" / "pruned.keras"), registry.inspect(made / "two.keras")
    assert {(s.name, s.shape) for s in facts.inputs} == {(s.name, s.shape) for s in whole.inputs}
    assert {(s.name, s.shape) for s in facts.outputs} == {(s.name, s.shape) for s in whole.outputs}
    assert found["validation_loss"][found["best_epoch"]] < found["validation_loss"][0]


def test_layers_of_one_name_in_nested_models_stay_apart(made: Path) -> None:
    names = list(layers(made / "names" / "pruned.keras"))
    assert [name for name in names if "dense" in name][:2] == ["dense", "second_dense"]
    assert len(pruned_models.outcome(made, "names")["groups"]) == 2


# ── outside ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Notes(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def finished(self, step: Step, summary: str, data: Any = None) -> None:
        self.lines.append(f"{step.name} {step.subject}: {summary}")


def test_what_was_made_is_kept_judged_and_found_again(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pruned_models.CASES["fast"][1]
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "fast"))
    first = make.prune(digits[0], plan, digits[1], tmp_path, Reporter())
    monkeypatch.setattr(child, "run", None)
    notes = Notes()
    again = make.prune(digits[0], plan, digits[1], tmp_path, notes)
    assert (first.cached, again.cached, again.path) == (False, True, first.path)
    assert notes.lines == ["prune digits.keras: found, nothing done twice"]
    verdict = again.judged("before", "after", Budget())
    assert verdict.variant_value == top1(made, "fast", "after")
    assert (verdict.metric, verdict.samples) == ("top1", len(again.evaluation))
    recipe = Recipe.parse(again.recipe_path.read_bytes())
    (step,) = recipe.steps
    assert (step["do"], step["plan"]) == ("prune", plan.encode())
    assert (step["from"], step["made"]) == (digits[0].sha256, again.sha256)
    assert recipe.calibration is not None
    assert recipe.calibration["sha256"] == digits[1].sha256
    assert "keras" in recipe.versions


def test_other_data_or_another_plan_is_another_model(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "fast"))
    facts, data = digits
    paths = {
        make.prune(facts, plan, part, tmp_path, Reporter()).path
        for plan, part in ((Plan(), data), (Plan(speedup=1.5), data), (Plan(), data.take(500, 0)))
    }
    assert len(paths) == 3


def test_a_recipe_beside_the_source_is_carried_on(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "fast"))
    tuned = make.prune(digits[0], Plan(), digits[1], tmp_path / "cache", Reporter())
    keeping.deliver(tuned, tmp_path / "small.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "small.keras", "small.keras.recipe.json"]
    next_one = make.prune(
        registry.inspect(tmp_path / "small.keras"), Plan(), digits[1], tmp_path / "cache", Reporter()
    )  # fmt: skip
    assert [step["do"] for step in next_one.recipe.steps] == ["prune", "prune"]
    assert next_one.recipe.steps[0]["made"] == next_one.recipe.steps[1]["from"]
    (tmp_path / "small.keras").write_bytes((made / "digits.keras").read_bytes())
    other = make.prune(registry.inspect(tmp_path / "small.keras"), Plan(), digits[1], tmp_path / "c2", Reporter())
    assert len(other.recipe.steps) == 1, "the recipe beside it is of another file"


def test_a_step_that_fails_leaves_nothing(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "nan"))
    with pytest.raises(ConversionError, match=r"digits\.keras: the loss became"):
        make.prune(digits[0], Plan(), digits[1], tmp_path, Reporter())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupt_or_a_full_disk_leaves_nothing_half_written(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "fast"))
    tuned = make.prune(digits[0], Plan(), digits[1], tmp_path / "cache", Reporter())
    (tmp_path / "out").mkdir()

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((KeyboardInterrupt, ConversionError)):
        keeping.deliver(tuned, tmp_path / "out" / "small.keras")
    assert list((tmp_path / "out").iterdir()) == []


def test_labels_that_the_model_has_no_class_for_are_refused(
    digits: tuple[ModelFacts, Dataset], tmp_path: Path
) -> None:  # fmt: skip
    facts, data = digits
    wrong = Dataset(data.inputs, np.full(len(data), 10, np.int32))
    with pytest.raises(InputError, match="has the label 10, the model has the classes 0 to 9"):
        make.prune(facts, Plan(), wrong, tmp_path, Reporter())


def test_what_the_data_lacks_is_said(
    made: Path, digits: tuple[ModelFacts, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "taught"))
    notes = Notes()
    make.prune(digits[0], Plan(), Dataset(digits[1].inputs), tmp_path, notes)
    one = Dataset(digits[1].inputs, np.zeros(len(digits[1]), np.int32))
    make.prune(digits[0], Plan(), one, tmp_path, notes, what="one.npz")
    assert "the data has no labels: the training follows the answers of digits.keras alone" in notes.lines
    assert "one.npz holds one class only: nothing can be said about the others, nor learnt" in notes.lines


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path


def test_the_command_prunes_in_a_real_child_and_writes_model_and_recipe(made: Path, here: Path) -> None:
    data = run_json(
        "model.prune", "model", "prune", str(made / "digits.keras"), "--data", str(made / "digits.npz"),
        "--output", "small.keras", "--amount", "0.5", "--epochs", "1", "--max-drop", "100",
    )  # fmt: skip
    assert (data["output"], data["recipe"], data["method"]) == ("small.keras", "small.keras.recipe.json", "channels")
    assert registry.inspect(here / "small.keras").parameters == data["parameters_after"] < data["parameters_before"]
    assert data["macs_before"] > data["macs_after"]
    assert data["check"]["metric"] == "top1"
    assert data["check"]["samples"] == 120
    text = run(
        "model", "prune", str(made / "digits.keras"), "--data", str(made / "digits.npz"), "--output", "b.keras",
        "--epochs", "1", "--max-drop", "100",
    )  # fmt: skip
    assert "found, nothing done twice" in text.stderr, "an amount of 0.5 is the default"
    assert "8 → 4  stem, point, excite" in text.stdout
    assert "left alone  out: it is an output of the model" in text.stdout
    assert (here / "b.keras").read_bytes() == (here / "small.keras").read_bytes()


def test_a_broken_limit_exits_6_and_writes_nothing(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(child, "run", pruned_models.performed(made, "magnitude"))
    error = run_error(
        "model", "prune", str(made / "digits.keras"), "--data", str(made / "digits.npz"), "--output", "m.keras",
        "--method", "magnitude", "--amount", "0.6", "--max-drop", "0", exit_code=6,
    )  # fmt: skip
    assert "top-1" in error["message"]
    assert "nothing was written" in error["hint"]
    assert not list(here.glob("m*"))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--amount", "0"), 2, "must lie between 0 and 1"),
        (("--amount", "1"), 2, "must lie between 0 and 1"),
        (("--output", "small.tflite"), 2, "the output is a Keras model"),
        (("--output", "nowhere/small.keras"), 2, "no such folder"),
        (("--data", "missing.npz"), 2, "no such data"),
        (("--data", "shape.npz"), 1, "expected shape"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], code: int, words: str
) -> None:
    np.savez(here / "shape.npz", image=np.zeros((30, 9, 9, 1), np.float32))
    given = {"--data": str(made / "digits.npz"), "--output": "small.keras", options[0]: options[1]}
    words_of = [word for pair in given.items() for word in pair]
    assert words in run_error("model", "prune", str(made / "digits.keras"), *words_of, exit_code=code)["message"]


def test_a_model_of_another_format_says_what_to_do(here: Path) -> None:
    from tests.simulators import models

    models.tiny_tflite(here / "m.tflite")
    facts = registry.inspect(here / "m.tflite")
    with pytest.raises(UsageError, match="pruning takes Keras models, this is tflite") as caught:
        make.check(facts)
    assert ".keras" in str(caught.value.hint)
