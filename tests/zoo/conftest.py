"""Every test of this folder is of the zoo: `make test-all` runs it, `make test` does not."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.zoo)
