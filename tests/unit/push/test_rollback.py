"""Which release a rollback brings back: one that devices found healthy, never one that they refused."""

from pathlib import Path

import pytest

from edgeship.deploy.device import Device
from edgeship.errors import ReleaseError, UsageError
from edgeship.push.rollback import Good, plan
from edgeship.release.repository import Repository
from tests.simulators import releases

PI = Device("pi", "raspberry-pi-5")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Releases 1 to 4 of digits; 2 and 3 hold the same files."""
    (tmp_path / "files").mkdir()
    made = releases.repository(tmp_path / "releases")
    for version in (1, 2, 2, 4):
        releases.publish(made, tmp_path / "files", version=version)
    return made


def good(*counters: int, device: str = "pi", model: str = "digits") -> list[Good]:
    return [Good(device, model, counter) for counter in counters]


def test_a_release_that_was_refused_is_never_gone_back_to(repository: Repository) -> None:
    assert plan(repository, [PI], good(4, 1)).to == 1


def test_a_release_with_the_same_files_is_no_step_back(repository: Repository) -> None:
    assert plan(repository, [PI], good(3, 2, 1)).to == 1


def test_what_other_devices_or_models_found_healthy_does_not_count(repository: Repository) -> None:
    others = good(4, 3, device="jetson") + good(4, 3, model="faces")
    assert plan(repository, [PI], [*others, *good(4, 1)]).to == 1


def test_without_a_record_the_newest_earlier_one_with_other_files(repository: Repository) -> None:
    assert plan(repository, [PI], []).to == 3
    assert plan(repository, [PI], good(4, 99)).to == 3


def test_an_explicit_release_wins(repository: Repository) -> None:
    planned = plan(repository, [PI], good(4, 1), to=2)
    assert (planned.model, planned.current, planned.to, planned.devices) == ("digits", 4, 2, (PI,))


def test_what_makes_no_sense_is_refused(repository: Repository) -> None:
    with pytest.raises(UsageError, match="is the current one"):
        plan(repository, [PI], [], to=4)
    with pytest.raises(ReleaseError):
        plan(repository, [PI], [], to=9)
    with pytest.raises(ReleaseError):
        plan(repository, [PI], [], model="faces")
