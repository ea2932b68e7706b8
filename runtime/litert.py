"""TFLite models on libLiteRt.so (C API of LiteRT 2.2 and later) through ctypes.

What the C API asks of its callers, and where it is kept here:

* An output that grows while the graph runs is written past the end of a bound buffer, and the call says OK. So a shape
  that is not fixed is refused, room is left behind each output, and the shapes are compared after every run.
* Host memory must be aligned to 64 bytes and readable for 16 bytes past its end: each tensor gets pages of its own.
* Structure layouts and numbers are those of `litert/c/litert_model_types.h`, `litert_layout.h` and `litert_common.h`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any, NoReturn

from edgeship.runtime.engine import copy_inputs, fixed_shape
from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec

_PTR, _SIZE, _INT, _BOOL = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_bool

#: LiteRtElementType -> dtype
_DTYPES = {
    1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float16", 11: "float64",
    13: "uint64", 16: "uint32", 17: "uint16",
}  # fmt: skip

#: LiteRtStatus -> words
_STATUS = {
    1: "invalid argument", 2: "out of memory", 3: "runtime failure", 4: "an input is missing", 5: "unsupported",
    6: "not found", 8: "wrong version", 500: "the file cannot be read",
    501: "not a TFLite model, or damaged", 502: "a library did not load", 504: "the model did not compile",
}  # fmt: skip

_CPU = 1  # kLiteRtHwAcceleratorCpu
_PER_TENSOR = 1  # kLiteRtQuantizationPerTensor
_OPTION_ACCELERATORS, _OPTION_LOG, _LOG_ERROR = 24, 25, 3  # LiteRtEnvOptionTag; value 1 of the first: CPU only
_ANY_INT = 2  # kLiteRtAnyTypeInt

_OUTPUT_ROOM = 1 << 20  # bytes behind an output; pages that nobody touches cost nothing
_INPUT_ROOM = 16


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint, 7), ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8),
    )  # fmt: skip

    def shape(self) -> list[int]:
        return list(self.dimensions[: self.rank])


class _TensorType(ctypes.Structure):
    _fields_ = (("element", _INT), ("layout", _Layout))


class _PerTensor(ctypes.Structure):
    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int64))


class _EnvOption(ctypes.Structure):
    _fields_ = (("tag", _INT), ("type", ctypes.c_int64), ("value", ctypes.c_int64))


#: Function (without its prefix LiteRt) -> argument types. Destroy… return nothing, the others a status.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "CreateEnvironment": (_INT, _PTR, _PTR),
    "DestroyEnvironment": (_PTR,),
    "CreateOptions": (_PTR,),
    "DestroyOptions": (_PTR,),
    "SetOptionsHardwareAccelerators": (_PTR, _INT),
    "CreateOpaqueOptions": (ctypes.c_char_p, _PTR, _PTR, _PTR),
    "AddOpaqueOptions": (_PTR, _PTR),
    "CreateModelFromFile": (_PTR, ctypes.c_char_p, _PTR),
    "DestroyModel": (_PTR,),
    "GetModelSignature": (_PTR, _SIZE, _PTR),
    "GetNumSignatureInputs": (_PTR, _PTR),
    "GetNumSignatureOutputs": (_PTR, _PTR),
    "GetSignatureInputName": (_PTR, _SIZE, _PTR),
    "GetSignatureOutputName": (_PTR, _SIZE, _PTR),
    "GetSignatureInputTensorByIndex": (_PTR, _SIZE, _PTR),
    "GetSignatureOutputTensorByIndex": (_PTR, _SIZE, _PTR),
    "GetRankedTensorType": (_PTR, _PTR),
    "GetQuantizationTypeId": (_PTR, _PTR),
    "GetPerTensorQuantization": (_PTR, _PTR),
    "CreateCompiledModel": (_PTR, _PTR, _PTR, _PTR),
    "DestroyCompiledModel": (_PTR,),
    "CompiledModelGetErrorMessages": (_PTR, _PTR),
    "GetCompiledModelOutputTensorLayouts": (_PTR, _SIZE, _SIZE, _PTR, _BOOL),
    "CreateTensorBufferFromHostMemory": (_PTR, _PTR, _SIZE, _PTR, _PTR),
    "DestroyTensorBuffer": (_PTR,),
    "RunCompiledModel": (_PTR, _SIZE, _SIZE, _PTR, _SIZE, _PTR),
}


class _Library:
    """libLiteRt.so with its functions typed."""

    def __init__(self, path: str) -> None:
        try:
            handle = ctypes.CDLL(path)
            self.functions: dict[str, Any] = {name: getattr(handle, f"LiteRt{name}") for name in _FUNCTIONS}
        except OSError as error:
            raise EngineError(f"the runtime library does not load: {error}") from error
        except AttributeError as error:
            raise EngineError(f"{error}: libLiteRt.so of ai-edge-litert 2.2.0 or later is needed") from error
        for name, function in self.functions.items():
            function.argtypes = _FUNCTIONS[name]
            function.restype = None if name.startswith("Destroy") else _INT
        libc = ctypes.CDLL(None)
        self.strdup, self.libc_free = libc.strdup, libc.free
        self.strdup.restype, self.strdup.argtypes = _PTR, (ctypes.c_char_p,)
        self.libc_free.restype, self.libc_free.argtypes = None, (_PTR,)

    def call(self, name: str, *args: Any) -> None:
        status = self.functions[name](*args)
        if status:
            raise EngineError(f"LiteRt{name}: {_reason(status)}")

    def get(self, kind: Any, name: str, *args: Any) -> Any:
        """Call a function whose last parameter is where its result goes, and return that."""
        out = kind()
        self.call(name, *args, ctypes.byref(out))
        return out if isinstance(out, ctypes.Structure) else out.value

    def options(self, threads: int) -> Any:
        """Compilation options: CPU kernels on `threads` threads, errors kept for `CompiledModelGetErrorMessages`."""
        options = self.get(_PTR, "CreateOptions")
        self.call("SetOptionsHardwareAccelerators", options, _CPU)
        for name, text in (
            (b"xnnpack", f"num_threads = {threads}\n"),
            (b"runtime_options_string", "error_reporter_mode = 2\n"),
        ):
            # the library frees the text with the function that it is given
            free = ctypes.cast(self.libc_free, _PTR)
            opaque = self.get(_PTR, "CreateOpaqueOptions", name, self.strdup(text.encode()), free)
            self.call("AddOpaqueOptions", options, opaque)
        return options


class _Bound:
    """One tensor bound to memory that belongs to Python."""

    def __init__(self, library: _Library, spec: TensorSpec, kind: _TensorType, room: int) -> None:
        nbytes = spec.nbytes
        self.pages = mmap.mmap(-1, nbytes + room)
        self.view = memoryview(self.pages)[:nbytes]
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))
        self.handle = library.get(
            _PTR, "CreateTensorBufferFromHostMemory", ctypes.byref(kind), address, nbytes, None
        )  # fmt: skip


class LiteRtModel:
    """A TFLite model, compiled for the CPU. See `edgeship.runtime.engine.Model`."""

    notes: tuple[str, ...] = ()

    def __init__(self, library: str, path: str, threads: int) -> None:
        self._library = _Library(library)
        self._environment: Any = None
        self._model: Any = None
        self._compiled: Any = None
        self._bound: tuple[list[_Bound], list[_Bound]] = ([], [])
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        try:
            self._open(path, threads)
            self._run()
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, threads: int) -> None:
        lib = self._library
        settings = (_EnvOption * 2)(
            _EnvOption(_OPTION_ACCELERATORS, _ANY_INT, 1), _EnvOption(_OPTION_LOG, _ANY_INT, _LOG_ERROR)
        )
        self._environment = lib.get(_PTR, "CreateEnvironment", len(settings), settings)
        try:
            self._model = lib.get(_PTR, "CreateModelFromFile", self._environment, os.fsencode(path))
        except EngineError as error:
            raise EngineError(f"{path} is refused: {error}") from error
        options = lib.options(threads)
        try:
            self._compiled = lib.get(_PTR, "CreateCompiledModel", self._environment, self._model, options)
        finally:
            lib.functions["DestroyOptions"](options)
        signature = lib.get(_PTR, "GetModelSignature", self._model, 0)
        kinds: list[list[_TensorType]] = []
        for side in ("Input", "Output"):
            described = [
                self._describe(signature, side, index)
                for index in range(lib.get(_SIZE, f"GetNumSignature{side}s", signature))
            ]
            kinds.append([kind for _, kind in described])
            setattr(self, f"{side.lower()}s", tuple(spec for spec, _ in described))
        for bound, specs, types, room in zip(
            self._bound, (self.inputs, self.outputs), kinds, (_INPUT_ROOM, _OUTPUT_ROOM), strict=True
        ):
            for spec, kind in zip(specs, types, strict=True):
                bound.append(_Bound(lib, spec, kind, room))
        handles = [(_PTR * len(bound))(*[tensor.handle for tensor in bound]) for bound in self._bound]
        self._views = [tensor.view for tensor in self._bound[0]]
        self._layouts = (_Layout * max(1, len(self.outputs)))()
        self._arguments = (
            self._compiled, 0, len(self.inputs), handles[0], len(self.outputs), handles[1],
        )  # fmt: skip
        self._known = b""
        self._compare_shapes(allocate=True)

    def _describe(self, signature: Any, side: str, index: int) -> tuple[TensorSpec, _TensorType]:
        lib = self._library
        tensor = lib.get(_PTR, f"GetSignature{side}TensorByIndex", signature, index)
        name = lib.get(ctypes.c_char_p, f"GetSignature{side}Name", signature, index).decode(errors="replace")
        kind: _TensorType = lib.get(_TensorType, "GetRankedTensorType", tensor)
        dtype = _DTYPES.get(kind.element)
        if dtype is None:
            raise EngineError(f"tensor {name!r} has element type {kind.element}, which is not a plain number")
        quantization = _PerTensor(0.0, 0)
        if lib.get(_INT, "GetQuantizationTypeId", tensor) == _PER_TENSOR:
            quantization = lib.get(_PerTensor, "GetPerTensorQuantization", tensor)
        shape = fixed_shape(name, kind.layout.shape())
        return TensorSpec(name, dtype, shape, quantization.scale, quantization.zero_point), kind

    def _compare_shapes(self, *, allocate: bool = False) -> None:
        name, count = "GetCompiledModelOutputTensorLayouts", len(self.outputs)
        status = self._library.functions[name](self._compiled, 0, count, self._layouts, allocate)
        if status:
            self._fail(name, status)
        if bytes(self._layouts) == self._known:
            return
        for spec, layout in zip(self.outputs, self._layouts):  # noqa: B905 - there may be one layout more
            if layout.shape() != list(spec.shape):
                raise EngineError(
                    f"output {spec.name!r} changed its shape from {list(spec.shape)} to {layout.shape()}; "
                    "convert the model with fixed shapes"
                )
        self._known = bytes(self._layouts)

    def _fail(self, name: str, status: int) -> NoReturn:
        raise EngineError(f"LiteRt{name}: {_reason(status)} {self._messages()}".rstrip())

    def _messages(self) -> str:
        text = _PTR()
        get = self._library.functions["CompiledModelGetErrorMessages"]
        if get(self._compiled, ctypes.byref(text)) or not text.value:
            return ""
        try:
            return f"({ctypes.string_at(text.value).decode(errors='replace').strip()[:500]})"
        finally:
            self._library.libc_free(text)

    def _run(self) -> None:
        status = self._library.functions["RunCompiledModel"](*self._arguments)
        if status:
            self._fail("RunCompiledModel", status)
        self._compare_shapes()

    def run(self, *inputs: bytes | memoryview) -> list[bytes]:
        """One inference; see `edgeship.runtime.engine.Model.run`."""
        if self._compiled is None:
            raise EngineError("the model is closed")
        copy_inputs(self.inputs, self._views, inputs)
        self._run()
        return [tensor.view.tobytes() for tensor in self._bound[1]]

    def close(self) -> None:
        """Give the library's memory back; safe to call twice."""
        destroy = self._library.functions
        for bound in self._bound:
            while bound:
                destroy["DestroyTensorBuffer"](bound.pop().handle)
        if self._compiled is not None:
            destroy["DestroyCompiledModel"](self._compiled)
        if self._model is not None:
            destroy["DestroyModel"](self._model)
        if self._environment is not None:
            destroy["DestroyEnvironment"](self._environment)
        self._compiled = self._model = self._environment = None


def _reason(status: int) -> str:
    return f"{_STATUS.get(status, 'failed')} (status {status})"
