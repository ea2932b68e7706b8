"""What can go wrong with a virtual device, on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeship.errors import UsageError
from edgeship.lab.devices import Lab
from edgeship.lab.virtual import Virtual


def power_cut(lab: Lab, name: str) -> Virtual:
    """Off at once, nothing is flushed; stays off until `power-on` or `lab up`."""
    return lab.power_off(name)


def power_on(lab: Lab, name: str) -> Virtual:
    """Power again: the device boots."""
    return lab.power_on(name)


def reboot(lab: Lab, name: str) -> Virtual:
    """A power cut and power again."""
    lab.power_off(name)
    return lab.power_on(name)


FAULTS: Mapping[str, Callable[[Lab, str], Virtual]] = {
    "power-cut": power_cut, "power-on": power_on, "reboot": reboot,
}  # fmt: skip


def fault(lab: Lab, name: str, kind: str) -> Virtual:
    """Do `kind` to a device; gives its record afterwards. Raises UsageError for an unknown kind."""
    if kind not in FAULTS:
        raise UsageError(f"unknown fault {kind!r:.40}", hint=f"one of {', '.join(FAULTS)}")
    return FAULTS[kind](lab, name)
