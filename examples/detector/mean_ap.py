"""Mean average precision of a detector, as a metric of one's own for edgeship.

    [data]
    metric = "mean_ap:map50"        # this file beside edgeship.toml

The model answers "boxes" [n, k, 4] (x1, y1, x2, y2) and "scores" [n, k, classes]. What is true stands in `targets`,
[n, m, 5]: class, x1, y1, x2, y2 of each object; rows that are not needed have the class −1.

Average precision is the area under precision over recall, with precision made falling from right to left, as in
Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 88 (2010), section 4.2 (all points).
"""

from __future__ import annotations

import numpy as np

OVERLAP = 0.5  # of a box and an object, intersection over union, from which on it counts as found
LOWEST = 0.05  # score of a box that is looked at


def map50(answers, targets):
    """Mean over the classes that occur of their average precision: one number, 1 is perfect."""
    boxes, scores = (np.asarray(answers[name]) for name in ("boxes", "scores"))
    boxes = boxes.reshape(len(targets), -1, 4)
    scores = scores.reshape(len(targets), boxes.shape[1], -1)
    classes = np.unique(targets[..., 0][targets[..., 0] >= 0]).astype(int)
    found = [_average_precision(boxes, scores[..., c], [t[t[:, 0] == c, 1:] for t in targets]) for c in classes]
    return float(np.mean(found)) if found else 0.0


def _average_precision(boxes, scores, objects):
    """Area under the curve of one class.

    Args:
        boxes: [n, k, 4].
        scores: [n, k].
        objects: true boxes of each image, [m, 4] each.
    """
    image, box = np.nonzero(scores >= LOWEST)
    order = np.argsort(-scores[image, box], kind="stable")
    taken = [np.zeros(len(true), bool) for true in objects]
    hits = np.zeros(len(order))
    for rank, at in enumerate(order):
        true = objects[image[at]]
        if not len(true):
            continue
        overlap = _overlap(boxes[image[at], box[at]], true)
        best = int(overlap.argmax())
        if overlap[best] >= OVERLAP and not taken[image[at]][best]:
            taken[image[at]][best] = True
            hits[rank] = 1
    total = sum(len(true) for true in objects)
    recall = np.cumsum(hits) / total
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _overlap(box, others):
    """Intersection over union of a box with each of others [m, 4]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / np.maximum(areas - common, 1e-12)
