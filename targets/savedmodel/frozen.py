"""The graph of a signature, its variables made constants. Runs in the child that has TensorFlow.

Two ways lead there, chosen by running them:

* The graph is loaded by itself, in a session. It takes models that an older Keras saved with its optimizer, which
  cannot be loaded as objects ("'_UserObject' object has no attribute 'add_slot'").
* The objects are loaded, and what the signature calls is written out into one graph. It is taken where the first way
  leaves variables without values (in Keras 3 models that `tf.saved_model.save` wrote, every variable stands twice, and
  the copy that is filled is not the one that is read), or functions that are called: no shape is known in those.

Recurrent layers of an open batch keep a list of tensors of the shape [-1, units], which TFLite refuses ("requires
element_shape to be static"), so `closed` says 1 there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.targets.savedmodel import inspect

#: Operators on lists of tensors -> which input is the shape of one of them.
_LISTS = {"TensorListReserve": 0, "TensorListFromTensor": 1, "TensorListStack": 1, "TensorListGetItem": 2}
_LOOPS = {"While", "StatelessWhile", "If", "StatelessIf"}


@dataclass(frozen=True)
class Input:
    """An input of a signature: its tensor in the graph, its dims (-1: open), its tf.DType."""

    tensor: str
    dims: Sequence[int]
    dtype: Any


@dataclass(frozen=True)
class Frozen:
    """A GraphDef without variables, and the signature's keys: key -> Input, key -> tensor."""

    graph: Any
    inputs: Mapping[str, Input]
    outputs: Mapping[str, str]


def load(path: str, name: str) -> Frozen:
    """The signature `name` of the SavedModel at `path`; raises whatever TensorFlow raises."""
    import tensorflow as tf

    try:
        found = _of_session(path, name)
    except tf.errors.FailedPreconditionError as error:
        try:
            return _of_objects(path, name)
        except Exception:  # noqa: BLE001 - what the first way said is nearer to the model
            raise error from None
    if found.graph.library.function:
        try:
            return _of_objects(path, name)
        except Exception:  # noqa: BLE001 - TensorFlow may raise anything; the first way found it
            return found
    return found


def register(graph: Any) -> None:
    """Make known the functions that `graph` calls; importing it does not, and running it then finds none of them."""
    from tensorflow.python.eager import context

    for function in graph.library.function:
        if not context.context().has_function(function.signature.name):
            context.context().add_function_def(function)


def closed(graph: Any) -> Any:
    """A copy of `graph` for a batch of 1, with functions of its own: what they hold lists of has a batch of 1."""
    copy = type(graph)()
    copy.CopyFrom(graph)
    functions = {function.signature.name for function in copy.library.function}
    for nodes in _bodies(copy):
        _close_lists(nodes)
        for node in nodes:
            if node.op in _LOOPS and "output_shapes" in node.attr:
                node.attr["output_shapes"].list.Clear()  # of an open batch; they are inferred again
            for function in _called(node):
                if function.name in functions:
                    function.name += "_closed"
    for function in copy.library.function:
        function.signature.name += "_closed"
    return copy


def _bodies(graph: Any) -> Iterator[Any]:
    yield graph.node
    for function in graph.library.function:
        yield function.node_def


def _called(node: Any) -> Iterator[Any]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func
        yield from value.list.func


def _close_lists(nodes: Any) -> None:
    from tensorflow.python.framework import tensor_util

    constants = {node.name: node for node in nodes if node.op == "Const"}
    for node in nodes:
        if (place := _LISTS.get(node.op)) is None or len(node.input) <= place:
            continue
        constant = constants.get(node.input[place].partition(":")[0])
        if constant is None:
            continue
        shape = tensor_util.MakeNdarray(constant.attr["value"].tensor).copy()
        if shape.ndim == 1 and len(shape) > 1 and shape[0] < 0:
            shape[0] = 1
            constant.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(shape))


# ── the two ways ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_session(path: str, name: str) -> Frozen:
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        meta = v1.saved_model.load(session, ["serve"], path)
        signature = meta.signature_def[name]
        names = [info.name.partition(":")[0] for info in signature.outputs.values()]
        frozen = convert_to_constants.convert_variables_to_constants_from_session_graph(
            session, graph.as_graph_def(), sorted(set(names))
        )
    _forget_shapes(frozen)
    _drop_uncalled(frozen)
    inputs = {
        key: Input(info.name, [d.size for d in info.tensor_shape.dim], tf.dtypes.as_dtype(info.dtype))
        for key, info in signature.inputs.items()
    }
    return Frozen(frozen, inputs, {key: info.name for key, info in signature.outputs.items()})


def _of_objects(path: str, name: str) -> Frozen:
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    if inspect.runs_code(Path(path)):
        raise ValueError("loading its objects may run what reads or writes files")
    loaded = tf.saved_model.load(path)  # held until its variables are read
    function = loaded.signatures[name]
    keys = {spec.name: key for key, spec in function.structured_input_signature[1].items()}
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )
    graph = frozen.graph.as_graph_def()
    _forget_shapes(graph)
    _drop_uncalled(graph)
    inputs = {
        keys[tensor.op.name]: Input(tensor.name, [-1 if d is None else int(d) for d in tensor.shape], tensor.dtype)
        for tensor in frozen.inputs
    }
    wanted = dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True))
    return Frozen(graph, inputs, {key: tensor.name for key, tensor in wanted.items()})


def _forget_shapes(graph: Any) -> None:
    """Leave out what was inferred of an open batch; it is inferred again."""
    for nodes in _bodies(graph):
        for node in nodes:
            node.attr.pop("_output_shapes", None)
    for function in graph.library.function:
        for attributes in function.arg_attr.values():
            attributes.attr.pop("_output_shapes", None)


def _drop_uncalled(graph: Any) -> None:
    """Leave out functions that nothing calls: some still have variables, and call what is gone."""
    functions = {function.signature.name: function for function in graph.library.function}
    called, nodes = set[str](), list(graph.node)
    while nodes:
        for function in _called(nodes.pop()):
            if function.name in functions and function.name not in called:
                called.add(function.name)
                nodes.extend(functions[function.name].node_def)
    kept = [functions[name] for name in sorted(called)]
    del graph.library.function[:]
    graph.library.function.extend(kept)
