"""SavedModel folders: read without TensorFlow, one signature converted to both formats, hostile folders refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import model
from edgeship.dataset import Dataset
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter
from edgeship.targets import answers, child, registry
from edgeship.targets.savedmodel import variables
from edgeship.targets.scheme import Scheme
from tests.simulators import keras_models, saved_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_models.make(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def net(models: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(models / "net", tmp_path / "net"))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_facts_come_from_the_graph_of_the_signature(models: Path) -> None:
    facts = registry.inspect(models / "net")
    assert (facts.format, facts.precision, facts.open_shapes) == ("savedmodel", "float32", True)
    assert [(s.name, s.dtype, s.shape) for s in facts.inputs] == [("image", "float32", (1, 8, 8, 1))]
    assert [(s.name, s.shape) for s in facts.outputs] == [("features", (1, 144)), ("probabilities", (1, 10))]
    assert facts.parameters == 9 * 4 + 144 * 10
    assert facts.operators == {"Conv2D": 1, "MatMul": 1, "Relu": 1, "Reshape": 1, "Softmax": 1}
    assert facts.details["signature"] == "serving_default"
    names = {c.relative_to(facts.path).as_posix() for c in facts.companions}
    assert {"saved_model.pb", "variables/variables.index"} <= names
    assert facts.bytes == sum(c.stat().st_size for c in facts.companions)
    assert ModelFacts.parse(facts.path, facts.encode()) == facts


def test_another_signature_is_another_model(models: Path) -> None:
    default, scale = (registry.inspect(models / "two", name) for name in (None, "scale"))
    assert [s.name for s in default.inputs] == ["x"]
    assert [(s.name, s.dtype, s.shape) for s in scale.inputs] == [("times", "int32", (1,)), ("x", "float32", (1, 4))]
    assert "Sum" in default.operators
    assert "Sum" not in scale.operators
    assert default.details["other signatures"] == "scale"


def test_a_signature_that_is_not_there_is_named_with_those_that_are(models: Path) -> None:
    with pytest.raises(UsageError, match="no signature 'scales'; did you mean 'scale'") as caught:
        registry.inspect(models / "two", "scales")
    assert "--signature scale or serving_default" in str(caught.value.hint)
    (models / "m.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="a signature is chosen in a SavedModel; this is keras"):
        registry.inspect(models / "m.keras", "scale")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unsafe", "it holds WriteFile, which reads or writes files"),
        ("texts", "input 'x' is text, which this format cannot be served with"),
        ("open", r"input 'x' leaves more than the batch open: \[1, '\?', 3\]"),
    ],
)
def test_what_cannot_be_served_is_refused_when_it_is_read(models: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        registry.inspect(models / name)


def test_tensorflow_is_never_imported_here(models: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.targets.savedmodel import inspect;"
        f"inspect.perform({{'path': {str(models / 'net')!r}}}, Path('.'));"
        "print(sorted({'tensorflow', 'keras', 'google'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# ── hostile and damaged folders ──────────────────────────────────────────────────────────────────────────────────────


def test_links_out_and_special_files_are_not_followed(net: Path) -> None:
    index = net / "variables" / "variables.index"
    (net / "assets").mkdir(exist_ok=True)
    os.mkfifo(net / "assets" / "pipe")
    with pytest.raises(InputError, match="assets/pipe is a link or no regular file"):
        registry.inspect(net)
    (net / "assets" / "pipe").unlink()
    index.rename(net / "elsewhere")
    index.symlink_to(net / "elsewhere")
    with pytest.raises(InputError, match=r"variables/variables\.index is a link"):
        registry.inspect(net)


def test_a_linked_folder_is_not_followed(net: Path, tmp_path: Path) -> None:
    (net / "variables").rename(tmp_path / "elsewhere")
    (net / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="variables is a link"):
        registry.inspect(net)


def test_missing_variables_are_named(net: Path) -> None:
    (net / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match=r"variables/variables\.index is missing"):
        registry.inspect(net)
    shutil.rmtree(net / "variables")
    with pytest.raises(InputError, match="its variables are missing"):
        registry.inspect(net)


def test_damaged_variables_are_an_error_before_anything_is_made_of_the_model(net: Path) -> None:
    index = net / "variables" / "variables.index"
    whole = index.read_bytes()
    assert registry.inspect(net).parameters == 3 * 3 * 4 + 6 * 6 * 4 * 10
    for raw in (b"", whole[:-1], whole[: len(whole) // 2], b"\0" * len(whole), np.random.default_rng(0).bytes(300)):
        index.write_bytes(raw)
        with pytest.raises(InputError, match=r"its variables/variables\.index is damaged: ") as caught:
            registry.inspect(net)
        assert caught.value.hint == "copy the whole folder again, or export the model again"
    for at in range(len(whole) - 48):  # all but the padding of the footer
        index.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"variables/"):
            variables.check(net / "variables")
    index.write_bytes(whole)
    variables.check(net / "variables")


def test_values_that_end_too_early_are_an_error_with_the_variable(net: Path) -> None:
    data = net / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(InputError, match=r"data-00000-of-00001 ends too early: 200 bytes, and .* ends at \d{4}"):
        registry.inspect(net)


def test_a_packed_index_is_left_to_tensorflow(net: Path) -> None:
    index = net / "variables" / "variables.index"
    raw = bytearray(index.read_bytes())
    block, _ = variables._handle(bytes(raw), variables._handle(bytes(raw), len(raw) - 48)[1])
    raw[sum(block)] = 1
    index.write_bytes(raw)
    variables.check(net / "variables")


def test_the_checksum_is_crc_32c() -> None:
    assert variables._checksum(b"123456789") == 0xE3069283  # the check value of the catalogue of CRC algorithms


def test_too_much_is_refused(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model, "MAX_FILES", 2)
        with pytest.raises(InputError, match="more than 2 files"):
            registry.inspect(net)
    monkeypatch.setattr(model, "MAX_MODEL", 100)
    with pytest.raises(InputError, match="over the limit of 100"):
        registry.inspect(net)


@pytest.mark.parametrize("percent", [0, 1, 10, 30, 50, 70, 90, 99])
def test_a_truncated_graph_is_an_input_error(net: Path, percent: int) -> None:
    file = net / "saved_model.pb"
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) * percent // 100])
    with pytest.raises(InputError, match=r"saved_model\.pb|no signature|no inputs|variables"):
        registry.inspect(net)


def test_random_bytes_are_an_input_error(net: Path) -> None:
    for seed in range(3):
        (net / "saved_model.pb").write_bytes(np.random.default_rng(seed).bytes(4000))
        with pytest.raises(InputError, match="net: "):
            registry.inspect(net)


def test_a_change_of_any_file_changes_the_digest(net: Path) -> None:
    before = registry.inspect(net)
    (net / "notes.txt").write_text("no part of the model")
    assert registry.inspect(net).sha256 == before.sha256
    with (net / "variables" / "variables.data-00000-of-00001").open("r+b") as file:
        file.write(b"\x01")
    assert registry.inspect(net).sha256 != before.sha256


# ── converting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "path", "signature", "shapes"),
    [
        ("net", "net", None, None), ("two-serving_default", "two", None, None), ("two-scale", "two", "scale", None),
        ("open", "open", None, {"x": saved_models.OPEN}),
        *((name, name, None, None) for name in saved_models.RECURRENT),
    ],
)  # fmt: skip
def test_both_formats_answer_like_the_saved_model(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, signature: str | None, shapes: Any
) -> None:
    facts = registry.inspect(models / path, signature, shapes)
    data = Dataset(keras_models.samples(models, name))
    folder = models / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, name))
        registry.prepare(facts, [data], folder)
    for target in registry.targets().values():
        variant = target.build(facts, Scheme("float32"), None, folder, Reporter())
        assert {s.name: s.shape for s in variant.inputs} == {s.name: s.shape for s in facts.inputs}
        assert {s.name: s.shape for s in variant.outputs} == {s.name: s.shape for s in facts.outputs}
        assert variant.recipe.steps[0].get("shapes") == shapes
        assert variant.recipe.steps[0]["do"] == "savedmodel-export"
        assert variant.recipe.steps[0]["signature"] == facts.details["signature"]
        wanted = registry.source_answers(facts, variant, data, Reporter())
        for expected, given in zip(wanted, answers.of_variant(variant, data), strict=True):
            assert expected.shape[0] == saved_models.SAMPLES
            assert np.allclose(expected, given, atol=1e-5)
            assert np.ptp(expected) > 0.1


def test_the_answers_are_those_of_the_formula(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: Any = registry.inspect(models / "two", "scale")
    data = Dataset(keras_models.samples(models, "two-scale"))
    with monkeypatch.context() as patch:
        patch.setattr(child, "run", keras_models.exported(models, "two-scale"))
        registry.prepare(facts, [data], models / "cache")
    variant = registry.target("onnx").build(facts, Scheme("float32"), None, models / "cache", Reporter())
    (answer,) = registry.source_answers(facts, variant, data, Reporter())
    assert np.allclose(answer[:, 0], data.inputs["x"][:, 0] * data.inputs["times"])
