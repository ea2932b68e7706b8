"""Models that PyTorch exports to ONNX in its own way: run as `python -m tests.zoo.made_torch NAME FOLDER`.

Writes NAME.onnx and data.npz into FOLDER. Weights are random with a seed; what matters is the graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import nn

from tests.zoo import samples

Arrays = Mapping[str, NDArray[Any]]
Made = tuple[Any, Arrays, dict[str, Any]]  # module, input -> [n, …], more arguments of torch.onnx.export


class Recurrent(nn.Module):  # type: ignore[misc]  # torch has no types here
    """A frame of 40 and its state in, classes and the next state out."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Linear(40, 64)
        self.cell = (nn.GRU if kind == "gru" else nn.LSTM)(64, 96, num_layers=2, batch_first=True)
        self.last = nn.Linear(96, 12)

    def forward(self, frame: Any, *state: Any) -> Any:
        x, held = self.cell(torch.relu(self.first(frame)), state[0] if self.kind == "gru" else tuple(state))
        return (self.last(x[:, -1]), *((held,) if self.kind == "gru" else held))


def recurrent(kind: str) -> Made:
    rng, n = np.random.default_rng(0), 96
    frames = (rng.normal(size=(n, 1, 4, 40)) * rng.uniform(0.2, 2, (n, 1, 1, 40))).astype(np.float32)
    held = ("h", "c") if kind == "lstm" else ("h",)
    states = {name: np.tanh(rng.normal(size=(n, 2, 1, 96))).astype(np.float32) for name in held}
    names = ["frame", *states]
    return Recurrent(kind), {"frame": frames, **states}, {
        "input_names": names, "output_names": ["classes", *(f"{name}_next" for name in states)]}  # fmt: skip


class Attention(nn.Module):  # type: ignore[misc]
    """A vision transformer of two blocks over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, 8)
        self.place = nn.Parameter(0.02 * torch.randn(1, 65, 64))
        self.token = nn.Parameter(torch.zeros(1, 1, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Any) -> Any:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.blocks(x)[:, 0])


class Text(nn.Module):  # type: ignore[misc]
    """Tokens and a mask through a transformer encoder, mean over what is not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(500, 48), nn.Embedding(32, 48)
        layer = nn.TransformerEncoderLayer(48, 4, 96, 0.0, "relu", batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        x = self.blocks(x, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)


def text() -> Made:
    rng, n = np.random.default_rng(0), 120
    lengths = rng.integers(3, 33, n)
    mask = (np.arange(32)[None] < lengths[:, None]).astype(np.int64)[:, None]
    ids = rng.integers(1, 500, (n, 1, 32)) * mask
    return Text(), {"input_ids": ids, "attention_mask": mask}, {}


class UNet(nn.Module):  # type: ignore[misc]
    """Segmentation: down twice, up by bilinear resizing and by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 16), (16, 32), (32, 48)))
        self.up, self.d, self.e = nn.ConvTranspose2d(48, 32, 2, 2), nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(48, 2, 1)

    def forward(self, image: Any) -> Any:
        a = F.leaky_relu(self.a(image), 0.1)
        b = F.silu(self.b(F.max_pool2d(a, 2)))
        c = F.hardswish(self.c(F.max_pool2d(b, 2)))
        d = F.relu(self.d(torch.cat([self.up(c), b], 1)))
        up = F.interpolate(d, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.softmax(self.e(torch.cat([up, a], 1)), 1)


class Separable(nn.Module):  # type: ignore[misc]
    """Depthwise separable convolutions with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24)
        self.depth, self.point = nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.Conv2d(24, 40, 1)
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.head = nn.Linear(40, 10)

    def forward(self, image: Any) -> Any:
        x = F.hardswish(self.norm(self.stem(image)))
        x = F.relu6(self.depth(x))
        x = x * F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(F.relu(self.point(x)).mean((2, 3)))


class Sound(nn.Module):  # type: ignore[misc]
    """Convolutions of one dimension on the wave, dilated, with a residual and gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 32, 64, 16)
        self.filters = nn.ModuleList(nn.Conv1d(32, 64, 3, padding=2**i, dilation=2**i) for i in range(3))
        self.outs = nn.ModuleList(nn.Conv1d(32, 32, 1) for _ in range(3))
        self.head = nn.Conv1d(32, 6, 1)

    def forward(self, wave: Any) -> Any:
        x = self.stem(wave)
        for conv, out in zip(self.filters, self.outs, strict=True):
            a, b = conv(x).chunk(2, 1)
            x = x + out(torch.tanh(a) * torch.sigmoid(b))
        return self.head(F.relu(x)).amax(-1)


class Detector(nn.Module):  # type: ignore[misc]
    """Boxes in pixels, an objectness and classes of an anchor-free detector, in one tensor [1, cells, 4 + 1 + 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.head = nn.Conv2d(32, 8, 1)
        ys, xs = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        self.register_buffer("grid", torch.stack([xs, ys], 0).float()[None])

    def forward(self, image: Any) -> Any:
        x = self.head(F.silu(self.b(F.silu(self.a(image)))))
        middle = (x[:, :2].sigmoid() * 2 - 0.5 + self.grid) * 4
        size = (x[:, 2:4].sigmoid() * 2) ** 2 * 16
        return torch.cat([middle, size, x[:, 4:].sigmoid()], 1).flatten(2).transpose(1, 2)


def pictures(name: str, module: Any, size: int, **more: Any) -> Made:
    made = samples.faces(100, size).transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1)
    return module, {name: np.ascontiguousarray(made)}, more


def batched() -> Made:
    module, arrays, _ = pictures("image", Separable(), 32)
    four = arrays["image"].reshape(25, 4, 3, 32, 32)
    return module, {"image": four}, {}


def _open() -> Made:
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    return pictures("image", UNet(), 32, dynamic_axes=axes, dynamo=False, input_names=["image"], output_names=["mask"])


def _external() -> Made:
    return pictures("image", Separable(), 32, external_data=True)


MODELS: Mapping[str, tuple[str, Callable[[], Made]]] = {
    "gru": ("GRU, state in and out", lambda: recurrent("gru")),
    "lstm": ("LSTM of two layers, state in and out", lambda: recurrent("lstm")),
    "vit": ("vision transformer", lambda: pictures("image", Attention(), 64)),
    "text": ("transformer encoder, int64 tokens and mask", text),
    "unet": ("U-Net, resizing and transposed convolution", lambda: pictures("image", UNet(), 32)),
    "separable": ("depthwise separable, squeeze and excitation", lambda: pictures("image", Separable(), 32)),
    "sound": ("1-D convolutions on a wave",
              lambda: (Sound(), {"wave": samples.voices(100, 2048)[:, None, None]}, {})),
    "detector": ("boxes and scores in one tensor", lambda: pictures("image", Detector(), 64)),
    "open": ("height and width open", _open),
    "external": ("external data", _external),
    "batch4": ("a batch of 4, fixed", batched),
}  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Write the model and its data."""
    torch.manual_seed(0)
    module, arrays, more = MODELS[name][1]()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean, norm.running_var = torch.randn(norm.num_features), torch.rand(norm.num_features) + 0.5
    example = tuple(torch.from_numpy(np.ascontiguousarray(array[0])) for array in arrays.values())
    if example[0].ndim == 3 and next(iter(arrays)) == "image":
        example = tuple(tensor[None] for tensor in example)
    more.setdefault("input_names", list(arrays))
    more.setdefault("external_data", False)
    torch.onnx.export(module.eval(), example, str(folder / f"{name}.onnx"), verbose=False, **more)
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
