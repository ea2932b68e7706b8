"""ONNX models whose input is text, as exporters of classic pipelines write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
WORDS = tuple(f"word{number}" for number in range(40))
TOPICS = {
    "food": "salt bread soup rice cook oven", "sport": "ball goal team match score win",
    "tech": "chip code data edge board cloud",
}  # fmt: skip


def categories(path: Path, batch: str | int = "n") -> Path:
    """Three words and six numbers to five classes: LabelEncoder, an embedding, two dense layers."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node(
            "LabelEncoder", ["kind"], ["id"], domain=ML, keys_strings=WORDS, values_int64s=list(range(1, 41)),
            default_int64=0,
        ),
        helper.make_node("Gather", ["table", "id"], ["embedded"]),
        helper.make_node("Reshape", ["embedded", "flat"], ["features"]),
        helper.make_node("Concat", ["features", "numbers"], ["all"], axis=1),
        helper.make_node("Gemm", ["all", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probability"]),
    ]  # fmt: skip
    held = {
        "table": rng.normal(size=(41, 8)), "w1": rng.normal(size=(30, 64)) / 5, "b1": np.zeros(64),
        "w2": rng.normal(size=(64, 5)) / 3, "b2": np.zeros(5),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held.items()]
    graph = helper.make_graph(
        nodes, "categories",
        [helper.make_tensor_value_info("kind", TensorProto.STRING, [batch, 3]),
         helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [batch, 6])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [batch, 5])],
        [*tensors, numpy_helper.from_array(np.array([-1, 24]), "flat")],
    )  # fmt: skip
    return _save(graph, path)


def samples(count: int) -> dict[str, NDArray[np.str_] | NDArray[np.float32]]:
    """For `categories`; one word in twenty is one that it does not know, and not ASCII."""
    rng = np.random.default_rng(1)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (count, 3))]
    words = np.where(rng.random(words.shape) < 0.05, "größer", words)
    return {"kind": words, "numbers": rng.normal(size=(count, 6)).astype(np.float32)}


def topics(path: Path, *, zipped: bool = False, locale: str | None = None) -> Path:
    """A bag of words to a topic: StringNormalizer, TfIdfVectorizer, a dense layer, the topic's name, and its shares.

    Args:
        path: where to.
        zipped: the shares are a sequence of maps, from ZipMap, as skl2onnx has them by default.
        locale: of StringNormalizer; its own default, en_US, where None.
    """
    words = " ".join(TOPICS.values()).split()
    rng = np.random.default_rng(2)
    w = rng.normal(size=(len(words), 3)) * 0.1
    for place, of_topic in enumerate(TOPICS.values()):
        w[[words.index(word) for word in of_topic.split()], place] += 1
    shares = "table" if zipped else "shares"
    nodes = [
        helper.make_node("Squeeze", ["text", "axis"], ["words"]),
        helper.make_node("StringNormalizer", ["words"], ["lower"], case_change_action="LOWER",
                         **({} if locale is None else {"locale": locale})),
        helper.make_node(
            "TfIdfVectorizer", ["lower"], ["counts"], mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
            ngram_counts=[0], ngram_indexes=list(range(len(words))), pool_strings=words,
        ),
        helper.make_node("Unsqueeze", ["counts", "axis"], ["row"]),
        helper.make_node("Gemm", ["row", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [shares]),
        helper.make_node("ArgMax", [shares], ["place"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["place"], ["topic"], domain=ML, keys_int64s=[0, 1, 2],
                         values_strings=list(TOPICS)),
    ]  # fmt: skip
    outputs = [helper.make_tensor_value_info("topic", TensorProto.STRING, [1])]
    if zipped:
        nodes.append(helper.make_node("ZipMap", [shares], ["shares"], domain=ML, classlabels_strings=list(TOPICS)))
        element = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("shares", helper.make_sequence_type_proto(element)))
    else:
        outputs.append(helper.make_tensor_value_info("shares", TensorProto.FLOAT, [1, 3]))
    graph = helper.make_graph(
        nodes, "topics", [helper.make_tensor_value_info("text", TensorProto.STRING, [1, 8])], outputs,
        [numpy_helper.from_array(w.astype(np.float32), "w"), numpy_helper.from_array(np.zeros(3, np.float32), "b"),
         numpy_helper.from_array(np.array([0]), "axis")],
    )  # fmt: skip
    return _save(graph, path)


def texts(count: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """For `topics`: eight words a sample, some in capitals, and which topic most are of."""
    rng = np.random.default_rng(3)
    topic = rng.integers(0, 3, count)
    lists = [words.split() for words in TOPICS.values()]
    rows = [
        [rng.choice(lists[one if rng.random() < 0.8 else rng.integers(0, 3)]) for _ in range(8)] for one in topic
    ]  # fmt: skip
    words = np.array(rows)
    return np.where(rng.random(words.shape) < 0.3, np.char.upper(words), words), topic


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path
