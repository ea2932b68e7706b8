"""`edgeship lab`: up, down, list, fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Table

if TYPE_CHECKING:
    from edgeship.lab.virtual import Virtual

FAULTS = ("power-cut", "power-on", "reboot")


@click.group()
def lab() -> None:
    """Virtual devices over SSH on this machine."""


@lab.command()
@click.argument("devices", nargs=-1, metavar="[NAME=PROFILE]…")
@click.option(
    "--server", type=click.Choice(["sshd", "asyncssh"]), default=None, help="SSH server; sshd where it is installed."
)
@with_output
def up(out: Output, devices: tuple[str, ...], server: str | None) -> None:
    """Start virtual devices and add them to the fleet, labelled lab=PROJECT.

    Without arguments: pi (raspberry-pi-5), jetson (jetson-orin-nano) and phone (android-termux). Devices that are there
    already keep their files; those without power get it.
    """
    from edgeship.lab.devices import DEFAULTS, Lab, Spec

    specs = [Spec(*_pair(text)) for text in devices] or DEFAULTS
    with choose.opened() as (project, store):
        room = Lab(project.state / "lab", project.name)
        with out.reporter() as reporter:
            made = room.up(specs, server=server, say=reporter.note)
        for device in made:
            store.save_device(device)
    shown = [virtual for virtual in room.list() if virtual.name in {device.name for device in made}]
    out.emit("lab.up", [_record(v) for v in shown], _table(shown))
    out.say(f"next: edgeship push MODEL -l lab={project.name}")


@lab.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@with_output
def down(out: Output, names: tuple[str, ...]) -> None:
    """End virtual devices (all by default) and take them, their files and their telemetry out of the fleet."""
    from edgeship.lab.devices import Lab

    with choose.opened() as (project, store):
        gone = Lab(project.state / "lab", project.name).down(names)
        enrolled = {device.name for device in store.devices() if "lab" in device.labels}
        for name in gone:
            if name in enrolled:
                store.remove_device(name)
    data = [{"name": name} for name in gone]
    out.emit("lab.down", data, Table(("ended",), [(name,) for name in gone], empty="there was none"))


@lab.command("list")
@with_output
def list_(out: Output) -> None:
    """List virtual devices, with or without power."""
    from edgeship import config
    from edgeship.lab.devices import Lab

    project = config.load()
    found = Lab(project.state / "lab", project.name).list()
    out.emit("lab.list", [_record(v) for v in found], _table(found))


@lab.command()
@click.argument("name")
@click.argument("kind", type=click.Choice(FAULTS))
@with_output
def fault(out: Output, name: str, kind: str) -> None:
    """Do something bad to a virtual device.

    power-cut: off at once, nothing is flushed; power-on: power again, the boot hooks run; reboot: both.
    """
    from edgeship import config
    from edgeship.lab import faults
    from edgeship.lab.devices import Lab

    project = config.load()
    after = faults.fault(Lab(project.state / "lab", project.name), name, kind)
    out.emit("lab.fault", _record(after), _table([after]))


def _pair(text: str) -> tuple[str, str]:
    from edgeship.errors import UsageError

    name, equals, profile = text.partition("=")
    if not (name and equals and profile):
        raise UsageError(f"{text!r} is not NAME=PROFILE", hint="edgeship lab up pi=raspberry-pi-5")
    return name, profile


def _record(virtual: Virtual) -> dict[str, Any]:
    return {
        "name": virtual.name,
        "profile": virtual.profile,
        "label": virtual.label,
        "power": virtual.running,
        "server": virtual.server,
        "user": virtual.user,
        "port": virtual.port,
        "serve_port": virtual.serve_port,
        "arch": virtual.arch,
        "python": list(virtual.python),
    }


def _table(found: list[Virtual]) -> Table:
    rows = [
        (v.name, v.profile, "on" if v.running else "off", v.server, f"{v.user}@127.0.0.1:{v.port}", v.serve_port)
        for v in found
    ]
    columns = ("name", "profile", "power", "server", "address", "serves on")
    return Table(columns, rows, empty="no virtual devices; next: edgeship lab up")
