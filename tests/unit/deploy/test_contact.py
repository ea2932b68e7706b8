"""Contact: start the agent that is there or bring one, enrol, configure, read the facts; each step can be repeated."""

import hashlib

import pytest

from edgeship import profile
from edgeship.deploy import contact as contacts
from edgeship.deploy.client import NOT_INSTALLED
from edgeship.deploy.contact import Agent, Session, Settings, contact, open_agent
from edgeship.deploy.device import Device
from edgeship.deploy.endpoint import STARTER
from edgeship.deploy.loader import LOADER
from edgeship.errors import DeviceError, UnfitError
from edgeship.reporter import Reporter
from tests.simulators.board import Board

PI = Device("pi", "raspberry-pi-5", host="pi.local")
ROOT = b'{"signed": "root"}'
APP = b"zipapp" * 20_000
OWN = Agent(APP, hashlib.sha256(APP).hexdigest())


class Notes(Reporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    found = Board()
    monkeypatch.setattr(contacts, "connect", lambda *_, **__: found.transport())
    return found


def met(device: Device = PI, reporter: Reporter | None = None, settings: Settings | None = None) -> Session:
    return contact(device, profile.load(device.profile), root_json=ROOT, settings=settings or Settings(2.0),
                   reporter=reporter or Reporter(), agent=OWN)  # fmt: skip


def test_the_first_contact_brings_the_agent_and_enrols(board: Board) -> None:
    with met() as session:
        assert session.agent_bytes == len(APP)
        assert session.facts.arch == "aarch64"
        assert session.hello.agent_sha256 == OWN.sha256
        assert session.client.device_name == "pi"

    assert board.installed == OWN.sha256
    assert board.root == ROOT
    assert board.commands == [
        ("python3", "-c", STARTER, "~/.local/share/edgeship"),
        ("python3", "-c", LOADER, "~/.local/share/edgeship"),
    ]
    assert board.operations == ["hello", "enroll", "configure", "facts"]
    assert board.connections == 1


def test_the_configuration_comes_from_record_and_profile(board: Board) -> None:
    met().close()
    assert board.config == {
        "name": "pi", "profile": "raspberry-pi-5", "serve_port": 8000, "window_seconds": 2.0,
        "temperature": "sysfs:thermal_zone0", "arch": None, "boot_hook": "none", "python": ["python3"],
    }  # fmt: skip


def test_a_virtual_device_is_what_its_record_says(board: Board) -> None:
    device = Device("phone", "android-termux", arch="x86_64", python=("python3",), init="termux", serve_port=9001)

    with met(device) as session:
        assert session.facts.arch == "x86_64"

    assert board.config["boot_hook"] == "termux"
    assert board.config["serve_port"] == 9001


def test_the_second_contact_starts_what_is_there(board: Board) -> None:
    met().close()
    board.operations.clear()

    with met() as session:
        assert session.agent_bytes == 0

    assert board.operations == ["hello", "configure", "facts"]


def test_an_older_agent_is_replaced_on_the_same_channel(board: Board) -> None:
    board.installed, board.version, board.root = "0" * 64, "0.0.9", ROOT
    reporter = Notes()

    with met(reporter=reporter) as session:
        assert session.agent_bytes == len(APP)

    assert board.operations == ["hello", "put", "hello", "configure", "facts"]
    assert board.connections == 1
    assert "agent 0.0.9 is replaced" in reporter.notes[0]


def test_a_newer_agent_stays(board: Board) -> None:
    board.installed, board.version = "0" * 64, "99.0"
    with met() as session:
        assert session.agent_bytes == 0
    assert board.installed == "0" * 64


def test_a_new_agent_that_does_not_take_over(board: Board) -> None:
    board.installed, board.version = "0" * 64, "0.0.9"
    board.results["hello"] = {
        "protocol": 1, "agent": "0.0.9", "agent_sha256": "0" * 64, "enrolled": True, "clock_skew_seconds": 0,
    }  # fmt: skip
    with pytest.raises(DeviceError, match="did not take over"):
        met()


def test_another_root_is_offered_and_refused_by_the_device(board: Board) -> None:
    board.installed, board.root = OWN.sha256, b"another fleet's"
    board.refuse["enroll"] = ("enrolled-elsewhere", "this device is enrolled with another fleet's root")

    with pytest.raises(DeviceError, match="another fleet") as error:
        met()
    assert error.value.code == "enrolled-elsewhere"


def test_an_unsupported_profile_is_refused_before_anything_is_opened(board: Board) -> None:
    with pytest.raises(UnfitError, match="cannot carry the agent: ") as error:
        met(Device("nano", "jetson-nano"))
    assert error.value.exit_code == 6
    assert board.connections == 0


def test_another_protocol(board: Board) -> None:
    board.installed, board.protocol = OWN.sha256, 9
    with pytest.raises(DeviceError, match="speaks protocol 9, this edgeship speaks 1"):
        met()


def test_a_greeting_that_makes_no_sense(board: Board) -> None:
    board.installed = OWN.sha256
    board.results["hello"] = {"protocol": "1"}
    with pytest.raises(DeviceError, match="greeting cannot be read"):
        met()


def test_facts_that_make_no_sense(board: Board) -> None:
    board.facts["libc"] = "glibc"
    with pytest.raises(DeviceError, match="facts cannot be read"):
        met()


def test_no_python_on_the_device(board: Board) -> None:
    board.exits = (127, "sh: 1: python3: not found")
    with pytest.raises(DeviceError, match="Python cannot be started there: sh: 1: python3: not found") as error:
        met()
    assert error.value.code == "no-python"
    assert "install python3" in (error.value.hint or "")


@pytest.mark.parametrize(("skew", "words"), [(4000.0, "4000 s ahead"), (-4000.0, "4000 s behind")])
def test_a_wrong_clock_is_told(board: Board, skew: float, words: str) -> None:
    board.skew = skew
    reporter = Notes()
    with met(reporter=reporter) as session:
        assert session.notes == [f"its clock is {words}"]
    assert words in reporter.notes[-1]


def test_opening_without_installing_says_that_there_is_no_agent(board: Board) -> None:
    with pytest.raises(DeviceError, match="no agent is installed") as error:
        open_agent(PI, profile.load("raspberry-pi-5"), reporter=Reporter())
    assert error.value.code == NOT_INSTALLED
    assert board.installed is None


def test_this_hosts_own_agent() -> None:
    own = Agent.own()
    assert own.sha256 == hashlib.sha256(own.zipapp).hexdigest()
    assert own.loader == LOADER
