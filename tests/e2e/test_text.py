"""A model of text goes to a device, and answers there over HTTP what the float model does."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.simulators import text_models
from tests.simulators.commandline import run, run_json

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    words, topic = text_models.texts(300)
    np.savez_compressed("calibration.npz", text=words[:100])
    np.savez_compressed("evaluation.npz", text=words[100:], labels=topic[100:])
    text_models.topics(tmp_path / "topics.onnx")
    try:
        run("init", "--name", "topics")
        run("lab", "up", "pi=raspberry-pi-5")
        yield tmp_path
    finally:
        run("agent", "uninstall", "-l", "name=pi", "--yes")
        run("lab", "down")


def test_a_model_of_text_is_pushed_and_asked(project: Path) -> None:
    pushed = run_json("push", "push", "-l", "name=pi", "--no-bench")
    assert pushed["checks"]["onnx int8"]["variant"] >= 0.99

    answers = run_json("infer", "infer", "pi", "--data", "evaluation.npz", "--n", "20")
    assert [answer["predicted"] for answer in answers] == [answer["label"] for answer in answers]

    (device,) = [d for d in run_json("device.list", "device", "list") if d["name"] == "pi"]
    url = f"http://127.0.0.1:{device['serve_port']}/v2/models/topics/infer"
    words = ["Ball", "GOAL", "team", "rain", "", "score", "win", "ß"]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 8], "data": words}
    with urllib.request.urlopen(url, json.dumps({"inputs": [tensor]}).encode(), timeout=10) as answer:
        shares = json.load(answer)["outputs"][0]["data"]
    assert list(text_models.TOPICS)[int(np.argmax(shares))] == "sport"

    tensor["data"] = ["ball"] * 7 + ["x" * 1025]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, json.dumps({"inputs": [tensor]}).encode(), timeout=10)
    with refused.value as reply:
        assert (reply.code, "over the limit of 1024" in json.load(reply)["error"]) == (400, True)
