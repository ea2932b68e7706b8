"""An install is killed, or its disk fails, at each of its changes: an old or a new release answers, never none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.simulators.agent import Refused, SimulatedDevice, add_tiny_release, development_app
from tests.simulators.repository import SimulatedRelease, SimulatedRepository

#: Changes of the supervisor from the start of an install to its end: verify (12), slot (14 to 25), journal "pending"
#: (26 to 30), worker start (31), probe (35), link (39 to 41), traffic and the window that ends with it (42 to 44),
#: journal "good" (45 to 49), and what is logged afterwards. The numbers reach beyond the end: a fault that never comes
#: is an install that ends well.
SUPERVISOR = (12, *range(14, 32), 33, 35, 37, *range(39, 50), 51, 53)
VERIFIER = range(1, 18)
#: Where the slot is written, the journal becomes pending, the link moves, the journal becomes good.
FAILING = [
    (14, "ENOSPC"),
    (22, "EROFS"),
    (27, "ENOSPC"),
    (29, "EIO"),
    (39, "EROFS"),
    (40, "ENOSPC"),
    (45, "EIO"),
    (48, "ENOSPC"),
]


@dataclass(frozen=True)
class Staged:
    """A device that serves release 1 and has release 2 staged; it is off."""

    root: Path
    app: Path
    release: SimulatedRelease


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    folder = tmp_path_factory.mktemp("staged")
    faulty = Path(__file__).parents[1] / "simulators" / "faulty_main.py"
    app = development_app(folder, faulty.read_text())
    repo = SimulatedRepository()
    device = SimulatedDevice(folder / "device", app)
    with device.connect() as host:
        host.enroll(repo)
        host.push(repo, add_tiny_release(repo, folder, counter=1))
        release = add_tiny_release(repo, folder, counter=2)
        host.stage(repo)
    device.stop()
    return Staged(device.root, app, release)


@pytest.fixture
def device(staged: Staged, tmp_path: Path) -> Iterator[SimulatedDevice]:
    """A copy of the staged device."""
    root = tmp_path / "device"
    shutil.copytree(staged.root, root, symlinks=True, ignore=shutil.ignore_patterns("blobs", "run"))
    shutil.copytree(staged.root / "blobs", root / "blobs", copy_function=os.link)  # never written in place
    # killed while it saves, coverage would leave files that nobody can read
    device = SimulatedDevice(root, staged.app, environment={"COVERAGE_PROCESS_CONFIG": ""})
    yield device
    device.kill()


def leftovers(device: SimulatedDevice) -> list[str]:
    """Directories of releases and metadata that nothing refers to."""
    good = device.control("status")["slot"]
    trusted = os.path.realpath(device.layout.metadata)
    slots = [name for name in os.listdir(device.layout.path("slots")) if name != good]
    folders = [
        entry.name for entry in os.scandir(device.layout.path("trust")) if entry.is_dir(follow_symlinks=False)
        and entry.path != trusted
    ]  # fmt: skip
    return slots + folders


@pytest.mark.parametrize(
    "fault", [*(f"supervise:{n}:kill" for n in SUPERVISOR), *(f"verify:{n}:kill" for n in VERIFIER)]
)
def test_power_cut(fault: str, staged: Staged, device: SimulatedDevice) -> None:
    device.environment["EDGESHIP_FAULT"] = fault
    device.start()
    try:
        answer = device.control("switch", manifest=staged.release.target, sha256=staged.release.sha256)
        assert answer["counter"] == 2
        assert fault in ("supervise:51:kill", "supervise:53:kill", "verify:17:kill"), "the fault did not come"
    except EOFError:
        pass
    device.kill()

    del device.environment["EDGESHIP_FAULT"]
    device.start()
    assert device.classify()
    status = device.control("status")
    assert status["state"] == "serving"
    assert status["counter"] in (1, 2)
    assert len(leftovers(device)) <= 2  # the other slot or staging, and the metadata before

    assert device.control("telemetry", after=0, limit=1000)["windows"][-1]["seq"] == status["windows"]["next"] - 1
    with device.connect() as host:
        assert not Path(device.layout.metadata).is_dir() or host.hello()["enrolled"]


@pytest.mark.parametrize(("number", "error"), FAILING)
def test_failing_disk(number: int, error: str, staged: Staged, device: SimulatedDevice) -> None:
    """From one change on every change fails: the old release serves on, the error is named; later all is well."""
    device.environment["EDGESHIP_FAULT"] = f"supervise:{number}:{error}"
    device.start()
    with pytest.raises(Refused) as refused:
        device.control("switch", manifest=staged.release.target, sha256=staged.release.sha256)
    assert refused.value.code == ("disk-full" if error == "ENOSPC" else "disk-error")
    assert device.classify()
    assert device.control("status")["counter"] == 1
    device.kill()

    del device.environment["EDGESHIP_FAULT"]
    device.start()
    assert device.classify()
    answer = device.control("switch", manifest=staged.release.target, sha256=staged.release.sha256)
    assert answer["counter"] == 2
    assert device.classify()
