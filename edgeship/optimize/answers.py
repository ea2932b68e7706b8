"""What both models answered to the same samples, and what is known of these: what every metric looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.runtime.manifest import TensorSpec

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """Arrays have one row a sample.

    Attributes:
        expected: the source's, one float32 array [n, *shape] an output.
        given: the variant's, likewise.
        outputs: what they are.
        labels: class of each sample, int32 [n], or None.
        targets: what should be answered, float32 [n, …], or None.
        slices: name -> bool [n].
        inputs: name -> array [n, …]; metrics of one's own may look at them.
    """

    expected: Sequence[FloatArray]
    given: Sequence[FloatArray]
    outputs: Sequence[TensorSpec]
    labels: NDArray[np.int32] | None = None
    targets: FloatArray | None = None
    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.expected[0])
