"""Two real models beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.optimize.compare import charts, report
from edgeship.optimize.compare.perform import Comparison, compare
from edgeship.reporter import Reporter
from edgeship.targets import child, registry
from edgeship.targets.scheme import Scheme
from tests.simulators import inline
from tests.simulators.models import SHAPE, pair_onnx, samples, tiny_onnx, tiny_tflite

FORMATS = {"onnx": tiny_onnx, "tflite": tiny_tflite}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def data(n: int = 40) -> Dataset:
    x, labels = samples(n)
    return Dataset({"image": x.reshape(n, *SHAPE)}, labels)


def compared(a: Path, b: Path, samples_: Dataset | None, folder: Path) -> Comparison:
    return compare(registry.inspect(a), registry.inspect(b), samples_, folder, Reporter())


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_variant_is_close_in_every_layer(tmp_path: Path, name: str) -> None:
    a = FORMATS[name](tmp_path / f"a.{name}", "float32").path
    target = registry.target(name)
    b = target.build(target.inspect(a), Scheme("int8"), data(), tmp_path / "c", Reporter()).path
    found = compared(a, b, data(), tmp_path / "c")
    assert {row.a.name for row in found.worst} >= {"logits", "probabilities"}
    assert all(row.difference is not None and row.difference.sqnr_db > 30 for row in found.worst)
    assert found.answers is not None
    assert (found.answers.agreement, found.answers.changes) == (1.0, ())
    dense = next(row for row in found.layers if row.a.name == "logits")
    assert dense.b is not None
    assert dense.b.weights < dense.a.weights / 3
    assert found.only_b == ()


@pytest.mark.parametrize("name", FORMATS)
def test_the_layer_whose_weights_are_wrong_is_first(tmp_path: Path, name: str) -> None:
    a = FORMATS[name](tmp_path / f"a.{name}", "float32").path
    b = FORMATS[name](tmp_path / f"b.{name}", "float32", bad=True).path
    found = compared(a, b, data(), tmp_path / "c")
    assert found.worst[0].a.name == "logits"
    soft = next(row.difference for row in found.layers if row.a.name == "probabilities")
    assert soft is not None
    assert soft.noise > 1  # what comes in is wrong
    assert soft.added < 1e-9  # and the layer itself is not
    assert found.answers is not None
    assert found.answers.agreement < 0.2
    assert found.answers.right_a is not None
    assert found.answers.right_a > 0.9
    first = found.answers.changes[0]
    assert (first.after - first.before) % 10 == 1  # its classes are turned by one
    assert "logits" in report.verdict(found)
    added = str(report.worst_rows(found)[0][2])  # the sentence, the table and the bar say one number
    assert f" {added} of its signal" in report.verdict(found)
    assert f">{added}<" in charts.blame(found.worst)


def test_without_data_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real = child.run

    def noted(step: str, *args: Any, **settings: Any) -> dict[str, Any]:
        steps.append(step)
        return real(step, *args, **settings)

    monkeypatch.setattr(child, "run", noted)
    a = tiny_onnx(tmp_path / "a.onnx", "float32").path
    found = compared(a, tiny_onnx(tmp_path / "b.onnx").path, None, tmp_path / "c")
    assert "edgeship.targets.difference" not in steps
    assert (found.answers, found.samples) == (None, 0)
    assert all(row.difference is None for row in found.layers)
    assert sum(row.a.weights for row in found.layers) > 2500
    assert "errors need --data" in report.verdict(found)


def test_models_of_two_formats_share_their_outputs(tmp_path: Path) -> None:
    a = tiny_onnx(tmp_path / "a.onnx", "float32").path
    found = compared(a, tiny_tflite(tmp_path / "b.tflite").path, data(), tmp_path / "c")
    assert found.format is None
    assert [row.a.name for row in found.worst] == ["probabilities"]
    assert found.answers is not None
    assert found.answers.agreement > 0.95


def test_models_of_other_inputs_are_refused(tmp_path: Path) -> None:
    a, b = tiny_onnx(tmp_path / "a.onnx", "float32").path, pair_onnx(tmp_path / "b.onnx").path
    with pytest.raises(UsageError, match="do not correspond"):
        compared(a, b, data(), tmp_path / "c")


def test_an_open_batch_and_two_inputs(tmp_path: Path) -> None:
    path = pair_onnx(tmp_path / "p.onnx").path
    pairs = Dataset({n: np.random.default_rng(i).random((4, 1, 4)).astype(np.float32) for i, n in enumerate("ab")})
    found = compared(path, path, pairs, tmp_path / "c")
    assert report.verdict(found) == "every tensor that could be compared is the same"
    dynamic = tiny_onnx(tmp_path / "d.onnx", "float32", dynamic=True).path
    found = compared(dynamic, tiny_onnx(tmp_path / "b.onnx").path, data(5), tmp_path / "c")
    assert found.answers is not None
    assert found.answers.samples == 5


def test_the_page_stands_alone_and_escapes_names(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(tiny_onnx(tmp_path / "a.onnx", "float32").path))
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "logits":
                    names[index] = "<script>logits"
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    other = tiny_onnx(tmp_path / "b.onnx", "float32", bad=True).path
    page = report.html(compared(tmp_path / "a.onnx", other, data(), tmp_path / "c"), ("<b>zero</b>",))
    assert "<script" not in page
    assert "&lt;script&gt;logits" in page
    assert "<b>zero" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert page.count("<svg") >= 4
    assert "Answers that changed" in page
    bare = report.html(compared(tmp_path / "a.onnx", other, None, tmp_path / "c"))
    assert "Error of every layer" not in bare
    assert "Size by layer" in bare
