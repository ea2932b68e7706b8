"""ONNX models on libonnxruntime.so through ctypes and the table of functions that is its C API.

`OrtGetApiBase()->GetApi(10)` gives an array of function pointers whose order the project never changes (its own static
assertions hold the ends of each version's part), so functions are called by index. Inputs and outputs are bound once to
memory of ours; ONNX Runtime refuses to write an output of another shape into it.

On x86-64 without VNNI the int8 kernels saturate in 16 bits, which ARM's do not: `session.x64quantprecision` turns that
off, so that host and device agree. Some statically quantized graphs do not load with it (ONNX Runtime 1.31: "Attempt to
replace the existing tensor"); where they load by default, as elsewhere, they are run without graph optimizations here,
and `notes` says so.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from typing import Any

from edgeship.runtime.engine import copy_inputs, fixed_shape
from edgeship.runtime.errors import EngineError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.tensors import texts
from edgeship.runtime.wire import TEXT

_PTR, _SIZE, _INT, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p

#: Key of a model's metadata: {"input or output": [scale, zero point]}.
QUANTIZED = "edgeship.quantized"

_API_VERSION = 10  # of ONNX Runtime 1.10; every later library serves it
_LOG_ERROR = 3
_DISABLE_ALL = 0  # ORT_DISABLE_ALL
_ARENA, _DEFAULT_MEMORY = 0, 0  # OrtDeviceAllocator, OrtMemTypeDefault

#: ONNXTensorElementDataType -> dtype
_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    8: TEXT, 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip

#: Function -> its index in the table, and its argument types. Release… return nothing, the others an OrtStatus.
_FUNCTIONS: dict[str, tuple[int, tuple[Any, ...]]] = {
    "CreateEnv": (3, (_INT, _TEXT, _PTR)),
    "CreateSession": (7, (_PTR, _TEXT, _PTR, _PTR)),
    "Run": (9, (_PTR, _PTR, _PTR, _PTR, _SIZE, _PTR, _SIZE, _PTR)),
    "CreateSessionOptions": (10, (_PTR,)),
    "SetSessionGraphOptimizationLevel": (23, (_PTR, _INT)),
    "SetIntraOpNumThreads": (24, (_PTR, _INT)),
    "SetInterOpNumThreads": (25, (_PTR, _INT)),
    "SessionGetInputCount": (30, (_PTR, _PTR)),
    "SessionGetOutputCount": (31, (_PTR, _PTR)),
    "SessionGetInputTypeInfo": (33, (_PTR, _SIZE, _PTR)),
    "SessionGetOutputTypeInfo": (34, (_PTR, _SIZE, _PTR)),
    "SessionGetInputName": (36, (_PTR, _SIZE, _PTR, _PTR)),
    "SessionGetOutputName": (37, (_PTR, _SIZE, _PTR, _PTR)),
    "CreateTensorAsOrtValue": (48, (_PTR, _PTR, _SIZE, _INT, _PTR)),
    "CreateTensorWithDataAsOrtValue": (49, (_PTR, _PTR, _SIZE, _PTR, _SIZE, _INT, _PTR)),
    "FillStringTensor": (52, (_PTR, _PTR, _SIZE)),
    "CastTypeInfoToTensorInfo": (55, (_PTR, _PTR)),
    "GetTensorElementType": (60, (_PTR, _PTR)),
    "GetDimensionsCount": (61, (_PTR, _PTR)),
    "GetDimensions": (62, (_PTR, _PTR, _SIZE)),
    "CreateCpuMemoryInfo": (69, (_INT, _INT, _PTR)),
    "AllocatorFree": (76, (_PTR, _PTR)),
    "GetAllocatorWithDefaultOptions": (78, (_PTR,)),
    "ReleaseEnv": (92, (_PTR,)),
    "ReleaseStatus": (93, (_PTR,)),
    "ReleaseMemoryInfo": (94, (_PTR,)),
    "ReleaseSession": (95, (_PTR,)),
    "ReleaseValue": (96, (_PTR,)),
    "ReleaseTypeInfo": (98, (_PTR,)),
    "ReleaseSessionOptions": (100, (_PTR,)),
    "SessionGetModelMetadata": (111, (_PTR, _PTR)),
    "ModelMetadataLookupCustomMetadataMap": (116, (_PTR, _PTR, _TEXT, _PTR)),
    "ReleaseModelMetadata": (118, (_PTR,)),
    "AddSessionConfigEntry": (130, (_PTR, _TEXT, _TEXT)),
}
_GET_ERROR_MESSAGE = 2


class _ApiBase(ctypes.Structure):
    _fields_ = (("get_api", ctypes.CFUNCTYPE(_PTR, ctypes.c_uint32)), ("version", ctypes.CFUNCTYPE(_TEXT)))


class _Library:
    """libonnxruntime.so with its functions typed."""

    def __init__(self, path: str) -> None:
        # From version 1.31 on the library of Linux reports to its maker and keeps a device id in ~/.cache.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            base = ctypes.CDLL(path).OrtGetApiBase
        except OSError as error:
            raise EngineError(f"the runtime library does not load: {error}") from error
        except AttributeError as error:
            raise EngineError(f"{error}: libonnxruntime.so of ONNX Runtime 1.10 or later is needed") from error
        base.restype = ctypes.POINTER(_ApiBase)
        api = base().contents.get_api(_API_VERSION)
        if not api:
            raise EngineError("this libonnxruntime.so is too old: version 1.10 or later is needed")
        table = ctypes.cast(api, ctypes.POINTER(_PTR))
        self.functions: dict[str, Any] = {
            name: ctypes.CFUNCTYPE(None if name.startswith("Release") else _PTR, *arguments)(table[index])
            for name, (index, arguments) in _FUNCTIONS.items()
        }
        self._message = ctypes.CFUNCTYPE(_TEXT, _PTR)(table[_GET_ERROR_MESSAGE])

    def call(self, name: str, *args: Any) -> None:
        status = self.functions[name](*args)
        if status:
            self.fail(name, status)

    def fail(self, name: str, status: int) -> None:
        """Raise an OrtStatus as EngineError and give it back."""
        text = self._message(status).decode(errors="replace").strip()[:500]
        self.functions["ReleaseStatus"](status)
        raise EngineError(f"ONNX Runtime {name}: {text}")

    def get(self, kind: Any, name: str, *args: Any) -> Any:
        """Call a function whose last parameter is where its result goes, and return that."""
        out = kind()
        self.call(name, *args, ctypes.byref(out))
        return out.value


class OnnxModel:
    """An ONNX model in a session for the CPU. See `edgeship.runtime.engine.Model`."""

    def __init__(self, library: str, path: str, threads: int) -> None:
        self._library = _Library(library)
        self._held: list[tuple[str, Any]] = []  # what to release, in the order of making
        self._session: Any = None
        self.notes: tuple[str, ...] = ()
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        try:
            self._environment = self._hold("ReleaseEnv", self._library.get(_PTR, "CreateEnv", _LOG_ERROR, b"edgeship"))
            self._session = self._hold("ReleaseSession", self._open(path, threads))
            self._bind()
            self._run()
        except BaseException:
            self.close()
            raise

    def _hold(self, release: str, handle: Any) -> Any:
        self._held.append((release, handle))
        return handle

    def _open(self, path: str, threads: int) -> Any:
        if os.uname().machine != "x86_64":
            return self._create(path, threads, precise=False, optimize=True)
        try:
            return self._create(path, threads, precise=True, optimize=True)
        except EngineError as error:
            try:
                # every other processor loads it by default: what does not load so must not pass here
                self._library.functions["ReleaseSession"](self._create(path, threads, precise=False, optimize=True))
                session = self._create(path, threads, precise=True, optimize=False)
            except EngineError:
                raise error from None  # the model itself is refused: its first reason is the true one
            self.notes = (f"optimizations disabled: with x64quantprecision {' '.join(str(error).split())[:400]}",)
            return session

    def _create(self, path: str, threads: int, *, precise: bool, optimize: bool) -> Any:
        lib = self._library
        options = lib.get(_PTR, "CreateSessionOptions")
        try:
            lib.call("SetIntraOpNumThreads", options, threads)
            lib.call("SetInterOpNumThreads", options, 1)
            if precise:
                lib.call("AddSessionConfigEntry", options, b"session.x64quantprecision", b"1")
            if not optimize:
                lib.call("SetSessionGraphOptimizationLevel", options, _DISABLE_ALL)
            return lib.get(_PTR, "CreateSession", self._environment, os.fsencode(path), options)
        finally:
            lib.functions["ReleaseSessionOptions"](options)

    def _bind(self) -> None:
        lib = self._library
        allocator = lib.get(_PTR, "GetAllocatorWithDefaultOptions")
        memory = self._hold("ReleaseMemoryInfo", lib.get(_PTR, "CreateCpuMemoryInfo", _ARENA, _DEFAULT_MEMORY))
        self._scales = self._quantized(allocator)
        self._views: dict[str, list[memoryview]] = {"Input": [], "Output": []}
        self._texts: list[tuple[Any, memoryview]] = []  # values that hold copies of text, and where the text is
        arguments: dict[str, tuple[Any, Any]] = {}
        for side, views in self._views.items():
            specs, handles = [], []
            for index in range(lib.get(_SIZE, f"SessionGet{side}Count", self._session)):
                spec, element = self._describe(side, index, allocator)
                pages = mmap.mmap(-1, spec.nbytes)
                views.append(memoryview(pages))
                address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
                dims = (ctypes.c_int64 * len(spec.shape))(*spec.shape)
                if spec.dtype == TEXT:
                    value = lib.get(_PTR, "CreateTensorAsOrtValue", allocator, dims, len(dims), element)
                    self._texts.append((value, views[-1]))
                else:
                    value = lib.get(
                        _PTR, "CreateTensorWithDataAsOrtValue", memory, address, spec.nbytes, dims, len(dims), element
                    )
                handles.append(self._hold("ReleaseValue", value))
                specs.append(spec)
            setattr(self, f"{side.lower()}s", tuple(specs))
            names = [spec.name.encode() for spec in specs]
            arguments[side] = (_TEXT * len(names))(*names), (_PTR * len(handles))(*handles)
        (input_names, inputs), (output_names, outputs) = arguments["Input"], arguments["Output"]
        self._arguments = (
            self._session, None, input_names, inputs, len(inputs), output_names, len(outputs), outputs,
        )  # fmt: skip

    def _quantized(self, allocator: Any) -> dict[str, tuple[float, int]]:
        """Scale and zero point of inputs and outputs that are integers for real values, by name.

        ONNX has no place for them: edgeship writes them into the model's metadata (`QUANTIZED`), as JSON.
        """
        lib = self._library
        held = lib.get(_PTR, "SessionGetModelMetadata", self._session)
        try:
            raw = lib.get(_PTR, "ModelMetadataLookupCustomMetadataMap", held, allocator, QUANTIZED.encode())
            if not raw:
                return {}
            text = ctypes.string_at(raw)
            lib.call("AllocatorFree", allocator, raw)
            return {name: (float(scale), int(zero)) for name, (scale, zero) in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise EngineError(f"the model's metadata {QUANTIZED!r} is damaged: {error}") from error
        finally:
            lib.functions["ReleaseModelMetadata"](held)

    def _describe(self, side: str, index: int, allocator: Any) -> tuple[TensorSpec, int]:
        lib = self._library
        raw = lib.get(_PTR, f"SessionGet{side}Name", self._session, index, allocator)
        name = ctypes.string_at(raw).decode(errors="replace")
        lib.call("AllocatorFree", allocator, raw)
        kind = lib.get(_PTR, f"SessionGet{side}TypeInfo", self._session, index)
        try:
            tensor = lib.get(_PTR, "CastTypeInfoToTensorInfo", kind)
            if not tensor:
                raise EngineError(f"{side.lower()} {name!r} is a sequence or a map, not a tensor")
            element = lib.get(_INT, "GetTensorElementType", tensor)
            if side == "Output" and _DTYPES.get(element) == TEXT:
                raise EngineError(f"output {name!r} is text; only inputs may be: leave it out of the model")
            if element not in _DTYPES:
                raise EngineError(f"tensor {name!r} has element type {element}, which is not a plain number")
            rank = lib.get(_SIZE, "GetDimensionsCount", tensor)
            dims = (ctypes.c_int64 * rank)()
            lib.call("GetDimensions", tensor, dims, rank)
            scale, zero_point = self._scales.get(name, (0.0, 0))
            return TensorSpec(name, _DTYPES[element], fixed_shape(name, list(dims)), scale, zero_point), element
        finally:
            lib.functions["ReleaseTypeInfo"](kind)

    def _run(self) -> None:
        for value, view in self._texts:
            cells = texts(view)
            self._library.call("FillStringTensor", value, (_TEXT * len(cells))(*cells), len(cells))
        status = self._library.functions["Run"](*self._arguments)
        if status:
            self._library.fail("Run", status)

    def run(self, *inputs: bytes | memoryview) -> list[bytes]:
        """One inference; see `edgeship.runtime.engine.Model.run`."""
        if self._session is None:
            raise EngineError("the model is closed")
        copy_inputs(self.inputs, self._views["Input"], inputs)
        self._run()
        return [view.tobytes() for view in self._views["Output"]]

    def close(self) -> None:
        """Give the library's memory back; safe to call twice."""
        self._session = None
        while self._held:
            release, handle = self._held.pop()
            self._library.functions[release](handle)
