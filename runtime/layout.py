"""Where everything lies in the agent's folder, and where its sockets are. Pure names; nothing here changes a disk.

Sockets lie in a short directory of their own (a socket's path may have 107 bytes), always under /tmp: the session's
XDG_RUNTIME_DIR differs between a login and a boot hook and vanishes at logout. `ROOT/run` is a link to it.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

SOCKET_DIRECTORIES = "/tmp"  # noqa: S108  each is made with mode 0700 below a directory that must be ours


@dataclass(frozen=True)
class Layout:
    """Names below the agent's folder `root` (absolute)."""

    root: str

    @classmethod
    def of(cls, root: str) -> Layout:
        """From a path as a user gives it: `~` is expanded, links are resolved."""
        return cls(os.path.realpath(os.path.expanduser(root)))

    def path(self, *parts: str) -> str:
        """A path below the root."""
        return os.path.join(self.root, *parts)

    @property
    def folders(self) -> tuple[str, ...]:
        """Every directory the agent makes, parents first."""
        names = ("agent", "trust", "blobs", "partial", "incoming", "slots", "spool", "log")
        return (self.root, *(self.path(name) for name in names))

    @property
    def config(self) -> str:
        """What enrolment and `configure` said, JSON."""
        return self.path("config.json")

    @property
    def journal(self) -> str:
        """Which slot is good, which is pending, JSON."""
        return self.path("journal")

    @property
    def current(self) -> str:
        """Link to the slot that is served."""
        return self.path("current")

    @property
    def staging_lock(self) -> str:
        """Held by the one connection that stages files."""
        return self.path("lock")

    @property
    def supervisor_lock(self) -> str:
        """Held by the one supervisor."""
        return self.path("supervisor.lock")

    @property
    def trusted_root(self) -> str:
        """The root metadata that enrolment pinned."""
        return self.path("trust", "root.json")

    @property
    def metadata(self) -> str:
        """Link to the directory of trusted metadata."""
        return self.path("trust", "metadata")

    @property
    def trust_state(self) -> str:
        """Clock floor and expiry of the trusted metadata, JSON."""
        return self.path("trust", "state.json")

    @property
    def agent_current(self) -> str:
        """Link to the agent's own zipapp."""
        return self.path("agent", "current")

    @property
    def run(self) -> str:
        """Link to the directory of sockets."""
        return self.path("run")

    def blob(self, sha256: str) -> str:
        """A verified file of a release."""
        return self.path("blobs", sha256)

    def partial(self, sha256: str, encoding: str) -> str:
        """A file that is being received, as it is encoded on the wire."""
        return self.path("partial", f"{sha256}.{encoding}")

    def slot(self, name: str, *parts: str) -> str:
        """A slot's directory or a file in it."""
        return self.path("slots", name, *parts)

    def sockets(self) -> str:
        """The directory for sockets: the same for every process that knows the root."""
        name = os.fsencode(self.root)  # a checksum: hashlib would cost every supervisor 2 MB for this one name
        short = f"{zlib.crc32(name):08x}{zlib.crc32(name[::-1]) & 0xFFFF:04x}"
        return os.path.join(SOCKET_DIRECTORIES, f"edgeship-{os.getuid()}", short)

    def control_socket(self) -> str:
        """Where the supervisor listens for `rpc`, links resolved."""
        return os.path.join(os.path.realpath(self.run), "control.sock")

    def serve_socket(self) -> str:
        """Where models are served, links resolved."""
        return os.path.join(os.path.realpath(self.run), "serve.sock")


def slot_name(counter: int, manifest_sha256: str) -> str:
    """The name of a slot: sorts by nothing, is unique by counter and content."""
    return f"{counter}-{manifest_sha256[:12]}"
