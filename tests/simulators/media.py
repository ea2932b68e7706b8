"""Makes image and sound files for tests, byte by byte where a library would not write what a test needs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def image(path: Path, pixels: NDArray[Any], **how: Any) -> Path:
    """Write pixels, uint8 [h, w] or [h, w, 3|4] or uint16 [h, w]; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def pictures(folder: Path, samples: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
    """Write samples [n, h, w, 1] of 0 to 1 as PNG files, a folder for each class, and the classes' order."""
    pixels = np.rint(samples[..., 0] * 255).astype(np.uint8)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        image(folder / str(label) / f"{number}.png", picture)
    (folder / "labels.txt").write_text("\n".join(map(str, range(int(labels.max()) + 1))))


def wav(
    path: Path, samples: NDArray[Any], rate: int = 16000, *, bits: int = 16, floats: bool = False,
    extensible: bool = False, declared: int | None = None,
) -> Path:  # fmt: skip
    """Write a recording.

    Args:
        path: the file.
        samples: [n] or [n, channels] in −1…1.
        rate: Hz.
        bits: of one sample: 8, 16, 24, 32, 64.
        floats: not PCM.
        extensible: with the header that says so in a GUID.
        declared: bytes of samples that the header claims; the truth by default.
    """
    table = np.asarray(samples, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if floats:
        raw = table.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        raw = np.clip(np.rint(table * 128) + 128, 0, 255).astype(np.uint8).tobytes()
    else:
        top = 2 ** (bits - 1)
        whole = np.clip(np.rint(table * top), -top, top - 1).astype("<i8")
        raw = whole.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()
    channels, coding = table.shape[1], 3 if floats else 1
    block = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else coding, channels, rate, rate * block, block, bits
    )  # fmt: skip
    if extensible:
        form += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", coding) + bytes(14)
    chunks = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"  # an odd chunk before the samples: padded to even
    chunks += b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(raw) if declared is None else declared) + raw
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path
