"""The words of this layer: Recipe, Variant, Target; and how real values become a tensor's bytes and back.

A recipe is data: it says everything that decides a variant's bytes, so its hash is the name under which the variant is
kept. It is saved beside what it made.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeship import wording
from edgeship.dataset import Dataset
from edgeship.dataset.samples import dtype_of
from edgeship.errors import ConversionError, MissingExtra, ReleaseError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import check_sha256, need, objects, parse_object
from edgeship.targets.scheme import Scheme

RECIPE_SCHEMA = "edgeship.recipe/v1"

#: A quantizer that leaves out branches or sparse weights writes a file as large as before and says nothing.
MIN_SHARE = 0.9

#: Format -> precisions of a source that its target makes float32 again before it does anything else.
UNPACKED = {"tflite": ("float16", "dynamic", "int8-weights")}

#: Format -> package and its extra: what quantizes, and what runs the model for it. Another version finds other numbers.
QUANTIZERS: dict[str, dict[str, str]] = {
    "tflite": {"ai-edge-quantizer": "tflite", "ai-edge-litert": "tflite"},
    "onnx": {"onnx": "onnx", "onnxsim": "onnx", "onnxruntime": "onnx"},
}

#: Samples that calibration looks at; of more, a seeded draw. Ranges do not move after a thousand.
MAX_CALIBRATION = 1000
CALIBRATION_SEED = 0

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How a model is converted and quantized."""

    source_sha256: str
    source_format: str
    format: str
    precision: str
    steps: tuple[Mapping[str, Any], ...]  # {"do": …, and its settings}
    calibration: Mapping[str, Any] | None = None  # {"sha256", "samples", "of", "seed", "preparation"}
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version of the tools

    @classmethod
    def parse(cls, raw: bytes) -> Recipe:
        """From the bytes of `canonical`. Raises ReleaseError."""
        try:
            data = parse_object(raw)
            if data.get("schema") != RECIPE_SCHEMA:
                raise ProtocolError(f"schema {data.get('schema')!r:.80}")
            return cls(
                check_sha256(data.get("source_sha256")), need(data, "source_format", str), need(data, "format", str),
                need(data, "precision", str), tuple(objects(data, "steps")),
                need(data, "calibration", (dict, type(None))), need(data, "versions", dict),
            )  # fmt: skip
        except ProtocolError as error:
            raise ReleaseError(f"not a recipe: {error}") from error

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "schema": RECIPE_SCHEMA, "source_sha256": self.source_sha256, "source_format": self.source_format,
            "format": self.format, "precision": self.precision, "steps": [dict(step) for step in self.steps],
            "calibration": None if self.calibration is None else dict(self.calibration),
            "versions": dict(self.versions),
        }  # fmt: skip

    def canonical(self) -> bytes:
        """The bytes that are hashed and saved: JSON with sorted keys."""
        return (json.dumps(self.encode(), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()

    @property
    def key(self) -> str:
        """Hexadecimal digest: equal recipes make equal variants."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True)
class Variant:
    """A converted model file with the recipe that made it. Inputs and outputs are those that the engine found."""

    path: Path
    recipe: Recipe
    recipe_path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bytes: int
    sha256: str
    int8_share: float = 0.0  # of the elements of all weight matrices, 0 to 1
    notes: tuple[str, ...] = ()  # of the engine and the converter, for people
    cached: bool = False  # it was there already
    library: str = ""  # sha256 of the runtime library that it was loaded and run in when it was made

    @property
    def format(self) -> str:
        """Of the file: tflite or onnx."""
        return self.recipe.format

    @property
    def precision(self) -> str:
        """One of `scheme.PRECISIONS`."""
        return self.recipe.precision

    @property
    def cache(self) -> Path:
        """The folder of conversions that this variant lies in."""
        return self.path.parent.parent


@dataclass(frozen=True)
class Layer:
    """An operator of a format's float model that a quantizer can treat by itself."""

    name: str  # what `Scheme.keep` takes: the tensors that it writes
    operator: str  # the format's word: CONV_2D, Gemm
    weights: int  # elements of its matrices and kernels; 0 where it has none
    shape: tuple[int, ...]  # of the first tensor that it writes
    source_name: str  # the layer of the source that it comes from, as far as names tell
    subgraph: int = 0  # branches and loop bodies have higher numbers

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Layer:
        """From what `encode` gave."""
        return cls(
            str(data["name"]), str(data["operator"]), int(data["weights"]), tuple(map(int, data["shape"])),
            str(data["source_name"]), int(data["subgraph"]),
        )  # fmt: skip

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "name": self.name, "operator": self.operator, "weights": self.weights, "shape": list(self.shape),
            "source_name": self.source_name, "subgraph": self.subgraph,
        }  # fmt: skip


class Target(Protocol):
    """A model format and its toolchain."""

    name: str

    def inspect(self, path: Path) -> ModelFacts:
        """Read a file of this format. Raises InputError, UsageError."""
        ...

    def reachable(self, source_format: str, precision: str) -> str | None:
        """None where a source of this format can be built with this precision, else the reason why not."""
        ...

    def build(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None, folder: Path, reporter: Reporter
    ) -> Variant:
        """Make a variant, or take it from `folder` where it was made before.

        Raises:
            UsageError: int8 without calibration data, or a scheme that cannot be reached.
            ConversionError: a converter failed, or made less than was asked for.
        """
        ...

    def as_is(self, source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
        """A source of this format as the engine can run it: nothing changed but an open batch.

        What a variant is compared with. Raises ConversionError, InputError.
        """
        ...


# ── decisions that targets share ─────────────────────────────────────────────────────────────────────────────────────


def check_request(target: Target, source: ModelFacts, scheme: Scheme, calibration: Dataset | None) -> None:
    """Refuse what cannot be built. Raises UsageError that says how it could."""
    precision = scheme.precision
    what = f"{source.path}: {target.name} {precision}"
    if reason := target.reachable(source.format, precision):
        raise UsageError(f"{what} cannot be built: {reason}", hint="another --precision or --format")
    unpacked = UNPACKED.get(source.format, ()) if source.format == target.name else ()
    if source.precision not in ("float32", precision, *unpacked):
        raise UsageError(
            f"{what} cannot be built: the model is {source.precision} already",
            hint=f"--precision {source.precision} takes it as it is; or start from the float model",
        )
    if (nothing := scheme.idle) is not None and source.precision != precision:
        raise UsageError(f"{what} cannot be built: {nothing[0]}", hint=nothing[1])
    if needs_calibration(source, scheme) and calibration is None:
        raise UsageError(
            f"{what} needs calibration data, and there is none",
            hint="name 200 to 1,000 representative samples (.npz, a folder of files, .csv or module:function): "
            "[data] representative in edgeship.toml, "
            "--data FILE of model quantize, or --calibration FILE of push",
        )


def needs_calibration(source: ModelFacts, scheme: Scheme) -> bool:
    """Whether building this takes representative data."""
    return scheme.needs_data and source.precision != scheme.precision


def calibration_of(data: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """The samples that calibration looks at, and what the recipe says of them."""
    chosen = data.take(MAX_CALIBRATION, CALIBRATION_SEED)
    inputs = Dataset(chosen.inputs)
    says: dict[str, Any] = {
        "sha256": inputs.inputs_sha256, "samples": len(chosen), "of": len(data), "seed": CALIBRATION_SEED
    }  # fmt: skip
    if data.preparation is not None:
        says["preparation"] = dict(data.preparation)
    return inputs, says


def check_share(share: float, precision: str, what: str, left: Iterable[str]) -> None:
    """Refuse a variant whose weights stayed as they were.

    Args:
        share: of the elements of all weight matrices that have the precision asked for, 0 to 1.
        precision: that was asked for; float32 asks for nothing.
        what: the variant, for the message.
        left: names of the largest others.

    Raises:
        ConversionError: less than `MIN_SHARE`; it names the largest weights that were left.
    """
    if precision != "float32" and share < MIN_SHARE:
        kind = "float16" if precision == "float16" else "int8"
        raise ConversionError(
            f"{what}: only {wording.share(share)} of the weights became {kind}, {MIN_SHARE:.0%} are wanted; "
            f"left as they were: {', '.join(left) or 'not known'}",
            hint="the quantizer does not take these operators: another --precision or --format, or change the layers",
        )


def versions_of(packages: Mapping[str, str]) -> dict[str, str]:
    """Installed version of each package.

    Args:
        packages: package -> extra that brings it; "a|b" means either.

    Raises:
        MissingExtra: one is not installed.
    """
    out: dict[str, str] = {}
    for names, extra in packages.items():
        for name in names.split("|"):
            try:
                out[name] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
        else:
            raise MissingExtra(names.partition("|")[0], extra)
    return out


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantize_input(values: NDArray[Any], spec: TensorSpec) -> bytes:
    """Real values as the bytes of an input.

    Args:
        values: any shape with `spec.count` elements; real values.
        spec: `q = round(value / scale) + zero_point`, clipped to the dtype, where it has a scale; else a plain cast.

    Returns:
        Raw little-endian bytes in C order.

    Raises:
        ValueError: another number of elements.
    """
    if values.size != spec.count:
        raise ValueError(f"input {spec.name!r} takes {spec.count} elements, got {values.size}")
    dtype = dtype_of(spec).newbyteorder("<")
    if not spec.scale:
        return np.ascontiguousarray(values, dtype=dtype).tobytes()
    limits = np.iinfo(spec.dtype)
    steps = np.rint(values.astype(np.float64) / spec.scale) + spec.zero_point
    clipped: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return clipped.tobytes()


def dequantize_output(data: bytes | memoryview, spec: TensorSpec) -> FloatArray:
    """The bytes of an output as real values.

    Returns:
        float32 [*spec.shape].

    Raises:
        ValueError: another number of bytes.
    """
    raw = np.frombuffer(data, dtype=np.dtype(spec.dtype).newbyteorder("<"))
    if raw.size != spec.count:
        raise ValueError(f"output {spec.name!r} has {spec.count} elements, got {raw.size}")
    if not spec.scale:
        return raw.reshape(spec.shape).astype(np.float32)
    real = (raw.astype(np.float64) - spec.zero_point) * spec.scale
    return real.reshape(spec.shape).astype(np.float32)
