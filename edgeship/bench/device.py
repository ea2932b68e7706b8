"""A benchmark of what a device serves: its agent's worker runs the protocol, the host asks and writes down.

Facts and state come from the device and may be wrong; what a release holds comes from the host's own signed copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from edgeship.bench import protocol
from edgeship.bench.protocol import BenchOptions, Subject
from edgeship.bench.record import Conditions, Identity, Place, Quality, Record, Software
from edgeship.deploy.client import AgentClient
from edgeship.deploy.contact import Hello
from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.errors import DeviceError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import Manifest, VariantRef
from edgeship.runtime.wire import PROTOCOL

#: (model, counter) -> the manifest of that release, None where the host does not have it.
Releases = Callable[[str, int], Manifest | None]


def run(client: AgentClient, device: Device, releases: Releases, options: BenchOptions, *, clock: float) -> Record:
    """Measure what a device serves.

    Args:
        client: an open client of its agent.
        device: its record.
        releases: the host's copy of what it may serve.
        options: how often.
        clock: seconds since 1970 on this host, for the greeting.

    Raises:
        DeviceError: it serves nothing, or its answers are not the protocol.
    """
    try:
        hello = Hello.parse(client.request("hello", protocol=PROTOCOL, clock=clock).result)
        facts = Facts.parse(client.request("facts").result)
    except ProtocolError as error:
        raise DeviceError(
            f"{device.name}: what it says of itself cannot be read: {error}", device=device.name, stage="bench",
            hint="update edgeship on the host that is older, then push again",
        ) from error  # fmt: skip
    status = client.request("status").result
    model, counter = status.get("model"), status.get("counter")
    if not isinstance(model, str) or not isinstance(counter, int):
        raise DeviceError(
            f"{device.name}: serves no model, so there is nothing to measure", device=device.name, stage="bench",
            code="no-model", hint=f"edgeship push MODEL -l name={device.name}",
        )  # fmt: skip
    manifest = releases(model, counter)
    subject = subject_of(device, hello, facts, status, manifest)

    def ask(op: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return client.request(op, **fields).result

    return protocol.measure(ask, subject, options, lambda: conditions(client.request("status").result))


def subject_of(
    device: Device, hello: Hello, facts: Facts, status: Mapping[str, Any], manifest: Manifest | None
) -> Subject:
    """What is measured and where, from what the device and the host's release say. Pure."""
    variant = None if manifest is None else manifest.variant_for(device.profile)
    model = str(status.get("model"))[:64]
    counter = status.get("counter")
    if variant is None:
        identity = Identity(model, _word(status, "format"), _word(status, "precision"), counter=counter)
        return Subject(identity, place_of(device, facts), Software(hello.agent, hello.agent_sha256))
    identity = Identity(
        model, variant.format, variant.precision, variant.file.sha256, variant.file.bytes, counter,
        variant.recipe.sha256,
    )  # fmt: skip
    library = variant.runtime_for(facts.arch)
    software = Software(
        agent=hello.agent, agent_sha256=hello.agent_sha256, library=None if library is None else library.name,
        library_sha256=None if library is None else library.file.sha256, threads=variant.threads,
    )  # fmt: skip
    limit = variant.latency_p95_ms
    return Subject(
        identity, place_of(device, facts), software, quality_of(variant), None if limit is None else limit * 1000
    )


def _word(status: Mapping[str, Any], key: str) -> str:
    value = status.get(key)
    return value[:32] if isinstance(value, str) else "unknown"


def place_of(device: Device, facts: Facts) -> Place:
    """Where: the device's own facts, under its name and profile."""
    return Place(
        name=device.name, profile=device.profile, board=facts.board or None, arch=facts.arch, cores=facts.cores or None,
        memory_bytes=facts.memory_bytes or None, kernel=facts.kernel or None, system=facts.os or None,
        python=facts.python,
    )  # fmt: skip


def quality_of(variant: VariantRef) -> Quality | None:
    """What the release says that the check measured; None where it was skipped or cannot be read."""
    measured = variant.measured
    values = [measured.get(key) for key in ("float", "variant")]
    samples, interval = measured.get("samples"), measured.get("drop_interval")
    if not all(isinstance(v, (int, float)) for v in values) or not isinstance(samples, int):
        return None
    drop = tuple(float(v) for v in interval) if isinstance(interval, list) and len(interval) == 2 else None
    return Quality(
        str(measured.get("metric", "metric"))[:32], float(values[0] or 0), float(values[1] or 0), samples,
        None if drop is None else (drop[0], drop[1]),
    )  # fmt: skip


def conditions(status: Mapping[str, Any]) -> Conditions:
    """The state of a device from its sensors; what it does not have, or says wrongly, is unknown."""
    sensors = status.get("sensors")
    known = sensors if isinstance(sensors, dict) else {}

    def number(name: str) -> float | None:
        value = known.get(name)
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if fine and value is not None else None

    return Conditions(load1=number("load"), temperature_celsius=number("temperature_celsius"))
