"""Real exported PyTorch programs for tests, made by one torch child: `make(folder)`.

net.pt2         "x" [?, 3, 8, 8] channels first -> convolution, batch norm, dense -> "softmax"; its sample inputs are
                poisoned: whoever unpickles them writes `poisoned` beside it
two.pt2         int64 "ids" [1, 5] and float32 "mask" [1, 5] -> a pair, through an embedding; fixed shapes
train.pt2, half.pt2, open.pt2, object.pt2      what must be refused: exported in training, float16 weights, an open
                width, a number among the inputs

net and two go through the export step right away: `keras_models.exported(folder, name)` gives what came out.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeship.targets import child

SAMPLES = 70  # more than a batch
_STEP = "tests.simulators.torch_models"


def make(folder: Path) -> Path:
    """Write all of them into `folder`; takes about ten seconds."""
    child.run(_STEP, {}, folder, limits=child.CONVERT, subject="torch models")
    return folder


def rewrite(old: Path, new: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive: `change(member without its root, bytes)` gives the new bytes, or None to leave it out."""
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as result:
        for name in source.namelist():
            data = change(name.partition("/")[2], source.read(name))
            if data is not None:
                result.writestr(name, data)
    return new


class Poison:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "executed")


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step: runs in the child."""
    import torch
    from torch import nn

    torch.manual_seed(5)

    class Net(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.dense = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 10)

        def forward(self, x: Any) -> Any:
            return self.dense(torch.relu(self.norm(self.conv(x))).flatten(1)).softmax(-1)

    class Two(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)

        def forward(self, ids: Any, mask: Any) -> Any:
            found = self.table(ids) * mask[..., None]
            return found.sum(1), found.amax(-1)

    class Width(nn.Module):  # type: ignore[misc]  # torch has no types here
        def forward(self, x: Any) -> Any:
            return x.sum(-1)

    class Times(nn.Module):  # type: ignore[misc]  # torch has no types here
        def forward(self, x: Any, times: int) -> Any:
            return x * times

    def save(model: Any, name: str, inputs: tuple[Any, ...], shapes: Any = None) -> None:
        torch.export.save(torch.export.export(model, inputs, dynamic_shapes=shapes), folder / f"{name}.pt2")

    dim, image = torch.export.Dim, torch.randn(2, 3, 8, 8)
    net = Net()
    net.norm.running_mean = torch.randn(4)
    save(net, "train", (image,))
    save(net.eval(), "clean", (image,), ({0: dim("batch")},))
    save(net.half(), "half", (image.half(),))
    save(Two(), "two", (torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5)))
    save(Width(), "open", (torch.randn(1, 7),), ({1: dim("width")},))
    save(Times(), "object", (torch.randn(1, 7), 3))
    poison = pickle.dumps(Poison(folder / "poisoned"))
    rewrite(folder / "clean.pt2", folder / "net.pt2", lambda name, data: poison if "sample_inputs" in name else data)
    for name in ("net", "two"):
        _export(folder, name)
    return {}


def _export(folder: Path, name: str) -> None:
    import numpy as np

    from edgeship.dataset import Dataset
    from edgeship.targets import feed
    from edgeship.targets.torch import inspect
    from edgeship.targets.torch import perform as step

    out = folder / f"{name}-export"
    out.mkdir()
    path = str(folder / f"{name}.pt2")
    specs = inspect.perform({"path": path}, out)["inputs"]
    rng = np.random.default_rng(3)
    inputs = {
        s["name"]: rng.integers(0, 11, size=(SAMPLES, *s["shape"])) if s["dtype"] == "int64"
        else rng.normal(size=(SAMPLES, *s["shape"])).astype(s["dtype"])
        for s in specs
    }  # fmt: skip
    np.savez(folder / f"{name}.npz", allow_pickle=False, **inputs)
    request = {
        "path": path, "inputs": list(inputs), "formats": ["onnx"], "answers": [feed.write(Dataset(inputs), out)],
    }  # fmt: skip
    (out / "outcome.json").write_text(json.dumps(step.perform(request, out)))
