"""Reads what a `.keras` file is from its `config.json`: no framework is imported and no code of the file is run.

A step of `child`. What a configuration does not say (the shape of an output after a layer that is not known here) is
left out and comes from the conversion.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import InputError
from edgeship.model import NAN, NAN_HINT, TEXT_HINT
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import DTYPES, TEXT
from edgeship.targets.shapes import Shapes, check_names, fitted, open_hint

MAX_CONFIG = 64 << 20  # bytes of config.json
MAX_MEMBERS = 4096
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_AGAIN = "save it again with model.save('model.keras')"

#: What an archive raises that is damaged or encrypted (RuntimeError): `zipfile` passes on what its unpackers raise.
_DAMAGED = (
    zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, NotImplementedError, RecursionError, zlib.error,
    lzma.LZMAError,
)  # fmt: skip

#: Layers that keep the shape of their input.
_SAME_SHAPE = {
    "Activation", "ReLU", "Softmax", "LeakyReLU", "ELU", "PReLU", "Dropout", "BatchNormalization", "LayerNormalization",
}  # fmt: skip


def plain_name(name: str) -> str:
    """A tensor name that TensorFlow, TFLite and ONNX all take."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Facts of the file at `request["path"]` as `ModelFacts.parse` takes them, without sha256 and bytes."""
    path = Path(request["path"])
    config, metadata = _read(path)
    _refuse_code(config)
    layers = list(_layers(config))
    _refuse_quantized(layers)
    given = request.get("shapes") or {}
    inputs = _inputs(config, given)
    if not inputs:
        raise InputError(
            "the model was never built: its inputs have no shape", hint=f"call it once on data, then {_AGAIN}"
        )
    outputs = _outputs(config)
    notes = [] if outputs else ["the shapes of the outputs are known after the conversion"]
    return {
        "format": "keras", "precision": "float32",
        "inputs": [t.encode() for t in inputs], "outputs": [t.encode() for t in outputs],
        "operators": dict(sorted(Counter(str(layer.get("class_name")) for layer in layers).items())),
        "parameters": _parameters(path), "int8_share": 0.0, "open_shapes": True, "companions": [], "notes": notes,
        "details": {
            "keras": str(metadata.get("keras_version", "")), "class": str(config.get("class_name")),
            **({"shapes": given} if given else {}),
        },
    }  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config.json, metadata.json) of the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if _CONFIG not in infos or _WEIGHTS not in infos:
                raise InputError(
                    "a zip archive, but no Keras model: config.json or model.weights.h5 is missing", hint=_AGAIN
                )
            if infos[_CONFIG].file_size > MAX_CONFIG or len(infos) > MAX_MEMBERS:
                raise InputError("its config.json or its number of members is over the limit", hint=_AGAIN)
            if any(".." in name.split("/") or name.startswith("/") for name in infos):
                raise InputError("it holds a member whose path leads out of the archive", hint=_AGAIN)
            config = json.loads(archive.read(_CONFIG))
            metadata = json.loads(archive.read(_METADATA)) if _METADATA in infos else {}
    except _DAMAGED as error:
        raise InputError(
            f"not a sound .keras file: {error}", hint=f"it may be truncated: copy it again, or {_AGAIN}"
        ) from error
    if not isinstance(config, dict) or not isinstance(metadata, dict) or not isinstance(config.get("config"), dict):
        raise InputError("its config.json describes no Keras model", hint=_AGAIN)
    return config, metadata


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """All objects of a decoded JSON value; a stack of our own, since the nesting is the file's."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _refuse_code(config: dict[str, Any]) -> None:
    """Refuse what would need code of the file or of the user; losses do not matter, nothing is trained here."""
    for item in _walk({key: value for key, value in config.items() if key != "compile_config"}):
        name = item.get("class_name")
        if name == "__lambda__" or (name == "Lambda" and str(item.get("module", "")).startswith("keras")):
            raise InputError(
                "it holds a Lambda layer, whose Python code would have to be run",
                hint="replace the Lambda with layers or keras.ops in a layer, or export the model as ONNX yourself",
            )
        if isinstance(name, str) and isinstance(item.get("registered_name"), str) and "module" in item:
            registered, module = str(item["registered_name"]), str(item["module"] or "")
            if not module.startswith("keras") and module != "builtins":  # those are functions by name, such as "relu"
                own = item.get("config")
                plain = isinstance(own, dict) and "input_layers" in own  # a model, most often with its own train_step
                raise InputError(
                    f"it needs the custom class {registered}, which is not in the file",
                    hint="where that class is defined: keras.Model(model.inputs, model.outputs).save('plain.keras')"
                    if plain
                    else "export the model as ONNX or TFLite where the class is defined, and start from that",
                )


def _refuse_quantized(layers: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what `model.quantize` of Keras made: neither converter takes its int8 products and casts."""
    for layer in layers:
        own = layer.get("config")
        own = own if isinstance(own, dict) else {}
        policy = own.get("dtype")
        if not isinstance(policy, dict) or not str(policy.get("class_name")).startswith("Quantized"):
            continue
        given = policy.get("config")
        mode = given.get("mode") if isinstance(given, dict) else None
        raise InputError(
            f"Keras has quantized its layer {own.get('name')!r} ({mode}), which no converter takes",
            hint="save the model before model.quantize() is called; edgeship quantizes it (edgeship model quantize)",
        )


def _layers(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The layers, those of nested models instead of the model."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else []:
        if not isinstance(layer, dict):
            continue
        nested = list(_layers(layer))
        yield from nested or [layer]


def _spec(name: str, shape: object, dtype: object) -> TensorSpec | None:
    """A tensor with its batch fixed at 1, or None where the shape is not given. Raises InputError."""
    if not isinstance(shape, list) or not shape:
        return None
    fixed = [1, *shape[1:]]
    if not all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in fixed):
        raise InputError(
            f"input {name!r} leaves more than the batch open: {shape}",
            hint=open_hint(name, [d if isinstance(d, int) else 0 for d in shape]),
        )
    if dtype == TEXT:
        raise InputError(f"input {name!r} is text, which this format cannot be served with", hint=TEXT_HINT)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(
            f"input {name!r} is of type {dtype!r}, which an agent cannot serve",
            hint="give the model an input of numbers, and do the rest in the application",
        )
    return TensorSpec(plain_name(name), dtype, tuple(fixed))


def _by_name(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    layers = config["config"].get("layers")
    found = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    return {str(layer.get("name") or _config(layer).get("name")): layer for layer in found}


def _config(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = layer.get("config")
    return inner if isinstance(inner, dict) else {}


def _input_of(name: str, layer: Mapping[str, Any], given: Shapes) -> TensorSpec | None:
    inner = _config(layer)
    shape = inner.get("batch_shape")
    if plain_name(name) in given and isinstance(shape, list):
        declared = [d if isinstance(d, int) else 0 for d in shape]
        shape = fitted(plain_name(name), declared, given[plain_name(name)])
    return _spec(name, shape, inner.get("dtype", "float32"))


def _inputs(config: Mapping[str, Any], given: Shapes) -> list[TensorSpec]:
    layers = _by_name(config)
    names = _endpoints(config["config"].get("input_layers")) or [
        name for name, layer in layers.items() if layer.get("class_name") == "InputLayer"
    ]
    check_names(given, [plain_name(name) for name in names])
    found = [_input_of(name, layers[name], given) for name in names if name in layers]
    return [spec for spec in found if spec is not None]


def _endpoints(value: object) -> list[str]:
    """Layer names of `input_layers` or `output_layers`, however they are nested ([name, node, tensor])."""
    names: list[str] = []
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return [value[0]]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        names += _endpoints(child)
    return names


def _outputs(config: Mapping[str, Any]) -> list[TensorSpec]:
    """The outputs, or none where one of them is after a layer that is not known here."""
    layers = _by_name(config)
    declared = config["config"].get("output_layers")
    names = _endpoints(declared) or list(layers)[-1:]
    keys = list(declared) if isinstance(declared, dict) else names
    found: list[TensorSpec] = []
    for key, name in zip(keys, names, strict=False):
        layer = layers.get(name, {})
        build, kind = layer.get("build_config"), layer.get("class_name")
        shape = build.get("input_shape") if isinstance(build, dict) else None
        if not isinstance(shape, list) or not all(isinstance(d, int) and d > 0 for d in shape[1:]):
            return []
        if kind == "Dense" and isinstance(units := _config(layer).get("units"), int):
            shape = [*shape[:-1], units]
        elif kind not in _SAME_SHAPE:
            return []
        found.append(TensorSpec(plain_name(key), "float32", (1, *shape[1:])))
    return found


def _parameters(path: Path) -> int | None:
    """Elements of the weights, without what an optimizer keeps; None where h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        return None
    h5py: Any = importlib.import_module("h5py")
    numpy: Any = importlib.import_module("numpy")
    count = 0

    def add(name: str, item: Any) -> None:
        nonlocal count
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/") and item.external is None:
            count += int(item.size or 0)
            if item.dtype.kind == "f" and (bad := int(numpy.isnan(item[()]).sum())):
                raise InputError(NAN.format(count=bad, name=name.removesuffix("/0")), hint=NAN_HINT)

    try:
        with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as member, h5py.File(member, "r") as weights:
            weights.visititems(add)
    except (KeyError, *_DAMAGED) as error:
        raise InputError(f"its weights are damaged: {error}", hint=f"copy the file again, or {_AGAIN}") from error
    return count
