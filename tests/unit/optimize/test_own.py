"""A metric of one's own: what it is called with, what it may give, and how it fails."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship import child
from edgeship.errors import InputError, UsageError
from edgeship.optimize import own, quality, scoring
from edgeship.optimize.answers import Answers
from edgeship.optimize.drops import Means
from edgeship.runtime.manifest import TensorSpec
from tests.simulators import inline

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The step runs here; what it does to this process is undone."""
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "run", inline.run)
    return tmp_path


def answers(n: int = 40) -> Answers:
    rng = np.random.default_rng(0)
    labels = (np.arange(n) % 4).astype(np.int32)
    source = np.eye(4, dtype=np.float32)[labels] + rng.normal(0, 0.1, (n, 4)).astype(np.float32)
    variant = source.copy()
    variant[:4] = np.roll(variant[:4], 1, axis=1)
    spec = TensorSpec("p", "float32", (4,))
    night = np.arange(n) < 20
    return Answers([source], [variant], [spec], labels, None, {"night": night}, {"x": np.arange(n)})


def write(folder: Path, name: str, body: str) -> str:
    (folder / f"{name}.py").write_text(f"import numpy as np\n{body}\n", encoding="utf-8")
    return f"{folder}/{name}:score"


class Paced:
    """Stands in for the module `time`: from one look at the clock to the next the same time goes by."""

    def __init__(self, seconds: float) -> None:
        self._looks, self._seconds = 0, seconds

    def monotonic(self) -> float:
        self._looks += 1
        return self._looks * self._seconds


def test_scores_of_samples_are_compared_in_pairs(folder: Path) -> None:
    metric = write(folder, "each", "def score(answers, labels):\n    return answers['p'].argmax(1) == labels")
    compared = own.compare(metric, answers())
    assert isinstance(compared, Means)
    drop = compared.drop(np.arange(40))
    assert (drop.before, drop.after) == (1.0, 0.9)
    assert drop.value == pytest.approx(10.0)
    assert drop.interval[0] < 10 < drop.interval[1]


def test_one_number_is_taken_again_on_resamples_and_slices(folder: Path) -> None:
    body = "def score(*, labels, answers):\n    return np.mean(answers['p'].argmax(1) == labels)"
    compared = own.compare(write(folder, "one", body), answers())
    whole, night = compared.drop(np.arange(40)), compared.drop(np.arange(20))
    assert [whole.value, night.value] == pytest.approx([10.0, 20.0])
    assert 0 < whole.interval[0] < 10 < whole.interval[1] < 25
    assert compared.of_class(0, answers().labels) is None  # type: ignore[arg-type]


def test_a_slice_that_has_no_value_is_named(folder: Path) -> None:
    metric = write(folder, "nights", "def score(answers):\n    return 0.5 if len(answers['p']) == 40 else np.nan")
    with pytest.raises(InputError, match=r"it has no value on slice night \(20\)"):
        own.compare(metric, answers())


def test_a_function_gets_what_it_asks_for(folder: Path) -> None:
    body = """def score(answers, expected, inputs, targets, labels, more=3):
    assert list(answers) == list(expected) == ['p'] and targets is None and more == 3
    assert inputs['x'].shape == labels.shape
    return (answers['p'] == expected['p']).all(1)"""
    drop = own.compare(write(folder, "all", body), answers()).drop(np.arange(40))
    assert (drop.before, drop.after) == (1.0, 0.9)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("raises", "def score(answers):\n    return 1 / 0", r"raised ZeroDivisionError: .* \(raises.py, line 3"),
        ("exits", "def score(answers):\n    raise SystemExit(3)", "it raised SystemExit: 3"),
        ("none", "def score(answers):\n    pass", "it gave None"),
        ("interrupts", "def score(answers):\n    raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
        ("text", "def score(answers):\n    return 'good'", "it gave str, real numbers are wanted"),
        ("figures", "def score(answers):\n    return '0.5'", "it gave str, real numbers are wanted"),
        ("complex", "def score(answers):\n    return np.ones(40) + 1j", "it gave ndarray, real numbers are wanted"),
        ("short", "def score(answers):\n    return [1.0, 0.5]", r"an array \[2\] for 40 samples"),
        ("nan", "def score(answers):\n    return float('nan')", "it gave NaN or infinity"),
        ("large", "def score(answers):\n    return 42.0", "it gave 42 to 42; scores lie between −1 and 1"),
        ("import_fails", "raise ValueError('no licence')", "importing import_fails raised ValueError: no licence"),
        ("mixed", "def score(answers, n=[]):\n    n.append(1)\n    return 0.5 if len(n) > 1 else np.ones(40)",
         "one number for one model and an array for the other"),
    ],
)  # fmt: skip
def test_a_function_that_fails_is_one_clear_error(folder: Path, name: str, body: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        own.compare(write(folder, name, body), answers())
    assert str(caught.value).startswith(f"the metric {name}:score: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def score(predictions):\n    return 1", "it takes predictions; known are answers, expected"),
        ("def score(labels):\n    return 1", "it does not take answers"),
        ("def score(answers, /):\n    return 1", "it takes answers; known are"),
        ("score = 3", "has no function 'score'"),
        ("import nothing_of_this_name", "no module 'nothing_of_this_name'"),
    ],
)
def test_a_function_that_cannot_be_called_is_said_to_be_so(folder: Path, body: str, words: str) -> None:
    name = f"call{abs(hash(body))}"
    with pytest.raises(UsageError, match=words) as caught:
        own.compare(write(folder, name, body), answers())
    assert "def score(answers, labels)" in str(caught.value.hint)


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="no module 'nowhere_at_all'"):
        own.compare(f"{folder}/nowhere_at_all:score", answers())


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("r_raises", "def score(answers):\n    return 1 / 0", r"it raised ZeroDivisionError: .* \(r_raises.py, line 3"),
        ("r_none", "def score(answers):\n    answers['p'].mean()", "it gave None"),
        ("r_long", "def score(answers):\n    return np.ones(3)", r"an array \[3\] for 40 samples"),
    ],
)
def test_a_rehearsal_finds_what_is_wrong_with_the_sources_answers_alone(
    folder: Path, name: str, body: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        own.rehearse(write(folder, name, body), answers())


def test_a_rehearsal_calls_the_function_once_with_the_sources_answers(folder: Path) -> None:
    body = """def score(answers, expected, labels):
    assert (answers['p'] == expected['p']).all() and len(labels) == 40
    open('calls', 'a').write('x')
    return 0.5"""
    own.rehearse(write(folder, "once", body), answers())
    assert (folder / "calls").read_text() == "x"


def test_a_rehearsal_says_how_long_it_takes_to_judge_a_variant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "time", Paced(0.3))
    one = write(folder, "one_number", "def score(answers):\n    return 0.5")
    assert own.rehearse(one, answers()) == (
        "a call of one_number:score with 40 samples takes 0.3 s, and a variant is judged by 804 calls: about 4 "
        "minutes; two are enough for a function that returns one score a sample"
    )
    assert own.rehearse(write(folder, "each", "def score(answers):\n    return np.ones(40)"), answers()) is None


def test_one_number_that_takes_too_long_to_be_taken_again_is_refused_at_its_first_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = write(folder, "slow", "def score(answers):\n    return 0.5")
    monkeypatch.setattr(own, "LIMITS", replace(own.LIMITS, seconds=5.0))
    monkeypatch.setattr(scoring, "time", Paced(0.02))
    with pytest.raises(InputError, match=r"a call takes 0\.0 s, and 804 calls are needed .* limit of 5 s") as caught:
        own.compare(slow, answers())
    assert str(caught.value.hint).startswith("return one score a sample")
    each = write(folder, "slow_each", "def score(answers):\n    return np.ones(40)")
    assert own.compare(each, answers()).drop(np.arange(40)).value == 0, "two calls do"


def test_a_call_that_hangs_on_a_variants_answers_alone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """import time
def score(answers, expected):
    time.sleep(600 * (answers['p'] != expected['p']).any())
    return np.ones(40)"""
    hangs = write(tmp_path, "hangs", body)
    own.rehearse(hangs, answers())
    monkeypatch.setenv("EDGESHIP_STEP_LIMIT", "3s")
    with pytest.raises(InputError, match=r"hangs:score: optimize\.scoring did not end within 3 s") as caught:
        own.compare(hangs, answers())
    assert "EDGESHIP_STEP_LIMIT" in str(caught.value.hint)


def test_later_calls_have_twenty_times_as_long_as_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float | None]] = []

    class Deadline(child.Deadline):
        def __init__(self, place: Path, what: str, seconds: float | None = None) -> None:
            told.append((what, seconds))
            super().__init__(place, what, seconds)

    monkeypatch.setattr(child, "Deadline", Deadline)
    monkeypatch.setattr(scoring, "SHORTEST", 0.5)
    monkeypatch.setattr(scoring, "time", Paced(0.1))
    own.compare(write(folder, "tenth", "def score(answers):\n    return np.ones(40)"), answers())
    [(first, once), (later, seconds)] = told
    assert (first, once) == ("its first call, with the source's answers,", None)
    assert later == "a call with the variant's answers"
    assert seconds == pytest.approx(2.0)


def test_a_real_child_prints_nothing_here_and_cannot_take_this_process_with_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    metric = write(tmp_path, "loud", "def score(answers):\n    print('x' * 100)\n    return 0.5")
    assert own.compare(metric, answers()).drop(np.arange(40)).before == 0.5
    assert capfd.readouterr().out == ""
    dies = write(tmp_path, "dies", "import os\ndef score(answers):\n    os.kill(os.getpid(), 9)")
    with pytest.raises(InputError, match="dies:score"):
        own.compare(dies, answers())


# ── the worked example ───────────────────────────────────────────────────────────────────────────────────────────────


def detections(n: int = 20) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Boxes [n, 6, 4], scores [n, 6, 2] and objects [n, 3, 5] of a detector that finds everything."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 200, (n, 6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 80, (n, 6, 2))], axis=2).astype(np.float32)
    scores = np.zeros((n, 6, 2), np.float32)
    objects = np.full((n, 3, 5), -1, np.float32)
    for i in range(n):
        for j in range(i % 3 + 1):
            kind = (i + j) % 2
            objects[i, j] = [kind, *boxes[i, j]]
            scores[i, j, kind] = rng.uniform(0.5, 1)
    return boxes, scores, objects


def test_mean_average_precision_as_a_metric_of_ones_own(folder: Path) -> None:
    shutil.copy(ROOT / "examples/detector/mean_ap.py", folder)
    boxes, scores, objects = detections()
    half = scores.copy()
    half[::2] = 0.0  # finds nothing in every other image
    specs = [TensorSpec("boxes", "float32", (6, 4)), TensorSpec("scores", "float32", (6, 2))]

    class Budget:
        max_drop, max_class_drop, max_slice_drop = 60.0, 60.0, 60.0

    even = {"even": np.arange(len(boxes)) % 2 == 0}
    both = Answers([boxes, scores], [boxes + np.float32(1.0), half], specs, None, objects, even)
    verdict = quality.decide("mean_ap:map50", both, Budget())
    assert verdict.float_value == 1.0
    assert verdict.variant_value == pytest.approx(0.5, abs=0.1)
    assert verdict.interval[0] < verdict.drop < verdict.interval[1]
    assert verdict.summary.startswith("mean_ap:map50 100.0 % → ")
    assert verdict.worst_slice is not None
    assert (verdict.worst_slice.name, verdict.worst_slice.drop) == ("even", 100.0)
    assert not verdict.passed
    assert 'worst slice "even": −100.0 of 60.0 allowed, n=10' in verdict.summary


def test_boxes_elsewhere_are_not_found(folder: Path) -> None:
    boxes, scores, objects = detections()
    spec = importlib.util.spec_from_file_location("mean_ap_example", ROOT / "examples/detector/mean_ap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.map50({"boxes": boxes, "scores": scores}, objects) == 1.0
    assert module.map50({"boxes": boxes + 100, "scores": scores}, objects) < 0.2
    twice = {"boxes": np.repeat(boxes, 2, axis=1), "scores": np.repeat(scores, 2, axis=1)}
    assert module.map50(twice, objects) < 1.0, "an object is found once"
