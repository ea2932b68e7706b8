"""Whether a device can take a release, before a byte of it is sent. Pure: facts in, a verdict out.

A refusal names what is missing and the cheapest way out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.errors import UnfitError
from edgeship.profile import Profile, version_tuple
from edgeship.runtime.manifest import Manifest, RuntimeRef, VariantRef

PYTHON_MIN = "3.10"  # of the agent: tuf asks for it
MARGIN = 8 << 20  # bytes that stay free: journal, logs, telemetry of some weeks offline
MARGIN_SHARE = 0.01  # of the disk, at most MARGIN_MOST
MARGIN_MOST = 64 << 20
INODES = 64


@dataclass(frozen=True)
class Problem:
    """One reason against, and the cheapest fix."""

    what: str
    fix: str


@dataclass(frozen=True)
class Room:
    """What a transfer needs on the device's disk, in bytes."""

    files: int  # new files, unpacked; the old release's files stay for the way back
    largest_encoded: int  # the copy that is being received
    margin: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.files + self.largest_encoded + self.margin


def margin(facts: Facts) -> int:
    """Bytes that must stay free."""
    return max(MARGIN, min(MARGIN_MOST, int(facts.disk_total_bytes * MARGIN_SHARE)))


def variant_for(device: Device, manifest: Manifest) -> VariantRef:
    """The release's variant for a device. Raises UnfitError when it carries none for its profile."""
    variant = manifest.variant_for(device.profile)
    if variant is None:
        there = sorted({p for v in manifest.variants for p in v.profiles})
        raise UnfitError(
            f"{device.name}: release {manifest.counter} of {manifest.model} has no variant for profile "
            f"{device.profile} (it has {', '.join(there)})", device=device.name, stage="fit",
            hint=f"edgeship push MODEL -l name={device.name}",
        )  # fmt: skip
    return variant


def problems(device: Device, profile: Profile, facts: Facts, variant: VariantRef, room: Room) -> list[Problem]:
    """Everything that keeps the device from taking the variant, the most basic first."""
    out = [*_system(device, profile, facts), *_library(facts, variant)]
    if room.files and facts.disk_free_bytes < room.total:
        missing = room.total - facts.disk_free_bytes
        out.append(Problem(
            f"its disk has {_mb(facts.disk_free_bytes)} MB free; {_mb(room.total)} MB are needed "
            f"(release {_mb(room.files)}, transfer {_mb(room.largest_encoded)}, margin {_mb(room.margin)})",
            f"free {_mb(missing)} MB on it, or give the agent a root on another disk: edgeship device add --root",
        ))  # fmt: skip
    if room.files and facts.inodes_free is not None and 0 < facts.inodes_free < INODES:
        out.append(Problem(f"its file system has only {facts.inodes_free} inodes left", "remove small files on it"))
    return out


def check(device: Device, profile: Profile, facts: Facts, variant: VariantRef, room: Room) -> RuntimeRef:
    """The runtime library that the device gets.

    Raises:
        UnfitError: with every problem in its message and the first one's fix as its hint.
    """
    found = problems(device, profile, facts, variant, room)
    library = variant.runtime_for(facts.arch)
    if found or library is None:
        raise UnfitError(
            f"{device.name}: cannot take this release: " + "; ".join(p.what for p in found), device=device.name,
            stage="fit", code="unfit", hint=found[0].fix,
        )  # fmt: skip
    return library


def _system(device: Device, profile: Profile, facts: Facts) -> list[Problem]:
    out = []
    if device.arch is None and facts.arch != profile.hardware.arch:
        out.append(Problem(
            f"it is {facts.arch}, profile {profile.name} is {profile.hardware.arch}",
            "edgeship profile list; then edgeship device add it again with the profile that it is",
        ))  # fmt: skip
    # A device record that names its own Python has its own version of it too.
    oldest = PYTHON_MIN if device.python else max(PYTHON_MIN, profile.system.python_min, key=version_tuple)
    if version_tuple(facts.python) < version_tuple(oldest):
        out.append(Problem(f"its Python is {facts.python}, {oldest} is needed", f"install python {oldest} or later"))
    name, version = facts.libc
    if name != "glibc":
        out.append(Problem(f"its C library is {name or 'unknown'}, the runtime library needs glibc",
                           "a system with glibc (Android: Debian in proot-distro)"))  # fmt: skip
    elif version_tuple(version) < version_tuple(profile.system.glibc_min):
        out.append(
            Problem(f"its glibc is {version}, {profile.system.glibc_min} is needed", "a newer release of its system")
        )
    if not facts.ctypes:
        out.append(Problem("its Python lacks ctypes", "install the full python3 package (libffi)"))
    if not facts.libstdcxx:
        out.append(Problem("it lacks libstdc++.so.6, which the runtime library needs", "apt install libstdc++6"))
    return out


def _library(facts: Facts, variant: VariantRef) -> Sequence[Problem]:
    if variant.runtime_for(facts.arch):
        return ()
    there = ", ".join(sorted(r.arch for r in variant.runtimes))
    fix = "push again with this device selected: the libraries of all selected devices go along"
    return (Problem(f"the release has no runtime library for {facts.arch} (it has {there})", fix),)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
