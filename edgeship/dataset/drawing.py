"""How many samples are kept of data that has more than anybody needs, and which: a seeded draw.

Ranges do not move after a thousand samples, and a hundred thousand tell a tenth of a point apart: what is beyond that
costs time and memory and changes nothing. The draw is that of `Dataset.take`: in the order of the data, the same for
the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0


@dataclass(frozen=True)
class Bound:
    """What is kept at most. Fashion-MNIST (60,000 samples of 3 kB) and 3,500 pictures of 224 x 224 are whole."""

    samples: int = 100_000
    bytes: int = 2 << 30  # of all arrays together; splitting the samples takes as much again

    def rows(self, count: int, size: int) -> NDArray[np.intp] | None:
        """Which samples are kept, in order; None: all.

        Args:
            count: how many there are.
            size: bytes of one, in all arrays together.
        """
        room = max(1, min(self.samples, self.bytes // max(1, size)))
        return None if count <= room else np.sort(np.random.default_rng(SEED).permutation(count)[:room])

    def said(self, drawn: Mapping[str, Any]) -> str:
        """What a person is told of a draw."""
        return (
            f"of {drawn['of']:,} samples a seeded draw of {drawn['samples']:,} is used: at most {self.samples:,}, and "
            f"{self.bytes / 1e9:.1f} GB of them, are kept in memory"
        )


#: Of data that a model is calibrated, judged or trained with.
KEPT = Bound()


def recorded(preparation: Mapping[str, Any] | None, kept: int, count: int) -> dict[str, Any]:
    """How samples were made, with the draw, for the recipe."""
    return {**(preparation or {"kind": "arrays"}), "drawn": {"samples": kept, "of": count, "seed": SEED}}
