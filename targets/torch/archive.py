"""Reads an exported PyTorch program (`.pt2`), and writes one that `torch.export.load` cannot be harmed by.

The loader of torch 2.13 runs what a file says in five places: it unpickles the sample inputs, weights and constants
that are marked so, and script objects; it loads compiled libraries; it evaluates shape expressions as Python; it looks
operators up by attribute path, so `torch.os.system` is one; and it compiles guards. So only the graph and raw tensors
are taken over, and of the graph only names that are known to be harmless:

* operators of ATen and a few of Python's arithmetic, none that opens files;
* shape expressions of symbols, integers and arithmetic, parsed here and never evaluated;
* inputs and outputs in tuples, lists and dicts; no guards, no sample inputs, no other metadata than module names.
"""

from __future__ import annotations

import ast
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.errors import InputError
from edgeship.model import MAX_MODEL

MAX_JSON = 256 << 20  # bytes of the graph
MAX_MEMBERS = 1 << 16

_AGAIN = "export it again with PyTorch 2.9 or later: torch.export.save(torch.export.export(model, (x,)), 'm.pt2')"
_PLAIN = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.([A-Za-z]\w*|_[A-Za-z]\w*|__(and|or|xor|lshift|rshift)__)\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.(cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|torch\.(sym_int|sym_float|sym_max|sym_min|sym_not|sym_ite|sym_sum)|math\.(ceil|floor|trunc)"
)
_FILES = re.compile(r"torch\.ops\.\w+\.\w*(from_file|_save|_load)\w*\.")
_SYMBOL = re.compile(r"[a-z]{1,4}\d+")
_FUNCTIONS = {
    "Symbol", "Integer", "Add", "Mul", "Pow", "Mod", "PythonMod", "Max", "Min", "FloorDiv", "CeilDiv", "CleanDiv",
    "IntTrueDiv", "PowByNatural", "Eq", "Ne", "Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan",
    "StrictLessThan", "And", "Or", "Not",
}  # fmt: skip
_CONTAINERS = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None}


#: What an archive raises that is damaged or encrypted (RuntimeError): `zipfile` passes on what its unpackers raise.
_DAMAGED = (
    zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, NotImplementedError,
    zlib.error, lzma.LZMAError,
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What is taken out of an archive."""

    name: str  # of the program within the archive
    root: str  # folder of all members
    graph: Mapping[str, Any]  # models/<name>.json, cleaned
    weights: Mapping[str, Any]  # name -> {"path_name", "tensor_meta", …}
    constants: Mapping[str, Any]

    def tensors(self) -> Iterator[tuple[str, str]]:
        """(folder, member) of the raw tensors."""
        for folder, config in (("weights", self.weights), ("constants", self.constants)):
            for name in sorted({str(item["path_name"]) for item in config.values()}):
                yield folder, name


def read(path: Path) -> Program:
    """The program of an archive. Raises InputError where it is damaged, of another kind, or not to be loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except RecursionError as error:
        raise InputError("its graph is nested too deeply", hint=_AGAIN) from error
    except _DAMAGED as error:
        raise InputError(
            f"not a sound .pt2 file: {type(error).__name__}: {error}", hint=f"copy it again, or {_AGAIN}"
        ) from error


def rewrite(path: Path, program: Program, result: Path) -> None:
    """Write the cleaned archive: nothing of the original but its raw tensors. Raises InputError."""
    root, name = "program", program.name
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(result, "w") as new:  # stored: torch maps it
        new.writestr(f"{root}/archive_format", "pt2")
        new.writestr(f"{root}/archive_version", "0")
        new.writestr(f"{root}/byteorder", "little")
        new.writestr(f"{root}/.data/version", "6\n")
        new.writestr(f"{root}/models/{name}.json", json.dumps(program.graph))
        new.writestr(f"{root}/data/sample_inputs/{name}.pt", b"")
        for folder, config in (("weights", program.weights), ("constants", program.constants)):
            new.writestr(f"{root}/data/{folder}/{name}_{folder}_config.json", json.dumps({"config": config}))
        for folder, member in program.tensors():
            try:
                new.writestr(f"{root}/data/{folder}/{member}", old.read(f"{program.root}/data/{folder}/{member}"))
            except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                raise InputError(f"its tensor {member} is missing or damaged", hint=_AGAIN) from error


def _read(archive: zipfile.ZipFile) -> Program:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) > MAX_MEMBERS or sum(info.file_size for info in infos.values()) > MAX_MODEL:
        raise InputError(
            "its members, unpacked, are over the limit", hint="no device of the profiles runs a model of this size"
        )
    if "serialized_exported_program.json" in infos:
        raise InputError("an archive of an older PyTorch, whose weights are a pickle", hint=_AGAIN)
    roots = {name.partition("/")[0] for name in infos}
    if len(roots) != 1:
        raise InputError("a zip archive, but no exported PyTorch program", hint=_AGAIN)
    root = roots.pop()
    models = [name for name in infos if re.fullmatch(rf"{re.escape(root)}/models/[\w.-]+\.json", name)]
    if not models and any("/aotinductor/" in name for name in infos):
        raise InputError("a compiled PyTorch package, which is machine code of another computer", hint=_AGAIN)
    if len(models) != 1:
        raise InputError(f"it holds {len(models)} exported programs, one is wanted", hint=_AGAIN)
    if f"{root}/byteorder" in infos and archive.read(f"{root}/byteorder") != b"little":
        raise InputError("its tensors are not little-endian", hint=_AGAIN)
    name = models[0].rpartition("/")[2].removesuffix(".json")
    configs = [
        _config(archive, infos, f"{root}/data/{folder}/{name}_{folder}_config.json")
        for folder in ("weights", "constants")
    ]
    return Program(name, root, _clean(_json(archive, infos, models[0])), *configs)


def _json(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    if infos[name].file_size > MAX_JSON:
        raise InputError(
            f"{name}: {infos[name].file_size} bytes are over the limit of {MAX_JSON}",
            hint="export the program again with torch.export.save",
        )
    data = json.loads(archive.read(name))
    if not isinstance(data, dict):
        raise InputError(f"{name}: no JSON object", hint=_AGAIN)
    return data


def _config(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    """The tensors of weights or constants. Raises InputError for one that is no plain member, or a pickle."""
    if name not in infos:
        return {}
    config: dict[str, Any] = _json(archive, infos, name)["config"]
    for key, item in config.items():
        if item.get("use_pickle") is not False:
            raise InputError(
                f"its {key!r} is a pickle, which could run anything and is never opened",
                hint="export the model with plain dense tensors on the CPU: model.cpu().float().eval()",
            )
        if not isinstance(item.get("path_name"), str) or not _PLAIN.fullmatch(item["path_name"]):
            raise InputError(f"its {key!r} is kept in {item.get('path_name')!r:.80}, no plain tensor", hint=_AGAIN)
    return config


# ── the graph ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _clean(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph without guards and metadata, all its names checked. Raises InputError."""
    if not isinstance(graph.get("graph_module"), dict):
        raise InputError("its graph is none of torch.export", hint=_AGAIN)
    graph["guards_code"] = []
    if not all(_SYMBOL.fullmatch(name) for name in graph.get("range_constraints", {})):
        raise InputError("the names of its symbols are none", hint=_AGAIN)
    module = graph["graph_module"]
    module["metadata"], module["treespec_namedtuple_fields"] = {}, {}
    for item in _walk(graph):
        for key in ("target", "as_operator"):
            if isinstance(item.get(key), str):
                _check_operator(item[key])
        if "expr_str" in item:
            _check_expression(str(item["expr_str"]))
        if "as_custom_obj" in item or "custom_obj" in item:
            raise InputError("it holds an object of a custom class, which is a pickle", hint=_AGAIN)
        for key in ("in_spec", "out_spec"):
            if isinstance(item.get(key), str) and item[key]:
                _check_containers(json.loads(item[key]))
        if isinstance(item.get("metadata"), dict):
            item["metadata"] = {
                key: value for key, value in item["metadata"].items() if key == "nn_module_stack"
            }  # fmt: skip
    return graph


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """All objects of a decoded JSON value, outer ones first; a stack of our own, since the nesting is the file's."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _check_operator(name: str) -> None:
    if not _OPERATOR.fullmatch(name) or _FILES.match(name):
        raise InputError(
            f"it uses the operator {name!r:.100}, which is none of PyTorch's own",
            hint="replace it with plain PyTorch operators before the export",
        )


def _check_expression(text: str) -> None:
    """Refuse a shape expression that is more than symbols, integers and arithmetic: torch evaluates it as Python."""
    try:
        if len(text) > 4096 or not _harmless(ast.parse(text, mode="eval").body):
            raise SyntaxError("more than arithmetic")
    except (SyntaxError, ValueError, MemoryError) as error:
        raise InputError(f"its shape expression {text!r:.100} is no arithmetic", hint=_AGAIN) from error


def _harmless(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int)
    if isinstance(node, ast.Name):
        return _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.BinOp):
        small = not isinstance(node.op, ast.Pow) or (
            isinstance(node.right, ast.Constant) and node.right.value in (2, 3)
        )
        return small and _harmless(node.left) and _harmless(node.right)
    if isinstance(node, ast.UnaryOp):
        return _harmless(node.operand)
    if isinstance(node, ast.Compare):
        return all(_harmless(part) for part in (node.left, *node.comparators))
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
        return False
    if not all(isinstance(k.value, ast.Constant) and isinstance(k.value.value, bool) for k in node.keywords):
        return False
    if node.func.id == "Symbol":
        return (
            len(node.args) == 1
            and isinstance(node.args[0], ast.Constant)
            and bool(_SYMBOL.fullmatch(str(node.args[0].value)))
        )
    return all(_harmless(argument) for argument in node.args)


def _check_containers(spec: Any) -> None:
    for item in _walk(spec):
        if "children_spec" in item and item.get("type") not in _CONTAINERS:
            raise InputError(
                f"its inputs or outputs are in a {item.get('type')!r:.80}",
                hint="take and return tensors, tuples, lists or dicts",
            )
