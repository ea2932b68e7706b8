"""Every combination of a scheme on three tiny nets in both formats: its answers are right, or it is refused at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edgeship.dataset import Dataset
from edgeship.errors import UsageError
from edgeship.optimize import gate
from edgeship.reporter import Reporter
from edgeship.targets import registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import CALIBRATED, Scheme
from tests.simulators import inline, scheme_nets

#: Least SQNR in decibels of the outputs of good variants; measured: at least 3 more.
LEAST = {"float16": 55.0, "dynamic": 30.0, "int8-weights": 30.0, "int8": 25.0, "int16x8": 30.0}

SCHEMES = [
    Scheme(precision, per_channel=per_channel, symmetric=symmetric, endpoints=endpoints)
    for precision, per_channel, symmetric, endpoints in itertools.product(
        LEAST, (True, False), (False, True), ("default", "int8", "float32")
    )
]
USEFUL = [scheme for scheme in SCHEMES if scheme.idle is None and (scheme.calibrated or scheme.endpoints == "default")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inline.patch(monkeypatch)


def build(kind: str, form: str, scheme: Scheme, folder: Path) -> tuple[Variant, gate.GateVerdict]:
    source = registry.inspect(scheme_nets.make(kind, folder / f"m.{form}"))
    data = scheme_nets.data(kind, form)
    variant = registry.target(form).build(source, scheme, data, folder / "c", Reporter())
    return variant, gate.check(source, variant, data)


@pytest.mark.parametrize("kind", scheme_nets.KINDS)
@pytest.mark.parametrize("form", scheme_nets.FORMATS)
def test_a_scheme_is_done_as_it_says(tmp_path: Path, form: str, kind: str) -> None:
    for scheme in USEFUL:
        if registry.target(form).reachable(form, scheme.precision) is not None:
            continue
        variant, verdict = build(kind, form, scheme, tmp_path)
        what = f"{form} {kind} {scheme.name}"
        assert verdict.passed, f"{what}: {verdict.reason}"
        worst = min(whole.sqnr_db for whole in verdict.outputs)
        assert worst > LEAST[scheme.precision], f"{what}: {worst:.1f} dB"
        assert variant.int8_share == (0.0 if scheme.precision == "float16" else 1.0), what
        specs = variant.inputs + variant.outputs
        dtypes = {spec.dtype for spec in specs}
        if scheme.endpoints == "int8":
            assert dtypes == {"int8"}, what
        elif scheme.endpoints == "float32" or scheme.precision not in CALIBRATED or form == "onnx":
            assert dtypes == {"float32"}, what
        else:
            assert dtypes == {"int8" if scheme.precision == "int8" else "int16"}, what
        if scheme.symmetric or scheme.precision == "int16x8":
            assert {spec.zero_point for spec in specs} == {0}, what


@pytest.mark.parametrize("form", scheme_nets.FORMATS)
def test_what_a_precision_has_no_use_for_is_refused_before_anything_is_made(tmp_path: Path, form: str) -> None:
    source = registry.inspect(scheme_nets.make("convolution", tmp_path / f"m.{form}"))
    idle = [scheme for scheme in [*SCHEMES, Scheme("dynamic", "entropy")] if scheme.idle is not None]
    assert len(idle) > len(SCHEMES) // 4
    for scheme in idle:
        if registry.target(form).reachable(form, scheme.precision) is not None:
            continue
        with pytest.raises(UsageError, match=f"{form} {scheme.precision} cannot be built") as caught:
            registry.target(form).build(source, scheme, Dataset({}), tmp_path / "c", Reporter())
        assert "--precision int8" in str(caught.value.hint)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("kind", scheme_nets.KINDS)
def test_int16x8_keeps_layers_in_float(tmp_path: Path, kind: str) -> None:
    """Mixed: what is kept is float32, the rest int16×8, and the answers are no worse."""
    from edgeship.targets.tflite.reader import read

    keep = {"convolution": "two", "depthwise": "each", "attention": "seen"}[kind]
    variant, verdict = build(kind, "tflite", Scheme("int16x8", keep=(keep,)), tmp_path)
    assert verdict.passed
    _, whole = build(kind, "tflite", Scheme("int16x8"), tmp_path)
    assert verdict.outputs[0].sqnr_db > whole.outputs[0].sqnr_db - 1
    graph = read(variant.path.read_bytes()).subgraphs[0]
    kinds = {t.name: t.dtype for t in graph.tensors if not t.constant}
    assert kinds[keep] == "float32"
    assert "int16" in kinds.values()
