"""What is particular to libonnxruntime.so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeship.runtime import onnxrt
from edgeship.runtime.errors import EngineError
from edgeship.runtime.onnxrt import OnnxModel
from edgeship.runtime.tensors import pack_texts
from edgeship.runtime.wire import TEXT_BYTES
from tests.simulators import text_models
from tests.simulators.models import library, pair_onnx, samples, tiny_onnx

LIBRARY = str(library("onnx"))


def graph(path: Path, build: Callable[[Any], Any]) -> str:
    """Write a graph that `onnx.helper` builds."""
    from onnx import helper

    model = helper.make_model(build(helper), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_two_threads_answer_the_same(tmp_path: Path) -> None:
    tiny = tiny_onnx(tmp_path / "m", "float32")
    raw = tiny.quantize(samples(1)[0])
    one, two = OnnxModel(LIBRARY, str(tiny.path), 1), OnnxModel(LIBRARY, str(tiny.path), 2)
    assert one.run(raw) == two.run(raw)
    one.close()
    two.close()


def watched(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Record how sessions are created; those that `refuse` picks fail."""
    real, seen = OnnxModel._create, list[dict[str, Any]]()

    def create(self: OnnxModel, path: str, threads: int, **how: Any) -> Any:
        seen.append(how)
        if refuse(how):
            raise EngineError("Attempt to replace the existing tensor")
        return real(self, path, threads, **how)

    monkeypatch.setattr(OnnxModel, "_create", create)
    return seen


def machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=name))


def test_on_x86_64_int8_is_precise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "x86_64")
    seen = watched(monkeypatch, lambda _how: False)
    OnnxModel(LIBRARY, str(tiny_onnx(tmp_path / "m").path), 1).close()
    assert seen == [{"precise": True, "optimize": True}]


def test_elsewhere_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "aarch64")
    seen = watched(monkeypatch, lambda _how: False)
    OnnxModel(LIBRARY, str(tiny_onnx(tmp_path / "m").path), 1).close()
    assert seen == [{"precise": False, "optimize": True}]


def watched_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """Record what is asked of the library, past the session's handle."""
    real, seen = onnxrt._Library.call, list[tuple[str, tuple[Any, ...]]]()

    def call(self: onnxrt._Library, name: str, *args: Any) -> None:
        seen.append((name, args[1:]))
        real(self, name, *args)

    monkeypatch.setattr(onnxrt._Library, "call", call)
    return seen


def test_the_library_is_told_to_be_precise_on_x86_64_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tiny_onnx(tmp_path / "m").path)
    for name, told in (("x86_64", [(b"session.x64quantprecision", b"1")]), ("aarch64", [])):
        machine(monkeypatch, name)
        seen = watched_calls(monkeypatch)
        OnnxModel(LIBRARY, path, 1).close()
        assert [args for called, args in seen if called == "AddSessionConfigEntry"] == told


def quantized_chain(path: Path, *, shared: bool) -> str:
    """Two int8 convolutions in QDQ form whose sums leave 16 bits; `shared`: their weights have one zero point."""
    from onnx import numpy_helper as to

    rng = np.random.default_rng(0)
    held: dict[str, Any] = {"s": np.float32(1), "z": np.int8(0), "t": np.float32(4096)}
    first = [("QuantizeLinear", ["x", "s", "z"], "q"), ("DequantizeLinear", ["q", "s", "z"], "d0")]
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [(kind, names, out, {}) for kind, names, out in first]
    for i in range(2):
        zero = "zero" if shared else f"zero{i}"
        held |= {f"w{i}": rng.integers(90, 128, (4, 4, 3, 3), np.int8), f"scale{i}": np.ones(4, np.float32)}
        held[zero] = np.zeros(4, np.int8)
        nodes += [
            ("DequantizeLinear", [f"w{i}", f"scale{i}", zero], f"weights{i}", {"axis": 0}),
            ("Conv", [f"d{i}", f"weights{i}"], f"c{i}", {}),
            ("QuantizeLinear", [f"c{i}", "t", "z"], f"q{i}", {}),
            ("DequantizeLinear", [f"q{i}", "t" if i else "s", "z"], f"d{i + 1}", {}),
        ]
    return graph(path, lambda h: h.make_graph(
        [h.make_node(kind, names, [out], **more) for kind, names, out, more in nodes], "g",
        [h.make_tensor_value_info("x", 1, [1, 4, 5, 5])], [h.make_tensor_value_info("d2", 1, [1, 4, 1, 1])],
        [to.from_array(np.asarray(value), name) for name, value in held.items()],
    ))  # fmt: skip


@pytest.mark.parametrize("shared", [False, True])
def test_int8_sums_are_those_of_arm(tmp_path: Path, shared: bool) -> None:
    """Without the setting an x86 without VNNI adds pairs in 16 bits: 2 · 127 · 255 does not fit.

    And with it ONNX Runtime 1.31 refuses graphs whose weights share a zero point: "Attempt to replace the existing
    tensor".
    """
    import onnx

    path = quantized_chain(tmp_path / "m", shared=shared)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    x = np.random.default_rng(1).integers(100, 128, (4, 5, 5))
    exact = x
    for i in range(2):
        places = np.lib.stride_tricks.sliding_window_view(exact, (3, 3), (1, 2))
        exact = np.clip(np.rint(np.einsum("chwij,ocij->ohw", places, held[f"w{i}"].astype(int)) / 4096), -128, 127)
    model = OnnxModel(LIBRARY, path, 1)
    assert np.frombuffer(model.run(x.astype("<f4").tobytes())[0], "f4").tolist() == (4096 * exact).ravel().tolist()
    refused = shared and os.uname().machine == "x86_64"
    assert ["Attempt to replace the existing tensor" in note for note in model.notes] == [True] * refused
    model.close()


def test_a_graph_that_is_refused_when_precise_runs_without_optimizations_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "x86_64")
    seen = watched(monkeypatch, lambda how: bool(how["precise"] and how["optimize"]))
    tiny = tiny_onnx(tmp_path / "m")
    model = OnnxModel(LIBRARY, str(tiny.path), 1)
    assert seen == [
        {"precise": True, "optimize": True}, {"precise": False, "optimize": True}, {"precise": True, "optimize": False}
    ]  # fmt: skip
    assert len(model.notes) == 1
    assert model.notes[0].startswith("optimizations disabled: ")
    assert "Attempt to replace" in model.notes[0]
    raw = tiny.quantize(samples(1)[0])
    assert np.allclose(np.frombuffer(model.run(raw)[0], "f4"), np.frombuffer(tiny.reference(raw)[0], "f4"), atol=1e-6)
    model.close()


def test_a_graph_that_no_board_would_load_by_default_does_not_pass_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "x86_64")
    watched(monkeypatch, lambda how: bool(how["optimize"]))
    with pytest.raises(EngineError, match="Attempt to replace the existing tensor"):
        OnnxModel(LIBRARY, str(tiny_onnx(tmp_path / "m").path), 1)


def test_a_model_that_is_refused_either_way_keeps_its_first_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, "x86_64")
    (tmp_path / "m").write_bytes(b"nothing like a model")
    with pytest.raises(EngineError, match=r"CreateSession: .*failed:Protobuf parsing failed"):
        OnnxModel(LIBRARY, str(tmp_path / "m"), 1)


def test_text_goes_in_and_numbers_come_out(tmp_path: Path) -> None:
    model = OnnxModel(LIBRARY, str(text_models.categories(tmp_path / "m.onnx", batch=1)), 1)
    assert [(spec.dtype, spec.nbytes) for spec in model.inputs] == [("string", 3 * TEXT_BYTES), ("float32", 24)]

    def ask(*words: str) -> list[bytes]:
        return model.run(pack_texts([word.encode() for word in words]), bytes(24))

    first = ask("word1", "word2", "word3")
    assert ask("word4", "", "größer" * 100) != first
    assert ask("", "", "") == model.run(bytes(3 * TEXT_BYTES), bytes(24)) != first
    assert ask("word1", "word2", "word3") == first
    with pytest.raises(EngineError, match=r"'kind' takes 3072 bytes \(string \[1, 3\]\), 3071 were given"):
        model.run(bytes(3 * TEXT_BYTES - 1), bytes(24))
    model.close()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("STRING", "output 'y' is text; only inputs may be: leave it out of the model"),
        ("BFLOAT16", "tensor 'x' has element type 16, which is not a plain number"),
    ],
)
def test_what_is_no_number_does_not_come_out(tmp_path: Path, kind: str, words: str) -> None:
    from onnx import TensorProto

    path = graph(tmp_path / "m", lambda h: h.make_graph(
        [h.make_node("Identity", ["x"], ["y"])], "g",
        [h.make_tensor_value_info("x", getattr(TensorProto, kind), [1])],
        [h.make_tensor_value_info("y", getattr(TensorProto, kind), [1])],
    ))  # fmt: skip
    with pytest.raises(EngineError, match=words):
        OnnxModel(LIBRARY, path, 1)


def test_a_sequence_is_no_tensor(tmp_path: Path) -> None:
    from onnx import TensorProto

    path = graph(tmp_path / "m", lambda h: h.make_graph(
        [h.make_node("SequenceConstruct", ["x"], ["y"])], "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [h.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])],
    ))  # fmt: skip
    with pytest.raises(EngineError, match="output 'y' is a sequence or a map, not a tensor"):
        OnnxModel(LIBRARY, path, 1)


def test_an_output_of_another_shape_than_declared_is_an_error_and_not_an_overrun(tmp_path: Path) -> None:
    from onnx import TensorProto

    # the output is as long as the input says
    path = graph(tmp_path / "m", lambda h: h.make_graph(
        [h.make_node("Range", ["zero", "n", "one"], ["y"])], "g",
        [h.make_tensor_value_info("n", TensorProto.INT64, [])], [h.make_tensor_value_info("y", TensorProto.INT64, [3])],
        [h.make_tensor("zero", TensorProto.INT64, [], [0]), h.make_tensor("one", TensorProto.INT64, [], [1])],
    ))  # fmt: skip
    with pytest.raises(EngineError, match="ONNX Runtime Run: "):
        OnnxModel(LIBRARY, path, 1)


def test_a_library_that_lacks_the_api_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxrt, "_API_VERSION", 9999)
    with pytest.raises(EngineError, match=r"too old: version 1\.10 or later"):
        OnnxModel(LIBRARY, str(pair_onnx(tmp_path / "m").path), 1)


def test_the_library_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    tiny = tiny_onnx(tmp_path / "m", "float32")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = "import sys; from edgeship.runtime.onnxrt import OnnxModel; OnnxModel(*sys.argv[1:], 1).close()"
    environment = {
        "HOME": str(home), "TMPDIR": str(temporary), "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(onnxrt.__file__).parents[2]),
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code, LIBRARY, tiny.path], env=environment, check=True, timeout=60)
    assert not list(home.rglob("*")), "ONNX Runtime 1.31 keeps a device id and events in ~/.cache/Microsoft"
    assert not list(temporary.iterdir()), "and a session id in TMPDIR"
