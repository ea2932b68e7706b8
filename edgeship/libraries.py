"""Runtime libraries: the one file that runs a variant on a device, out of the official wheel, pinned by hash.

Rules this module keeps:

* `hw_profiles/runtimes.toml` says which library of which wheel it is; a file with another sha256 is never used,
  wherever it came from.
* In this order: the cache; the same wheel installed on this host; the wheelhouse that was named; a download of the
  pinned version by pip, said aloud. With a wheelhouse nothing is downloaded.
* The wheel's licence goes along.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from edgeship.errors import ConfigError, InputError, UsageError
from edgeship.reporter import Reporter, Step
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import check_name, check_sha256, need

SCHEMA = "edgeship.runtimes/v1"
ARCHITECTURES = ("x86_64", "aarch64")
PIP_SECONDS = 900.0
MAX_NOTICE = 4 << 20  # bytes of one licence file

_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Pin:
    """One library of one architecture as `runtimes.toml` pins it."""

    name: str  # litert-2.3.0
    format: str  # of the models that it runs
    package: str
    version: str
    license: str  # SPDX
    notices: tuple[str, ...]  # licence files within the wheel
    arch: str
    wheel: str
    member: str  # the library within the wheel
    sha256: str  # of the library
    bytes: int
    glibc_min: str  # the highest GLIBC_ version that it asks for
    glibcxx_min: str


@dataclass(frozen=True)
class Library:
    """A runtime library on this host's disk, verified."""

    name: str
    arch: str
    path: Path
    license: Path  # text of the licence and notices
    sha256: str
    bytes: int


# ── what is pinned ───────────────────────────────────────────────────────────────────────────────────────────────────


def pins(file: Path | None = None) -> tuple[Pin, ...]:
    """All pinned libraries, in the order of the file. Raises ConfigError."""
    path = file or Path(__file__).with_name("hw_profiles") / "runtimes.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema", None) != SCHEMA:
            raise ProtocolError(f"schema is not {SCHEMA}")
        return tuple(pin for table in data.values() for pin in _pins(table))
    except (OSError, ValueError, ProtocolError) as error:
        raise ConfigError(f"{path}: {error}", hint="the file came with edgeship: install it again") from error


def _pins(table: object) -> Iterator[Pin]:
    if not isinstance(table, dict):
        raise ProtocolError("every entry must be a table")
    libraries = need(table, "library", dict)
    for arch, library in libraries.items():
        if arch not in ARCHITECTURES or not isinstance(library, dict):
            raise ProtocolError(f"library.{arch}: known architectures are {', '.join(ARCHITECTURES)}")
        yield Pin(
            check_name(table.get("name")), need(table, "format", str), check_name(table.get("package")),
            need(table, "version", str), need(table, "license", str), tuple(map(str, need(table, "notices", list))),
            arch, _wheel(library), need(library, "member", str),
            check_sha256(library.get("sha256")), need(library, "bytes", int), need(library, "glibc_min", str),
            need(library, "glibcxx_min", str),
        )  # fmt: skip


def _wheel(library: Mapping[str, Any]) -> str:
    name: str = need(library, "wheel", str)
    if not re.fullmatch(r"[\w.+]+-[\w.+]+-\w+-\w+-[\w.]+\.whl", name):
        raise ProtocolError(f"wheel {name!r} is no name of a wheel")
    return name


def carried(runtime: str) -> bool:
    """Whether a release can take this runtime library along: whether it is pinned for any architecture."""
    return any(pin.name == runtime for pin in pins())


def pinned(runtime: str, arch: str) -> Pin:
    """What is pinned under a name for an architecture. Raises UsageError that lists what there is."""
    arch = _ARCH.get(arch, arch)
    everything = pins()
    of_name = [pin for pin in everything if pin.name == runtime]
    if not of_name:
        names = sorted({pin.name for pin in everything})
        raise UsageError(f"unknown runtime library {runtime!r}", hint=f"known are {', '.join(names)}")
    for pin in of_name:
        if pin.arch == arch:
            return pin
    raise UsageError(
        f"{runtime} is not made for {arch}", hint=f"it is there for {', '.join(pin.arch for pin in of_name)}"
    )


# ── where it comes from ──────────────────────────────────────────────────────────────────────────────────────────────


def fetch(runtime: str, arch: str, *, wheelhouse: Path | None = None, reporter: Reporter) -> Library:
    """A runtime library, from where it is nearest.

    Args:
        runtime: name in `runtimes.toml` (litert-2.3.0).
        arch: x86_64 or aarch64.
        wheelhouse: folder of wheels; when given, nothing is downloaded.
        reporter: is told when something is downloaded.

    Raises:
        UsageError: unknown name, no library for this architecture, no such wheelhouse, no pip.
        InputError: the wheel is not there, cannot be downloaded, or its library has another hash.
    """
    pin = pinned(runtime, arch)
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise UsageError(f"{wheelhouse}: no such wheelhouse folder", hint="name a folder that holds wheels")
    if (found := _cached(pin) or _installed(pin)) is not None:
        return found
    if wheelhouse is not None:
        return _from_wheelhouse(pin, wheelhouse)
    step = Step("fetch", f"{pin.name} {pin.arch}")
    reporter.started(step)
    reporter.note(f"downloading {pin.package} {pin.version} for {pin.arch} with pip, for its library {pin.member}")
    with tempfile.TemporaryDirectory(prefix="edgeship-") as folder:
        library = _unpack(pin, _download(pin, Path(folder)))
    reporter.finished(step, f"{library.bytes / 1e6:.1f} MB", {"sha256": library.sha256, "bytes": library.bytes})
    return library


def for_host(format: str, *, reporter: Reporter | None = None) -> Library:  # noqa: A002 - the domain's word
    """The library that runs a format on this machine: for checks and host benchmarks.

    Raises:
        UsageError: no library for this format or this machine.
        InputError: as `fetch`.
    """
    names = [pin.name for pin in pins() if pin.format == format]
    if not names:
        raise UsageError(f"no runtime library runs the format {format!r}", hint="tflite or onnx")
    return fetch(names[0], host_arch(), reporter=reporter or Reporter())


def host_arch() -> str:
    """This machine's architecture by its `uname -m` name."""
    machine = platform.machine().lower()
    return _ARCH.get(machine, machine)


def _folder(pin: Pin) -> Path:
    return Path(platformdirs.user_cache_dir("edgeship")) / "runtimes" / pin.name / pin.arch


def _cached(pin: Pin) -> Library | None:
    folder = _folder(pin)
    library = Library(pin.name, pin.arch, folder / Path(pin.member).name, folder / "LICENSE", pin.sha256, pin.bytes)
    return library if library.license.is_file() and _matches(pin, library.path) else None


def _installed(pin: Pin) -> Library | None:
    """The library of the same wheel where it is installed on this host."""
    try:
        distribution = importlib.metadata.distribution(pin.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(pin.member)))
    notices = [Path(str(distribution.locate_file(name))) for name in pin.notices]
    if distribution.version != pin.version or not _matches(pin, path) or not all(n.is_file() for n in notices):
        return None
    licence = _write_licence(pin, [notice.read_bytes()[:MAX_NOTICE] for notice in notices])
    return Library(pin.name, pin.arch, path, licence, pin.sha256, pin.bytes)


def _matches(pin: Pin, path: Path) -> bool:
    try:
        if path.stat().st_size != pin.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256
    except OSError:
        return False


def _from_wheelhouse(pin: Pin, wheelhouse: Path) -> Library:
    """From a folder of wheels: the pinned one, or one of the same version and architecture for another Python."""
    stem = f"{re.escape(pin.package.replace('-', '_'))}-{re.escape(pin.version)}"
    pattern = re.compile(rf"{stem}-.*{re.escape(pin.arch)}.*\.whl", re.IGNORECASE)
    wheels = sorted((p for p in wheelhouse.iterdir() if pattern.fullmatch(p.name)), key=lambda p: p.name != pin.wheel)
    if not wheels:
        raise InputError(
            f"{wheelhouse}: no wheel of {pin.package} {pin.version} for {pin.arch}",
            hint=f"put {pin.wheel} into it: on a machine with a network, {' '.join(_pip(pin, 'WHEELHOUSE'))}",
        )
    failed: InputError | None = None
    for wheel in wheels:
        try:
            return _unpack(pin, wheel)
        except InputError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _pip(pin: Pin, folder: str) -> list[str]:
    """Arguments of pip for the pinned wheel: its own tags, taken from its name."""
    python, abi, platforms = pin.wheel.removesuffix(".whl").split("-")[-3:]
    version = f"{python[2]}.{python[3:]}" if re.fullmatch(r"cp3\d+", python) else "3"
    # An index may offer the same wheel under other tags, and pip takes a platform word by word: name each up to ours.
    newest = max((int(n) for n in re.findall(r"manylinux_2_(\d+)_", platforms)), default=17)
    tags = [f"manylinux_2_{n}_{pin.arch}" for n in range(newest, 4, -1)] + [f"manylinux2014_{pin.arch}"]
    return [
        "pip", "download", "--no-deps", "--only-binary", ":all:", "--python-version", version,
        "--implementation", "cp", "--abi", abi, *(a for tag in tags for a in ("--platform", tag)),
        "-d", folder, f"{pin.package}=={pin.version}",
    ]  # fmt: skip


def _download(pin: Pin, folder: Path) -> Path:
    command = [sys.executable, "-m", *_pip(pin, str(folder)), "--disable-pip-version-check", "--no-input", "-q"]
    offline = f"edgeship push … --wheelhouse DIR takes it from a folder that holds {pin.wheel}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "PIP_NO_COLOR": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        text = f"{pin.package} {pin.version}: pip did not end within {PIP_SECONDS:.0f} s"
        raise InputError(text, hint=offline) from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if any("No module named pip" in line for line in lines):
            raise UsageError("this Python has no pip to download a runtime library with", hint=offline)
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no reason given")
        raise InputError(f"{pin.package} {pin.version} for {pin.arch} could not be downloaded: {reason}", hint=offline)
    return wheels[0]


def _unpack(pin: Pin, wheel: Path) -> Library:
    """Take library and licence out of a wheel into the cache."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(pin.member)
            data = archive.read(info) if info.file_size == pin.bytes else b""
            notices = [archive.read(name)[:MAX_NOTICE] for name in pin.notices]
    except (OSError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InputError(f"{wheel}: not the wheel that is pinned: {error}", hint=f"{pin.wheel} is") from error
    found = hashlib.sha256(data).hexdigest()
    if found != pin.sha256:
        raise InputError(
            f"{wheel}: its {pin.member} is not the one that is pinned ({info.file_size} bytes, sha256 {found[:12]}…; "
            f"pinned {pin.bytes} bytes, {pin.sha256[:12]}…)",
            hint=f"use {pin.wheel} as published; a library with another hash is never sent to a device",
        )
    path = _folder(pin) / Path(pin.member).name
    licence = _write_licence(pin, notices)
    _write(path, data)
    return Library(pin.name, pin.arch, path, licence, pin.sha256, pin.bytes)


def _write_licence(pin: Pin, notices: list[bytes]) -> Path:
    """The wheel's licence and notices as one file beside the library."""
    path = _folder(pin) / "LICENSE"
    head = f"{pin.package} {pin.version}, {pin.license}; the files {', '.join(pin.notices)} of its wheel:\n\n".encode()
    text = head + b"\n\n".join(notices)
    if not path.is_file() or path.read_bytes() != text:
        _write(path, text)
    return path


def _write(path: Path, data: bytes) -> None:
    """Durably: a half written library must not be found under its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                part.chmod(0o644)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"{path}: the cache cannot be written: {error.strerror}", hint="set XDG_CACHE_HOME to a folder with room"
        ) from error
