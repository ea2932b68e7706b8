"""`edgeship bench`: run, list, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli.options import device_options, with_output
from edgeship.cli.output import Lines, Output, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeship.bench.protocol import BenchOptions
    from edgeship.bench.record import Record
    from edgeship.config import Project
    from edgeship.dataset import Dataset
    from edgeship.model import ModelFacts
    from edgeship.reporter import Reporter

_FILE = click.Path(path_type=Path)


@click.group()
def bench() -> None:
    """Measure latency and memory on host and devices."""


def _outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--html` and `--markdown`."""
    for name, text in (
        ("--markdown", "Write a table for a pull request."),
        ("--html", "Write a report: one file, opens offline."),
    ):
        function = click.option(name, type=_FILE, default=None, metavar="FILE", help=text)(function)
    return function


@bench.command()
@click.argument("model", required=False, type=_FILE)
@device_options
@click.option("--host", is_flag=True, default=False, help="Measure the project's model on this machine.")
@click.option(
    "--format", "formats", multiple=True, metavar="FORMAT", help="On the host: tflite, onnx; may be repeated."
)
@click.option("--precision", "precisions", multiple=True, metavar="PRECISION",
              help="On the host: float32, float16, dynamic, int8; may be repeated.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="On the host.")
@click.option("--runs", type=int, default=512, show_default=True, help="Runs that are timed.")
@click.option("--warmup", type=int, default=32, show_default=True, help="Runs before them.")
@click.option("--max-seconds", type=float, default=30.0, show_default=True, help="Stop timing after this long.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
              help="Devices at the same time; virtual ones share this machine and disturb each other.")  # fmt: skip
@_outputs
@with_output
def run(
    out: Output, model: Path | None, selector: str | None, all_: bool, host: bool, formats: tuple[str, ...],
    precisions: tuple[str, ...], threads: int, runs: int, warmup: int, max_seconds: float, jobs: int,
    html: Path | None, markdown: Path | None,
) -> None:  # fmt: skip
    """Measure what devices serve, or MODEL on this host.

    MODEL (or --host) is measured on this machine: as it is, and as int8 where the project has calibration data. With -l
    or --all devices measure what they serve. Both use the same code and can be asked for together; the first
    measurement is what the others are compared with.
    """
    from edgeship import config
    from edgeship.bench import record as records
    from edgeship.bench.protocol import BenchOptions
    from edgeship.errors import UsageError

    options = BenchOptions(runs, warmup, max_seconds)
    project = config.load() if model is None else _project()
    if host and model is None and project is not None:
        model = project.model.source
        if model is None:
            raise UsageError(
                "the project names no model", hint="[model] source in edgeship.toml, or edgeship bench run MODEL"
            )
    made: list[Record] = []
    with out.reporter() as reporter:
        if model is not None:
            made += _on_host(model, project, formats, precisions, threads, options, reporter)
        failed = None
        if selector is not None or all_ or model is None:
            found, failed = _on_devices(selector, all_, jobs, options, reporter)
            made += found
    folder = None if project is None else project.state / "bench"
    saved = [None if folder is None else records.save(record, folder) for record in made]
    _write(out, made, html, markdown)
    data = {"runs": [{**r.encode(), "file": None if p is None else str(p)} for r, p in zip(made, saved, strict=True)]}
    if made:
        out.emit("bench.run", data, [_table(made), *_said(made)])
    if failed is not None:
        raise failed


def _project() -> Project | None:
    """The project around this folder, if there is one: a file can be measured without."""
    from edgeship import config

    return None if config.find() is None else config.load()


def _load(path: Path | None, facts: ModelFacts, project: Project, reporter: Reporter) -> Dataset | None:
    """Data of a project, where it names some."""
    from edgeship import dataset

    if path is None:
        return None
    return dataset.load(
        path, facts, preparation=project.data.preparation, classes=project.model.labels, reporter=reporter
    )  # fmt: skip


def _on_host(
    model: Path, project: Project | None, formats: Sequence[str], precisions: Sequence[str], threads: int,
    options: BenchOptions, reporter: Reporter,
) -> list[Record]:  # fmt: skip
    import tempfile

    from edgeship import libraries
    from edgeship.bench import host, report, source
    from edgeship.deploy.contact import Agent
    from edgeship.reporter import Step
    from edgeship.targets import registry

    facts = registry.inspect(model)
    targets = registry.targets()
    calibration = _load(project.data.representative, facts, project, reporter) if project else None
    samples = _load(project.data.evaluation, facts, project, reporter) if project else None
    pairs = source.wanted(facts, targets, formats=formats, precisions=precisions, calibrated=calibration is not None)
    made = []
    with tempfile.TemporaryDirectory(prefix="edgeship-bench-") as scratch:
        agent = Agent.own().zipapp
        folder = Path(scratch) if project is None else project.state / "variants"
        registry.prepare(facts, [], folder)
        for subject in source.build(
            facts, pairs, targets, name=model.stem, calibration=calibration, folder=folder, reporter=reporter
        ):
            step = Step("bench", f"host {subject.format} {subject.precision}")
            reporter.started(step)
            library = libraries.for_host(subject.format)
            record = host.run(subject, library, agent, options, threads=threads, samples=samples)
            reporter.finished(step, report.line(record))
            made.append(record)
    return made


def _on_devices(
    selector: str | None, all_: bool, jobs: int, options: BenchOptions, reporter: Reporter
) -> tuple[list[Record], Exception | None]:
    import time

    from edgeship.bench import device as on_device
    from edgeship.bench import report
    from edgeship.cli import choose
    from edgeship.deploy.device import Device
    from edgeship.deploy.fleet_run import fleet_run, fold
    from edgeship.errors import ReleaseError
    from edgeship.reporter import Step
    from edgeship.runtime.manifest import Manifest

    with choose.opened() as (project, store):
        devices = choose.devices(store, selector, all_=all_)
        repository = choose.repository(project)

        def release(model: str, counter: int) -> Manifest | None:
            try:
                return repository.manifest(model, counter)[0]
            except ReleaseError:
                return None

        def job(device: Device) -> Record:
            step = Step("bench", device.name)
            reporter.started(step)
            with choose.connected(device, reporter) as client:
                record = on_device.run(client, device, release, options, clock=time.time())
            reporter.finished(step, report.line(record))
            return record

        outcomes = fleet_run(devices, job, jobs)
    return [o.result for o in outcomes if o.result is not None], fold(outcomes)


@bench.command("list")
@with_output
def list_(out: Output) -> None:
    """List the saved measurements of this project, oldest first."""
    from edgeship import config
    from edgeship.bench import record as records
    from edgeship.bench import units
    from edgeship.errors import InputError

    data: list[dict[str, Any]] = []
    for path in records.saved(config.load().state / "bench"):
        try:
            found = records.load(path)
        except InputError as error:
            out.say(str(error))
            continue
        for record in found:
            summary = record.summary
            data.append(
                {
                    "file": str(path), "created": record.created, "target": record.place.name,
                    "model": record.identity.model, "format": record.identity.format,
                    "precision": record.identity.precision, "counter": record.identity.counter, "n": summary.n,
                    "median_us": summary.median, "p95_us": summary.percentile(95.0), "warnings": len(record.warnings),
                }
            )  # fmt: skip
    rows = [
        (d["created"], d["target"], f"{d['model']} {d['format']} {d['precision']}", d["counter"],
         units.time(d["median_us"]), units.time(d["p95_us"]), d["n"], d["warnings"] or "", Path(d["file"]).name)
        for d in data
    ]  # fmt: skip
    columns = ("created", "target", "model", "release", "median", "p95", "runs", "warnings", "file")
    out.emit("bench.list", data, Table(columns, rows, empty="no measurement yet; next: edgeship bench run"))


@bench.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@_outputs
@with_output
def report(out: Output, files: tuple[Path, ...], html: Path | None, markdown: Path | None) -> None:
    """Show saved measurements beside each other; the first is what the others are compared with.

    FILES are names out of `edgeship bench list`, or paths.
    """
    from edgeship.bench import record as records

    project = _project()
    folder = None if project is None else project.state / "bench"
    paths = [folder / file if folder is not None and not file.exists() else file for file in files]
    made = [record for path in paths for record in records.load(path)]
    _write(out, made, html, markdown)
    out.emit("bench.report", {"runs": [r.encode() for r in made]}, [_table(made), *_said(made)])


def _table(made: Sequence[Record]) -> Table:
    from edgeship.bench import report

    rows = report.table(made)
    return Table(list(rows[0]), [list(r.values()) for r in rows])


def _said(made: Sequence[Record]) -> list[Lines]:
    from edgeship.bench import report

    lines = [f"{c['target']} against {made[0].title}: {c['ratio']} ({c['interval']}), {c['says']}"
             for c in report.compared(made)]  # fmt: skip
    lines += [f"{record.title}: mind: {warning}" for record in made for warning in record.warnings]
    return [Lines(lines)] if lines else []


def _write(out: Output, made: Sequence[Record], html: Path | None, markdown: Path | None) -> None:
    """Write the reports that were asked for. Raises UsageError where a file cannot be written."""
    from edgeship.bench import report
    from edgeship.errors import UsageError

    if not made:
        return
    for path, render in ((html, report.html), (markdown, report.markdown)):
        if path is None:
            continue
        try:
            path.write_text(render(made), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}", hint="another file to write to") from error
        out.say(f"report: {path}")
