"""The same job on many devices at once, and what its outcomes mean together.

Threads, not processes: a push waits for networks. They are daemons, so Ctrl-C ends the host at once; what that leaves
on a device is a partial file, or a release that the device itself finishes or reverts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeship.deploy.device import Device
from edgeship.errors import DeviceError, EdgeshipError, Interrupted, PartialFailure

T = TypeVar("T")
JOBS = 16


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of one device: a result or an error."""

    device: Device
    result: T | None = None
    error: EdgeshipError | None = None

    @property
    def ok(self) -> bool:
        """Whether the job was done."""
        return self.error is None


def fleet_run(
    devices: Sequence[Device], job: Callable[[Device], T], jobs: int = JOBS, *,
    on_outcome: Callable[[Outcome[T]], None] = lambda _: None,
) -> list[Outcome[T]]:  # fmt: skip
    """Run `job` on every device, at most `jobs` at once.

    Args:
        devices: where.
        job: what; runs in a thread. An EdgeshipError is an outcome, and so is any other exception (a defect must not
            hide what happened on the other devices).
        jobs: how many at once.
        on_outcome: called in the caller's thread as each device ends.

    Returns:
        Outcomes in the order of `devices`.

    Raises:
        Interrupted: Ctrl-C; running jobs are left to break off.
    """
    if not devices:
        return []
    todo: queue.SimpleQueue[tuple[int, Device]] = queue.SimpleQueue()
    for item in enumerate(devices):
        todo.put(item)
    done: queue.SimpleQueue[tuple[int, Outcome[T]]] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                number, device = todo.get_nowait()
            except queue.Empty:
                return
            done.put((number, _one(device, job)))

    outcomes: dict[int, Outcome[T]] = {}
    try:
        for n in range(min(max(1, jobs), len(devices))):
            threading.Thread(target=work, name=f"edgeship-fleet-{n}", daemon=True).start()
        while len(outcomes) < len(devices):
            number, outcome = done.get()
            outcomes[number] = outcome
            on_outcome(outcome)
    except KeyboardInterrupt:
        what = f"interrupted; {len(outcomes)} of {len(devices)} devices were done"
        raise Interrupted(what, hint="run it again: it goes on from there") from None
    finally:
        stop.set()
    return [outcomes[n] for n in range(len(devices))]


def _one(device: Device, job: Callable[[Device], T]) -> Outcome[T]:
    try:
        return Outcome(device, job(device))
    except EdgeshipError as error:
        return Outcome(device, None, error)
    except Exception as error:  # noqa: BLE001  # named and kept, see the docstring
        wrapped = DeviceError(f"{device.name}: a defect of edgeship: {error!r}", device=device.name)
        wrapped.__cause__ = error
        return Outcome(device, None, wrapped)


def fold(outcomes: Sequence[Outcome[T]]) -> EdgeshipError | None:
    """The error that a run on these devices ends with; None when all is well.

    One device, or every device for the same reason (the same exit code): that reason. Otherwise PartialFailure, exit 3.
    """
    failures = {o.device.name: o.error for o in outcomes if o.error is not None}
    if not failures:
        return None
    errors = list(failures.values())
    if len(outcomes) == 1:
        return errors[0]
    if len(failures) == len(outcomes) and len({error.exit_code for error in errors}) == 1:
        first = errors[0]
        summary = f"all {len(failures)} devices failed: {first}"
        return _like(first, summary)
    names = ", ".join(sorted(failures))
    return PartialFailure(
        f"{len(failures)} of {len(outcomes)} devices failed: {names}", failures,
        hint="; ".join(dict.fromkeys(e.hint for e in errors if e.hint)) or None,
    )  # fmt: skip


def _like(error: EdgeshipError, message: str) -> EdgeshipError:
    """An error of the same class, so of the same exit code, with another message."""
    out: EdgeshipError = type(error).__new__(type(error))
    Exception.__init__(out, message)
    out.__dict__.update(error.__dict__)
    if isinstance(out, DeviceError):
        out.device = ""  # the message names it
    out.__cause__ = error
    return out


def raise_for(outcomes: Sequence[Outcome[T]]) -> None:
    """Raise what `fold` says, if anything."""
    error = fold(outcomes)
    if error is not None:
        raise error
