"""How files become samples: what a person states of images and recordings, in `[data.preparation]` or by flags.

It is data: what was stated, and what followed from the model's input, goes into the recipe of what was quantized with
the samples. Nothing of it applies to arrays, which are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from edgeship.errors import UsageError
from edgeship.tomlfile import NUMBERS, Key, Leaf, build, choice, integer, leaves, number, shorten, suggestion

RESIZE = ("crop", "squash", "pad", "none")
PIXELS = ("0..1", "-1..1", "0..255", "imagenet")
WAVES = ("-1..1", "int16", "peak")


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The table [data.preparation]."""

    samples: Annotated[
        int | None,
        Key(integer(1, 200_000), "Files that are read, a seeded draw of each class alike; all where it is not set."),
    ] = None
    resize: Annotated[
        str,
        Key(
            choice(*RESIZE),
            "Images of another size than the model's: scale and cut the middle out, squash, pad with black, or refuse.",
        ),
    ] = "crop"
    crop: Annotated[
        float, Key(number(0.1, 1), "Share of an image that `resize = \"crop\"` keeps; ImageNet models often use 0.875.")
    ] = 1.0  # fmt: skip
    resample: Annotated[
        str, Key(choice("bilinear", "bicubic", "nearest", "box", "lanczos"), "Filter of Pillow that resizes images.")
    ] = "bilinear"
    normalize: Annotated[
        str | None,
        Key(
            choice(*dict.fromkeys((*PIXELS, *WAVES))),
            "Range of the model's input, as in training. Images: `0..1`, `-1..1`, `0..255`, or `imagenet` (0..1, then "
            "ImageNet's mean and deviation). Recordings: `-1..1` (the default), `int16`, or `peak` (the loudest is 1).",
        ),
    ] = None
    mean: Annotated[
        tuple[float, ...], Key(NUMBERS, "Subtracted from each channel after `normalize`; one number, or one a channel.")
    ] = ()
    std: Annotated[
        tuple[float, ...], Key(NUMBERS, "Each channel is divided by it at the end; one number, or one a channel.")
    ] = ()
    color: Annotated[str, Key(choice("rgb", "bgr"), "Order of the colours in the model's input.")] = "rgb"
    layout: Annotated[
        str | None,
        Key(choice("channels-last", "channels-first"), "Of an image input; by its shape where that is clear."),
    ] = None
    sample_rate: Annotated[
        int | None, Key(integer(1000, 768_000), "Hz that recordings are resampled to; needed where they differ.")
    ] = None
    windows: Annotated[
        str,
        Key(
            choice("first", "center", "all"),
            "Of a recording longer than the model's input: its start, its middle, or one window after the other.",
        ),
    ] = "first"

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes; `parse` reads it."""
        return {leaf.path[0]: value for leaf in _keys() if (value := getattr(self, leaf.path[0])) not in (None, ())}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Preparation:
        """From the dict of `encode`, or of a TOML table. Raises UsageError that names the key."""
        known = {leaf.path[0]: leaf for leaf in _keys()}
        read: dict[tuple[str, ...], Any] = {}
        for name, value in data.items():
            read[(name,)] = _checked(known, name, list(value) if isinstance(value, tuple) else value)
        return build(cls, read)


def from_flags(pairs: Iterable[str], base: Preparation | None = None) -> Preparation:
    """A preparation with some of its keys replaced.

    Args:
        pairs: "KEY=VALUE", keys and values as in `[data.preparation]`; lists by commas.
        base: what holds where nothing is said; the defaults by default.

    Raises:
        UsageError: an unknown key, or a value that it does not take.
    """
    known = {leaf.path[0]: leaf for leaf in _keys()}
    said: dict[str, Any] = (base or Preparation()).encode()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{shorten(pair)} is not KEY=VALUE", hint=f"known keys: {', '.join(known)}")
        said[name] = known[name].key.kind.decode(text) if name in known else text
    return Preparation.parse(said)


def _keys() -> list[Leaf]:
    return list(leaves(Preparation))


def _checked(known: Mapping[str, Leaf], name: str, value: object) -> Any:
    if name not in known:
        raise UsageError(
            f"unknown preparation {name!r}{suggestion(name, known)}", hint=f"known are {', '.join(known)}"
        )  # fmt: skip
    try:
        return known[name].key.kind.read(value)
    except ValueError as error:
        raise UsageError(
            f"{name} {error} (it is {shorten(value)})", hint="docs/how-to/your-data.md lists what each key takes"
        ) from None
