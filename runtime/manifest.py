"""What a release says of itself: the manifest, signed through TUF and read by host and device alike.

Records are frozen dataclasses with `parse` (from decoded JSON, strict) and `encode` (to what `json.dumps` takes).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import DTYPES, MAX_BLOB, Json, check_name, digest_of, need, objects

MANIFEST_SCHEMA = "edgeship.manifest/v1"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `real = scale × (q − zero_point)` where scale is not 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.count * DTYPES[self.dtype][0]

    @classmethod
    def parse(cls, data: Json) -> TensorSpec:
        """From decoded JSON. Raises ProtocolError."""
        name, dtype, shape = need(data, "name", str), need(data, "dtype", str), need(data, "shape", list)
        if dtype not in DTYPES:
            raise ProtocolError(f"tensor {name!r}: unknown dtype {dtype!r}")
        if not all(isinstance(d, int) and not isinstance(d, bool) and 0 < d < 1 << 31 for d in shape) or len(shape) > 8:
            raise ProtocolError(f"tensor {name!r}: shape {shape!r} is not fixed and positive")
        if math.prod(shape) > 1 << 31:
            raise ProtocolError(f"tensor {name!r}: shape {shape!r} is too large")
        scale = float(need(data, "scale", (int, float))) if "scale" in data else 0.0
        zero = need(data, "zero_point", int) if "zero_point" in data else 0
        return cls(name, dtype, tuple(shape), scale, zero)

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        out: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.scale:
            out |= {"scale": self.scale, "zero_point": self.zero_point}
        return out


@dataclass(frozen=True)
class FileRef:
    """A content-addressed file of a release."""

    sha256: str
    bytes: int

    @classmethod
    def parse(cls, data: Json) -> FileRef:
        """From `{"file": "sha256:…", "bytes": n}`. Raises ProtocolError."""
        size = need(data, "bytes", int)
        if not 0 <= size <= MAX_BLOB:
            raise ProtocolError(f"a file of {size} bytes is over the limit")
        return cls(digest_of(data.get("file")), size)

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {"file": f"sha256:{self.sha256}", "bytes": self.bytes}


@dataclass(frozen=True)
class RuntimeRef:
    """A runtime library for one architecture (`uname -m` names: x86_64, aarch64)."""

    name: str
    arch: str
    file: FileRef

    @classmethod
    def parse(cls, data: Json) -> RuntimeRef:
        """From decoded JSON. Raises ProtocolError."""
        return cls(check_name(data.get("name"), "runtime"), check_name(data.get("arch"), "arch"), FileRef.parse(data))

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {"name": self.name, "arch": self.arch, **self.file.encode()}


@dataclass(frozen=True)
class Golden:
    """Golden samples: one file of raw little-endian tensors, and how far an answer may be off.

    The file holds, one after the other without padding: each input in the variant's own dtype, shape
    [samples, *input.shape]; the labels, int32 [samples] (−1 where there is none); each output of the **source float
    model**, float32 [samples, *output.shape]. Offsets follow from the variant's inputs and outputs.
    """

    file: FileRef
    samples: int
    max_abs: float
    min_agreement: float

    @classmethod
    def parse(cls, data: Json) -> Golden:
        """From decoded JSON. Raises ProtocolError."""
        tolerance = need(data, "tolerance", dict)
        samples = need(data, "samples", int)
        if not 0 < samples <= 1024:
            raise ProtocolError(f"golden samples must be 1 to 1024, got {samples}")
        return cls(
            FileRef.parse(data), samples,
            float(need(tolerance, "max_abs", (int, float))), float(need(tolerance, "min_agreement", (int, float))),
        )  # fmt: skip

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            **self.file.encode(), "samples": self.samples, "holds": "inputs, labels, outputs of the source float model",
            "tolerance": {"max_abs": self.max_abs, "min_agreement": self.min_agreement},
        }  # fmt: skip


@dataclass(frozen=True)
class VariantRef:
    """One converted model of a release, with what a device needs to run and to probe it."""

    profiles: tuple[str, ...]
    format: str  # tflite | onnx
    precision: str  # int8 | float16 | float32 | dynamic
    file: FileRef
    runtimes: tuple[RuntimeRef, ...]
    recipe: FileRef
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden
    threads: int = 1
    task: str = "classification"  # classification: output 0 is scores by class; other: answers are only compared
    labels: tuple[str, ...] = ()
    measured: Json = field(default_factory=dict)
    latency_p95_ms: float | None = None
    memory_mb: float | None = None

    @classmethod
    def parse(cls, data: Json) -> VariantRef:
        """From decoded JSON. Raises ProtocolError."""
        budget = need(data, "budget", dict) if "budget" in data else {}
        threads = need(data, "threads", int) if "threads" in data else 1
        if not 1 <= threads <= 256:
            raise ProtocolError(f"threads must be 1 to 256, got {threads}")
        number = (int, float, type(None))
        return cls(
            profiles=tuple(check_name(p, "profile") for p in need(data, "profiles", list)),
            format=check_name(data.get("format"), "format"),
            precision=check_name(data.get("precision"), "precision"),
            file=FileRef.parse(data),
            runtimes=tuple(RuntimeRef.parse(r) for r in objects(data, "runtimes")),
            recipe=FileRef.parse(need(data, "recipe", dict)),
            inputs=tuple(TensorSpec.parse(t) for t in objects(data, "inputs")),
            outputs=tuple(TensorSpec.parse(t) for t in objects(data, "outputs")),
            golden=Golden.parse(need(data, "golden", dict)),
            threads=threads,
            task=check_name(data.get("task", "classification"), "task"),
            labels=tuple(str(label)[:64] for label in need(data, "labels", list)) if "labels" in data else (),
            measured=need(data, "measured", dict) if "measured" in data else {},
            latency_p95_ms=need(budget, "latency_p95_ms", number) if "latency_p95_ms" in budget else None,
            memory_mb=need(budget, "memory_mb", number) if "memory_mb" in budget else None,
        )

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "profiles": list(self.profiles), "format": self.format, "precision": self.precision, **self.file.encode(),
            "runtimes": [r.encode() for r in self.runtimes], "recipe": self.recipe.encode(),
            "inputs": [t.encode() for t in self.inputs], "outputs": [t.encode() for t in self.outputs],
            "threads": self.threads, "task": self.task, "labels": list(self.labels), "measured": dict(self.measured),
            "golden": self.golden.encode(),
            "budget": {"latency_p95_ms": self.latency_p95_ms, "memory_mb": self.memory_mb},
        }  # fmt: skip

    def runtime_for(self, arch: str) -> RuntimeRef | None:
        """The runtime library for an architecture, if the release carries one."""
        return next((r for r in self.runtimes if r.arch == arch), None)

    def files_for(self, arch: str) -> tuple[FileRef, ...]:
        """What a device of this architecture needs: model, golden samples, runtime library."""
        library = self.runtime_for(arch)
        return (self.file, self.golden.file, *((library.file,) if library else ()))


@dataclass(frozen=True)
class Manifest:
    """What a release is: one variant per profile, and under which checks it was made."""

    model: str
    counter: int
    created: str  # RFC 3339, UTC
    variants: tuple[VariantRef, ...]
    checks_skipped: bool = False
    approved_by: str | None = None

    @classmethod
    def parse(cls, data: Json) -> Manifest:
        """From decoded JSON. Raises ProtocolError."""
        if data.get("schema") != MANIFEST_SCHEMA:
            raise ProtocolError(f"not a manifest of schema {MANIFEST_SCHEMA}: {data.get('schema')!r:.80}")
        checks = need(data, "checks", dict)
        counter = need(data, "counter", int)
        if counter < 1:
            raise ProtocolError(f"the release counter must be positive, got {counter}")
        variants = tuple(VariantRef.parse(v) for v in objects(data, "variants"))
        if not variants:
            raise ProtocolError("a manifest without variants")
        return cls(
            check_name(data.get("model"), "model"), counter, need(data, "created", str), variants,
            need(checks, "skipped", bool), need(checks, "approved_by", (str, type(None))),
        )  # fmt: skip

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "schema": MANIFEST_SCHEMA, "model": self.model, "counter": self.counter, "created": self.created,
            "checks": {"skipped": self.checks_skipped, "approved_by": self.approved_by},
            "variants": [v.encode() for v in self.variants],
        }  # fmt: skip

    def canonical(self) -> bytes:
        """The bytes that are hashed and signed: JSON with sorted keys and no spaces."""
        return json.dumps(self.encode(), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def variant_for(self, profile: str) -> VariantRef | None:
        """The variant for a profile, if there is one."""
        return next((v for v in self.variants if profile in v.profiles), None)
