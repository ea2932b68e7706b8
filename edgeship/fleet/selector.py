"""Selectors as in kubectl: `profile=raspberry-pi-5,site in (berlin, oslo),!retired`.

Terms are joined by commas and all must hold. `name`, `profile` and `transport` are the device's own, every other key is
a label.

    key=value  key==value  key!=value  key in (a, b)  key notin (a, b)  key  !key
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeship.deploy.device import Device
from edgeship.errors import UsageError

OWN_KEYS = ("name", "profile", "transport")
MAX_LENGTH = 2000

_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_VALUE = r"[A-Za-z0-9._-]*"
_SETS = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALS = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")


@dataclass(frozen=True)
class Term:
    """One condition: the value of `key` is among `values` (any value when None), or not."""

    key: str
    values: frozenset[str] | None
    wanted: bool

    def matches(self, device: Device) -> bool:
        """Whether the condition holds. As in kubectl, `key!=value` holds for a device without the key."""
        value = getattr(device, self.key) if self.key in OWN_KEYS else device.labels.get(self.key)
        found = value is not None and (self.values is None or value in self.values)
        return found is self.wanted


@dataclass(frozen=True)
class Selector:
    """Conditions that all must hold; none: every device."""

    text: str
    terms: tuple[Term, ...] = ()

    def matches(self, device: Device) -> bool:
        """Whether the device is selected."""
        return all(term.matches(device) for term in self.terms)

    def select(self, devices: Iterable[Device]) -> list[Device]:
        """The selected devices, in their order."""
        return [device for device in devices if self.matches(device)]

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Selector:
    """Parse a selector; the empty one selects everything.

    Raises:
        UsageError: it is not understood; the message points at the term.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(
            f"the selector is longer than {MAX_LENGTH} characters",
            hint="label devices (edgeship device label) and select by the label",
        )
    return Selector(text.strip(), tuple(_term(part) for part in _split(text)))


def _split(text: str) -> list[str]:
    # Commas inside parentheses separate values, not terms.
    parts = [part.strip() for part in re.split(r",(?![^()]*\))", text)]
    if parts == [""]:
        return []
    return parts


def _term(part: str) -> Term:
    if found := _SETS.fullmatch(part):
        values = frozenset(value.strip() for value in found[3].split(","))
        if all(re.fullmatch(_VALUE, value) and value for value in values):
            return Term(found[1], values, found[2] == "in")
    elif found := _EQUALS.fullmatch(part):
        return Term(found[1], frozenset([found[3]]), found[2] != "!=")
    elif found := _EXISTS.fullmatch(part):
        return Term(found[2], None, not found[1])
    raise UsageError(
        f"the selector's term {part!r:.80} is not understood",
        hint="site=berlin,profile in (raspberry-pi-5, jetson-orin-nano),!retired",
    )


def suggest(name: str, known: Sequence[str]) -> str | None:
    """`did you mean …?` with the nearest known name, None when nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else None
