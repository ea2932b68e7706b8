"""What is known of a model file before anything is built from it.

The readers are `targets/<format>/inspect.py`; `edgeship.targets.registry.inspect` picks one. This module holds the
record, how the format is told from the bytes, and how the file is hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError, InputError, UsageError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import Json, check_sha256, need, objects

#: Source formats and the suffix of their files.
FORMATS = {"keras": ".keras", "savedmodel": "", "torch": ".pt2", "onnx": ".onnx", "tflite": ".tflite"}

MAX_MODEL = 4 << 30  # bytes of one model file; a release refuses larger ones too (wire.MAX_BLOB)
MAX_FILES = 4096  # of a SavedModel

#: What every reader says of weights that are no numbers. Infinity is none of its business: masks are made of it.
NAN = "{count} of the weights {name!r} are NaN"
NAN_HINT = "its training diverged, or the file is damaged: take an earlier checkpoint"
#: What to do where an input is text.
TEXT_HINT = (
    "start from the part of the model after its text layer, and look words up in the application; only ONNX models may "
    "take text"
)

_ZIP = b"PK\x03\x04"
_GIVE = "give a .keras, .onnx, .tflite or .pt2 file, or the folder of a SavedModel"

#: What TensorFlow reads of a SavedModel's folder; anything else in it is no part of the model.
_SAVED_FILES, _SAVED_FOLDERS = ("saved_model.pb", "fingerprint.pb"), ("variables", "assets", "assets.extra")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFacts:
    """A model file as it was found. Shapes are with the batch axis, fixed at 1 where the file leaves it open."""

    path: Path
    format: str  # keras | savedmodel | torch | onnx | tflite
    sha256: str  # of the file; of a folder, or an ONNX model with external data, of all its files (`digest`)
    bytes: int  # of all its files
    precision: str  # float32 | float16 | dynamic | int8: what the weights and activations are now
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]  # () where only a conversion can tell (some Keras models)
    operators: Mapping[str, int]  # operator or layer -> how many
    parameters: int | None  # elements of the weights; None where the file does not say
    int8_share: float = 0.0  # of the elements of all weight matrices, 0 to 1
    open_shapes: bool = False  # the file leaves the batch open; a variant of it has 1
    companions: tuple[Path, ...] = ()  # files of external data; of a folder, all its files
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # opset, Keras version, … for people

    @classmethod
    def parse(cls, path: Path, data: Json) -> ModelFacts:
        """From what a reader's child process answered. Raises InputError when that is not it."""
        try:
            operators = need(data, "operators", dict)
            base = companion_folder(path, str(data.get("format")))
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
                companions=tuple(base / str(name) for name in need(data, "companions", list)),
                notes=tuple(str(note) for note in need(data, "notes", list)),
                details=need(data, "details", dict),
            )
        except ProtocolError as error:
            raise InputError(f"{path}: the model cannot be used: {error}", hint="export it again") from error

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        base = companion_folder(self.path, self.format)
        return {
            "path": str(self.path), "format": self.format, "sha256": self.sha256, "bytes": self.bytes,
            "precision": self.precision, "inputs": [t.encode() for t in self.inputs],
            "outputs": [t.encode() for t in self.outputs], "operators": dict(self.operators),
            "parameters": self.parameters, "int8_share": self.int8_share, "open_shapes": self.open_shapes,
            "companions": [c.relative_to(base).as_posix() for c in self.companions],
            "notes": list(self.notes), "details": dict(self.details),
        }  # fmt: skip


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs as a user writes them: `image=1,3,48,320`. Raises UsageError."""
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        try:
            shape = tuple(int(d) for d in dims.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not equals or not name or not shape or min(shape) < 1:
            raise UsageError(f"{text!r} is no shape of an input", hint="write it like image=1,3,48,320")
        found[name] = shape
    return found


def companion_folder(path: Path, format: str) -> Path:  # noqa: A002 - the domain's word
    """The folder that the names of a model's other files start from."""
    return path if format == "savedmodel" else path.parent


def check_file(path: Path) -> int:
    """Bytes of a model file.

    Raises:
        UsageError: there is no such file, or it is a folder.
        InputError: it cannot be read, is empty, or over `MAX_MODEL`.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file", hint=_GIVE)
    if not path.is_file():
        raise UsageError(f"{path}: not a file", hint=_GIVE)
    try:
        with path.open("rb") as file:
            file.read(1)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", hint="may you read it?") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty", hint="save or download the model again")
    if size > MAX_MODEL:
        raise InputError(
            f"{path}: {size} bytes is over the limit of {MAX_MODEL}",
            hint="no device of the profiles runs a model of this size; start from a smaller one",
        )
    return size


def saved_model_files(folder: Path) -> list[Path]:
    """The files of a SavedModel: what TensorFlow reads of the folder, sorted.

    Raises:
        UsageError: the folder is no SavedModel.
        InputError: a link, a special file, too many or too large files; a variables index without its data.
    """
    if not (folder / "saved_model.pb").is_file():
        raise UsageError(f"{folder}: a folder, but no SavedModel: saved_model.pb is not in it", hint=_GIVE)
    found: list[Path] = []
    try:
        stack = [folder / name for name in (*_SAVED_FILES, *_SAVED_FOLDERS) if os.path.lexists(folder / name)]
        while stack:
            path = stack.pop()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                stack.extend(path.iterdir())
            elif stat.S_ISREG(mode):
                found.append(path)
            else:
                raise InputError(
                    f"{folder}: {path.relative_to(folder)} is a link or no regular file, and is not followed",
                    hint="copy the model with its links resolved: cp -rL",
                )
            if len(found) + len(stack) > MAX_FILES:
                raise InputError(f"{folder}: more than {MAX_FILES} files", hint="is it the folder of one SavedModel?")
        if (size := sum(path.stat().st_size for path in found)) > MAX_MODEL:
            raise InputError(
                f"{folder}: {size} bytes is over the limit of {MAX_MODEL}",
                hint="no device of the profiles runs a model of this size; start from a smaller one",
            )
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}", hint="may you read there?") from error
    names = {path.relative_to(folder).as_posix() for path in found}
    data = any(name.startswith("variables/variables.data-") for name in names)
    if data != ("variables/variables.index" in names):
        missing = "variables.index" if data else "variables.data-00000-of-00001"
        raise InputError(f"{folder}: variables/{missing} is missing", hint="copy the whole folder again")
    return sorted(found)


def detect_format(path: Path) -> str:
    """The format of a model file or folder, from its first bytes; the suffix decides only for ONNX, which has no mark.

    Raises:
        UsageError: no such file, or a folder that is no SavedModel.
        InputError: empty, unreadable, or no format that is known.
    """
    if path.is_dir():
        saved_model_files(path)
        return "savedmodel"
    check_file(path)
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"TFL3":
        return "tflite"
    suffix = path.suffix.lower()
    if head[:4] == _ZIP:
        return _archive(path)
    if path.name == "saved_model.pb":
        raise UsageError(f"{path}: one file of a SavedModel", hint=f"give its folder: {path.parent}")
    if suffix == ".onnx":
        return "onnx"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        raise InputError(
            f"{path}: an HDF5 file of Keras 2",
            hint="load it with keras.models.load_model and save it as model.keras",
        )
    if head[:1] == b"\x80" or suffix in (".pt", ".pth", ".pkl", ".joblib"):
        raise InputError(
            f"{path}: a pickle, which could run anything and is never opened",
            hint="export the model: torch.export.save(torch.export.export(model, (example,)), 'model.pt2'), or as ONNX",
        )
    if suffix in (".tflite", ".keras"):
        raise InputError(
            f"{path}: the suffix says {suffix[1:]}, the bytes do not: truncated or another format",
            hint="save or download the model again",
        )
    raise InputError(f"{path}: not a Keras, ONNX, TFLite or PyTorch model", hint=_GIVE)


def _archive(path: Path) -> str:
    """What a zip archive holds: an exported PyTorch program has models/*.json, a pickle of PyTorch has data.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError):
        return "torch" if path.suffix.lower() == ".pt2" else "keras"  # the reader says what is wrong
    if any(name.startswith("models/") and name.endswith(".json") for name in names):
        return "torch"
    if "data.pkl" in names:
        raise InputError(
            f"{path}: weights or a module that torch.save pickled, which could run anything and is never opened",
            hint="export the model: torch.export.save(torch.export.export(model, (example,)), 'model.pt2')",
        )
    return "torch" if path.suffix.lower() == ".pt2" else "keras"  # the reader says what is missing


def digest(paths: Iterable[Path]) -> tuple[str, int]:
    """Sha256 and bytes of a model.

    One file: of its bytes. Several (ONNX with external data): of the lines "sha256 name" of each file, the model first,
    the others by name. A folder, which is followed by its files: of those lines, all by name within the folder.

    Raises:
        InputError: a file cannot be read.
    """
    first, *others = paths
    found = [(*_hash(path), path.relative_to(first).as_posix() if first.is_dir() else path.name) for path in others]
    found.sort(key=lambda item: item[2])
    if not first.is_dir():
        found.insert(0, (*_hash(first), first.name))
    total = sum(size for _, size, _ in found)
    if not others:
        return found[0][0], total
    return hashlib.sha256("".join(f"{sha} {name}\n" for sha, _, name in found).encode()).hexdigest(), total


@contextlib.contextmanager
def unchanged(source: ModelFacts) -> Iterator[None]:
    """A block that reads a source again, from the disk, after it was inspected.

    What is made of a source is kept under its hash. A training that saves its model meanwhile would have the new one's
    answers found under the hash of the old one, for good.

    Raises:
        InputError: the files are no longer those that the facts are of, before the block or after it. A file that is
            half written looks damaged, so this comes before what the block raised.
    """
    _check_unchanged(source)
    try:
        yield
    except EdgeshipError:
        _check_unchanged(source)
        raise
    _check_unchanged(source)


def _check_unchanged(source: ModelFacts) -> None:
    if digest([source.path, *source.companions])[0] != source.sha256:
        raise InputError(f"{source.path}: it changed while it was being worked on", hint="try again")


def _hash(path: Path) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", hint="may you read it?") from error
    return hasher.hexdigest(), size
