"""What calibrating int8 costs: edgeship's streaming collector beside ONNX Runtime's, same model, same samples.

A net of MobileNetV2's structure and size (224 × 224, 3.4 M parameters, random weights). Each measurement is a process
of its own, started by one that stays small; processor time and peak memory (ru_maxrss) are compared as ratios to ONNX
Runtime's min-max in the same run. The budgets: ours stay within 1.2 times that memory and below 0.4 GB, and flat from N
to many samples.

    python benchmarks/calibration.py [--samples 16] [--long 5000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 224
#: (expansion, channels, repeats, stride) of MobileNetV2 (Sandler et al. 2018, table 2).
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MEMORY, GROWTH, MOST = 1.2, 1.05, 400  # budgets: times onnxruntime's min-max, times few samples, MB


def net(path: Path) -> None:
    """Write the net, normalizations folded as any optimizer does."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    held: dict[str, Any] = {"zero": np.float32(0), "six": np.float32(6)}

    def conv(x: str, before: int, after: int, kernel: int, stride: int, *, depthwise: bool, clip: bool) -> str:
        name = f"conv{len(nodes)}"
        fan = kernel * kernel * (1 if depthwise else before)
        shape = (after, 1 if depthwise else before, kernel, kernel)
        held[f"{name} w"] = (rng.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32)
        held[f"{name} b"] = rng.normal(size=after).astype(np.float32) * np.float32(0.1)
        nodes.append(
            helper.make_node(
                "Conv", [x, f"{name} w", f"{name} b"], [name], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                pads=[kernel // 2] * 4, group=before if depthwise else 1,
            )
        )  # fmt: skip
        if clip:
            nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"{name} 6"]))
        return f"{name} 6" if clip else name

    x, channels = conv("image", 3, 32, 3, 2, depthwise=False, clip=True), 32
    for expansion, out, repeats, first in BLOCKS:
        for index in range(repeats):
            stride, wide, start = (first if index == 0 else 1), channels * expansion, x
            if expansion > 1:
                x = conv(x, channels, wide, 1, 1, depthwise=False, clip=True)
            x = conv(x, wide, wide, 3, stride, depthwise=True, clip=True)
            x = conv(x, wide, out, 1, 1, depthwise=False, clip=False)
            if stride == 1 and channels == out:
                nodes.append(helper.make_node("Add", [x, start], [f"sum{len(nodes)}"]))
                x = nodes[-1].output[0]
            channels = out
    x = conv(x, channels, 1280, 1, 1, depthwise=False, clip=True)
    held["dense w"], held["dense b"] = rng.normal(size=(1000, 1280)).astype(np.float32) / 36, np.zeros(1000, np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense w", "dense b"], ["logits"], transB=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIZE, SIZE))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 1000))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def make(folder: Path, counts: list[int]) -> None:
    """Write the prepared net and files of random samples."""
    from edgeship.targets.onnx import prepare

    net(folder / "source.onnx")
    prepare.perform({"path": str(folder / "source.onnx"), "from": "float32", "prepare": True}, folder)
    for n in counts:
        rows = np.lib.format.open_memmap(folder / f"{n}.npy", "w+", np.float32, (n, 1, 3, SIZE, SIZE))
        for index in range(n):
            rows[index] = np.random.default_rng(index).normal(size=(1, 3, SIZE, SIZE))


def perform(who: str, settings: list[str], model: Path, samples: Path, folder: Path) -> None:
    """The work of a measured process: calibrate with all samples of a file."""
    os.chdir(folder)
    if who == "edgeship":
        from edgeship.targets.onnx import collect

        request = {
            "path": str(model), "samples": [{"name": "image", "file": str(samples)}], "ranges": settings[0],
            "symmetric": False, "levels": 256, "passes": int(settings[1]),
        }  # fmt: skip
        collect.perform(request, folder)
        return
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(np.load(samples, mmap_mode="r"))

        def get_next(self) -> Any:
            row = next(self.rows, None)
            return None if row is None else {"image": np.array(row)}

    options = {"symmetric": False} if settings[0] == "Percentile" else {}
    calibrator = create_calibrator(
        model, None, str(folder / "augmented.onnx"), CalibrationMethod[settings[0]], extra_options=options
    )
    calibrator.collect_data(Reader())
    calibrator.compute_data()


def measure(who: str, settings: list[str], model: Path, samples: Path) -> tuple[float, float]:
    """(processor seconds, peak MB) of a process that does it."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        argv = [sys.executable, __file__, "--perform", who, *settings, str(model), str(samples), folder]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{who} {settings}: status {status}\n{Path(folder, 'log').read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> int:
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), [int(n) for n in sys.argv[3:]])
        return 0
    if sys.argv[1:2] == ["--perform"]:
        *rest, model, samples, folder = sys.argv[2:]
        perform(rest[0], rest[1:], Path(model), Path(samples), Path(folder))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16, help="of every row")
    parser.add_argument("--long", type=int, help="of the rows that show growth (default: 4 times as many)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    many = options.long or 4 * options.samples
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        files = {n: folder / f"{n}.npy" for n in (options.samples, many)}
        # A process starts with the peak of the one that made it: this one imports nothing large.
        subprocess.run([sys.executable, __file__, "--make", work, *map(str, files)], check=True)
        table = [
            (who, settings, n, *measure(who, settings, folder / "model.onnx", files[n]))
            for who, settings, n in (
                ("onnxruntime", ["MinMax"], options.samples), ("edgeship", ["min-max", "1"], options.samples),
                ("edgeship", ["min-max", "1"], many),
                ("onnxruntime", ["Percentile"], options.samples), ("edgeship", ["percentile", "1"], options.samples),
                ("edgeship", ["percentile", "2"], options.samples), ("edgeship", ["percentile", "1"], many),
                ("onnxruntime", ["Entropy"], options.samples), ("edgeship", ["entropy", "1"], options.samples),
                ("edgeship", ["entropy", "1"], many), ("edgeship", ["mse", "1"], options.samples),
            )
        ]  # fmt: skip
    return report(table, options.samples, many, options.json)


def report(table: list[tuple[str, list[str], int, float, float]], few: int, many: int, file: Path | None) -> int:
    """Print the table; 1 where a budget is broken."""
    _, _, _, seconds, megabytes = table[0]
    print(f"{'':32} {'samples':>7} {'CPU s':>7} {'ratio':>6} {'peak MB':>8} {'ratio':>6}")
    for who, settings, n, s, mb in table:
        name = f"{who} {settings[0]}" + (f", {settings[1]} pass" if len(settings) > 1 else "")
        per = s / n * few if n == many else s
        print(f"{name:32} {n:7} {s:7.1f} {per / seconds:6.2f} {mb:8.0f} {mb / megabytes:6.2f}")
    peaks = {(settings[0], settings[1], n): mb for who, settings, n, _, mb in table if who == "edgeship"}
    broken = [f"{key}: {mb:.0f} MB" for key, mb in peaks.items() if mb > min(MEMORY * megabytes, MOST)]
    broken += [
        f"{ranges} grows from {peaks[ranges, passes, few]:.0f} to {mb:.0f} MB"
        for (ranges, passes, n), mb in peaks.items()
        if n == many and mb > GROWTH * peaks[ranges, passes, few]
    ]
    if file:
        rows = [dict(zip(("who", "settings", "samples", "seconds", "megabytes"), row, strict=True)) for row in table]
        file.write_text(json.dumps({"rows": rows, "broken": broken}, indent=1))
    print("\n".join(["budgets broken:", *broken]) if broken else "budgets hold")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
