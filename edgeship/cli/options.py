"""Options that several commands share.

    @click.command()
    @device_options                 # selector: str | None, all_: bool
    @dry_run_option                 # dry_run: bool
    @yes_option                     # yes: bool
    @jobs_option                    # jobs: int
    @with_output                    # out: Output, first argument; adds --json and --debug
    def restart(out: Output, selector: str | None, all_: bool, dry_run: bool, yes: bool, jobs: int) -> None: …

`edgeship.cli.choose.devices(store, selector, all_=…)` turns the first two into devices. Commands that read data add
`@data_options` (data, evaluation: Path | None; stated: tuple[str, ...]) or `@preparation_options` (stated alone);
`preparation(stated, project)` makes of it what `dataset.load` takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeship.cli import State
from edgeship.cli.output import Output

if TYPE_CHECKING:
    from edgeship.config import Project
    from edgeship.preparation import Preparation

F = TypeVar("F", bound=Callable[..., Any])


def _set_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.ensure_object(State).json = value


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.ensure_object(State).debug = value


def with_output(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` and `--debug`, and pass an `Output` as the first argument."""

    @click.option(
        "--json", is_flag=True, default=False, is_eager=True, expose_value=False, callback=_set_json,
        help="Print one JSON object; never ask.",
    )  # fmt: skip
    @click.option(
        "--debug", is_flag=True, default=False, is_eager=True, expose_value=False, callback=_set_debug,
        help="Show a traceback when something fails.",
    )  # fmt: skip
    @click.pass_context
    def wrapper(ctx: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        return function(Output(ctx.ensure_object(State)), *args, **kwargs)

    parameters = getattr(wrapper, "__click_params__", [])
    functools.update_wrapper(wrapper, function)
    wrapper.__click_params__ = parameters + getattr(function, "__click_params__", [])  # type: ignore[attr-defined]  # click's own attribute
    return wrapper


def device_options(function: F) -> F:
    """Add `-l/--selector` and `--all`."""
    function = click.option(
        "--all", "all_", is_flag=True, default=False, help="All devices of the fleet."
    )(function)  # fmt: skip
    return click.option(
        "-l", "--selector", metavar="SELECTOR", default=None,
        help="Which devices: name=pi, profile=raspberry-pi-5,site=berlin, site!=lab, name in (a,b).",
    )(function)  # fmt: skip


def dry_run_option(function: F) -> F:
    """Add `--dry-run`."""
    return click.option("--dry-run", is_flag=True, default=False, help="Print what would be done; do nothing.")(
        function
    )


def yes_option(function: F) -> F:
    """Add `-y/--yes`."""
    return click.option("-y", "--yes", is_flag=True, default=False, help="Do not ask.")(function)


def jobs_option(function: F) -> F:
    """Add `--jobs`."""
    return click.option(
        "--jobs",
        type=click.IntRange(1, 256),
        default=16,
        show_default=True,
        metavar="N",
        help="Devices at the same time.",
    )(function)


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--data` and `--evaluation`, and what `preparation_options` adds."""
    function = preparation_options(function)
    function = click.option(
        "--evaluation", type=click.Path(path_type=Path), default=None, metavar="DATA",
        help="Samples to judge by; without it a seeded fifth of --data is held out.",
    )(function)  # fmt: skip
    return click.option(
        "--data", type=click.Path(path_type=Path), default=None, metavar="DATA",
        help="Samples: an .npz, a folder of images or WAV files with one folder a class, a .csv, or module:function.",
    )(function)  # fmt: skip


def preparation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--normalize`, `--resize` and `--prepare`; the function gets them as `stated`, "KEY=VALUE" each."""

    @functools.wraps(function)
    def wrapper(
        *args: Any, normalize: str | None, resize: str | None, prepare: tuple[str, ...], **kwargs: Any
    ) -> Any:  # fmt: skip
        short = [f"{key}={value}" for key, value in (("normalize", normalize), ("resize", resize)) if value is not None]
        return function(*args, stated=(*short, *prepare), **kwargs)

    for option in (
        click.option(
            "--prepare", multiple=True, metavar="KEY=VALUE",
            help="Any key of [data.preparation]: sample_rate=16000, mean=0.5,0.5,0.5. Repeatable.",
        ),
        click.option("--resize", metavar="HOW", default=None, help="Of images: crop, squash, pad or none."),
        click.option(
            "--normalize", metavar="RANGE", default=None,
            help="As in training. Images: 0..1, -1..1, 0..255 or imagenet; recordings: -1..1, int16 or peak.",
        ),
    ):  # fmt: skip
        wrapper = option(wrapper)
    return wrapper


def preparation(stated: tuple[str, ...], project: Project | None = None) -> Preparation:
    """What flags say, over what the project says. Raises UsageError."""
    from edgeship.preparation import from_flags

    return from_flags(stated, None if project is None else project.data.preparation)
