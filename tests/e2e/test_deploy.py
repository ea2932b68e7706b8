"""Releases to virtual devices over real SSH: first push, update, refusal, cuts, power, disks, two at once."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edgeship import profile
from edgeship.deploy.contact import Session, Settings, contact
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import fleet_run, fold
from edgeship.deploy.packing import Packer
from edgeship.deploy.perform import Deployed, deploy
from edgeship.errors import DeviceError, EdgeshipError, PartialFailure, RolledBackError, UnfitError, UnreachableError
from edgeship.lab.devices import DEFAULTS, Lab, Spec
from edgeship.lab.faults import fault
from edgeship.release.build import PublishedRelease, rollback
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter, Step
from tests.simulators import models, releases
from tests.simulators.relay import Relay

pytestmark = [pytest.mark.ssh, pytest.mark.slow]

#: What each profile gets, as its [build] says.
FORMATS = {"tflite": ("raspberry-pi-5", "android-termux"), "onnx": ("jetson-orin-nano",)}
TFLITE = {"tflite": ("raspberry-pi-5", "android-termux")}
SETTINGS = Settings(window_seconds=1.0)


class Shown(Reporter):
    """Keeps the progress."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def progress(self, step: Step, done: int, total: int) -> None:
        self.done.append(done)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return releases.repository(tmp_path)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path / "lab", "tests")
    yield found
    found.down()


def push(
    device: Device, release: PublishedRelease, repository: Repository, reporter: Reporter | None = None
) -> Deployed:
    return deploy(device, profile.load(device.profile), release, repository, SETTINGS, reporter or Reporter())


def session(device: Device, repository: Repository) -> Session:
    return contact(device, profile.load(device.profile), root_json=repository.root_bytes(), settings=SETTINGS,
                   reporter=Reporter())  # fmt: skip


def status(device: Device, repository: Repository) -> dict[str, object]:
    with session(device, repository) as open_session:
        return open_session.client.request("status").result


def settled(device: Device, repository: Repository) -> dict[str, object]:
    """The status once nothing is starting any more: a busy machine may restart a worker that answers late."""
    for _ in range(50):
        found = status(device, repository)
        if found["state"] != "starting":
            break
    return found


def ask(device: Device, n: int = 5) -> list[int]:
    """Classes that a device answers over HTTP, with the Open Inference Protocol."""
    x, _ = models.samples(n, seed=3)
    out = []
    for sample in x:
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": sample.ravel().tolist()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{device.serve_port}/v2/models/digits/infer", json.dumps({"inputs": [tensor]}).encode()
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            out.append(int(np.argmax(json.load(answer)["outputs"][0]["data"])))
    return out


RIGHT = [0, 1, 2, 3, 4]


def test_three_kinds_of_devices_take_a_release_and_an_update(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    devices = lab.up(DEFAULTS)
    first = releases.publish_classifier(repository, tmp_path / "1", FORMATS)

    outcomes = fleet_run(devices, lambda device: push(device, first, repository))

    assert fold(outcomes) is None
    for outcome in outcomes:
        assert outcome.result is not None
        assert set(outcome.result.sent) == {"agent", "runtime library", "model", "golden", "metadata"}
        assert outcome.result.probe["passed"]
        assert ask(outcome.device) == RIGHT
        found = settled(outcome.device, repository)
        assert (found["state"], found["counter"], found["model"]) == ("serving", 1, "digits")
    assert {str(status(d, repository)["format"]) for d in devices} == {"tflite", "onnx"}

    update = releases.publish_classifier(repository, tmp_path / "2", FORMATS, max_abs=0.06)
    again = fleet_run(devices, lambda device: push(device, update, repository))

    assert fold(again) is None
    for outcome in again:
        assert outcome.result is not None
        assert set(outcome.result.sent) == {"metadata"}  # the same model: nothing but its new manifest
        assert outcome.result.counter == 2


def test_a_bad_release_is_refused_by_the_device_and_the_old_one_serves_on(
    lab: Lab, repository: Repository, tmp_path: Path
) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    push(device, releases.publish_classifier(repository, tmp_path / "1", TFLITE), repository)
    bad = releases.publish_classifier(repository, tmp_path / "2", TFLITE, bad=True)
    answers: list[list[int]] = []
    stop = threading.Event()

    def users() -> None:
        while not stop.is_set():
            answers.append(ask(device))

    asking = threading.Thread(target=users)
    asking.start()
    try:
        with pytest.raises(RolledBackError, match="golden samples agree") as error:
            push(device, bad, repository)
    finally:
        stop.set()
        asking.join()

    assert error.value.exit_code == 7
    assert error.value.log
    assert answers
    assert all(answer == RIGHT for answer in answers)  # it never stopped, and never answered wrongly
    assert status(device, repository)["counter"] == 1

    back = rollback(repository, "digits")
    assert push(device, back, repository).counter == 3
    assert ask(device) == RIGHT


def test_after_a_power_cut_it_serves_without_help(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("phone", "android-termux")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    push(device, release, repository)

    assert not fault(lab, "phone", "power-cut").running
    with pytest.raises(OSError):  # noqa: PT011  # refused or reset
        ask(device)
    with pytest.raises(UnreachableError):
        push(device, release, repository)
    assert fault(lab, "phone", "power-on").running

    for _ in range(1200):  # it boots by itself: nobody contacts its agent
        try:
            assert ask(device) == RIGHT
            break
        except OSError:
            threading.Event().wait(0.05)
    else:
        raise AssertionError("it does not serve after the power came back")
    assert status(device, repository)["counter"] == 1


@pytest.mark.parametrize("cuts", [[600_000], [20_000, 200_000, 700_000, 900_000]])
def test_a_cut_transfer_is_taken_up(lab: Lab, repository: Repository, tmp_path: Path, cuts: list[int]) -> None:
    """Cut inside the agent, before and inside the runtime library: it arrives, and hardly anything is sent twice."""
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    assert device.port is not None
    shown = Shown()
    with Relay(device.port) as relay:
        relay.cuts = list(cuts)
        done = push(replace(device, port=relay.port), release, repository, shown)
        assert relay.cuts == []

    assert done.resumed >= 1
    assert shown.done == sorted(shown.done)
    library = release.manifest.variants[0].runtimes[0].file
    packer = Packer(repository.packed())
    whole = packer.pack(repository.blob(library.sha256), library.sha256, unpacks=True, shared=True).encoded_bytes
    assert done.sent["runtime library"] <= whole + len(cuts) * 500_000  # what was in the air
    assert ask(device) == RIGHT


def test_a_network_that_never_lasts(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.cuts = [3_000] * 99
        with pytest.raises(UnreachableError) as error:
            push(replace(device, port=relay.port), release, repository)
    assert error.value.exit_code == 5
    assert "push again" in (error.value.hint or "")
    push(device, release, repository)
    assert ask(device) == RIGHT


#: What a command does: a push to many, and the exit code of its error.
PUSHER = """
import json, sys
from pathlib import Path
from edgeship import profile
from edgeship.deploy.contact import Settings
from edgeship.deploy.device import Device
from edgeship.deploy.fleet_run import fleet_run, raise_for
from edgeship.deploy.perform import deploy
from edgeship.errors import EdgeshipError
from edgeship.release.build import current
from edgeship.release.keys import KeySet
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter
device, folder, keys = Device(**json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
repository = Repository.open(folder, KeySet.load(keys))
release, where = current(repository, "digits"), profile.load(device.profile)
try:
    raise_for(fleet_run([device], lambda d: deploy(d, where, release, repository, Settings(), Reporter())))
except EdgeshipError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("after", [2_000, 500_000, 1_500_000])
def test_ctrl_c_leaves_nothing_half_done(lab: Lab, repository: Repository, tmp_path: Path, after: int) -> None:
    """Interrupted in the handshake, in the agent, in the runtime library: exit 130, and the next push goes through."""
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    assert device.port is not None
    with Relay(device.port) as relay:
        relay.stalls, relay.cuts = True, [after]
        record = json.dumps(asdict(replace(device, port=relay.port)))
        argv = [sys.executable, "-c", PUSHER, record, str(repository.folder), str(repository.keys.folder)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as pusher:
            assert pusher.stdout is not None
            assert relay.stalled.wait(120)
            pusher.send_signal(signal.SIGINT)
            said = pusher.stdout.read()
        assert (pusher.returncode, said) == (130, "interrupted; 0 of 1 devices were done\n")

    push(device, release, repository)

    assert ask(device) == RIGHT


def test_two_pushes_at_once_leave_one_release_serving(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    push(device, releases.publish_classifier(repository, tmp_path / "1", TFLITE), repository)
    releases.publish_classifier(repository, tmp_path / "2", TFLITE, max_abs=0.06)
    third = releases.publish_classifier(repository, tmp_path / "3", TFLITE, max_abs=0.07)
    same = [replace(device, name=name) for name in ("pi", "pi")]

    outcomes = fleet_run(same, lambda d: push(d, third, repository), 2)

    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert len(errors) <= 1
    for error in errors:
        assert isinstance(error, DeviceError)
        assert error.code == "busy"
    assert status(device, repository)["counter"] == 3
    assert ask(device) == RIGHT


def test_a_full_disk_is_named_and_the_old_release_serves(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    """A device whose whole home is 32 MB: the TFLite runtime library fits once, another does not."""
    device = lab.up([Spec("pi", "raspberry-pi-5", disk_bytes=32 << 20)])[0]
    push(device, releases.publish_classifier(repository, tmp_path / "1", TFLITE), repository)
    big = releases.publish(repository, tmp_path / "2", weights=bytes(40 << 20), archs=("x86_64",))

    with pytest.raises(UnfitError, match=r"MB free; .* MB are needed") as error:
        push(device, big, repository)

    assert error.value.exit_code == 6
    assert "free" in (error.value.hint or "")
    assert ask(device) == RIGHT
    assert status(device, repository)["counter"] == 1


def test_a_disk_that_fills_while_files_arrive(
    lab: Lab, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is right when it is made; then something else takes the room."""
    from edgeship.deploy import fit

    device = lab.up([Spec("pi", "raspberry-pi-5", disk_bytes=32 << 20)])[0]
    push(device, releases.publish_classifier(repository, tmp_path / "1", TFLITE), repository)
    noise = releases.noise(1, 30 << 20)
    big = releases.publish(repository, tmp_path / "2", weights=noise, archs=("x86_64",))
    (repository.packed() / f"{big.manifest.variants[0].file.sha256}.xz").write_bytes(noise)  # it does not compress
    monkeypatch.setattr(fit, "problems", lambda *_: [])

    with pytest.raises(UnfitError) as error:
        push(device, big, repository)

    assert error.value.code == "disk-full"
    assert ask(device) == RIGHT
    small = releases.publish_classifier(repository, tmp_path / "3", TFLITE, max_abs=0.06)
    assert push(device, small, repository).counter == 3  # what was left lying there is gone


def test_a_device_without_python(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)

    with pytest.raises(DeviceError, match="Python cannot be started there") as error:
        push(replace(device, python=("python9",)), release, repository)
    assert (error.value.exit_code, error.value.code) == (1, "no-python")
    assert "install python3" in (error.value.hint or "")


def test_a_device_of_another_fleet(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    push(device, releases.publish_classifier(repository, tmp_path / "1", TFLITE), repository)
    other = releases.repository(tmp_path / "other")
    stolen = releases.publish_classifier(other, tmp_path / "2", TFLITE)

    with pytest.raises(DeviceError) as error:
        push(device, stolen, other)
    assert error.value.code == "enrolled-elsewhere"
    assert status(device, repository)["counter"] == 1


def test_a_flipped_byte_in_the_repository_never_serves(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    blob = repository.blob(release.manifest.variants[0].file.sha256)
    good = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])

    with pytest.raises(DeviceError, match="changed on the way") as error:
        push(device, release, repository)
    assert error.value.code == "untrusted"

    blob.write_bytes(good)
    push(device, release, repository)
    assert ask(device) == RIGHT


def test_some_devices_fail_and_the_others_do_not(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    devices = lab.up([Spec("pi", "raspberry-pi-5"), Spec("phone", "android-termux")])
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    fault(lab, "phone", "power-cut")

    error = fold(fleet_run(devices, lambda device: push(device, release, repository)))

    assert isinstance(error, PartialFailure)
    assert set(error.failures) == {"phone"}
    assert isinstance(error.failures["phone"], UnreachableError)
    assert ask(devices[0]) == RIGHT


def test_an_agent_of_another_build_is_upgraded_and_serves_on(
    lab: Lab, repository: Repository, tmp_path: Path
) -> None:  # fmt: skip
    from edgeship.deploy.contact import Agent

    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    own = Agent.own()
    older = _repacked(own.zipapp)
    with contact(device, profile.load(device.profile), root_json=repository.root_bytes(), settings=SETTINGS,
                 reporter=Reporter(), agent=Agent(older, hashlib.sha256(older).hexdigest())) as first:  # fmt: skip
        assert first.hello.agent_sha256 == hashlib.sha256(older).hexdigest()

    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    done = push(device, release, repository)

    assert done.sent["agent"] == len(own.zipapp)
    assert ask(device) == RIGHT
    with session(device, repository) as now:
        assert now.hello.agent_sha256 == own.sha256


def _repacked(zipapp: bytes) -> bytes:
    """The same agent in other bytes."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipapp)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return out.getvalue()


def test_errors_are_never_bare(lab: Lab, repository: Repository, tmp_path: Path) -> None:
    """Whatever goes wrong with a device is an error of the tree with a next step."""
    device = lab.up([Spec("pi", "raspberry-pi-5")])[0]
    release = releases.publish_classifier(repository, tmp_path / "1", TFLITE)
    for wrong in (
        replace(device, port=1), replace(device, user="nobody-here"), replace(device, host_key=None),
        replace(device, root="/proc/no"), replace(device, python=("false",)), replace(device, arch="riscv64"),
    ):  # fmt: skip
        with pytest.raises(EdgeshipError) as error:
            push(wrong, release, repository)
        assert error.value.hint, wrong
