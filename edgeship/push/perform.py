"""Carries a push out: convert → check → deploy → bench, each stage in its own room, nothing past a gate.

Nothing reaches a device before every variant is built and checked and the release is signed. The audit trail says who
pushed what, whether the check was skipped, and how it ended on each device.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edgeship import dataset, libraries, wording
from edgeship.bench import device as bench
from edgeship.bench import record as records
from edgeship.bench import report
from edgeship.bench.protocol import BenchOptions
from edgeship.config import Project
from edgeship.dataset import Dataset
from edgeship.deploy.contact import open_agent
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import fleet_run, raise_for
from edgeship.deploy.perform import Deployed
from edgeship.deploy.store import Store
from edgeship.errors import GateError, InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.optimize import board, golden, metrics, own, quality
from edgeship.optimize.quality import Verdict
from edgeship.profile import Profile
from edgeship.push import rescue
from edgeship.push.plan import Build, Options, Plan, compared, size_error
from edgeship.push.rollout import Rollout
from edgeship.release.build import Draft, DraftVariant, PublishedRelease, publish
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import Manifest
from edgeship.targets import registry, routes
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme

#: What a push measures on each device at its end; `edgeship bench run` measures longer.
BENCH = BenchOptions(runs=512, warmup=32, max_seconds=5.0)


@dataclass(frozen=True)
class Result:
    """How a push went."""

    release: PublishedRelease
    verdicts: Mapping[str, Verdict]  # build name -> what the check measured
    deployed: tuple[Deployed, ...]


class Performer:
    """One push while it runs."""

    def __init__(
        self, project: Project, profiles: Mapping[str, Profile], repository: Repository, store: Store,
        reporter: Reporter, options: Options,
    ) -> None:  # fmt: skip
        self._project, self._profiles, self._repository = project, profiles, repository
        self._store, self._reporter, self._options = store, reporter, options
        self._variants = project.state / "variants"

    def perform(self, plan: Plan) -> Result:
        """Carry a plan out.

        Raises:
            GateError: a variant breaks the budget of edgeship.toml; nothing was sent.
            RolledBackError, UnfitError, AuthError, UnreachableError, DeviceError: every device failed for this reason.
            PartialFailure: some devices failed, or for different reasons.
            UsageError, InputError, ConversionError: see the message.
        """
        calibration, evaluation = self._data(plan)
        if not self._options.skip_check:
            metrics.check_early(
                self._project.data.metric, evaluation.labels, evaluation.targets, plan.source.outputs, self._reporter
            )  # fmt: skip
        self._prepare(plan, evaluation)
        if not self._options.skip_check:
            self._rehearse(plan, evaluation)
        made: dict[str, tuple[Variant, Verdict | None]] = {}
        for build in plan.builds:  # two builds of one name differ in threads alone
            if build.name not in made:
                made[build.name] = self._make(plan, build, calibration, evaluation)
        drafts = [self._draft(plan, build, evaluation, *made[build.name]) for build in plan.builds]
        release = self._publish(plan, drafts)
        rollout = Rollout(
            self._project, self._profiles, self._repository, self._store, self._reporter, self._options.jobs,
            self._options.one_first,
        )  # fmt: skip
        outcomes = rollout.send(release, plan.devices)
        if self._options.bench:  # one after the other: virtual devices share this machine's processors
            raise_for(fleet_run([o.device for o in outcomes if o.ok], self._measure, 1))
        raise_for(outcomes)
        verdicts = {name: verdict for name, (_, verdict) in made.items() if verdict is not None}
        return Result(release, verdicts, tuple(o.result for o in outcomes if o.result is not None))

    def _make(
        self, plan: Plan, build: Build, calibration: Dataset | None, evaluation: Dataset
    ) -> tuple[Variant, Verdict | None]:  # fmt: skip
        """The variant of a build, checked; where the plain one breaks the budget, the best that a search finds."""
        variant = self._convert(plan, build, calibration)
        verdict = self._check(plan, build, variant, evaluation)
        if verdict is None or self._holds(verdict):
            return variant, verdict
        row = None
        if rescue.worth(plan.source, build, calibration):
            row = rescue.search(self._project, plan.source, build, calibration, evaluation, self._options.strict,
                                self._profiles[build.profiles[0]], self._reporter)  # fmt: skip
        if row is None:
            self._refuse(plan, build, verdict)
        return row.variant, row.verdict

    def _holds(self, verdict: Verdict) -> bool:
        return verdict.passed and (verdict.proven or not self._options.strict)

    def _refuse(self, plan: Plan, build: Build, verdict: Verdict) -> NoReturn:
        """Raise GateError."""
        self._store.audit("check.refused", plan.model, {"variant": build.name, "summary": verdict.summary})
        if verdict.gate is not None:
            verdict.gate.require(build.name)
        raise GateError(
            f"{build.name} breaks the budget: {verdict.summary}",
            hint="look at the calibration data (same scale and preparation as in training?), try another "
            "precision, or change [budget]; --skip-check pushes it all the same and is recorded",
        )

    def _prepare(self, plan: Plan, evaluation: Dataset) -> None:
        """What TensorFlow is started for, once for all variants; a line of its own, since it takes the longest."""
        if not routes.prepares(plan.source):
            return
        step = Step("export")
        self._reporter.started(step)
        registry.prepare(plan.source, [evaluation], self._variants)
        self._reporter.finished(step, f"{plan.source.format} → float models, and the source model's own answers")

    def _rehearse(self, plan: Plan, evaluation: Dataset) -> None:
        """Call a metric of one's own with the source's answers, before anything is made that it is to judge.

        Raises:
            As `quality.rehearse`.
        """
        metric = self._project.data.metric
        if metric is None or not own.is_own(metric):
            return
        first = plan.builds[0]
        step = Step("source", f"answers for {first.format}, and {metrics.title(metric)} of them")
        self._reporter.started(step)
        precision = first.precision if first.precision == plan.source.precision else "float32"
        target = registry.target(first.format)
        start = target.build(plan.source, Scheme(precision), None, self._variants, self._reporter)
        doubt = quality.rehearse(plan.source, start, evaluation, metric, self._reporter)
        self._reporter.finished(step, "")
        if doubt is not None:
            self._reporter.note(doubt)

    def _publish(self, plan: Plan, drafts: Sequence[DraftVariant]) -> PublishedRelease:
        skipped = self._options.skip_check
        approved = self._options.approved_by if skipped else None
        release = publish(self._repository, Draft(plan.model, drafts), skipped=skipped, approved_by=approved)
        self._store.audit(
            "release.publish", plan.model,
            {"counter": release.manifest.counter, "source_sha256": plan.source.sha256, "skipped": skipped,
             "approved_by": approved},
        )  # fmt: skip
        return release

    def _data(self, plan: Plan) -> tuple[Dataset | None, Dataset]:
        """Calibration data where there is any, and evaluation data."""
        config, options = self._project.data, self._options
        representative = options.calibration or config.representative
        calibration = None if representative is None else self._load(representative, plan)
        evaluation = options.evaluation or config.evaluation
        if evaluation is None:
            raise UsageError(
                "there is no evaluation data to check with, nor to take golden samples from",
                hint='--evaluation DATA, or [data] evaluation = "DATA" in edgeship.toml',
            )
        samples = self._load(evaluation, plan)
        if calibration is not None:
            self._doubt(calibration, samples)
        return calibration, samples

    def _doubt(self, calibration: Dataset, evaluation: Dataset) -> None:
        """Say what is odd about the data. Whether it does harm is for the check to say, and that can be skipped."""
        try:
            doubts = dataset.doubts(calibration, evaluation)
        except InputError as error:
            doubts = (f"{error}: {error.hint}",)
        for doubt in doubts:
            self._reporter.note(doubt)

    def _load(self, path: Path, plan: Plan) -> Dataset:
        return dataset.load(
            path, plan.source, preparation=self._project.data.preparation, classes=self._project.model.labels,
            reporter=self._reporter,
        )  # fmt: skip

    def _convert(self, plan: Plan, build: Build, calibration: Dataset | None) -> Variant:
        step = Step("convert", build.name)
        self._reporter.started(step)
        variant = registry.target(build.format).build(
            plan.source, Scheme(build.precision), calibration, self._variants, self._reporter
        )
        board.check(variant, build.runtime, None, self._reporter, what=f"{plan.source.path}: {build.name}")
        if broken := size_error(build, variant.bytes, self._project.budget):
            raise GateError(broken, hint="a smaller model, another precision, or a larger [budget] max_size")
        summary = converted(plan.source, variant)
        self._reporter.finished(step, summary, {"bytes": variant.bytes, "sha256": variant.sha256, "why": build.why})
        return variant

    def _check(self, plan: Plan, build: Build, variant: Variant, evaluation: Dataset) -> Verdict | None:
        if self._options.skip_check:
            self._reporter.note(
                f"{build.name}: the check is skipped by {self._options.approved_by}; the release says so"
            )
            return None
        if plan.source.precision != "float32":
            self._reporter.note(f"{build.name}: the check compares {compared(plan.source)}")
        step = Step("check", build.name)
        self._reporter.started(step)
        verdict = quality.check(
            plan.source, variant, evaluation, self._project.budget, threads=build.threads, reporter=self._reporter,
            metric=self._project.data.metric, labels=self._labels(evaluation),
        )  # fmt: skip
        data = {"drop": verdict.drop, "samples": verdict.samples, "passed": self._holds(verdict)}
        self._reporter.finished(step, verdict.summary, data)
        return verdict

    def _draft(
        self, plan: Plan, build: Build, evaluation: Dataset, variant: Variant, verdict: Verdict | None
    ) -> DraftVariant:  # fmt: skip
        samples = golden.make(plan.source, variant, evaluation, verdict=verdict, threads=build.threads)
        architectures = {self._arch(d) for d in plan.devices if d.profile in build.profiles}
        budget = self._project.budget
        return DraftVariant(
            variant=variant, golden=samples, profiles=build.profiles, threads=build.threads, verdict=verdict,
            libraries=[
                libraries.fetch(build.runtime, arch, wheelhouse=self._options.wheelhouse, reporter=self._reporter)
                for arch in sorted(architectures)
            ],
            labels=self._labels(evaluation), task="classification" if evaluation.labels is not None else "other",
            latency_p95_ms=budget.max_latency_p95_ms,
            memory_mb=None if budget.max_memory_bytes is None else budget.max_memory_bytes / 1e6,
        )  # fmt: skip

    def _labels(self, evaluation: Dataset) -> tuple[str, ...]:
        """Names of the classes: the project's, else those of the data."""
        return tuple(self._project.model.labels) or tuple(evaluation.classes)

    def _arch(self, device: Device) -> str:
        return device.arch or self._profiles[device.profile].hardware.arch

    def _measure(self, device: Device) -> None:
        step = Step("bench", device.name)
        self._reporter.started(step)
        link = open_agent(device, self._profiles[device.profile], reporter=self._reporter)
        try:
            record = bench.run(link.client, device, self._manifest, BENCH, clock=time.time())
        finally:
            link.close()
        records.save(record, self._project.state / "bench")
        self._reporter.finished(step, report.line(record))

    def _manifest(self, model: str, counter: int) -> Manifest:
        return self._repository.manifest(model, counter)[0]


def converted(source: ModelFacts, variant: Variant) -> str:
    """What became of the source, for people: from what to what, the samples that its ranges come from, the sizes."""
    name = f"{variant.format} {variant.precision}"
    if variant.sha256 == source.sha256:
        return f"{name}, as it is   {_mb(variant.bytes)} MB"
    used = variant.recipe.calibration
    samples = f" ({wording.counted(int(used['samples']), 'calibration sample')})" if used else ""
    return f"{source.format} → {name}{samples}   {_mb(source.bytes)} → {_mb(variant.bytes)} MB"


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f}" if size < 995_000 else f"{size / 1e6:.1f}"
