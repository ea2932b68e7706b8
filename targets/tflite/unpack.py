"""A TFLite file as objects that can be changed and packed again."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np


def unpacked(data: bytes) -> Any:
    """ModelT of the generated schema, the bytes of every constant in its buffer.

    Large files, and every file that ai-edge-quantizer writes, keep them behind the tables and say where. Packed again
    as they are, such buffers point beyond the end of the new file.

    Args:
        data: a file that `reader.read` took: its offsets are sound.
    """
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers or []:
        if buffer.offset > 1 or buffer.size > 1:  # 0 and 1 are place holders of the writer
            buffer.data = np.frombuffer(data, np.uint8, int(buffer.size), int(buffer.offset))
        buffer.offset = buffer.size = 0
    return model
