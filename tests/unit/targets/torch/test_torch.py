"""Exported PyTorch programs: read without torch, cleaned before torch sees them, converted to ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import Dataset
from edgeship.errors import InputError
from edgeship.reporter import Reporter
from edgeship.targets import answers, child, registry
from edgeship.targets.scheme import Scheme
from edgeship.targets.torch import archive
from tests.simulators import inline, keras_models, torch_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_models.make(tmp_path_factory.mktemp("torch"))


@pytest.fixture(autouse=True)
def here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline.patch(monkeypatch)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_facts_come_from_the_graph(models: Path) -> None:
    facts = registry.inspect(models / "net.pt2")
    assert (facts.format, facts.precision, facts.open_shapes) == ("torch", "float32", True)
    assert [(s.name, s.dtype, s.shape) for s in facts.inputs] == [("x", "float32", (1, 3, 8, 8))]
    assert [(s.name, s.shape) for s in facts.outputs] == [("softmax", (1, 10))]
    assert facts.operators["conv2d"] == facts.operators["linear"] == 1
    assert facts.parameters == (27 * 4 + 4) + 4 * 4 + (4 * 36 * 10 + 10)
    two = registry.inspect(models / "two.pt2")
    assert [(s.name, s.dtype) for s in two.inputs] == [("ids", "int64"), ("mask", "float32")]
    assert not two.open_shapes


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("train", "exported while in training", r"model\.eval"),
        ("half", "its weights are float16", r"model\.float"),
        ("open", "leaves more than the batch open", "fixed shapes"),
        ("object", "no tensor as an input", "tensors alone"),
    ],
)
def test_what_cannot_be_converted_is_refused_when_it_is_read(models: Path, name: str, words: str, hint: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        registry.inspect(models / f"{name}.pt2")
    assert not hint or hint.replace("\\", "") in str(caught.value.hint)


def test_torch_is_never_imported_here(models: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.targets.torch import inspect;"
        f"inspect.perform({{'path': {str(models / 'net.pt2')!r}}}, Path('.')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("percent", [0, 1, 10, 50, 90, 99])
def test_a_truncated_file_is_an_input_error(models: Path, tmp_path: Path, percent: int) -> None:
    raw = (models / "net.pt2").read_bytes()
    (tmp_path / "cut.pt2").write_bytes(raw[: len(raw) * percent // 100])
    with pytest.raises(InputError, match=r"cut\.pt2"):
        registry.inspect(tmp_path / "cut.pt2")


# ── hostile archives ─────────────────────────────────────────────────────────────────────────────────────────────────


def graph(change: Any) -> Any:
    def apply(name: str, data: bytes) -> bytes:
        if not name.startswith("models/"):
            return data
        decoded = json.loads(data)
        change(decoded)
        return json.dumps(decoded).encode()

    return apply


def first_node(key: str, value: Any) -> Any:
    return graph(lambda data: data["graph_module"]["graph"]["nodes"][0].update({key: value}))


def batch_size(text: str) -> Any:
    def change(data: Any) -> None:
        sizes = data["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = text

    return graph(change)


def config(folder: str, **values: Any) -> Any:
    def apply(name: str, data: bytes) -> bytes:
        if name != f"data/{folder}/model_{folder}_config.json":
            return data
        decoded = json.loads(data)
        decoded["config"].setdefault("added", {"path_name": "tensor_0", "use_pickle": False})
        for item in decoded["config"].values():
            item.update(values)
        return json.dumps(decoded).encode()

    return apply


def containers(data: Any) -> None:
    signature = data["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")


def script_object(data: Any) -> None:
    data["graph_module"]["graph"]["inputs"].append({"as_custom_obj": {"name": "a", "class_fqn": "b"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (first_node("target", "torch.os.system"), "operator 'torch.os.system'"),
        (first_node("target", "torch.ops.aten.from_file.default"), "operator"),
        (first_node("target", "torch.ops.aten.__class__.default"), "operator"),
        (first_node("target", "_operator.methodcaller"), "operator"),
        (first_node("target", "#torchbind:x"), "operator"),
        (first_node("inputs", [{"name": "f", "arg": {"as_operator": "torch.load"}, "kind": 1}]), "operator"),
        (batch_size("__import__('os').system('true')"), "no arithmetic"),
        (batch_size("Symbol('s0').__class__"), "no arithmetic"),
        (batch_size("(lambda: 1)()"), "no arithmetic"),
        (batch_size("Integer(9)**Integer(9)**Integer(9)"), "no arithmetic"),
        (config("weights", use_pickle=True), "is a pickle"),
        (config("constants", use_pickle=True), "is a pickle"),
        (config("constants", path_name="custom_obj_0"), "no plain tensor"),
        (config("weights", path_name="../../models/model.json"), "no plain tensor"),
        (graph(containers), r"are in a 'collections\.defaultdict'"),
        (graph(script_object), "custom class"),
        (graph(lambda data: data["range_constraints"].update({"__import__('os')": {}})), "symbols"),
        (graph(lambda data: data.pop("graph_module")), "none of torch.export"),
        (lambda name, data: None if name.startswith("models/") else data, "0 exported programs"),
    ],
)  # fmt: skip
def test_what_the_loader_would_execute_is_refused(models: Path, tmp_path: Path, change: Any, words: str) -> None:
    bad = torch_models.rewrite(models / "net.pt2", tmp_path / "bad.pt2", change)
    with pytest.raises(InputError, match=words):
        registry.inspect(bad)


def test_nothing_but_the_graph_and_raw_tensors_reaches_torch(models: Path, tmp_path: Path) -> None:
    program = archive.read(models / "net.pt2")
    archive.rewrite(models / "net.pt2", program, tmp_path / "safe.pt2")
    with zipfile.ZipFile(tmp_path / "safe.pt2") as safe, zipfile.ZipFile(models / "net.pt2") as old:
        assert b"executed" in old.read("clean/data/sample_inputs/model.pt")
        assert safe.read("program/data/sample_inputs/model.pt") == b""
        assert old.read("clean/data/weights/weight_0") == safe.read("program/data/weights/weight_0")
        assert {name.split("/")[1] for name in safe.namelist()} <= {
            "archive_format", "archive_version", "byteorder", ".data", "models", "data",
        }  # fmt: skip


def test_a_tensor_that_is_missing_is_named(models: Path, tmp_path: Path) -> None:
    bad = torch_models.rewrite(
        models / "net.pt2", tmp_path / "bad.pt2", lambda name, data: None if name.endswith("weight_1") else data
    )
    with pytest.raises(InputError, match="tensor weight_1 is missing"):
        archive.rewrite(bad, archive.read(bad), tmp_path / "safe.pt2")
    with pytest.raises(InputError, match="tensor weight_1 is missing"):
        registry.inspect(bad)


def test_weights_that_are_no_numbers_are_refused(models: Path, tmp_path: Path) -> None:
    nan = np.full(4, np.nan, np.float32).tobytes()
    bad = torch_models.rewrite(
        models / "net.pt2", tmp_path / "bad.pt2", lambda name, data: nan if name.endswith("weight_1") else data
    )
    with pytest.raises(InputError, match=r"4 of the weights 'conv\.bias' are NaN"):
        registry.inspect(bad)


# ── converting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_poison_in_the_sample_inputs_was_never_executed(models: Path) -> None:
    assert (models / "net-export" / "float.onnx").is_file()
    assert not (models / "poisoned").exists()


@pytest.mark.parametrize("name", ["net", "two"])
def test_onnx_answers_like_pytorch_with_channels_first(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    facts = registry.inspect(models / f"{name}.pt2")
    data = Dataset(keras_models.samples(models, name))
    folder = models / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, name))
        registry.prepare(facts, [data], folder)
    variant = registry.target("onnx").build(facts, Scheme("float32"), None, folder, Reporter())
    assert [(s.name, s.shape) for s in variant.inputs] == [(s.name, s.shape) for s in facts.inputs]
    assert [s.shape for s in variant.outputs] == [s.shape for s in facts.outputs]
    assert variant.recipe.steps[0]["do"] == "torch-export"
    wanted = registry.source_answers(facts, variant, data, Reporter())
    for expected, given in zip(wanted, answers.of_variant(variant, data), strict=True):
        assert len(expected) == torch_models.SAMPLES
        assert np.allclose(expected, given, atol=1e-5)
        assert np.ptp(expected) > 0.1
