"""The step that loads a `.pt2` file in torch: to float ONNX, and its own answers.

It never gives torch the file itself, only what `archive.rewrite` made of it. Channels first stays channels first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.errors import ConversionError, InputError
from edgeship.targets import child, feed
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.torch import archive, inspect

OPSET = 18  # what torch.onnx writes by itself; an older one it would only convert to
BATCH = 64  # samples at a time where the model takes them
THREADS = 2


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do what `request` asks for; see `export.Exporter`."""
    import torch

    torch.set_num_threads(THREADS)
    source = Path(request["path"])
    program = archive.read(source)
    facts = inspect.describe(program)
    archive.rewrite(source, program, folder / "safe.pt2")
    try:
        loaded = torch.export.load(folder / "safe.pt2")
        module = loaded.module()
    except Exception as error:
        raise InputError(
            f"PyTorch cannot load it: {type(error).__name__}: {' '.join(str(error).split())[:600]}",
            hint=f"export it again with this PyTorch ({torch.__version__})",
        ) from error
    names = [plain_name(name) for name in inspect.user_outputs(program.graph["graph_module"])]
    names = names if len(set(names)) == len(names) else [f"{name}_{i}" for i, name in enumerate(names)]
    formats: dict[str, str | None] = {}
    for name in request["formats"]:
        try:
            _to_onnx(loaded, facts["inputs"], names, folder / f"float.{name}")
            formats[name] = None
        except Exception as error:  # noqa: BLE001 - the exporter may raise anything
            formats[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:800]}"
    outputs = [{"name": name, "shape": spec["shape"]} for name, spec in zip(names, facts["outputs"], strict=True)]
    with torch.no_grad():
        for index, files in enumerate(request["answers"]):
            deadline = child.Deadline(folder, child.ANSWER)
            _answer(module, facts, outputs, feed.read(files), folder / f"answer{index}", deadline)
    return {"formats": formats, "outputs": outputs}


def _to_onnx(loaded: Any, inputs: list[Mapping[str, Any]], names: list[str], result: Path) -> None:
    import torch

    zeros = tuple(torch.zeros(spec["shape"], dtype=getattr(torch, spec["dtype"])) for spec in inputs)
    torch.onnx.export(
        loaded, zeros, str(result), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
        input_names=[spec["name"] for spec in inputs], output_names=names,
    )  # fmt: skip


def _answer(
    module: Any, facts: Mapping[str, Any], outputs: list[dict[str, Any]], data: Mapping[str, feed.Array], stem: Path,
    deadline: child.Deadline,
) -> None:  # fmt: skip
    """Answers float32 [n, 1, …] an output, as `<stem>_<j>.npy`: many at a time where the batch is open."""
    import torch

    arrays = [np.asarray(data[spec["name"]], dtype=spec["dtype"]) for spec in facts["inputs"]]
    batched = facts["open_shapes"] and all(out["shape"][:1] == [1] for out in outputs)
    step = BATCH if batched else 1
    parts: list[list[Any]] = []
    for start in range(0, len(arrays[0]), step):
        chunk = [a[start : start + step, 0] if batched else a[start] for a in arrays]
        with deadline:
            flat = _flat(module(*(torch.from_numpy(np.ascontiguousarray(values)) for values in chunk)))
        if batched and any(len(value) != len(chunk[0]) for value in flat):
            raise ConversionError(
                "it answers a batch of samples with another number of answers",
                hint="one answer for each sample of a batch: export the model without what joins them",
            )
        parts.append([v[:, None] if batched else v[None] for v in (t.numpy().astype(np.float32) for t in flat)])
    for index, pieces in enumerate(zip(*parts, strict=True)):
        np.save(f"{stem}_{index}.npy", np.concatenate(pieces), allow_pickle=False)


def _flat(value: Any) -> list[Any]:
    """Tensors in the order of the graph's outputs."""
    from torch.utils import _pytree

    return list(_pytree.tree_leaves(value))
