"""Memory of the agent's processes with the int8 digits model, beside the usual Python runtimes with the same model.

    python benchmarks/footprint.py [--model digits.keras --data FOLDER] [--json FILE]

One run, one model, one measure: PSS and private memory of each process from /proc/PID/smaps_rollup, median of five
readings, after 200 inferences. The agent is the real one: `edgeship push` to a local child, whose supervisor and worker
are read. The peers are plain scripts of ten lines that load the same file with ai-edge-litert or onnxruntime and numpy,
out of copies of these packages: PSS divides a page by all who map the file, and whoever else runs them on this machine
must not make a peer look smaller. The agent's files are its own copies anyway.
One subject at a time. Exit code 1 when a budget of the design is broken: supervisor 10 MB, supervisor and worker 25 MB.

Without --model the model of examples/digits is trained first (about 30 s).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
READINGS = 5
BUDGET_MB = {"supervisor": 10.0, "supervisor + worker": 25.0}

LITERT = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1], num_threads=1)
model.allocate_tensors()
given, got = model.get_input_details()[0], model.get_output_details()[0]
x = np.zeros(given["shape"], given["dtype"])
for _ in range(200):
    model.set_tensor(given["index"], x)
    model.invoke()
    model.get_tensor(got["index"])
print("ready", flush=True)
sys.stdin.read()
"""

ONNXRUNTIME = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
model = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
given = model.get_inputs()[0]
x = np.zeros(given.shape, np.float32)
for _ in range(200):
    model.run(None, {given.name: x})
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Memory:
    """One subject: what it is and the memory of its process, or processes together, in MB (10⁶ bytes)."""

    name: str
    pss_mb: float
    private_mb: float


def rollup(pid: int) -> dict[str, int]:
    """Bytes by name out of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name.rstrip(":"): int(value) * 1024 for name, value, *_ in (line.split() for line in lines)}


def measure(name: str, *pids: int) -> Memory:
    """Median of the readings of these processes together."""
    pss, private = [], []
    for _ in range(READINGS):
        parts = [rollup(pid) for pid in pids]
        pss.append(sum(part["Pss"] for part in parts))
        private.append(sum(part["Private_Clean"] + part["Private_Dirty"] for part in parts))
        time.sleep(0.2)
    return Memory(name, statistics.median(pss) / 1e6, statistics.median(private) / 1e6)


def edgeship(folder: Path, *words: str) -> Any:
    """Run a command in a project; its data with `--json`. Ends the benchmark when it fails."""
    command = [sys.executable, "-c", "from edgeship.cli import main; main()", *words, "--json"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"edgeship {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)["data"]


@contextmanager
def peer(script: str, model: Path, packages: Path) -> Iterator[int]:
    """A peer's process, ready after its inferences; its process id."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(model), str(packages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            sys.exit("a peer did not start: are ai-edge-litert, onnxruntime and numpy installed?")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def project(folder: Path, model: Path | None, data: Path | None) -> None:
    """A project with a model and its data: the ones given, or those of examples/digits, trained now."""
    if model is None:
        print("training the digits model …", flush=True)
        script = ROOT / "examples" / "digits" / "train.py"
        subprocess.run([sys.executable, str(script)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    else:
        shutil.copy(model, folder / "digits.keras")
        for name in ("calibration.npz", "evaluation.npz"):
            shutil.copy((data or model.parent) / name, folder / name)
    edgeship(folder, "init")


def served(folder: Path) -> Mapping[str, int]:
    """Push to a local child and drive it; the process ids of its supervisor and worker."""
    edgeship(folder, "push", "digits.keras", "-l", "name=sim", "--no-bench")
    edgeship(folder, "infer", "sim", "--data", "evaluation.npz", "--n", "200")
    [status] = edgeship(folder, "agent", "status", "-l", "name=sim")
    worker = int(status["status"]["worker_pid"])
    parent = Path(f"/proc/{worker}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1]
    return {"supervisor": int(parent), "worker": worker}


def agent(folder: Path) -> list[Memory]:
    """The agent's processes, with the TFLite int8 model."""
    pids = served(folder)
    out = [measure(name, pid) for name, pid in pids.items()]
    out.append(measure("supervisor + worker", *pids.values()))
    edgeship(folder, "agent", "stop", "-l", "name=sim", "--yes")
    return out


def onnx_worker(folder: Path, model: Path) -> Memory:
    """The agent's worker alone, with the ONNX int8 model; the supervisor does not depend on the format."""
    sys.path.insert(0, str(ROOT))
    from edgeship import libraries
    from edgeship.bench import host, source
    from edgeship.deploy.contact import Agent
    from edgeship.reporter import Reporter
    from edgeship.targets import registry

    facts = registry.inspect(model)
    [subject] = source.build(
        facts, [("onnx", "int8")], registry.targets(), name="digits", calibration=None, folder=folder / "v",
        reporter=Reporter(),
    )  # fmt: skip
    with host.worker(Agent.own().zipapp, folder) as child:
        golden = folder / "golden.bin"
        count, _ = host.write_inputs(golden, subject, None)
        child.request("load", host.load_fields(subject, libraries.for_host("onnx"), golden, count, 1), seconds=60)
        child.request("bench", {"runs": 200, "warmup": 0, "max_seconds": 60}, seconds=90)
        return measure("worker, ONNX", child.pid)


def variant(folder: Path, suffix: str) -> Path:
    """The int8 variant of a format among those that the project built."""
    found = sorted((folder / ".edgeship" / "variants").glob(f"*/*{suffix}"), key=lambda path: path.stat().st_size)
    if not found:
        sys.exit(f"no {suffix} variant was built")
    return found[0]


def copy_packages(folder: Path) -> Path:
    """Copies of the peers' packages, so that no other process maps the same files."""
    for name in ("numpy", "ai_edge_litert", "onnxruntime"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            sys.exit(f"{name} is not installed: pip install 'edgeship[onnx,tflite]'")
        home = Path(spec.origin).parent
        for source in (home, home.with_name(f"{name}.libs")):
            if source.is_dir():
                shutil.copytree(source, folder / source.name)
    return folder


def peers(folder: Path) -> list[Memory]:
    """The usual runtimes, one at a time."""
    out = []
    packages = copy_packages(folder / "packages")
    for name, script, suffix in (
        ("ai-edge-litert + numpy", LITERT, ".tflite"), ("onnxruntime + numpy", ONNXRUNTIME, ".onnx"),
    ):  # fmt: skip
        with peer(script, variant(folder, suffix), packages) as pid:
            out.append(measure(name, pid))
    return out


def show(subjects: Sequence[Memory]) -> int:
    """Print the table and judge the budgets; returns the exit code."""
    by_name = {subject.name: subject for subject in subjects}
    base = by_name["supervisor + worker"].pss_mb
    print(f"\n{'process':<28}{'PSS MB':>9}{'private MB':>12}{'× agent':>9}")
    for subject in subjects:
        ratio = f"{subject.pss_mb / base:9.2f}"
        print(f"{subject.name:<28}{subject.pss_mb:9.1f}{subject.private_mb:12.1f}{ratio}")
    broken = [f"{name}: {by_name[name].pss_mb:.1f} of {limit:.0f} MB" for name, limit in BUDGET_MB.items()
              if by_name[name].pss_mb > limit]  # fmt: skip
    print("\nbudgets: " + ("; ".join(broken) + "  BROKEN" if broken else "hold"))
    return 1 if broken else 0


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=Path, help="a Keras model instead of training one")
    parser.add_argument(
        "--data", type=Path, help="folder of calibration.npz and evaluation.npz; the model's by default"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeship-footprint-") as name:
        folder = Path(name) / "digits"
        folder.mkdir()
        project(folder, options.model, options.data)
        try:
            subjects = agent(folder)
        finally:
            edgeship(folder, "agent", "stop", "-l", "name=sim", "--yes")
        edgeship(folder, "bench", "run", "digits.keras", "--format", "onnx", "--precision", "int8", "--runs", "50")
        subjects.append(onnx_worker(folder, variant(folder, ".onnx")))
        subjects += peers(folder)
    code = show(subjects)
    if options.json is not None:
        machine = {"machine": platform.platform(), "python": platform.python_version()}
        record = {**machine, "subjects": [asdict(subject) for subject in subjects]}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
