"""Inputs for real models that look like what the models are for: photographs, printed text, played notes.

Nothing is downloaded for them but the wheel of scikit-image, whose sample pictures are cut and changed as in training.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Float = NDArray[np.float32]

#: Pictures of scikit-image's wheel: people, animals, things, surfaces, sky.
PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "horse.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, 0 … 1

WORDS = (
    "edge", "ship", "model", "fleet", "release", "2026", "Hamburg", "push", "canary", "quality", "42.50", "Total",
    "No. 7", "device", "Latency", "int8", "open", "EXIT", "rollback", "12:45", "Invoice", "north", "signal", "wave",
)  # fmt: skip


def photographs(wheel: Path, n: int, side: int, seed: int = 0) -> Float:
    """[n, side, side, 3], 0 … 1: cuts of sample pictures, mirrored, brighter or darker, with more or less colour.

    Args:
        wheel: of scikit-image.
        n: how many.
        side: pixels.
        seed: of what is drawn.
    """
    rng, found = np.random.default_rng(seed), []
    with zipfile.ZipFile(wheel) as archive:
        for name in PICTURES:
            picture = Image.open(io.BytesIO(archive.read(f"skimage/data/{name}"))).convert("RGB")
            found.append(picture)
    out = np.empty((n, side, side, 3), np.float32)
    for index in range(n):
        picture = found[index % len(found)]
        size = int(min(picture.size) * rng.uniform(0.4, 1.0))
        left, top = (int(rng.integers(0, whole - size + 1)) for whole in picture.size)
        cut = picture.crop((left, top, left + size, top + size)).resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            cut = change(cut).enhance(rng.uniform(0.7, 1.3))
        out[index] = np.asarray(cut, np.float32) / 255
    return out


def normalized(pictures: Float) -> Float:
    """[n, 3, h, w] with ImageNet's mean and deviation taken out, of [n, h, w, 3] in 0 … 1."""
    even = (pictures - np.asarray(MEAN, np.float32)) / np.asarray(DEVIATION, np.float32)
    return np.ascontiguousarray(even.transpose(0, 3, 1, 2), np.float32)


def _said(rng: np.random.Generator, least: int, most: int) -> str:
    return " ".join(rng.choice(WORDS, int(rng.integers(least, most + 1))))


def _ink(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(ground, letters): dark on light, one time in four the other way round."""
    light, dark = tuple(rng.integers(170, 256, 3).tolist()), tuple(rng.integers(0, 90, 3).tolist())
    return (light, dark) if rng.random() < 0.75 else (dark, light)


def _printed(picture: Image.Image, rng: np.random.Generator) -> Float:
    """[3, h, w], −1 … 1: a little out of focus, with the noise of a camera."""
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    array = np.asarray(picture, np.float32) + rng.normal(0, rng.uniform(0, 6), (picture.height, picture.width, 1))
    return (np.clip(array, 0, 255).transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)


def lines(n: int, width: int, seed: int = 0, *, turned: bool = False) -> Float:
    """[n, 3, 48, width], −1 … 1: one line of text each, as an OCR's recognizer is given them.

    Args:
        n: how many.
        width: pixels.
        seed: of what is drawn.
        turned: every second one upside down.
    """
    rng, out = np.random.default_rng(seed), np.zeros((n, 3, 48, width), np.float32)
    for index in range(n):
        ground, letters = _ink(rng)
        font = ImageFont.load_default(size=int(rng.integers(24, 34)))
        text = _said(rng, 1, 3)
        wide = min(width, max(48, int(font.getlength(text)) + 12))
        picture = Image.new("RGB", (wide, 48), ground)
        ImageDraw.Draw(picture).text((6, int(rng.integers(3, 10))), text, fill=letters, font=font)
        if turned and index % 2:
            picture = picture.transpose(Image.Transpose.ROTATE_180)
        out[index, :, :, :wide] = _printed(picture, rng)  # the rest is 0, as the package pads it
    return out


def pages(n: int, height: int, width: int, seed: int = 0) -> Float:
    """[n, 3, height, width] with ImageNet's mean and deviation taken out: lines of text, as on signs and receipts."""
    rng, out = np.random.default_rng(seed), np.empty((n, 3, height, width), np.float32)
    for index in range(n):
        ground, letters = _ink(rng)
        picture = Image.new("RGB", (width, height), ground)
        draw, y = ImageDraw.Draw(picture), int(rng.integers(4, 40))
        if rng.random() < 0.5:
            edge = sorted(rng.integers(0, width, 2).tolist()), sorted(rng.integers(0, height, 2).tolist())
            box = (edge[0][0], edge[1][0], edge[0][1], edge[1][1])
            draw.rectangle(box, fill=tuple(rng.integers(140, 256, 3).tolist()))
        while y < height - 20:
            size = int(rng.integers(12, 40))
            draw.text((int(rng.integers(2, width // 2)), y), _said(rng, 1, 3), fill=letters,
                      font=ImageFont.load_default(size=size))  # fmt: skip
            y += int(size * rng.uniform(1.2, 3.0))
        shown = (_printed(picture, rng).transpose(1, 2, 0) + 1) / 2
        out[index] = normalized(shown[None].astype(np.float32))[0]
    return out


def notes(n: int, length: int, seed: int = 0, rate: int = 22050) -> Float:
    """[n, length]: chords of plucked and held notes with overtones, a little noise, as a music transcriber is given."""
    rng, t = np.random.default_rng(seed), np.arange(length) / rate
    out = np.empty((n, length), np.float32)
    for index in range(n):
        wave: NDArray[Any] = rng.normal(0, rng.uniform(0.0002, 0.004), length)
        for _ in range(int(rng.integers(1, 9))):
            pitch, start = 440 * 2 ** ((int(rng.integers(36, 92)) - 69) / 12), rng.uniform(0, t[-1] * 0.9)
            after = np.maximum(t - start, 0)
            held = np.exp(-after * rng.uniform(0.3, 6)) * (t >= start) * np.minimum(after * rng.uniform(50, 400), 1)
            tone = sum(
                rng.uniform(0.2, 1) / k ** rng.uniform(0.7, 2) * np.sin(2 * np.pi * pitch * k * after)
                for k in range(1, 7) if pitch * k < rate / 2
            )  # fmt: skip
            wave = wave + rng.uniform(0.05, 0.4) * held * tone
        out[index] = wave / max(1.0, float(np.abs(wave).max()))
    return out
