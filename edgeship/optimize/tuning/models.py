"""Keras models in the child: loaded, taken apart into one flat functional model, built from a configuration, saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeship.errors import ConversionError, InputError
from edgeship.targets.keras.inspect import plain_name

Weights = dict[tuple[str, str], NDArray[Any]]


def load(path: str) -> Any:
    """A model out of a `.keras` file. Raises InputError."""
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())[:600]
        raise InputError(
            f"Keras cannot load it: {type(error).__name__}: {text}",
            hint="save it again with this Keras, with model.save('model.keras')",
        ) from error


def flat(model: Any) -> Any:
    """The same model as one functional model with an open batch, nested models replaced by their layers.

    Layers are copies with the same weights; one whose name is taken gets that of its model before it.
    Raises ConversionError: a model of a class of its own, which has no graph of layers.
    """
    import keras

    if not model.inputs:
        raise InputError("the model was never built", hint="call it once on data and save it again")
    inputs = [
        keras.Input(batch_shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=plain_name(tensor.name))
        for tensor in model.inputs
    ]
    structure = inputs[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, inputs)
    copies = _Copies({tensor.name for tensor in inputs})
    new = keras.Model(structure, copies.through(model, structure, ""), name=model.name)
    copies.fill()
    return new


class _Copies:
    """Copies of layers while a model is walked through."""

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self._made: dict[int, tuple[Any, Any]] = {}  # id of the layer -> (copy, layer)

    def through(self, model: Any, tensors: Any, prefix: str) -> Any:
        """The outputs of a model's layers on these tensors, in the structure of its output.

        Raises:
            ConversionError: the model has no graph of layers.
        """
        import keras

        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                tensors = self._step(layer, prefix, tensors)
            return tensors
        if not hasattr(model, "_nodes_by_depth"):
            raise ConversionError(
                f"{model.name} is a model of the class {type(model).__name__}, which has no graph of layers",
                hint="rebuild it as a functional or Sequential model; weights can be loaded into it",
            )
        given = dict(zip(map(id, keras.tree.flatten(model.inputs)), keras.tree.flatten(tensors), strict=True))

        def known(value: Any) -> Any:
            return given.get(id(value), value)

        for node in _nodes(model):
            args, kwargs = keras.tree.map_structure(known, (tuple(node.arguments.args), dict(node.arguments.kwargs)))
            kwargs = {key: value for key, value in kwargs.items() if key not in ("mask", "training")}
            out = self._step(node.operation, prefix, *args, **kwargs)
            given.update(zip(map(id, node.outputs), keras.tree.flatten(out), strict=True))
        return keras.tree.map_structure(known, model.output)

    def fill(self) -> None:
        """Give the copies the weights of their layers."""
        for copy, layer in self._made.values():
            if hasattr(layer, "get_weights"):
                copy.set_weights(layer.get_weights())
                copy.trainable = layer.trainable

    def _step(self, layer: Any, prefix: str, *args: Any, **kwargs: Any) -> Any:
        import keras

        if isinstance(layer, keras.Model):
            return self.through(layer, args[0], layer.name)
        return self._copy(layer, prefix)(*args, **kwargs)

    def _copy(self, layer: Any, prefix: str) -> Any:
        if id(layer) not in self._made:
            name = layer.name
            while name in self._names:
                name = f"{prefix or 'again'}_{name}"
            self._names.add(name)
            self._made[id(layer)] = type(layer).from_config({**layer.get_config(), "name": name}), layer
        return self._made[id(layer)][0]


def _nodes(model: Any) -> list[Any]:
    """The calls of a functional model in the order of its graph; Keras has no public way to them."""
    by_depth = model._nodes_by_depth  # noqa: SLF001
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def serialized(model: Any) -> tuple[dict[str, Any], list[list[int | None]]]:
    """The configuration of a flat model, and the shapes of its outputs."""
    import keras

    config: dict[str, Any] = keras.saving.serialize_keras_object(model)
    return config, [[None if d is None else int(d) for d in tensor.shape] for tensor in model.outputs]


def built(config: Mapping[str, Any]) -> Any:
    """A model with new weights. Raises ConversionError."""
    import keras

    try:
        return keras.saving.deserialize_keras_object(dict(config), safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())[:600]
        raise ConversionError(f"the changed model cannot be built: {type(error).__name__}: {text}") from error


def weights(model: Any, wanted: Sequence[tuple[str, str]]) -> Weights:
    """Values of weights by layer and attribute."""
    layers = {layer.name: layer for layer in model.layers}
    return {(name, attribute): np.asarray(attrgetter(attribute)(layers[name])) for name, attribute in wanted}


def assign(model: Any, values: Mapping[tuple[str, str], NDArray[Any]]) -> None:
    """Set weights by layer and attribute."""
    layers = {layer.name: layer for layer in model.layers}
    for (name, attribute), value in values.items():
        attrgetter(attribute)(layers[name]).assign(value)


def carry(old: Any, new: Any, but: set[str]) -> None:
    """Copy the weights of all layers except those named."""
    layers = {layer.name: layer for layer in old.layers}
    for layer in new.layers:
        if layer.name not in but and hasattr(layer, "get_weights") and layer.weights:
            layer.set_weights(layers[layer.name].get_weights())


def save(model: Any, path: Path) -> None:
    """Write a `.keras` file."""
    model.save(path)


def parameters(model: Any) -> int:
    """Elements of all weights."""
    return int(model.count_params())
