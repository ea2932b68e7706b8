"""Which devices a command means, and how it asks before it disturbs many."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import config
from edgeship.cli import State, choose
from edgeship.cli.output import Output
from edgeship.deploy.device import Device
from edgeship.errors import UsageError


def test_the_only_device_is_meant_without_a_selector(project: Path) -> None:
    with choose.opened() as (_, store):
        assert [d.name for d in choose.devices(store, None, all_=False)] == ["sim"]
        store.save_device(Device("pi", "raspberry-pi-5", host="h"))
        assert [d.name for d in choose.devices(store, "name=pi", all_=False)] == ["pi"]
        assert [d.name for d in choose.devices(store, None, all_=True)] == ["pi", "sim"]
        with pytest.raises(UsageError, match="2 devices"):
            choose.devices(store, None, all_=False)


def test_above_ten_devices_the_projects_name_is_typed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Device(f"d{n}", "generic-arm64") for n in range(11)]
    typed = ["digits", "yes"]
    questions: list[str] = []

    def ask(_self: Output, question: str, *, option: str) -> str:
        questions.append(question)
        return typed.pop(0)

    monkeypatch.setattr(Output, "ask", ask)
    loaded = config.load()
    choose.confirm(Output(State()), "stop the agent", many, loaded, yes=False)
    with pytest.raises(UsageError, match="'yes' is not the project's name"):
        choose.confirm(Output(State()), "stop the agent", many, loaded, yes=False)
    assert questions[0].startswith("stop the agent on 11 devices")
    choose.confirm(Output(State()), "stop the agent", many, loaded, yes=True)
    assert not typed
