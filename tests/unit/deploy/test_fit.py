"""The fit check: everything that keeps a device from taking a release is named, with the cheapest fix."""

from dataclasses import replace
from typing import Any

import pytest

from edgeship import profile
from edgeship.deploy import fit
from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.deploy.fit import Room
from edgeship.errors import UnfitError
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from tests.simulators.board import FACTS

PI = Device("pi", "raspberry-pi-5")
ROOM = Room(files=3_000_000, largest_encoded=1_000_000, margin=8 << 20)
REF = FileRef("0" * 64, 10)


def variant(*archs: str) -> VariantRef:
    spec = TensorSpec("x", "float32", (1,))
    runtimes = tuple(RuntimeRef("litert-2.3.0", arch, REF) for arch in archs)
    return VariantRef(("raspberry-pi-5",), "tflite", "int8", REF, runtimes, REF, (spec,), (spec,),
                      Golden(REF, 1, 0.1, 0.9))  # fmt: skip


def refused(
    change: dict[str, Any], device: Device = PI, archs: tuple[str, ...] = ("aarch64",), room: Room = ROOM
) -> str:
    with pytest.raises(UnfitError) as error:
        fit.check(device, profile.load("raspberry-pi-5"), Facts.parse(FACTS | change), variant(*archs), room)
    assert error.value.exit_code == 6
    assert str(error.value).startswith(f"{device.name}: ")  # so the command line does not name it twice
    return f"{error.value} | {error.value.hint}"


def test_a_board_that_is_what_its_profile_says_fits() -> None:
    library = fit.check(PI, profile.load("raspberry-pi-5"), Facts.parse(FACTS), variant("x86_64", "aarch64"), ROOM)
    assert library.arch == "aarch64"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arch": "armv7l"}, ["it is armv7l, profile raspberry-pi-5 is aarch64", "profile list"]),
        ({"python": "3.9.2"}, ["its Python is 3.9.2, 3.11 is needed", "install python 3.11"]),
        ({"python": "3.10.2"}, ["its Python is 3.10.2, 3.11 is needed"]),
        ({"libc": ["musl", "1.2"]}, ["its C library is musl", "glibc"]),
        ({"libc": ["", ""]}, ["its C library is unknown"]),
        ({"libc": ["glibc", "2.31"]}, ["its glibc is 2.31, 2.36 is needed"]),
        ({"ctypes": False}, ["lacks ctypes"]),
        ({"libstdcxx": False}, ["libstdc++.so.6", "apt install libstdc++6"]),
        ({"disk_free_bytes": 1_000_000}, ["1.0 MB free; 12.4 MB are needed", "release 3.0", "free 11.4 MB"]),
        ({"inodes_free": 3}, ["only 3 inodes"]),
    ],
)
def test_what_is_missing_is_named_with_its_fix(change: dict[str, Any], words: list[str]) -> None:
    said = refused(change)
    assert all(word in said for word in words), said


def test_every_problem_is_named_at_once() -> None:
    said = refused({"python": "3.9", "ctypes": False, "disk_free_bytes": 0})
    assert said.count(";") >= 3
    assert "Python" in said
    assert "ctypes" in said
    assert "MB free" in said


def test_a_release_without_a_library_for_the_device() -> None:
    assert "no runtime library for aarch64 (it has x86_64)" in refused({}, archs=("x86_64",))


def test_a_record_that_overrides_the_architecture_is_believed() -> None:
    device = replace(PI, arch="x86_64")
    facts = Facts.parse(FACTS | {"arch": "x86_64"})
    assert fit.check(device, profile.load("raspberry-pi-5"), facts, variant("x86_64"), ROOM).arch == "x86_64"


def test_a_record_that_names_its_python_needs_only_what_the_agent_needs() -> None:
    device = replace(PI, python=("/opt/python3.10",))
    facts = Facts.parse(FACTS | {"python": "3.10.1"})
    fit.check(device, profile.load("raspberry-pi-5"), facts, variant("aarch64"), ROOM)
    assert "3.10 is needed" in refused({"python": "3.9.1"}, device)


def test_nothing_to_send_needs_no_room() -> None:
    facts = Facts.parse(FACTS | {"disk_free_bytes": 0, "inodes_free": 1})
    fit.check(PI, profile.load("raspberry-pi-5"), facts, variant("aarch64"), Room(0, 0, 8 << 20))


def test_a_file_system_without_inodes_has_no_such_limit() -> None:
    facts = Facts.parse(FACTS | {"inodes_free": 0})
    fit.check(PI, profile.load("raspberry-pi-5"), facts, variant("aarch64"), ROOM)


@pytest.mark.parametrize(("total", "margin"), [(0, 8 << 20), (1 << 32, (1 << 32) // 100), (1 << 40, 64 << 20)])
def test_the_margin_grows_with_the_disk_within_bounds(total: int, margin: int) -> None:
    found = fit.margin(Facts.parse(FACTS | {"disk_total_bytes": total}))
    assert found == margin


def test_a_release_without_a_variant_for_the_profile() -> None:
    manifest = Manifest("digits", 3, "2026", (variant("aarch64"),))
    assert fit.variant_for(PI, manifest).format == "tflite"
    with pytest.raises(UnfitError, match="no variant for profile jetson-orin-nano \\(it has raspberry-pi-5\\)"):
        fit.variant_for(Device("j", "jetson-orin-nano"), manifest)
