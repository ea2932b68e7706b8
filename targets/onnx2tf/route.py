"""The way from ONNX to TFLite: prepare, convert in onnx2tf's own environment, put names back and compare.

Each of the three runs in a child of its own; the result is kept by content.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeship import environments, libraries
from edgeship.errors import UsageError
from edgeship.model import ModelFacts, unchanged
from edgeship.reporter import Reporter
from edgeship.targets import cache, child, shapes
from edgeship.targets.base import versions_of
from edgeship.targets.onnx2tf import finish, start
from edgeship.targets.torch import export as torch

ENVIRONMENT = "onnx2tf"
SCRIPT = Path(__file__).with_name("convert_script.py")
_START, _FINISH = "edgeship.targets.onnx2tf.start", "edgeship.targets.onnx2tf.finish"
_BY = "onnx2tf-route/4"  # raised when what the route makes changes
_FILE = "float.tflite"
_STEP: Mapping[str, Any] = {"do": "onnx2tf", "to": "tflite", "batch": 1, "layout": "kept", "by": _BY}


def missing() -> str | None:
    """None where the converter is there, else why not and what brings it."""
    reason = environments.missing(ENVIRONMENT)
    return None if reason is None else f"ONNX becomes TFLite by onnx2tf: {reason}"


def remedy() -> str:
    """What helps where it is not there."""
    return environments.remedy(ENVIRONMENT)


def versions() -> dict[str, str]:
    """Versions of what makes the file: the host's tools and those in the environment."""
    there = environments.packages(ENVIRONMENT)
    host = versions_of({"onnx": "onnx", "onnxsim": "onnx", "onnxruntime": "onnx", "ai-edge-litert": "tflite"})
    return host | {"onnx2tf": there["onnx2tf"], **{f"onnx2tf/{name}": there[name] for name in ("onnx", "onnxsim")}}


def steps(source: ModelFacts) -> Sequence[Mapping[str, Any]]:
    """What a recipe says of a source that is ONNX."""
    return (*shapes.steps(source), _STEP)


def steps_of_torch(source: ModelFacts) -> Sequence[Mapping[str, Any]]:
    """What a recipe says of a PyTorch source: it becomes ONNX first."""
    return (torch.EXPORTER.step(source, "onnx"), _STEP)


def versions_of_torch() -> dict[str, str]:
    """As `versions`, with PyTorch's exporter."""
    return torch.EXPORTER.versions() | versions()


def made(source: ModelFacts, folder: Path, reporter: Reporter) -> Path:
    """The float TFLite of an ONNX source.

    Raises:
        ConversionError: onnx2tf cannot convert it, or what it made computes something else.
        UsageError: the environment is not there, or the source is no float32 model.
    """
    return _made(source, shapes.closed(source, folder), steps(source), versions(), folder, reporter)


def made_of_torch(source: ModelFacts, folder: Path, reporter: Reporter) -> Path:
    """The float TFLite of a PyTorch source. Raises as `made`, and InputError."""
    exported = torch.EXPORTER.exported(source, "onnx", folder)
    return _made(source, exported, steps_of_torch(source), versions_of_torch(), folder, reporter)


def _made(
    source: ModelFacts, path: Path, taken: Sequence[Mapping[str, Any]], used: Mapping[str, str], folder: Path,
    reporter: Reporter,
) -> Path:  # fmt: skip
    """`used`: versions of all that `taken` takes."""
    if source.precision != "float32":
        raise UsageError(
            f"{source.path}: it is {source.precision} already, and onnx2tf takes float32 models",
            hint="start from the float model, or stay with ONNX",
        )
    python, subject = environments.python(ENVIRONMENT), str(source.path)

    def make(place: Path) -> Mapping[str, Any]:
        library = libraries.for_host("tflite", reporter=reporter)
        with unchanged(source), child.workspace() as work:
            one, two, three = (work / name for name in ("start", "convert", "finish"))
            for each in (one, two, three):
                each.mkdir()
            request: dict[str, Any] = {"path": str(path.resolve())}
            names = child.run(_START, request, one, limits=child.CONVERT, subject=subject)
            order = {"path": str(one / start.FILE), "inputs": [plain for plain, _ in names["inputs"]]}
            made = child.run_script(python, SCRIPT, order, two, limits=child.CONVERT, subject=subject)
            request |= {"converted": str(two / made["file"]), "library": str(library.path), **names}
            facts = child.run(_FINISH, request, three, limits=child.CONVERT, subject=subject)
            shutil.copyfile(three / finish.FILE, place / _FILE)
        return facts

    entry = cache.keep(folder, cache.key_of(list(taken), source.sha256, dict(used)), make)
    return entry.path(_FILE)
