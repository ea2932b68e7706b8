"""Runs a TFLite file in the interpreter package of the Python that runs this: a script, not a module of edgeship.

    python -I interpreter_script.py PACKAGE MODEL SECONDS

It runs in environments that edgeship is not in, with old Pythons and numpy below 2, so it imports only numpy and the
package. It prints one line of JSON: {"package", "version", "numpy", "inputs", "outputs"} or {"error", "stage"}.
"""

import importlib
import importlib.metadata
import json
import resource
import sys


def main(package: str, path: str, seconds: str) -> None:
    """Load the model and run it twice on zeros."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stage = "import"
    try:
        import numpy as np

        module = importlib.import_module(package + ".interpreter")
        version = importlib.metadata.version(package.replace("_", "-"))
        stage = "environment"
        if package == "tflite_runtime" and int(np.__version__.split(".")[0]) > 1:
            raise RuntimeError("numpy " + np.__version__ + " is there; it creates interpreters with numpy < 2 only")
        stage = "load"
        interpreter = module.Interpreter(model_path=path)
        interpreter.allocate_tensors()
        stage = "run"
        for _ in range(2):
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
            interpreter.invoke()
        specs = [
            [{"shape": [int(d) for d in t["shape"]], "dtype": np.dtype(t["dtype"]).name} for t in side]
            for side in (interpreter.get_input_details(), interpreter.get_output_details())
        ]
        answer = {
            "package": package,
            "version": version,
            "numpy": np.__version__,
            "inputs": specs[0],
            "outputs": specs[1],
        }
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        answer = {"error": type(error).__name__ + ": " + " ".join(str(error).split())[:1000], "stage": stage}
    print(json.dumps(answer))  # noqa: T201 - that is its answer


if __name__ == "__main__":
    main(*sys.argv[1:4])
