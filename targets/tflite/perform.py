"""The step that makes a TFLite variant: fixed shapes, a signature, and quantization with ai-edge-quantizer.

Route, chosen by running both: everything but float32 is made from the float `.tflite`, so a TFLite source is served
like a Keras one and no TensorFlow is needed. TFLiteConverter's int8 answers are the same to the last digit, for more
time and three times the memory. Three things are not as the library does them by default:

* Ranges are the smallest and largest value seen. Its own moving average forgets: on a digits net the largest error was
  0.46 instead of 0.04.
* Samples are a list. A generator calibrates on nothing.
* A file without a signature is refused by it, so one is added: the tensors' own names.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import ConversionError
from edgeship.targets import feed
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite.inspect import default_signature, describe
from edgeship.targets.tflite.reader import Signature, read
from edgeship.targets.tflite.shapes import close

THREADS = 2  # of the calibrating interpreter; more does not help one sample at a time
KEY = "serving_default"


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make `model.tflite` in `folder` out of the file at `request["path"]`.

    Args:
        request: "path"; "scheme"; "from": what the file is now; "samples": a feed or null.
        folder: gets model.tflite.

    Returns:
        Facts of the result (`inspect.describe`), with "fixed": dimensions that were open.
    """
    data, fixed = close(Path(request["path"]).read_bytes())
    scheme = Scheme.parse(request["scheme"])
    if scheme.precision != request["from"]:
        data = _quantize(data, scheme.precision, request["samples"])
    (folder / "model.tflite").write_bytes(data)
    return {**describe(read(data)), "fixed": fixed}


def _quantize(data: bytes, precision: str, samples: list[Mapping[str, str]] | None) -> bytes:
    from ai_edge_quantizer import quantizer

    signature = default_signature(read(data))
    if not signature.key:
        data = _with_signature(data, signature)
    work = quantizer.Quantizer(bytearray(data))
    work.load_quantization_recipe(_recipe(precision))
    ranges = _ranges(data, precision, signature.key or KEY, samples) if work.need_calibration else None
    result = work.quantize(ranges, enable_progress_report=False, enable_progress_bar=False)
    return bytes(result.quantized_model)


def _recipe(precision: str) -> Any:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe, recipe_manager

    if precision == "int8":
        return recipe.static_wi8_ai8()
    if precision == "dynamic":
        return recipe.dynamic_wi8_afp32()
    if precision != "float16":
        raise ConversionError(f"no recipe for {precision}")
    manager = recipe_manager.RecipeManager()
    manager.add_weight_only_config(
        regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, num_bits=16,
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )  # fmt: skip
    return manager.get_quantization_recipe()


def _ranges(data: bytes, precision: str, key: str, samples: list[Mapping[str, str]] | None) -> Any:
    """The smallest and the largest value of every tensor over the samples."""
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    arrays = feed.read(samples or [])
    count = min((len(array) for array in arrays.values()), default=0)
    if not count:
        raise ConversionError("no calibration samples arrived")
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(_recipe(precision))
    collector = calibrator.Calibrator(bytearray(data), num_threads=THREADS, qsv_update_func=qsv_utils.min_max_update)
    items = [{name: array[i] for name, array in arrays.items()} for i in range(count)]
    collector.calibrate({key: items}, manager)
    return collector.get_model_qsvs()


def _with_signature(data: bytes, signature: Signature) -> bytes:
    """The file with a signature by the tensors' own names."""
    from ai_edge_litert import schema_py_generated as schema

    def named(pairs: tuple[tuple[str, int], ...]) -> list[Any]:
        out = []
        for name, index in pairs:
            item = schema.TensorMapT()
            item.name, item.tensorIndex = name, index
            out.append(item)
        return out

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    added = schema.SignatureDefT()
    added.signatureKey, added.subgraphIndex = KEY, signature.subgraph
    added.inputs, added.outputs = named(signature.inputs), named(signature.outputs)
    model.signatureDefs = [added]
    flatbuffers: Any = importlib.import_module("flatbuffers")
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
