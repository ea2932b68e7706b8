"""The structure of a TFLite file is checked before anything else sees it: damage is an InputError, never a crash."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.errors import InputError
from edgeship.targets.tflite import reader
from edgeship.targets.tflite.reader import read
from tests.simulators.models import pair_tflite, tiny_tflite


@pytest.fixture
def int8(tmp_path: Path) -> bytes:
    return tiny_tflite(tmp_path / "int8.tflite").path.read_bytes()


def test_what_is_there_is_read(int8: bytes) -> None:
    structure = read(int8)
    graph = structure.subgraphs[0]
    assert [(s.key, s.inputs[0][0], s.outputs[0][0]) for s in structure.signatures] == [
        ("serving_default", "image", "probabilities")
    ]
    tensor = graph.tensors[graph.inputs[0]]
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.zero_point) == ("image", "int8", (1, 8, 8, 1), -128)
    assert tensor.scale == pytest.approx(1 / 255)
    assert len(graph.operators) == len(structure.codes) == 2


def test_open_axes_are_found_with_their_place(tmp_path: Path) -> None:
    data = tiny_tflite(tmp_path / "m.tflite", "float32", dynamic=True).path.read_bytes()
    open_ones = [t for t in read(data).subgraphs[0].tensors if t.open_axes]
    assert open_ones
    assert all(struct.unpack_from("<i", data, at)[0] == -1 for t in open_ones for at in t.open_at)


@pytest.mark.parametrize(
    "data", [b"", b"12345678", b"\x08\0\0\0TFL3", b"\x00" * 64, b"\x10\0\0\0TFL3" + b"\xff" * 64, bytes(range(256))]
)
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a sound TFLite file") as caught:
        read(data)
    assert "truncated" in str(caught.value.hint)


@pytest.mark.parametrize("maker", [tiny_tflite, pair_tflite])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, maker: Any) -> None:
    data = maker(tmp_path / "m.tflite").path.read_bytes()
    for length in range(0, len(data) - 8, max(1, len(data) // 300)):
        with pytest.raises(InputError):
            read(data[:length])


def test_flipped_bits_and_random_words_give_declared_errors_or_a_structure(int8: bytes) -> None:
    rng = np.random.default_rng(5)
    for _ in range(1500):
        changed = bytearray(int8)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(int8) - 4))
            if rng.random() < 0.5:
                changed[at] ^= 1 << int(rng.integers(8))
            else:
                struct.pack_into("<I", changed, at, int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(int8)])))
        with contextlib.suppress(InputError):
            assert read(bytes(changed)).subgraphs


def packed(base: bytes, change: Any) -> bytes:
    """A tiny model whose object tree was changed before it was written."""
    from ai_edge_litert import schema_py_generated as schema

    builder = schema.flatbuffers.Builder(1024)
    model = schema.ModelT.InitFromPackedBuf(bytearray(base), 0)
    change(model, schema)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def graph_of(model: Any) -> Any:
    return model.subgraphs[0]


CASES: dict[str, tuple[Any, str]] = {
    "version": (lambda m, s: setattr(m, "version", 9), "schema version 9"),
    "no subgraph": (lambda m, s: setattr(m, "subgraphs", []), "no subgraph"),
    "tensor of an operator": (lambda m, s: setattr(graph_of(m).operators[0], "inputs", [99]), "names tensor 99"),
    "output of an operator": (lambda m, s: setattr(graph_of(m).operators[0], "outputs", [-1]), "names tensor -1"),
    "operator code": (lambda m, s: setattr(graph_of(m).operators[0], "opcodeIndex", 77), "names code 77 of"),
    "graph input": (lambda m, s: setattr(graph_of(m), "inputs", [-5]), "the inputs names tensor -5"),
    "graph output": (lambda m, s: setattr(graph_of(m), "outputs", [1000]), "the outputs names tensor 1000"),
    "buffer": (lambda m, s: setattr(graph_of(m).tensors[0], "buffer", 5000), "names buffer 5000"),
    "type": (lambda m, s: setattr(graph_of(m).tensors[0], "type", 99), "unknown type 99"),
    "negative shape": (lambda m, s: setattr(graph_of(m).tensors[0], "shape", [1, -7]), "has the shape"),
    "giant shape": (lambda m, s: setattr(graph_of(m).tensors[0], "shape", [1 << 30, 1 << 30]), "has the shape"),
    "rank": (lambda m, s: setattr(graph_of(m).tensors[0], "shape", [1] * 20), "has the shape"),
    "signature of a shape": (lambda m, s: setattr(graph_of(m).tensors[0], "shapeSignature", [1]), "and the signature"),
    "subgraph of a signature": (lambda m, s: setattr(m.signatureDefs[0], "subgraphIndex", 3), "names subgraph 3"),
    "tensor of a signature": (lambda m, s: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 99), "tensor 99"),
    "scale": (
        lambda m, s: setattr(graph_of(m).tensors[0].quantization, "scale", [float("nan")]), "a scale of nan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_index_must_point_at_something(int8: bytes, name: str) -> None:
    change, words = CASES[name]
    with pytest.raises(InputError, match=words):
        read(packed(int8, change))


def test_weights_must_be_as_large_as_their_shape(int8: bytes) -> None:
    def grow(model: Any, schema: Any) -> None:
        graph = graph_of(model)
        held = next(t for t in graph.tensors if model.buffers[t.buffer].data is not None and len(t.shape) == 2)
        held.shape = [held.shape[0], held.shape[1] + 1]

    with pytest.raises(InputError, match="bytes are not int8"):
        read(packed(int8, grow))


def test_buffers_behind_the_tables_must_lie_within_the_file(int8: bytes) -> None:
    def outside(model: Any, schema: Any) -> None:
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 100, 1 << 40

    with pytest.raises(InputError, match="reaches beyond the end"):
        read(packed(int8, outside))


def test_long_names_and_too_many_items_are_refused(int8: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="a name of 70000 bytes"):
        read(packed(int8, lambda m, s: setattr(graph_of(m).tensors[0], "name", b"n" * 70000)))
    with pytest.raises(InputError, match="not a sound TFLite file"):
        read(packed(int8, lambda m, s: setattr(graph_of(m).tensors[0], "name", b"\xff\xfe")))
    monkeypatch.setattr(reader, "MAX_ITEMS", 1)
    with pytest.raises(InputError, match="over the limit of 1"):
        read(int8)
