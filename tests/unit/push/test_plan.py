"""What a push decides: which variant for which profile, and why; nothing is touched."""

from dataclasses import replace
from pathlib import Path

import click
import pytest

from edgeship import profile
from edgeship.cli.push import push
from edgeship.config import Budget
from edgeship.dataset import Dataset
from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.model import ModelFacts
from edgeship.push.plan import Build, choose, compared, plan, size_error
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec
from edgeship.targets.base import Target, Variant
from edgeship.targets.scheme import PRECISIONS, Scheme


class OnlyReachable:
    """A target that only says what it reaches."""

    def __init__(self, name: str, sources: tuple[str, ...], precisions: tuple[str, ...] = ("int8", "float32")) -> None:
        self.name, self.sources, self.precisions = name, sources, precisions

    def inspect(self, path: Path) -> ModelFacts:
        raise AssertionError(path)

    def reachable(self, source_format: str, precision: str) -> str | None:
        if source_format not in self.sources:
            return f"no way from {source_format}"
        return None if precision in self.precisions else "no such precision"

    def build(
        self, source: ModelFacts, scheme: Scheme, calibration: Dataset | None, folder: Path, reporter: Reporter
    ) -> Variant:
        raise AssertionError(source)

    def as_is(self, source: ModelFacts, folder: Path, reporter: Reporter) -> Variant:
        raise AssertionError(source)


TARGETS: dict[str, Target] = {
    "tflite": OnlyReachable("tflite", ("keras", "tflite")),
    "onnx": OnlyReachable("onnx", ("keras", "onnx")),
}
PI, JETSON, PHONE = (profile.load(n) for n in ("raspberry-pi-5", "jetson-orin-nano", "android-termux"))


def facts(form: str, precision: str = "float32") -> ModelFacts:
    tensor = TensorSpec("x", "float32", (1, 4))
    return ModelFacts(Path(f"m.{form}"), form, "0" * 64, 10, precision, (tensor,), (tensor,), {}, 4)


def test_what_the_check_compares_is_said_and_a_quantized_source_is_compared_with_itself() -> None:
    assert compared(facts("keras")) == "float against variant on the evaluation data"
    said = compared(facts("tflite", "int8"))
    assert said.startswith("m.tflite as it is (int8) against what is sent, on the evaluation data")
    assert "float model" in said


def test_a_keras_model_becomes_the_first_format_of_the_profile() -> None:
    pi, jetson = (choose(p, facts("keras"), TARGETS, calibrated=True) for p in (PI, JETSON))
    assert (pi.format, pi.precision, pi.runtime) == ("tflite", "int8", "litert-2.3.0")
    assert (jetson.format, jetson.precision, jetson.runtime) == ("onnx", "int8", "onnxruntime-1.31.1")
    assert "first of raspberry-pi-5's formats" in pi.why


def test_the_sources_own_format_wins_where_the_profile_lists_it() -> None:
    build = choose(PI, facts("onnx"), TARGETS, calibrated=True)
    assert (build.format, build.why) == ("onnx", "the source's own format")


def test_a_source_that_is_quantized_already_goes_as_it_is_and_needs_no_data() -> None:
    assert choose(PI, facts("tflite", "int8"), TARGETS, calibrated=False).precision == "int8"


def test_no_calibration_data_no_int8_and_it_says_how() -> None:
    with pytest.raises(UsageError, match="wants int8") as caught:
        choose(PI, facts("keras"), TARGETS, calibrated=False)
    assert caught.value.hint is not None
    assert "--calibration" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_precision_that_cannot_be_built_gives_way_to_the_next() -> None:
    targets = TARGETS | {"tflite": OnlyReachable("tflite", ("keras",), ("float32",))}
    assert choose(PI, facts("keras"), targets, calibrated=True).precision == "float32"


def test_an_explicit_precision_wins_over_the_profiles() -> None:
    build = choose(PI, facts("keras"), TARGETS, calibrated=False, precision="float32")
    assert (build.format, build.precision) == ("tflite", "float32")
    with pytest.raises(UsageError, match="tflite float16, onnx float16: no such precision"):
        choose(PI, facts("keras"), TARGETS, calibrated=True, precision="float16")


def test_the_command_line_offers_every_precision() -> None:
    (option,) = [p for p in push.params if p.name == "precision"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == PRECISIONS


def test_nothing_reachable_names_every_reason() -> None:
    only = replace(PI, build=replace(PI.build, formats=("tflite",)))
    every = r"\(tflite int8, tflite float16, tflite float32: no way from onnx\)"
    with pytest.raises(UsageError, match=every) as caught:
        choose(only, facts("onnx"), TARGETS, calibrated=True)
    assert caught.value.hint == "edgeship setup onnx2tf"
    with pytest.raises(UsageError, match="no such target"):
        choose(only, facts("keras"), {}, calibrated=True)


def test_profiles_that_want_the_same_variant_share_it() -> None:
    devices = [Device("a", PI.name), Device("b", PHONE.name), Device("c", JETSON.name), Device("d", PI.name)]
    made = plan("digits", facts("keras"), devices, {p.name: p for p in (PI, JETSON, PHONE)}, TARGETS, calibrated=True)
    shared = {build.name: set(build.profiles) for build in made.builds if build.threads == PI.build.threads}
    assert shared["tflite int8"] >= {PI.name}
    assert {p for build in made.builds for p in build.profiles} == {PI.name, PHONE.name, JETSON.name}
    assert made.devices == tuple(devices)


def test_the_size_budget() -> None:
    build = Build("tflite", "int8", "r", 1, (), "")
    assert size_error(build, 10**9, Budget()) is None
    assert size_error(build, 100, Budget(max_size_bytes=100)) is None
    assert size_error(build, 1234, Budget(max_size_bytes=100)) == "tflite int8 is 1,234 bytes, max_size allows 100"


def test_a_package_of_the_device_goes_along_with_no_release() -> None:
    own = replace(PI, build=replace(PI.build, formats=("tflite",), runtime={"tflite": "tflite-runtime-2.14.0"}))
    with pytest.raises(UsageError, match=r"tflite-runtime-2\.14\.0 is no library that a release can carry"):
        choose(own, facts("keras"), TARGETS, calibrated=True)
    both = replace(own, build=replace(own.build, formats=("tflite", "onnx"), runtime={
        "tflite": "tflite-runtime-2.14.0", "onnx": PI.build.runtime["onnx"]}))  # fmt: skip
    assert choose(both, facts("keras"), TARGETS, calibrated=True).format == "onnx"
