"""What the machine must have: outside of CI a test whose programs are missing is skipped, with `CI=true` it fails.

A shell starts what it puts in the background with SIGINT ignored, and so would be every process that a test starts:
tests of Ctrl-C would wait for ever. Here it is what a terminal gives.

What the user set up with `edgeship setup` is not seen: tests that need it name it (`simulators.real_environment`).
"""

import os
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest

from edgeship.lab import sshd

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is timed: a busy machine may need long for an example.
hypothesis.settings.register_profile(
    "edgeship", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("edgeship")

os.environ["XDG_DATA_HOME"] = str(Path(tempfile.gettempdir()) / "edgeship-tests-without-data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ssh where no virtual device can be made."""
    if os.environ.get("CI") == "true" or not any(item.get_closest_marker("ssh") for item in items):
        return
    why = sshd.missing()
    if why is None:
        return
    for item in items:
        if item.get_closest_marker("ssh"):
            item.add_marker(pytest.mark.skip(reason=why))
