"""What a `.keras` file's configuration says, and everything that it may not say."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import InputError
from edgeship.targets.keras import inspect
from edgeship.targets.keras.inspect import plain_name
from edgeship.targets.keras.perform import short_reason


def layer(kind: str, name: str, build: list[Any] | None = None, **config: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}}
    return out if build is None else {**out, "build_config": {"input_shape": build}}


def given(shape: Any, dtype: Any = "float32") -> dict[str, Any]:
    return layer("InputLayer", "x", batch_shape=shape, dtype=dtype)


def sequential(*layers: Any) -> dict[str, Any]:
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}


def write(path: Path, config: Any, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config) if not isinstance(config, bytes) else config)
        for name, data in more.items():
            archive.writestr(name.replace("__", "."), data)
    return path


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # without h5py the weights are not counted

    def facts(config: Any) -> dict[str, Any]:
        path = write(tmp_path / "m.keras", config, model__weights__h5=b"")
        return inspect.perform({"path": str(path)}, tmp_path)

    return facts


DENSE = layer("Dense", "scores", [None, 8], units=3)


def test_shapes_come_from_the_layers(read: Any) -> None:
    facts = read(sequential(given([None, 8]), DENSE))
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8]}]
    assert facts["outputs"] == [{"name": "scores", "dtype": "float32", "shape": [1, 3]}]
    assert facts["operators"] == {"Dense": 1, "InputLayer": 1}
    assert facts["parameters"] is None


def test_layers_that_keep_the_shape_are_known(read: Any) -> None:
    facts = read(sequential(given([None, 8]), DENSE, layer("Softmax", "p", [None, 3])))
    assert facts["outputs"] == [{"name": "p", "dtype": "float32", "shape": [1, 3]}]


@pytest.mark.parametrize(
    "last", [layer("Conv2D", "c", [None, 8, 8, 3]), layer("Dense", "d", units=3), layer("Softmax", "p", [None, None])]
)
def test_what_the_configuration_does_not_say_is_left_to_the_conversion(read: Any, last: dict[str, Any]) -> None:
    facts = read(sequential(given([None, 8]), last))
    assert facts["outputs"] == []
    assert "after the conversion" in facts["notes"][0]


def test_functional_models_name_their_ends(read: Any) -> None:
    config = sequential(given([None, 8]), DENSE, layer("Dense", "box", [None, 8], units=4))
    config["config"] |= {"input_layers": {"x": ["x", 0, 0]}, "output_layers": [["box", 0, 0], ["scores", 0, 0]]}
    facts = read(config)
    assert [(o["name"], o["shape"]) for o in facts["outputs"]] == [("box", [1, 4]), ("scores", [1, 3])]


def test_layers_of_nested_models_are_counted(read: Any) -> None:
    inner = sequential(given([None, 8]), DENSE, DENSE)
    assert read(sequential(given([None, 8]), inner, DENSE))["operators"] == {"Dense": 3, "InputLayer": 2}


QUANTIZED = layer(
    "Dense", "q", units=3, dtype={"module": "keras.dtype_policies", "class_name": "QuantizedDTypePolicy",
                                  "config": {"mode": "int8", "source_name": "float32"}},
)  # fmt: skip
RELU = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
UNREGISTERED = {"module": None, "class_name": "Mine", "registered_name": "Mine", "config": {"name": "m"}}
CUSTOM = {"module": "my.code", "class_name": "Mine", "registered_name": "pkg>Mine", "config": {"name": "m"}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (sequential(given([None, 8]), layer("Lambda", "l")), "Lambda"),
        (sequential(given([None, 8]), layer("Activation", "a", activation={"class_name": "__lambda__"})), "Lambda"),
        (sequential(given([None, 8]), CUSTOM), "custom class pkg>Mine"),
        (sequential(given([None, 8]), UNREGISTERED), "custom class Mine, which is not in the file"),
        (UNREGISTERED, "custom class Mine, which is not in the file"),
        (sequential(given([None, None, 3])), "leaves more than the batch open"),
        (sequential(given([None, True])), "leaves more than the batch open"),
        (sequential(given([None, 8], "string")), "is text, which this format cannot be served with"),
        (sequential(given([None, 8]), QUANTIZED), r"Keras has quantized its layer 'q' \(int8\)"),
        (sequential(given(None)), "never built"),
        (sequential("no layer", DENSE), "never built"),
        ({"class_name": "Mine", "config": {}}, "never built"),
        ([1, 2], "describes no Keras model"),
        ({"config": "text"}, "describes no Keras model"),
        (b"{", "not a sound .keras file"),
        (b"[" * 100_000, "not a sound .keras file"),
    ],
)
def test_what_cannot_be_used_is_refused(read: Any, config: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"layers": [], "input_layers": []}, "keras.Model(model.inputs, model.outputs).save("),
        ({}, "as ONNX"),
        (5, "as ONNX"),
    ],
)
def test_a_model_of_a_class_of_its_own_is_told_how_to_be_a_plain_one(read: Any, config: Any, words: str) -> None:
    with pytest.raises(InputError, match="custom class Mine") as caught:
        read(sequential(given([None, 8]), UNREGISTERED | {"config": config}))
    assert words in str(caught.value.hint)


def test_a_function_of_keras_by_its_name_is_no_custom_class(read: Any) -> None:
    assert read(sequential(given([None, 8]), DENSE, layer("Activation", "a", activation=RELU)))["operators"]


def test_a_custom_loss_does_not_matter(read: Any) -> None:
    config = {**sequential(given([None, 8]), DENSE), "compile_config": {"loss": CUSTOM}}
    assert read(config)["outputs"]


def test_archives_that_are_no_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no Keras model"):
        inspect.perform({"path": str(write(tmp_path / "a.keras", {}))}, tmp_path)
    outside = write(tmp_path / "b.keras", {}, model__weights__h5=b"")
    with zipfile.ZipFile(outside, "a") as archive:
        archive.writestr("assets/../../evil", b"")
    with pytest.raises(InputError, match="leads out of the archive"):
        inspect.perform({"path": str(outside)}, tmp_path)
    monkeypatch.setattr(inspect, "MAX_CONFIG", 1)
    with pytest.raises(InputError, match="over the limit"):
        inspect.perform({"path": str(write(tmp_path / "c.keras", {}, model__weights__h5=b""))}, tmp_path)


def test_names_are_made_plain() -> None:
    assert plain_name("a/b:0") == "a_b_0"
    assert plain_name("") == "_"


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    import h5py
    import numpy as np

    def weights(value: float) -> bytes:
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file["layers/dense/vars/0"] = np.full((8, 3), 0.5, np.float32)
            file["layers/dense/vars/1"] = np.array([1, value, 3], np.float32)
            file["optimizer/vars/0"] = np.full(5, np.nan, np.float32)  # of no concern
        return (tmp_path / "w.h5").read_bytes()

    config = sequential(given([None, 8]), DENSE)
    sound = write(tmp_path / "m.keras", config, model__weights__h5=weights(2.0))
    assert inspect.perform({"path": str(sound)}, tmp_path)["parameters"] == 27
    bad = write(tmp_path / "bad.keras", config, model__weights__h5=weights(float("nan")))
    with pytest.raises(InputError, match="1 of the weights 'layers/dense/vars/1' are NaN"):
        inspect.perform({"path": str(bad)}, tmp_path)


def test_the_cause_of_a_failed_operator_is_told_without_its_frame() -> None:
    text = (
        "Graph execution error:\n\nDetected at node RestoreV2 defined at (most recent call last):\n"
        "<stack traces unavailable>\nRead less bytes than requested\n\t [[{{node RestoreV2}}]]"
    )
    assert short_reason(ValueError(text)) == "ValueError: Read less bytes than requested · [[{{node RestoreV2}}]]"
