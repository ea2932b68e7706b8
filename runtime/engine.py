"""Runs a model through ctypes on one runtime library: the same code on host and device.

Rules: shapes are fixed and known when `load` returns; every size is checked before a byte is copied; whatever the
library refuses is an EngineError that says what to do next. A damaged file can crash the library itself, so files are
hashed before they come here, and load in a process of their own.
"""

from __future__ import annotations

from typing import Protocol

from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec

#: format -> the runtime library that runs it
FORMATS = {"tflite": "libLiteRt.so", "onnx": "libonnxruntime.so"}


class Model(Protocol):
    """A loaded model. Inputs and outputs are raw little-endian bytes in the model's own dtype, C order.

    Text ("string") is an input alone: `wire.TEXT_BYTES` bytes an element, UTF-8 with zeros behind it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...]  # what differs from a plain load, for people: "optimizations disabled: …"

    def run(self, *inputs: bytes | memoryview) -> list[bytes]:
        """One inference: one buffer per input in the order of `inputs`, one result per output.

        Raises:
            EngineError: wrong number or size of inputs, closed, or the library failed.
        """
        ...

    def close(self) -> None:
        """Give the library's memory back; safe to call twice."""
        ...


def load(format: str, library: str, model: str, *, threads: int = 1) -> Model:  # noqa: A002 - the domain's word
    """Load a model file.

    Args:
        format: "tflite" or "onnx".
        library: path of libLiteRt.so or libonnxruntime.so, already verified.
        model: path of the model file, already verified.
        threads: of the library's own pool, 1 or more.

    Raises:
        EngineError: unknown format, the library does not load or lacks a function, the model is refused, a tensor has
            no fixed shape or a type that is not a number.
    """
    if threads < 1:
        raise EngineError(f"threads must be 1 or more, got {threads}")
    if format == "tflite":
        from edgeship.runtime.litert import LiteRtModel

        return LiteRtModel(library, model, threads)
    if format == "onnx":
        from edgeship.runtime.onnxrt import OnnxModel

        return OnnxModel(library, model, threads)
    raise EngineError(f"no engine runs the format {format!r}; known are {', '.join(FORMATS)}")


def fixed_shape(tensor: str, dims: list[int]) -> tuple[int, ...]:
    """`dims` as a shape without unknowns. Raises EngineError that says how to get one."""
    if any(d < 1 for d in dims):
        shown = " × ".join(str(d) if d > 0 else "?" for d in dims)
        raise EngineError(f"tensor {tensor!r} has no fixed shape ({shown}); convert the model with a fixed batch of 1")
    return tuple(dims)


def copy_inputs(specs: tuple[TensorSpec, ...], views: list[memoryview], inputs: tuple[bytes | memoryview, ...]) -> None:
    """Copy each input into the memory bound to it. Raises EngineError for a wrong number or size."""
    if len(inputs) != len(specs):
        raise EngineError(f"the model takes {len(specs)} inputs, {len(inputs)} were given")
    for spec, view, data in zip(specs, views, inputs, strict=True):
        _copy(spec, view, data)


def _copy(spec: TensorSpec, view: memoryview, data: bytes | memoryview) -> None:
    try:
        view[:] = data
    except ValueError:
        # another size, or a view of other items than bytes
        flat = memoryview(data).cast("B")
        if len(flat) != spec.nbytes:
            raise EngineError(
                f"input {spec.name!r} takes {spec.nbytes} bytes ({spec.dtype} {list(spec.shape)}), "
                f"{len(flat)} were given"
            ) from None
        view[:] = flat
