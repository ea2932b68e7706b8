"""From checked variants to a signed release, and back to an earlier one.

`publish` turns a draft into a manifest and hands it to the repository with every file it refers to. `rollback` signs a
new release, with a new counter, that points at an earlier release's files: a device only ever moves forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from edgeship.errors import ReleaseError
from edgeship.libraries import Library
from edgeship.release.durable import sha256_of
from edgeship.release.repository import File, Repository, references, target_path, utc_now
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, VariantRef
from edgeship.targets.base import Variant


class Measured(Protocol):
    """What the quality check says of a variant (`edgeship.optimize.quality.Verdict`)."""

    @property
    def metric(self) -> str:
        """Name of the metric, "top1"."""
        ...

    @property
    def float_value(self) -> float:
        """The metric of the source float model, 0 to 1."""
        ...

    @property
    def variant_value(self) -> float:
        """The metric of the variant."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the drop, in points."""
        ...

    @property
    def samples(self) -> int:
        """Evaluation samples."""
        ...


class GoldenSamples(Protocol):
    """Golden samples on this host (`edgeship.optimize.golden.GoldenFile`)."""

    @property
    def path(self) -> Path:
        """The file of tensors."""
        ...

    @property
    def golden(self) -> Golden:
        """Its description."""
        ...


@dataclass(frozen=True)
class DraftVariant:
    """One variant that goes into a release.

    Attributes:
        libraries: its runtime library, once for each architecture among the devices.
        profiles: names of the hardware profiles that get it.
        verdict: what the check measured; None when it was skipped.
        latency_p95_ms: limit that the device's probe holds it to; None: none.
        memory_mb: likewise.
    """

    variant: Variant
    golden: GoldenSamples
    libraries: Sequence[Library]
    profiles: Sequence[str]
    threads: int = 1
    labels: Sequence[str] = ()
    task: str = "classification"
    verdict: Measured | None = None
    latency_p95_ms: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class Draft:
    """A release before it has a counter and signatures."""

    model: str
    variants: Sequence[DraftVariant]


@dataclass(frozen=True)
class PublishedRelease:
    """A signed release."""

    manifest: Manifest
    manifest_sha256: str

    @property
    def target_path(self) -> str:
        """The name of its manifest in the signed metadata."""
        return target_path(self.manifest.model)


def publish(
    repository: Repository, draft: Draft, *, skipped: bool = False, approved_by: str | None = None,
    now: Callable[[], datetime] = utc_now,
) -> PublishedRelease:  # fmt: skip
    """Sign and publish a draft as the model's next release.

    Args:
        repository: where to.
        draft: what.
        skipped: the quality check was skipped; stamped into the manifest.
        approved_by: who said so.
        now: the clock that dates it.

    Raises:
        ReleaseError: no variants, a profile twice, or a file changed meanwhile.
    """
    if not draft.variants:
        raise ReleaseError(f"a release of {draft.model!r} without variants")
    profiles = [p for v in draft.variants for p in v.profiles]
    if doubled := sorted({p for p in profiles if profiles.count(p) > 1}):
        raise ReleaseError(f"two variants for the same profile: {', '.join(doubled)}")
    files: dict[str, File] = {}
    refs = []
    for item in draft.variants:
        ref, own = _refer(item)
        refs.append(ref)
        files |= {file.ref.sha256: file for file in own}
    created = now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def manifest(counter: int) -> Manifest:
        return Manifest(draft.model, counter, created, tuple(refs), skipped, approved_by)

    return PublishedRelease(*repository.publish(draft.model, manifest, files.values()))


def current(repository: Repository, model: str) -> PublishedRelease:
    """The model's current release. Raises ReleaseError when there is none."""
    return PublishedRelease(*repository.manifest(model))


def rollback(
    repository: Repository, model: str, *, to: int | None = None, approved_by: str | None = None,
    now: Callable[[], datetime] = utc_now,
) -> PublishedRelease:  # fmt: skip
    """Sign a new release that points at the files of an earlier one.

    Args:
        repository: where.
        model: which model.
        to: counter of the earlier release; None: the one before the current one.
        approved_by: who asked for it.
        now: the clock that dates it.

    Raises:
        ReleaseError: there is no such release within reach.
    """
    old, _ = repository.manifest(model, earlier(repository, model, to))
    created = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    files = [File(repository.blob(ref.sha256), ref) for ref in references(old)]

    def manifest(counter: int) -> Manifest:
        return replace(old, counter=counter, created=created, approved_by=approved_by or old.approved_by)

    return PublishedRelease(*repository.publish(model, manifest, files))


def earlier(repository: Repository, model: str, to: int | None = None) -> int:
    """Counter of the release that `rollback` brings back. Raises ReleaseError when there is none within reach."""
    entry = repository.models().get(model)
    if entry is None:
        raise ReleaseError(f"nothing of model {model!r} was released here", hint="edgeship push MODEL")
    if to is None:
        return _before(repository, model, entry.history)
    repository.manifest(model, to)
    return to


def _before(repository: Repository, model: str, history: Sequence[tuple[int, str]]) -> int:
    """The newest earlier release whose variants differ: rolling back twice goes on, not back and forth."""
    variants = repository.manifest(model)[0].variants
    for counter, _ in history[1:]:
        if repository.manifest(model, counter)[0].variants != variants:
            return counter
    raise ReleaseError(f"model {model!r} has no earlier release to go back to", hint="edgeship push MODEL")


def _refer(item: DraftVariant) -> tuple[VariantRef, list[File]]:
    """The manifest's entry for one variant, and the files it refers to (licences of libraries go along)."""
    variant = item.variant
    model = FileRef(variant.sha256, variant.bytes)
    recipe = FileRef(*sha256_of(variant.recipe_path))
    runtimes, files = [], [
        File(variant.path, model), File(variant.recipe_path, recipe), File(item.golden.path, item.golden.golden.file),
    ]  # fmt: skip
    for library in item.libraries:
        ref = FileRef(library.sha256, library.bytes)
        runtimes.append(RuntimeRef(library.name, library.arch, ref))
        files.append(File(library.path, ref))
        if library.license is not None:
            files.append(File(library.license, FileRef(*sha256_of(library.license))))
    if not runtimes:
        raise ReleaseError(f"the {variant.format} {variant.precision} variant has no runtime library",
                           hint="edgeship runtime fetch PROFILE")  # fmt: skip
    return VariantRef(
        profiles=tuple(item.profiles), format=variant.format, precision=variant.precision, file=model,
        runtimes=tuple(runtimes), recipe=recipe, inputs=variant.inputs, outputs=variant.outputs,
        golden=item.golden.golden, threads=item.threads, task=item.task, labels=tuple(item.labels),
        measured=_measured(item.verdict), latency_p95_ms=item.latency_p95_ms, memory_mb=item.memory_mb,
    ), files  # fmt: skip


def _measured(verdict: Measured | None) -> Mapping[str, Any]:
    if verdict is None:
        return {}
    return {
        "metric": verdict.metric, "float": verdict.float_value, "variant": verdict.variant_value,
        "samples": verdict.samples, "drop_interval": list(verdict.interval),
    }  # fmt: skip
