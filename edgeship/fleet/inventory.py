"""Which devices a command means: by name, by selector, or the only one there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.fleet import selector as selectors

_SHOWN = 10  # device names in a message
_ADD = "edgeship device add NAME HOST --profile PROFILE"


def find(devices: Sequence[Device], name: str) -> Device:
    """The device of that name. Raises UsageError, with the nearest known name."""
    for device in devices:
        if device.name == name:
            return device
    names = [device.name for device in devices]
    hint = selectors.suggest(name, names) or (_listed(names) if names else _ADD)
    raise UsageError(f"there is no device {name!r}", hint=hint)


def choose(devices: Sequence[Device], selector: str | None = None, *, everything: bool = False) -> list[Device]:
    """The devices that a command is for.

    Args:
        devices: the whole inventory.
        selector: the text of `-l`, None when it was not given.
        everything: `--all` was given.

    Raises:
        UsageError: nothing is enrolled, nothing matches, or several devices and neither a selector nor `--all`.
    """
    if not devices:
        raise UsageError("no device is enrolled", hint=f"{_ADD}, or edgeship lab up")
    if selector is not None and everything:
        raise UsageError("--all and -l exclude each other", hint="leave one of them out")
    names = [device.name for device in devices]
    if selector is not None:
        chosen = selectors.parse(selector).select(devices)
        if not chosen:
            raise UsageError(f"no device matches {selector!r}", hint=_listed(names))
        return chosen
    if everything or len(devices) == 1:
        return list(devices)
    raise UsageError(f"there are {len(devices)} devices: say which with -l, or --all", hint=_listed(names))


def relabel(device: Device, changes: Mapping[str, str | None]) -> Device:
    """The device with labels set, or removed where the value is None.

    Raises:
        UsageError: a key or value that a selector could not name.
    """
    labels = dict(device.labels)
    for key, value in changes.items():
        if key in selectors.OWN_KEYS:
            raise UsageError(f"{key!r} is the device's own and no label", hint="choose another key")
        if value is None:
            labels.pop(key, None)
            continue
        if selectors.parse(f"{key}={value}").terms[0].values != frozenset([value]):
            raise UsageError(
                f"the label {key}={value} is not plain", hint="letters, digits, '.', '_' and '-': -l must name it"
            )
        labels[key] = value
    return replace(device, labels=labels)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "devices: " + ", ".join(names[:_SHOWN]) + more
