"""The plan of a push: nothing twice, continued where it stopped, as data."""

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from edgeship.deploy.facts import Facts
from edgeship.deploy.packing import Packed
from edgeship.deploy.plan import Have, Plan, Wanted, missing, plan, wanted
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, Golden, RuntimeRef, TensorSpec, VariantRef
from tests.simulators.board import FACTS


def ref(letter: str, size: int) -> FileRef:
    return FileRef(letter * 64, size)


MANIFEST, MODEL, GOLDEN, LIBRARY = ref("a", 900), ref("b", 30_000), ref("c", 2_000), ref("d", 8_000_000)
SPEC = TensorSpec("x", "float32", (1,))
VARIANT = VariantRef(("p",), "tflite", "int8", MODEL, (RuntimeRef("r", "aarch64", LIBRARY),), ref("e", 5), (SPEC,),
                     (SPEC,), Golden(GOLDEN, 1, 0.1, 0.9))  # fmt: skip
FILES = wanted(MANIFEST, VARIANT, VARIANT.runtimes[0])
PACKED = {
    file.ref.sha256: Packed(Path("/nowhere"), "xz" if file.ref is LIBRARY else "raw",
                            2_000_000 if file.ref is LIBRARY else file.ref.bytes)
    for file in FILES
}  # fmt: skip
METADATA = [("1.targets.json", b"t" * 100), ("timestamp.json", b"s" * 50)]


def planned(present: AbstractSet[str] = frozenset(), partial: dict[str, tuple[str, int]] | None = None) -> Plan:
    have = Have(frozenset(present), partial or {}, 1 << 30)
    return plan(Facts.parse(FACTS), have, FILES, PACKED, METADATA)


def test_an_empty_device_gets_everything() -> None:
    found = planned()

    assert [send.kind for send in found.files] == ["metadata", "golden", "model", "runtime library"]
    assert [send.left for send in found.files] == [900, 2_000, 30_000, 2_000_000]
    assert found.metadata_bytes == 150
    assert found.left == 2_033_050


def test_nothing_is_sent_twice() -> None:
    found = planned({LIBRARY.sha256, GOLDEN.sha256})

    assert [(send.kind, send.left) for send in found.files] == [("metadata", 900), ("model", 30_000)]


def test_a_file_that_is_there_in_part_is_continued() -> None:
    found = planned({MODEL.sha256}, {LIBRARY.sha256: ("xz", 1_500_000)})

    library = found.files[-1]
    assert (library.offset, library.left) == (1_500_000, 500_000)


@pytest.mark.parametrize("partial", [("raw", 1_000), ("xz", 2_000_001), ("xz", 0), ("xz", -4)])
def test_a_part_of_another_encoding_or_length_is_not(partial: tuple[str, int]) -> None:
    assert planned(partial={LIBRARY.sha256: partial}).files[-1].offset == 0


def test_the_room_counts_unpacked_files_and_the_largest_packed_one() -> None:
    room = planned().room
    assert room.files == 900 + 30_000 + 2_000 + 8_000_000
    assert room.largest_encoded == 2_000_000
    assert planned({f.ref.sha256 for f in FILES}).room.files == 0


def test_a_file_that_serves_twice_is_sent_once() -> None:
    twice = (Wanted("model", MODEL), Wanted("golden", MODEL))
    assert missing(twice, Have(frozenset(), {}, 0)) == twice[:1]


def test_a_variant_without_a_library_is_planned_without_it() -> None:
    assert [file.kind for file in wanted(MANIFEST, VARIANT, None)] == ["metadata", "golden", "model"]


def test_what_a_device_has_is_read_strictly() -> None:
    sha = "a" * 64
    have = Have.parse({"present": [sha], "partial": {sha: {"encoding": "xz", "bytes": 5}}, "disk_free_bytes": 9})
    assert have == Have(frozenset({sha}), {sha: ("xz", 5)}, 9)
    refused: list[dict[str, Any]] = [
        {"present": ["../x"], "partial": {}, "disk_free_bytes": 1},
        {"present": [], "partial": {sha: 5}, "disk_free_bytes": 1},
        {"present": [], "partial": {}},
        {"present": [], "partial": {"x": {}}, "disk_free_bytes": 1},
    ]
    for bad in refused:
        with pytest.raises(ProtocolError):
            Have.parse(bad)
