"""How numbers, times and sensors are written on a page."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from edgeship.fleet.health import in_words

DASH = "–"

#: Suffix of a sensor's name -> (divisor, decimals, unit); names carry base units.
_UNITS = (
    ("_celsius", 1.0, 0, "°C"), ("_ratio", 0.01, 0, "%"), ("_seconds", 1.0, 1, "s"), ("_watts", 1.0, 1, "W"),
    ("_volts", 1.0, 2, "V"), ("_hertz", 1e6, 0, "MHz"),
)  # fmt: skip


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent: 0.412, 3.42, 1240."""
    if not value:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)) + 1e-3))
    return f"{value:.{min(decimals, 6)}f}"


def latency(seconds: float | None) -> str:
    """412 µs, 3.42 ms, 1.20 s."""
    if seconds is None:
        return DASH
    for limit, factor, unit in ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms")):
        if seconds < limit:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds)} s"


def latency_axis(seconds: float, top: float) -> str:
    """A tick of an axis that ends at `top`: all of them in one unit."""
    factor, unit = (1e6, "µs") if top < 1e-3 else (1e3, "ms") if top < 1 else (1.0, "s")
    return f"{seconds * factor:g} {unit}" if seconds else "0"


def rate_axis(per_second: float, top: float) -> str:
    """A tick of an axis of rates that ends at `top`: by the second, or by the minute where that is too little."""
    if not per_second:
        return "0"
    return f"{per_second:g} /s" if top >= 0.1 else f"{per_second * 60:.3g} /min"


def share(ratio: float | None) -> str:
    """0 %, 0.04 %, 12.5 %."""
    if ratio is None:
        return DASH
    percent = ratio * 100
    if percent and percent < 0.01:
        return "< 0.01 %"
    return (
        f"{percent:.0f} %" if percent >= 99.95 or not percent else f"{significant(percent, 2 if percent < 10 else 3)} %"
    )


def rate(per_second: float | None) -> str:
    """12.3 /s; below one in ten seconds by the minute."""
    if per_second is None:
        return DASH
    if per_second and per_second < 0.1:
        return f"{significant(per_second * 60, 2)} /min"
    return f"{significant(per_second) if per_second < 1000 else count(per_second)} /s"


def count(number: float | None) -> str:
    """999, 12.3 k, 4.56 M."""
    if number is None:
        return DASH
    for limit, factor, unit in ((999.5, 1.0, ""), (999.5e3, 1e3, " k"), (999.5e6, 1e6, " M")):
        if number < limit:
            return f"{number / factor:.0f}" if not unit else f"{significant(number / factor)}{unit}"
    return f"{significant(number / 1e9)} G"


def size(number: float | None) -> str:
    """9.3 MB."""
    if number is None:
        return DASH
    for limit, factor, unit in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if number < limit:
            return f"{number / factor:.{0 if unit == 'B' else 1}f} {unit}"
    return f"{number / 1e9:.1f} GB"


def sensor(name: str, value: float | None) -> str:
    """A reading in the unit that its name says."""
    if value is None:
        return DASH
    if name.endswith("_bytes"):
        return size(value)
    for suffix, divisor, decimals, unit in _UNITS:
        if name.endswith(suffix):
            return f"{value / divisor:.{decimals}f} {unit}"
    return significant(value)


def sensor_name(name: str) -> str:
    """`memory_available_bytes` as `memory available`."""
    for suffix in (*(unit[0] for unit in _UNITS), "_bytes"):
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " ")
    return name.replace("_", " ")


def moment(at: float | None) -> str:
    """2026-11-22 10:05 UTC."""
    return DASH if at is None else f"{_utc(at):%Y-%m-%d %H:%M} UTC"


def iso(at: float | None) -> str:
    """For the datetime attribute."""
    return "" if at is None else f"{_utc(at):%Y-%m-%dT%H:%M:%SZ}"


def ago(at: float | None, now: float) -> str:
    """4 min ago; never."""
    if at is None:
        return "never"
    return "just now" if now - at < 2 else f"{in_words(now - at)} ago"


def tick(at: float, step: float) -> str:
    """A label of the time axis: the day where steps are days, the time otherwise."""
    when = _utc(at)
    if step >= 86_400 or (step >= 3600 and when.hour == 0 and when.minute == 0):
        return f"{when.day} {when:%b}"
    return f"{when:%H:%M:%S}" if step < 60 else f"{when:%H:%M}"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_000.0), UTC)
