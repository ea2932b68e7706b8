"""The step that runs two models over the same samples and measures how far their tensors lie apart.

One sample at a time, sums only: memory does not grow with the samples. The difference d = b − a is judged against the
reference a:

* SQNR = 10 · log10(Σa² / Σd²) in dB, and cosine = Σab / √(Σa² Σb²), over all elements and samples.
* Of a part (a channel: the last axis; the second in ONNX tensors of rank 4 and more): 10 · log10(var(a) / mean(d²)).
  The variance and not the power, so that an offset that all samples share cannot hide an error, and each part by
  itself, so that a large part cannot hide a small one (boxes beside scores).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError
from edgeship.targets import feed

MOST_DB = 200.0  # of a tensor without any difference
MAX_PARTS = 4096
_FLAT = 1e-6  # a part whose variance is below this share of the largest is hardly a signal to lose
_DEAD = 1e-10  # of the error that a layer makes by itself: values around 1 beside ones around 10,000 are a signal

Float = NDArray[np.float64]


class Runner(Protocol):
    """A loaded model: `onnx.trace.Trace`, `tflite.trace.Trace`."""

    def run(self, data: Mapping[str, feed.Array], index: int) -> Mapping[Any, feed.Array]:
        """Values of the tensors that were asked for, by what they were asked by."""
        ...


class Isolated(Protocol):
    """Layers that each take what they are given: `onnx.trace.Isolated`, `tflite.trace.Isolated`."""

    @property
    def reads(self) -> Sequence[Any]:
        """Tensors that have to be given."""
        ...

    def run(self, values: Mapping[Any, feed.Array]) -> Mapping[Any, feed.Array]:
        """First tensor of each layer -> what it writes."""
        ...


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG001 - the shape of every step
    """Measure pairs of tensors.

    Args:
        request: "a", "b": {"format", "path", "inputs": input -> name of its samples}; "pairs": [[read of a, read of
            b]]; "samples": a feed.
        folder: not used.

    Returns:
        {"pairs": what `Pair.result` gives, or null for a pair that could not be read; with "own": Σ(b − f(b's inputs))²
        over Σa², where f is the layer of a: the error that this layer of b makes by itself, and "own_part": the part
        where that is worst; both null where f cannot be run alone}.
    """
    pairs, data = request["pairs"], feed.read(request["samples"])
    runners = [runner(request[side], [pair[at] for pair in pairs]) for at, side in enumerate("ab")]
    channels_first = request["a"]["format"] == "onnx"
    kept: list[Pair | None] = [None] * len(pairs)
    alone = _isolated(request["a"], [pair[0] for pair in pairs])
    own: dict[int, Pair] = {}
    place = {pair[0]: at for at, pair in enumerate(pairs)}
    for index in range(len(next(iter(data.values())))):
        first, second = (runner.run(data, index) for runner in runners)
        for at, (one, other) in enumerate(pairs):
            a, b = first.get(one), second.get(other)
            if a is None or b is None or a.size != b.size or not a.size:
                continue
            if kept[at] is None:
                kept[at] = Pair(a.shape, channels_first=channels_first)
            item = kept[at]
            assert item is not None
            item.add(np.asarray(a, np.float64), np.asarray(b, np.float64).reshape(a.shape))
        if alone is None:
            continue
        given = {name: data[key][index] for name, key in request["a"]["inputs"].items()}
        given |= {
            one: second[other].reshape(first[one].shape) for one, other in pairs if _both(first, second, one, other)
        }
        if not all(key in given for key in alone.reads):
            alone = None  # a tensor has no value after all: no error is told apart from that of the layers before
            own.clear()
            continue
        for key, value in alone.run(given).items():
            at = place.get(key, -1)
            if at >= 0 and key in first and pairs[at][1] in second:
                pair = own.setdefault(at, Pair(value.shape, channels_first=channels_first))
                there = np.asarray(second[pairs[at][1]], np.float64).reshape(value.shape)
                pair.add(np.asarray(value, np.float64), there)
    out: list[dict[str, Any] | None] = []
    for at, found in enumerate(kept):
        made = own.get(at)
        if found is None:
            out.append(None)
        elif made is None or found.aa <= 0:
            out.append({**found.result(), "own": None, "own_part": None})
        else:
            out.append({**found.result(), "own": min(made.dd / found.aa, 1e20), "own_part": made.worst(_DEAD)})
    return {"pairs": out}


def _both(first: Mapping[Any, feed.Array], second: Mapping[Any, feed.Array], one: Any, other: Any) -> bool:
    return one in first and other in second and first[one].size == second[other].size


def _isolated(side: Mapping[str, Any], reads: Sequence[Any]) -> Isolated | None:
    """The layers of a model each by itself; None where they cannot be run like that, which the log tells."""
    path, available = Path(side["path"]), [*reads, *side["inputs"]]
    try:
        if side["format"] == "onnx":
            from edgeship.targets.onnx import trace as onnx

            return onnx.Isolated(path, available)
        from edgeship.targets.tflite import trace as tflite

        return tflite.Isolated(path, available)
    except ConversionError as error:
        print(f"layers by themselves: {error}")  # noqa: T201 - the child's log
        return None


def runner(side: Mapping[str, Any], reads: Sequence[Any]) -> Runner:
    """A model loaded to give the tensors `reads`. Raises ConversionError."""
    path = Path(side["path"])
    if side["format"] == "onnx":
        from edgeship.targets.onnx import trace as onnx

        return onnx.Trace(path, reads, side["inputs"])
    if side["format"] == "tflite":
        from edgeship.targets.tflite import trace as tflite

        return tflite.Trace(path, reads, side["inputs"])
    raise ConversionError(f"no way to look into a model of the format {side['format']!r}")


class Pair:
    """Streaming sums over one pair of tensors."""

    def __init__(self, shape: Sequence[int], *, channels_first: bool) -> None:
        axis = 1 if channels_first and len(shape) >= 4 else len(shape) - 1
        self.axis: int | None = axis if shape and 1 < shape[axis] <= MAX_PARTS else None
        parts = shape[axis] if self.axis is not None else 0
        self.count = self.bad_a = self.bad_b = 0
        self.aa = self.bb = self.ab = self.dd = self.most = 0.0
        self.low, self.high = math.inf, -math.inf
        self.part_count = 0
        self.part_a, self.part_aa, self.part_dd = (np.zeros(parts) for _ in range(3))

    def add(self, a: Float, b: Float) -> None:
        """One sample; numbers that are NaN or infinite are counted and left out of the sums."""
        fine_a, fine_b = np.isfinite(a), np.isfinite(b)
        self.bad_a += int(a.size - fine_a.sum())
        self.bad_b += int(b.size - fine_b.sum())
        both = fine_a & fine_b
        if not both.all():
            a, b = np.where(both, a, 0.0), np.where(both, b, 0.0)
        d = b - a
        self.count += a.size
        self.aa += float(np.vdot(a, a))
        self.bb += float(np.vdot(b, b))
        self.ab += float(np.vdot(a, b))
        self.dd += float(np.vdot(d, d))
        self.most = max(self.most, float(np.abs(d).max()))
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))
        if self.axis is not None:
            others = tuple(i for i in range(a.ndim) if i != self.axis)
            self.part_count += a.size // a.shape[self.axis]
            self.part_a += a.sum(axis=others)
            self.part_aa += (a * a).sum(axis=others)
            self.part_dd += (d * d).sum(axis=others)

    def result(self) -> dict[str, Any]:
        """The measures, all finite.

        Returns:
            "elements" compared; "nan_a", "nan_b": how many were NaN or infinite; "cosine"; "sqnr_db"; "noise": Σd²/Σa²;
            "max_abs"; "low", "high": range of a; "relative": max_abs over that range; "worst_part":
            {"axis", "index", "sqnr_db", "share": how much it varies, of what the part that varies most does} or null.
        """
        norm = math.sqrt(self.aa * self.bb)
        width = self.high - self.low
        return {
            "elements": self.count, "nan_a": self.bad_a, "nan_b": self.bad_b,
            "cosine": self.ab / norm if norm > 0 else 1.0 if self.dd == 0 else 0.0,
            "sqnr_db": decibel(self.aa, self.dd), "noise": min(self.dd / self.aa, 1e20) if self.aa > 0 else float(
                self.dd > 0), "max_abs": self.most, "low": self.low, "high": self.high,
            "relative": self.most / width if width > 0 else float(self.most > 0), "worst_part": self.worst(_FLAT),
        }  # fmt: skip

    def worst(self, flat: float) -> dict[str, Any] | None:
        """The part with the least signal over noise, of those whose variance is above a share of the largest."""
        if self.axis is None or not self.part_count:
            return None
        variance = np.maximum(self.part_aa / self.part_count - (self.part_a / self.part_count) ** 2, 0.0)
        alive = np.flatnonzero(variance > flat * max(float(variance.max()), 1e-300))
        if not len(alive):
            return None
        levels = [decibel(float(variance[i]), float(self.part_dd[i] / self.part_count)) for i in alive]
        worst = int(np.argmin(levels))
        share = math.sqrt(float(variance[alive[worst]]) / float(variance.max()))
        return {"axis": self.axis, "index": int(alive[worst]), "sqnr_db": levels[worst], "share": share}


def decibel(signal: float, noise: float) -> float:
    """10 · log10(signal / noise), within ± `MOST_DB`."""
    if noise <= 0:
        return MOST_DB
    if signal <= 0:
        return -MOST_DB
    return max(-MOST_DB, min(MOST_DB, 10 * math.log10(signal / noise)))
