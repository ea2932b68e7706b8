"""What time a device goes by, which may have no battery for its clock and may be told lies.

The floor is a time that has certainly passed: only verified releases raise it. Expiry is judged by the later of the
wall clock and the floor; a wall clock far ahead of the host's gives way, so that no wrong clock can refuse everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.runtime import disk as disks
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout
from edgeship.runtime.wire import need, parse_object

MAX_SKEW = 300.0  # seconds that a device's clock may be ahead of the host's before it is corrected for a check


@dataclass(frozen=True)
class Clock:
    """The time that a check goes by, seconds since 1970."""

    now: float
    corrected: bool  # the device's own clock was not believed


@dataclass(frozen=True)
class TrustState:
    """What is remembered beside the trusted metadata, seconds since 1970."""

    floor: float = 0.0  # no correct clock shows less
    expires: float = 0.0  # when the first of the trusted metadata expires; 0 before any release

    def expired(self, wall: float) -> bool:
        """Whether what is trusted has expired: the device keeps serving, and takes nothing new of this age."""
        return 0 < self.expires <= max(wall, self.floor)


def choose_clock(wall: float, floor: float, host: float | None) -> Clock:
    """The later of wall clock and floor; a wall clock far ahead of the host's gives way to the host's."""
    ahead = host is not None and wall > host + MAX_SKEW
    believed = host if ahead and host is not None else wall
    return Clock(max(believed, floor), ahead or floor > wall)


def load_state(layout: Layout) -> TrustState:
    """The state; a missing or damaged one counts as none."""
    try:
        data = parse_object(disks.read(layout.trust_state) or b"{}")
        number = (int, float)
        return TrustState(float(need(data, "floor", number)), float(need(data, "expires", number)))
    except AgentError:
        return TrustState()
