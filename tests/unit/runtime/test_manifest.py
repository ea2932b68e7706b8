"""The manifest: encode and parse are inverse, and nothing hostile gets through."""

import copy
from typing import Any

import pytest

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from edgeship.runtime.wire import parse_object

A, B, C, D, E = ("abcde"[i] * 64 for i in range(5))
VARIANT = VariantRef(
    profiles=("raspberry-pi-5", "raspberry-pi-4"),
    format="tflite",
    precision="int8",
    file=FileRef(A, 108300),
    runtimes=(
        RuntimeRef("litert-2.3.0", "aarch64", FileRef(B, 5)),
        RuntimeRef("litert-2.3.0", "x86_64", FileRef(C, 6)),
    ),
    recipe=FileRef(D, 7),
    inputs=(TensorSpec("image", "int8", (1, 28, 28, 1), 0.00392, -128),),
    outputs=(TensorSpec("probabilities", "int8", (1, 10), 0.00390625, -128),),
    golden=Golden(FileRef(E, 99), 16, 0.031, 0.9375),
    threads=4,
    labels=("0", "1"),
    measured={"metric": "top1", "float": 0.984},
    latency_p95_ms=20.0,
)
MANIFEST = Manifest("digits", 7, "2026-11-22T09:30:00Z", (VARIANT,), checks_skipped=True, approved_by="ann")


def test_encode_and_parse_are_inverse() -> None:
    assert Manifest.parse(parse_object(MANIFEST.canonical())) == MANIFEST


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    assert Manifest.parse(dict(reversed(MANIFEST.encode().items()))).canonical() == MANIFEST.canonical()


def test_unknown_keys_are_ignored() -> None:
    assert Manifest.parse({**MANIFEST.encode(), "later": 1}) == MANIFEST


def test_a_device_takes_the_variant_of_its_profile_and_the_library_of_its_architecture() -> None:
    assert MANIFEST.variant_for("raspberry-pi-4") == VARIANT
    assert MANIFEST.variant_for("jetson-nano") is None
    assert [f.sha256 for f in VARIANT.files_for("aarch64")] == [A, E, B]
    assert [f.sha256 for f in VARIANT.files_for("riscv64")] == [A, E]


def test_sizes_of_a_tensor() -> None:
    assert TensorSpec("x", "float32", (1, 3, 2)).nbytes == 24
    assert TensorSpec("x", "int16", ()).nbytes == 2


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("schema", "edgeship.manifest/v2", "not a manifest of schema"),
        ("model", "../x", "plain name"),
        ("counter", 0, "must be positive"),
        ("counter", "7", "must be int"),
        ("variants", [], "without variants"),
        ("variants", [3], "list of objects"),
        ("variants.0.file", "sha256:zz", "not a sha256"),
        ("variants.0.bytes", -1, "over the limit"),
        ("variants.0.bytes", 1 << 40, "over the limit"),
        ("variants.0.threads", 0, "threads must be 1 to 256"),
        ("variants.0.profiles", ["a/b"], "plain name"),
        ("variants.0.inputs.0.dtype", "int4", "unknown dtype"),
        ("variants.0.inputs.0.shape", [1, -1], "not fixed"),
        ("variants.0.inputs.0.shape", [True], "not fixed"),
        ("variants.0.inputs.0.shape", [1 << 20, 1 << 20], "too large"),
        ("variants.0.inputs.0.shape", [1] * 9, "not fixed"),
        ("variants.0.golden.samples", 0, "1 to 1024"),
        ("variants.0.golden.tolerance", None, "must be dict"),
        ("variants.0.runtimes.0.arch", "a b", "plain name"),
        ("checks.skipped", 1, "must be bool"),
    ],
)
def test_a_damaged_manifest_is_refused_by_name(path: str, value: object, reason: str) -> None:
    data: Any = copy.deepcopy(MANIFEST.encode())
    *parents, last = path.split(".")
    at = data
    for key in parents:
        at = at[int(key)] if key.isdigit() else at[key]
    at[last] = value
    with pytest.raises(ProtocolError, match=reason):
        Manifest.parse(data)
