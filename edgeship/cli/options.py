"""Options that several commands share.

    @click.command()
    @device_options                 # selector: str | None, all_: bool
    @dry_run_option                 # dry_run: bool
    @yes_option                     # yes: bool
    @jobs_option                    # jobs: int
    @with_output                    # out: Output, first argument; adds --json and --debug
    def restart(out: Output, selector: str | None, all_: bool, dry_run: bool, yes: bool, jobs: int) -> None: …

`edgeship.cli.choose.devices(store, selector, all_=…)` turns the first two into devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeship.cli import State
from edgeship.cli.output import Output

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
