"""What a page shows, from its address and back: selector, time range, status, release, order, page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

from edgeship.errors import UsageError
from edgeship.fleet.health import STATUSES
from edgeship.fleet.query import Span, span
from edgeship.fleet.selector import parse

RANGES = (("15m", "15 min"), ("1h", "1 h"), ("6h", "6 h"), ("24h", "24 h"), ("7d", "7 days"), ("30d", "30 days"))
ORDERS = ("status", "name", "requests", "errors", "p95", "temperature")


@dataclass(frozen=True)
class Filter:
    """The parameters of an address; a default is left out of it."""

    l: str = ""  # noqa: E741 -- the selector, named as the option of every command
    since: str = "24h"
    until: str = ""
    status: str = ""
    counter: str = ""  # release counter that a device says to serve
    sort: str = "status"
    page: int = 1

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> Filter:
        """From the query of an address. Raises UsageError for what makes no sense."""
        known = {field.name for field in fields(cls)}
        given = {key: value.strip() for key, value in values.items() if key in known and value.strip()}
        page = given.pop("page", "1")
        counter = given.get("counter", "")
        if any(not (text.isascii() and text.isdigit() and len(text) < 12) for text in (page, counter or "1")):
            raise UsageError("page and counter are numbers", hint="start again from the first page")
        made = cls(**given, page=max(1, int(page)))
        if made.status and made.status not in STATUSES:
            raise UsageError(f"there is no status {made.status!r:.40}", hint=", ".join(STATUSES))
        if made.sort not in ORDERS:
            raise UsageError(f"cannot sort by {made.sort!r:.40}", hint=", ".join(ORDERS))
        parse(made.l)
        return made

    def span(self, now: float) -> Span:
        """The time range."""
        return span(self.since, self.until or None, now)

    def link(self, **changes: str | int) -> str:
        """The query of the address with some parameters changed, `?` in front; an empty one where all are default."""
        made = replace(self, **({"page": 1} | changes))  # type: ignore[arg-type]  # names of fields, checked by replace
        blank = Filter()
        pairs = [
            (f.name, getattr(made, f.name)) for f in fields(Filter) if getattr(made, f.name) != getattr(blank, f.name)
        ]
        return "?" + urlencode(pairs) if pairs else "?"

    @property
    def active(self) -> bool:
        """Whether devices are left out."""
        return bool(self.l or self.status or self.counter)
