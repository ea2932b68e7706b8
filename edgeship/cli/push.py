"""`edgeship push`."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship import wording
from edgeship.cli import choose
from edgeship.cli.model_convert import source_options
from edgeship.cli.options import device_options, dry_run_option, jobs_option, with_output
from edgeship.cli.output import Output, Table

if TYPE_CHECKING:
    from edgeship.push.perform import Result
    from edgeship.push.plan import Plan


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@device_options
@click.option("--calibration", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Representative data to quantize with, instead of the project's.")  # fmt: skip
@click.option("--evaluation", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Evaluation data to check with, instead of the project's.")  # fmt: skip
@click.option("--precision", default=None,
              type=click.Choice(["float32", "float16", "dynamic", "int8-weights", "int8", "int16x8"]),
              help="Instead of what the devices' profiles ask for.")  # fmt: skip
@click.option("--skip-check", is_flag=True, default=False,
              help="Push whatever the check would say; manifest and audit trail record it with your name.")  # fmt: skip
@click.option("--strict", is_flag=True, default=False, help="A budget that is not proven fails too.")
@click.option("--one-first", is_flag=True, default=False, help="One device first; the others when it is healthy.")
@click.option("--no-bench", is_flag=True, default=False, help="Leave the short benchmark at the end out.")
@click.option("--wheelhouse", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="Take runtime libraries out of wheels in this folder; nothing is downloaded.")  # fmt: skip
@source_options
@jobs_option
@dry_run_option
@with_output
def push(
    out: Output, model: Path | None, selector: str | None, all_: bool, calibration: Path | None,
    evaluation: Path | None, precision: str | None, signature: str | None, shapes: tuple[str, ...],
    skip_check: bool, strict: bool, one_first: bool, no_bench: bool, wheelhouse: Path | None, jobs: int, dry_run: bool,
) -> None:  # fmt: skip
    """Convert, check, sign and deploy a model to devices.

    MODEL is a .keras, .onnx, .tflite or .pt2 file or the folder of a SavedModel; the project's model by default. Each
    device gets what its profile asks for. Nothing is sent before every variant passed the check against the float
    model.
    """
    from edgeship import dataset, profile
    from edgeship.errors import UsageError
    from edgeship.model import parse_shapes
    from edgeship.push.perform import Performer
    from edgeship.push.plan import Options, plan
    from edgeship.targets import registry

    options = Options(
        calibration=calibration, evaluation=evaluation, skip_check=skip_check, approved_by=getpass.getuser(),
        strict=strict, bench=not no_bench, jobs=jobs, one_first=one_first, wheelhouse=wheelhouse,
    )  # fmt: skip
    with choose.opened() as (project, store):
        chosen = choose.devices(store, selector, all_=all_)
        source = project.model.source if model is None or _same(model, project.model.source) else model
        if source is None:
            raise UsageError("which model?", hint='edgeship push MODEL, or [model] source = "…" in edgeship.toml')
        profiles = {device.profile: profile.load(device.profile) for device in chosen}
        mine = source == project.model.source  # what edgeship.toml says is of the model that it names
        facts = registry.inspect(
            source, signature or (project.model.signature if mine else None),
            parse_shapes(shapes or (project.model.shape if mine else ())),
        )  # fmt: skip
        planned = plan(
            project.name, facts, chosen, profiles, registry.targets(),
            calibrated=(calibration or project.data.representative) is not None, precision=precision,
        )  # fmt: skip
        if dry_run:
            for path in (calibration or project.data.representative, evaluation or project.data.evaluation):
                if path is not None:
                    dataset.check_file(path)
            _show_plan(out, planned, skip_check=skip_check)
            return
        with out.reporter() as reporter:
            performer = Performer(project, profiles, choose.repository(project), store, reporter, options)
            result = performer.perform(planned)
        _show_result(out, result)


def _same(model: Path, source: Path | None) -> bool:
    return source is not None and model.absolute() == source


def _show_plan(out: Output, planned: Plan, *, skip_check: bool) -> None:
    """The table of a push, nothing done."""
    from edgeship.push.plan import compared, searchable

    rows: list[tuple[str, str, str]] = []
    for build in planned.builds:
        rows.append(("convert", build.name, f"{planned.source.format} → {build.name} ({build.why})"))
        rows.append(("check", build.name, "skipped" if skip_check else compared(planned.source)))
        if not skip_check and searchable(planned.source, build):
            why = (
                f"only if the check fails: {build.name} with other ranges, then with fitted weights, "
                "then with the fewest layers in float"
            )
            rows.append(("search", build.name, why))
    for device in planned.devices:
        build = next(b for b in planned.builds if device.profile in b.profiles)
        threads = wording.counted(build.threads, "thread")
        rows.append(("deploy", device.name, f"{build.name} with {build.runtime}, {threads}"))
    data: list[dict[str, Any]] = [
        {"step": step, "subject": subject, "summary": summary} for step, subject, summary in rows
    ]
    out.emit("push.plan", {"model": planned.model, "steps": data}, Table(("step", "subject", "would do"), rows))


def _show_result(out: Output, result: Result) -> None:
    manifest = result.release.manifest
    data = {
        "model": manifest.model, "counter": manifest.counter, "manifest_sha256": result.release.manifest_sha256,
        "checks_skipped": manifest.checks_skipped,
        "checks": {
            name: {"metric": v.metric, "float": v.float_value, "variant": v.variant_value, "drop": v.drop,
                   "interval": list(v.interval), "samples": v.samples, "passed": v.passed, "proven": v.proven}
            for name, v in result.verdicts.items()
        },
        "devices": [
            {"device": d.device, "sent_bytes": d.sent_bytes, "sent": dict(d.sent), "seconds": d.seconds,
             "probe": dict(d.probe)}
            for d in result.deployed
        ],
    }  # fmt: skip
    rows = [
        (d.device, f"{manifest.model} {manifest.counter}", d.sent_bytes, f"{d.seconds:.1f} s") for d in result.deployed
    ]
    out.emit("push", data, Table(("device", "serves", "bytes sent", "took"), rows))
    out.say("next: edgeship status  ·  edgeship serve --open")
