"""Has ai-edge-quantizer make what `plan` decided: treatments become its recipe, with a rule for each exception.

Its recipe is a list of rules, (regular expression of a scope, operator) -> configuration, of which the last that
matches counts. A scope is the names of the tensors that an operator writes, each with ";" behind it; the file's inputs
and outputs are operators too, INPUT and OUTPUT. Exceptions of one kind are one rule: it looks through all rules for
every operator, and Python keeps no more than 512 compiled expressions.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeship.targets.scheme import CALIBRATED, Scheme
from edgeship.targets.tflite import shared, versions
from edgeship.targets.tflite.plan import HOW, KEPT, Treatment
from edgeship.targets.tflite.prepare import packed
from edgeship.targets.tflite.reader import Structure, read
from edgeship.targets.tflite.unpack import unpacked

Ranges = Mapping[str, tuple[float, float]]  # tensor -> (smallest, largest)


def takes() -> dict[str, frozenset[int]]:
    """How -> builtin codes that the installed quantizer can treat so."""
    from ai_edge_quantizer import algorithm_manager
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    out: dict[str, frozenset[int]] = {}
    for how in HOW[1:]:
        algorithm, config = _config(how, Scheme("int8"))
        codes: list[int] = []
        for code, name in tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.items():
            try:
                algorithm_manager.check_op_quantization_config(algorithm, name, config)
            except ValueError:
                continue
            codes.append(int(code))
        out[how] = frozenset(codes)
    return out


def float_endpoints(structure: Structure, treatments: Sequence[Treatment], scheme: Scheme) -> tuple[bool, bool]:
    """Whether the inputs, and whether the outputs, stay in float.

    By default both are int8 (int16 for int16×8), as this format's quantizers make them; but inputs that no static
    operator reads and outputs that a float operator writes stay in float: one more rounding would gain nothing. Inputs
    that a layer to keep reads stay in float too: it is to be computed with what is given, not with what int8 leaves.
    """
    if scheme.precision not in CALIBRATED or scheme.endpoints == "float32":
        return True, True
    if scheme.endpoints == "int8":
        return False, False
    graph = structure.subgraphs[0]
    static = [graph.operators[t.operator] for t in treatments if t.subgraph == 0 and t.how in CALIBRATED]
    read = {i for operator in static for i in operator.inputs}
    kept = {i for t in treatments if t.subgraph == 0 and t.why == KEPT for i in graph.operators[t.operator].inputs}
    written = {i for operator in static for i in operator.outputs}

    def floats(side: Iterable[int]) -> set[int]:
        return {i for i in side if graph.tensors[i].dtype == "float32"}

    inputs = floats(graph.inputs)
    return not inputs & read or bool(inputs & kept), not floats(graph.outputs) <= written


def quantize(
    data: bytes, structure: Structure, treatments: Sequence[Treatment], scheme: Scheme, ranges: Ranges
) -> bytes:  # fmt: skip
    """The file with every operator computed as its treatment says.

    Args:
        data: a float file with a signature and unique names.
        structure: of the same.
        treatments: of all its operators.
        scheme: granularity, symmetry, and types of the inputs and outputs.
        ranges: of the activations; they are needed where a treatment is static.
    """
    import numpy as np
    from ai_edge_quantizer import qtyping, quantizer

    apart = shared.apart(data, structure, treatments)
    work = quantizer.Quantizer(bytearray(apart))
    names = qtyping.TFLOperationName
    algorithm, config = _config(scheme.precision, scheme)
    work.update_quantization_recipe(".*", names.ALL_SUPPORTED, config, algorithm)
    if scheme.calibrated:
        # its kernel takes one scale for a constant: with one for each column the answers are wrong, without any error
        _, whole = _config(scheme.precision, dataclasses.replace(scheme, per_channel=False))
        work.update_quantization_recipe(".*", names.BATCH_MATMUL, whole, algorithm)
    if scheme.precision == "dynamic":
        # its kernel reads a scale for each channel, whatever there is
        _, by_channel = _config("dynamic", dataclasses.replace(scheme, per_channel=True))
        work.update_quantization_recipe(".*", names.DEPTHWISE_CONV_2D, by_channel, algorithm)
    for (operator, how), scopes in _exceptions(structure, treatments, scheme).items():
        each = how == "dynamic" and operator == names.DEPTHWISE_CONV_2D.value
        algorithm, config = _config(how, dataclasses.replace(scheme, per_channel=scheme.per_channel or each))
        alternatives = "|".join(re.escape(scope) for scope in scopes)
        work.update_quantization_recipe(f"^(?:{alternatives});$", names(operator), config, algorithm)
    seen: dict[str, Any] = {
        name: {"min": np.full((1,) * rank, low, np.float32), "max": np.full((1,) * rank, high, np.float32)}
        for (name, (low, high)), rank in zip(ranges.items(), _ranks(structure, ranges), strict=True)
    }
    # it insists on ranges wherever one rule is static, though a table that is looked up needs none
    seen = seen or {"": {"min": np.zeros(1), "max": np.zeros(1)}}
    result = work.quantize(
        seen if work.need_calibration else None, enable_progress_report=False, enable_progress_bar=False
    )
    assert result.quantized_model is not None
    made = versions.told(_one_set_of_outputs(bytes(result.quantized_model), structure))
    return made if apart is data else shared.once(made)


def _one_set_of_outputs(data: bytes, before: Structure) -> bytes:
    """The quantized file with the outputs of its signature as those of its main graph.

    Where an operator in float reads an output too, the quantizer puts its float copy among the graph's outputs and
    leaves the signature as it was; LiteRT ends the process on such a file.
    """
    made, graph = read(data), before.subgraphs[0]
    places = {name: graph.outputs.index(index) for name, index in before.signatures[0].outputs}
    outputs = list(made.subgraphs[0].outputs)
    for name, index in made.signatures[0].outputs:
        outputs[places[name]] = index
    if outputs == list(made.subgraphs[0].outputs):
        return data
    model = unpacked(data)
    model.subgraphs[0].outputs = outputs
    return packed(model, len(data))


def _ranks(structure: Structure, ranges: Ranges) -> list[int]:
    by_name = {t.name: len(t.shape) for graph in structure.subgraphs for t in graph.tensors}
    return [by_name[name] for name in ranges]


def _exceptions(
    structure: Structure, treatments: Sequence[Treatment], scheme: Scheme
) -> dict[tuple[str, str], list[str]]:  # fmt: skip
    """(operator, how) -> scopes, of everything that is not as the scheme says."""
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    names = {int(code): name.value for code, name in tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.items()}
    out: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for item in treatments:
        if item.how != scheme.precision and item.code in names:
            out[(names[item.code], item.how)].append(item.output)
    float_inputs, float_outputs = float_endpoints(structure, treatments, scheme)
    for number, graph in enumerate(structure.subgraphs):
        for operator, indices, stays in (
            ("INPUT", graph.inputs, float_inputs), ("OUTPUT", graph.outputs, float_outputs)
        ):  # fmt: skip
            if number > 0 or stays:  # a branch is called with what its caller has
                out[(operator, "float")].append(";".join(graph.tensors[i].name for i in indices))
    return out


def _config(how: str, scheme: Scheme) -> tuple[Any, Any]:
    """(algorithm, configuration of an operator) of ai-edge-quantizer."""
    from ai_edge_quantizer import algorithm_manager, qtyping

    algorithms = algorithm_manager.AlgorithmName
    if how == "float":
        return algorithms.NO_QUANTIZE, None
    tensor, precision = qtyping.TensorQuantizationConfig, qtyping.ComputePrecision
    if how == "float16":
        half = tensor(num_bits=16, symmetric=True, dtype=qtyping.TensorDataType.FLOAT)
        return algorithms.FLOAT_CASTING, qtyping.OpQuantizationConfig(
            weight_tensor_config=half, compute_precision=precision.FLOAT, explicit_dequantize=True
        )
    granularity = qtyping.QuantGranularity
    weights = tensor(
        num_bits=8,
        symmetric=True,
        granularity=granularity.CHANNELWISE if scheme.per_channel else granularity.TENSORWISE,
    )
    inside = {
        "int8": tensor(num_bits=8, symmetric=scheme.symmetric), "int16x8": tensor(num_bits=16, symmetric=True),
    }.get(how)  # fmt: skip
    return algorithms.MIN_MAX_UNIFORM_QUANT, qtyping.OpQuantizationConfig(
        activation_tensor_config=inside, weight_tensor_config=weights,
        compute_precision=precision.FLOAT if how == "int8-weights" else precision.INTEGER,
        explicit_dequantize=how == "int8-weights",
    )  # fmt: skip
