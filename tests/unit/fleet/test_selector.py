"""Selectors as in kubectl."""

import pytest

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.fleet.selector import parse, suggest

PI = Device("pi", "raspberry-pi-5", labels={"site": "berlin", "floor": "2"})
JETSON = Device("jetson", "jetson-orin-nano", transport="local", labels={"site": "oslo", "retired": ""})
FLEET = [PI, JETSON]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["pi", "jetson"]),
        ("  ", ["pi", "jetson"]),
        ("name=pi", ["pi"]),
        ("name==pi", ["pi"]),
        ("name != pi", ["jetson"]),
        ("profile=jetson-orin-nano", ["jetson"]),
        ("transport=local", ["jetson"]),
        ("site=berlin", ["pi"]),
        ("site!=berlin", ["jetson"]),
        ("floor!=2", ["jetson"]),  # a device without the label too
        ("site in (berlin, oslo)", ["pi", "jetson"]),
        ("site in (berlin,oslo),name=jetson", ["jetson"]),
        ("site notin (berlin)", ["jetson"]),
        ("retired", ["jetson"]),
        ("!retired", ["pi"]),
        ("retired=", ["jetson"]),
        ("site=berlin,site=oslo", []),
        ("nothing=at-all", []),
    ],
)
def test_it_selects(text: str, expected: list[str]) -> None:
    assert [device.name for device in parse(text).select(FLEET)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "=", "site=", "site in ()", "site in (a,)", "site in a", "a,,b", ",", "site=<script>", "name='pi' or 1=1",
        "site in (a;b)", "a b", "site=a b", "x" * 2001, "site in (a", "ünicode=1",
    ],
)  # fmt: skip
def test_what_it_does_not_understand_is_refused(text: str) -> None:
    if text == "site=":
        assert parse(text).select(FLEET) == []  # the label with an empty value: valid, and no device has it
        return
    with pytest.raises(UsageError):
        parse(text)


def test_it_prints_as_it_was_written() -> None:
    assert str(parse(" site=berlin ")) == "site=berlin"


def test_a_near_name_is_suggested() -> None:
    assert suggest("jetsen", ["jetson", "pi"]) == "did you mean 'jetson'?"
    assert suggest("zzz", ["jetson"]) is None
