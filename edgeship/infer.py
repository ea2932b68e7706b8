"""Ask a device for answers through its own serving code, over the pinned SSH channel.

The request is what any client of the Open Inference Protocol v2 would post: FP32 tensors, BYTES where text is wanted,
in the binary extension; the agent quantizes and dequantizes. So what is seen here is what the device's users see.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship import dataset
from edgeship.dataset import Dataset
from edgeship.deploy.client import AgentClient, Reply
from edgeship.errors import DeviceError, UsageError
from edgeship.preparation import Preparation
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.tensors import frame_texts
from edgeship.runtime.wire import DATATYPES, DTYPE_OF, TEXT, objects, parse_object

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What a device answered to one sample."""

    sample: int  # index in the data
    label: str | None  # the true one, where the data has it
    predicted: str | None  # the class of the highest score of the first output
    confidence: float | None  # that score
    milliseconds: float  # round trip over the channel, not the device's latency
    outputs: dict[str, list[float]]  # flat, float

    @property
    def right(self) -> bool | None:
        """Whether the predicted class is the true one; None where there is no label."""
        return None if self.label is None else self.predicted == self.label


def infer(
    client: AgentClient, path: Path, indices: Sequence[int], labels: Sequence[str] = (),
    preparation: Preparation | None = None,
) -> list[Answer]:  # fmt: skip
    """A device's answers to samples.

    Args:
        client: an open client of the device's agent.
        path: data for the inputs of what the device serves, and maybe labels.
        indices: which samples.
        labels: names of classes; empty: the index is the name.
        preparation: how images or recordings become samples.

    Raises:
        UsageError: a sample outside of the data, or no such file.
        InputError: the data does not fit the model's inputs.
        DeviceError: the device serves nothing, refused, or answered what is not the protocol.
    """
    model = client.request("status").result.get("model")
    if not isinstance(model, str):
        raise DeviceError(
            f"{client.device_name}: serves no model", device=client.device_name, stage="infer", code="no-model",
            hint=f"edgeship push MODEL -l name={client.device_name}",
        )  # fmt: skip
    inputs = _inputs(client, model)
    data = dataset.read(path, inputs, preparation=preparation, classes=labels)
    if indices and max(indices) >= len(data):
        raise UsageError(
            f"sample {max(indices)} was asked for, {path} has {len(data)}", hint="a smaller --start or --n"
        )
    return [_ask(client, model, inputs, data, index, labels) for index in indices]


def _ask(
    client: AgentClient, model: str, inputs: Sequence[TensorSpec], data: Dataset, index: int, labels: Sequence[str]
) -> Answer:  # fmt: skip
    headers, body = _request(inputs, data, index)
    started = time.perf_counter()
    reply = _http(client, "POST", f"/v2/models/{model}/infer", headers, body)
    milliseconds = (time.perf_counter() - started) * 1000
    outputs = _outputs(reply.result, reply.data, client.device_name)
    scores = next(iter(outputs.values()))
    best = int(scores.argmax())
    truth = None if data.labels is None else int(data.labels[index])
    return Answer(
        sample=index,
        label=None if truth is None else _name(truth, labels),
        predicted=_name(best, labels),
        confidence=float(scores[best]),
        milliseconds=milliseconds,
        outputs={name: [float(v) for v in array] for name, array in outputs.items()},
    )


def _name(index: int, labels: Sequence[str]) -> str:
    return labels[index] if 0 <= index < len(labels) else str(index)


def _request(inputs: Sequence[TensorSpec], data: Dataset, index: int) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an infer request for one sample: binary both ways, quantized inputs as FP32."""
    tensors: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for spec in inputs:
        dtype, values = "float32" if spec.scale else spec.dtype, data.inputs[spec.name][index]
        if dtype == TEXT:
            raw = frame_texts(values.reshape(-1).tolist())
        else:
            raw = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()
        tensors.append(
            {"name": spec.name, "datatype": DATATYPES[dtype], "shape": list(spec.shape),
             "parameters": {"binary_data_size": len(raw)}}
        )  # fmt: skip
        parts.append(raw)
    encoded = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(encoded))}
    return headers, b"".join([encoded, *parts])


def _http(client: AgentClient, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
    reply = client.request("http", data=body, method=method, path=path, headers=dict(headers))
    status = int(reply.result.get("status", 0))
    if status != 200:
        raise DeviceError(
            f"{client.device_name} answered {status} to {method} {path}: {_reason(reply.data)}",
            device=client.device_name, stage="infer", hint=f"edgeship logs {client.device_name}",
        )  # fmt: skip
    return reply


def _reason(body: bytes) -> str:
    try:
        return str(parse_object(body).get("error", ""))[:500]
    except ProtocolError:
        return f"{len(body)} bytes that are no JSON"


def _inputs(client: AgentClient, model: str) -> list[TensorSpec]:
    """The inputs of what the device serves, from its model metadata."""
    reply = _http(client, "GET", f"/v2/models/{model}", {}, b"")
    try:
        return [
            TensorSpec.parse(item | {"dtype": DTYPE_OF.get(item.get("datatype", "")), **(item.get("parameters") or {})})
            for item in objects(parse_object(reply.data), "inputs")
        ]
    except (ProtocolError, TypeError) as error:
        raise _not_the_protocol(client.device_name, error) from error


def _outputs(result: Mapping[str, Any], body: bytes, device: str) -> dict[str, Array]:
    """The outputs of an answer, flat by name. Raises DeviceError for an answer that is not the protocol."""
    try:
        length = int(result["headers"]["inference-header-content-length"])
        at = length
        out: dict[str, Array] = {}
        for item in objects(parse_object(body[:length]), "outputs"):
            size = int(item["parameters"]["binary_data_size"])
            flat = np.frombuffer(body[at : at + size], dtype=np.dtype(DTYPE_OF[item["datatype"]]).newbyteorder("<"))
            if not flat.size or flat.size != math.prod(item["shape"]):
                raise ValueError(f"{flat.size} elements for shape {item['shape']}")
            out[str(item["name"])] = flat.astype(np.float64)
            at += size
        if not out:
            raise ValueError("no outputs")
        return out
    except (KeyError, ValueError, TypeError, ProtocolError) as error:
        raise _not_the_protocol(device, error) from error


def _not_the_protocol(device: str, error: Exception) -> DeviceError:
    return DeviceError(
        f"{device}: answered what is not the Open Inference Protocol: {error}", device=device, stage="infer",
        hint=f"edgeship logs {device}",
    )  # fmt: skip
