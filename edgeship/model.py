"""What is known of a model file before anything is built from it.

The readers are `targets/<format>/inspect.py`; `edgeship.targets.registry.inspect` picks one. This module holds the
record, how the format is told from the bytes, and how the file is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import InputError, UsageError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import Json, check_sha256, need, objects

#: Source formats and the suffix of their files.
FORMATS = {"keras": ".keras", "onnx": ".onnx", "tflite": ".tflite"}

MAX_MODEL = 4 << 30  # bytes of one model file; a release refuses larger ones too (wire.MAX_BLOB)

_ZIP = b"PK\x03\x04"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFacts:
    """A model file as it was found. Shapes are with the batch axis, fixed at 1 where the file leaves it open."""

    path: Path
    format: str  # keras | onnx | tflite
    sha256: str  # of the file; of an ONNX model with external data, of all its files (`digest`)
    bytes: int  # external data included
    precision: str  # float32 | float16 | dynamic | int8: what the weights and activations are now
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]  # () where only a conversion can tell (some Keras models)
    operators: Mapping[str, int]  # operator or layer -> how many
    parameters: int | None  # elements of the weights; None where the file does not say
    int8_share: float = 0.0  # of the elements of all weight matrices, 0 to 1
    open_shapes: bool = False  # the file leaves the batch open; a variant of it has 1
    companions: tuple[Path, ...] = ()  # files of external data
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # opset, Keras version, … for people

    @classmethod
    def parse(cls, path: Path, data: Json) -> ModelFacts:
        """From what a reader's child process answered. Raises InputError when that is not it."""
        try:
            operators = need(data, "operators", dict)
            if not all(isinstance(count, int) for count in operators.values()):
                raise ProtocolError("'operators' must hold counts")
            return cls(
                path=path,
                format=need(data, "format", str),
                sha256=check_sha256(data.get("sha256")),
                bytes=need(data, "bytes", int),
                precision=need(data, "precision", str),
                inputs=tuple(TensorSpec.parse(t) for t in objects(data, "inputs")),
                outputs=tuple(TensorSpec.parse(t) for t in objects(data, "outputs")),
                operators=operators,
                parameters=need(data, "parameters", (int, type(None))),
                int8_share=float(need(data, "int8_share", (int, float))),
                open_shapes=need(data, "open_shapes", bool),
                companions=tuple(path.parent / str(name) for name in need(data, "companions", list)),
                notes=tuple(str(note) for note in need(data, "notes", list)),
                details=need(data, "details", dict),
            )
        except ProtocolError as error:
            raise InputError(f"{path}: the model cannot be used: {error}") from error

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {
            "path": str(self.path), "format": self.format, "sha256": self.sha256, "bytes": self.bytes,
            "precision": self.precision, "inputs": [t.encode() for t in self.inputs],
            "outputs": [t.encode() for t in self.outputs], "operators": dict(self.operators),
            "parameters": self.parameters, "int8_share": self.int8_share, "open_shapes": self.open_shapes,
            "companions": [c.name for c in self.companions], "notes": list(self.notes), "details": dict(self.details),
        }  # fmt: skip


def check_file(path: Path) -> int:
    """Bytes of a model file.

    Raises:
        UsageError: there is no such file, or it is a folder.
        InputError: it cannot be read, is empty, or over `MAX_MODEL`.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file", hint="give the path of a .keras, .onnx or .tflite file")
    if not path.is_file():
        raise UsageError(
            f"{path}: not a file",
            hint="a SavedModel folder: load it in Keras and save it as .keras"
            if path.is_dir()
            else "give the path of a .keras, .onnx or .tflite file",
        )
    try:
        with path.open("rb") as file:
            file.read(1)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty", hint="save or download the model again")
    if size > MAX_MODEL:
        raise InputError(f"{path}: {size} bytes is over the limit of {MAX_MODEL}")
    return size


def detect_format(path: Path) -> str:
    """The format of a model file, from its first bytes; the suffix decides only for ONNX, which has no mark.

    Raises:
        UsageError: no such file, or not a file.
        InputError: empty, unreadable, or no format that is known.
    """
    check_file(path)
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:4] == _ZIP:
        return "keras"
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return "onnx"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        raise InputError(
            f"{path}: an HDF5 file of Keras 2",
            hint="load it with keras.models.load_model and save it as model.keras",
        )
    if head[:1] == b"\x80" or suffix in (".pt", ".pth", ".pkl", ".joblib"):
        raise InputError(
            f"{path}: a pickle, which could run anything and is never opened", hint="export the model as ONNX first"
        )
    if suffix in (".tflite", ".keras"):
        raise InputError(
            f"{path}: the suffix says {suffix[1:]}, the bytes do not: truncated or another format",
            hint="save or download the model again",
        )
    raise InputError(f"{path}: not a Keras, ONNX or TFLite model", hint="give a .keras, .onnx or .tflite file")


def digest(paths: Iterable[Path]) -> tuple[str, int]:
    """Sha256 and bytes of a model.

    One file: of its bytes. Several (ONNX with external data): of the lines "sha256 name" of each file, the model first,
    the others by name.

    Raises:
        InputError: a file cannot be read.
    """
    found: list[tuple[str, str, int]] = []
    for path in paths:
        hasher, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        found.append((hasher.hexdigest(), path.name, size))
    total = sum(size for _, _, size in found)
    if len(found) == 1:
        return found[0][0], total
    lines = [found[0], *sorted(found[1:], key=lambda item: item[1])]
    return hashlib.sha256("".join(f"{sha} {name}\n" for sha, name, _ in lines).encode()).hexdigest(), total
