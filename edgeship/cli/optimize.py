"""`edgeship optimize`."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli.model_convert import source_options
from edgeship.cli.options import preparation, preparation_options, with_output
from edgeship.cli.output import Lines, Output, Pairs, Table

if TYPE_CHECKING:
    from edgeship.config import Project
    from edgeship.dataset import Dataset
    from edgeship.deploy.device import Device
    from edgeship.model import ModelFacts
    from edgeship.optimize.search.candidate import Wish
    from edgeship.optimize.search.latency import Stopwatch
    from edgeship.optimize.search.pick import Budget
    from edgeship.optimize.search.run import Found, Request
    from edgeship.optimize.search.save import Saved
    from edgeship.preparation import Preparation
    from edgeship.reporter import Reporter

_PRECISIONS = ["float32", "float16", "dynamic", "int8-weights", "int8", "int16x8"]
_CAUSE = "no budget is the cause: mend what the message names, and start again"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Representative data to calibrate with; the project's by default.")  # fmt: skip
@click.option("--evaluation", type=click.Path(path_type=Path), default=None, metavar="DATA",
              help="Data to judge with; without it a seeded fifth of --data is held out.")  # fmt: skip
@preparation_options
@source_options
@click.option("--profile", "board", default=None, metavar="NAME", help="The board that the variant is for.")
@click.option("--on", "device", default=None, metavar="DEVICE",
              help="Time candidates on this device of the project, beside what it serves.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, type=click.Choice(_PRECISIONS),
              help="Try only this; may be repeated.")  # fmt: skip
@click.option("--format", "formats", multiple=True, metavar="FORMAT", help="Try only tflite or onnx; may be repeated.")
@click.option("--prune", "prunes", multiple=True, type=click.FloatRange(1, min_open=True), metavar="TIMES",
              help="Try also the Keras model pruned to so many times less arithmetic; may be repeated.")  # fmt: skip
@click.option("--max-drop", type=float, default=None, metavar="POINTS",
              help="Points of the metric that may be lost; 1.0, or the project's.")  # fmt: skip
@click.option("--max-class-drop", type=float, default=None, metavar="POINTS",
              help="The same for each class alone; 5.0, or the project's.")  # fmt: skip
@click.option("--max-slice-drop", type=float, default=None, metavar="POINTS",
              help="The same for each named slice of the data; the project's, else as for a class.")  # fmt: skip
@click.option("--max-latency", default=None, metavar="TIME", help="95th percentile of latency, such as 20ms.")
@click.option("--max-size", default=None, metavar="SIZE", help="Size of the model file, such as 4MB.")
@click.option("--metric", default=None, metavar="METRIC",
              help="top1, top5, f1, f1-binary, mae, rmse, cosine, agreement or module:function; by default what the "
              "data allows.")  # fmt: skip
@click.option("--strict", is_flag=True, default=False, help="A loss that is not proven to be within the limit fails.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, metavar="N",
              help="Candidates built at the same time; by default one a processor.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=None, metavar="FOLDER",
              help="Where model, recipe and report go; MODEL-optimized by default.")  # fmt: skip
@with_output
def optimize(
    out: Output, model: Path, data: Path | None, evaluation: Path | None, board: str | None,
    device: str | None, precisions: tuple[str, ...], formats: tuple[str, ...], prunes: tuple[float, ...],
    max_drop: float | None, max_class_drop: float | None, max_slice_drop: float | None, max_latency: str | None,
    max_size: str | None, metric: str | None, strict: bool, jobs: int | None, output: Path | None,
    stated: tuple[str, ...], signature: str | None, shapes: tuple[str, ...],
) -> None:  # fmt: skip
    """Search the best variant of a model that meets a budget.

    Formats, precisions, calibrations and mixed precision are tried on a few samples first and the best of them on all;
    the survivors are timed. The pick is written with its recipe and a report. No project is needed; in one, its budget
    and data are the defaults. Interrupted and started again, nothing finished is done twice. Exit code 6: nothing meets
    the budget; the report says what comes nearest. Where not one candidate could be judged, the code is that of the
    cause: 1 or 2.
    """
    from edgeship import config, dataset, profile
    from edgeship.errors import GateError, UsageError
    from edgeship.model import parse_shapes
    from edgeship.optimize.search import save
    from edgeship.optimize.search.advice import advice
    from edgeship.optimize.search.candidate import Wish
    from edgeship.targets import registry

    project = None if config.find() is None else config.load()
    known = None if device is None else _device(project, device)
    if board is None and known is None:
        raise UsageError("for which board?", hint="--profile NAME; edgeship profile list")
    chosen = profile.load(board or (known.profile if known else ""))
    budget = _budget(project, max_drop, max_class_drop, max_slice_drop, max_latency, max_size, strict=strict)
    folder = output or Path(f"{model.stem}-optimized")
    mine = project is not None and model.absolute() == project.model.source
    stated_here = project.model if project is not None and mine else None
    source = registry.inspect(
        model, signature or (stated_here.signature if stated_here else None),
        parse_shapes(shapes or (stated_here.shape if stated_here else ())),
    )  # fmt: skip
    with out.reporter() as reporter:
        prepared = preparation(stated, project)
        calibration, judged = _data(project, source, data, evaluation, prepared, reporter)
    if calibration is not None:
        dataset.check_scale(calibration, judged)
        for doubt in dataset.doubts(calibration, judged):
            out.say(doubt)
    save.check_folder(folder)
    with out.reporter() as reporter:
        wish = Wish(formats, precisions, prunes)
        request = _request(project, source, chosen, calibration, judged, budget, wish, metric, reporter)
    found = _search(out, request, jobs, project, known)
    saved = save.write(found, folder)
    _show(out, found, saved)
    _say_next(out, found, saved, project, device, evaluation or data, prepared, metric)
    if found.fault is not None:
        raise type(found.fault)(str(found.fault), hint=f"{found.fault.hint or _CAUSE}; {saved.report} shows all")
    if found.pick.row is None:
        raise GateError(f"{model}: {found.pick.reason}", hint=f"{advice(found)}; {saved.report} shows all")


def _budget(
    project: Project | None, max_drop: float | None, max_class_drop: float | None,
    max_slice_drop: float | None, max_latency: str | None, max_size: str | None, *, strict: bool,
) -> Budget:  # fmt: skip
    """Flag, else the project's, else the default. Raises UsageError."""
    from edgeship.config import Budget as Defaults
    from edgeship.errors import UsageError
    from edgeship.optimize.search.pick import Budget
    from edgeship.tomlfile import milliseconds, size

    base = Defaults() if project is None else project.budget

    def parsed(kind: Any, text: str | None, option: str, example: str) -> Any:
        if text is None:
            return None
        try:
            return kind.read(text)
        except ValueError as error:
            raise UsageError(f"{option} {text!r} {error}", hint=f"such as {option} {example}") from error

    for option, points in (
        ("--max-drop", max_drop),
        ("--max-class-drop", max_class_drop),
        ("--max-slice-drop", max_slice_drop),
    ):
        if points is not None and not 0 <= points < math.inf:
            raise UsageError(f"{option} {points}: points from 0 upwards are wanted", hint=f"such as {option} 1.0")
    latency = parsed(milliseconds(1e-6, 3600), max_latency, "--max-latency", "20ms") or base.max_latency_p95_ms
    return Budget(
        max_drop=base.max_drop if max_drop is None else max_drop,
        max_class_drop=base.max_class_drop if max_class_drop is None else max_class_drop,
        max_latency_us=None if latency is None else latency * 1000,
        max_bytes=parsed(size(1, 4 << 30), max_size, "--max-size", "4MB") or base.max_size_bytes,
        strict=strict,
        max_slice_drop=base.max_slice_drop if max_slice_drop is None else max_slice_drop,
    )


def _data(
    project: Project | None, source: ModelFacts, data: Path | None, evaluation: Path | None,
    prepared: Preparation, reporter: Reporter,
) -> tuple[Dataset | None, Dataset]:  # fmt: skip
    """Calibration and evaluation data; a fifth is held out where there is one file. Raises UsageError, InputError."""
    from edgeship import dataset
    from edgeship.errors import UsageError

    representative = data or (project.data.representative if project else None)
    judging = evaluation or (project.data.evaluation if project and data is None else None)
    if representative is None and judging is None:
        raise UsageError(
            "there is no data to calibrate and to judge with",
            hint="--data DATA: 200 samples or more, with labels where there are any; an .npz, a folder of images or "
            "WAV files, a .csv, or module:function",
        )

    def load(path: Path) -> Dataset:
        classes = () if project is None else project.model.labels
        return dataset.load(path, source, preparation=prepared, classes=classes, reporter=reporter)

    if representative is None:
        assert judging is not None
        return None, load(judging)
    everything = load(representative)
    return (everything, load(judging)) if judging is not None else dataset.split(everything)


def _request(
    project: Project | None, source: ModelFacts, chosen: Any, calibration: Dataset | None, judged: Dataset,
    budget: Budget, wish: Wish, metric: str | None, reporter: Reporter,
) -> Request:  # fmt: skip
    import platformdirs

    from edgeship.optimize import metrics
    from edgeship.optimize.search.run import Request

    wanted = metric or (project.data.metric if project else None)
    metrics.check_early(wanted, judged.labels, judged.targets, source.outputs, reporter)

    cache = platformdirs.user_cache_path("edgeship") / "variants" if project is None else project.state / "variants"
    return Request(
        source, chosen, calibration, judged, budget, cache, wish, wanted,
        (tuple(project.model.labels) if project else ()) or judged.classes,
    )  # fmt: skip


def _device(project: Project | None, name: str) -> Device:
    """A device of the project, which answers. Raises UsageError, AuthError, UnreachableError."""
    from edgeship import profile
    from edgeship.cli import choose
    from edgeship.deploy.transport import connect
    from edgeship.errors import UsageError
    from edgeship.reporter import Reporter

    if project is None:
        raise UsageError("--on takes a device of a project, and this folder is in none", hint="edgeship init")
    with choose.opened() as (_, store):
        found = choose.device(store, name)
    # One that is off or has another host key is better known now than when all is built.
    connect(found, profile.load(found.profile), reporter=Reporter()).close()
    return found


def _search(
    out: Output, request: Request, jobs: int | None, project: Project | None, device: Device | None
) -> Found:  # fmt: skip
    import sys

    from edgeship.cli.patience import Patient
    from edgeship.cli.search_screen import LiveTable
    from edgeship.cli.terminal import Terminal
    from edgeship.errors import Interrupted
    from edgeship.optimize.search.pool import processes, workers
    from edgeship.optimize.search.run import Search

    screen = Terminal(sys.stderr)
    table = screen.interactive and not out.json
    shown = Patient(LiveTable(screen, workers(jobs))) if table else out.reporter()
    try:
        with shown as reporter, processes(jobs) as pool, _stopwatch(request, project, device, reporter) as stopwatch:
            return Search(request, pool, stopwatch, reporter).run()
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; what was built, judged or timed is kept", hint="the same command goes on from there"
        ) from None


@contextlib.contextmanager
def _stopwatch(
    request: Request, project: Project | None, device: Device | None, reporter: Reporter
) -> Iterator[Stopwatch]:  # fmt: skip
    """On the device, which is left as it was; else on this host."""
    from edgeship import profile
    from edgeship.cli import choose
    from edgeship.deploy.contact import Agent, Settings
    from edgeship.optimize.search.latency import Host
    from edgeship.optimize.search.on_device import Fleet, OnDevice

    if project is None or device is None:
        yield Host(request.evaluation, Agent.own().zipapp, request.folder, 1)
        return
    settings = Settings(project.telemetry.window_seconds)
    fleet = Fleet(project.name, choose.repository(project), settings, device, profile.load(device.profile))
    stopwatch = OnDevice(fleet, request.source, request.evaluation, request.folder, reporter)
    with contextlib.closing(stopwatch):
        yield stopwatch
    if stopwatch.reached:
        _note_contact(device)


def _note_contact(device: Device) -> None:
    """How the device is after a search that sent something to it, for `edgeship status`."""
    from edgeship.cli import choose
    from edgeship.cli.status import connector
    from edgeship.errors import EdgeshipError
    from edgeship.fleet import pull
    from edgeship.reporter import Reporter

    quiet = Reporter()
    with choose.opened() as (_, store), contextlib.suppress(EdgeshipError):  # that is noted too
        pull.contact_one(device, connector(quiet), store, quiet)


def _show(out: Output, found: Found, saved: Saved) -> None:
    from edgeship.optimize.search import report
    from edgeship.targets import routes

    tried = report.ordered(found.tried)
    called = report.names(found.tried)
    rows = [report.cells(one, called[one.candidate]) for one in tried if one.status != "dropped"]
    dropped = len(tried) - len(rows)
    picked = found.pick.row
    shown = picked or found.pick.nearest
    pairs: list[tuple[str, object]] = [
        ("budget", report.budget_words(found)),
        ("pick" if picked else "nearest", None if shown is None else called[shown.candidate]),
        ("reason", found.pick.reason),
        ("runtime", report.untried(found) or None),
        (
            "dropped",
            f"{dropped} more that others of their kind beat; {saved.report.name} says how" if dropped else None,
        ),
    ]
    formats = {one.candidate.format for one in tried}
    if left_out := [(r.name, r.why) for r in found.refused if r.name.split()[0] not in formats]:
        pairs.append(("not tried", routes.told(left_out)))
    if picked is not None and (layers := report.kept_layers(found, picked.candidate)):
        pairs.append(("in float", layers))
    files = [
        ("model", saved.model),
        ("recipe", saved.recipe),
        ("report", saved.report),
        ("data", saved.data),
        ("pruned", saved.pruned),
    ]
    pairs += [(name, str(path)) for name, path in files if path is not None]
    if saved.earlier:
        there = ", ".join(path.name for path in saved.earlier)
        pairs.append(("not of it", f"{there}, of another search, in the same folder"))
    data = report.encode(found) | {"files": {name: None if path is None else str(path) for name, path in files}}
    pairs = [(name, value) for name, value in pairs if value is not None]
    # Where nothing could be made the reason says why of each: rows without a figure would say it again.
    table = Table(list(rows[0]), [list(row.values()) for row in rows]) if rows and shown else Lines([])
    out.emit("optimize", data, [table, Pairs(pairs)])


def _say_next(
    out: Output, found: Found, saved: Saved, project: Project | None, device: str | None, data: Path | None,
    prepared: Preparation, metric: str | None,
) -> None:  # fmt: skip
    """The very commands that bring the pick to a board."""
    from edgeship.preparation import Preparation

    picked = found.pick.row
    if picked is None:
        return
    if (why := found.request.profile.supported) is not None:
        out.say(f"next: copy it there; {found.request.profile.name} cannot be pushed to: {why}")
        return
    words = ["edgeship", "push", str(saved.model)]
    words += ["--precision", picked.candidate.scheme.precision]  # else a float pick becomes what the profile puts first
    if data is not None and (project is None or project.data.evaluation is None):
        words += ["--evaluation", str(data)]  # a push checks, and takes golden samples
    words += ["-l", f"name={device}" if device else f"profile={found.request.profile.name}"]
    if project is None:
        out.say("next: edgeship init, then edgeship device add NAME USER@HOST: a project, and the board in it")
    # A push reads and judges as the project says, and has no flags for it.
    if metric is not None and (project is None or project.data.metric != metric):
        out.say(f"also: in edgeship.toml, below [data]: metric = {json.dumps(metric)}")
    there = Preparation() if project is None else project.data.preparation
    stated = [item for item in prepared.encode().items() if item not in there.encode().items()]
    if stated:
        keys = "; ".join(f"{key} = {json.dumps(value)}" for key, value in stated)
        out.say(f"also: in edgeship.toml, below [data.preparation]: {keys}")
    if project is None:
        out.say(f"then: {shlex.join(words)}")
    else:
        out.say(f"next: {shlex.join(words)}")
