"""What a search begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import profile
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.optimize.search.candidate import Candidate, Wish, first
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets import registry
from edgeship.targets.scheme import RANGES, Scheme

IMAGE = TensorSpec("image", "float32", (1, 4))
KERAS = ModelFacts(Path("m.keras"), "keras", "ab" * 32, 100, "float32", (IMAGE,), (IMAGE,), {}, 5)
PI = profile.load("raspberry-pi-5")


def names(source: ModelFacts, wish: Wish | None = None, board: str = "raspberry-pi-5") -> list[str]:
    found, _ = first(profile.load(board), source, registry.targets(), wish or Wish())
    return [c.name for c in found]


def test_all_that_the_profile_runs_comes_in_its_order() -> None:
    found = names(KERAS)
    assert found[: len(RANGES)] == [Candidate("tflite", Scheme("int8", ranges)).name for ranges in RANGES]
    assert found.index("tflite int8") < found.index("tflite float16") < found.index("tflite float32")
    assert max(i for i, n in enumerate(found) if n.startswith("tflite")) < found.index("onnx int8")


def test_the_sources_own_format_comes_first() -> None:
    onnx = replace(KERAS, format="onnx", path=Path("m.onnx"))
    assert names(onnx)[0] == "onnx int8"


def test_a_wish_limits() -> None:
    assert set(names(KERAS, Wish(("onnx",), ("int8", "float32")))) == {
        "onnx float32", "onnx int8", *(f"onnx int8 {r}" for r in RANGES[1:])
    }  # fmt: skip


def test_what_cannot_be_built_is_said_with_its_reason() -> None:
    found, refused = first(PI, KERAS, registry.targets(), Wish(("onnx",)))
    assert {r.name: r.why for r in refused} == {
        f"onnx {p}": registry.target("onnx").reachable("keras", p)
        for p in ("float16", "dynamic", "int8-weights", "int8", "int16x8", "float32")
        if registry.target("onnx").reachable("keras", p)
    }
    assert "onnx int8" in [c.name for c in found]


def test_a_quantized_source_is_tried_as_it_is() -> None:
    int8 = replace(KERAS, format="tflite", path=Path("m.tflite"), precision="int8")
    assert names(int8, Wish(("tflite",))) == ["tflite int8"]
    with pytest.raises(UsageError, match="is int8 already and becomes nothing else"):
        names(int8, Wish(("tflite",), ("float32",)))


@pytest.mark.parametrize("precision", ["float16", "dynamic", "int8-weights"])
def test_a_source_whose_weights_alone_are_packed_is_tried_in_every_way(precision: str) -> None:
    packed = replace(KERAS, format="tflite", path=Path("m.tflite"), precision=precision)
    assert {"tflite int8", "tflite float32"} <= set(names(packed))


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Wish(("tflit",)), "no target builds the format 'tflit'"),
        (Wish((), ("int9",)), "unknown precision 'int9'; did you mean 'int8'"),
        (Wish(("onnx",), ("float16",)), "nothing can be built for raspberry-pi-5"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(wish: Wish, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        names(KERAS, wish)


def test_a_format_that_the_board_has_no_library_for_is_refused() -> None:
    bare = replace(PI, build=replace(PI.build, formats=("tflite",)))
    with pytest.raises(UsageError, match="has no runtime library for onnx") as caught:
        first(bare, KERAS, registry.targets(), Wish(("onnx",)))
    assert "tflite" in str(caught.value.hint)


def test_families_are_alike_in_size_and_speed() -> None:
    int8 = Candidate("tflite", Scheme("int8"))
    assert int8.family == Candidate("tflite", Scheme("int8", "mse")).family
    mixed = int8.mixed(["b", "a"], "why")
    assert (mixed.scheme.keep, mixed.family == int8.family) == (("a", "b"), False)


def test_a_board_with_an_old_package_gets_one_scale_a_weight_too() -> None:
    found = names(KERAS, Wish((), ("dynamic",)), "raspberry-pi-os-32bit")
    assert found == ["tflite dynamic", "tflite dynamic per-tensor"]
    assert names(KERAS, Wish(("tflite",), ("dynamic",))) == ["tflite dynamic"]
