"""Carries a push out: convert → check → deploy → bench, each stage in its own room, nothing past a gate.

Nothing reaches a device before every variant is built and checked and the release is signed. The audit trail says who
pushed what, whether the check was skipped, and how it ended on each device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeship import dataset, libraries
from edgeship.config import Project
from edgeship.dataset import Dataset
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import fleet_run, raise_for
from edgeship.deploy.perform import Deployed
from edgeship.deploy.store import Store
from edgeship.errors import GateError, UsageError
from edgeship.optimize import golden, quality
from edgeship.optimize.quality import Verdict
from edgeship.profile import Profile
from edgeship.push.plan import Build, Options, Plan, size_error
from edgeship.push.rollout import Rollout
from edgeship.release.build import Draft, DraftVariant, PublishedRelease, publish
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter, Step
from edgeship.targets.base import Target, Variant

#: Measures one device after a deploy and says so in a line: bound to `edgeship.bench` by the caller.
Bench = Callable[[Device], str]


@dataclass(frozen=True)
class Result:
    """How a push went."""

    release: PublishedRelease
    verdicts: Mapping[str, Verdict]  # build name -> what the check measured
    deployed: tuple[Deployed, ...]


class Performer:
    """One push while it runs."""

    def __init__(
        self, project: Project, profiles: Mapping[str, Profile], targets: Mapping[str, Target], repository: Repository,
        store: Store, reporter: Reporter, options: Options,
    ) -> None:  # fmt: skip
        self._project, self._profiles, self._targets = project, profiles, targets
        self._repository, self._store, self._reporter, self._options = repository, store, reporter, options

    def perform(self, plan: Plan, bench: Bench | None) -> Result:
        """Carry a plan out.

        Args:
            plan: what to do.
            bench: measures a device after its deploy; None: no benchmark.

        Raises:
            GateError: a variant breaks the budget of edgeship.toml; nothing was sent.
            RolledBackError, UnfitError, AuthError, UnreachableError, DeviceError: every device failed for this reason.
            PartialFailure: some devices failed, or for different reasons.
            UsageError, InputError, ConversionError: see the message.
        """
        calibration, evaluation = self._data(plan)
        variants = {build: self._convert(plan, build, calibration) for build in plan.builds}
        drafts, verdicts = [], {}
        for build, variant in variants.items():
            if broken := size_error(build, variant.bytes, self._project.budget):
                raise GateError(broken, hint="a smaller model, another precision, or a larger [budget] max_size")
            verdict = self._check(plan, build, variant, evaluation)
            if verdict is not None:
                verdicts[build.name] = verdict
            drafts.append(self._draft(plan, build, variant, evaluation, verdict))
        skipped = self._options.skip_check
        approved = self._options.approved_by if skipped else None
        release = publish(self._repository, Draft(plan.model, drafts), skipped=skipped, approved_by=approved)
        about = {"counter": release.manifest.counter, "source_sha256": plan.source.sha256, "skipped": skipped}
        self._store.audit("release.publish", plan.model, about | {"approved_by": approved})
        rollout = Rollout(
            self._project, self._profiles, self._repository, self._store, self._reporter, self._options.jobs,
            self._options.one_first,
        )  # fmt: skip
        outcomes = rollout.send(release, plan.devices)
        good = [o.result for o in outcomes if o.result is not None]
        if bench is not None:
            # one after the other: virtual devices share this machine's processors
            raise_for(fleet_run([o.device for o in outcomes if o.ok], self._measure(bench), 1))
        raise_for(outcomes)
        return Result(release, verdicts, tuple(good))

    def _data(self, plan: Plan) -> tuple[Dataset | None, Dataset]:
        """Calibration data where there is any, and evaluation data."""
        config, options = self._project.data, self._options
        representative = options.calibration or config.representative
        calibration = None if representative is None else dataset.load(representative, plan.source)
        evaluation = options.evaluation or config.evaluation
        if evaluation is None:
            raise UsageError(
                "there is no evaluation data to check with, nor to take golden samples from",
                hint='--evaluation FILE.npz, or [data] evaluation = "FILE.npz" in edgeship.toml',
            )
        return calibration, dataset.load(evaluation, plan.source)

    def _convert(self, plan: Plan, build: Build, calibration: Dataset | None) -> Variant:
        step = Step("convert", build.name)
        self._reporter.started(step)
        variant = self._targets[build.format].build(
            plan.source, build.precision, calibration, self._project.state / "variants", self._reporter
        )
        samples = (
            f" ({len(calibration)} calibration samples)"
            if calibration is not None and build.precision == "int8"
            else ""
        )
        summary = f"{plan.source.format} → {build.name}{samples}   {_mb(plan.source.bytes)} → {_mb(variant.bytes)} MB"
        self._reporter.finished(step, summary, {"bytes": variant.bytes, "sha256": variant.sha256, "why": build.why})
        return variant

    def _check(self, plan: Plan, build: Build, variant: Variant, evaluation: Dataset) -> Verdict | None:
        if self._options.skip_check:
            self._reporter.note(
                f"{build.name}: the check is skipped by {self._options.approved_by}; the release says so"
            )
            return None
        step = Step("check", build.name)
        self._reporter.started(step)
        verdict = quality.check(
            plan.source, variant, evaluation, self._project.budget, threads=build.threads, reporter=self._reporter
        )
        if not verdict.passed or (self._options.strict and not verdict.proven):
            self._store.audit("check.refused", plan.model, {"variant": build.name, "summary": verdict.summary})
            raise GateError(
                f"{build.name} breaks the budget: {verdict.summary}",
                hint="look at the calibration data (same scale and preparation as in training?), try another "
                "precision, or change [budget]; --skip-check pushes it all the same and is recorded",
            )
        self._reporter.finished(step, verdict.summary, {"drop": verdict.drop, "samples": verdict.samples})
        return verdict

    def _draft(
        self, plan: Plan, build: Build, variant: Variant, evaluation: Dataset, verdict: Verdict | None
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
            labels=self._project.model.labels, task="classification" if evaluation.labels is not None else "other",
            latency_p95_ms=budget.max_latency_p95_ms,
            memory_mb=None if budget.max_memory_bytes is None else budget.max_memory_bytes / 1e6,
        )  # fmt: skip

    def _arch(self, device: Device) -> str:
        return device.arch or self._profiles[device.profile].hardware.arch

    def _measure(self, bench: Bench) -> Callable[[Device], None]:
        def one(device: Device) -> None:
            step = Step("bench", device.name)
            self._reporter.started(step)
            self._reporter.finished(step, bench(device))

        return one


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f}" if size < 995_000 else f"{size / 1e6:.1f}"
