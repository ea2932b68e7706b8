"""The agent on one device apart from releases: its status, its log, stop, restart, uninstall.

A stopped agent is started again by the next command that talks to it, and by the device's boot hook; `uninstall` takes
the agent's folder and its hook away, models and telemetry with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edgeship.deploy.client import NOT_INSTALLED
from edgeship.deploy.contact import open_agent
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import NO_AGENT, Endpoint, install_argv, resolve
from edgeship.deploy.transport import Channel, clean, connect
from edgeship.errors import DeviceError
from edgeship.profile import Profile
from edgeship.reporter import Reporter

RESTART_SECONDS = 30.0
MAX_LINES = 10_000

#: Takes the agent's folder and its boot hook away, once the supervisor has ended (it holds the lock). Refuses a folder
#: that does not look like an agent's. No apostrophe and no line break, as in `endpoint.STARTER`.
REMOVER = (
    "import fcntl,os,shutil,sys;"
    "r=os.path.realpath(os.path.expanduser(sys.argv[1]));"
    'os.path.isdir(os.path.join(r,"agent")) and os.path.exists(os.path.join(r,"agent","current")) '
    f"or sys.exit({NO_AGENT});"
    'f=open(os.path.join(r,"supervisor.lock"),"a");fcntl.flock(f,fcntl.LOCK_EX);'
    'h=[os.path.join(b,".termux","boot","edgeship.sh") '
    'for b in ("/data/data/com.termux/files/home",os.path.expanduser("~"))];'
    "[os.remove(p) for p in dict.fromkeys(h) if os.path.isfile(p) and r in open(p).read()];"
    "shutil.rmtree(r)"
)


def status(device: Device, profile: Profile, *, reporter: Reporter) -> dict[str, Any]:
    """What the agent says of itself. Raises DeviceError (code "no-agent" where none is), and as `open_agent`."""
    return _ask(device, profile, reporter, "status")


def log_lines(device: Device, profile: Profile, count: int, *, reporter: Reporter) -> list[str]:
    """The last lines of the agent's log, cleaned of control characters. Raises as `status`."""
    result = _ask(device, profile, reporter, "logs", lines=min(count, MAX_LINES))
    lines = result.get("lines")
    return [clean(str(line)) for line in lines] if isinstance(lines, list) else []


def stop(device: Device, profile: Profile, *, reporter: Reporter) -> None:
    """Stop serving cleanly: the open telemetry window is kept. Raises as `status`."""
    _ask(device, profile, reporter, "stop")


def restart(
    device: Device, profile: Profile, *, reporter: Reporter, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Stop and start; gives the status of the new one. Raises as `status`, and DeviceError when it does not come up."""
    before = status(device, profile, reporter=reporter).get("pid")
    stop(device, profile, reporter=reporter)
    waited = 0.0
    while waited < RESTART_SECONDS:
        sleep(0.2)
        waited += 0.2
        now = status(device, profile, reporter=reporter)
        if now.get("pid") != before and now.get("state") != "starting":
            return now
    raise DeviceError(
        f"{device.name}: the agent did not come up again within {RESTART_SECONDS:.0f} s", device=device.name,
        stage="restart", hint=f"edgeship logs {device.name}",
    )  # fmt: skip


def uninstall(device: Device, profile: Profile, *, reporter: Reporter) -> bool:
    """Stop the agent and remove its folder and boot hook.

    Returns:
        whether there was one.

    Raises:
        AuthError, UnreachableError, DeviceError: see the message.
    """
    try:
        stop(device, profile, reporter=reporter)
    except DeviceError as error:
        if error.code == NOT_INSTALLED:
            return False
        raise
    transport = connect(device, profile, reporter=reporter)
    try:
        stream = transport.open(remove_argv(resolve(device, profile)))
        try:
            return _removed(stream, device)
        finally:
            stream.close()
    finally:
        transport.close()


def remove_argv(endpoint: Endpoint) -> tuple[str, ...]:
    """The command that removes an agent."""
    return install_argv(endpoint, REMOVER)


def _removed(stream: Channel, device: Device) -> bool:
    while stream.read(4096):  # it says nothing; this waits for its end
        pass
    ended = stream.ended()
    if ended.status in (0, NO_AGENT):
        return ended.status == 0
    raise DeviceError(
        f"{device.name}: the agent's folder could not be removed", device=device.name, stage="uninstall",
        log=ended.stderr, hint=f"edgeship device ssh {device.name}",
    )  # fmt: skip


def _ask(device: Device, profile: Profile, reporter: Reporter, op: str, **fields: Any) -> dict[str, Any]:
    link = open_agent(device, profile, reporter=reporter)
    try:
        return link.client.request(op, **fields).result
    finally:
        link.close()
