"""Packing: made once, by hash; raw where it does not pay."""

import lzma
import threading
from pathlib import Path
from typing import Any

import pytest

from edgeship.deploy import packing
from edgeship.deploy.packing import Packer, filters
from tests.simulators.releases import noise


@pytest.fixture
def packer(tmp_path: Path) -> Packer:
    return Packer(tmp_path / "packed", tmp_path / "shared")


def test_a_library_travels_as_xz(packer: Packer, tmp_path: Path) -> None:
    path = tmp_path / "lib"
    path.write_bytes(b"instructions" * 10_000)

    packed = packer.pack(path, "a" * 64, unpacks=True)

    assert packed.encoding == "xz"
    assert packed.encoded_bytes == packed.path.stat().st_size < 2_000
    assert lzma.decompress(packed.path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(("content", "unpacks"), [(noise(1, 50_000), True), (b"x" * 100, True), (b"x" * 10_000, False)])
def test_noise_small_files_and_old_devices_get_the_file_itself(
    packer: Packer, tmp_path: Path, content: bytes, unpacks: bool
) -> None:  # fmt: skip
    path = tmp_path / "file"
    path.write_bytes(content)

    packed = packer.pack(path, "a" * 64, unpacks=unpacks)

    assert (packed.path, packed.encoding, packed.encoded_bytes) == (path, "raw", len(content))


def test_it_is_made_once_whoever_asks(packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lib"
    path.write_bytes(b"instructions" * 100_000)
    made: list[object] = []
    real = lzma.LZMACompressor

    def counted(check: int, filters: Any) -> lzma.LZMACompressor:
        made.append(filters)
        return real(check=check, filters=filters)

    monkeypatch.setattr(lzma, "LZMACompressor", counted)
    packers = [packer, packer, *(Packer(tmp_path / "packed", tmp_path / "shared") for _ in range(4))]
    threads = [threading.Thread(target=p.pack, args=(path, "a" * 64), kwargs={"unpacks": True}) for p in packers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Packer(tmp_path / "packed", tmp_path / "shared").pack(path, "a" * 64, unpacks=True)

    assert len(made) == 1
    assert [p.name for p in (tmp_path / "packed").iterdir() if p.is_file()] == ["a" * 64 + ".xz"]


def test_a_library_is_packed_once_for_all_projects(packer: Packer, tmp_path: Path) -> None:
    path = tmp_path / "lib"
    path.write_bytes(b"instructions" * 10_000)
    assert packer.pack(path, "a" * 64, unpacks=True, shared=True).path.parent == tmp_path / "shared"


@pytest.mark.parametrize(
    ("machine", "large", "expected"),
    [(62, False, [lzma.FILTER_X86, lzma.FILTER_LZMA2]), (183, False, [lzma.FILTER_LZMA2]), (62, True, None)],
)
def test_a_library_is_filtered_for_its_architecture(
    packer: Packer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: int,
    large: bool,
    expected: list[int] | None,
) -> None:
    if large:
        monkeypatch.setattr(packing, "LARGE", 10)
    path = tmp_path / "lib"
    path.write_bytes(b"\x7fELF" + b"\0" * 14 + machine.to_bytes(2, "little") + b"\xe8\x01\x02\0\0code" * 9_000)

    chain = filters(path)

    if expected:
        assert [f["id"] for f in chain] == expected
    assert (chain[-1].get("mode") == lzma.MODE_FAST) is large
    packed = packer.pack(path, "a" * 64, unpacks=True)
    assert lzma.decompress(packed.path.read_bytes(), lzma.FORMAT_XZ) == path.read_bytes()


def test_a_compression_that_fails_leaves_nothing(packer: Packer, tmp_path: Path) -> None:
    path = tmp_path / "lib"
    path.write_bytes(b"x" * 1_000)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="No space"):
            packer.pack(path, "a" * 64, unpacks=True)
    assert [p for p in (tmp_path / "packed").iterdir() if p.is_file()] == []
