"""A window comes back from the database as it was."""

from edgeship.fleet.packing import pack, unpack
from tests.simulators.telemetry import SimulatedDevice, window


def test_packing_is_lossless_and_small() -> None:
    board = SimulatedDevice("pi", restarts=1.0)
    for made in (*board.windows(0, 600), window(7, model=None, counter=None, precision=None, latency={}, ok=0)):
        packed = pack(made)
        assert unpack(packed, made.spool, made.seq) == made
        assert len(packed) < 800
