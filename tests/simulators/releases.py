"""Small signed releases: made-up bytes for what moves files and runs no model, the tiny classifier for the rest."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from edgeship.release.build import PublishedRelease
from edgeship.release.keys import KeySet
from edgeship.release.repository import File, Repository, utc_now
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from tests.simulators import models

SPEC = TensorSpec("x", "float32", (1, 4))


def repository(folder: Path, now: Callable[[], datetime] = utc_now) -> Repository:
    """A new repository with new keys below `folder`."""
    return Repository.init(folder / "releases", KeySet.create(folder / "keys"), now=now)


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def file(folder: Path, content: bytes) -> File:
    """A file with this content, named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    sha = hashlib.sha256(content).hexdigest()
    path = folder / sha
    path.write_bytes(content)
    return File(path, FileRef(sha, len(content)))


def publish(
    to: Repository, folder: Path, *, version: int = 1, model: str = "digits",
    profiles: Sequence[str] = ("raspberry-pi-5",), archs: Sequence[str] = ("aarch64", "x86_64"),
    model_bytes: int = 30_000, library_bytes: int = 200_000, weights: bytes | None = None,
) -> PublishedRelease:  # fmt: skip
    """Publish a release; `version` changes the model's bytes and not the libraries'."""
    network = file(folder, weights or noise(version, model_bytes))
    golden = file(folder, noise(1000 + version, 2_000))
    recipe = file(folder, b'{"recipe": %d}' % version)
    libraries = [(arch, file(folder, arch.encode() * (library_bytes // len(arch)))) for arch in archs]
    variant = VariantRef(
        profiles=tuple(profiles), format="tflite", precision="int8", file=network.ref,
        runtimes=tuple(RuntimeRef("litert-2.3.0", arch, library.ref) for arch, library in libraries),
        recipe=recipe.ref, inputs=(SPEC,), outputs=(SPEC,), golden=Golden(golden.ref, 4, 0.1, 0.9),
    )  # fmt: skip

    def manifest(counter: int) -> Manifest:
        return Manifest(model, counter, "2026-11-22T09:30:00Z", (variant,))

    files = [network, golden, recipe, *(library for _, library in libraries)]
    return PublishedRelease(*to.publish(model, manifest, files))


def publish_classifier(
    to: Repository,
    folder: Path,
    formats: Mapping[str, Sequence[str]],
    *,
    bad: bool = False,
    max_abs: float = 0.05,
    model: str = "digits",
    damaged: bool = False,
) -> PublishedRelease:
    """Publish the tiny classifier of `models`, with this host's runtime libraries: format -> profiles that get it."""
    folder.mkdir(parents=True, exist_ok=True)
    refs, files = [], [file(folder, b"{}")]
    for name, profiles in formats.items():
        make = models.tiny_tflite if name == "tflite" else models.tiny_onnx
        tiny, golden = make(folder / f"model.{name}", bad=bad), folder / f"golden.{name}"
        if damaged:
            tiny.path.write_bytes(tiny.path.read_bytes()[:-200])
        ref = models.variant_ref(tiny, golden, profiles=tuple(profiles), max_abs=max_abs)
        refs.append(ref)
        paths = [(tiny.path, ref.file), (golden, ref.golden.file), (models.library(name), ref.runtimes[0].file)]
        files += [File(path, found) for path, found in paths]

    def manifest(counter: int) -> Manifest:
        return Manifest(model, counter, "2026-11-22T09:30:00Z", tuple(refs), checks_skipped=bad)

    return PublishedRelease(*to.publish(model, manifest, files))
