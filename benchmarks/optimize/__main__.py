"""int8, mixed precision and search: edgeship beside the tools that it stands on and the tools that do the same.

    python benchmarks/optimize [--only PART,…] [--json FILE] [--cache FOLDER] [--work FOLDER] [--samples N] [--rounds N]

Parts, all by default:

    mobilenet     time and memory of int8, MobileNetV2 at 224 × 224 with random weights
    fashion       accuracy of int8 on two nets trained on Fashion-MNIST, one of them depthwise separable
    efficientnet  agreement of int8 with float, EfficientNet-Lite0 with ImageNet weights on crops of photographs
    mixed         layers left in float to mend a net that int8 breaks, beside NNCF's accuracy control
    search        a search beside one candidate built and judged on everything

Peers: onnxruntime, TFLiteConverter, ai-edge-quantizer, and, each in an environment of its own that is made by pip in
`--cache` once (2 GB), Olive and NNCF. `tools.py` says with which settings, `judge.py` how answers are judged. Tables
for a README go to standard output; exit code 1: a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

CALIBRATION = 200  # samples of the nets that answers are judged of
CROPS = 300  # of photographs that EfficientNet-Lite0 is judged on
WITHIN = 1.1  # of ai-edge-quantizer's time and memory
LOST = 0.005  # of accuracy on Fashion-MNIST: one standard error is 0.003
SEARCH = 5.0  # times one full candidate


@dataclass(frozen=True)
class Tool:
    """A tool, the form of the model that it starts from, and the environment that it lives in."""

    name: str
    format: str
    environment: str | None = None

    @property
    def label(self) -> str:
        """For tables and files."""
        return f"{self.name}, {'TFLite' if self.out == 'tflite' else 'ONNX'}"

    @property
    def out(self) -> str:
        """The format of what it makes."""
        return "onnx" if self.format == "onnx" else "tflite"


TFLITE = (Tool("edgeship", "tflite"), Tool("edgeship fitted", "tflite"), Tool("ai-edge-quantizer", "tflite"))
CONVERTER = Tool("TFLiteConverter", "keras")
ONNX = (Tool("edgeship", "onnx"), Tool("edgeship fitted", "onnx"), Tool("onnxruntime", "onnx"),
        Tool("Olive", "onnx", "olive"), Tool("NNCF", "onnx", "nncf"))  # fmt: skip
#: No tool is to call home while it is measured, and none finds edgeship on its path that did not ask for it.
ALONE = {"OLIVE_DISABLE_TELEMETRY": "1", "CI": "true", "PYTHONPATH": "", "TQDM_DISABLE": "1"}


@dataclass(frozen=True)
class Bench:
    """Where things are, and how much is asked for."""

    work: Path
    cache: Path
    data: Path | None
    samples: int
    rounds: int

    def python(self, environment: str | None) -> str:
        """The Python of an environment; None: the one that runs this."""
        return sys.executable if environment is None else environments.python(environment, self.cache)

    def child(self, script: str, *words: object, environment: str | None = None) -> tuple[measure.Used, str]:
        """Run one of the files beside this; returns what it used and what it printed."""
        folder = Path(tempfile.mkdtemp(prefix=f"{Path(script).stem}-", dir=self.work))
        path = {"PYTHONPATH": str(ROOT)} if environment is None else {}
        argv = [self.python(environment), str(HERE / script), *map(str, words)]
        used = measure.run(argv, folder, ALONE | path)
        return used, (folder / "log").read_text(encoding="utf-8", errors="replace")

    def source(self, stage: str, name: str, *words: object) -> Path:
        """A folder that `sources.py` fills."""
        folder = self.work / name
        if not (folder / "input.json").exists():  # written last
            say(f"making {name}")
            self.child("sources.py", stage, folder, *words)
        return folder

    def int8(self, tool: Tool, source: Path) -> tuple[measure.Used, Path]:
        """Have a tool make int8; returns what it used, and the file."""
        say(f"{source.name}: {tool.label}")
        folder = Path(tempfile.mkdtemp(prefix="int8-", dir=self.work))
        out = source / f"{tool.name}.{tool.out}"
        given = source / ("m.keras" if tool.format == "keras" else f"float.{tool.format}")
        name = json.loads((source / "input.json").read_text())[tool.format]
        samples = source / f"calibration-{tool.format}.npy"
        request = folder / "request.json"
        request.write_text(json.dumps({
            "model": str(given), "input": name, "out": str(out),
            "samples": str(samples if samples.exists() else source / "calibration.npy"),
        }))  # fmt: skip
        used, _ = self.child("tools.py", tool.name, request, environment=tool.environment)
        return used, out

    def judged(self, source: Path, made: Mapping[str, Path]) -> dict[str, Any]:
        """The figures of `judge.py`."""
        labels = source / "labels.npy"
        request = Path(tempfile.mkdtemp(prefix="judge-", dir=self.work)) / "request.json"
        request.write_text(json.dumps({
            "float": {kind: str(source / f"float.{kind}") for kind in {path.suffix[1:] for path in made.values()}},
            "files": {name: str(path) for name, path in made.items()}, "samples": str(source / "evaluation.npy"),
            "labels": str(labels) if labels.exists() else None,
        }))  # fmt: skip
        _, said = self.child("judge.py", request)
        found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return found


@dataclass(frozen=True)
class Result:
    """What a part found."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    figures: Mapping[str, Any]
    missed: tuple[str, ...] = ()  # goals

    def table(self) -> str:
        """Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def mobilenet(bench: Bench) -> Result:
    """Time and memory; every round takes all tools in turns, and the least of each counts: others only add to it."""
    source = bench.source("mobilenet", "mobilenet", 224, bench.samples)
    best: dict[str, dict[str, float]] = {}
    for _ in range(bench.rounds):
        for tool in (*TFLITE, CONVERTER, *ONNX):
            used, _ = bench.int8(tool, source)
            new = {"seconds": used.seconds, "megabytes": used.megabytes, "largest": used.largest}
            old = best.setdefault(tool.label, new)
            best[tool.label] = {key: min(old[key], new[key]) for key in new}
    peers = {"TFLite": best["ai-edge-quantizer, TFLite"], "ONNX": best["onnxruntime, ONNX"]}
    rows: list[tuple[object, ...]] = []
    missed: list[str] = []
    for name, used in best.items():
        ratios = {key: used[key] / peers[name.split(", ")[1]][key] for key in used}
        row: list[object] = [name]
        for key, digits in (("seconds", 1), ("megabytes", 0), ("largest", 0)):
            row += [f"{used[key]:.{digits}f}", f"{ratios[key]:.2f}"]
        rows.append(tuple(row))
        if name == "edgeship, TFLite":
            over = {key: ratio for key, ratio in ratios.items() if ratio > WITHIN}
            missed = [f"{key}: {ratio:.2f} × ai-edge-quantizer, {WITHIN} allowed" for key, ratio in over.items()]
    title = f"int8 of MobileNetV2 at 224 × 224, {bench.samples} samples"
    head = ("tool", "processor s", "× peer", "peak MB, all processes", "× peer", "peak MB, largest", "× peer")
    return Result(title, head, tuple(rows), best, tuple(missed))


def fashion(bench: Bench) -> Result:
    """Accuracy."""
    found: dict[str, Any] = {}
    for kind in ("plain", "depthwise"):
        source = _fashion(bench, kind)
        made = {tool.label: bench.int8(tool, source)[1] for tool in (*TFLITE, CONVERTER, *ONNX)}
        found[kind] = bench.judged(source, made)
    rows = []
    for name in found["plain"]:
        cells: list[object] = [name]
        for kind in ("plain", "depthwise"):
            one = found[kind][name]
            cells += [f"{one['accuracy']:.2%}", f"{one['agreement']:.2%}"]
        rows.append(tuple(cells))
    head = ("tool", "plain: accuracy", "agreement", "depthwise: accuracy", "agreement")
    missed = []
    for kind, figures in found.items():
        for out in ("TFLite", "ONNX"):
            lost = figures[f"float {out.lower()}"]["accuracy"] - figures[f"edgeship, {out}"]["accuracy"]
            if lost > LOST:
                missed.append(f"{kind}: edgeship's {out} loses {lost * 100:.2f} points, {LOST * 100} allowed")
    return Result("int8 on Fashion-MNIST, 10,000 test images", head, tuple(rows), found, tuple(missed))


def _fashion(bench: Bench, kind: str) -> Path:
    _, said = bench.child("sources.py", "data", bench.data or "-", bench.cache)
    return bench.source("fashion", kind, kind, said.strip().splitlines()[-1], CALIBRATION)


def efficientnet(bench: Bench) -> Result:
    """Agreement with float."""
    packages = environments.packages("efficientnet", bench.cache)
    source = bench.source("efficientnet", "efficientnet", packages, CALIBRATION, CROPS)
    made = {tool.label: bench.int8(tool, source)[1] for tool in (*TFLITE, *ONNX)}
    found = bench.judged(source, made)
    rows = tuple(
        (name, f"{one['agreement']:.1%}", f"{one['sqnr_db']:.1f}", f"{one['bytes'] / 1e6:.2f}")
        for name, one in found.items() if not name.startswith("float")
    )  # fmt: skip
    head = ("tool", "same first class as float", "signal to noise, dB", "MB")
    return Result(f"int8 of EfficientNet-Lite0, {CROPS} crops of photographs", head, rows, found)


def mixed(bench: Bench) -> Result:
    """Layers in float."""
    base = _fashion(bench, "depthwise")
    source = bench.source("loud", "loud", base)
    made, used = {}, {}
    for name, environment in (("edgeship", None), ("NNCF", "nncf")):
        say(f"mixed precision: {name}")
        out = source / f"{name}-mixed.onnx"
        spent, _ = bench.child("mixed.py", name, source, out, environment=environment)
        made[f"{name}, mixed"], used[f"{name}, mixed"] = out, spent
    for tool in ONNX:
        if tool.name in ("edgeship", "NNCF"):
            made[f"{tool.name}, int8"] = bench.int8(tool, source)[1]
    found = bench.judged(source, made)
    rows = [("float", f"{found['float onnx']['accuracy']:.2%}", "", "", "")]
    for name in ("edgeship, int8", "NNCF, int8", "edgeship, mixed", "NNCF, mixed"):
        one = found[name]
        seconds = f"{used[name].seconds:.0f}" if name in used else ""
        layers = (f"{len(one[key])} of {one['layers']}" for key in ("kept", "run_in_float"))
        rows.append((name, f"{one['accuracy']:.2%}", *layers, seconds))
    head = ("model", "accuracy", "layers kept in float", "run in float", "processor s")
    missed = []
    for key, what in (("kept", "keeps {} layers in float"), ("run_in_float", "has {} layers run in float")):
        ours, theirs = (len(found[f"{name}, mixed"][key]) for name in ("edgeship", "NNCF"))
        if ours >= theirs:
            missed.append(f"edgeship {what.format(ours)}, NNCF {theirs}")
    lost = found["float onnx"]["accuracy"] - found["edgeship, mixed"]["accuracy"]
    missed += [f"edgeship's mixed precision loses {lost * 100:.1f} points on all images"] if lost > 0.02 else []
    title = "Mixed precision, at most 1 point lost on 2,000 images; judged on 10,000"
    return Result(title, head, tuple(rows), found, tuple(missed))


def search(bench: Bench) -> Result:
    """A search of about 20 candidates."""
    say("search")
    _, said = bench.child("search.py", bench.work / "search")
    found = json.loads(said.strip().splitlines()[-1])
    head = ("candidates", "processor s", "one full candidate", "ratio", "wall-clock s", "one full candidate", "ratio")
    cpu, wall = found["search"]["seconds"] / found["one"]["seconds"], found["search"]["wall"] / found["one"]["wall"]
    row = (
        found["candidates"], f"{found['search']['seconds']:.1f}", f"{found['one']['seconds']:.1f}", f"{cpu:.2f}",
        f"{found['search']['wall']:.1f}", f"{found['one']['wall']:.1f}", f"{wall:.2f}",
    )  # fmt: skip
    of_twenty = wall * 20 / found["candidates"]
    missed = [f"20 candidates take {of_twenty:.1f} times one, {SEARCH:g} allowed"] if of_twenty > SEARCH else []
    return Result("Search on the digits net, cache empty", head, (row,), found, tuple(missed))


PARTS: Mapping[str, Callable[[Bench], Result]] = {
    "mobilenet": mobilenet, "fashion": fashion, "efficientnet": efficientnet, "mixed": mixed, "search": search,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/optimize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,…")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--cache", type=Path, default=None, metavar="FOLDER", help="of the peers' environments")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where models and data stay; else they are deleted")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the files of Fashion-MNIST; else it is downloaded")
    parser.add_argument("--samples", type=int, default=100, help="that MobileNetV2 is calibrated with (100)")
    parser.add_argument("--rounds", type=int, default=2, help="of MobileNetV2, all tools in turns (2)")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.only.split(",") if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = (options.cache or home / "edgeship/benchmarks").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    work = options.work or Path(tempfile.mkdtemp(prefix="edgeship-benchmark-"))
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, Result] = {}
    try:
        bench = Bench(work.resolve(), cache, options.data, options.samples, options.rounds)
        for name in options.only.split(","):
            found[name] = PARTS[name](bench)
            print(found[name].table(), flush=True)
    except measure.Failed as error:
        sys.exit(str(error))
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
        if options.json:
            text = {name: {"figures": result.figures, "missed": result.missed} for name, result in found.items()}
            options.json.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    missed = [f"{name}: {what}" for name, result in found.items() for what in result.missed]
    print("\n".join(["goals missed:", *missed]) if missed else "all goals are reached")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
