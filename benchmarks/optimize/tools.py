"""What each tool does to make int8 of a model, as its own documentation recommends; runs in the tool's environment.

    python tools.py TOOL REQUEST.json

REQUEST: "model": the file to start from (Keras, float TFLite or float ONNX, as the tool takes it), "input": name of its
input, "samples": .npy, float32 [n, *shape] with the batch of 1 in the shape, "out": the file to write.

All get the same samples, one at a time and mapped from the disk, so that none pays for how they were kept. Settings:

* all: weights int8 per channel, activations int8 or uint8 with ranges from the smallest to the largest value seen.
* ai-edge-quantizer: its recipe `static_wi8_ai8` and its own calibration, as in its documentation.
* TFLiteConverter: full int8 from Keras with a representative dataset.
* onnxruntime: `quant_pre_process`, then `quantize_static` with QDQ, QInt8 for both, per channel: what its documentation
  recommends for processors.
* Olive: a workflow of one pass, OnnxStaticQuantization, with its defaults (pre-processing, QDQ, int8) and per channel.
* NNCF: `nncf.quantize` with its defaults (fast bias correction) on all samples, but without the half range of weights
  that keeps sums from saturating on old x86 processors: what is judged here is what an Arm board answers.
* edgeship: `Target.build`, cache empty: all that `edgeship model quantize` does but the gate. "edgeship fitted" is the
  same with `--rounding fitted`, which a search tries where the nearest steps lose too much.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Request = Mapping[str, Any]


def rows(request: Request) -> Iterator[Any]:
    """The samples, each an array of its own."""
    import numpy as np

    for row in np.load(request["samples"], mmap_mode="r"):
        yield np.array(row)


def edgeship(request: Request, rounding: str = "nearest") -> None:
    """The target of the file's own format, from the float file."""
    import shutil
    import tempfile

    import numpy as np

    from edgeship.dataset import Dataset
    from edgeship.reporter import Reporter
    from edgeship.targets import registry
    from edgeship.targets.scheme import Scheme

    path = Path(request["model"])
    data = Dataset({request["input"]: np.load(request["samples"], mmap_mode="r")})
    with tempfile.TemporaryDirectory() as cache:
        target = registry.target(path.suffix[1:])
        made = target.build(registry.inspect(path), Scheme("int8", rounding=rounding), data, Path(cache), Reporter())
        shutil.copyfile(made.path, request["out"])


def edgeship_fitted(request: Request) -> None:
    """The same, with weights fitted to what their layers read."""
    edgeship(request, "fitted")


def ai_edge_quantizer(request: Request) -> None:
    """Calibrate and quantize a float TFLite file."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    signatures = Interpreter(model_path=request["model"]).get_signature_list()
    name = str(signatures["serving_default"]["inputs"][0])
    work = quantizer.Quantizer(request["model"])
    work.load_quantization_recipe(recipe.static_wi8_ai8())
    # a list: given a generator it calibrates on nothing
    ranges = work.calibrate({"serving_default": [{name: row} for row in rows(request)]})
    result = work.quantize(ranges)
    Path(request["out"]).write_bytes(bytes(result.quantized_model))


def tflite_converter(request: Request) -> None:
    """Full int8 from a Keras file."""
    import keras
    import tensorflow as tf

    net = keras.models.load_model(request["model"])
    image = keras.Input(batch_shape=(1, *net.inputs[0].shape[1:]), name=request["input"])
    work = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, net(image)))  # a fixed batch, as devices need it
    work.optimizations = [tf.lite.Optimize.DEFAULT]
    work.representative_dataset = lambda: ([row] for row in rows(request))
    work.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    work.inference_input_type = work.inference_output_type = tf.int8
    Path(request["out"]).write_bytes(work.convert())


def onnxruntime(request: Request) -> None:
    """Pre-process, then quantize_static."""
    from onnxruntime import quantization

    name, given = request["input"], rows(request)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        """One sample after the other."""

        def get_next(self) -> Any:
            row = next(given, None)
            return None if row is None else {name: row}

    quantization.quant_pre_process(request["model"], "ready.onnx", skip_symbolic_shape=True)
    quantization.quantize_static(
        "ready.onnx", request["out"], Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip


def olive(request: Request) -> None:
    """A workflow of one pass."""
    import shutil

    import numpy as np
    import torch
    from olive.data.registry import Registry
    from olive.workflows import run

    array = np.load(request["samples"], mmap_mode="r")

    class Samples(torch.utils.data.Dataset):  # type: ignore[misc]
        """(inputs, label), as Olive's data loaders take them."""

        def __len__(self) -> int:
            return len(array)

        def __getitem__(self, index: int) -> Any:
            return {request["input"]: torch.from_numpy(np.array(array[index][0]))}, 0

    Registry.register_dataset(name="samples")(lambda **_: Samples())
    run({
        "input_model": {"type": "ONNXModel", "model_path": request["model"]},
        "data_configs": [
            {"name": "calibration", "type": "DataContainer", "load_dataset_config": {"type": "samples"},
             "dataloader_config": {"batch_size": 1}},
        ],
        "passes": {
            "int8": {"type": "OnnxStaticQuantization", "data_config": "calibration", "per_channel": True},
        },
        "output_dir": "made", "cache_dir": "cache", "log_severity_level": 2,
    })  # fmt: skip
    (found,) = Path("made").rglob("*.onnx")
    shutil.copyfile(found, request["out"])


def nncf(request: Request) -> None:
    """Post-training quantization."""
    import nncf
    import onnx

    name = request["input"]
    data = nncf.Dataset(list(rows(request)), lambda row: {name: row})
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.quantization.advanced_parameters.OverflowFix.DISABLE
    )
    made = nncf.quantize(
        onnx.load(request["model"]), data, subset_size=data.get_length() or 1, advanced_parameters=advanced
    )
    onnx.save(made, request["out"])


TOOLS: Mapping[str, Callable[[Request], None]] = {
    "edgeship": edgeship, "edgeship fitted": edgeship_fitted, "ai-edge-quantizer": ai_edge_quantizer,
    "TFLiteConverter": tflite_converter, "onnxruntime": onnxruntime, "Olive": olive, "NNCF": nncf,
}  # fmt: skip

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    order = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    os.chdir(Path(sys.argv[2]).parent)  # tools leave files where they are
    TOOLS[sys.argv[1]](order)
