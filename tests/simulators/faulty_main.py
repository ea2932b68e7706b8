"""The agent's `__main__` with faults: a development app whose disk kills the device or fails at one change.

    EDGESHIP_FAULT=record:/path/of/a/file          writes "command number action path" for every change
    EDGESHIP_FAULT=supervise:17:kill               the supervisor dies before its 17th change, and with it the device
    EDGESHIP_FAULT=supervise:17:ENOSPC             that change fails, and every later one until the process ends

The verifier's kill takes its supervisor along, as a power cut does. Nothing of this is in the agent itself.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading

sys.path[0] = os.path.realpath(sys.path[0])

from edgeship.runtime.__main__ import main  # noqa: E402  the path comes first
from edgeship.runtime.disk import Disk  # noqa: E402

_FAULT = os.environ.get("EDGESHIP_FAULT", "::").split(":")


class FaultyDisk(Disk):
    """Counts changes; one of them is the fault."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def step(self, action: str, path: str) -> None:
        """Before each change."""
        with self._lock:
            self._count += 1
            command = sys.argv[1]
            if _FAULT[0] == "record":
                with open(_FAULT[1], "a", encoding="utf-8") as file:
                    file.write(f"{command} {self._count} {action} {path}\n")
            elif _FAULT[0] == command and self._count >= int(_FAULT[1]):
                if _FAULT[2] != "kill":
                    raise OSError(getattr(errno, _FAULT[2]), os.strerror(getattr(errno, _FAULT[2])))
                if command == "verify":
                    os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)


sys.exit(main(disk=FaultyDisk()))
