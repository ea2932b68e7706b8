"""Runs a TFLite file in the interpreter package of the Python that runs this: a script, not a module of edgeship.

    python -I interpreter_script.py PACKAGE MODEL SECONDS [FOLDER]

It runs in environments that edgeship is not in, with old Pythons and numpy below 2, so it imports only numpy and the
package. It prints one line of JSON: {"package", "version", "numpy", "inputs", "outputs", "answered"} or
{"error", "stage"}.

With FOLDER the file is run over samples too: names.json is {"inputs": [name], "outputs": [name]}, input<j>.npy holds
the samples of an input, [n, *shape], in its own type. answer<j>.npy get what the outputs were.
"""

import importlib
import importlib.metadata
import json
import os
import resource
import sys
from typing import Any


def main(package: str, path: str, seconds: str, folder: str = "") -> None:
    """Load the model, run it twice on zeros, then over the samples."""
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
        answered = bool(folder) and answer_samples(np, interpreter, folder)
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
            "answered": answered,
        }
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        answer = {"error": type(error).__name__ + ": " + " ".join(str(error).split())[:1000], "stage": stage}
    print(json.dumps(answer))  # noqa: T201 - that is its answer


def answer_samples(np: Any, interpreter: Any, folder: str) -> bool:
    """Run it over the samples of a folder; whether its inputs and outputs go by the names that were given."""
    with open(os.path.join(folder, "names.json"), encoding="utf-8") as file:
        names = json.load(file)
    inputs = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    runner = None
    for key, sides in interpreter.get_signature_list().items():
        if set(sides["inputs"]) == set(names["inputs"]) and set(names["outputs"]) <= set(sides["outputs"]):
            runner = interpreter.get_signature_runner(key)
            break
    if runner is None and not (set(names["inputs"]) <= set(inputs) and set(names["outputs"]) <= set(outputs)):
        return False
    arrays = [np.load(os.path.join(folder, f"input{j}.npy")) for j in range(len(names["inputs"]))]
    found: list[list[Any]] = [[] for _ in names["outputs"]]
    for index in range(len(arrays[0])):
        given = {name: array[index] for name, array in zip(names["inputs"], arrays)}  # noqa: B905 - Python 3.9
        if runner is not None:
            answers = runner(**given)
        else:
            for name, value in given.items():
                interpreter.set_tensor(inputs[name], value)
            interpreter.invoke()
            answers = {name: interpreter.get_tensor(outputs[name]) for name in names["outputs"]}
        for j, name in enumerate(names["outputs"]):
            found[j].append(np.array(answers[name]))
    for j, values in enumerate(found):
        np.save(os.path.join(folder, f"answer{j}.npy"), np.stack(values))
    return True


if __name__ == "__main__":
    main(*sys.argv[1:5])
