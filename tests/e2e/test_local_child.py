"""The device that `init` adds: an agent as a child process of this host, the same release, the same protocol."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship import profile
from edgeship.deploy.contact import Settings, open_agent
from edgeship.deploy.device import Device
from edgeship.deploy.local import sim
from edgeship.deploy.perform import clear, deploy, trial
from edgeship.errors import DeviceError, RolledBackError
from edgeship.release.repository import Repository, trial_of
from edgeship.reporter import Reporter
from tests.simulators import models, releases

PROFILE = profile.host_profile(platform.machine())
pytestmark = pytest.mark.slow


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    found = sim(tmp_path, PROFILE)
    yield found
    try:
        link = open_agent(found, profile.load(PROFILE), reporter=Reporter())
    except DeviceError:
        return  # nothing was installed
    link.client.request("stop")
    link.close()


def ask(device: Device) -> int:
    x, _ = models.samples(1, seed=3)
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": x[0].ravel().tolist()}
    link = open_agent(device, profile.load(PROFILE), reporter=Reporter())
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"content-type": "application/json"}
    reply = link.client.request("http", body, method="POST", path="/v2/models/digits/infer", headers=headers)
    link.close()
    return int(np.argmax(json.loads(reply.data)["outputs"][0]["data"]))


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_release_an_update_and_a_refusal(tmp_path: Path, device: Device, format: str) -> None:  # noqa: A002
    repository: Repository = releases.repository(tmp_path)
    where = profile.load(PROFILE)
    first = releases.publish_classifier(repository, tmp_path / "1", {format: (PROFILE,)})

    done = deploy(device, where, first, repository, Settings(1.0), Reporter())

    assert set(done.sent) == {"agent", "runtime library", "model", "golden", "metadata"}
    assert done.probe["passed"]
    assert ask(device) == 0

    update = releases.publish_classifier(repository, tmp_path / "2", {format: (PROFILE,)}, max_abs=0.06)
    assert set(deploy(device, where, update, repository, Settings(1.0), Reporter()).sent) == {"metadata"}

    bad = releases.publish_classifier(repository, tmp_path / "3", {format: (PROFILE,)}, bad=True)
    with pytest.raises(RolledBackError):
        deploy(device, where, bad, repository, Settings(1.0), Reporter())
    assert ask(device) == 0


BENCH = {"runs": 20, "warmup": 2, "max_seconds": 5.0}


def test_a_trial_is_timed_beside_what_serves_and_leaves_nothing(tmp_path: Path, device: Device) -> None:
    """A candidate of a search: it is verified like a release, runs in a worker of its own, and is gone afterwards."""
    repository: Repository = releases.repository(tmp_path)
    where = profile.load(PROFILE)
    first = releases.publish_classifier(repository, tmp_path / "1", {"tflite": (PROFILE,)})
    deploy(device, where, first, repository, Settings(1.0), Reporter())
    before = status(device)
    candidate = releases.publish_classifier(repository, tmp_path / "2", {"onnx": (PROFILE,)}, model=trial_of("digits"))

    answer, facts = trial(device, where, candidate, repository, Settings(1.0), BENCH, Reporter())

    assert len(answer["bench"]["latencies_us"]) == 20
    assert answer["probe"]["passed"]
    assert facts.arch == platform.machine()
    after = status(device)
    assert {k: after[k] for k in ("model", "counter", "slot", "worker_pid", "worker_restarts")} == {
        k: before[k] for k in ("model", "counter", "slot", "worker_pid", "worker_restarts")
    }
    assert ask(device) == 0
    assert list(repository.models()) == ["digits"]
    files = set((tmp_path / ".edgeship" / "sim").rglob("blobs/*"))
    clear(device, where, Reporter())
    left = set((tmp_path / ".edgeship" / "sim").rglob("blobs/*"))
    assert len(files - left) >= 3  # model, runtime library, golden samples
    assert ask(device) == 0


def test_a_trial_that_does_not_run_or_is_not_signed_changes_nothing(tmp_path: Path, device: Device) -> None:
    repository: Repository = releases.repository(tmp_path)
    where = profile.load(PROFILE)
    first = releases.publish_classifier(repository, tmp_path / "1", {"tflite": (PROFILE,)})
    deploy(device, where, first, repository, Settings(1.0), Reporter())
    broken = releases.publish_classifier(
        repository, tmp_path / "2", {"tflite": (PROFILE,)}, model=trial_of("digits"), damaged=True
    )
    with pytest.raises(DeviceError) as caught:
        trial(device, where, broken, repository, Settings(1.0), BENCH, Reporter())
    assert caught.value.exit_code == 1
    link = open_agent(device, where, reporter=Reporter())
    with pytest.raises(DeviceError, match="another manifest is signed"):
        link.client.request("trial", manifest="digits/manifest.json", sha256="ab" * 32, runs=20)
    link.close()
    assert ask(device) == 0


def test_a_trial_on_a_device_that_serves_nothing_yet(tmp_path: Path, device: Device) -> None:
    repository: Repository = releases.repository(tmp_path)
    candidate = releases.publish_classifier(
        repository, tmp_path / "1", {"tflite": (PROFILE,)}, model=trial_of("digits")
    )
    answer, _ = trial(device, profile.load(PROFILE), candidate, repository, Settings(1.0), BENCH, Reporter())
    assert len(answer["bench"]["latencies_us"]) == 20
    assert status(device)["state"] == "no-model"


def status(device: Device) -> dict[str, object]:
    link = open_agent(device, profile.load(PROFILE), reporter=Reporter())
    found = dict(link.client.request("status").result)
    link.close()
    return found
