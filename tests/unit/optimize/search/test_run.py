"""The whole search on tiny real models, in this process; and that nothing finished is done twice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import profile
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, DeviceError, InputError, UsageError
from edgeship.optimize.gate import GateVerdict
from edgeship.optimize.quality import PartDrop, gated
from edgeship.optimize.search import report, run, said, save
from edgeship.optimize.search.candidate import Candidate, Refusal, Wish
from edgeship.optimize.search.evaluate import Job, Limits, Outcome, failed
from edgeship.optimize.search.latency import Latency
from edgeship.optimize.search.pick import Budget, Pick
from edgeship.optimize.search.run import Found, Request, Search
from edgeship.reporter import Reporter, Step
from edgeship.targets import child, registry
from edgeship.targets.base import Recipe, Variant
from tests.simulators import inline
from tests.simulators.models import SHAPE, samples, tiny_tflite
from tests.simulators.searched import candidate, latency, outcome, variant, verdict


@dataclass
class Told(Reporter):
    """Remembers what it was told."""

    steps: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        self.steps.append((step.name, step.subject, dict(data or {}) | {"summary": summary}))


class Stopwatch:
    """int8 takes half as long; float16 cannot be timed."""

    place = "host"

    def refuses(self, variant: Variant) -> str | None:
        return "no kernels" if variant.precision == "float16" else None

    def time(self, variant: Variant) -> Latency:
        return latency(50.0 if variant.precision == "int8" else 100.0)


@pytest.fixture
def inlined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Steps run in this process, and are counted by nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    inline.patch(monkeypatch)


def data(n: int, start: int = 0) -> Dataset:
    x, labels = samples(start + n)
    return Dataset({"image": x[start:].reshape(n, *SHAPE)}, labels[start:])


def request(folder: Path, *, scale: float = 1.0, **budget: Any) -> Request:
    path = folder / "m.tflite"
    if not path.exists():
        tiny_tflite(path, "float32")
    calibration = Dataset({"image": data(60).inputs["image"] * np.float32(scale)})
    return Request(
        registry.inspect(path), profile.load("raspberry-pi-5"), calibration, data(300, 60), Budget(**budget),
        folder / "cache", Wish(("tflite",), ("int8", "float16", "float32")),
    )  # fmt: skip


def search(asked: Request, told: Reporter | None = None, stopwatch: Any = None) -> Found:
    with ThreadPoolExecutor(1) as pool:
        executor: Executor = pool
        return Search(asked, executor, stopwatch or Stopwatch(), told or Reporter()).run()


class Gone(Stopwatch):
    """The device is not there when int8 is to be timed, or at all."""

    place = "pi"

    def __init__(self, *there: str) -> None:
        self.there = there

    def time(self, variant: Variant) -> Latency:
        if variant.precision not in self.there:
            raise DeviceError("pi: nothing listens there\nsecond line", device="pi")
        return replace(super().time(variant), place="pi")


@pytest.mark.usefixtures("inlined")
@pytest.mark.parametrize(("there", "begins"), [(("float32",), "fastest of 1 timed"), ((), "of 3 within the budget")])
def test_a_pick_without_the_timing_that_was_asked_for_says_so(
    tmp_path: Path, there: tuple[str, ...], begins: str
) -> None:
    reason = search(request(tmp_path), stopwatch=Gone(*there)).pick.reason
    assert reason.startswith(begins)
    assert "not timed: " in reason
    assert "pi: nothing listens there" in reason
    assert "second line" not in reason
    assert "no kernels" not in reason, "that one was never meant to be timed"


def test_it_picks_reports_and_saves(inlined: None, tmp_path: Path) -> None:
    told = Told()
    found = search(request(tmp_path), told)
    assert found.pick.row is not None
    assert found.pick.row.candidate.name == "tflite int8"
    statuses = {t.candidate.name: t.status for t in found.tried}
    assert statuses["tflite int8"] == "pick"
    assert statuses["tflite float32"] == "within"
    assert {name for name, _, _ in told.steps} == {"prepare", "convert", "source", "round", "try", "time"}
    said = {subject: d["summary"] for name, subject, d in told.steps if name == "round"}
    assert said["1 of 2"].startswith("7 candidates on 128 of 300 samples, ")
    assert said["2 of 2"].endswith(" on 300 of 300 samples, 3 go on")
    built, timed = ({s: d["seconds"] for n, s, d in told.steps if n == name} for name in ("try", "time"))
    assert all(timed[subject] != built[subject] for subject in timed)  # a line says what its own step took
    saved = save.write(found, tmp_path / "out")
    assert saved.model == tmp_path / "out" / "m.int8.tflite"
    assert saved.model.read_bytes() == found.pick.row.variant.path.read_bytes()
    assert saved.recipe is not None
    assert Recipe.parse(saved.recipe.read_bytes()) == found.pick.row.variant.recipe
    page = saved.report.read_text()
    assert "Picked: tflite int8" in page
    assert "judged on 300 samples, calibrated on 60" in page
    assert "Points are of top-1: the float source has 1" in page
    assert "<svg" in page
    [hover] = re.findall(r"<title>(tflite int8\n.*?)</title>", page, re.DOTALL)
    assert "points lost (95 %: " in hover
    assert "median 50.0 µs, p95 60.0 µs on host" in hover
    assert "</span>TFLite" in page
    assert "</span>ONNX" not in page, "the legend holds what the plot shows"
    data = report.encode(found)
    assert "no kernels" in str(data)
    [picked] = [one for one in data["candidates"] if one["status"] == "pick"]
    assert picked["worst_class"].keys() >= {"name", "samples", "drop", "drop_interval", "too_few"}
    assert (picked["worst_slice"], picked["gate"]) == (None, None)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "m.int8.tflite", "m.int8.tflite.recipe.json", "report.html", "search.json",
    ]  # fmt: skip


def test_a_second_search_builds_and_runs_nothing_again(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path)
    first = search(asked)

    def refuse(*args: Any, **named: Any) -> Any:
        raise AssertionError(args)

    monkeypatch.setattr(child, "run", refuse)
    again = search(asked)
    assert report.encode(again) | {"seconds": 0} == report.encode(first) | {"seconds": 0}


def test_an_interrupted_search_goes_on_where_it_was(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: what was built is in the cache, and is not built again."""
    built: list[str] = []
    real = child.run

    def run(step: str, *args: Any, **named: Any) -> Any:
        built.append(step)
        if len(built) == 6:
            raise KeyboardInterrupt
        return real(step, *args, **named)

    asked = request(tmp_path)
    monkeypatch.setattr(child, "run", run)
    with pytest.raises(KeyboardInterrupt):
        search(asked)
    before = len(built) - 1
    built.clear()
    built.extend([""] * 10)  # past the interruption
    found = search(asked)
    monkeypatch.setattr(child, "run", real)
    after = len(built) - 10
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    counted: list[str] = []

    def count(step: str, *args: Any, **named: Any) -> Any:
        counted.append(step)
        return real(step, *args, **named)

    monkeypatch.setattr(child, "run", count)
    assert report.encode(search(request(fresh)))["pick"] == report.encode(found)["pick"]
    assert before + after <= len(counted) + 1  # the step that was interrupted is done again, no other
    assert before > 0


def test_without_calibration_data_int8_is_not_tried_and_that_is_said(inlined: None, tmp_path: Path) -> None:
    asked = request(tmp_path)
    bare = Request(
        asked.source, asked.profile, None, asked.evaluation, asked.budget, asked.folder, asked.wish,
    )  # fmt: skip
    found = search(bare)
    assert found.pick.row is not None
    assert found.pick.row.candidate.scheme.precision in ("float16", "float32")
    [int8] = [t for t in found.tried if t.candidate.name == "tflite int8"]
    assert (int8.status, int8.why) == ("dropped", "it needs calibration data, and there is none")


def test_nothing_within_the_budget_names_the_nearest_and_saves_no_model(inlined: None, tmp_path: Path) -> None:
    found = search(request(tmp_path, max_bytes=10))
    assert found.pick.row is None
    assert found.pick.nearest is not None
    earlier = tmp_path / "out" / f"{found.request.source.path.stem}.int8.tflite"
    earlier.parent.mkdir()
    for path in (earlier, earlier.with_name("other.int8.tflite")):
        path.write_bytes(b"")
        path.with_name(f"{path.name}.recipe.json").write_text("{}")
    saved = save.write(found, tmp_path / "out")
    assert (saved.model, saved.recipe) == (None, None)
    assert saved.earlier == (earlier,), "another search's model is no result of this one"
    assert "Nothing meets the budget; nearest: " in saved.report.read_text()


def test_looking_whether_a_folder_can_be_written_to_leaves_nothing(tmp_path: Path) -> None:
    save.check_folder(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    save.check_folder(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/out: "):
        save.check_folder(tmp_path / "file" / "out")


def test_a_metric_that_fails_for_every_candidate_is_the_reason(inlined: None, tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text("def score(answers):\n    return {}['x']\n")
    asked = replace(
        request(tmp_path), metric=f"{tmp_path}/scores:score", wish=Wish(("tflite",), ("float32", "float16"))
    )
    found = search(asked)
    assert found.pick.row is None
    assert found.pick.reason.startswith(
        "no candidate could be built: the metric scores:score: it raised KeyError: 'x' ("
    )
    assert type(found.fault) is InputError
    assert found.pick.reason.endswith(str(found.fault))


def test_of_several_reasons_each_is_told_once_and_one_kind_keeps_its_exit_code() -> None:
    first, second, third = (candidate(words) for words in ("tflite int8", "onnx int8", "onnx float16"))
    outcomes = [
        failed(first, UsageError("no onnx2tf", hint="edgeship setup onnx2tf")),
        failed(second, UsageError("no opset", hint="later")), failed(third, UsageError("no opset", hint="later")),
    ]  # fmt: skip
    fault = said.why_none(outcomes, {})
    assert type(fault) is UsageError
    assert str(fault) == "tflite: no onnx2tf; onnx: no opset", "a format whose candidates have one reason is named"
    several = said.why_none([*outcomes, failed(candidate("onnx dynamic"), UsageError("no scale"))], {})
    assert str(several) == "tflite: no onnx2tf; onnx int8, onnx float16: no opset; onnx dynamic: no scale"
    assert fault.hint is None
    mixed = said.why_none([*outcomes, failed(first, InputError("damaged"))], {})
    assert (type(mixed), mixed.exit_code) == (ConversionError, 1)


def test_where_nothing_is_tried_for_lack_of_data_it_is_a_matter_of_usage(inlined: None, tmp_path: Path) -> None:
    found = search(replace(request(tmp_path), calibration=None, wish=Wish(("tflite",), ("int8",))))
    assert found.pick.row is None
    assert found.fault is not None
    assert found.fault.exit_code == 2
    assert "it needs calibration data, and there is none" in str(found.fault)
    assert found.fault.hint is not None
    assert found.fault.hint.startswith("--data")


def test_a_candidate_that_fails_stops_nothing(inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = registry.target("tflite")
    real = type(target).build

    def build(self: Any, source: Any, scheme: Any, *rest: Any) -> Variant:
        if scheme.precision == "int8":
            raise ConversionError("tflite float32: no kernel for <script>", hint="float16")
        return real(self, source, scheme, *rest)

    monkeypatch.setattr(type(target), "build", build)
    told = Told()
    found = search(request(tmp_path), told)
    [line] = [d["summary"] for n, s, d in told.steps if (n, s) == ("try", "tflite int8")]
    assert line == "tflite int8: tflite float32: no kernel for <script>", "of which candidate, whatever it names"
    assert found.pick.row is not None
    assert found.pick.row.candidate.scheme.precision != "int8"
    assert {t.status for t in found.tried if t.candidate.scheme.precision == "int8"} == {"failed"}
    assert "no kernel for &lt;script&gt;" in report.html(found)
    refused = (Refusal("onnx int8", "it is <text>"), Refusal("onnx float32", "it is <text>"))
    assert "Not tried: onnx int8, onnx float32: it is &lt;text&gt;<" in report.html(replace(found, refused=refused))


def test_one_that_a_few_samples_sent_away_is_judged_on_all_where_its_kind_breaks_the_budget(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 128 samples the percentile loses two, the others none; of all 300 it is the only one that meets the budget."""

    def work(job: Job) -> Outcome:
        scheme = job.candidate.scheme
        others = 0 if job.samples == 128 else 9
        lost = 0 if scheme.precision != "int8" else 2 if scheme.ranges == "percentile" else others
        made = variant(job.candidate)
        return Outcome(job.candidate, job.samples, made, verdict(lost, job.samples))

    monkeypatch.setattr(run, "work", work)
    told = Told()
    found = search(request(tmp_path, max_class_drop=100.0), told)
    assert found.pick.row is not None
    assert found.pick.row.candidate.name == "tflite int8 percentile"
    [said] = [d["summary"] for n, s, d in told.steps if (n, s) == ("round", "again")]
    assert said == "2 candidates that left early, since none of their kind meets the budget"
    why = {t.candidate.name: (t.status, t.why) for t in found.tried}
    assert why["tflite int8"] == ("dropped", "second of 3 choices of ranges on 300 samples")


def test_a_float_model_that_cannot_be_made_is_tried_once(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def build(self: Any, source: Any, scheme: Any, *rest: Any) -> Variant:
        tries.append(scheme.precision)
        raise ConversionError("m.tflite: no kernel for Sin", hint="replace it")

    monkeypatch.setattr(type(registry.target("tflite")), "build", build)
    told = Told()
    found = search(request(tmp_path), told)
    assert tries == ["float32"]
    assert [(s, d["passed"]) for n, s, d in told.steps if n == "convert"] == [("tflite float32", False)]
    [line] = [d["summary"] for n, _, d in told.steps if n == "convert"]
    assert line == "m.tflite: no kernel for Sin   so none of 7 candidates is tried"
    assert not [step for step in told.steps if step[0] in ("try", "round")]
    assert {(t.status, t.why) for t in found.tried} == {("failed", "m.tflite: no kernel for Sin")}
    assert len(found.tried) == 7
    assert (str(found.fault), found.fault and found.fault.hint) == ("m.tflite: no kernel for Sin", "replace it")


def test_the_metric_is_called_once_before_anything_is_quantized(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "early.py").write_text("def score(answers):\n    open('calls', 'a').write('x')\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    found = search(replace(request(tmp_path), metric=f"{tmp_path}/early:score"))
    assert (tmp_path / "calls").read_text() == "x"
    assert "ZeroDivisionError" in str(found.fault)


def test_a_format_whose_float_model_fails_leaves_the_others_alone(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pruned model the same is true: it is a start of its own."""
    smaller = tiny_tflite(tmp_path / "smaller.tflite", "float32", bad=True).path
    (tmp_path / "recipe").write_text("{}")
    monkeypatch.setattr(run, "prune", lambda *_: Pruned(smaller, tmp_path / "recipe"))
    real = type(registry.target("tflite")).build

    def build(self: Any, source: Any, *rest: Any) -> Variant:
        if source.path == smaller:
            raise ConversionError("smaller.tflite: no")
        return real(self, source, *rest)

    monkeypatch.setattr(type(registry.target("tflite")), "build", build)
    asked = request(tmp_path)
    found = search(replace(asked, wish=replace(asked.wish, prune=(2.0,))))
    assert {t.status for t in found.tried if t.candidate.pruned != 1} == {"failed"}
    assert found.pick.row is not None
    assert found.pick.row.candidate.name == "tflite int8"


def test_sets_of_as_many_layers_in_float_have_names_of_their_own_as_data() -> None:
    base = candidate("onnx int8 mse")
    tried = [
        run.Tried(base.mixed(keep, "worst"), status, "")
        for keep, status in ((["c"], "dropped"), (["b"], "pick"), (["a"], "dropped"), (["a", "b"], "dropped"))
    ]
    called = report.names(tried)
    assert [called[one.candidate] for one in tried] == [
        "onnx int8 mse, 1 layer float32 #3", "onnx int8 mse, 1 layer float32", "onnx int8 mse, 1 layer float32 #2",
        "onnx int8 mse, 2 layers float32",
    ]  # fmt: skip
    assert report.names(tried[::-1]) == called, "in whatever order they came"
    light = [run.Tried(base.mixed((), "worst", [name]), "dropped", "") for name in "ba"]
    assert report.names(light) == report.names(light[::-1]), "layers with int8 weights too"


@dataclass(frozen=True)
class Pruned:
    """What pruning gives: here the same model under another name."""

    path: Path
    recipe_path: Path


def test_a_pruned_model_is_tried_too_and_judged_against_the_source(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path)
    smaller = tiny_tflite(tmp_path / "smaller.tflite", "float32", bad=True).path
    (tmp_path / "recipe").write_text("{}")
    monkeypatch.setattr(run, "prune", lambda *_: Pruned(smaller, tmp_path / "recipe"))
    found = search(replace(asked, wish=replace(asked.wish, prune=(2.0,))))
    names = {t.candidate.name: t.status for t in found.tried}
    assert names["pruned 2 × tflite float32"] == "over"  # its classes are turned: the budget compares with the source
    assert names["tflite int8"] == "pick"
    row = next(t.row for t in found.tried if t.candidate.name == "pruned 2 × tflite float32")
    assert row is not None
    assert row.verdict.gate is not None
    assert row.verdict.gate.passed, "the numeric gate compares with the pruned model itself"
    wide = search(replace(asked, budget=Budget(200.0, 200.0), wish=Wish(("tflite",), ("float32",), (2.0,))))
    assert wide.pick.row is not None
    saved = save.write(replace(wide, pick=replace(wide.pick, row=row)), tmp_path / "out")
    assert saved.pruned == tmp_path / "out" / "m.pruned.keras"
    assert (tmp_path / "out" / "m.pruned.keras.recipe.json").read_text() == "{}"
    assert saved.model == tmp_path / "out" / "m.pruned-float32.tflite"


def test_the_line_of_a_candidate_that_a_class_or_the_gate_refuses_says_so() -> None:
    limits = Limits(max_drop=1.0, max_class_drop=5.0)
    class_lost = verdict(5, limits=limits)
    worst = PartDrop("class", "6", 100, 1.0, 0.9, 10.0, (5.0, 17.0), lost=10)
    line = said.told(replace(class_lost, passed=False, worst_class=worst), limits)
    assert line.endswith('n=1000)   10.0 points lost in class "6", 5.0 allowed')
    refused = GateVerdict("quantization", False, (), (), 3, 100, "scores, column 1: SQNR 0.1 dB")
    assert "it computes something else: scores, column 1" in said.told(gated(class_lost, refused), limits)
    whole = said.told(verdict(20, limits=limits), limits)
    assert whole.endswith("n=1000)"), "the line holds drop and limit already"


def test_the_budget_in_words_names_what_the_data_can_be_held_to(inlined: None, tmp_path: Path) -> None:
    asked = request(tmp_path, max_slice_drop=2.5, strict=True, max_bytes=4_000_000)
    found = Found(asked, Pick(None, "-"), (), ())
    assert report.budget_words(found) == ("at most 1.0 points lost, 5.0 in a class, all of it proven; at most 4.00 MB")
    dusk = np.arange(len(asked.evaluation)) < 50
    bare = replace(asked.evaluation, labels=None, slices={"dusk": dusk})
    words = report.budget_words(replace(found, request=replace(asked, evaluation=bare)))
    assert words.startswith("at most 1.0 points lost, 2.5 in a slice, all of it proven")


@pytest.mark.parametrize(
    ("strict", "float32_proven", "mended"), [(False, True, False), (True, True, True), (True, False, False)]
)
def test_with_strict_layers_stay_in_float_until_the_loss_is_proven_where_that_can_be(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool, float32_proven: bool, mended: bool
) -> None:
    """The two passed, int8 without a proof: layers are ranked for it only where float could be proven."""
    asked = request(tmp_path, strict=strict)
    ranked: list[str] = []
    running = Search(asked, ThreadPoolExecutor(1), Stopwatch(), Reporter())
    running._store()

    def rank(one: Candidate) -> tuple[()]:
        ranked.append(one.name)
        return ()

    monkeypatch.setattr(running, "_rank", rank)
    int8, exact = outcome("tflite int8", 8), outcome("tflite float32")
    assert int8.verdict is not None
    assert exact.verdict is not None
    assert int8.verdict.passed
    assert not int8.verdict.proven
    exact = replace(exact, verdict=replace(exact.verdict, proven=float32_proven))
    running._mix([int8, exact])
    assert ranked == (["tflite int8 fitted"] if mended else [])


@pytest.mark.parametrize(("float_loses", "mended"), [(0, True), (40, False)])
def test_what_breaks_the_budget_in_float_already_is_not_mended(
    inlined: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, float_loses: int, mended: bool
) -> None:
    """Nothing is tried for a pruned model that loses too much with all layers in float."""
    running = Search(request(tmp_path), ThreadPoolExecutor(1), Stopwatch(), Reporter())
    running._store()
    int8, exact, other = outcome("tflite int8", 60), outcome("tflite float32", float_loses), outcome("tflite float32")
    tried: list[str] = []

    def judge(candidates: Sequence[Candidate], samples: int) -> list[Outcome]:
        tried.extend(one.name for one in candidates)
        return [replace(int8, candidate=one) for one in candidates]

    monkeypatch.setattr(running, "_judge", judge)
    monkeypatch.setattr(running, "_rank", lambda one: ())
    pruned = [replace(o, candidate=replace(o.candidate, pruned=2.0)) for o in (int8, exact)]
    running._mix([*pruned, other])
    assert tried == (["pruned 2 × tflite int8 fitted"] if mended else [])
