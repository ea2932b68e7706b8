"""`infer`: what is posted is the Open Inference Protocol, and a device that answers nonsense is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.deploy.client import AgentClient, Reply
from edgeship.errors import DeviceError, InputError, UsageError
from edgeship.infer import infer

METADATA = {
    "name": "digits",
    "inputs": [
        {"name": "image", "datatype": "INT8", "shape": [1, 2], "parameters": {"scale": 0.5, "zero_point": -1}},
    ],
    "outputs": [{"name": "scores", "datatype": "INT8", "shape": [1, 3]}],
}


class Scripted(AgentClient):
    """An agent that answers from a script and keeps what was asked."""

    def __init__(self, answer: tuple[dict[str, Any], bytes] | None = None, *, model: str | None = "digits") -> None:
        self.device_name, self.model, self.posted = "pi", model, []  # type: ignore[var-annotated]  # filled by request
        self.answer = answer if answer is not None else scores([0.1, 0.7, 0.2])
        self.metadata: bytes = json.dumps(METADATA).encode()

    def request(self, op: str, data: Any = None, on_event: Any = None, **fields: Any) -> Reply:
        if op == "status":
            return Reply({"model": self.model})
        if fields["method"] == "GET":
            return Reply({"status": 200, "headers": {}}, self.metadata)
        self.posted.append((fields["path"], fields["headers"], data))
        return Reply(*self.answer)


def scores(values: list[float], **wrong: Any) -> tuple[dict[str, Any], bytes]:
    raw = np.asarray(values, "<f4").tobytes()
    tensor: dict[str, Any] = {"name": "scores", "datatype": "FP32", "shape": [1, len(values)]}
    tensor |= {"parameters": {"binary_data_size": len(raw)}, **wrong}
    head = json.dumps({"outputs": [tensor]}).encode()
    return {"status": 200, "headers": {"inference-header-content-length": str(len(head))}}, head + raw


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, image=np.asarray([[0.5, 1.0], [2.0, 3.0]], np.float32), labels=np.asarray([1, 2]))
    return path


def test_quantized_inputs_are_posted_as_fp32_and_answers_stand_beside_labels(data: Path) -> None:
    client = Scripted()
    first, second = infer(client, data, [0, 1], ["a", "b", "c"])
    assert (first.label, first.predicted, first.right) == ("b", "b", True)
    assert (second.label, second.predicted, second.right) == ("c", "b", False)
    assert first.confidence == pytest.approx(0.7)
    assert first.outputs["scores"] == pytest.approx([0.1, 0.7, 0.2])
    path, headers, body = client.posted[1]
    head = json.loads(body[: int(headers["inference-header-content-length"])])
    assert path == "/v2/models/digits/infer"
    assert head["inputs"][0]["datatype"] == "FP32"
    assert np.frombuffer(body[-8:], "<f4").tolist() == [2.0, 3.0]


def test_without_labels_an_answer_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 2), np.float32))
    (answer,) = infer(Scripted(), tmp_path / "x.npz", [0])
    assert (answer.label, answer.right, answer.predicted) == (None, None, "1")


def test_a_device_that_serves_nothing_is_told_what_to_do(data: Path) -> None:
    with pytest.raises(DeviceError, match=r"^pi: serves no model") as caught:
        infer(Scripted(model=None), data, [0])
    assert caught.value.hint == "edgeship push MODEL -l name=pi"


def test_a_sample_outside_of_the_data_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="sample 2 was asked for"):
        infer(Scripted(), data, [0, 2])


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match="expected shape"):
        infer(Scripted(), tmp_path / "x.npz", [0])


def test_the_devices_reason_is_passed_on(data: Path) -> None:
    with pytest.raises(DeviceError, match="answered 400 to POST /v2/models/digits/infer: bad shape"):
        infer(Scripted(({"status": 400, "headers": {}}, b'{"error": "bad shape"}')), data, [0])
    with pytest.raises(DeviceError, match="2 bytes that are no JSON"):
        infer(Scripted(({"status": 500, "headers": {}}, b"xx")), data, [0])


@pytest.mark.parametrize(
    "answer",
    [
        ({"status": 200, "headers": {}}, b""),
        ({"status": 200, "headers": {"inference-header-content-length": "x"}}, b""),
        ({"status": 200, "headers": {"inference-header-content-length": "2"}}, b"{}"),
        ({"status": 200, "headers": {"inference-header-content-length": "14"}}, b'{"outputs":[]}'),
        scores([0.1, 0.2], shape=[1, 5]),
        scores([0.1, 0.2], datatype="BYTES"),
        scores([]),
    ],
)
def test_an_answer_that_is_not_the_protocol_is_named(answer: tuple[dict[str, Any], bytes], data: Path) -> None:
    with pytest.raises(DeviceError, match=r"^pi: answered what is not the Open Inference Protocol"):
        infer(Scripted(answer), data, [0])


@pytest.mark.parametrize("metadata", [b"{}", b'{"inputs": [{"name": "image"}]}', b"nonsense"])
def test_metadata_that_is_not_the_protocol_is_named(metadata: bytes, data: Path) -> None:
    client = Scripted()
    client.metadata = metadata
    with pytest.raises(DeviceError, match=r"^pi: answered what is not the Open Inference Protocol"):
        infer(client, data, [0])
