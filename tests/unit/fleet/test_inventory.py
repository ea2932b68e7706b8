"""Which devices a command means."""

import pytest

from edgeship.deploy.device import Device
from edgeship.errors import UsageError
from edgeship.fleet.inventory import choose, find, relabel

PI, JETSON = Device("pi", "raspberry-pi-5"), Device("jetson", "jetson-orin-nano", labels={"site": "oslo"})


def test_the_only_device_needs_no_selector() -> None:
    assert choose([PI]) == [PI]


def test_several_devices_need_a_selector_or_all() -> None:
    with pytest.raises(UsageError, match="2 devices") as caught:
        choose([PI, JETSON])
    assert caught.value.hint == "devices: pi, jetson"
    assert choose([PI, JETSON], "name=pi") == [PI]
    assert choose([PI, JETSON], everything=True) == [PI, JETSON]


def test_both_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match="exclude"):
        choose([PI], "name=pi", everything=True)


def test_an_empty_inventory_says_how_to_fill_it() -> None:
    with pytest.raises(UsageError, match="no device") as caught:
        choose([])
    assert "device add" in str(caught.value.hint)


def test_a_selector_that_selects_nothing_is_an_error_that_lists_the_devices() -> None:
    many = [Device(f"d{i}", "p") for i in range(12)]
    with pytest.raises(UsageError) as caught:
        choose(many, "site=nowhere")
    assert str(caught.value.hint).endswith("d9 and 2 more")


def test_find() -> None:
    assert find([PI, JETSON], "jetson") is JETSON
    for devices, name, hint in [([PI, JETSON], "jetsom", "jetson"), ([PI], "zzz", "devices: pi"), ([], "pi", "add")]:
        with pytest.raises(UsageError) as caught:
            find(devices, name)
        assert hint in str(caught.value.hint)


def test_labels_are_set_and_removed() -> None:
    assert relabel(JETSON, {"site": None, "floor": "2"}).labels == {"floor": "2"}
    assert relabel(PI, {"gone": None}).labels == {}


@pytest.mark.parametrize("labels", [{"name": "x"}, {"site": "a,b"}, {"site": "<b>"}, {"!x": "1"}, {"a b": "1"}])
def test_labels_that_a_selector_cannot_name_are_refused(labels: dict[str, str | None]) -> None:
    with pytest.raises(UsageError):
        relabel(PI, labels)
