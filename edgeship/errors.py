"""The exception tree and the exit codes.

    EdgeshipError                    exit 1
    ├── UsageError                   exit 2    what was asked for makes no sense: options, names, files given
    │   ├── ConfigError                        edgeship.toml, a hardware profile, the inventory
    │   └── MissingExtra                       a package of an extra is not installed
    ├── InputError                   exit 1    a model or data file that cannot be read
    ├── ConversionError              exit 1    a converter or quantizer failed
    ├── ReleaseError                 exit 1    building, signing or reading a release
    ├── StoreError                   exit 1    the fleet's database
    ├── DeviceError                  exit 1    something failed on a device
    │   ├── AuthError                exit 4    authentication or host key
    │   ├── UnreachableError         exit 5    no connection, or it broke
    │   ├── UnfitError               exit 6    the device cannot take the release
    │   └── RolledBackError          exit 7    the device refused the release and serves the old one
    ├── GateError                    exit 6    a variant computes something else, or breaks a budget
    ├── PartialFailure               exit 3    several devices failed for different reasons, or only some
    └── Interrupted                  exit 130  Ctrl-C

Every message says what failed and on what; `hint` says what to type or do next.
"""

from __future__ import annotations

from collections.abc import Sequence


class EdgeshipError(Exception):
    """Base of all errors that a user is meant to read."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(EdgeshipError):
    """What was asked for makes no sense as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file, profile or inventory is wrong; the message names file, line and key."""


class MissingExtra(UsageError):
    """A package of an extra is not installed; the hint is the install line."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package}", hint=f"pip install 'edgeship[{extra}]'")


class InputError(EdgeshipError):
    """A model or data file cannot be used: missing, empty, truncated, of the wrong shape."""


class ConversionError(EdgeshipError):
    """A converter or a quantizer failed."""


class ReleaseError(EdgeshipError):
    """A release could not be built, signed or read."""


class StoreError(EdgeshipError):
    """The fleet's database could not be read or written."""


class DeviceError(EdgeshipError):
    """Something failed on one device.

    Args:
        message: what happened.
        device: the device's name.
        stage: fit, connect, send, verify, probe, … where it happened.
        log: the last lines that the device wrote.
        code: the agent's error code, where the agent said no (`runtime.errors.CODES`).
    """

    def __init__(
        self, message: str, *, device: str = "", stage: str = "", log: Sequence[str] = (), code: str = "",
        hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.device, self.stage, self.log, self.code = device, stage, tuple(log), code


class AuthError(DeviceError):
    """Authentication failed, or the host key is not the pinned one."""

    exit_code = 4


class UnreachableError(DeviceError):
    """No connection, or it broke and could not be taken up again."""

    exit_code = 5


class UnfitError(DeviceError):
    """The device cannot take the release: disk, architecture, Python, C library, profile."""

    exit_code = 6


class RolledBackError(DeviceError):
    """The device's own probe refused the release; the old one serves."""

    exit_code = 7


class GateError(EdgeshipError):
    """A variant does not compute what its source does, or breaks a budget: accuracy, size, latency."""

    exit_code = 6


class PartialFailure(EdgeshipError):
    """Several devices failed for different reasons, or some only.

    Args:
        failures: device name -> its error.
    """

    exit_code = 3

    def __init__(self, message: str, failures: dict[str, EdgeshipError], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failures = failures


class Interrupted(EdgeshipError):
    """The user pressed Ctrl-C; nothing is half done."""

    exit_code = 130
