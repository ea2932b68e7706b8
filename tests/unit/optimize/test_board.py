"""A variant in the runtime that a board has: loaded there in its very version, answered there, or said not to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import environments, libraries, profile
from edgeship.dataset import Dataset
from edgeship.errors import ConversionError
from edgeship.optimize import board
from edgeship.optimize.search import evaluate, store
from edgeship.optimize.search.candidate import Candidate
from edgeship.reporter import Reporter
from edgeship.targets import answers, registry
from edgeship.targets.base import Variant
from edgeship.targets.scheme import Scheme
from edgeship.targets.tflite import loadtest
from tests.simulators import inline, real_environment
from tests.simulators.tflite_file import newer
from tests.simulators.tflite_graphs import mlp, samples

LIBRARY = "litert-2.3.0"
(PACKAGE,) = environments.runtimes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    inline.patch(monkeypatch)


def variant(
    folder: Path, precision: str = "float32", version: int | None = None, *, per_channel: bool = True
) -> Variant:  # fmt: skip
    """Of a net of three dense layers; `version`: of the operator, for a file of a later converter."""
    path = mlp(folder / "m.tflite")
    if version is not None:
        newer(path, "FULLY_CONNECTED", version)
    scheme = Scheme(precision, per_channel=per_channel)
    return registry.target("tflite").build(registry.inspect(path), scheme, samples(40), folder / "c", Reporter())


def check(one: Variant, runtime: str, data: Dataset | None = None) -> board.Trial:
    return board.check(one, runtime, data, Reporter(), what="m.tflite: tflite int8")


def other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is pinned: the same file, taken for one with another hash."""
    pins, real = libraries.pins(), libraries.fetch
    older = tuple(replace(pin, name="litert-2.2.0") for pin in pins if pin.name == LIBRARY)
    monkeypatch.setattr(libraries, "pins", lambda file=None: (*pins, *older))

    def fetch(runtime: str, arch: str, **more: Any) -> libraries.Library:
        found = real(LIBRARY if runtime == "litert-2.2.0" else runtime, arch, **more)
        return replace(found, sha256="0" * 64) if runtime == "litert-2.2.0" else found

    monkeypatch.setattr(libraries, "fetch", fetch)


def test_the_library_that_goes_along_has_loaded_every_variant_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = variant(tmp_path)
    assert one.library == libraries.for_host("tflite").sha256
    loaded: list[str] = []
    real = answers.load

    def load(*given: Any, library: libraries.Library) -> answers.Loaded:
        loaded.append(library.sha256)
        return real(*given, library=library)

    monkeypatch.setattr(answers, "load", load)
    assert check(one, LIBRARY) == board.Trial(LIBRARY, True, f"loads and runs in {LIBRARY}")
    assert not loaded, "it was loaded when it was made"
    check(replace(one, library="of an earlier edgeship"), LIBRARY)
    assert loaded == [one.library]


def test_another_version_of_the_library_answers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_version(monkeypatch)
    one = variant(tmp_path, "int8")
    found = check(one, "litert-2.2.0", samples(20))
    assert found.checked
    assert "loads and runs in litert-2.2.0, with the answers that it gives here (equal" in found.said
    real = answers.of_variant
    monkeypatch.setattr(
        answers, "of_variant", lambda *a, **k: tuple(x * ("library" in k) for x in real(*a, **k))
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"litert-2\.2\.0 computes something else") as caught:
        check(one, "litert-2.2.0", samples(20))
    assert "another precision or format" in str(caught.value.hint)


def test_what_cannot_be_tried_here_is_said_and_nothing_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = variant(tmp_path)
    found = check(one, PACKAGE)
    assert not found.checked
    assert found.said == (
        f"not tried in {PACKAGE}: the environment tflite-runtime is not set up; edgeship setup tflite-runtime makes it"
    )
    unknown = check(one, "tflite-runtime-2.5.0")
    assert not unknown.checked
    assert "edgeship has no tflite-runtime-2.5.0 to try it in; it has " in unknown.said
    assert PACKAGE in unknown.said
    monkeypatch.setattr(libraries, "host_arch", lambda: "riscv64")
    assert board.unchecked(LIBRARY, "tflite") == f"{LIBRARY} is not made for riscv64"


# ── in the package itself ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("precision", "per_channel"),
    [("float32", True), ("float16", True), ("dynamic", False), ("int8-weights", True), ("int8", True),
     ("int16x8", True)],
)  # fmt: skip
def test_what_we_make_loads_in_the_package_and_answers_as_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, per_channel: bool
) -> None:
    real_environment.use("tflite-runtime", monkeypatch)
    found = check(variant(tmp_path, precision, per_channel=per_channel), PACKAGE, samples(20))
    assert found.checked
    assert f"loads and runs in {PACKAGE}, with the answers that it gives here" in found.said


def test_dynamic_with_a_scale_for_each_row_is_refused_there_and_not_answered_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ai-edge-quantizer writes it, FULLY_CONNECTED of version 1, the package loads it and answers nothing but 0."""
    real_environment.use("tflite-runtime", monkeypatch)
    one = variant(tmp_path, "dynamic")
    with pytest.raises(ConversionError, match="it knows no version 12 of the operator FULLY_CONNECTED") as caught:
        check(one, PACKAGE)
    assert "--precision dynamic --per-tensor" in str(caught.value.hint)
    newer(one.path, "FULLY_CONNECTED", 1)
    with pytest.raises(ConversionError, match=r"computes something else from it .* answers the same whatever"):
        check(replace(one, sha256="0" * 64), PACKAGE)


def test_a_file_of_a_later_converter_is_refused_with_the_operator_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dynamic range by TensorFlow 2.21 is."""
    real_environment.use("tflite-runtime", monkeypatch)
    one = variant(tmp_path, version=12)
    with pytest.raises(ConversionError, match="it knows no version 12 of the operator FULLY_CONNECTED") as caught:
        check(one, PACKAGE, samples(4))
    assert str(caught.value).startswith(f"m.tflite: tflite int8: {PACKAGE} refuses it: ")
    assert "--per-tensor" in str(caught.value.hint)


def test_answers_of_a_package_that_differ_are_refused_and_kept_where_they_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_environment.use("tflite-runtime", monkeypatch)
    one, data = variant(tmp_path), samples(20)
    check(one, PACKAGE, data)
    real = loadtest.load

    def wrong(*given: Any, **more: Any) -> loadtest.Loaded:
        loaded = real(*given, **more)
        assert loaded.answers is not None
        return replace(loaded, answers=tuple(np.flip(x, axis=-1) for x in loaded.answers))

    monkeypatch.setattr(loadtest, "load", wrong)
    assert check(one, PACKAGE, data).checked, "what was tried once is not tried again"
    with pytest.raises(ConversionError, match="computes something else"):
        check(one, PACKAGE, samples(20, seed=6))
    pinned = libraries.for_host
    monkeypatch.setattr(libraries, "for_host", lambda *a, **k: replace(pinned(*a, **k), sha256="0" * 64))
    with pytest.raises(ConversionError, match="computes something else"):  # than another library here
        check(one, PACKAGE, data)


def test_a_candidate_that_the_board_cannot_load_is_refused_before_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_environment.use("tflite-runtime", monkeypatch)
    path = newer(mlp(tmp_path / "m.tflite"), "FULLY_CONNECTED", 12)
    source, runtime = registry.inspect(path), profile.load("raspberry-pi-os-32bit").build.runtime["tflite"]
    job = evaluate.Job(
        source, source, Candidate("tflite", Scheme("float32")), None, store.put(samples(50), tmp_path / "c"), 50,
        evaluate.Limits(), tmp_path / "c", runtime=runtime,
    )  # fmt: skip
    outcome = evaluate.perform(job)
    assert outcome.verdict is None
    assert "m.tflite: tflite float32" in str(outcome.error)
    assert "it knows no version 12 of the operator FULLY_CONNECTED" in str(outcome.error)
    assert "--per-tensor" in str(outcome.hint)
    good = evaluate.perform(replace(job, runtime=LIBRARY))
    assert good.trial == board.Trial(LIBRARY, True, f"loads and runs in {LIBRARY}")
    assert good.verdict is not None
