"""How far the answers of two models lie apart, output by output and part by part.

A figure for a whole output is blind: where boxes of 0 to 320 and scores of 0 to 1 stand in one tensor, all scores can
be lost and the cosine is still 0.9995. So each output is also taken apart: vectors and tables along their last axis
(columns: classes, coordinates, features) and the one before (rows: heads, anchors, time steps), maps along their
channels.

Rules this module keeps:

* An error is compared with the part's own span in the source's answers, never with that of the whole. The span is the
  range with 0 in it: a quantizer must represent 0 too, so an integer step is a part of that.
* Two models that always answer the same agree with nobody: the cosine is also taken after the mean over the samples is
  removed from each element.
* Sums are made sample by sample: memory grows with the size of one answer, not with the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeship.runtime.manifest import TensorSpec

#: Parts along one axis; of more, neighbours are taken together.
MAX_PARTS = 4096

#: A sample is clear where the source's highest score leads by this part of the range of all its scores.
CLEAR = 0.1

_CHUNK = 1 << 20  # numbers that are looked at together
_STILL = 1e-14  # energy of what varies, in that of the answers: the last digit of float32 is no variation
_UNIT = 1e-4  # how far outside 0 to 1 a share may lie

FloatArray = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class PartError:
    """One part of one output, or all of it.

    Attributes:
        output: name of the output.
        part: "" for all of it, else `column 4`, `columns 8–11`, `channel 2`, `row 3`.
        axis: "" or the word in `part`: column, row, channel.
        elements: numbers a sample.
        low, high: what the source answers.
        unit: whether the source's answers are shares: all within 0 to 1.
        cosine: of all answers as one vector; 1 where both are nothing but 0.
        sqnr_db: 10 log10 of the source's energy over that of the error, decibels; infinite without an error.
        centred: cosine after each element's mean over the samples is removed; None where the source does not vary.
        loud: the largest magnitude of the whole output.
        varies: root mean square of the source after that, in spans.
        rms: root mean square of the error, in spans.
        worst: largest error, in spans.
        broken: numbers that are NaN or infinite where the source's are not, or are not where the source's are.
        constant: the source varies with the sample, the variant does not.
        agreement: share of samples whose highest number stands in the same place; score vectors only.
        clear: the same of the samples that the source is clear about (`CLEAR`); None without any.
        clear_samples: how many these are.
    """

    output: str
    part: str
    axis: str
    elements: int
    low: float
    high: float
    unit: bool
    loud: float
    cosine: float
    sqnr_db: float
    centred: float | None
    varies: float
    rms: float
    worst: float
    broken: int
    constant: bool
    agreement: float | None = None
    clear: float | None = None
    clear_samples: int = 0

    @property
    def range(self) -> float:
        """Of the source's answers: high − low."""
        return self.high - self.low

    @property
    def span(self) -> float:
        """The range with 0 in it; that of the whole output where the source answers nothing but 0 here."""
        return (max(self.high, 0.0) - min(self.low, 0.0)) or self.loud

    @property
    def name(self) -> str:
        """For people: `detections, column 4`."""
        return f"{self.output}, {self.part}" if self.part else self.output


def measure(
    expected: Sequence[FloatArray], given: Sequence[FloatArray], outputs: Sequence[TensorSpec]
) -> tuple[PartError, ...]:
    """Errors of all outputs: of each first as a whole, then of its parts.

    Args:
        expected: the source's answers, one array [n, *shape] an output; real values.
        given: the variant's, likewise.
        outputs: what they are.

    Raises:
        ValueError: shapes or numbers of outputs differ.
    """
    out: list[PartError] = []
    for wanted, got, spec in zip(expected, given, outputs, strict=True):
        if wanted.shape != got.shape:
            raise ValueError(f"output {spec.name!r}: {wanted.shape} and {got.shape} cannot be compared")
        sums = _sums(wanted, got)
        same = _agreement(wanted, got) if spec.count >= 2 and spec.count == spec.shape[-1] else (None, None, 0)
        loud = _magnitude(sums)
        out.append(_part(spec.name, "", "", sums, loud, *same))
        for axis, word in axes(wanted.shape):
            out += [_part(spec.name, label, word, part, loud) for label, part in _apart(sums, axis - 1, word)]
    return tuple(out)


def axes(shape: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Which axes of answers [n, …] are taken apart, and what a part of each is called.

    The batch axis of 1 that outputs carry is passed over.
    """
    start = 2 if len(shape) > 2 and shape[1] == 1 else 1
    last = len(shape) - 1
    if last < start:
        return ()
    if last - start >= 2:  # a map: places are many and alike, what differs are its channels
        axis = start if _channels_first(shape[start:]) else last
        return ((axis, "channel"),) if shape[axis] > 1 else ()
    found = [(last, "column")] if shape[last] > 1 else []
    if start < last and shape[start] > 1:
        found.append((start, "row"))
    return tuple(found)


def _channels_first(shape: Sequence[int]) -> bool:
    """Whether [C, H, …] or [H, …, C]: height and width are often equal; else there are fewer channels than places."""
    if shape[0] == shape[1] != shape[-1]:
        return False
    return shape[-2] == shape[-1] != shape[0] or shape[0] < shape[-1]


# ── sums over the samples, element by element ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Sums:
    """Of n samples, each an array [*shape]; pairs where one is NaN or infinite are left out and counted."""

    count: Double  # pairs that were summed
    e2: Double
    g2: Double
    eg: Double
    d2: Double  # of the error
    # of what is left after the first sample of the source is taken away, so that large means cost no digits:
    e: Double
    g: Double
    ee: Double
    gg: Double
    eeg: Double
    far: Double  # largest error
    low: Double
    high: Double
    broken: Double

    def take(self, axis: int, start: int, stop: int) -> _Sums:
        """The elements start…stop of an axis."""
        at = (slice(None),) * axis + (slice(start, stop),)
        return _Sums(**{name: array[at] for name, array in vars(self).items()})


def _sums(wanted: FloatArray, got: FloatArray) -> _Sums:
    shape = wanted.shape[1:]
    zero = {name: np.zeros(shape) for name in _Sums.__dataclass_fields__}
    zero["low"] += np.inf
    zero["high"] -= np.inf
    shift = np.nan_to_num(np.asarray(wanted[0], np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    step = max(1, _CHUNK // max(1, math.prod(shape)))
    for start in range(0, len(wanted), step):
        e = np.asarray(wanted[start : start + step], np.float64)
        g = np.asarray(got[start : start + step], np.float64)
        sound, heard = np.isfinite(e), np.isfinite(g)
        good = sound & heard
        zero["broken"] += ((sound != heard) | (~good & (sound == heard) & ~_alike(e, g))).sum(axis=0)
        low, high = np.where(sound, e, np.inf).min(axis=0), np.where(sound, e, -np.inf).max(axis=0)
        zero["low"], zero["high"] = np.minimum(zero["low"], low), np.maximum(zero["high"], high)
        e, g = np.where(good, e, 0.0), np.where(good, g, 0.0)
        zero["far"] = np.maximum(zero["far"], np.abs(e - g).max(axis=0))
        es, gs = np.where(good, e - shift, 0.0), np.where(good, g - shift, 0.0)
        for name, value in (
            ("count", good), ("e2", e * e), ("g2", g * g), ("eg", e * g), ("d2", (e - g) ** 2), ("e", es), ("g", gs),
            ("ee", es * es), ("gg", gs * gs), ("eeg", es * gs),
        ):  # fmt: skip
            zero[name] += value.sum(axis=0)
    return _Sums(**zero)


def _alike(e: Double, g: Double) -> NDArray[np.bool_]:
    """Where both are NaN, or the same infinity: a mask of −∞ is an answer."""
    same: NDArray[np.bool_] = (np.isnan(e) & np.isnan(g)) | (e == g)
    return same


def _apart(sums: _Sums, axis: int, word: str) -> Iterator[tuple[str, _Sums]]:
    size = sums.count.shape[axis]
    width = -(-size // MAX_PARTS)
    for start in range(0, size, width):
        stop = min(start + width, size)
        label = f"{word} {start}" if stop - start == 1 else f"{word}s {start}–{stop - 1}"
        yield label, sums.take(axis, start, stop)


def _part(
    output: str, part: str, axis: str, s: _Sums, loud: float, agreement: float | None = None,
    clear: float | None = None, clear_samples: int = 0,
) -> PartError:  # fmt: skip
    total = float(s.count.sum())
    low, high = float(s.low.min()), float(s.high.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        low = high = 0.0
    span = (max(high, 0.0) - min(low, 0.0)) or loud
    d2, e2 = float(s.d2.sum()), float(s.e2.sum())
    n = np.maximum(s.count, 1.0)
    moved = float(np.maximum(s.ee - s.e * s.e / n, 0.0).sum())
    answered = float(np.maximum(s.gg - s.g * s.g / n, 0.0).sum())
    together = float((s.eeg - s.e * s.g / n).sum())
    still = moved <= _STILL * max(e2, 1e-30)
    quiet = answered <= _STILL * max(float(s.g2.sum()), 1e-30)
    return PartError(
        output=output, part=part, axis=axis, elements=s.count.size, low=low, high=high,
        unit=low >= -_UNIT and high <= 1 + _UNIT, loud=loud,
        cosine=_cosine(float(s.eg.sum()), e2, float(s.g2.sum())),
        sqnr_db=math.inf if d2 == 0 else -math.inf if e2 == 0 else 10 * math.log10(e2 / d2),
        centred=None if still else 0.0 if quiet else _cosine(together, moved, answered),
        varies=_over(math.sqrt(moved / total) if total else 0.0, span),
        rms=_over(math.sqrt(d2 / total) if total else 0.0, span), worst=_over(float(s.far.max()), span),
        broken=int(s.broken.sum()), constant=not still and quiet, agreement=agreement, clear=clear,
        clear_samples=clear_samples,
    )  # fmt: skip


def _magnitude(s: _Sums) -> float:
    ends = np.abs(np.stack([s.low, s.high]))
    return float(np.where(np.isfinite(ends), ends, 0.0).max())


def _over(value: float, span: float) -> float:
    return value / span if span > 0 else math.inf if value > 0 else 0.0


def _cosine(dot: float, a2: float, b2: float) -> float:
    if a2 == 0 or b2 == 0:
        return 1.0 if a2 == b2 else 0.0
    return min(1.0, max(-1.0, dot / math.sqrt(a2 * b2)))


def _agreement(wanted: FloatArray, got: FloatArray) -> tuple[float | None, float | None, int]:
    """Of score vectors: share of samples with the same highest place; the same of clear samples; how many are clear."""
    e = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
    g = np.asarray(got, np.float64).reshape(len(got), -1)
    usable = np.isfinite(e).all(axis=1)
    if not usable.any():
        return None, None, 0
    e, g = e[usable], g[usable]
    same = (e.argmax(axis=1) == g.argmax(axis=1)) & np.isfinite(g).all(axis=1)
    ordered = np.sort(e, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > CLEAR * (e.max() - e.min())
    return float(same.mean()), float(same[clear].mean()) if clear.any() else None, int(clear.sum())
