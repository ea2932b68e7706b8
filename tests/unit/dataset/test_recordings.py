"""Recordings become waveforms of the model's length, rate and range; what cannot be is named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import dataset
from edgeship.dataset import recordings
from edgeship.dataset.recordings import WavReader, read_wav
from edgeship.errors import InputError, UsageError
from edgeship.preparation import Preparation, from_flags
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.media import wav

SPEC = TensorSpec("audio", "float32", (1, 100))
Wave = np.ndarray[Any, np.dtype[Any]]


def tone(n: int, hertz: float = 440, rate: int = 16000, loud: float = 0.5) -> Wave:
    return loud * np.sin(2 * np.pi * hertz * np.arange(n) / rate)


def read(path: Path, *pairs: str, spec: TensorSpec = SPEC) -> Wave:
    return WavReader(spec, from_flags(pairs)).read(path)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("bits", "floats", "step"),
    [
        (8, False, 2**-7),
        (16, False, 2**-15),
        (24, False, 2**-23),
        (32, False, 1e-7),
        (32, True, 1e-7),
        (64, True, 1e-7),
    ],
)
def test_every_width_of_samples_is_read(
    tmp_path: Path, bits: int, floats: bool, step: float, extensible: bool
) -> None:  # fmt: skip
    wanted = tone(50)
    rate, samples = read_wav(wav(tmp_path / "a.wav", wanted, 8000, bits=bits, floats=floats, extensible=extensible))
    assert rate == 8000
    assert samples.shape == (50, 1)
    assert samples.dtype == np.float32
    assert np.abs(samples[:, 0] - wanted).max() <= step


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_full_scale_is_minus_one_to_nearly_one(tmp_path: Path, bits: int) -> None:
    _, samples = read_wav(wav(tmp_path / "a.wav", np.array([-1.0, 0.0, 1.0]), bits=bits))
    assert samples[:2, 0].tolist() == [-1, 0]
    assert 1 - 2.0 ** (1 - bits) <= samples[2, 0] <= 1


def test_channels_are_mixed_to_their_mean(tmp_path: Path) -> None:
    both = np.stack([tone(100), np.zeros(100)], axis=1)
    assert np.allclose(read(wav(tmp_path / "a.wav", both))[0], tone(100) / 2, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 100), (1, 1, 100), (1, 100, 1), (100,)])
def test_a_waveform_has_any_shape_of_one_long_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    made = read(wav(tmp_path / "a.wav", tone(100)), spec=TensorSpec("audio", "float32", shape))
    assert made.shape == (1, *(shape[1:] if shape[0] == 1 else shape))


@pytest.mark.parametrize("shape", [(1, 96, 64), (1, 1), (1,), ()])
def test_a_spectrogram_is_no_waveform(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="takes no waveform"):
        WavReader(TensorSpec("audio", "float32", shape), Preparation())


def test_what_is_short_is_filled_and_what_is_long_is_cut(tmp_path: Path) -> None:
    short = read(wav(tmp_path / "a.wav", tone(30)))[0]
    assert np.allclose(short[:30], tone(30), atol=1e-4)
    assert (short[30:] == 0).all()
    ramp = np.arange(250) / 1000
    path = wav(tmp_path / "b.wav", ramp)
    assert np.allclose(read(path)[0], ramp[:100], atol=1e-4)
    assert np.allclose(read(path, "windows=center")[0], ramp[75:175], atol=1e-4)
    every = read(path, "windows=all")
    assert every.shape == (2, 100)
    assert np.allclose(every.reshape(-1), ramp[:200], atol=1e-4)


def test_the_range_is_the_stated_one(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", tone(100))
    assert np.allclose(read(path, "normalize=int16")[0], tone(100) * 32768, atol=1)
    assert np.abs(read(path, "normalize=peak")).max() == 1
    assert (read(wav(tmp_path / "b.wav", np.zeros(100)), "normalize=peak") == 0).all()


def test_an_integer_input_takes_16_bits(tmp_path: Path) -> None:
    spec = TensorSpec("audio", "int16", (1, 100))
    made = read(wav(tmp_path / "a.wav", np.array([-1.0, 1.0, 0.5])), spec=spec)
    assert made[0, :4].tolist() == [-32768, 32767, 16384, 0]
    with pytest.raises(UsageError, match="normalize must be int16"):
        WavReader(spec, Preparation(normalize="peak"))


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    reader = WavReader(TensorSpec("audio", "float32", (1, 1600)), Preparation(sample_rate=16000))
    made = reader.read(wav(tmp_path / "a.wav", tone(4410, rate=44100), 44100))[0]
    assert np.abs(made - tone(1600))[50:-50].max() < 2e-3, "the same tone at the new rate"
    assert reader.says()["resampling"] == "scipy.signal.resample_poly"
    assert reader.says()["sample_rate"] == 16000


def test_rates_that_differ_are_refused_where_none_is_stated(tmp_path: Path) -> None:
    reader = WavReader(SPEC, Preparation())
    reader.read(wav(tmp_path / "a.wav", tone(100), 16000))
    assert (reader.says()["sample_rate"], reader.says()["resampling"]) == (16000, "none")
    with pytest.raises(InputError, match="8000 Hz, the recordings before it have 16000") as caught:
        reader.read(wav(tmp_path / "b.wav", tone(100), 8000))
    assert "--prepare sample_rate=16000" in str(caught.value.hint)


@pytest.mark.parametrize("pair", ["normalize=0..1", "normalize=imagenet", "mean=0.5", "std=2"])
def test_what_is_for_images_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="for images"):
        WavReader(SPEC, from_flags([pair]))


def test_damaged_recordings_are_refused(tmp_path: Path) -> None:
    whole = wav(tmp_path / "a.wav", tone(200)).read_bytes()
    cut = tmp_path / "cut.wav"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"not a WAV file|truncated|cut off"):
            read_wav(cut)
    with pytest.raises(InputError, match="truncated: 4294967295 bytes of samples declared, 400 there"):
        read_wav(wav(cut, tone(200), declared=0xFFFFFFFF))
    with pytest.raises(InputError, match="no samples in it"):
        read_wav(wav(cut, np.zeros(0)))
    cut.write_bytes(whole.replace(b"\x02\x00\x10\x00data", b"\x02\x00\x0c\x00data"))
    with pytest.raises(InputError, match="coding 1 with 12 bits is not read"):
        read_wav(cut)
    with pytest.raises(InputError, match="NaN or infinite"):
        read_wav(wav(cut, np.array([0.0, np.nan]), bits=32, floats=True))


def test_flipped_bytes_give_declared_errors_or_samples(tmp_path: Path) -> None:
    raw = wav(tmp_path / "a.wav", tone(20)).read_bytes()
    rng = np.random.default_rng(2)
    path = tmp_path / "flipped.wav"
    for _ in range(500):
        changed = bytearray(raw)
        changed[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(InputError):
            assert np.isfinite(read_wav(path)[1]).all()


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wav(tmp_path / "a.wav", tone(200), 1000)
    monkeypatch.setattr(recordings, "MAX_FILE", 100)
    with pytest.raises(InputError, match="over the limit of 100"):
        read_wav(path)
    monkeypatch.setattr(recordings, "MAX_FILE", 1 << 20)
    monkeypatch.setattr(recordings, "MAX_SAMPLES", 1000)
    with pytest.raises(InputError, match="200 samples at 1000 Hz are too many to be made 768000 Hz"):
        WavReader(SPEC, Preparation(sample_rate=768_000)).read(path)


def test_a_folder_of_recordings_becomes_samples_and_windows_of_one_stay_together(tmp_path: Path) -> None:
    for name, n in (("no/a", 100), ("no/b", 250), ("yes/c", 310)):
        wav(tmp_path / f"{name}.wav", tone(n))
    data = dataset.read(tmp_path, [SPEC], preparation=Preparation(windows="all"))
    assert data.inputs["audio"].shape == (6, 1, 100)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 1, 2, 2, 2]
    assert data.preparation == {
        "kind": "recordings", "sample_rate": 16000, "length": 100, "channels": "mean", "windows": "all",
        "padding": "zeros at the end", "normalize": "-1..1", "resampling": "none",
    }  # fmt: skip
    (tmp_path / "no" / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"1 of 3 files cannot be used\n  no/b\.wav: not a WAV file"):
        dataset.read(tmp_path, [SPEC])
