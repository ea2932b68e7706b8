"""What a rollout needs of the fleet's database; `edgeship.fleet.store` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgeship.deploy.device import Device


class Store(Protocol):
    """Inventory and audit trail."""

    def devices(self) -> list[Device]:
        """Every enrolled device, by name."""
        ...

    def save_device(self, device: Device) -> None:
        """Add a device or replace the record of its name."""
        ...

    def remove_device(self, name: str) -> None:
        """Forget a device."""
        ...

    def audit(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Append to the audit trail."""
        ...
