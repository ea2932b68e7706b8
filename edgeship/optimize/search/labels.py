"""Where names stand in a plot, so that none lies on another one, on a dot or outside the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LETTER = 7.0  # pixels of a letter at 12.5 px, on average and a little more: the page's font is not known here
HEIGHT = 15.0
_RISE = 11.0  # from the top of a line of text to its base line


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Square pixels that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(high, 0.0)

    def inside(self, other: Box) -> bool:
        """Whether nothing of it sticks out of the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )

    @property
    def base(self) -> tuple[float, float]:
        """Where its text begins: left, base line."""
        return self.left, self.top + _RISE


def around(x: float, y: float, radius: float) -> Box:
    """The box of a dot."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def place(text: str, x: float, y: float, radius: float, taken: Sequence[Box], frame: Box) -> Box:
    """The box of a dot's name: beside the dot where there is room, else further off, else where it covers least.

    Args:
        text: the name.
        x: of the dot's middle, as `y` and `radius`.
        y: see `x`.
        radius: see `x`.
        taken: what is drawn already, the dots among it.
        frame: what it must not leave.
    """
    width = LETTER * len(text)
    best, least = None, math.inf
    for box in _tries(x, y, radius, width):
        moved = _into(box, frame)
        if not moved.inside(frame):
            continue
        covered = sum(moved.overlap(other) for other in taken)
        if covered == 0:
            return moved
        if covered < least:
            best, least = moved, covered
    return best or _into(Box(x, y - HEIGHT, x + width, y), frame)


def _tries(x: float, y: float, radius: float, width: float) -> Iterator[Box]:
    for step in range(12):
        off = radius + 3 + step * HEIGHT
        yield Box(x - width / 2, y - off - HEIGHT, x + width / 2, y - off)  # above
        yield Box(x - width / 2, y + off, x + width / 2, y + off + HEIGHT)  # below
        for shift in (-step * HEIGHT, step * HEIGHT):
            top = y - HEIGHT / 2 + shift
            yield Box(x + radius + 6, top, x + radius + 6 + width, top + HEIGHT)  # to the right
            yield Box(x - radius - 6 - width, top, x - radius - 6, top + HEIGHT)  # to the left


def _into(box: Box, frame: Box) -> Box:
    """Moved sideways until it is inside, where it can be."""
    by = max(frame.left - box.left, 0.0) or min(frame.right - box.right, 0.0)
    return Box(box.left + by, box.top, box.right + by, box.bottom)
