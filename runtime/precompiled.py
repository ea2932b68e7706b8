"""Starts the supervisor from code that was compiled by the process it replaces.

Compiling the sources in the zipapp leaves 2.5 MB of holes in a process that then lives for months, and a zipapp cannot
keep bytecode. So `supervise` compiles in a first process, writes the code into memory that has no name (memfd), and
replaces itself by Python reading from there. Nothing is left on a disk; what is not found there comes from the zipapp.
"""

from __future__ import annotations

import importlib
import marshal
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: What other processes of the agent import, and the supervisor never.
_NOT_SUPERVISOR = {"boot", "engine", "litert", "memory", "onnxrt", "probe", "rpc", "trust", "worker"}

#: The second process: `python -I -c STARTER FD APP supervise --root DIR`.
STARTER = (
    "import marshal,os,sys;"
    "f=int(sys.argv[1]);n=int.from_bytes(os.pread(f,8,0),'big');t=marshal.loads(os.pread(f,n,8));"
    "g={'__name__':'edgeship.runtime.precompiled'};"
    "o,s=t[g['__name__']][:2];exec(marshal.loads(os.pread(f,s,8+n+o)),g);"
    "sys.exit(g['begin'](f,8+n,t,sys.argv[2:]))"
)

#: name -> (offset, bytes, file name, whether it is a package)
Table = dict[str, tuple[int, int, str, bool]]


def replace(app: str, words: Sequence[str]) -> None:
    """Compile the zipapp `app` and become the second process. Returns where that cannot be done."""
    if not hasattr(os, "memfd_create") or not os.path.isfile(app):
        return
    try:
        fd = os.memfd_create("edgeship", 0)  # no MFD_CLOEXEC: the second process reads it
    except OSError:  # an old kernel, or a sandbox
        return
    table, codes = compile_all(app)
    head = marshal.dumps(table)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(len(head).to_bytes(8, "big") + head + b"".join(codes))
    os.execv(sys.executable, [sys.executable, "-I", "-c", STARTER, str(fd), app, *words])  # noqa: S606  no shell


def compile_all(app: str) -> tuple[Table, list[bytes]]:
    """The supervisor's modules in a zipapp as marshalled code."""
    import zipfile

    table: Table = {}
    codes: list[bytes] = []
    offset = 0
    with zipfile.ZipFile(app) as archive:
        for member in archive.namelist():
            parts = member.removesuffix(".py").split("/")
            if parts[0] != "edgeship" or not member.endswith(".py") or parts[-1] in _NOT_SUPERVISOR:
                continue
            package = parts[-1] == "__init__"
            file = os.path.join(app, member)
            code = marshal.dumps(compile(archive.read(member), file, "exec", dont_inherit=True))
            table[".".join(parts[:-1] if package else parts)] = (offset, len(code), file, package)
            codes.append(code)
            offset += len(code)
    return table, codes


class CompiledFinder:
    """Finds modules in the table and loads them from the descriptor."""

    def __init__(self, fd: int, base: int, table: Table) -> None:
        self._fd, self._base, self._table = fd, base, table

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The import system asks for a module."""
        found = self._table.get(name)
        if found is None:
            return None
        spec = ModuleSpec(name, self, origin=found[2], is_package=found[3])  # type: ignore[arg-type]  # has what it needs
        if found[3]:
            spec.submodule_search_locations = [os.path.dirname(found[2])]
        return spec

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        """A plain module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        offset, size, file, _ = self._table[module.__name__]
        module.__file__ = file
        exec(marshal.loads(os.pread(self._fd, size, self._base + offset)), module.__dict__)  # noqa: S102, S302  our own


class LateInspect(ModuleType):
    """Stands for `inspect` (1.2 MB) until somebody needs the real one.

    `dataclasses` imports it for two things: signatures in the docstrings of classes that have none, and, in Python 3.12
    and 3.13, the annotations of a class. (`importlib.util.LazyLoader` would load it at the import statement.)
    """

    def __init__(self) -> None:
        super().__init__("inspect")

    @staticmethod
    def get_annotations(owner: type) -> dict[str, Any]:
        """The annotations of a class itself, which are plain strings in this agent."""
        return dict(owner.__dict__.get("__annotations__", {}))  # noqa: RUF063  this is what stands in for it

    def __getattr__(self, name: str) -> Any:
        """Something else of it is used: load it."""
        if sys.modules.get("inspect") is self:
            del sys.modules["inspect"]
        return getattr(importlib.import_module("inspect"), name)


def begin(fd: int, base: int, table: Table, argv: list[str]) -> Any:
    """The second process: load the supervisor, then run the agent's command line. Returns the exit status."""
    sys.argv = argv
    sys.path.insert(0, argv[0])
    sys.modules.setdefault("inspect", LateInspect())
    finder: Any = CompiledFinder(fd, base, table)
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("edgeship.runtime.supervisor")
        main = importlib.import_module("edgeship.runtime.__main__").main
    finally:
        sys.meta_path.remove(finder)
        os.close(fd)
    return main(compiled=True)
