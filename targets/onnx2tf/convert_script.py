"""Runs onnx2tf on one ONNX file: a script for the environment that onnx2tf is in, not a module of edgeship.

    python -I convert_script.py FOLDER

It reads request.json in FOLDER ({"limits", "request": {"path", "inputs"}}), limits itself before it imports anything,
and writes response.json; `edgeship.child.run_script` is the other side. The result is
in the folder's out.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any


def limit(limits: dict[str, Any], parent: int) -> None:
    """As `edgeship.child` limits its steps."""
    for what, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NOFILE, limits["files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # it dies with its parent
        if os.getppid() != parent:  # which is dead already
            os._exit(1)


def convert(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """The direct writer, every input in the layout that it has: what it takes for channels first it would turn."""
    for name in [name for name in os.environ if name.startswith("ONNX2TF_")]:
        del os.environ[name]  # one of them names an address to load from
    onnx2tf: Any = importlib.import_module("onnx2tf")

    try:
        onnx2tf.convert(
            input_onnx_file_path=request["path"],
            output_folder_path=os.path.join(folder, "out"),
            tflite_backend="flatbuffer_direct",
            keep_shape_absolutely_input_names=request["inputs"],
            verbosity="error",
        )
    except SystemExit as error:
        if error.code not in (0, None):
            raise RuntimeError("it gave up: " + last_words(folder)) from error
    stem = os.path.splitext(os.path.basename(request["path"]))[0]
    made = os.path.join("out", stem + "_float32.tflite")
    if not os.path.exists(os.path.join(folder, made)):
        raise RuntimeError("it wrote no file: " + last_words(folder))
    return {"file": made}


def last_words(folder: str) -> str:
    """The last line that it printed: its messages go there, not into exceptions."""
    sys.stdout.flush()
    try:
        with open(os.path.join(folder, "log"), "rb") as log:
            lines = [line.strip() for line in log.read()[-4096:].decode("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    return next((line for line in reversed(lines) if line and "it/s" not in line), "no reason given")[:500]


def main(folder: str) -> None:
    """Read the order, perform it, write the response."""
    with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
        order = json.load(file)
    try:
        limit(order["limits"], order["parent"])
        response = {"ok": True, "result": convert(order["request"], folder)}
    except MemoryError:
        response = refusal(f"onnx2tf needs more memory than its limit of {order['limits']['memory'] >> 20} MB")
    except ImportError as error:
        response = refusal(f"onnx2tf cannot be imported: {error}", "UsageError", "edgeship setup onnx2tf")
    except Exception as error:  # noqa: BLE001 - a converter may raise anything
        traceback.print_exc()
        text = " ".join(str(error).split())[:1000]
        response = refusal(
            "onnx2tf: %s" % (text if type(error) is RuntimeError else type(error).__name__ + ": " + text)
        )
    part = os.path.join(folder, "response.part")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(response, file)
    os.replace(part, os.path.join(folder, "response.json"))


def refusal(message: str, kind: str = "", hint: str | None = None) -> dict[str, Any]:
    """What went wrong."""
    return {"ok": False, "error": {"type": kind, "message": message, "hint": hint}}


if __name__ == "__main__":
    main(sys.argv[1])
