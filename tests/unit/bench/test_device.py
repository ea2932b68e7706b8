"""A benchmark of a device: what it says is bounded, what its release says comes from the host's copy."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.bench import device as on_device
from edgeship.bench.protocol import BenchOptions
from edgeship.bench.record import Conditions, Quality, Record
from edgeship.deploy.client import AgentClient
from edgeship.deploy.contact import Hello
from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.errors import DeviceError
from edgeship.runtime.manifest import FileRef, Golden, Manifest, RuntimeRef, TensorSpec, VariantRef
from tests.simulators.bench import FACTS, HELLO, Agent, latencies

PI = Device("pi", "raspberry-pi-5")


def manifest(**changes: Any) -> Manifest:
    tensor = TensorSpec("image", "int8", (1, 8, 8, 1), 0.004, -128)
    variant: dict[str, Any] = {
        "profiles": ("raspberry-pi-5",), "format": "tflite", "precision": "int8", "file": FileRef("ab" * 32, 113_456),
        "runtimes": (RuntimeRef("litert-2.3.0", "aarch64", FileRef("12" * 32, 6_000_000)),),
        "recipe": FileRef("cd" * 32, 900), "inputs": (tensor,), "outputs": (tensor,),
        "golden": Golden(FileRef("34" * 32, 1000), 16, 0.03, 0.9), "threads": 4,
        "measured": {"metric": "top1", "float": 0.984, "variant": 0.983, "samples": 1000, "drop_interval": [-0.4, 0.6]},
        "latency_p95_ms": 20.0,
    } | changes  # fmt: skip
    return Manifest("digits", 3, "2026-11-22T09:30:00Z", (VariantRef(**variant),))


def measured(agent: Agent, found: Manifest | None) -> Record:
    client = AgentClient(agent, "pi")
    return on_device.run(client, PI, lambda _model, _counter: found, BenchOptions(100, 8, 5.0), clock=1.0)


def test_a_record_names_device_model_library_and_quality() -> None:
    agent = Agent()
    made = measured(agent, manifest())
    assert made.place.name == "pi"
    assert (made.place.arch, made.place.cores, made.place.board) == ("aarch64", 4, "Raspberry Pi 5")
    assert (made.identity.model, made.identity.counter, made.identity.sha256) == ("digits", 3, "ab" * 32)
    assert (made.software.library, made.software.threads) == ("litert-2.3.0", 4)
    assert made.quality == Quality("top1", 0.984, 0.983, 1000, (-0.4, 0.6))
    assert made.budget_p95_us == 20_000.0
    assert made.before == Conditions(load1=0.4, temperature_celsius=51.5)
    assert made.latencies_us == tuple(latencies(100))
    [asked] = [a for a in agent.asked if a["op"] == "bench"]
    assert (asked["runs"], asked["warmup"], asked["max_seconds"]) == (100, 8, 5.0)


def test_a_release_that_the_host_does_not_have_leaves_gaps_not_guesses() -> None:
    made = measured(Agent(), None)
    assert made.identity.sha256 is None
    assert (made.identity.format, made.identity.precision) == ("tflite", "int8")
    assert made.software.library is None
    assert made.quality is None


def test_a_library_for_another_architecture_is_not_named() -> None:
    made = measured(Agent(facts={**FACTS, "arch": "x86_64"}), manifest())
    assert made.software.library is None


@pytest.mark.parametrize("measured_", [{}, {"float": "high", "variant": 1.0, "samples": 5}])
def test_a_skipped_check_has_no_quality(measured_: dict[str, Any]) -> None:
    assert measured(Agent(), manifest(measured=measured_)).quality is None


def test_quality_without_an_interval() -> None:
    found = on_device.quality_of(
        manifest(measured={"float": 1, "variant": 1, "samples": 5, "drop_interval": [1]}).variants[0]
    )
    assert found == Quality("metric", 1.0, 1.0, 5)


def test_a_device_that_serves_nothing_is_told_what_to_do() -> None:
    with pytest.raises(DeviceError, match=r"^pi: serves no model") as caught:
        measured(Agent(status={"model": None, "counter": None}), None)
    assert caught.value.hint == "edgeship push MODEL -l name=pi"


def test_a_device_that_cannot_say_what_it_is_is_named() -> None:
    with pytest.raises(DeviceError, match="pi: what it says of itself"):
        measured(Agent(facts={}), None)


@pytest.mark.parametrize("sensors", [None, [], {"load": "high"}, {"load": True, "temperature_celsius": float("nan")}])
def test_sensors_that_say_nonsense_are_unknown(sensors: Any) -> None:
    assert on_device.conditions({"sensors": sensors}) == Conditions()


def test_words_that_a_device_made_up_are_cut() -> None:
    made = on_device.subject_of(
        PI, Hello.parse(HELLO), Facts.parse(FACTS),
        {"model": "x" * 500, "counter": 1, "format": 7, "precision": "y" * 500}, None,
    )  # fmt: skip
    assert (len(made.identity.model), made.identity.format, len(made.identity.precision)) == (64, "unknown", 32)
