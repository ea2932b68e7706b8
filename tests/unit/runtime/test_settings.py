"""Settings: checked before they are kept, and defaults where nothing or nonsense is on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.layout import Layout
from edgeship.runtime.settings import Settings


def test_what_is_named_changes_and_the_rest_stays(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    settings = Settings().enrolled({"name": "pi", "profile": "raspberry-pi-5"})
    settings = settings.configured({"serve_port": 8000, "window_seconds": 2, "python": ["python3"]})
    settings.save(layout, Disk())
    assert Settings.load(layout) == settings
    changed = settings.configured({"serve_port": None, "boot_hook": "termux", "arch": "aarch64"})
    assert (changed.serve_port, changed.window_seconds, changed.name) == (None, 2, "pi")
    assert settings.configured({"serve_port": 0}).serve_port is None
    assert settings.configured({}).serve_port == 8000


@pytest.mark.parametrize(
    "bad",
    [
        {"serve_port": 70_000}, {"serve_port": -1}, {"serve_port": "80"}, {"window_seconds": 0},
        {"window_seconds": 1e9}, {"window_seconds": None}, {"boot_hook": "systemd"}, {"python": "python3"},
        {"python": ["a\0b"]}, {"python": [7]},
        {"arch": "../x"}, {"arch": 7}, {"temperature": 7}, {"probe_seconds": 0},
    ],
)  # fmt: skip
def test_nonsense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(AgentError):
        Settings().configured(bad)


@pytest.mark.parametrize("bad", [{"name": "a b", "profile": "x"}, {"name": "a"}, {"name": "a", "profile": "../x"}])
def test_names_are_plain(bad: dict[str, Any]) -> None:
    with pytest.raises(AgentError):
        Settings().enrolled(bad)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"serve_port": "x"}'])
def test_a_damaged_file_is_defaults(tmp_path: Path, damage: bytes) -> None:
    layout = Layout(str(tmp_path))
    Path(layout.config).write_bytes(damage)
    assert Settings.load(layout) == Settings()
