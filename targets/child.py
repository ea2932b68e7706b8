"""What the steps of frameworks may use; `edgeship.child` runs them."""

from edgeship.child import GIB, Limits, run, run_script, workspace

__all__ = ["CONVERT", "INSPECT", "RUN", "Limits", "run", "run_script", "workspace"]

INSPECT = Limits(seconds=120.0, cpu_seconds=120, memory=8 * GIB, file=1 << 26)
CONVERT = Limits(seconds=1800.0, cpu_seconds=7200, memory=64 * GIB)
RUN = Limits(seconds=1800.0, cpu_seconds=7200, memory=32 * GIB)
