"""A step of `edgeship.child` that fails in every way a framework can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship import child
from edgeship.errors import ConversionError, InputError, UsageError


def perform(request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do what `request["do"]` says."""
    do = request["do"]
    if do == "answer":
        return {"echo": request["value"], "cwd": str(Path.cwd()), "folder": str(folder), "modules": sorted(sys.modules)}
    if do == "raise":
        kinds: dict[str, type[BaseException]] = {
            "InputError": InputError, "ConversionError": ConversionError, "UsageError": UsageError, "OSError": OSError,
            "SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit,
        }  # fmt: skip
        raise kinds.get(request["kind"], KeyError)(*request["arguments"], **request.get("keywords", {}))
    print("one line\nthe last \x1b[31mline", flush=True)
    if do in ("die", "exit", "hang", "burn"):
        _end(do, request, folder)
    elif do == "eat":
        return {"bytes": len(bytearray(int(request["bytes"])))}
    elif do == "write":
        (folder / "large").write_bytes(bytes(int(request["bytes"])))
    elif do == "limits":
        import resource

        names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE")
        return {name: resource.getrlimit(getattr(resource, name))[0] for name in names}
    elif do == "leave":
        return {"pid": _left_running(request["what"])}
    elif do == "late":
        deadline = child.Deadline(folder, "a nap", request.get("seconds"))
        with deadline:
            pass
        time.sleep(0.4)  # what is not under the deadline may take longer
        with deadline:
            time.sleep(float(request["sleeps"]))
        return {}
    elif do == "nan":
        return {"value": float("nan")}
    signal.pause()
    return {}


def _end(do: str, request: Mapping[str, Any], folder: Path) -> None:
    """No answer, in one way or another."""
    if do == "die":
        os.kill(os.getpid(), int(request["signal"]))
    elif do == "exit":
        os._exit(3)
    elif do == "hang":
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    while True:
        pass


def _left_running(what: str) -> int:
    """What runs on for ten minutes: a process, perhaps in a session of its own, or this one for a thread's sake."""
    if what != "thread":
        argv = [sys.executable, "-c", "import time; time.sleep(600)"]
        return subprocess.Popen(argv, start_new_session=what == "session").pid
    threading.Thread(target=time.sleep, args=(600,)).start()
    return os.getpid()
