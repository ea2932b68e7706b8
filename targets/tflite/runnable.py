"""What a TFLite file must be before an engine that binds its memory once can run it: fixed shapes, no state, no gap."""

from __future__ import annotations

from edgeship.errors import ConversionError
from edgeship.targets.tflite.freeze import freeze
from edgeship.targets.tflite.inspect import stateful
from edgeship.targets.tflite.loops import updated
from edgeship.targets.tflite.reader import read
from edgeship.targets.tflite.shapes import close
from edgeship.targets.tflite.sparse import dense
from edgeship.targets.tflite.unroll import unrolled


def runnable(data: bytes) -> tuple[bytes, int, list[str]]:
    """The file as the engine can run it; as it is where nothing is open.

    Returns:
        (the file, dimensions that were open, what people should know).

    Raises:
        InputError: damaged, or more than its batch is open.
        ConversionError: it keeps state, or the interpreter cannot run it.
    """
    data, fixed = close(dense(data))
    data = updated(freeze(data))
    kept = stateful(read(data))
    data = unrolled(data)
    if state := stateful(read(data)):
        raise ConversionError(
            f"it keeps state from one run to the next ({', '.join(state[:3])}), which neither the engine nor a device "
            "that serves several callers can run",
            hint="export it with the state as an input and an output, or in Keras with unroll=True",
        )
    remark = "recurrent operators are unrolled: every run begins at a state of zero"
    return data, fixed, [remark] if kept else []
