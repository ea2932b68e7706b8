"""Layers by their own names in what is made of a Keras model.

Keras 3 opens a layer's name scope twice in every call, to build it and to run it, and a TensorFlow graph gives out no
name twice: the layer `conv2d` becomes "conv2d_1", and `conv2d_1` becomes "conv2d_1_2". Reports would name the wrong
layer, and so would a user who copies a name. A scope whose name ends in "/" is entered again as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Within it graphs have the layers' names. Where Keras has changed, names are what Keras makes of them."""
    import keras
    import tensorflow as tf

    layer: Any = keras.layers.Layer
    opened = getattr(layer, "_open_name_scope", None)
    if opened is None:
        yield
        return

    def scope(self: Any) -> Any:
        made = opened(self)
        if hasattr(made, "_tf_name_scope"):
            around = tf.compat.v1.get_default_graph().get_name_scope()
            made._tf_name_scope = tf.name_scope(f"{around}/{self.name}/" if around else f"{self.name}/")  # noqa: SLF001
        return made

    layer._open_name_scope = scope  # noqa: SLF001 - no public way in
    try:
        yield
    finally:
        layer._open_name_scope = opened  # noqa: SLF001
