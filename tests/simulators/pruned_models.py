"""What the pruning step makes of real Keras models, all in one TensorFlow child: `make(folder)`.

digits.keras, digits.npz     a residual, depthwise, concatenating net, trained for a moment on the 8 × 8 digits of
                             scikit-learn, and 600 of these digits with labels
dead.keras                   the same, where half of the channels of each group are read with zeros: `DEAD`
gates.keras                  an LSTM for each direction, a GRU, two simple recurrent layers summed; half read with zeros
heads.keras                  tokens, a table, attention with a residual, dense layers; half read with zeros
two.keras                    two inputs, two outputs by name, a nested model, none of them classes
names.keras                  nested models whose layers have one name

Each case of `CASES` is a folder with request.json, what the step wrote, and outcome.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.optimize.prune.plan import Plan
from edgeship.optimize.tuning.settings import Settings
from edgeship.targets import child
from tests.simulators import recorded

#: Case -> (model, plan, whether the data has labels).
CASES: Mapping[str, tuple[str, Plan, bool]] = {
    "dead": ("dead", Plan(amount=0.5, settings=Settings(epochs=0)), True),
    "dead-unlabelled": ("dead", Plan(amount=0.5, settings=Settings(epochs=0)), False),
    "gates": ("gates", Plan(amount=0.5, settings=Settings(epochs=0)), False),
    "heads": ("heads", Plan(amount=0.5, settings=Settings(epochs=0)), False),
    "fast": ("digits", Plan(speedup=1.5, settings=Settings(epochs=3, batch=32)), True),
    "fast-again": ("digits", Plan(speedup=1.5, settings=Settings(epochs=3, batch=32)), True),
    "taught": ("digits", Plan(speedup=1.5, settings=Settings(epochs=3, batch=32)), False),
    "magnitude": ("digits", Plan("magnitude", 0.6, None, Settings(epochs=4, batch=32)), True),
    "2:4": ("digits", Plan("2:4", settings=Settings(epochs=2, batch=32)), True),
    "nan": ("digits", Plan(settings=Settings(epochs=1, rate=1e30)), True),
    "wrong-rule": ("digits", Plan(amount=0.25, settings=Settings(epochs=0)), True),
    "two": ("two", Plan(settings=Settings(epochs=2)), False),
    "names": ("names", Plan(settings=Settings(epochs=0)), False),
}
DEAD = (1, 2, 4, 7)


def make(folder: Path) -> Path:
    """Write all of them into `folder`; takes about half a minute."""
    child.run("tests.simulators.pruned_models", {}, folder, limits=child.CONVERT, subject="pruned models")
    return folder


def performed(folder: Path, case: str) -> Callable[..., dict[str, Any]]:
    """What `child.run` would do with the pruning step in one of these cases."""
    return recorded.played(folder / case, "edgeship.optimize.prune.perform")


def outcome(folder: Path, case: str) -> dict[str, Any]:
    """What came of the step: see `recorded.outcome`."""
    return recorded.outcome(folder / case)


def answers(folder: Path, case: str, stem: str) -> list[Any]:
    """What the model answered to the evaluation samples: one array an output."""
    return [np.load(path) for path in sorted((folder / case).glob(f"{stem}_*.npy"))]


# ── in the child ─────────────────────────────────────────────────────────────────────────────────────────────────────


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The step."""
    import keras
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(3)
    digits = load_digits()
    x = (digits.images[:600, :, :, None] / 16).astype("float32")
    y = digits.target[:600].astype("int32")
    np.savez(folder / "digits.npz", image=x, labels=y)
    model = _digits(keras)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=12, batch_size=32, verbose=0)
    model.save(folder / "digits.keras")
    _silence(model, _READERS).save(folder / "dead.keras")
    _silence(_gates(keras), _GATE_READERS).save(folder / "gates.keras")
    _silence(_heads(keras), _HEAD_READERS).save(folder / "heads.keras")
    _two(keras).save(folder / "two.keras")
    _names(keras).save(folder / "names.keras")
    rng = np.random.default_rng(5)
    other = {"a": rng.normal(size=(90, 6)).astype("f"), "b": rng.normal(size=(90, 6)).astype("f")}
    steps, tokens = rng.normal(size=(90, 10, 6)).astype("f"), rng.integers(0, 20, (90, 10)).astype("int32")
    data = {
        "gates": {"x": steps},
        "heads": {"x": tokens},
        "digits": {"image": x},
        "dead": {"image": x},
        "two": other,
        "names": {"x": other["a"]},
    }
    for case, (name, plan, labelled) in CASES.items():
        _case(folder, case, name, plan, data[name], y if labelled else None)
    return {}


#: What reads the channels of the digits net: half of them are silenced in dead.keras.
_READERS = (
    ("point", "kernel", 2), ("separable", "pointwise_kernel", 2), ("dense", "kernel", 0), ("out", "kernel", 0),
    ("squeeze", "kernel", 0), ("excite", "kernel", 0),
)  # fmt: skip


#: The same of gates.keras and heads.keras.
_GATE_READERS = (
    *((layer, f"{side}_layer.cell.recurrent_kernel", 0) for layer in ("both", "summed")
      for side in ("forward", "backward")),
    ("gru", "cell.kernel", 0), ("gru", "cell.recurrent_kernel", 0), ("summed", "forward_layer.cell.kernel", 0),
    ("summed", "backward_layer.cell.kernel", 0), ("out", "kernel", 0),
)  # fmt: skip
_HEAD_READERS = (
    *(("mha", f"{part}_dense.kernel", 0) for part in ("query", "key", "value", "output")), ("wide", "kernel", 0),
    ("narrow", "kernel", 0), ("out", "kernel", 0),
)  # fmt: skip


def _silence(model: Any, readers: Sequence[tuple[str, str, int]]) -> Any:
    """Read the channels of `DEAD` with zeros, of each eight."""
    for layer, attribute, axis in readers:
        weight = attrgetter(attribute)(model.get_layer(layer))
        values = np.array(weight)
        at: list[Any] = [slice(None)] * values.ndim
        at[axis] = [place * 8 + c for place in range(values.shape[axis] // 8) for c in DEAD]
        values[tuple(at)] = 0
        weight.assign(values)
    return model


def _gates(keras: Any) -> Any:
    layers, given = keras.layers, keras.Input((10, 6), name="x")
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True), name="both")(given)
    x = layers.GRU(8, return_sequences=True, name="gru")(x)
    x = layers.Bidirectional(layers.SimpleRNN(8), merge_mode="sum", name="summed")(x)
    return keras.Model(given, layers.Dense(4, name="out")(x))


def _heads(keras: Any) -> Any:
    layers, given = keras.layers, keras.Input((10,), dtype="int32", name="x")
    x = layers.Embedding(20, 8, name="table")(given)
    x = x + layers.MultiHeadAttention(8, 2, name="mha")(x, x)
    x = x + layers.Dense(8, name="narrow")(layers.Dense(16, activation="gelu", name="wide")(x))
    return keras.Model(given, layers.Dense(4, name="out")(layers.GlobalAveragePooling1D()(x)))


def _digits(keras: Any) -> Any:
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    h = layers.DepthwiseConv2D(3, padding="same", name="deep")(x)
    h = layers.BatchNormalization()(layers.Conv2D(8, 1, name="point")(h))
    gate = layers.Dense(8, activation="relu", name="squeeze")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    h = h * layers.Dense(8, activation="sigmoid", name="excite")(gate)
    x = layers.MaxPooling2D(4)(layers.Add()([x, h]))
    s = layers.SeparableConv2D(8, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.Flatten()(layers.Concatenate()([x, s]))
    head = keras.Sequential([keras.Input((64,)), layers.Dense(8, name="dense"), layers.PReLU()], name="head")
    return keras.Model(image, layers.Dense(10, activation="softmax", name="out")(_inline(head, x)))


def _inline(model: Any, x: Any) -> Any:
    for layer in model.layers:
        x = layer(x)
    return x


def _two(keras: Any) -> Any:
    layers = keras.layers
    b, a = keras.Input((6,), name="b"), keras.Input((6,), name="a")
    shared = keras.Sequential([keras.Input((6,)), layers.Dense(16), layers.LayerNormalization()], name="tower")
    joined = layers.Concatenate()([shared(a), shared(b)])
    inner = layers.Dense(16, activation="tanh")(joined)
    return keras.Model({"b": b, "a": a}, {"box": layers.Dense(4, name="o")(inner), "score": layers.Dense(1)(inner)})


def _names(keras: Any) -> Any:
    layers = keras.layers

    def tower(name: str) -> Any:
        return keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu", name="dense")], name=name)

    return keras.Sequential([keras.Input((6,), name="x"), tower("first"), tower("second"), layers.Dense(2)])


def _case(folder: Path, case: str, name: str, plan: Plan, inputs: dict[str, Any], labels: Any) -> None:
    from edgeship.dataset import Dataset
    from edgeship.optimize.prune import perform as step
    from edgeship.optimize.prune import rules
    from edgeship.optimize.tuning import parts, samples

    out = folder / case
    out.mkdir()
    divided = parts.divide(Dataset({key: value[:, None] for key, value in inputs.items()}, labels), None, 0)
    request = {
        "path": str(folder / f"{name}.keras"), "plan": plan.encode(),
        "parts": {part: samples.write(getattr(divided, part), out, part)
                  for part in ("train", "validation", "evaluation")},
    }  # fmt: skip
    known = dict(rules._LAYERS)
    try:
        if case == "wrong-rule":  # as if an addition tied nothing
            rules._LAYERS = {**known, "Add": lambda c: c.given[1]}
        recorded.record(step.perform, request, out)
    finally:
        rules._LAYERS = known
