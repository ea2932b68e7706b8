"""Reads what a `.pt2` file is from its graph: torch is not imported and nothing of the file is run. A step of `child`.

Numbers of types are those of torch/_export/serde/schema.py, schema version 8.
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import InputError
from edgeship.model import NAN, NAN_HINT
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.torch.archive import Program, read

#: ScalarType -> dtype name of `wire.DTYPES`.
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
    28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip

_FLOAT, _FLOATS = 7, {6: "float16", 7: "float32", 8: "float64", 13: "bfloat16"}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Facts of the file at `request["path"]` as `ModelFacts.parse` takes them. Raises InputError."""
    program = read(Path(request["path"]))
    try:
        facts = describe(program)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(
            f"its graph is not what torch.export writes: {type(error).__name__}: {error}",
            hint="export it again with PyTorch 2.9 or later",
        ) from error
    _refuse_nan(Path(request["path"]), program)
    return facts


def _refuse_nan(path: Path, program: Program) -> None:
    with zipfile.ZipFile(path) as archive:
        for name, item in program.weights.items():
            if item["tensor_meta"]["dtype"] == _FLOAT:
                member = f"{program.root}/data/weights/{item['path_name']}"
                try:
                    raw = archive.read(member)
                except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, OSError) as error:
                    raise InputError(
                        f"its tensor {item['path_name']} is missing or damaged", hint="copy the file again"
                    ) from error
                values = np.frombuffer(raw, "<f4", count=len(raw) // 4)
                if count := int(np.isnan(values).sum()):
                    raise InputError(NAN.format(count=count, name=name), hint=NAN_HINT)


def describe(program: Program) -> dict[str, Any]:
    """A program as facts: those of `ModelFacts.encode` that do not depend on the file.

    Raises:
        InputError: it takes or gives no tensors, its weights are not float32, or it was exported for training.
    """
    module = program.graph["graph_module"]
    inputs = [_spec(module, name, "input") for name in user_inputs(module)]
    outputs = [_spec(module, name, "output")[0] for name in user_outputs(module)]
    if not inputs or not outputs:
        raise InputError(
            "it has no inputs or no outputs that are tensors", hint="export a module that takes and gives tensors"
        )
    _refuse_training(module)
    kinds: Counter[int] = Counter()
    for item in program.weights.values():
        kinds[item["tensor_meta"]["dtype"]] += _count(item["tensor_meta"])
    floats = {kind: count for kind, count in kinds.items() if kind in _FLOATS}
    if floats and (most := max(floats, key=lambda kind: floats[kind])) != _FLOAT:
        raise InputError(
            f"its weights are {_FLOATS[most]}, float32 is wanted",
            hint="export model.float(): edgeship makes the smaller precisions by itself",
        )
    operators = Counter(_short(str(node["target"])) for node in module["graph"]["nodes"])
    return {
        "format": "torch", "precision": "float32", "inputs": [spec.encode() for spec, _ in inputs],
        "outputs": [spec.encode() for spec in outputs], "operators": dict(sorted(operators.items())),
        "parameters": sum(floats.values()), "int8_share": 0.0, "open_shapes": any(is_open for _, is_open in inputs),
        "companions": [], "notes": [], "details": {"torch": str(program.graph.get("torch_version", ""))},
    }  # fmt: skip


def user_inputs(module: Mapping[str, Any]) -> list[str]:
    """Names of the graph's inputs that a caller gives. Raises InputError for one that is no tensor."""
    names = []
    for spec in module["signature"]["input_specs"]:
        if "user_input" not in spec:
            if {"custom_obj", "token", "constant_input"} & set(spec):
                raise InputError(
                    f"it takes something that is no tensor as an input ({next(iter(spec))})",
                    hint="export a module whose forward takes tensors alone, with the rest set inside",
                )
            continue
        argument = spec["user_input"]["arg"]
        if "as_tensor" not in argument:
            raise InputError(
                f"it takes something that is no tensor as an input ({next(iter(argument), '?')})",
                hint="make it a constant of the module before the export",
            )
        names.append(argument["as_tensor"]["name"])
    return names


def user_outputs(module: Mapping[str, Any]) -> list[str]:
    """Names of what the graph returns. Raises InputError for a model that changes its own state."""
    names = []
    for spec in module["signature"]["output_specs"]:
        if "user_output" not in spec:
            raise InputError(
                f"it changes its own state while it runs ({next(iter(spec), '?')})",
                hint="call model.eval() before the export; take state as an input and return it as an output",
            )
        argument = spec["user_output"]["arg"]
        if "as_tensor" not in argument:
            raise InputError("it returns something that is no tensor", hint="return tensors alone")
        names.append(argument["as_tensor"]["name"])
    return names


def _refuse_training(module: Mapping[str, Any]) -> None:
    for node in module["graph"]["nodes"]:
        if any(a["name"] in ("training", "train") and a["arg"].get("as_bool") is True for a in node["inputs"]):
            raise InputError(
                f"it was exported while in training: {_short(str(node['target']))} would answer by chance, or by what "
                "came before",
                hint="call model.eval() before torch.export.export",
            )


def _spec(module: Mapping[str, Any], name: str, what: str) -> tuple[TensorSpec, bool]:
    """(tensor with its batch fixed at 1, whether the batch was open)."""
    meta = module["graph"]["tensor_values"][name]
    dtype = DTYPES.get(meta["dtype"])
    if dtype is None:
        raise InputError(
            f"{what} {name!r} is of a type that an agent cannot serve",
            hint="export a module that takes and gives tensors of numbers",
        )
    sizes = [size.get("as_int") for size in meta["sizes"]]
    if any(size is None for size in sizes[1:]):
        raise InputError(
            f"{what} {name!r} leaves more than the batch open: {['?' if s is None else s for s in sizes]}",
            hint="export the model with fixed shapes: only the first axis may be dynamic",
        )
    return TensorSpec(plain_name(name), dtype, tuple(1 if s is None else int(s) for s in sizes)), None in sizes[:1]


def _count(meta: Mapping[str, Any]) -> int:
    return math.prod(int(size["as_int"]) for size in meta["sizes"])


def _short(target: str) -> str:
    """`torch.ops.aten.conv2d.default` -> `conv2d`."""
    parts = target.removeprefix("torch.ops.").split(".")
    return parts[1] if parts[0] == "aten" else ".".join(parts)
