"""Runtime libraries come from where they are nearest, and only with the pinned hash."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import libraries
from edgeship.errors import ConfigError, InputError, UsageError
from edgeship.libraries import Pin
from edgeship.reporter import Reporter, Step

LIBRARY = b"\x7fELF a small library"
PIN = Pin(
    "tiny-1.0", "tflite", "edgeship-tiny", "1.0", "MIT", ("tiny/LICENSE", "tiny/NOTICES"), "aarch64",
    "edgeship_tiny-1.0-cp311-cp311-manylinux_2_27_aarch64.whl", "tiny/libtiny.so",
    hashlib.sha256(LIBRARY).hexdigest(), len(LIBRARY), "2.34", "3.4.30",
)  # fmt: skip


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, step: Step) -> None:
        self.lines.append(f"{step.name} {step.subject}")

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Pin:
    monkeypatch.setattr(libraries, "pins", lambda: (PIN, replace(PIN, arch="x86_64", format="onnx")))
    return PIN


def wheel(folder: Path, name: str = PIN.wheel, library: bytes = LIBRARY, member: str = PIN.member) -> Path:
    folder.mkdir(exist_ok=True)
    info = "edgeship_tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(member, library)
        archive.writestr("tiny/LICENSE", "the licence")
        archive.writestr("tiny/NOTICES", "the notices")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: edgeship-tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / name


def test_what_is_pinned_is_whole() -> None:
    pins = libraries.pins()
    assert {(pin.name, pin.arch) for pin in pins} == {
        (name, arch) for name in ("litert-2.3.0", "onnxruntime-1.31.1") for arch in ("x86_64", "aarch64")
    }
    assert libraries.pinned("litert-2.3.0", "arm64").glibc_min == "2.34"
    assert libraries.pinned("litert-2.3.0", "aarch64").glibcxx_min == "3.4.30"


def test_unknown_names_and_architectures_say_what_there_is() -> None:
    with pytest.raises(UsageError, match="unknown runtime library 'litert-9'") as caught:
        libraries.pinned("litert-9", "x86_64")
    assert "litert-2.3.0" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not made for armv7l") as caught:
        libraries.pinned("litert-2.3.0", "armv7l")
    assert "x86_64, aarch64" in str(caught.value.hint)
    with pytest.raises(UsageError, match="no runtime library runs the format 'keras'"):
        libraries.for_host("keras")


@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_the_hosts_own_library_is_the_installed_one(format_name: str) -> None:
    told = Told()
    library = libraries.for_host(format_name, reporter=told)
    assert library.arch == libraries.host_arch()
    assert hashlib.sha256(library.path.read_bytes()).hexdigest() == library.sha256
    assert library.path.stat().st_size == library.bytes
    assert len(library.license.read_text()) > 1000
    assert not told.lines
    assert libraries.for_host(format_name) == library


def test_an_installed_wheel_with_another_hash_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = replace(libraries.pinned("litert-2.3.0", libraries.host_arch()), sha256="0" * 64)
    monkeypatch.setattr(libraries, "pins", lambda: (other,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no wheel of ai-edge-litert"):
        libraries.fetch("litert-2.3.0", other.arch, wheelhouse=tmp_path / "empty", reporter=Reporter())


@pytest.mark.parametrize("name", [PIN.wheel, "edgeship_tiny-1.0-cp312-cp312-manylinux_2_28_aarch64.whl"])
def test_a_wheelhouse_serves_without_a_network(tmp_path: Path, tiny: Pin, name: str) -> None:
    wheel(tmp_path / "house", name)
    (tmp_path / "house" / "notes.txt").touch()
    library = libraries.fetch(tiny.name, tiny.arch, wheelhouse=tmp_path / "house", reporter=Reporter())
    assert library.path.read_bytes() == LIBRARY
    assert "the licence\n\nthe notices" in library.license.read_text()
    assert "edgeship-tiny 1.0, MIT" in library.license.read_text()
    wheel(tmp_path / "house", name, b"gone")
    assert libraries.fetch(tiny.name, tiny.arch, reporter=Reporter()) == library  # from the cache


def test_a_damaged_cache_is_filled_again(tmp_path: Path, tiny: Pin) -> None:
    house = wheel(tmp_path / "house").parent
    library = libraries.fetch(tiny.name, tiny.arch, wheelhouse=house, reporter=Reporter())
    library.path.write_bytes(b"X" + LIBRARY[1:])
    again = libraries.fetch(tiny.name, tiny.arch, wheelhouse=house, reporter=Reporter())
    assert again.path.read_bytes() == LIBRARY


@pytest.mark.parametrize("library", [LIBRARY[:-1] + b"X", LIBRARY + b"more"])
def test_a_library_with_another_hash_is_never_used(tmp_path: Path, tiny: Pin, library: bytes) -> None:
    house = wheel(tmp_path / "house", library=library).parent
    with pytest.raises(InputError, match="is not the one that is pinned"):
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=house, reporter=Reporter())
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_wheels_that_are_none_are_refused(tmp_path: Path, tiny: Pin) -> None:
    house = tmp_path / "house"
    wheel(house, member="elsewhere.so")
    with pytest.raises(InputError, match="not the wheel that is pinned"):
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=house, reporter=Reporter())
    (house / PIN.wheel).write_bytes(b"PK")
    with pytest.raises(InputError, match="not the wheel that is pinned"):
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=house, reporter=Reporter())


def test_a_wheelhouse_that_is_not_there_or_lacks_the_wheel(tmp_path: Path, tiny: Pin) -> None:
    with pytest.raises(UsageError, match="no such wheelhouse"):
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=tmp_path / "none", reporter=Reporter())
    (tmp_path / "house").mkdir()
    with pytest.raises(InputError, match=r"no wheel of edgeship-tiny 1\.0 for aarch64") as caught:
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=tmp_path / "house", reporter=Reporter())
    assert "pip download" in str(caught.value.hint)
    assert "manylinux_2_27_aarch64" in str(caught.value.hint)


def test_pip_downloads_what_is_pinned_and_it_is_said(
    tmp_path: Path, tiny: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    told = Told()
    assert libraries.fetch(tiny.name, tiny.arch, reporter=told).path.read_bytes() == LIBRARY
    assert told.lines[0] == "fetch tiny-1.0 aarch64"
    assert "downloading edgeship-tiny 1.0 for aarch64 with pip" in told.lines[1]


def test_a_download_that_fails_says_why_and_the_way_without_a_network(
    tmp_path: Path, tiny: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match="could not be downloaded: ERROR: No matching distribution") as caught:
        libraries.fetch(tiny.name, tiny.arch, reporter=Reporter())
    assert "--wheelhouse" in str(caught.value.hint)


def test_a_python_without_pip_and_a_pip_that_hangs(tmp_path: Path, tiny: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho '/usr/bin/python3: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(bare))
    with pytest.raises(UsageError, match="has no pip"):
        libraries.fetch(tiny.name, tiny.arch, reporter=Reporter())
    bare.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(libraries, "PIP_SECONDS", 0.2)
    with pytest.raises(InputError, match="pip did not end"):
        libraries.fetch(tiny.name, tiny.arch, reporter=Reporter())


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, tiny: Pin) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(InputError, match="the cache cannot be written") as caught:
        libraries.fetch(tiny.name, tiny.arch, wheelhouse=wheel(tmp_path / "house").parent, reporter=Reporter())
    assert "XDG_CACHE_HOME" in str(caught.value.hint)


GOOD = f"""
schema = "edgeship.runtimes/v1"
[tiny]
name = "tiny-1.0"
format = "tflite"
package = "tiny"
version = "1.0"
license = "MIT"
notices = ["LICENSE"]
[tiny.library.x86_64]
wheel = "tiny-1.0-cp311-cp311-manylinux_2_27_x86_64.whl"
member = "libtiny.so"
sha256 = "{"0" * 64}"
bytes = 1
glibc_min = "2.27"
glibcxx_min = "3.4"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("runtimes/v1", "runtimes/v9", "schema"),
        ("0000", "000x", "sha256"),
        ("x86_64]", "mips]", "known architectures"),
        ("bytes = 1", 'bytes = "1"', "bytes"),
        (".whl", ".zip", "no name of a wheel"),
        ("[tiny]", "[[tiny]]", "every entry must be a table"),
        ("[tiny]", "[tiny", "line 3"),
    ],
)
def test_a_file_of_pins_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "runtimes.toml"
    path.write_text(GOOD)
    assert libraries.pins(path)[0].member == "libtiny.so"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=words):
        libraries.pins(path)
    with pytest.raises(ConfigError, match="No such file"):
        libraries.pins(tmp_path / "missing.toml")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert-2.3.0", "onnxruntime-1.31.1"])
def test_the_pinned_wheels_for_arm_are_what_the_registry_gives(name: str) -> None:
    library = libraries.fetch(name, "aarch64", reporter=Reporter())
    assert library.path.read_bytes()[:4] == b"\x7fELF"
    assert library.path.read_bytes()[18] == 0xB7  # EM_AARCH64
