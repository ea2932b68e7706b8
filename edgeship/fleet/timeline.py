"""Where on the host's time axis the windows of a device lie, whatever its clock believes.

A board without a clock battery boots in the past, another one is set years ahead, and a clock may jump in mid-boot.
What can be trusted: the sequence number (order), the monotonic clock within one boot (distances), and the host's own
clock at the moment of contact. The rule, for the windows of one spool in the order of their sequence numbers:

1. *The boot that runs at contact*, when the device told its monotonic clock: `end = host clock at contact − (mono at
   contact − mono_end)`. The device's wall clock plays no part.
2. *Otherwise* a boot is moved as one piece: its last window ends at `wall_end + skew`, where skew is the host's clock
   minus the device's at contact, and the distances inside the boot come from the monotonic clock. A wall clock that
   jumped earlier in that boot does no harm.
3. Nothing ends after the contact, nothing begins before the window in front of it ended, and an earlier boot ends
   before the next one begins. A boot whose clock contradicts that, or says it is more than a year old, is put right
   before the next one: its true time cannot be known, its order and its length can.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from edgeship.runtime.window import Window

#: Older than this is a wrong clock, not telemetry that waited (seconds).
MAX_AGE = 366 * 86_400.0

#: A window longer than this is a lie or a suspended device; its length counts as this (seconds).
MAX_LENGTH = 86_400.0


@dataclass(frozen=True)
class Contact:
    """Clocks read at one contact with a device."""

    host: float  # the host's clock, seconds since 1970
    clock: float | None = None  # the device's clock, as it told
    boot: str | None = None  # the device's boot id
    mono: float | None = None  # the device's monotonic clock (CLOCK_BOOTTIME), seconds

    @property
    def skew(self) -> float:
        """What to add to the device's clock to get the host's; 0 when the device did not tell."""
        return 0.0 if self.clock is None else self.host - self.clock


@dataclass(frozen=True)
class Placed:
    """A window with its place on the host's time axis."""

    window: Window
    start: float
    end: float


def place(
    windows: Sequence[Window], contact: Contact, *, floor: float | None = None, ceiling: float | None = None
) -> list[Placed]:
    """Place windows of one spool, in ascending order of seq, by the rule above.

    Args:
        windows: of one spool, ascending.
        contact: the clocks of the contact that brought them.
        floor: end of the stored window in front of the first one.
        ceiling: start of the stored window behind the last one, where they fill a gap.
    """
    latest = contact.host if ceiling is None else min(ceiling, contact.host)
    earliest = min(latest, max(contact.host - MAX_AGE, contact.host - MAX_AGE if floor is None else floor))
    boots = [list(group) for _, group in groupby(windows, key=lambda window: window.boot)]
    pieces: list[tuple[float, float, list[Window]]] = []  # (offset of mono, end of the piece, windows)
    limit = latest
    for index in range(len(boots) - 1, -1, -1):
        boot = boots[index]
        offset = _offset(boot, contact, running=index == len(boots) - 1)
        end = boot[-1].mono_end + offset
        if end > limit or end < earliest:
            offset += limit - end
            end = limit
        pieces.append((offset, end, boot))
        limit = min(end, max(earliest, boot[0].mono_start + offset))
    out: list[Placed] = []
    reached = earliest
    for offset, end, boot in reversed(pieces):
        for window in boot:
            start = min(max(window.mono_start + offset, reached), max(end, reached))
            reached = min(max(window.mono_end + offset, start), max(end, start), start + MAX_LENGTH)
            out.append(Placed(window, start, reached))
    return out


def _offset(boot: Sequence[Window], contact: Contact, *, running: bool) -> float:
    last = boot[-1]
    if running and contact.mono is not None and contact.boot == last.boot:
        return contact.host - contact.mono
    return last.wall_end + contact.skew - last.mono_end
