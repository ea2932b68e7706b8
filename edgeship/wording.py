"""Shares and counts in words that do not say more than is true: all is 100 %, one is singular."""

from __future__ import annotations

import math


def share(part: float) -> str:
    """A share of 1 in percent: `100%` of all alone, `0%` of nothing alone, `99.6%` and `0.3%` beside them.

    Args:
        part: 0 to 1. Beyond a tenth of a percent of either end it is told as that: `over 99.9%`, `under 0.1%`.
    """
    percent = round(100 * part, 6)  # a float's last bit is no part of anything
    if 1 <= percent <= 99 or not 0 < percent < 100:
        return f"{percent:.0f}%"
    if percent < 0.1 or percent > 99.9:
        return "under 0.1%" if percent < 0.1 else "over 99.9%"
    return f"{math.floor(percent * 10) / 10:.1f}%"


def counted(count: float, noun: str, places: int | None = None) -> str:
    """A number with its noun: `1 point`, `0 points`, `1,000 samples`, `1.5 points`.

    Args:
        count: how many.
        noun: in the singular; its plural ends in s.
        places: digits after the point, always; by default as many as there are.
    """
    number = f"{count:.{places}f}" if places is not None else f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"
