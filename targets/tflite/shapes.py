"""Closes what a TFLite file leaves open, in place: a −1 in a shape signature becomes the 1 that the shape holds.

An engine binds buffers once, so it refuses open shapes; Keras' own conversion writes −1 for the batch. The bytes keep
their length and nothing else moves.
"""

from __future__ import annotations

import struct

from edgeship.errors import InputError
from edgeship.targets.tflite.inspect import default_signature
from edgeship.targets.tflite.reader import read


def close(data: bytes) -> tuple[bytes, int]:
    """The file with all shapes fixed, and how many dimensions were open.

    Raises:
        InputError: an input leaves more than its batch open, or a shape has no number at all.
    """
    structure = read(data)
    out = bytearray(data)
    count = 0
    signature = default_signature(structure)
    inputs = {(signature.subgraph, index) for _, index in signature.inputs}
    for number, graph in enumerate(structure.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            if (number, index) in inputs and any(axis != 0 for axis in tensor.open_axes):
                raise InputError(
                    f"input {tensor.name!r} leaves more than the batch open", hint="convert it with fixed shapes"
                )
            if len(tensor.open_at) != len(tensor.open_axes):
                raise InputError(f"tensor {tensor.name!r} has no fixed shape", hint="convert it with fixed shapes")
            for at, axis in zip(tensor.open_at, tensor.open_axes, strict=True):
                struct.pack_into("<i", out, at, tensor.shape[axis])
                count += 1
    return bytes(out), count
