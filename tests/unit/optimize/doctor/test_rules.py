"""Failures are recognised in parts, and fixes are tried in their order."""

from __future__ import annotations

from edgeship.errors import ConversionError
from edgeship.optimize.doctor import failure, rules
from edgeship.optimize.doctor.failure import Failure
from edgeship.targets.scheme import Scheme


def of(text: str) -> Failure:
    return failure.of(ConversionError(text))


def test_kinds_are_told_from_the_message() -> None:
    assert of("m.onnx: run was killed by SIGSEGV").kind == "crash"
    assert of("m.onnx: run did not end within 60 s and was stopped").kind == "hang"
    assert of("m.onnx: the engine refuses the model: x").kind == "refused"
    assert of("m.onnx: only 12% of the weights became int8, 90% are wanted").kind == "left in float"
    assert of("m.onnx: run failed: KeyError: '140_scale'").kind == "converter"


def test_a_failure_is_the_same_in_a_part_of_the_model() -> None:
    whole = of(
        "a/model.onnx: the engine refuses the model: load of /tmp/1/m.onnx failed: my.ops:Foo(-1) is not registered"
    )
    part = of(
        "/tmp/7/part.onnx: the engine refuses the model: load of /tmp/2/m.onnx failed: my.ops:Foo(-1) is not registered"
    )
    other = of("/tmp/7/part.onnx: the engine refuses the model: Node (y) Op (Gemm) dimension mismatch between 4 and 0")
    assert part.same(whole)
    assert not other.same(whole)
    words = of("m.onnx: the graph is not valid: No Op registered for Bucketize with domain_version of 17")
    engine = of("p.onnx: the engine refuses the model: Fatal error: Bucketize(-1) is not a registered function/op")
    assert engine.same(words, {"Bucketize", "Conv"})
    assert not engine.same(words, {"Conv"})
    assert not of("part.onnx: run was killed by SIGFPE").same(whole)


def test_a_part_that_is_refused_by_name_is_what_the_whole_died_of() -> None:
    whole = of("m.onnx: onnx.prepare was killed by SIGFPE")
    part = of("p.onnx: the engine refuses the model: Node (n) Op (MaxPool) strides must only contain positive values")
    assert part.same(whole, {"MaxPool", "Relu"})
    assert not part.same(whole, {"Relu"})
    assert not whole.same(part, {"MaxPool"})


def test_what_breaks_the_rules_of_an_operator_is_no_bug_to_report() -> None:
    axis = of("m.onnx: the engine refuses the model: Op (Softmax) [ShapeInferenceError] 'axis' must be in [-4 , 3]")
    assert "correct the attribute" in rules.advice(axis)


def names(stage: str, scheme: Scheme, layers: tuple[str, ...], operator: str, source: str = "onnx") -> list[str]:
    return [r.rule.name for r in rules.remedies(stage, "onnx", scheme, layers, operator, source=source)]


def test_a_repair_of_an_attribute_is_for_its_operator_alone_and_first() -> None:
    found = names(rules.CONVERT, Scheme("int8"), ("c3",), "Conv")
    assert found[0] == "leave out the attribute kernel_shape of Conv"
    assert not any("attribute" in name for name in names(rules.CONVERT, Scheme("int8"), ("r",), "Relu"))
    assert names(rules.CONVERT, Scheme("int8"), ("c3",), "Conv", source="keras") == []


def test_what_is_to_blame_is_kept_beside_what_was_kept_already() -> None:
    found = list(rules.remedies(rules.ANSWERS, "onnx", Scheme("int8", keep=("a",)), ("b", "c"), "Mul", source="onnx"))
    keep = next(r for r in found if r.rule.scheme.get("keep"))
    assert keep.scheme.keep == ("a", "b", "c")
    none = list(rules.remedies(rules.ANSWERS, "onnx", Scheme("int8"), (), None, source="onnx"))
    assert not any(r.scheme.keep for r in none)


def test_calibrated_fixes_are_for_calibrated_precisions() -> None:
    assert "ranges without outliers" in names(rules.ANSWERS, Scheme("int8"), ("b",), "Mul")
    assert "ranges without outliers" not in names(rules.ANSWERS, Scheme("dynamic"), ("b",), "Mul")


def test_every_trouble_has_an_advice() -> None:
    assert "no standard one" in rules.advice(
        of("m: the engine refuses the model: my.ops:Foo is not a registered function/op")
    )
    assert "report it" in rules.advice(of("m: run failed: KeyError"))
