"""The whole search: plan → rounds of halving → mixed precision → latency → pick.

The core knows an `Executor` and nothing more of where work runs. Whatever is made lies in the cache, so a search that
was interrupted goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeship import wording
from edgeship.bench import units
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError, EdgeshipError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import board, metrics, quality
from edgeship.optimize.board import Trial
from edgeship.optimize.prune.make import prune
from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.quality import Verdict
from edgeship.optimize.search import begin, halving, mending, pick, store
from edgeship.optimize.search.candidate import Candidate, Refusal, Wish, first, preferred_formats
from edgeship.optimize.search.evaluate import SEED, Job, Limits, Outcome, failed, work
from edgeship.optimize.search.latency import Stopwatch
from edgeship.optimize.search.pick import Budget, Pick, Row
from edgeship.optimize.search.said import row_data, told, why_none
from edgeship.optimize.search.sensitivity import Cost, rank
from edgeship.optimize.tuning.keeping import Tuned
from edgeship.profile import Profile
from edgeship.reporter import Reporter, Step
from edgeship.targets import registry, routes
from edgeship.targets.scheme import Scheme

BEGIN = "convert"  # the step that makes what candidates of a format start from
STEP = "try"  # the step of a candidate, for reporters that draw a table
ROUND = "round"  # that of all candidates of a round


@dataclass(frozen=True)
class Request:
    """What is looked for."""

    source: ModelFacts
    profile: Profile
    calibration: Dataset | None
    evaluation: Dataset
    budget: Budget
    folder: Path  # the cache
    wish: Wish = field(default_factory=Wish)
    metric: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def limits(self) -> Limits:
        """The part of the budget that is about quality."""
        return Limits(self.budget.max_drop, self.budget.max_class_drop, self.budget.max_slice_drop)


@dataclass(frozen=True)
class Tried:
    """What became of a candidate."""

    candidate: Candidate
    status: str  # pick | front | within | over | dropped | failed
    why: str
    outcome: Outcome | None = None  # of the last round that it took part in
    row: Row | None = None  # where it was judged on everything


@dataclass(frozen=True)
class Found:
    """What a search found."""

    request: Request
    pick: Pick
    tried: tuple[Tried, ...]
    refused: tuple[Refusal, ...]
    costs: Mapping[str, tuple[Cost, ...]] = field(default_factory=dict)  # candidate's name -> layers by cost
    pruned: Mapping[float, Tuned] = field(default_factory=dict)  # how many times less arithmetic -> the Keras model
    seconds: float = 0.0
    fault: EdgeshipError | None = None  # why not one candidate could be judged: no budget is the cause then
    runtimes: Mapping[str, Trial] = field(default_factory=dict)  # format -> candidates in the board's runtime


class Search:
    """One search while it runs.

    Args:
        request: what is looked for.
        executor: where candidates are built and judged.
        stopwatch: where survivors are timed.
        reporter: is told of every candidate: step "try" with its row as data.
    """

    def __init__(self, request: Request, executor: Executor, stopwatch: Stopwatch, reporter: Reporter) -> None:
        self._request, self._executor, self._stopwatch, self._reporter = request, executor, stopwatch, reporter
        self._last: dict[Candidate, Outcome] = {}
        self._gone: dict[Candidate, str] = {}
        self._costs: dict[str, tuple[Cost, ...]] = {}
        self._pruned: dict[float, Tuned] = {}
        self._doubts: set[str] = set()  # that were said
        self._untimed: list[tuple[str, str]] = []  # candidates whose timing failed, and why
        self._starts = {1.0: request.source}  # how many times less arithmetic -> the model

    def run(self) -> Found:
        """Search.

        Raises:
            UsageError: nothing can be built for the profile.
            ConversionError, InputError: the source cannot be converted at all.
        """
        begun = time.monotonic()
        request = self._request
        candidates, refused = first(request.profile, request.source, registry.targets(), request.wish)
        runtimes = self._runtimes(dict.fromkeys(candidate.format for candidate in candidates))
        self._prune()
        self._store()
        sizes = halving.rounds(len(request.evaluation))
        alive = self._begin(self._uncalibrated(list(candidates)), sizes[0])
        for number, size in enumerate(sizes):
            if not alive:
                break
            step = Step(ROUND, f"{number + 1} of {len(sizes)}")
            self._reporter.started(step)
            outcomes = self._judge(alive, size, step)
            alive, gone = halving.survivors(outcomes, request.limits, last=number + 1 == len(sizes))
            self._gone |= {g.candidate: g.why for g in gone}
            on = f"{wording.counted(len(outcomes), 'candidate')} on {size:,} of {len(request.evaluation):,} samples"
            self._reporter.finished(step, f"{on}, {len(alive)} go on")
        finalists = self._again([self._last[candidate] for candidate in alive])
        finalists += self._mix(finalists)
        rows = self._time(finalists)
        decided = pick.choose(
            rows, request.budget, arch=request.profile.hardware.arch,
            precisions=request.profile.build.precisions,
            formats=preferred_formats(request.profile.build.formats, request.source),
        )  # fmt: skip
        fault = None if rows else why_none(tuple(self._last.values()), self._gone)
        if fault is not None:
            decided = replace(decided, reason=f"{decided.reason}: {fault}")
        if decided.row is not None and self._untimed:  # the pick might be another one
            decided = replace(decided, reason=f"{decided.reason}; not timed: {routes.told(self._untimed)}")
        seconds = time.monotonic() - begun
        tried = self._tell(rows, decided)
        return Found(request, decided, tried, refused, self._costs, self._pruned, seconds, fault, runtimes)

    def _runtimes(self, formats: Iterable[str]) -> dict[str, Trial]:
        """What candidates of each format are tried in; said at once where that cannot be done here."""
        out: dict[str, Trial] = {}
        profile = self._request.profile
        for name in formats:
            runtime = profile.build.runtime[name]
            why = board.unchecked(runtime, name)
            if why is not None:
                why = f"not tried in {runtime}, which {profile.name} has: {why}"
                self._reporter.note(f"{name} candidates are {why}")
            out[name] = Trial(runtime, why is None, why or f"every candidate is loaded and run in {runtime}")
        return out

    # ── the rounds ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _prune(self) -> None:
        """The pruned models, fine-tuned on the calibration data, one after the other."""
        request = self._request
        for speedup in request.wish.prune:
            step = Step("prune", f"{speedup:g} ×")
            self._reporter.started(step)
            if request.calibration is None:
                raise UsageError("there is no data to fine-tune a pruned model on", hint="--data")
            tuned = prune(request.source, Plan(speedup=speedup), request.calibration, request.folder, self._reporter)
            self._pruned[speedup] = tuned
            self._starts[speedup] = registry.inspect(tuned.path)
            before, after = request.source.parameters, self._starts[speedup].parameters
            self._reporter.finished(step, f"{before:,} → {after:,} parameters" if before and after else "")

    def _store(self) -> None:
        """Samples to where all processes find them, and the source's own answers, for all rounds at once."""
        request = self._request
        step = Step("prepare")
        self._reporter.started(step)
        sizes = {*halving.rounds(len(request.evaluation)), min(halving.RACE, len(request.evaluation))}
        for start in self._starts.values():
            registry.prepare(start, [request.evaluation.take(n, SEED) for n in sorted(sizes)], request.folder)
        self._evaluation = store.put(request.evaluation, request.folder)
        self._calibration = None if request.calibration is None else store.put(request.calibration, request.folder)
        data = "none" if request.calibration is None else f"{len(request.calibration):,}"
        said = f"the source's own answers; {data} calibration and {len(request.evaluation):,} evaluation samples"
        self._reporter.finished(step, said)

    def _uncalibrated(self, candidates: list[Candidate]) -> list[Candidate]:
        """Without calibration data nothing that needs it is tried."""
        if self._request.calibration is not None:
            return candidates
        for candidate in candidates:
            if candidate.scheme.needs_data and candidate.scheme.precision != self._request.source.precision:
                self._gone[candidate] = "it needs calibration data, and there is none"
        return [c for c in candidates if c not in self._gone]

    def _begin(self, candidates: Sequence[Candidate], samples: int) -> list[Candidate]:
        """What the candidates of a format start from, made once; those go on whose start was made."""
        groups = {group.start: group for group in begin.groups(candidates, self._request.source)}
        alive: set[Candidate] = set()
        built: list[Outcome] = []
        for outcome in self._outcomes(begin.perform, BEGIN, list(groups), samples):
            step = outcome.candidate.step(BEGIN)
            if outcome.error is None:
                built.append(outcome)
                self._reporter.finished(step, "", {"seconds": outcome.seconds})
            else:
                self._spare(groups[outcome.candidate], outcome, step)
        for outcome in built:
            if self._rehearsed(groups[outcome.candidate], outcome, samples):
                alive.update(groups[outcome.candidate].members)
        return [candidate for candidate in candidates if candidate in alive]

    def _rehearsed(self, group: begin.Group, built: Outcome, samples: int) -> bool:
        """Whether the source's own answers, and the metric of them, are what candidates can be judged by."""
        request = self._request
        evaluation = request.evaluation.take(samples, SEED)
        metric = request.metric or metrics.default(evaluation.labels, evaluation.targets)
        step = Step("source", f"answers for {built.candidate.name}, and {metrics.title(metric)} of them")
        self._reporter.started(step)
        assert built.variant is not None
        try:
            doubt = quality.rehearse(request.source, built.variant, evaluation, metric, self._reporter)
        except EdgeshipError as error:
            self._spare(group, failed(built.candidate, error, built.variant, built.seconds), step)
            return False
        self._reporter.finished(step, "")
        if doubt is not None and doubt not in self._doubts:  # it is the same for every format
            self._doubts.add(doubt)
            self._reporter.note(doubt)
        return True

    def _spare(self, group: begin.Group, outcome: Outcome, step: Step) -> None:
        """What candidates start from is not there: none of them is tried."""
        why = outcome.error or ""
        self._last |= {member: replace(outcome, candidate=member) for member in group.members}
        self._gone |= dict.fromkeys(group.members, why)
        spared = wording.counted(len(group.members), "candidate")
        said = f"{why.splitlines()[0]}   so none of {spared} is tried"
        self._reporter.finished(step, said, {"seconds": outcome.seconds, "passed": False})

    def _judge(self, candidates: Sequence[Candidate], samples: int, step: Step | None = None) -> list[Outcome]:
        """Build and judge on so many samples; in the order of the candidates. `step` is told how many are done."""
        for done, outcome in enumerate(self._outcomes(work, STEP, candidates, samples), 1):
            self._last[outcome.candidate] = outcome
            self._say(outcome)
            if step is not None:
                self._reporter.progress(step, done, len(candidates))
        return [self._last[candidate] for candidate in candidates]

    def _again(self, finalists: list[Outcome]) -> list[Outcome]:
        """The finalists, with those who left early in their places where that meets the budget (`halving.again`)."""
        limits = self._request.limits
        back = halving.again(finalists, tuple(self._last.values()), limits, self._holds)
        if not back:
            return finalists
        step = Step(ROUND, "again")
        self._reporter.started(step)
        outcomes = self._judge(back, len(self._request.evaluation), step)
        alive, gone = halving.survivors([*finalists, *outcomes], limits, last=True)
        self._gone = {c: why for c, why in self._gone.items() if c not in alive} | {g.candidate: g.why for g in gone}
        said = f"{wording.counted(len(back), 'candidate')} that left early, since none of their kind meets the budget"
        self._reporter.finished(step, said)
        return [self._last[candidate] for candidate in alive]

    def _outcomes(
        self, perform: Callable[[Job], Outcome], name: str, candidates: Sequence[Candidate], samples: int
    ) -> Iterator[Outcome]:  # fmt: skip
        """What became of a job for each candidate, as they come; reporters are told that the step `name` begins.

        Where that is broken off, whose pool it is ends the others. They are not cancelled here: a pool of Python 3.11
        whose processes are ended then would print a traceback (its thread cannot tell a cancelled job that it failed).
        """
        jobs: list[Future[Outcome]] = []
        for candidate in candidates:
            job = Job(
                self._request.source, self._starts[candidate.pruned], candidate, self._calibration, self._evaluation,
                samples, self._request.limits, self._request.folder, self._request.metric, self._request.labels,
                runtime=self._request.profile.build.runtime[candidate.format],
            )  # fmt: skip
            self._reporter.started(candidate.step(name))
            jobs.append(self._executor.submit(perform, job))
        for future in as_completed(jobs):
            yield future.result()

    def _say(self, outcome: Outcome) -> None:
        why = outcome.error or "not judged"
        # an error may name another candidate, whose float model it starts from
        text = f"{outcome.candidate.name}: {why}"
        if outcome.verdict is not None and outcome.variant is not None:
            text = f"{told(outcome.verdict, self._request.limits)}   {units.size(outcome.variant.bytes)}"
        elif outcome.candidate not in self._gone:
            self._gone[outcome.candidate] = why
        self._reporter.finished(outcome.candidate.step(STEP), text.splitlines()[0], row_data(outcome))

    # ── mixed precision ──────────────────────────────────────────────────────────────────────────────────────────────

    def _mix(self, finalists: Sequence[Outcome]) -> list[Outcome]:
        """What mends the finalists that break the budget (`mending`)."""
        out: list[Outcome] = []
        means = mending.Means(self._judge, self._rank, self._holds, self._lost, len(self._request.evaluation))
        for outcome in finalists:
            candidate, verdict = outcome.candidate, outcome.verdict
            if verdict is None or self._holds(verdict) or self._calibration is None:
                continue
            if not mending.mendable(candidate, self._request.source.precision):
                continue
            whole = self._whole(candidate, finalists)
            if verdict.passed and not all(exact is not None and exact.proven for exact in whole):
                continue  # the samples are too few: where float32 is not proven, nothing is
            if any(exact is not None and not exact.passed for exact in whole):
                continue  # pruning lost too much: with all layers in float it does still
            mended = mending.mend(outcome, means)
            out += mended.found
            self._gone = mended.gone | self._gone
        return out

    def _holds(self, verdict: Verdict) -> bool:
        """Whether nothing has to be mended; with `strict` what is not proven has."""
        return verdict.passed and (verdict.proven or not self._request.budget.strict)

    def _whole(self, candidate: Candidate, finalists: Sequence[Outcome]) -> list[Verdict | None]:
        """How a candidate did with all layers in float, where that was tried."""
        return [
            o.verdict for o in finalists
            if o.candidate == replace(candidate, scheme=Scheme("float32"), why=o.candidate.why)
        ]  # fmt: skip

    def _rank(self, candidate: Candidate) -> tuple[Cost, ...]:
        step = Step("rank", candidate.name)
        self._reporter.started(step)
        request = self._request
        assert request.calibration is not None
        try:
            costs = rank(self._starts[candidate.pruned], candidate, request.calibration, request.folder, self._reporter)
        except ConversionError as error:  # the search has a result without it
            self._reporter.note(f"no mixed precision from {candidate.name}: {str(error).splitlines()[0]}")
            return ()
        self._costs[candidate.name] = costs
        worst = ", ".join(cost.layer.source_name for cost in costs[:3])
        self._reporter.finished(
            step, f"{wording.counted(len(costs), 'layer')} by what int8 costs in each; worst: {worst}"
        )
        return costs

    def _lost(self, outcome: Outcome) -> bool:
        """Whether it is proven that the budget is broken, or it could not be judged."""
        return outcome.verdict is None or outcome.verdict.interval[0] > self._request.limits.max_drop

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _time(self, finalists: Sequence[Outcome]) -> list[Row]:
        """Rows with latencies, one measurement after the other."""
        rows: list[Row] = []
        for outcome in finalists:
            assert outcome.variant is not None
            assert outcome.verdict is not None
            row = Row(outcome.candidate, outcome.variant, outcome.verdict)
            if (why := self._stopwatch.refuses(outcome.variant)) is not None:
                rows.append(replace(row, untimed=why))
                continue
            step = outcome.candidate.step("time")
            self._reporter.started(step)
            begun = time.monotonic()
            try:
                found = self._stopwatch.time(outcome.variant)
            except EdgeshipError as error:  # the other candidates may be timed all the same
                rows.append(replace(row, untimed=str(error)))
                self._untimed.append((outcome.candidate.name, str(error).splitlines()[0]))
                self._reporter.finished(step, str(error).splitlines()[0], {"passed": False})
                continue
            text = f"median {units.time(found.median_us)}, p95 {units.time(found.p95_us)} on {found.place}"
            took = {"seconds": time.monotonic() - begun}  # of the timing, not of the build
            self._reporter.finished(step, text, row_data(outcome) | {"latency": found.encode()} | took)
            rows.append(replace(row, latency=found))
        return rows

    def _tell(self, rows: Sequence[Row], decided: Pick) -> tuple[Tried, ...]:
        by_candidate = {row.candidate: row for row in rows}
        best = pick.front(rows)
        out: list[Tried] = []
        for candidate, outcome in self._last.items():
            row = by_candidate.get(candidate)
            if row is None:
                status = "failed" if outcome.verdict is None else "dropped"
                out.append(Tried(candidate, status, self._gone.get(candidate, outcome.error or ""), outcome))
                continue
            broken = "; ".join(m.text for m in pick.misses(row, self._request.budget))
            status = "over" if broken else "pick" if row is decided.row else "front" if row in best else "within"
            out.append(Tried(candidate, status, broken, outcome, row))
        out += [Tried(c, "dropped", why) for c, why in self._gone.items() if c not in self._last]
        return tuple(out)
