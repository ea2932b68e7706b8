"""Small signed releases that a real agent serves: a tiny classifier out of `models`."""

from __future__ import annotations

from pathlib import Path

from edgeship.release.build import PublishedRelease
from edgeship.release.repository import File, Repository
from edgeship.runtime.manifest import Manifest
from tests.simulators import models, releases


def publish(
    repository: Repository, folder: Path, precision: models.Precision = "int8", *, bad: bool = False
) -> PublishedRelease:
    """The next release of digits: a tiny classifier, or one that answers wrongly."""
    folder.mkdir()
    tiny = models.tiny_tflite(folder / "tiny.tflite", precision, bad=bad)
    variant = models.variant_ref(tiny, folder / "golden", profiles=("generic-x86-64", "generic-arm64"))
    files = [
        File(tiny.path, variant.file),
        File(folder / "golden", variant.golden.file),
        releases.file(folder, b"{}"),
        File(models.library("tflite"), variant.runtimes[0].file),
    ]

    def manifest(counter: int) -> Manifest:
        return Manifest("digits", counter, "2026-11-22T09:30:00Z", (variant,))

    return PublishedRelease(*repository.publish("digits", manifest, files))
