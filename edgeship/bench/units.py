"""Figures as people read them: a unit that fits, three significant digits, a real minus sign."""

from __future__ import annotations

DASH = "–"


def time(microseconds: float | None) -> str:
    """A duration: `412 µs`, `4.12 ms`, `1.20 s`; a dash for None."""
    if microseconds is None:
        return DASH
    value, unit = scaled_time(microseconds)
    return f"{digits(microseconds / value)} {unit}"


def scaled_time(microseconds: float) -> tuple[float, str]:
    """The unit that fits a duration: microseconds in one of it, and its name."""
    if microseconds < 1000:
        return 1.0, "µs"
    return (1e3, "ms") if microseconds < 1e6 else (1e6, "s")


def size(count: float | None) -> str:
    """Bytes in decimal units: `113 kB`, `8.04 MB`; a dash for None."""
    if count is None:
        return DASH
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{digits(count)} {unit}"
        count /= 1000
    return f"{digits(count)} GB"


def digits(value: float) -> str:
    """Three significant digits without an exponent: `0.412`, `4.12`, `41.2`, `412`, `4,120`."""
    magnitude = abs(value)
    if magnitude >= 99.95 or magnitude == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}" if magnitude >= 0.9995 else f"{value:.3f}"


def percent(share: float, places: int = 1) -> str:
    """A share of 1 as percent."""
    return f"{share * 100:.{places}f} %".replace("-", "−")


def interval(low: float, high: float) -> str:
    """Two durations in the unit of the greater: `0.410 … 0.414 ms`."""
    value, unit = scaled_time(high)
    return f"{pair(low / value, high / value)} {unit}"


def pair(low: float, high: float) -> str:
    """Two figures with as many digits as tell them apart, at most four after the point."""
    first, last = digits(low), digits(high)
    places = 1
    while first == last and low != high and places < 4:
        first, last = f"{low:,.{places}f}", f"{high:,.{places}f}"
        places += 1
    return f"{first} … {last}"
