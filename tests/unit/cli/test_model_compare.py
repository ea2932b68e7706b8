"""`edgeship model compare` for people and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulators import inline
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.models import samples, tiny_onnx


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inline.patch(monkeypatch)
    tiny_onnx(tmp_path / "a.onnx", "float32")
    tiny_onnx(tmp_path / "b.onnx", "float32", bad=True)
    x, labels = samples(30)
    np.savez(tmp_path / "d.npz", image=x, labels=labels)


def test_json_holds_to_its_schema_and_the_page_is_written(tmp_path: Path) -> None:
    found = run_json("model.compare", "model", "compare", "a.onnx", "b.onnx", "--data", "d.npz", "--html", "c.html")
    ranks = {layer["rank"]: layer["name"] for layer in found["layers"]}
    assert ranks[1] == "logits"
    assert found["answers"]["right_a"] > 0.9 > found["answers"]["right_b"]
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")


def test_people_see_the_worst_layers_and_what_changed() -> None:
    text = run("model", "compare", "a.onnx", "b.onnx", "--data", "d.npz").stdout
    assert "most error is added in logits (Gemm)" in text
    assert "ANSWER OF A" in text
    bare = run("model", "compare", "a.onnx", "b.onnx").stdout
    assert "errors need --data" in bare
    assert "2600" in bare


def test_bad_input_is_one_clear_error(tmp_path: Path) -> None:
    assert "no such file" in run_error("model", "compare", "a.onnx", "x.onnx", exit_code=2)["message"]
    assert "no such data" in run_error("model", "compare", "a.onnx", "b.onnx", "--data", "x", exit_code=2)["message"]
    error = run_error("model", "compare", "a.onnx", "b.onnx", "--html", "no/such/c.html", exit_code=2)
    assert "cannot be written" in error["message"]
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:300])
    assert "cut.onnx" in run_error("model", "compare", "cut.onnx", "b.onnx", exit_code=1)["message"]
