"""Answers of int8 files in the engine that devices run, with the settings that an Arm board equals; and what is int8.

    python judge.py REQUEST.json

REQUEST: "float" and "files": {name: path}, "samples": .npy, "labels": .npy or null. Prints JSON: for each file the
bytes, the top-1 agreement with the float file, the signal-to-noise ratio of its answers in dB (20·log₁₀ ‖y‖/‖y − ŷ‖,
after the mean over the samples is taken away), accuracy where there are labels, and for ONNX the float layers.

On x86 edgeship's engine sets session.x64quantprecision: without it sums of int8 saturate on processors without VNNI.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import libraries
from edgeship.runtime import engine
from edgeship.targets.base import dequantize_output, quantize_input

#: Operators that hold weights in the nets of this benchmark, as they are and as ONNX Runtime fuses them.
WEIGHTED = ("Conv", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul")
#: Operators that change no value: what is rounded before them is rounded behind them.
PASSING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "MaxPool")


def answers(path: Path, samples: NDArray[Any]) -> NDArray[np.float32]:
    """The first output, [n, elements]."""
    kind = path.suffix[1:]
    model = engine.load(kind, str(libraries.for_host(kind).path), str(path), threads=1)
    try:
        (spec,), out = model.inputs, []
        for row in samples:
            (raw, *_) = model.run(quantize_input(_laid(row, spec.shape), spec))
            out.append(dequantize_output(raw, model.outputs[0]).reshape(-1))
        return np.stack(out)
    finally:
        model.close()


def _laid(row: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A picture with its channels where the model has them."""
    if row.shape != tuple(shape) and row.ndim == 4 and row.transpose(0, 2, 3, 1).shape == tuple(shape):
        return np.ascontiguousarray(row.transpose(0, 2, 3, 1))
    return row


def compare(expected: NDArray[Any], found: NDArray[Any], labels: NDArray[Any] | None) -> dict[str, float | None]:
    """Figures of a file's answers against the float file's."""
    a, b = expected - expected.mean(0), found - found.mean(0)
    noise = float(np.linalg.norm(a - b))
    out: dict[str, float | None] = {
        "agreement": float((expected.argmax(1) == found.argmax(1)).mean()),
        "sqnr_db": 20 * math.log10(float(np.linalg.norm(a)) / noise) if noise else None,
    }
    if labels is not None:
        out |= {"accuracy": float((found.argmax(1) == labels).mean())}
    return out


def float_layers(path: Path) -> dict[str, Any]:
    """Layers with weights; those whose weights or input are float in the file; those that run in float.

    The last are more: ONNX Runtime computes a layer in int8 only where its output is rounded too. They are counted
    after it has fused what it can, as it does on Arm.
    """
    import onnx
    import onnxruntime

    graph = onnx.load(path).graph
    rounded: set[str] = set()
    for node in graph.node:  # in the order in which they run
        if node.op_type == "DequantizeLinear" or (node.op_type in PASSING and node.input[0] in rounded):
            rounded.update(node.output)
    held = [node for node in graph.node if node.op_type in WEIGHTED]
    kept = [node.name for node in held if not rounded.issuperset(node.input[:2])]
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.qdqisint8allowed", "1")  # as on Arm; x86 goes by way of uint8
        options.optimized_model_filepath = os.path.join(folder, "as-run.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        run = [node.name for node in onnx.load(options.optimized_model_filepath).graph.node if node.op_type in WEIGHTED]
    return {"layers": len(held), "kept": kept, "run_in_float": run}


def perform(request: Mapping[str, Any]) -> dict[str, Any]:
    """All figures."""
    samples = np.load(request["samples"], mmap_mode="r")
    labels = None if request.get("labels") is None else np.load(request["labels"])
    out: dict[str, Any] = {}
    expected: dict[str, NDArray[np.float32]] = {}
    for kind, path in request["float"].items():
        expected[kind] = answers(Path(path), samples)
        out[f"float {kind}"] = compare(expected[kind], expected[kind], labels)
    for name, text in request["files"].items():
        path = Path(text)
        found = answers(path, samples)
        out[name] = {"bytes": path.stat().st_size, **compare(expected[path.suffix[1:]], found, labels)}
        if path.suffix == ".onnx":
            out[name] |= float_layers(path)
    return out


if __name__ == "__main__":
    result = perform(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(result))
