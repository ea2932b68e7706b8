"""The step that turns files into samples, in a child process: a decoder that crashes takes nobody with it.

The samples are appended to one file as they come, so that one sample at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeship.child import GIB, Limits
from edgeship.dataset import values
from edgeship.dataset.archive import MAX_BYTES
from edgeship.errors import EdgeshipError, InputError
from edgeship.preparation import Preparation
from edgeship.runtime.manifest import TensorSpec

LIMITS = Limits(seconds=3600.0, cpu_seconds=3600, memory=8 * GIB, file=MAX_BYTES)
SAMPLES = "samples.bin"  # all samples, one behind the other, little-endian
NAMED = 5  # files that an error names


class Reader(Protocol):
    """Reads one kind of files for one input."""

    def read(self, path: Path) -> NDArray[Any]:
        """The samples of a file, [k, *sample]."""
        ...

    def says(self) -> dict[str, Any]:
        """All that decides the values, for the recipe."""
        ...


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Read files.

    Args:
        request: "kind", "root", "files": names relative to root, "spec": the input, "preparation".
        folder: gets `SAMPLES`.

    Returns:
        {"counts": samples of each file, "preparation": for the recipe}.
    """
    spec = TensorSpec.parse(request["spec"])
    reader = _reader(request["kind"], spec, Preparation.parse(request["preparation"]))
    root = Path(request["root"])
    counts: list[int] = []
    wrong: list[tuple[str, Exception]] = []
    written = 0
    with (folder / SAMPLES).open("wb") as out:
        for name in request["files"]:
            try:
                made = values.conform(name, reader.read(root / name), spec)
            except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged files
                wrong.append((name, error))
                continue
            written += made.nbytes
            if written > MAX_BYTES:
                raise InputError(f"more than {MAX_BYTES} bytes of samples", hint="fewer files: 200 to 1,000 samples do")
            out.write(made.astype(made.dtype.newbyteorder("<"), copy=False).tobytes())
            counts.append(len(made))
    if wrong:
        raise _refusal(wrong, len(request["files"]))
    return {"counts": counts, "preparation": reader.says()}


def _reader(kind: str, spec: TensorSpec, preparation: Preparation) -> Reader:
    if kind == "images":
        from edgeship.dataset.images import ImageReader

        return ImageReader(spec, preparation)
    from edgeship.dataset.recordings import WavReader

    return WavReader(spec, preparation)


def _refusal(wrong: list[tuple[str, Exception]], total: int) -> InputError:
    lines = [_printable(f"{name}: {_reason(name, error)}") for name, error in wrong[:NAMED]]
    if len(wrong) > NAMED:
        lines.append(f"and {len(wrong) - NAMED} more")
    hints = [error.hint for _, error in wrong if isinstance(error, EdgeshipError) and error.hint]
    return InputError(
        f"{len(wrong)} of {total} files cannot be used\n  " + "\n  ".join(lines),
        hint=hints[0] if hints else "take them away, or copy them again",
    )


def _printable(text: str) -> str:
    """A name of a file may hold anything, escape sequences of a terminal too."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, EdgeshipError):
        return str(error).removeprefix(f"{name}: ")
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a kind that is read"
    if type(error).__name__.startswith("DecompressionBomb"):
        return "far more pixels than a sample can need"
    return " ".join(str(error).split())[:200] or type(error).__name__
