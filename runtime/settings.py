"""What enrolment and `configure` said of this device, kept in `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeship.runtime import disk as disks
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout
from edgeship.runtime.wire import check_name, need, parse_object

SETTINGS_SCHEMA = "edgeship.settings/v1"


@dataclass(frozen=True)
class Settings:
    """Settings of one device; the defaults hold before enrolment."""

    name: str = ""
    profile: str = ""
    serve_port: int | None = None  # on the loopback; None: Unix socket only
    window_seconds: float = 60.0
    temperature: str | None = None  # `sysfs:<zone>`
    arch: str | None = None  # a virtual device's architecture is not what its kernel says
    boot_hook: str = "none"  # termux | none
    python: tuple[str, ...] = ()  # argv that starts Python from outside; (): this one
    probe_seconds: float = 120.0  # how long a new release may take to load, and again to be probed

    def encode(self) -> dict[str, Any]:
        """To what `json.dumps` takes."""
        return {"schema": SETTINGS_SCHEMA, **self.__dict__, "python": list(self.python)}

    def enrolled(self, data: Mapping[str, Any]) -> Settings:
        """With name and profile of an `enroll` request. Raises ProtocolError."""
        profile = check_name(data.get("profile"), "profile")
        return replace(self, name=check_name(data.get("name"), "device name"), profile=profile)

    def configured(self, data: Mapping[str, Any]) -> Settings:
        """With what a `configure` request names; other settings stay. Raises AgentError ("bad-request")."""
        number, none = (int, float), type(None)
        found: dict[str, Any] = {}
        kinds: dict[str, tuple[type, ...]] = {
            "serve_port": (int, none), "window_seconds": number, "temperature": (str, none), "arch": (str, none),
            "boot_hook": (str,), "python": (list,), "probe_seconds": number,
        }  # fmt: skip
        for key, kind in kinds.items():
            if key in data:
                found[key] = need(data, key, kind)
        wrong = (
            not 0 <= (found.get("serve_port") or 0) <= 65535
            or not 0.1 <= found.get("window_seconds", 60) <= 86_400
            or not 0.1 <= found.get("probe_seconds", 120) <= 3600
            or found.get("boot_hook", "none") not in ("none", "termux")
            or not all(isinstance(word, str) and "\0" not in word for word in found.get("python", []))
        )
        if wrong:
            raise AgentError(f"a setting is out of range: {found!r:.300}", "bad-request")
        found["serve_port"] = (found["serve_port"] or None) if "serve_port" in found else self.serve_port
        found["python"] = tuple(found["python"]) if "python" in found else self.python
        if found.get("arch") is not None:
            check_name(found["arch"], "arch")
        return replace(self, **found)

    @classmethod
    def load(cls, layout: Layout) -> Settings:
        """What is on the disk; defaults where there is nothing or it is damaged."""
        try:
            data = parse_object(disks.read(layout.config) or b"{}")
            found = cls().configured(data)
            return found.enrolled(data) if data.get("name") else found
        except AgentError:
            return cls()

    def save(self, layout: Layout, disk: disks.Disk) -> None:
        """Make them durable."""
        disk.write(layout.config, json.dumps(self.encode()).encode())
