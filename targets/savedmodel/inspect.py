"""Reads what a SavedModel is from its `saved_model.pb`: TensorFlow is not imported and nothing of the graph is run.

A step of `child`. Field numbers are those of TensorFlow's saved_model.proto, meta_graph.proto, graph.proto,
function.proto, node_def.proto, attr_value.proto and types.proto. A graph can hold operators that read and write files
or call Python; loading a model runs its initializers, so such a model is refused here, before TensorFlow sees it.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.errors import InputError, UsageError
from edgeship.model import TEXT_HINT
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.protobuf import DamagedError, Message
from edgeship.targets.savedmodel import variables
from edgeship.targets.shapes import Shapes, check_names, fitted, open_hint

DEFAULT = "serving_default"
SERVE = "serve"  # the tag of graphs for inference

_STRING = 7  # DT_STRING
#: DataType of types.proto -> dtype name of `wire.DTYPES`.
DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool", 17: "uint16",
    19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip

_FLOATS = (1, 2, 14, 19)  # 14 bfloat16

#: Operators that leave the graph: files, Python, the network, other programs.
_UNSAFE = {
    "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "DebugIdentityV2",
    "LookupTableImport", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "WholeFileReaderV2",
    "TextLineReaderV2", "TFRecordReaderV2", "FixedLengthRecordReaderV2", "RpcCall", "Send", "Recv", "DatasetToTFRecord",
    "SaveDatasetV2", "LoadDataset", "TextLineDataset", "TFRecordDataset", "FixedLengthRecordDataset", "CustomPyFunc",
}  # fmt: skip

#: What moves values about and computes nothing.
_PLUMBING = {
    "NoOp", "Identity", "IdentityN", "Const", "Placeholder", "ReadVariableOp", "VarHandleOp", "PartitionedCall",
    "StatefulPartitionedCall",
}  # fmt: skip


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Facts of the folder at `request["path"]`, for the signature `request["signature"]`, as `ModelFacts.parse` takes.

    Raises:
        InputError: damaged, not for serving, or not to be run.
        UsageError: no such signature.
    """
    path = Path(request["path"])
    try:
        return _facts(Message(memoryview((path / "saved_model.pb").read_bytes())), path, request)
    except DamagedError as error:
        raise InputError(
            f"its saved_model.pb is damaged: {error}", hint="it may be truncated: copy the folder again"
        ) from error


def _facts(saved: Message, path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    given: Shapes = request.get("shapes") or {}
    graphs = list(saved.messages(2))
    if not graphs:
        raise InputError("its saved_model.pb holds no graph", hint="save the model again with model.export(folder)")
    graph = next((g for g in graphs if SERVE in g.message(1).texts(4)), graphs[0])
    signatures = {name: sig for name, sig in graph.map(5) if not name.startswith("__saved_model")}
    name = _choose(signatures, request.get("signature"))
    check_names(given, [plain_name(key) for key, _ in sorted(signatures[name].map(1))])
    inputs = [_spec(key, info, "input", given) for key, info in sorted(signatures[name].map(1))]
    outputs = [_output(key, info) for key, info in sorted(signatures[name].map(2))]
    if not inputs or not outputs:
        raise InputError(f"signature {name!r} has no inputs or no outputs", hint="choose another with --signature")
    nodes = _Nodes.of(graph.message(2))
    _refuse_unsafe(nodes)
    used = list(nodes.reached(info.text(1) for _, info in signatures[name].map(2)))
    if any(op == "VarHandleOp" for _, op, _ in used) and not (path / "variables" / "variables.index").is_file():
        raise InputError("its variables are missing: there is no variables/variables.index", hint="copy it again")
    if any(op == "VarHandleOp" for _, op, _ in used):
        variables.check(path / "variables")
    known = [spec for spec in outputs if spec is not None]
    names = ", ".join(plain_name(key) for key, _ in sorted(signatures[name].map(2)))
    notes = [] if len(known) == len(outputs) else [f"the shapes of the outputs are known after the conversion: {names}"]
    others = sorted(set(signatures) - {name})
    return {
        "format": "savedmodel", "precision": "float32", "inputs": [spec.encode() for spec, _ in inputs],
        "outputs": [spec.encode() for spec in known] if len(known) == len(outputs) else [],
        "operators": dict(sorted(Counter(op for _, op, _ in used if op not in _PLUMBING).items())),
        "parameters": sum(_elements(op, node) for _, op, node in used), "int8_share": 0.0,
        "open_shapes": any(is_open for _, is_open in inputs), "companions": [], "notes": notes,
        "details": {
            "signature": name, **({"other signatures": ", ".join(others)} if others else {}),
            "tensorflow": graph.message(1).text(5),
            **({"shapes": {key: list(shape) for key, shape in given.items()}} if given else {}),
        },
    }  # fmt: skip


def _choose(signatures: Mapping[str, Message], wanted: str | None) -> str:
    if not signatures:
        raise InputError(
            "it has no signature, so nothing says what goes in and out",
            hint="save it with model.export(folder), or tf.saved_model.save(module, folder, signatures=function)",
        )
    if wanted is None and len(signatures) == 1:
        return next(iter(signatures))
    name = wanted or DEFAULT
    if name not in signatures:
        close = difflib.get_close_matches(name, signatures, n=1)
        raise UsageError(
            f"it has no signature {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
            hint=f"--signature {' or '.join(sorted(signatures))}",
        )
    return name


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shape(info: Message) -> list[int] | None:
    """Dimensions, −1 where one is open; None where the rank is unknown."""
    shape = info.message(3)
    return None if shape.integer(3) else [dim.integer(1) for dim in shape.messages(2)]


def _spec(key: str, info: Message, what: str, given: Shapes = MappingProxyType({})) -> tuple[TensorSpec, bool]:
    """(tensor with its batch fixed at 1, whether the batch was open). Raises InputError, UsageError."""
    dtype, shape = DTYPES.get(info.integer(2)), _shape(info)
    if info.integer(2) == _STRING:
        raise InputError(f"{what} {key!r} is text, which this format cannot be served with", hint=TEXT_HINT)
    if dtype is None:
        raise InputError(
            f"{what} {key!r} is no tensor of numbers, which an agent cannot serve",
            hint="cut the preprocessing off, or --signature",
        )
    if plain_name(key) in given:
        is_open = shape is None or -1 in shape
        shape = fitted(plain_name(key), shape, given[plain_name(key)])
        return TensorSpec(plain_name(key), dtype, tuple(shape)), is_open
    if shape is None or any(d < 0 for d in shape[1:]):
        shown = "unknown" if shape is None else [d if d >= 0 else "?" for d in shape]
        raise InputError(
            f"{what} {key!r} leaves more than the batch open: {shown}",
            hint=open_hint(plain_name(key), shape),
        )
    if any(d == 0 for d in shape):
        raise InputError(
            f"{what} {key!r} has the shape {shape}",
            hint="export it with an input_signature whose shapes are fixed but for the batch",
        )
    return TensorSpec(plain_name(key), dtype, tuple(1 if d < 0 else d for d in shape)), -1 in shape


def _output(key: str, info: Message) -> TensorSpec | None:
    """An output, or None where its shape is not declared."""
    shape = _shape(info)
    if DTYPES.get(info.integer(2)) is not None and (shape is None or any(d < 0 for d in shape[1:])):
        return None
    return _spec(key, info, "output")[0]


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

Node = tuple[str, str, Message]  # name, operator, the NodeDef


@dataclass(frozen=True)
class _Nodes:
    """The nodes of a graph and of its functions."""

    graph: Mapping[str, Node]
    functions: Mapping[str, list[Node]]

    @classmethod
    def of(cls, graph: Message) -> _Nodes:
        functions = {
            function.message(1).text(1): [_node(node) for node in function.messages(3)]
            for function in graph.message(2).messages(1)
        }
        return cls({node[0]: node for node in map(_node, graph.messages(1))}, functions)

    def reached(self, tensors: Iterable[str]) -> Iterator[Node]:
        """The nodes that tensors of the graph are computed by, with those of the functions that they call."""
        stack, seen = [_plain(tensor) for tensor in tensors], set[str]()
        called: list[str] = []
        while stack:
            name = stack.pop()
            if name in seen or name not in self.graph:
                continue
            seen.add(name)
            node = self.graph[name]
            yield node
            called += _functions(node[2])
            stack += [_plain(text) for text in node[2].texts(3)]
        visited = set[str]()
        while called:
            name = called.pop()
            if name in visited:
                continue
            visited.add(name)
            for node in self.functions.get(name, ()):
                yield node
                called += _functions(node[2])


def _node(message: Message) -> Node:
    return message.text(1), message.text(2), message


def _plain(tensor: str) -> str:
    """The node of a tensor: "^name", "name:0" -> "name"."""
    return tensor.lstrip("^").partition(":")[0]


def _functions(node: Message) -> list[str]:
    """Names of the functions that a node's attributes give it to call."""
    found = []
    for _, value in node.map(5):
        for number, content in value.fields():
            if number == 10 and isinstance(content, memoryview):
                found.append(Message(content).text(1))
            elif number == 1 and isinstance(content, memoryview):  # a list, of branches
                found += [function.text(1) for function in Message(content).messages(9)]
    return found


def _elements(op: str, node: Message) -> int:
    """Elements of a variable, or of a constant with more than one."""
    if op not in ("VarHandleOp", "VariableV2", "Const"):
        return 0
    attributes = dict(node.map(5))
    kind = attributes.get("dtype", Message(memoryview(b""))).integer(6)
    value = attributes.get("value" if op == "Const" else "shape")
    if value is None or kind not in _FLOATS:
        return 0
    shape = value.message(8).message(2) if op == "Const" else value.message(7)
    dims = [dim.integer(1) for dim in shape.messages(2)]
    return math.prod(dims) if dims and min(dims) > 0 else 0


def runs_code(folder: Path) -> bool:
    """Whether any function of a SavedModel leaves the graph, called by a signature or not: loading objects may call it.

    Raises DamagedError.
    """
    saved = Message(memoryview((folder / "saved_model.pb").read_bytes()))
    libraries = [_Nodes.of(graph.message(2)).functions for graph in saved.messages(2)]
    return any(op in _UNSAFE for library in libraries for nodes in library.values() for _, op, _ in nodes)


def _refuse_unsafe(nodes: _Nodes) -> None:
    found = sorted({op for _, op, _ in nodes.reached(nodes.graph) if op in _UNSAFE})
    if found:
        raise InputError(
            f"it holds {', '.join(found)}, which reads or writes files or runs code of its own",
            hint="save the model without its preprocessing of texts and files",
        )
