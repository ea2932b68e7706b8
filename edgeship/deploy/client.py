"""The host's side of the protocol: requests to one agent over one byte stream.

This is the seam where an agent's errors become the host's: codes of `runtime.errors.CODES` are mapped here and nowhere
else. What a device says is bounded and stripped of control characters before a person sees it. Requests may be sent
ahead (`submit`, then `wait`): a push does not pay a round trip for each file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from edgeship.deploy.endpoint import NO_AGENT
from edgeship.deploy.transport import BROKEN, STILL_ON, Channel, Ended, clean
from edgeship.errors import DeviceError, EdgeshipError, RolledBackError, UnfitError, UnreachableError
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.wire import KIND_END, ByteStream, data_frames, frame, json_frame, read_data, read_json

MAX_ANSWER = 256 << 20  # bytes of data in one answer
NOT_INSTALLED = "no-agent"  # code of the error where the starter found no agent
OLD_PYTHON, NO_ROOM = "needs Python", os.strerror(errno.ENOSPC)  # in the loader's last words

Event = Callable[[Mapping[str, Any]], None]

#: What to do about an agent's error, by its code.
_HINTS = {
    "not-enrolled": "edgeship push MODEL -l name=NAME",
    "enrolled-elsewhere": "it trusts another fleet's keys; to take it over: edgeship agent uninstall, then push",
    "busy": "wait for the other push to end, then try again",
    "disk-full": "remove something on the device, or give its agent another root",
    "disk-error": "look at the device's disk: dmesg, an aged SD card",
    "untrusted": "edgeship release verify; then push again",
    "replayed": "push again: a new release gets a higher counter",
    "expired": "push again: that signs the metadata anew; check the clocks of host and device",
    "no-model": "edgeship push MODEL -l name=NAME",
    "rolled-back": "the old release serves. edgeship logs NAME says more",
    "protocol": "host and agent do not understand each other: push again, or report it",
}
_CLASSES: Mapping[str, type[DeviceError]] = {
    "rolled-back": RolledBackError, "unfit": UnfitError, "disk-full": UnfitError,
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """What an agent answered."""

    result: dict[str, Any]
    data: bytes = b""


@dataclass
class _Waiting:
    replies: dict[int, Reply | DeviceError] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)


class AgentClient:
    """Speaks to one agent. Not for use from several threads at once."""

    def __init__(self, stream: ByteStream, device_name: str) -> None:
        self.device_name = device_name
        self._stream = stream
        self._next = 0
        self._waiting = _Waiting()
        self._at_end = False

    def request(
        self, op: str, data: bytes | Iterable[bytes] | None = None, on_event: Event | None = None, **fields: Any
    ) -> Reply:
        """Ask for one operation and wait for its answer.

        Args:
            op: name of the operation.
            data: what goes with it; None: the operation takes none.
            on_event: called with each event that comes before the answer.
            fields: the operation's own.

        Raises:
            DeviceError: the agent said no; RolledBackError, UnfitError by its code.
            UnreachableError: the stream broke.
        """
        return self.wait(self.submit(op, data, **fields), on_event)

    def submit(self, op: str, data: bytes | Iterable[bytes] | None = None, **fields: Any) -> int:
        """Send a request and return its number for `wait`. Raises UnreachableError, or why the agent ended."""
        self._next += 1
        number = self._next
        try:
            self._stream.write(json_frame({"id": number, "op": op, **fields}))
            if isinstance(data, bytes | bytearray | memoryview):
                for part in data_frames(data):
                    self._stream.write(part)
            elif data is not None:
                for chunk in data:
                    self._stream.write(frame(b"D", chunk))
                self._stream.write(frame(KIND_END))
        except OSError as error:
            raise self._broken(error) from error
        self._waiting.open.add(number)
        return number

    def wait(self, number: int, on_event: Event | None = None) -> Reply:
        """The answer to a request that was submitted. Raises as `request` does."""
        while number not in self._waiting.replies:
            if number not in self._waiting.open:
                raise DeviceError(f"{self.device_name}: request {number} was never sent", device=self.device_name)
            self._read_one(on_event)
        got = self._waiting.replies.pop(number)
        if isinstance(got, DeviceError):
            raise got
        return got

    def preface(self, data: bytes) -> None:
        """Send bytes that come before the protocol: the agent itself, at first contact. Raises as `submit`."""
        try:
            self._stream.write(data)
        except OSError as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """End the connection; safe to call twice."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_one(self, on_event: Event | None) -> None:
        """Read one message; an answer is kept for whoever waits for it."""
        try:
            message = read_json(self._read)
            if message is None:
                raise self._broken(None)
            number = message.get("id")
            if not isinstance(number, int) or number not in self._waiting.open:
                raise ProtocolError(f"an answer to request {number!r:.20}, which is not open")
            event = message.get("event")
            if isinstance(event, dict):
                if on_event:
                    on_event(_cleaned(event))
                return
            self._waiting.open.discard(number)
            self._waiting.replies[number] = self._answer(message)
        except ProtocolError as error:
            raise self._not_the_protocol(error) from error
        except OSError as error:
            raise self._broken(error) from error

    def _read(self, n: int) -> bytes:
        data = self._stream.read(n)
        self._at_end = not data
        return data

    def _answer(self, message: Mapping[str, Any]) -> Reply | DeviceError:
        if message.get("ok") is True:
            result = message.get("result")
            if not isinstance(result, dict):
                raise ProtocolError("an answer without a result")
            return Reply(result, self._data() if result.get("data") is True else b"")
        error = message.get("error")
        if not isinstance(error, dict):
            raise ProtocolError("an answer that is neither a result nor an error")
        return self.error(str(error.get("code", ""))[:40], str(error.get("message", ""))[:2000])

    def _data(self) -> bytes:
        parts, size = [], 0
        for part in read_data(self._read):
            size += len(part)
            if size > MAX_ANSWER:
                raise ProtocolError(f"an answer of more than {MAX_ANSWER} bytes")
            parts.append(part)
        return b"".join(parts)

    def error(self, code: str, message: str) -> DeviceError:
        """The host's error for an agent's."""
        code = clean(code)
        hint = _HINTS.get(code, "edgeship logs NAME").replace("NAME", self.device_name)
        kind = _CLASSES.get(code, DeviceError)
        return kind(f"{self.device_name}: {clean(message)}", device=self.device_name, code=code, hint=hint)

    def _ended(self) -> Ended:
        return self._stream.ended() if isinstance(self._stream, Channel) else Ended(None)

    def _broken(self, error: OSError | None) -> EdgeshipError:
        return explain(self._ended(), self.device_name, error)

    def _not_the_protocol(self, error: ProtocolError) -> EdgeshipError:
        """A stream that ends inside a frame is a broken connection; anything else is a defect or an attack."""
        ended = self._ended()
        if self._at_end:
            return explain(ended, self.device_name, None)
        return DeviceError(
            f"{self.device_name}: what answers does not speak the protocol: {clean(str(error))}",
            device=self.device_name, stage="connect", log=ended.stderr, code="protocol",
            hint="does a login script on the device print something? It must be silent for logins without a terminal",
        )  # fmt: skip


def explain(ended: Ended, device: str, error: OSError | None) -> EdgeshipError:
    """Why an agent's stream ended, as an error with a next step."""
    last = f": {ended.stderr[-1]}" if ended.stderr else ""
    status = ended.status
    if status is None:
        why = clean(str(error)) if error and str(error) else "the connection broke"
        return UnreachableError(f"{device}: {why}", device=device, stage="connect", log=ended.stderr, code=BROKEN,
                                hint=STILL_ON)  # fmt: skip
    if status == NO_AGENT:
        return DeviceError(f"{device}: no agent is installed", device=device, stage="connect", code=NOT_INSTALLED,
                           hint=f"edgeship push MODEL -l name={device}")  # fmt: skip
    if status in (126, 127):
        return DeviceError(
            f"{device}: Python cannot be started there{last}", device=device, stage="connect", log=ended.stderr,
            code="no-python",
            hint="install python3 (3.10 or later) on it, or name the command that starts it: device add --python",
        )  # fmt: skip
    if NO_ROOM in last or OLD_PYTHON in last:
        hint = "install Python 3.10 or later on it" if OLD_PYTHON in last else _HINTS["disk-full"]
        return UnfitError(f"{device}: cannot take the agent{last}", device=device, stage="connect", log=ended.stderr,
                          hint=hint)  # fmt: skip
    return DeviceError(
        f"{device}: the agent ended with status {status}{last}", device=device, stage="connect", log=ended.stderr,
        hint=f"edgeship logs {device}",
    )  # fmt: skip


def _cleaned(event: Mapping[str, Any]) -> dict[str, Any]:
    return {clean(str(key)): clean(value) if isinstance(value, str) else value for key, value in event.items()}
