"""Representative data for the zoo, made with a seed: words as pictures, drawn faces, voices, bytes of files."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
Float = NDArray[np.float32]
Arrays = Mapping[str, Array]

RATE = 16_000  # samples a second
_WORDS = ["edge", "ship", "model", "fleet", "release", "2026", "Hamburg", "push", "x7Kp", "a3Qz"]


def words(n: int, height: int, width: int, *, size: int = 26) -> Float:
    """[n, height, width, 3] of 0 … 255: lines of words in a plain font on light grounds."""
    rng, font = np.random.default_rng(0), ImageFont.load_default(size=size)
    out = []
    for index in range(n):
        picture = Image.new("RGB", (width, height), tuple(rng.integers(190, 255, 3).tolist()))
        draw = ImageDraw.Draw(picture)
        for y in range(4, max(5, height - size), size + 16):
            text = f"{_WORDS[(index + y) % len(_WORDS)]} {_WORDS[(3 * index + y + 1) % len(_WORDS)]}"
            draw.text((float(rng.uniform(2, 12)), y), text, fill=tuple(rng.integers(0, 90, 3).tolist()), font=font)
        out.append(np.asarray(picture, np.float32) + rng.normal(0, 4, (height, width, 3)).astype(np.float32))
    return np.clip(np.stack(out), 0, 255)


def faces(n: int, size: int) -> Float:
    """[n, size, size, 3] of 0 … 255: heads with eyes, brows, nose and mouth, of many sizes and places."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        ground = tuple(rng.integers(0, 255, 3).tolist())
        picture = Image.new("RGB", (256, 256), ground)
        draw = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(1, 4))):
            w = float(rng.uniform(40, 120))
            x, y, h = float(rng.uniform(w / 2, 256 - w / 2)), float(rng.uniform(60, 196)), 1.3 * w
            skin = tuple(int(v) for v in np.array([224, 172, 140]) * rng.uniform(0.4, 1.1))
            draw.ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=skin)
            for side in (-1, 1):
                at = x + side * 0.2 * w
                draw.ellipse((at - 0.1 * w, y - 0.17 * h, at + 0.1 * w, y - 0.09 * h), fill="white")
                draw.ellipse((at - 0.04 * w, y - 0.16 * h, at + 0.04 * w, y - 0.1 * h), fill=(30, 20, 10))
                draw.line((at - 0.12 * w, y - 0.22 * h, at + 0.12 * w, y - 0.22 * h), fill=(40, 20, 10), width=3)
            draw.polygon([(x, y - 0.05 * h), (x - 0.07 * w, y + 0.1 * h), (x + 0.07 * w, y + 0.1 * h)],
                         fill=tuple(int(0.8 * v) for v in skin))  # fmt: skip
            draw.ellipse((x - 0.15 * w, y + 0.2 * h, x + 0.15 * w, y + 0.28 * h), fill=(150, 40, 50))
        picture = picture.resize((size, size))
        out.append(np.asarray(picture, np.float32) + rng.normal(0, 5, (size, size, 3)).astype(np.float32))
    return np.clip(np.stack(out), 0, 255)


def voices(n: int, length: int) -> Float:
    """[n, length] of −1 … 1 at 16 kHz: syllables of a gliding voice with two formants, breaths between, some noise."""
    rng, t = np.random.default_rng(0), np.arange(length) / RATE
    out = []
    for _ in range(n):
        pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t + rng.uniform(0, 6)))
        phase, formants = 2 * np.pi * np.cumsum(pitch) / RATE, (rng.uniform(300, 800), rng.uniform(1000, 2400))
        voice = np.zeros(length)
        for k in range(1, 25):
            frequency = k * pitch
            gain = sum(1 / (1 + ((frequency - formant) / 120) ** 2) for formant in formants)
            voice += gain * np.sin(k * phase) / k**0.5
        syllables = np.clip(np.sin(2 * np.pi * rng.uniform(1.5, 4) * t + rng.uniform(0, 6)) + 0.2, 0, None)
        signal = rng.uniform(0.02, 0.5) * voice * syllables / 3 + rng.normal(0, 10 ** rng.uniform(-4, -2), length)
        out.append(np.clip(signal, -1, 1))
    return np.asarray(out, np.float32)


def files(n: int, length: int, padding: int) -> NDArray[np.int32]:
    """[n, length]: starts and ends of files of the standard library, half each, as magika reads them."""
    half, out = length // 2, []
    for path in _some_files(n):
        data = path.read_bytes()
        head, tail = data[:half], data[-half:]
        row = np.full(length, padding, np.int32)
        row[: len(head)] = np.frombuffer(head, np.uint8)
        row[length - len(tail) :] = np.frombuffer(tail, np.uint8)
        out.append(row)
    return np.stack(out)


def _some_files(n: int) -> Iterator[Path]:
    found = sorted(path for path in Path(sysconfig.get_path("stdlib")).rglob("*") if path.is_file())
    found = [path for path in found if path.stat().st_size > 0]
    yield from found[:: max(1, len(found) // n)][:n]
