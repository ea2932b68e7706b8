"""`edgeship audit`: list, verify."""

from __future__ import annotations

import re

import click

from edgeship.cli import choose
from edgeship.cli.options import with_output
from edgeship.cli.output import Output, Pairs, Table


@click.group()
def audit() -> None:
    """The trail of who did what to which device."""


@audit.command("list")
@click.option("--subject", metavar="NAME", default=None, help="Of one device or model alone.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N",
              help="How many entries, the newest.")  # fmt: skip
@with_output
def list_(out: Output, subject: str | None, limit: int) -> None:
    """List the newest entries: pushes, skipped checks, how each ended on each device; newest first."""
    from edgeship.dashboard.text import moment

    with choose.opened() as (_, store):
        entries = store.entries(subject=subject, limit=limit)
    rows = [
        (e.id, moment(e.at), e.actor, e.action, e.subject,
         ", ".join(f"{key}={value}" for key, value in e.detail.items() if value is not None))
        for e in entries
    ]  # fmt: skip
    columns = ("entry", "when", "who", "what", "on", "detail")
    out.emit("audit.list", [e.encode() for e in entries], Table(columns, rows, empty="nothing was done yet"))


@audit.command()
@click.option("--noted", metavar="HASH", default=None,
              help="A newest hash that an earlier verify printed: its entry must still be there.")  # fmt: skip
@with_output
def verify(out: Output, noted: str | None) -> int:
    """Walk the whole chain of hashes; exit 1 when an entry was changed, dropped or put elsewhere.

    Who can write to the database can also write all of it anew. So note the newest hash somewhere else, and give it to
    a later verify.
    """
    from edgeship.errors import UsageError

    if noted is not None and not re.fullmatch(r"[0-9a-f]{64}", noted):
        raise UsageError(f"{noted!r} is no hash of an entry", hint="the 64 digits that edgeship audit verify printed")
    with choose.opened() as (_, store):
        found = store.verify_audit(noted)
    data = {
        "whole": found.whole, "entries": found.entries, "newest": found.head, "broken": found.broken,
        "reason": found.reason or None,
    }  # fmt: skip
    said = "every entry follows the one before" if found.whole else f"NOT WHOLE: {found.reason}"
    out.emit("audit.verify", data, Pairs([("trail", said), ("entries", found.entries), ("newest", found.head)]))
    if not found.whole:
        out.say("next: compare the fleet's database with a copy of before; edgeship audit list shows what is there")
    return 0 if found.whole else 1
