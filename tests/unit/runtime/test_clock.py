"""Which time a device goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.runtime.clock import Clock, TrustState, choose_clock, load_state
from edgeship.runtime.layout import Layout

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("wall", "floor", "host", "expected"),
    [
        (NOW, 0.0, None, Clock(NOW, False)),
        (NOW, NOW - 100, NOW, Clock(NOW, False)),
        (0.0, NOW - 100, None, Clock(NOW - 100, True)),  # no battery: 1970
        (NOW + 1e9, NOW - 100, NOW, Clock(NOW, True)),  # far ahead: would refuse everything
        (NOW + 1e9, NOW - 100, None, Clock(NOW + 1e9, False)),  # nobody says otherwise
        (NOW + 200, 0.0, NOW, Clock(NOW + 200, False)),  # a little ahead is fine
        (NOW + 1e9, NOW, NOW - 1e8, Clock(NOW, True)),  # a host that lies cannot go below the floor
        (NOW - 1e6, 0.0, NOW, Clock(NOW - 1e6, False)),  # behind: the floor is what guards
    ],
)
def test_the_chosen_time(wall: float, floor: float, host: float | None, expected: Clock) -> None:
    assert choose_clock(wall, floor, host) == expected


def test_expired_by_wall_or_floor() -> None:
    assert not TrustState().expired(NOW)
    assert not TrustState(expires=NOW + 1).expired(NOW)
    assert TrustState(expires=NOW).expired(NOW)
    assert TrustState(floor=NOW, expires=NOW - 1).expired(0.0)


@pytest.mark.parametrize("damage", [None, b"", b"{", b'{"floor": "x", "expires": 1}', b'{"floor": 1}'])
def test_a_damaged_state_is_none(tmp_path: Path, damage: bytes | None) -> None:
    layout = Layout(str(tmp_path))
    (tmp_path / "trust").mkdir()
    if damage is not None:
        Path(layout.trust_state).write_bytes(damage)
    assert load_state(layout) == TrustState()


def test_a_state_is_read(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    (tmp_path / "trust").mkdir()
    Path(layout.trust_state).write_bytes(b'{"floor": 5, "expires": 7.5}')
    assert load_state(layout) == TrustState(5.0, 7.5)
