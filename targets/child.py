"""What the steps of frameworks may use; `edgeship.child` runs them."""

from edgeship.child import GIB, Deadline, Limits, run, run_script, workspace

__all__ = ["ANSWER", "CONVERT", "INSPECT", "LOAD", "RUN", "Deadline", "Limits", "run", "run_script", "workspace"]

#: What a `Deadline` is for. Whoever loads an ONNX model computes what depends on no input, for as long as that takes.
ANSWER = "one answer of the model"
LOAD = "loading the model, and computing what is constant in it,"

INSPECT = Limits(seconds=120.0, cpu_seconds=120, memory=8 * GIB, file=1 << 26)
CONVERT = Limits(seconds=1800.0, cpu_seconds=7200, memory=64 * GIB)
RUN = Limits(seconds=1800.0, cpu_seconds=7200, memory=32 * GIB)
