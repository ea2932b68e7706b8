"""Recordings (WAV) as a model takes them: mono, of one rate, cut or filled to the input's length. Runs in a child.

The RIFF structure is read here: the standard library's `wave` knows neither float samples nor, before Python 3.12, the
extensible header that 24-bit files have. Format: Microsoft, "Multiple channel audio data and WAVE files".
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.dataset.values import sample_shape
from edgeship.errors import InputError, UsageError
from edgeship.preparation import WAVES, Preparation
from edgeship.runtime.manifest import TensorSpec

MAX_FILE = 1 << 30  # bytes of one recording: an hour of stereo in CD quality is 0.6 GB
MAX_SAMPLES = 1 << 28  # of one recording that was resampled

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_AGAIN = "write it again as 16-bit PCM"

FloatArray = NDArray[np.float32]


def read_wav(path: Path) -> tuple[int, FloatArray]:
    """A recording.

    Returns:
        (rate in Hz, samples [n, channels] in −1…1).

    Raises:
        InputError: no WAV, truncated, empty, compressed, too large.
    """
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InputError(f"{size} bytes are over the limit of {MAX_FILE}")
    raw = path.read_bytes()
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise InputError("not a WAV file")
    form: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(raw):
        name, length = struct.unpack_from("<4sI", raw, at)
        at += 8
        if name == b"fmt ":
            form = _format(raw[at : at + length])
        elif name == b"data":
            if form is None:
                raise InputError("no format before the samples")
            if length > len(raw) - at:
                raise InputError(f"truncated: {length} bytes of samples declared, {len(raw) - at} there")
            return form[2], _samples(raw[at : at + length], form)
        at += length + length % 2
    raise InputError("truncated: no samples in it")


def _format(chunk: bytes) -> tuple[int, int, int, int]:
    """(coding, channels, rate, bits a sample)."""
    if len(chunk) < 16:
        raise InputError("its format is cut off")
    coding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if coding == _EXTENSIBLE and len(chunk) >= 26:
        coding = int.from_bytes(chunk[24:26], "little")
    if (coding, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise InputError(f"coding {coding} with {bits} bits is not read", hint=_AGAIN)
    if not 1 <= channels <= 64 or not 1000 <= rate <= 768_000:
        raise InputError(f"{channels} channels at {rate} Hz cannot be")
    return coding, channels, rate, bits


def _samples(raw: bytes, form: tuple[int, int, int, int]) -> FloatArray:
    coding, channels, _, bits = form
    width = bits // 8 * channels
    frames = len(raw) // width
    if frames == 0:
        raise InputError("no samples in it")
    raw = raw[: frames * width]
    real: FloatArray
    if coding == _FLOAT:
        real = np.frombuffer(raw, f"<f{bits // 8}").astype(np.float32)  # what does not fit becomes infinite
        if not np.isfinite(real).all():
            raise InputError("samples that are NaN or infinite")
    elif bits == 8:
        real = ((np.frombuffer(raw, np.uint8) - 128.0) / 128).astype(np.float32)
    elif bits == 24:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts  # the high bytes: the sign is where int32 has it
        real = (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    else:
        real = (np.frombuffer(raw, f"<i{bits // 8}") / 2.0 ** (bits - 1)).astype(np.float32)
    return real.reshape(frames, channels)


class WavReader:
    """Reads recordings for one input.

    Raises:
        UsageError: the input takes no waveform, or the preparation is one for images.
    """

    def __init__(self, spec: TensorSpec, preparation: Preparation) -> None:
        shape = sample_shape(spec)
        self._shape, self._length = shape, math.prod(shape)
        if self._length < 2 or max(shape, default=1) != self._length:
            raise UsageError(
                f"the input {spec.name!r} {list(spec.shape)} takes no waveform",
                hint="a model of spectrograms: compute them as in training and write an .npz, or give a Python "
                "function that makes the arrays",
            )
        self._integers = not spec.scale and not spec.dtype.startswith("float")
        self._normalize = preparation.normalize or ("int16" if self._integers else "-1..1")
        if self._normalize not in WAVES:
            raise UsageError(f"normalize = {self._normalize} is for images", hint=f"recordings: {', '.join(WAVES)}")
        if self._integers and self._normalize != "int16":
            raise UsageError(
                f"the input {spec.name!r} takes {spec.dtype}: normalize must be int16", hint="or the float model"
            )
        if preparation.mean or preparation.std:
            raise UsageError("mean and std are for images", hint=f"recordings take normalize: {', '.join(WAVES)}")
        self._stated, self._windows = preparation.sample_rate, preparation.windows
        self._found: int | None = None  # Hz of the first recording
        self._resampled = False

    def says(self) -> dict[str, Any]:
        """All that decides the values, for the recipe. After the last `read`."""
        how: dict[str, Any] = {"resampling": "none"}
        if self._resampled:
            import scipy

            how = {"resampling": "scipy.signal.resample_poly", "scipy": scipy.__version__}
        return {
            "kind": "recordings", "sample_rate": self._stated or self._found, "length": self._length,
            "channels": "mean", "windows": self._windows, "padding": "zeros at the end", "normalize": self._normalize,
            **how,
        }  # fmt: skip

    def read(self, path: Path) -> NDArray[Any]:
        """One or more windows of a recording, [k, *sample].

        Raises:
            InputError: see `read_wav`; or another rate than the recordings before, where none was stated.
        """
        rate, samples = read_wav(path)
        if self._stated is None and self._found not in (None, rate):
            raise InputError(
                f"{rate} Hz, the recordings before it have {self._found}",
                hint="state the model's rate: sample_rate in [data.preparation], or --prepare sample_rate=16000",
            )
        self._found = self._found or rate
        mono = self._resample(samples.mean(axis=1, dtype=np.float64), rate)
        return self._scaled(self._cut(mono)).reshape(-1, *self._shape)

    def _resample(self, mono: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
        wanted = self._stated or rate
        if rate == wanted:
            return mono
        from scipy.signal import resample_poly

        if len(mono) * wanted // rate > MAX_SAMPLES:
            raise InputError(f"{len(mono)} samples at {rate} Hz are too many to be made {wanted} Hz")
        self._resampled = True
        common = math.gcd(wanted, rate)
        resampled: NDArray[np.float64] = resample_poly(mono, wanted // common, rate // common)
        return resampled

    def _cut(self, mono: NDArray[np.float64]) -> NDArray[np.float64]:
        """[k, length]."""
        length = self._length
        if len(mono) <= length:
            return np.pad(mono, (0, length - len(mono)))[None]
        if self._windows == "all":  # the rest, shorter than a window, is left out
            return mono[: len(mono) // length * length].reshape(-1, length)
        start = 0 if self._windows == "first" else (len(mono) - length) // 2
        return mono[None, start : start + length]

    def _scaled(self, windows: NDArray[np.float64]) -> NDArray[Any]:
        if self._normalize == "peak":
            peaks = np.abs(windows).max(axis=1, keepdims=True)
            windows = windows / np.where(peaks > 0, peaks, 1.0)
        elif self._normalize == "int16":
            windows = windows * 32768
        if self._integers:
            return np.clip(np.rint(windows), -32768, 32767)
        return windows.astype(np.float32)
