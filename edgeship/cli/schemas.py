"""JSON Schemas of what `--json` prints, one per command, named by the command: `edgeship.device.list/v1`.

They only ever grow: a key is added, never taken away or given another meaning; a reader must not mind unknown keys.
A test runs the commands and checks that what they print is described here to the last key.
"""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

from edgeship.cli import (
    shapes,
    shapes_audit,
    shapes_bench,
    shapes_compare,
    shapes_device,
    shapes_doctor,
    shapes_model,
    shapes_optimize,
    shapes_setup,
    shapes_tuning,
)
from edgeship.errors import UsageError

SCHEMAS: dict[str, type[BaseModel]] = {
    "error": shapes.Failure,
    "event": shapes.Event,
    "init": shapes.Init,
    "profile.list": shapes.ProfileList,
    "profile.show": shapes.Profile,
    "profile.validate": shapes.ProfileValidate,
    "model.inspect": shapes_model.ModelInspect,
    "model.convert": shapes_model.ModelConverted,
    "model.quantize": shapes_model.ModelConverted,
    "model.compare": shapes_compare.ModelCompare,
    "model.doctor": shapes_doctor.ModelDoctor,
    "model.prune": shapes_tuning.ModelPrune,
    "model.distill": shapes_tuning.ModelDistill,
    "release.list": shapes.ReleaseList,
    "release.inspect": shapes.ReleaseInspect,
    "release.verify": shapes.ReleaseVerify,
    "device.add": shapes_device.Device,
    "device.list": shapes_device.DeviceList,
    "device.show": shapes_device.DeviceShow,
    "device.label": shapes_device.Device,
    "device.rm": shapes_device.Device,
    "optimize": shapes_optimize.Optimize,
    "push": shapes.Push,
    "push.plan": shapes.PushPlan,
    "infer": shapes.Infer,
    "bench.run": shapes_bench.BenchRun,
    "bench.list": shapes_bench.BenchList,
    "bench.report": shapes_bench.BenchRun,
    "status": shapes_device.Status,
    "telemetry.pull": shapes_device.TelemetryPull,
    "telemetry.prune": shapes_device.TelemetryPrune,
    "telemetry.query": shapes_device.TelemetryQuery,
    "audit.list": shapes_audit.AuditList,
    "audit.verify": shapes_audit.AuditVerify,
    "serve": shapes_device.Serving,
    "logs": shapes_device.Logs,
    "rollback": shapes_device.Rollback,
    "agent.status": shapes_device.AgentAnswers,
    "agent.stop": shapes_device.AgentAnswers,
    "agent.restart": shapes_device.AgentAnswers,
    "agent.uninstall": shapes_device.AgentAnswers,
    "runtime.fetch": shapes_device.RuntimeFetch,
    "setup": shapes_setup.Setup,
    "lab.up": shapes_device.VirtualDevices,
    "lab.down": shapes_device.LabDown,
    "lab.list": shapes_device.VirtualDevices,
    "lab.fault": shapes_device.VirtualDevice,
    "config.list": shapes.ConfigList,
    "schema": shapes.SchemaList,
    "completion": shapes.Completion,
    "version": shapes.Version,
}


def listed() -> list[tuple[str, str]]:
    """Name and first line of every schema."""
    return [(name, (model.__doc__ or "").splitlines()[0]) for name, model in SCHEMAS.items()]


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a whole output, envelope included.

    Args:
        name: "device.list" or "edgeship.device.list/v1".

    Raises:
        UsageError: there is no such schema.
    """
    short = name.removeprefix("edgeship.").removesuffix("/v1")
    model = SCHEMAS.get(short)
    if model is None:
        close = difflib.get_close_matches(short, SCHEMAS, n=1)
        more = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"no schema {name!r}{more}", hint="edgeship schema lists the names")
    data = model.model_json_schema()
    definitions = data.pop("$defs", {})
    out: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"edgeship.{short}/v1",
        "type": "object",
        "required": ["schema", "data"],
        "properties": {"schema": {"const": f"edgeship.{short}/v1"}, "data": data},
    }
    return {**out, "$defs": definitions} if definitions else out
