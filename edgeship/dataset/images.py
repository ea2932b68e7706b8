"""Images as a model takes them: upright, of the model's size, colours and range. Runs in a child process.

Pillow decodes; nothing is decoded before the size that the file declares was compared with Pillow's own limit. The
orientation that a camera recorded is applied. Alpha is dropped, as training frameworks do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgeship.dataset.values import sample_shape
from edgeship.errors import InputError, UsageError
from edgeship.preparation import PIXELS, Preparation
from edgeship.runtime.manifest import TensorSpec

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

#: Mean and standard deviation of ImageNet's training images in 0…1, red, green, blue, as torchvision's models use them.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: normalize -> (factor, offset): value = pixel × factor + offset.
_SCALES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "imagenet": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}


@dataclass(frozen=True)
class Frame:
    """What the model's input says of its images."""

    height: int
    width: int
    channels: int  # 1 or 3
    layout: str  # channels-last, channels-first, or none: gray without an axis of channels


def frame_of(spec: TensorSpec, layout: str | None) -> Frame:
    """Size, channels and layout from the input's shape.

    Raises:
        UsageError: it is no image, or both axes could be the channels and `layout` does not say which.
    """
    shape = sample_shape(spec)
    if len(shape) == 2:
        return Frame(shape[0], shape[1], 1, "none")
    fits = [] if len(shape) != 3 else [
        name for name, axis in (("channels-last", 2), ("channels-first", 0)) if shape[axis] in (1, 3)
    ]  # fmt: skip
    if layout in fits:
        fits = [str(layout)]
    if not fits or (layout is not None and fits != [layout]):
        raise UsageError(
            f"the input {spec.name!r} {list(spec.shape)} takes no images{f' with {layout}' if layout else ''}",
            hint="images are [1, height, width, channels] or [1, channels, height, width] with 1 or 3 channels; "
            "for others write an .npz, or a Python function that makes the arrays",
        )
    if len(fits) == 2:
        raise UsageError(
            f"the input {spec.name!r} {list(spec.shape)} could have its channels first or last",
            hint='say which: layout = "channels-last" in [data.preparation], or --prepare layout=channels-last',
        )
    height, width, channels = shape if fits[0] == "channels-last" else (shape[1], shape[2], shape[0])
    return Frame(height, width, channels, fits[0])


class ImageReader:
    """Reads image files for one input.

    Raises:
        UsageError: the input takes no images, or how pixels become its values is not stated.
    """

    def __init__(self, spec: TensorSpec, preparation: Preparation) -> None:
        self._preparation = preparation
        self._frame = frame_of(spec, preparation.layout)
        real = bool(spec.scale) or spec.dtype.startswith("float")
        self._normalize = _normalize(spec, preparation, real=real)
        mean, std = self._mean_std()
        factor, offset = _SCALES[self._normalize]
        self._factor = np.asarray(factor / std, np.float64)
        self._offset = np.asarray((offset - mean) / std, np.float64)
        self._plain = not real
        self._mean, self._std = mean, std

    def says(self) -> dict[str, Any]:
        """All that decides the values, for the recipe."""
        frame, stated = self._frame, self._preparation
        return {
            "kind": "images", "size": [frame.height, frame.width], "channels": frame.channels, "layout": frame.layout,
            "color": stated.color if frame.channels == 3 else "gray", "orientation": "upright by EXIF",
            "resize": stated.resize, "crop": stated.crop, "resample": stated.resample, "normalize": self._normalize,
            "mean": self._mean.tolist(), "std": self._std.tolist(), "pillow": PIL.__version__,
        }  # fmt: skip

    def read(self, path: Path) -> NDArray[Any]:
        """One image as [1, *sample]. Raises whatever a decoder raises on a damaged file, InputError for its size."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                upright = _plain_color(ImageOps.exif_transpose(image), self._frame.channels)
                pixels = np.asarray(self._fitted(upright))
        if pixels.ndim == 3 and self._preparation.color == "bgr":
            pixels = pixels[:, :, ::-1]
        if not self._plain:
            pixels = (pixels * self._factor + self._offset).astype(np.float32)
        if self._frame.layout == "channels-first":
            pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        elif self._frame.layout == "channels-last" and pixels.ndim == 2:
            pixels = pixels[:, :, None]
        return pixels[None]

    def _fitted(self, image: Image.Image) -> Image.Image:
        """The image in the size of the model's input."""
        how, frame = self._preparation, self._frame
        wanted = (frame.width, frame.height)
        if image.size == wanted and (how.resize != "crop" or how.crop == 1.0):
            return image
        if how.resize == "none":
            raise InputError(
                f"{image.width} × {image.height} pixels, the model takes {frame.width} × {frame.height}",
                hint='[data.preparation] resize = "crop", or squash, pad',
            )
        filter_ = Image.Resampling[how.resample.upper()]
        if how.resize == "squash":
            return image.resize(wanted, filter_)
        ratios = frame.width / image.width, frame.height / image.height
        if how.resize == "pad":
            scale = min(ratios)
            inner = image.resize(
                (max(1, round(image.width * scale)), max(1, round(image.height * scale))), filter_
            )  # fmt: skip
            out = Image.new(image.mode, wanted)
            out.paste(inner, ((frame.width - inner.width) // 2, (frame.height - inner.height) // 2))
            return out
        scale = max(ratios) / how.crop  # the part of the source that becomes the whole target, resampled once
        width, height = frame.width / scale, frame.height / scale
        left, top = (image.width - width) / 2, (image.height - height) / 2
        box = (max(0.0, left), max(0.0, top), min(left + width, image.width), min(top + height, image.height))
        return image.resize(wanted, filter_, box=box)

    def _mean_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """In the order of the model's channels, to apply after the scale."""
        stated, channels = self._preparation, self._frame.channels
        mean, std = np.zeros(1), np.ones(1)
        if self._normalize == "imagenet":
            if channels != 3 or stated.mean or stated.std:
                raise UsageError(
                    "normalize = imagenet is for three colours, and has its own mean and std",
                    hint="normalize = 0..1 with mean and std of your own",
                )
            mean, std = (np.array(values)[:: -1 if stated.color == "bgr" else 1] for values in IMAGENET)
        for name, values in (("mean", stated.mean), ("std", stated.std)):
            if len(values) not in (0, 1, channels):
                raise UsageError(
                    f"{name} has {len(values)} numbers, the input has {channels} channels",
                    hint="one number for all channels, or one for each",
                )
        if stated.mean:
            mean = np.array(stated.mean)
        if stated.std:
            std = np.array(stated.std)
        if not (std > 0).all():
            raise UsageError(
                "std must be above 0",
                hint="std is what pixels were divided by in training; leave it out where there was none",
            )
        return mean, std


def _normalize(spec: TensorSpec, preparation: Preparation, *, real: bool) -> str:
    stated = preparation.normalize
    if not real:
        if stated not in (None, "0..255") or preparation.mean or preparation.std:
            raise UsageError(
                f"the input {spec.name!r} takes {spec.dtype}: pixels as they are, 0 to 255, without mean and std",
                hint='normalize = "0..255" and no mean and std, or the float model',
            )
        return "0..255"
    if stated is None:
        raise UsageError(
            f"how were pixels scaled in training? The input {spec.name!r} takes {spec.dtype} and does not say",
            hint=f"normalize = one of {', '.join(PIXELS)} in [data.preparation] of edgeship.toml, or "
            "--normalize of the commands that have it; a wrong one makes an int8 model that is wrong without any error",
        )
    if stated not in PIXELS:
        raise UsageError(f"normalize = {stated} is for recordings", hint=f"for images: {', '.join(PIXELS)}")
    return stated


def _plain_color(image: Image.Image, channels: int) -> Image.Image:
    """The image in gray (ITU-R BT.601 luma, as Pillow weighs colours) or RGB, 8 bits a channel."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I"):  # gray of 16 bits
        deep = np.asarray(image).astype(np.float64)  # Pillow's own conversion cuts at 255
        return Image.fromarray(np.rint(deep / 257).astype(np.uint8)).convert(mode)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert(mode)
