"""Mends a net that int8 breaks, by leaving layers in float; runs in the tool's environment.

    python mixed.py edgeship|NNCF SOURCE OUT

Both are given float.onnx of SOURCE, the same 200 calibration samples, the same 2,000 images with labels to judge on,
and the same budget: 1 point of accuracy. edgeship: the command `edgeship optimize`. NNCF:
`quantize_with_accuracy_control` with its defaults; its validation runs with ONNX Runtime's setting against saturating
sums of int8, as edgeship's does, and it is given each image's own score, so that it ranks by accuracy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

JUDGED, POINTS = 2_000, 1.0


def edgeship(source: Path, out: Path) -> None:
    """`edgeship optimize`, int8 alone; min-max alone would be as NNCF does it, but users get all ranges."""
    import shutil

    name = json.loads((source / "input.json").read_text())["onnx"]
    np.savez("data.npz", **{name: np.load(source / "calibration.npy")})
    images, labels = np.load(source / "evaluation.npy")[:JUDGED], np.load(source / "labels.npy")[:JUDGED]
    np.savez("evaluation.npz", **{name: images, "labels": labels})
    command = ["optimize", str(source / "float.onnx"), "--data", "data.npz", "--evaluation", "evaluation.npz"]
    command += ["--profile", "raspberry-pi-5", "--format", "onnx", "--precision", "int8", "--output", "found"]
    command += ["--max-drop", str(POINTS), "--max-class-drop", "100", "--json"]
    fresh = {**os.environ, "XDG_CACHE_HOME": str(Path("cache").resolve())}  # nothing is there from another run
    subprocess.run([sys.executable, "-c", "from edgeship.cli import main; main()", *command], check=True, env=fresh)
    (found,) = Path("found").glob("*.onnx")
    shutil.copyfile(found, out)


def nncf(source: Path, out: Path) -> None:
    """Accuracy control."""
    import nncf
    import onnx
    import onnxruntime

    name = json.loads((source / "input.json").read_text())["onnx"]
    calibration = nncf.Dataset(list(np.load(source / "calibration.npy")), lambda image: {name: image})
    images, labels = np.load(source / "evaluation.npy")[:JUDGED], np.load(source / "labels.npy")[:JUDGED]
    validation = nncf.Dataset(list(zip(images, labels, strict=True)), lambda item: {name: item[0]})

    def accuracy(model: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.x64quantprecision", "1")
        raw = model.SerializeToString()
        session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        right = [float(session.run(None, {name: image})[0].argmax() == label) for image, label in items]
        return float(np.mean(right)), right

    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.quantization.advanced_parameters.OverflowFix.DISABLE
    )
    made = nncf.quantize_with_accuracy_control(
        onnx.load(source / "float.onnx"), calibration, validation, accuracy, max_drop=POINTS / 100,
        drop_type=nncf.DropType.ABSOLUTE, advanced_quantization_parameters=advanced,
    )  # fmt: skip
    onnx.save(made, out)


if __name__ == "__main__":
    {"edgeship": edgeship, "NNCF": nncf}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
