"""Data that a Python function makes: `module:function`, the user's own code, run in a child process.

`FOLDER/module:function` looks for the module in FOLDER first, then where Python looks. The function takes no arguments.
It returns or yields arrays by input name, with `labels` and the like beside them; or pairs of inputs and labels. An
item is one sample or a batch, as its shape says.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeship import child
from edgeship.child import GIB, Limits
from edgeship.dataset import archive
from edgeship.dataset.samples import Array, Dataset
from edgeship.errors import InputError, UsageError
from edgeship.runtime.manifest import TensorSpec

LIMITS = Limits(seconds=3600.0, cpu_seconds=7200, memory=64 * GIB, file=archive.MAX_BYTES, files=4096)

_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")


def is_function(path: Path) -> bool:
    """Whether this names a function and not a file."""
    return not path.exists() and _NAME.fullmatch(path.name) is not None


def check(path: Path) -> None:
    """Raise UsageError unless there is such a module; nothing of it is run."""
    module, _ = _parts(path)
    top = module.partition(".")[0]
    beside = path.parent / top
    if not (beside.with_suffix(".py").is_file() or beside.is_dir() or importlib.util.find_spec(top) is not None):
        raise UsageError(
            f"{path}: no module {module!r} in {path.parent.resolve()}, nor where Python looks",
            hint="FOLDER/module:function, without .py",
        )


def read(path: Path, specs: Sequence[TensorSpec]) -> Dataset:
    """Run the function and take what it makes.

    Raises:
        UsageError: no such module or function.
        InputError: it raised, crashed, did not end, or made what is no data of this model.
    """
    check(path)
    module, name = _parts(path)
    request = {
        "folder": str(path.parent.resolve()), "path": [entry or str(Path.cwd()) for entry in sys.path],
        "cwd": str(Path.cwd()), "module": module, "function": name, "specs": [spec.encode() for spec in specs],
    }  # fmt: skip
    with child.workspace() as work:
        answer = child.run(
            "edgeship.dataset.calling", request, work, limits=LIMITS, subject=str(path), failure=InputError
        )  # fmt: skip
        arrays: dict[str, Array] = {}
        for key, file in answer["arrays"].items():
            with (work / Path(file).name).open("rb") as opened:
                arrays[key] = archive.read_array(path, key, opened, (work / Path(file).name).stat().st_size)
    made = archive.assemble(str(path), arrays, specs)
    return replace(made, preparation={"kind": "function", "function": path.name})


def _parts(path: Path) -> tuple[str, str]:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise UsageError(
            f"{path}: not module:function", hint="such as samples:calibration for calibration() in samples.py"
        )
    module, name = found[1], found[2]
    if module.endswith(".py") and (path.parent / module).is_file():
        module = module.removesuffix(".py")
    return module, name
