"""A clock that tests set."""

from __future__ import annotations


class Clock:
    """Stands at `now`, in seconds, until that is changed."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now
