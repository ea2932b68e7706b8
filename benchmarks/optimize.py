"""Time and memory of int8, and of a search: edgeship beside the tools that it stands on, in one run.

    python benchmarks/optimize.py [--json FILE] [--size 224] [--samples 100]

int8 of MobileNetV2 (random weights, `--size` pixels), calibrated on `--samples` random pictures, each in a process of
its own; processor seconds and peak memory of that process and its children, and their ratio to the peer:

    tflite    edgeship's target, from the float TFLite      ai-edge-quantizer's own Calibrator and Quantizer
    onnx      edgeship's target, from the float ONNX        onnxruntime quantize_static, MinMax
    (beside)  TFLiteConverter from Keras, full int8

Then a search on the digits net: all candidates against one candidate judged on everything, wall-clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


def make(folder: Path, size: int, samples: int) -> None:
    """MobileNetV2 as .keras, its float forms, and samples."""
    import keras

    from edgeship.reporter import Reporter
    from edgeship.targets import registry, routes

    keras.utils.set_random_seed(SEED)
    net = keras.applications.MobileNetV2((size, size, 3), weights=None, classes=1000)
    net.save(folder / "m.keras")
    facts = registry.inspect(folder / "m.keras")
    x = np.random.default_rng(SEED).random((samples, 1, size, size, 3), dtype=np.float32)
    np.savez(folder / "data.npz", **{facts.inputs[0].name: x})
    for format_name in ("tflite", "onnx"):
        path = routes.float_model(facts, format_name, folder / "cache", Reporter())
        (folder / f"float.{format_name}").write_bytes(path.read_bytes())


def edgeship_int8(format_name: str, folder: Path) -> None:
    """Our target, from the float model, cache empty: conversion, calibration, quantization, load in the engine."""
    from edgeship import dataset
    from edgeship.reporter import Reporter
    from edgeship.targets import registry
    from edgeship.targets.scheme import Scheme

    facts = registry.inspect(folder / f"float.{format_name}")
    data = dataset.load(folder / "data.npz", facts)
    with tempfile.TemporaryDirectory() as cache:
        registry.target(format_name).build(facts, Scheme("int8"), data, Path(cache), Reporter())


def peer_tflite(folder: Path) -> None:
    """ai-edge-quantizer as its documentation shows it."""
    from ai_edge_quantizer import quantizer, recipe

    x = next(iter(np.load(folder / "data.npz").values()))
    work = quantizer.Quantizer(str(folder / "float.tflite"))
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    runner = _signature(folder / "float.tflite")
    ranges = work.calibrate({"serving_default": [{runner: sample} for sample in x]})
    work.quantize(ranges)


def _signature(path: Path) -> str:
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(model_path=str(path)).get_signature_list()
    return str(signatures["serving_default"]["inputs"][0])


def peer_onnx(folder: Path) -> None:
    """Onnxruntime's quantize_static with MinMax, after its own pre-processing."""
    from onnxruntime import quantization

    x = next(iter(np.load(folder / "data.npz").values()))

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        """One sample after the other."""

        def __init__(self) -> None:
            import onnx

            name = onnx.load(str(folder / "float.onnx")).graph.input[0].name
            self._items = iter([{name: sample} for sample in x])

        def get_next(self) -> Any:
            return next(self._items, None)

    ready = folder / "ready.onnx"
    os.chdir(folder)
    quantization.quant_pre_process(str(folder / "float.onnx"), str(ready), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(ready), str(folder / "peer.onnx"), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip


def converter(folder: Path) -> None:
    """TFLiteConverter from Keras, full int8."""
    import keras
    import tensorflow as tf

    x = next(iter(np.load(folder / "data.npz").values()))
    work = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(folder / "m.keras"))
    work.optimizations = [tf.lite.Optimize.DEFAULT]
    work.representative_dataset = lambda: ([sample] for sample in x)
    work.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    work.convert()


JOBS: Mapping[str, Callable[[Path], None]] = {
    "edgeship tflite": lambda folder: edgeship_int8("tflite", folder), "ai-edge-quantizer": peer_tflite,
    "edgeship onnx": lambda folder: edgeship_int8("onnx", folder), "onnxruntime": peer_onnx,
    "TFLiteConverter": converter,
}  # fmt: skip
PEERS = {"edgeship tflite": "ai-edge-quantizer", "edgeship onnx": "onnxruntime"}


def prepared(folder: Path, size: int, samples: int) -> None:
    """`make` in a process of its own: a process's peak memory counts what its parent held when it was forked."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import optimize, pathlib; "
    code += "optimize.make(pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))"
    argv = [sys.executable, "-c", code, str(Path(__file__).parent), str(folder), str(size), str(samples)]
    subprocess.run(argv, capture_output=True, check=True)


def measured(job: str, folder: Path) -> dict[str, float]:
    """Processor seconds and peak memory (MB, largest process) of a job in a process of its own."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import optimize; optimize.child(*sys.argv[2:])"
    argv = [sys.executable, "-c", code, str(Path(__file__).parent), job, str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(job: str, folder: str) -> None:
    """In the job's process."""
    JOBS[job](Path(folder))
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in both)
    print(json.dumps({"cpu_seconds": round(seconds, 2), "peak_mb": round(max(u.ru_maxrss for u in both) / 1000, 1)}))


def search(folder: Path) -> dict[str, float]:
    """A search on digits with an empty cache, against its one best candidate built and judged alone."""
    from edgeship import dataset, profile
    from edgeship.deploy.contact import Agent
    from edgeship.optimize.search.candidate import Wish
    from edgeship.optimize.search.latency import Host
    from edgeship.optimize.search.pick import Budget
    from edgeship.optimize.search.pool import processes
    from edgeship.optimize.search.run import Request, Search
    from edgeship.reporter import Reporter
    from edgeship.targets import registry

    train = Path(__file__).parents[1] / "examples/digits/train.py"
    subprocess.run([sys.executable, str(train)], cwd=folder, check=True, capture_output=True)
    facts = registry.inspect(folder / "digits.keras")
    calibration, judged = (dataset.load(folder / f"{name}.npz", facts) for name in ("calibration", "evaluation"))
    board = profile.load("raspberry-pi-5")

    def run(cache: Path, wish: Wish) -> tuple[float, int]:
        request = Request(facts, board, calibration, judged, Budget(), cache, wish)
        stopwatch = Host(judged, Agent.own().zipapp, cache, 1)
        begun = time.monotonic()
        with processes() as pool:
            found = Search(request, pool, stopwatch, Reporter()).run()
        return time.monotonic() - begun, len(found.tried)

    many, count = run(folder / "many", Wish())
    one, _ = run(folder / "one", Wish(("tflite",), ("float16",)))
    return {
        "candidates": count,
        "search_seconds": round(many, 1),
        "one_seconds": round(one, 1),
        "ratio": round(many / one, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeship-benchmark-") as name:
        folder = Path(name)
        prepared(folder, options.size, options.samples)
        found: dict[str, Any] = {job: measured(job, folder) for job in JOBS}
        for ours, peer in PEERS.items():
            for key in ("cpu_seconds", "peak_mb"):
                found[ours][f"{key} × {peer}"] = round(found[ours][key] / found[peer][key], 2)
        found["search"] = search(folder)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
