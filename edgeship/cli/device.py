"""`edgeship device`: add, list, show, label, ssh, rm."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output, yes_option
from edgeship.cli.output import Output, Pairs, Table, jsonable

if TYPE_CHECKING:
    from edgeship.deploy.device import Device


@click.group()
def device() -> None:
    """Add, list and change devices."""


@device.command()
@click.argument("name")
@click.argument("address", metavar="[USER@]HOST[:PORT]")
@click.option("--profile", "profile_name", required=True, help="Hardware profile: see edgeship profile list.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="SSH port.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Private key to log in with.",
)
@click.option("--root", default=None, metavar="FOLDER", help="The agent's folder on the device.")
@click.option(
    "--serve-port", type=click.IntRange(0, 65535), default=None, help="Port for inference; 0: Unix socket only."
)
@click.option("--python", default=None, metavar="COMMAND", help="Command that starts Python on the device.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label; may be given several times.")
@click.option("--accept-new", is_flag=True, default=False, help="Pin the host key without asking.")
@click.option("--fingerprint", default=None, help="Pin the host key only if it has this fingerprint (SHA256:…).")
@with_output
def add(
    out: Output,
    name: str,
    address: str,
    profile_name: str,
    port: int | None,
    key: Path | None,
    root: str | None,
    serve_port: int | None,
    python: str | None,
    labels: tuple[str, ...],
    accept_new: bool,
    fingerprint: str | None,
) -> None:
    """Add a device: look at its host key, pin it, log in once, save it.

    HOST is a name, an address or an alias of ~/.ssh/config. Nothing is installed; the first push does that.
    """
    from edgeship import profile
    from edgeship.deploy import enrol
    from edgeship.deploy.device import Device
    from edgeship.fleet import inventory

    user, _, place = address.rpartition("@")
    host, port = _host_and_port(place, port)
    found = profile.load(profile_name)
    wanted = Device(
        name=name,
        profile=profile_name,
        host=host,
        port=port,
        user=user or None,
        identity=str(key.absolute()) if key else None,
        root=root,
        serve_port=serve_port,
        python=_words(python) if python else (),
    )
    wanted = inventory.relabel(wanted, _pairs(labels))
    with choose.opened() as (_, store):
        enrol.check_new(name, store.devices())
        with out.reporter() as reporter:
            seen = enrol.look(wanted, found, reporter=reporter)
        out.say(f"host key of {wanted.host}: {seen.type} {seen.fingerprint}")
        enrol.check_fingerprint(wanted, seen, fingerprint)
        if not fingerprint:
            question = "is this the device's key?"
            out.confirm(question, yes=accept_new, option="--accept-new or --fingerprint SHA256:…")
        with out.reporter() as reporter:
            pinned = enrol.pin(wanted, found, seen, reporter=reporter)
        store.save_device(pinned)
    out.emit("device.add", record(pinned), _shown(pinned))
    out.say(f"next: edgeship push MODEL -l name={name}")


def _host_and_port(place: str, port: int | None) -> tuple[str, int | None]:
    """`pi.local:2222` and `[fe80::1]:2222` as `device show` prints them; `port` is what --port said.

    Raises:
        UsageError: the two name different ports, or it is none.
    """
    from edgeship.errors import UsageError

    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d{1,9}))?", place)
    if found is None:
        return place, port
    host = found["v6"] or found["name"]
    if found["port"] is None:
        return host, port
    written = int(found["port"])
    if not 0 < written < 65536:
        raise UsageError(f"{place}: {written} is no port", hint="1 to 65535")
    if port not in (None, written):
        raise UsageError(f"{place} and --port {port} name different ports", hint="give one of them")
    return host, written


def _words(command: str) -> tuple[str, ...]:
    """A command line as words. Raises UsageError where a quote is not closed."""
    from edgeship.errors import UsageError

    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(
            f"--python {command!r}: {error}", hint="quote it as in a shell: --python 'nice -n 5 python3'"
        ) from error


@device.command("list")
@click.option("-l", "--selector", metavar="SELECTOR", default="", help="Only these: site=berlin, profile in (a,b).")
@with_output
def list_(out: Output, selector: str) -> None:
    """List the devices of the fleet."""
    from edgeship.fleet import selector as selectors

    with choose.opened() as (_, store):
        found = selectors.parse(selector).select(store.devices())
    rows = [(d.name, d.profile, _address(d), ", ".join(f"{k}={v}" for k, v in d.labels.items())) for d in found]
    empty = "no devices; next: edgeship device add NAME HOST --profile PROFILE"
    table = Table(("name", "profile", "address", "labels"), rows, empty=empty)
    out.emit("device.list", [record(d) for d in found], table)


@device.command()
@click.argument("name")
@with_output
def show(out: Output, name: str) -> None:
    """Show a device, and what its profile fills in."""
    from edgeship import profile
    from edgeship.deploy import endpoint

    with choose.opened() as (_, store):
        found = choose.device(store, name)
    board = profile.load(found.profile)
    resolved = endpoint.resolve(found, board)
    arch = resolved.arch or board.hardware.arch
    overrides = [
        key
        for key in ("port", "user", "root", "serve_port", "python", "arch", "init")
        if getattr(found, key) not in (None, ())
    ]
    data = {
        "device": record(found),
        "resolved": {**jsonable(resolved), "arch": arch},
        "overrides": overrides,
    }
    pairs: list[tuple[str, object]] = [
        *_shown(found).items,
        ("python", shlex.join(resolved.python)),
        ("root", resolved.root),
        ("serve port", resolved.serve_port or "Unix socket only"),
        ("arch", arch),
        ("init", resolved.init),
        ("overrides", ", ".join(overrides)),
    ]
    out.emit("device.show", data, Pairs(pairs))


@device.command()
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-…")
@with_output
def label(out: Output, name: str, changes: tuple[str, ...]) -> None:
    """Set labels with KEY=VALUE, remove them with KEY- (a dash behind)."""
    from edgeship.fleet import inventory

    with choose.opened() as (_, store):
        found = inventory.relabel(choose.device(store, name), _pairs(changes, removable=True))
        store.save_device(found)
    out.emit("device.label", record(found), _shown(found))


@device.command()
@click.argument("name")
@yes_option
@with_output
def rm(out: Output, name: str, yes: bool) -> None:
    """Forget a device and its telemetry. The device itself is not touched: edgeship agent uninstall does that."""
    with choose.opened() as (_, store):
        found = choose.device(store, name)
        out.confirm(f"forget {name} and its telemetry?", yes=yes)
        store.remove_device(name)
    out.emit("device.rm", record(found), _shown(found))


@device.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_output
def ssh(out: Output, name: str, command: tuple[str, ...]) -> int:
    """Log in to a device with the system's ssh, against its pinned host key; with COMMAND, run that there.

    Its output is the command's own, so --json has no effect here.
    """
    from edgeship import profile
    from edgeship.deploy import enrol

    del out
    with choose.opened() as (_, store):
        found = choose.device(store, name)
    return enrol.login(found, profile.load(found.profile), command)


def record(found: Device) -> dict[str, Any]:
    """A device as `--json` shows it."""
    from edgeship.deploy import enrol

    data: dict[str, Any] = jsonable(found)
    return {key: None if value in ("", [], ()) else value for key, value in data.items()} | {
        "labels": dict(found.labels),
        "fingerprint": enrol.fingerprint(found),
    }


def _shown(found: Device) -> Pairs:
    from edgeship.deploy import enrol

    return Pairs(
        [
            ("name", found.name),
            ("profile", found.profile),
            ("address", _address(found)),
            ("host key", enrol.fingerprint(found)),
            ("key file", found.identity),
            ("labels", ", ".join(f"{k}={v}" for k, v in found.labels.items())),
        ]
    )


def _address(found: Device) -> str:
    if found.transport == "local":
        return "local child"
    user = f"{found.user}@" if found.user else ""
    return f"{user}{found.host}{f':{found.port}' if found.port else ''}"


def _pairs(texts: Sequence[str], *, removable: bool = False) -> dict[str, str | None]:
    from edgeship.errors import UsageError

    out: dict[str, str | None] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if equals:
            out[key] = value
        elif removable and text.endswith("-"):
            out[text[:-1]] = None
        else:
            raise UsageError(f"{text!r} is not KEY=VALUE" + (" or KEY-" if removable else ""), hint="site=berlin")
    return out
