"""Small ONNX models, each of which fails in one known way, with samples for its input `x`.

    path, data = custom_operator(folder)      # float32 [n, …] arrays by input name

Each holds healthy layers before and after the one that fails, so that naming the right one is something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
SHAPE = (1, 4, 8, 8)


def _weights(*shape: int, scale: float = 0.3) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(0, scale, shape).astype(np.float32)


def _samples(n: int = 40, shape: Sequence[int] = SHAPE) -> Arrays:
    return {"x": np.random.default_rng(9).uniform(-1, 1, (n, *shape)).astype(np.float32)}


def _write(
    path: Path,
    nodes: list[Any],
    constants: Arrays,
    outputs: Sequence[str],
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes, "failing", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(SHAPE))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())
    return path


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, list(inputs), [output], name=f"block/{output}/{kind}", **attributes)


def _front() -> tuple[list[Any], Arrays]:
    """Two convolutions: x -> r2 [1, 4, 8, 8]."""
    nodes = [
        _node("Conv", ["x", "w1"], "c1", pads=[1, 1, 1, 1]), _node("Relu", ["c1"], "r1"),
        _node("Conv", ["r1", "w2"], "c2", pads=[1, 1, 1, 1]), _node("Relu", ["c2"], "r2"),
    ]  # fmt: skip
    return nodes, {"w1": _weights(4, 4, 3, 3), "w2": _weights(4, 4, 3, 3) + np.float32(0.01)}


def _back(tensor: str, channels: int = 4) -> tuple[list[Any], Arrays]:
    """Pooling and a dense layer: tensor [1, channels, …] -> y [1, 5]."""
    nodes = [
        _node("GlobalAveragePool", [tensor], "pool"), _node("Flatten", ["pool"], "flat"),
        _node("Gemm", ["flat", "w9", "b9"], "y"),
    ]  # fmt: skip
    return nodes, {"w9": _weights(channels, 5), "b9": _weights(5)}


def healthy(folder: Path, *, opset: int = 17) -> tuple[Path, Arrays]:
    """Nothing is wrong; with opset 12 it takes the target's own upgrade (per-channel int8 is invalid below 13)."""
    (front, one), (back, two) = _front(), _back("r2")
    return _write(folder / "healthy.onnx", front + back, one | two, ["y"], opset=opset), _samples()


def custom_operator(folder: Path) -> tuple[Path, Arrays]:
    """`magic` is written by an operator of the domain my.ops that no engine has."""
    (front, one), (back, two) = _front(), _back("magic")
    nodes = [*front, _node("Sparkle", ["r2"], "magic", domain="my.ops", strength=3), *back]
    return _write(folder / "custom.onnx", nodes, one | two, ["y"], domains=["my.ops"]), _samples()


def wrong_kernel_shape(folder: Path) -> tuple[Path, Arrays]:
    """The Conv `c3` says kernel_shape 5×5 and has weights of 3×3: the engine refuses to run it."""
    (front, one), (back, two) = _front(), _back("c3")
    nodes = [*front, _node("Conv", ["r2", "w3"], "c3", kernel_shape=[5, 5], pads=[1, 1, 1, 1]), *back]
    return _write(folder / "kernel.onnx", nodes, one | two | {"w3": _weights(4, 4, 3, 3)}, ["y"]), _samples()


def crashing(folder: Path) -> tuple[Path, Arrays]:
    """The ConvTranspose `up` has group 0: ONNX Runtime divides by it and dies of SIGFPE."""
    front, one = _front()
    nodes = [*front, _node("ConvTranspose", ["r2", "w3"], "up", group=0), _node("Relu", ["up"], "y")]
    return _write(folder / "crash.onnx", nodes, one | {"w3": _weights(4, 4, 3, 3)}, ["y"]), _samples()


def zero_strides(folder: Path) -> tuple[Path, Arrays]:
    """`still` strides by 0 in the middle of the model: what is made of the whole dies, what ends there is refused."""
    (front, one), (back, two) = _front(), _back("after")
    pool = _node("MaxPool", ["r2"], "still", kernel_shape=[3, 3], strides=[0, 0], pads=[1, 1, 1, 1])
    return _write(
        folder / "strides.onnx", [*front, pool, _node("Relu", ["still"], "after"), *back], one | two, ["y"]
    ), _samples()


def infinite(folder: Path) -> tuple[Path, Arrays]:
    """`log` takes the logarithm of what a Relu made 0: the float model itself answers with infinity."""
    (front, one), (back, two) = _front(), _back("log")
    return _write(folder / "infinite.onnx", [*front, _node("Log", ["r2"], "log"), *back], one | two, ["y"]), _samples()


def branch(folder: Path) -> tuple[Path, Arrays]:
    """An `If`, whose branches hold convolutions: `chosen`."""
    from onnx import TensorProto, helper

    (front, one), (back, two) = _front(), _back("chosen")

    def inner(name: str, weights: str) -> Any:
        node = helper.make_node("Conv", ["r2", weights], [f"{name}_out"], pads=[1, 1, 1, 1])
        value = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, list(SHAPE))
        return helper.make_graph([node], name, [], [value])

    nodes = [
        *front, _node("ReduceMean", ["r2"], "mean", keepdims=0), _node("Greater", ["mean", "zero"], "condition"),
        _node("If", ["condition"], "chosen", then_branch=inner("then", "w3"), else_branch=inner("else", "w4")), *back,
    ]  # fmt: skip
    more = {"w3": _weights(4, 4, 3, 3), "w4": _weights(4, 4, 3, 3) * 2, "zero": np.array(0.2, np.float32)}
    return _write(folder / "branch.onnx", nodes, one | two | more, ["y"]), _samples()


def extreme_range(folder: Path) -> tuple[Path, Arrays]:
    """`joined` holds values around 1 beside ones around 10,000, which the next layer scales back: int8 loses those."""
    (front, one), (back, two) = _front(), _back("scaled", 8)
    nodes = [
        *front, _node("Mul", ["r1", "large"], "grown"), _node("Concat", ["r2", "grown"], "joined", axis=1),
        _node("Mul", ["joined", "shrink"], "scaled"), *back,
    ]  # fmt: skip
    shrink = np.ones((1, 8, 1, 1), np.float32)
    shrink[:, 4:] = 1e-6
    two["w9"] = two["w9"] * 20
    return _write(
        folder / "extreme.onnx", nodes, one | two | {"large": np.array(1e4, np.float32), "shrink": shrink}, ["y"]
    ), _samples()


def two_regions(folder: Path) -> tuple[Path, Arrays]:
    """One channel is 3,000 times as loud as the others, twice: after the first time int8 leaves nothing to judge by."""
    (front, weights), (back, more) = _front(), _back("calm2")
    nodes, tensor = list(front), "r2"
    for number in (1, 2):
        loud = np.ones((1, 4, 1, 1), np.float32)
        loud[0, number] = 3000
        weights |= {f"l{number}": loud, f"s{number}": 1 / loud, f"k{number}": _weights(4, 4, 3, 3)}
        nodes += [
            _node("Conv", [tensor, f"k{number}"], f"c1{number}", pads=[1, 1, 1, 1]),
            _node("Relu", [f"c1{number}"], f"r1{number}"),
            _node("Mul", [f"r1{number}", f"l{number}"], f"loud{number}"),
            _node("AveragePool", [f"loud{number}"], f"p{number}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            _node("Mul", [f"p{number}", f"s{number}"], tensor := f"calm{number}"),
        ]
    return _write(folder / "two.onnx", [*nodes, *back], weights | more, ["y"]), _samples()


def _head(joined: str) -> tuple[list[Any], Arrays]:
    front, one = _front()
    nodes = [
        *front, _node("Conv", ["r2", "wb"], "box_map"), _node("Sigmoid", ["box_map"], "box_unit"),
        _node("Mul", ["box_unit", "size"], "boxes"), _node("Conv", ["r2", "ws"], "score_map"),
        _node("Sigmoid", ["score_map"], "scores"), _node("Concat", ["boxes", "scores"], joined, axis=1),
    ]  # fmt: skip
    more = {"wb": _weights(4, 4, 1, 1, scale=3), "ws": _weights(1, 4, 1, 1, scale=3), "size": np.array(320, np.float32)}
    return nodes, one | more


def joined_output(folder: Path) -> tuple[Path, Arrays]:
    """Boxes of 0 to 320 and a score of 0 to 1 joined into one output `y` [1, 5, 8, 8]."""
    nodes, constants = _head("y")
    return _write(folder / "joined.onnx", nodes, constants, ["y"]), _samples()


def shared_scale_head(folder: Path) -> tuple[Path, Arrays]:
    """A detection head: the same, one row a place: `y` [1, 64, 5]."""
    nodes, constants = _head("head")
    nodes += [_node("Reshape", ["head", "rows"], "flat"), _node("Transpose", ["flat"], "y", perm=[0, 2, 1])]
    return _write(folder / "head.onnx", nodes, constants | {"rows": np.array([1, 5, 64], np.int64)}, ["y"]), _samples()


def counting_keras(folder: Path) -> tuple[Path, Arrays]:
    """A Keras model whose CategoryEncoding, `counts`, becomes an operator that TFLite does not have."""
    from edgeship.targets import child

    child.run("tests.simulators.failing_models", {}, folder, limits=child.CONVERT, subject="a Keras model")
    return folder / "counting.keras", {"x": np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32)}


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step that makes `counting_keras`; runs in a child."""
    import keras

    layers = keras.layers
    x = keras.Input((16,), name="x")
    h = layers.Dense(8, activation="relu", name="first")(x)
    h = layers.Discretization(bin_boundaries=[0.0, 1.0, 2.0], name="bins")(h)
    h = layers.CategoryEncoding(num_tokens=5, output_mode="count", name="counts")(h)
    keras.Model(x, layers.Dense(3, name="last")(h)).save(folder / "counting.keras")
    return {}


def custom_tflite(folder: Path) -> tuple[Path, Arrays]:
    """The tiny classifier as TFLite, its softmax a custom operator that no engine has; input `image`."""
    from tests.simulators import models

    path = models.tiny_tflite(folder / "custom.tflite", "float32").path
    schema = models._schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    code = model.operatorCodes[model.subgraphs[0].operators[1].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = 32
    code.customCode = b"Sparkle"
    operator = model.subgraphs[0].operators[1]
    operator.builtinOptionsType, operator.builtinOptions = 0, None
    builder = schema.flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path, {"image": models.samples(40)[0].reshape(40, *models.SHAPE)}
