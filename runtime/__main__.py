"""The agent's command line: `supervise`, `rpc`, `worker`, `verify`, `version`; each loads only what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edgeship.runtime import __version__
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout

USAGE = (
    "usage: agent version | rpc --root DIR | supervise --root DIR | verify --root DIR | worker --control FD --serve FD"
)
_OPTIONS = {
    "version": (),
    "rpc": ("root",),
    "supervise": ("root",),
    "verify": ("root",),
    "worker": ("control", "serve"),
}


def main(argv: Sequence[str] | None = None, *, disk: Disk | None = None, compiled: bool = False) -> int:
    """Run one of the agent's processes.

    Args:
        argv: without the program; `sys.argv[1:]` when None.
        disk: the one writer; tests give one that fails.
        compiled: this is the second process of `precompiled`.

    Returns:
        the exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parse(words)
    if options is None:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        if words[0] == "supervise" and not compiled:
            from edgeship.runtime.precompiled import replace

            replace(os.path.realpath(sys.argv[0]), words)
        return _run(words[0], options, disk or Disk())
    except AgentError as error:
        sys.stderr.write(f"edgeship agent: {error}\n")
        return 1


def _parse(words: Sequence[str]) -> dict[str, str] | None:
    """`--name value` pairs of a command, exactly those it takes; None for anything else."""
    if not words or words[0] not in _OPTIONS:
        return None
    names = _OPTIONS[words[0]]
    found = {name.removeprefix("--"): value for name, value in zip(words[1::2], words[2::2], strict=False)}
    return found if len(words) == 1 + 2 * len(names) and set(found) == set(names) else None


def _run(command: str, options: dict[str, str], disk: Disk) -> int:
    app = os.path.realpath(sys.argv[0])
    if command == "version":
        sys.stdout.write(__version__ + "\n")
        return 0
    if command == "worker":
        from edgeship.runtime.worker import main as work

        return work(int(options["control"]), int(options["serve"]))
    layout = Layout.of(options["root"])
    if command == "rpc":
        from edgeship.runtime.rpc import serve

        return serve(layout, disk, app)
    if command == "supervise":
        from edgeship.runtime.supervisor import supervise

        return supervise(layout, disk, app)
    from edgeship.runtime.trust import main as verify

    request = os.read(0, 1 << 16)
    sys.stdout.buffer.write(verify(layout, disk, request))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
