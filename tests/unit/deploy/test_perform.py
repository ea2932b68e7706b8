"""A push to one device: what is sent, what is taken up again, and how it ends."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeship import profile
from edgeship.deploy import contact as contacts
from edgeship.deploy import perform
from edgeship.deploy.contact import Agent, Settings
from edgeship.deploy.device import Device
from edgeship.deploy.packing import Packer
from edgeship.deploy.perform import Deployed, deploy
from edgeship.errors import DeviceError, RolledBackError, UnfitError, UnreachableError
from edgeship.release.build import PublishedRelease
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter, Step
from tests.simulators import releases
from tests.simulators.board import Board, BoardStream

PI = Device("pi", "raspberry-pi-5", host="pi.local")
APP = b"zipapp" * 20_000
OWN = Agent(APP, hashlib.sha256(APP).hexdigest())


class Seen(Reporter):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.shown: list[tuple[int, int]] = []

    def progress(self, step: Step, done: int, total: int) -> None:
        self.shown.append((done, total))

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        self.steps.append(f"{step.name} {step.subject}: {summary}")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    found = Board()
    monkeypatch.setattr(contacts, "connect", lambda *_, **__: found.transport())
    monkeypatch.setattr(perform, "PAUSE", 0.0)
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return releases.repository(tmp_path)


@pytest.fixture
def release(repository: Repository, tmp_path: Path) -> PublishedRelease:
    return releases.publish(repository, tmp_path / "work")


def push(release: PublishedRelease, repository: Repository, reporter: Reporter | None = None) -> Deployed:
    return deploy(PI, profile.load("raspberry-pi-5"), release, repository, Settings(), reporter or Reporter(),
                  agent=OWN)  # fmt: skip


def test_the_first_push_sends_everything_by_kind(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    seen = Seen()

    done = push(release, repository, seen)

    variant = release.manifest.variants[0]
    assert list(done.sent) == ["agent", "runtime library", "model", "golden", "metadata"]
    assert done.sent["agent"] == len(APP)
    assert done.sent["model"] == 30_000
    assert done.sent["golden"] == 2_000
    assert 0 < done.sent["runtime library"] < 1_000  # it compresses
    assert done.sent_bytes == sum(done.sent.values())
    assert set(board.blobs) == {
        release.manifest_sha256, variant.file.sha256, variant.golden.file.sha256, variant.runtimes[0].file.sha256,
    }  # fmt: skip
    assert list(board.incoming) == [name for name, _ in repository.metadata()]
    assert board.serving == ("digits/manifest.json", release.manifest_sha256)
    assert (done.counter, done.model, done.probe) == (1, "digits", {"agreement": 1.0})
    assert seen.steps[0] == "fit pi: system, disk, runtime library"
    assert seen.steps[1].startswith("deploy pi: 0.2 MB sent (agent 0.1, runtime library 0.000, model 0.030, ")


def test_an_update_does_not_send_agent_and_library_again(
    board: Board, repository: Repository, release: PublishedRelease, tmp_path: Path
) -> None:
    push(release, repository)
    update = releases.publish(repository, tmp_path / "work", version=2)

    done = push(update, repository)

    assert set(done.sent) == {"model", "golden", "metadata"}


def test_pushing_the_same_again_sends_metadata_alone(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    push(release, repository)
    repository.refresh()

    assert set(push(release, repository).sent) == {"metadata"}
    assert board.switches == 2


def test_progress_ends_at_the_total(board: Board, repository: Repository, release: PublishedRelease) -> None:
    seen = Seen()
    push(release, repository, seen)
    done, totals = zip(*seen.shown, strict=True)
    assert set(totals) == {totals[0]}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]


@pytest.mark.parametrize("percent", range(2, 100, 7))
def test_a_cut_transfer_goes_on_where_it_stopped(
    board: Board, tmp_path: Path, repository: Repository, percent: int
) -> None:
    """Cut at every few percent of the bytes: it completes, and hardly anything is sent twice."""
    big = releases.publish(repository, tmp_path / "work", model_bytes=400_000)
    seen = Seen()
    board.cuts = [600_000 * percent // 100]

    done = push(big, repository, seen)

    assert board.serving == ("digits/manifest.json", big.manifest_sha256)
    assert done.resumed <= 1
    assert done.sent["model"] <= 400_000 * 1.1
    shown = [n for n, _ in seen.shown]
    assert shown == sorted(shown)


def test_it_gives_up_when_nothing_moves_any_more(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    push(release, repository)  # agent and enrolment are there
    board.blobs.clear()
    board.cuts = [900] * 50

    with pytest.raises(UnreachableError) as error:
        push(release, repository)
    assert error.value.exit_code == 5
    assert len(board.cuts) > 30


def test_it_goes_on_as_long_as_every_connection_brings_something(
    board: Board, repository: Repository, tmp_path: Path
) -> None:  # fmt: skip
    big = releases.publish(repository, tmp_path / "work", model_bytes=1_500_000)
    push(releases.publish(repository, tmp_path / "work", version=2), repository)
    board.cuts = [150_000] * 9
    back = releases.publish(repository, tmp_path / "work", model_bytes=1_500_000)
    assert back.manifest.variants == big.manifest.variants

    assert push(back, repository).resumed == 9


def test_a_device_that_stays_away(board: Board, repository: Repository, release: PublishedRelease) -> None:
    push(release, repository)
    board.blobs.clear()
    board.cuts = [8_000]
    board.dies_after = board.connections + 1

    with pytest.raises(UnreachableError, match="nothing answers"):
        push(release, repository)


def test_one_that_cannot_be_reached_is_not_tried_again(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    board.dead = True
    with pytest.raises(UnreachableError, match="nothing answers"):
        push(release, repository)


def test_a_contact_that_is_cut_is_made_again(board: Board, repository: Repository, release: PublishedRelease) -> None:
    board.cuts = [5_000, 50_000]
    assert push(release, repository).counter == 1
    board.cuts = [10] * 10
    with pytest.raises(UnreachableError):
        push(release, repository)


def test_a_device_that_still_believes_in_the_broken_connection_is_waited_for(
    board: Board, repository: Repository, release: PublishedRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-open: the device has not noticed the cut and keeps the lock for our first connection."""
    push(release, repository)
    board.blobs.clear()
    board.cuts, board.busy = [8_000], 0
    real = BoardStream.close

    def close(stream: BoardStream) -> None:
        board.busy = 9
        real(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoardStream, "close", close)
        assert push(release, repository).resumed == 1

    monkeypatch.setattr(perform, "HELD", -1.0)
    board.blobs.clear()
    board.cuts, board.busy = [8_000], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoardStream, "close", close)
        with pytest.raises(DeviceError, match="another push"):
            push(release, repository)


def test_another_push_that_is_under_way_is_not_waited_for(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    board.busy = 1
    with pytest.raises(DeviceError, match="another push") as error:
        push(release, repository)
    assert error.value.code == "busy"


def test_a_switch_whose_answer_is_lost_is_asked_for_again(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    board.cut_in_switch = 2
    assert push(release, repository).resumed == 2
    assert board.switches == 1

    board.cut_in_switch = 50
    with pytest.raises(UnreachableError):
        push(release, repository)


def test_a_release_that_the_device_refuses(board: Board, repository: Repository, release: PublishedRelease) -> None:
    board.refuse["switch"] = ("rolled-back", "agreement 0.10 of 0.94 needed")

    with pytest.raises(RolledBackError, match="agreement") as error:
        push(release, repository)
    assert error.value.exit_code == 7
    assert error.value.log == ("a line of the log", " [31mred")
    assert error.value.stage == "send"


def test_a_stage_of_the_device_is_named(board: Board, repository: Repository, release: PublishedRelease) -> None:
    from edgeship.runtime.wire import json_frame

    push(release, repository)
    numbers = {"hello": 1, "configure": 2, "facts": 3, "have": 4}
    metadata = len(repository.metadata())
    number = len(numbers) + metadata + 1
    answers = json_frame({"id": number, "event": {"stage": "probe", "text": "…"}})
    answers += json_frame({"id": number, "ok": False, "error": {"code": "rolled-back", "message": "slow"}})

    with pytest.MonkeyPatch.context() as patch:
        real = BoardStream._answer

        def answer(stream: BoardStream, data: bytes) -> None:
            if stream._request is not None and stream._request["op"] == "switch":
                board.raw_answers = [answers]
            real(stream, data)

        patch.setattr(BoardStream, "_answer", answer)
        with pytest.raises(RolledBackError) as error:
            push(release, repository)
    assert error.value.stage == "probe"


def test_a_full_disk_is_found_before_anything_is_sent(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    board.facts["disk_free_bytes"] = 100_000

    with pytest.raises(UnfitError, match="MB free") as error:
        push(release, repository)
    assert error.value.exit_code == 6
    assert board.puts == []


def test_a_disk_that_fills_while_sending(board: Board, repository: Repository, release: PublishedRelease) -> None:
    board.refuse["put"] = ("disk-full", "no room")
    with pytest.raises(UnfitError, match="no room") as error:
        push(release, repository)
    assert (error.value.stage, error.value.code) == ("send", "disk-full")


def test_a_damaged_compressed_copy_is_made_anew(
    board: Board, repository: Repository, release: PublishedRelease, tmp_path: Path
) -> None:  # fmt: skip
    library = release.manifest.variants[0].runtimes[0].file
    packer = Packer(tmp_path / "packed", tmp_path / "shared")
    packed = packer.pack(repository.blob(library.sha256), library.sha256, unpacks=True, shared=True)
    packed.path.write_bytes(b"damaged" * 10)
    board.refuse["put"] = ("untrusted", "what arrived is not what was announced")
    where = profile.load("raspberry-pi-5")
    with pytest.raises(DeviceError, match="not what was announced"):
        deploy(PI, where, release, repository, Settings(), Reporter(), agent=OWN, packer=packer)

    board.refuse.clear()
    board.partial.clear()
    deploy(PI, where, release, repository, Settings(), Reporter(), agent=OWN, packer=packer)
    assert board.serving


def test_no_variant_for_the_profile_is_found_before_connecting(
    board: Board, repository: Repository, tmp_path: Path
) -> None:  # fmt: skip
    other = releases.publish(repository, tmp_path / "work", profiles=("jetson-orin-nano",))
    with pytest.raises(UnfitError, match="no variant for profile raspberry-pi-5"):
        push(other, repository)
    assert board.connections == 0


def test_an_old_device_gets_files_as_they_are(board: Board, repository: Repository, release: PublishedRelease) -> None:
    board.facts["lzma"] = False
    done = push(release, repository)
    assert done.sent["runtime library"] == release.manifest.variants[0].runtimes[0].file.bytes
    assert {put["encoding"] for put in board.puts} == {"raw"}


def test_what_a_device_has_that_makes_no_sense(
    board: Board, repository: Repository, release: PublishedRelease
) -> None:  # fmt: skip
    board.results["have"] = {"present": "all", "partial": {}, "disk_free_bytes": 1}
    with pytest.raises(DeviceError, match="what it has cannot be read"):
        push(release, repository)
