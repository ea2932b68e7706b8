"""Whether the source model knows anything of the data: where it does not, no variant can be judged by it.

Samples of another scale than in training, channels in another order, labels of another model: all of them leave shapes
and types right, and a float model that is no better than chance. A variant loses nothing against that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeship.optimize import metrics
from edgeship.optimize.agreement import is_scores
from edgeship.runtime.manifest import TensorSpec

FEW = 30  # samples that say too little

FloatArray = NDArray[np.float32]


def doubt(
    outputs: Sequence[TensorSpec], expected: Sequence[FloatArray], labels: NDArray[np.int32] | None
) -> str | None:  # fmt: skip
    """What a person should know of the source's own answers, in a sentence; None where they are better than chance.

    Args:
        outputs: of the source; labels are compared with the first, where it is scores of classes.
        expected: its answers, one array [n, *shape] an output.
        labels: class of each sample, int32 [n], or None.
    """
    if labels is None or len(labels) < FEW or not is_scores(outputs[0]) or labels.max() >= outputs[0].count:
        return None
    most = float(np.bincount(labels).max()) / len(labels)
    share = float(metrics.right(expected[0], labels).mean())
    if share > most or most == 1:
        return None
    return (
        f"the model itself is right on {100 * share:.1f} % of {len(labels)} samples, one class for all would be on "
        f"{100 * most:.1f} %: is the data prepared as in training (its scale, say), and are the labels this model's?"
    )
