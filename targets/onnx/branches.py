"""An If one branch of which cannot run, now that shapes are fixed: the other one takes its place.

Models of sound hold a branch for each sample rate, and a window of one rate is no window of the other: the convolutions
of that branch leave nothing, or a tensor of another rank, and ONNX Runtime refuses the whole file, by default at least.
Nobody ever got an answer from that branch with these shapes, so nothing that could be asked is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.targets import child
from edgeship.targets.onnx import graph as g


def settled(model: Any, folder: Path) -> tuple[Any, list[str]]:
    """The model with the branches that can run, and what people should know; as it is where it loads.

    Args:
        model: ModelProto with fixed shapes.
        folder: for files on the way.
    """
    notes: list[str] = []
    while any(node.op_type == "If" for node in model.graph.node) and not _loads(model, folder):
        for node in [n for n in model.graph.node if n.op_type == "If"]:
            tried = {side: _with(model, node, side) for side in ("then_branch", "else_branch")}
            running = [side for side, made in tried.items() if _loads(made, folder)]
            if len(running) == 1:
                (side,) = running
                lost = "else" if side == "then_branch" else "then"
                notes.append(
                    f"the {lost} branch of If {node.name or node.output[0]!r} cannot run with these shapes: the other "
                    f"one runs whatever {node.input[0]!r} says"
                )
                model = tried[side]
                break
        else:
            break
    return model, notes


def _with(model: Any, wanted: Any, side: str) -> Any:
    """A copy in which one branch of an If stands in its place."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    place = next(index for index, node in enumerate(graph.node) if node.output == wanted.output)
    node = graph.node[place]
    branch = next(attribute.g for attribute in node.attribute if attribute.name == side)
    new = [*branch.node]
    new += [
        onnx.helper.make_node("Identity", [value.name], [name])
        for value, name in zip(branch.output, node.output, strict=True)
        if name
    ]
    graph.initializer.extend(branch.initializer)
    after = [*graph.node[place + 1 :]]
    before = [*graph.node[:place]]
    del graph.node[:]
    graph.node.extend([*before, *new, *after])
    _forget_dead(graph)
    return made


def _forget_dead(graph: Any) -> None:
    """Take out nodes that served the condition alone."""
    outputs = {value.name for value in graph.output}
    while True:
        read = {name for node in graph.node for name in g.reads(node)} | outputs
        dead = [node for node in graph.node if not read & {*node.output}]
        if not dead:
            return
        for node in dead:
            graph.node.remove(node)


def _loads(model: Any, folder: Path) -> bool:
    import onnx
    import onnxruntime

    path = folder / "branch.onnx"
    onnx.save(model, str(path))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with child.Deadline(folder, child.LOAD):
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - whatever it is, this branch does not run
        print(f"a branch: {error}")  # noqa: T201 - the child's log
        return False
    return True
