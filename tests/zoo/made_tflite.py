"""Models that TensorFlow's converter writes in its own ways: run as `python -m tests.zoo.made_tflite NAME FOLDER`.

Writes NAME.tflite and data.npz into FOLDER. Weights are random with a seed; what matters is the graph.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.zoo import samples

Arrays = Mapping[str, NDArray[Any]]
Made = tuple[bytes, Arrays]


def _pictures(size: int, n: int = 100) -> NDArray[np.float32]:
    made: NDArray[np.float32] = samples.faces(n, size) / np.float32(127.5) - np.float32(1)
    return made


def _net(size: int = 32) -> Any:
    image = tf.keras.Input((size, size, 3), name="image")
    x = tf.keras.layers.Conv2D(16, 3, 2, padding="same", activation="relu")(image)
    x = tf.keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = tf.keras.layers.Conv2D(32, 1, activation="swish")(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(image, tf.keras.layers.Dense(10, activation="softmax", name="classes")(x))


def _converted(model: Any, images: NDArray[np.float32] | None = None, **settings: Any) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for key, value in settings.items():
        setattr(converter, key, value)
    if images is not None:
        converter.representative_dataset = lambda: ([row[None]] for row in images[:50])
    made: bytes = converter.convert()
    return made


def _of(module: Any, functions: Mapping[str, Any], *, signatures: bool = True, custom: bool = False) -> bytes:
    concrete = [function.get_concrete_function() for function in functions.values()]
    if signatures:
        folder = Path(sys.argv[2]) / "saved"
        tf.saved_model.save(module, str(folder), dict(zip(functions, concrete, strict=True)))
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=list(functions))
    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete)
    converter.allow_custom_ops = custom
    made: bytes = converter.convert()
    return made


def uint8() -> Made:
    images = _pictures(32)
    made = _converted(
        _net(), images, optimizations=[tf.lite.Optimize.DEFAULT], inference_input_type=tf.uint8,
        inference_output_type=tf.uint8,
    )  # fmt: skip
    return made, {"image": images}


def dynamic() -> Made:
    return _converted(_net(), optimizations=[tf.lite.Optimize.DEFAULT]), {"image": _pictures(32)}


def float16() -> Made:
    settings = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": tf.lite.TargetSpec()}
    settings["target_spec"].supported_types = [tf.float16]
    return _converted(_net(), **settings), {"image": _pictures(32)}


class Signatures(tf.Module):  # type: ignore[misc]
    """Two ways to call it."""

    def __init__(self) -> None:
        super().__init__()
        random = tf.random_normal_initializer(0, 0.3, seed=3)
        self.a, self.b = tf.Variable(random((24, 32))), tf.Variable(random((32, 6)))

    @tf.function(input_signature=[tf.TensorSpec((1, 24), tf.float32, name="x")])
    def encode(self, x: Any) -> Any:
        return {"code": tf.nn.relu(x @ self.a)}

    @tf.function(input_signature=[tf.TensorSpec((1, 24), tf.float32, name="x")])
    def classify(self, x: Any) -> Any:
        return {"classes": tf.nn.relu(x @ self.a) @ self.b}

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32, name="x")])
    def scalar(self, x: Any) -> Any:
        return {"y": tf.reduce_sum(tf.nn.relu(x * self.a)) * 0.001}


def _rows(*shape: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(120, *shape)) * rng.uniform(0.3, 1.5, (120, *([1] * len(shape))))).astype(np.float32)


def signatures() -> Made:
    module = Signatures()
    return _of(module, {"encode": module.encode, "classify": module.classify}), {"x": _rows(24)}


def nameless() -> Made:
    module = Signatures()
    return _of(module, {"classify": module.classify}, signatures=False), {"x": _rows(24)}


def detection() -> Made:
    """SSD with TFLite_Detection_PostProcess at its end, as the TensorFlow object detection API exports it."""

    class Detector(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = tf.random_normal_initializer(0, 0.2, seed=1)
            self.a, self.b = tf.Variable(random((3, 3, 3, 16))), tf.Variable(random((3, 3, 16, 24)))
            self.boxes, self.scores = tf.Variable(random((1, 1, 24, 4))), tf.Variable(random((1, 1, 24, 3)))
            at = (np.arange(8, dtype=np.float32) + 0.5) / 8
            self.anchors = np.stack([np.repeat(at, 8), np.tile(at, 8), np.full(64, 0.2), np.full(64, 0.2)], 1)

        @tf.function(input_signature=[tf.TensorSpec((1, 32, 32, 3), tf.float32, name="image")])
        def detect(self, image: Any) -> Any:
            x = tf.nn.relu(tf.nn.conv2d(image, self.a, 2, "SAME"))
            x = tf.nn.relu(tf.nn.conv2d(x, self.b, 2, "SAME"))
            boxes = tf.reshape(tf.nn.conv2d(x, self.boxes, 1, "SAME"), (1, 64, 4))
            scores = tf.sigmoid(tf.reshape(tf.nn.conv2d(x, self.scores, 1, "SAME"), (1, 64, 3)))

            settings = {
                "max_detections": "i: 10", "max_classes_per_detection": "i: 1", "num_classes": "i: 2",
                "nms_score_threshold": "f: 0.01", "nms_iou_threshold": "f: 0.6", "x_scale": "f: 10.0",
                "y_scale": "f: 10.0", "h_scale": "f: 5.0", "w_scale": "f: 5.0", "use_regular_nms": "b: false",
            }  # fmt: skip
            said = 'name: "TFLite_Detection_PostProcess"' + "".join(
                f' attr {{ key: "{key}" value {{ {value} }} }}' for key, value in settings.items()
            )

            @tf.function(experimental_implements=said)
            def post(boxes: Any, scores: Any, anchors: Any) -> Any:
                return (tf.zeros((1, 10, 4)), tf.zeros((1, 10)), tf.zeros((1, 10)), tf.zeros((1,)))

            a, b, c, d = post(boxes, scores, tf.constant(self.anchors.astype(np.float32)))
            return {"boxes": a, "classes": b, "scores": c, "count": d}

    module = Detector()
    return _of(module, {"serving_default": module.detect}, custom=True), {"image": _pictures(32)}


def lstm(*, unroll: bool) -> Made:
    frames = tf.keras.Input((20, 16), batch_size=1, name="frames")
    x = tf.keras.layers.LSTM(24, unroll=unroll)(frames)
    model = tf.keras.Model(frames, tf.keras.layers.Dense(5, activation="softmax")(x))
    return _converted(model), {"frames": _rows(20, 16)}


def gru() -> Made:
    frames = tf.keras.Input((12, 16), batch_size=1, name="frames")
    x = tf.keras.layers.GRU(24, return_sequences=True)(frames)
    model = tf.keras.Model(frames, tf.keras.layers.Dense(5)(x))
    return _converted(model), {"frames": _rows(12, 16)}


def tokens() -> Made:
    ids = tf.keras.Input((24,), batch_size=1, dtype="int32", name="ids")
    x = tf.keras.layers.Embedding(400, 32)(ids)
    x = tf.keras.layers.LayerNormalization()(x + tf.keras.layers.MultiHeadAttention(2, 16)(x, x))
    x = tf.keras.layers.GlobalAveragePooling1D()(tf.keras.layers.Dense(48, activation="gelu")(x))
    model = tf.keras.Model(ids, tf.keras.layers.Dense(4, activation="softmax")(x))
    return _converted(model), {"ids": np.random.default_rng(0).integers(0, 400, (120, 24)).astype(np.int32)}


def batch() -> Made:
    image = tf.keras.Input((32, 32, 3), batch_size=4, name="image")
    x = tf.keras.layers.Conv2D(16, 3, 2, activation="relu")(image)
    model = tf.keras.Model(image, tf.keras.layers.Dense(6)(tf.keras.layers.GlobalMaxPooling2D()(x)))
    return _converted(model), {"image": _pictures(32).reshape(25, 4, 32, 32, 3)}


def names() -> Made:
    """Names with slashes, spaces and letters beyond ASCII."""
    image = tf.keras.Input((12, 12, 3), name="image")
    x = tf.keras.layers.Conv2D(8, 3, activation="relu")(image)
    model = tf.keras.Model(image, tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(x)))
    data = _converted(model)
    from ai_edge_litert import schema_py_generated as schema

    tree = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for index, tensor in enumerate(tree.subgraphs[0].tensors):
        tensor.name = f"größe/第{index % 3} ; ‘x’:0".encode()
    tree.signatureDefs = []
    builder = schema.flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output()), {f"größe/第{tree.subgraphs[0].inputs[0] % 3} ; ‘x’:0": _pictures(12)}


def scalar() -> Made:
    module = Signatures()
    return _of(module, {"serving_default": module.scalar}), {"x": _rows()}


def spectrum() -> Made:
    """A wave through a short-time Fourier transform of TensorFlow's own."""

    class Front(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = tf.random_normal_initializer(0, 0.1, seed=1)
            self.mel, self.out = tf.Variable(tf.abs(random((129, 24)))), tf.Variable(random((24 * 15, 6)))

        @tf.function(input_signature=[tf.TensorSpec((1, 2048), tf.float32, name="wave")])
        def run(self, wave: Any) -> Any:
            power = tf.abs(tf.signal.stft(wave, 256, 128)) ** 2
            features = tf.math.log(tf.tensordot(power, self.mel, 1) + 1e-4)
            return {"classes": tf.reshape(features, (1, -1)) @ self.out}

    module = Front()
    return _of(module, {"serving_default": module.run}), {"wave": samples.voices(120, 2048)}


MODELS: Mapping[str, tuple[str, Callable[[], Made]]] = {
    "uint8": ("quantized already, uint8 in and out", uint8),
    "dynamic": ("int8 weights already, dynamic range", dynamic),
    "float16": ("float16 weights", float16),
    "signatures": ("two signatures", signatures),
    "nameless": ("no signature", nameless),
    "detection": ("detector with TFLite_Detection_PostProcess", detection),
    "lstm": ("fused LSTM, state in variables", lambda: lstm(unroll=False)),
    "lstm-unrolled": ("LSTM unrolled", lambda: lstm(unroll=True)),
    "gru": ("GRU in a WHILE loop", gru),
    "tokens": ("embedding and attention, int32 tokens", tokens),
    "batch4": ("a batch of 4, fixed", batch),
    "names": ("equal names with slashes and Unicode", names),
    "scalar": ("a number in, a number out", scalar),
    "spectrum": ("Fourier transform in the graph", spectrum),
}


def main(name: str, folder: Path) -> None:
    """Write the model and its data."""
    tf.keras.utils.set_random_seed(0)
    made, arrays = MODELS[name][1]()
    (folder / f"{name}.tflite").write_bytes(made)
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
