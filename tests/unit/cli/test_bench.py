"""`edgeship bench`: parsing, files and what is printed. The measuring itself is tested in tests/unit/bench."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeship.bench import record as records
from edgeship.cli import choose
from edgeship.deploy.client import AgentClient
from edgeship.deploy.device import Device
from edgeship.errors import UnreachableError
from tests.simulators import models
from tests.simulators.bench import Agent, latencies, record
from tests.simulators.commandline import run, run_error, run_json


@pytest.fixture
def device(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's device sim answers as the fake agent does."""

    @contextmanager
    def connected(chosen: Device, _reporter: Any) -> Iterator[AgentClient]:
        yield AgentClient(Agent(), chosen.name)

    monkeypatch.setattr(choose, "connected", connected)
    return project


def test_a_model_file_is_measured_on_this_host_without_a_project(tmp_path: Path) -> None:
    tiny = models.tiny_tflite(tmp_path / "m.tflite")
    data = run_json("bench.run", "bench", "run", str(tiny.path), "--runs", "40", "--warmup", "2")
    [made] = data["runs"]
    assert made["target"]["name"] == "host"
    assert (made["identity"]["model"], made["identity"]["precision"]) == ("m", "int8")
    assert len(made["samples"]["latency_us"]) == 40
    assert made["file"] is None


def test_the_projects_model_is_measured_and_saved(project: Path) -> None:
    models.tiny_tflite(project / "m.tflite", "float32")
    toml = project / "edgeship.toml"
    toml.write_text(toml.read_text().replace('# source = "model.keras"', 'source = "m.tflite"'))
    data = run_json("bench.run", "bench", "run", "--host", "--runs", "40")
    saved = [Path(made["file"]) for made in data["runs"]]
    assert saved == records.saved(project / ".edgeship" / "bench")
    assert [made["identity"]["precision"] for made in data["runs"]] == ["float32"]  # no calibration data, no int8
    [listed] = run_json("bench.list", "bench", "list")
    assert (listed["model"], listed["n"], listed["file"]) == ("m", 40, str(saved[0]))


def test_what_a_device_serves_is_measured(device: Path) -> None:
    data = run_json("bench.run", "bench", "run", "--runs", "100")
    [made] = data["runs"]
    assert made["target"]["name"] == "sim"
    assert made["samples"]["latency_us"] == latencies(100)
    assert Path(made["file"]).is_relative_to(device)
    shown = run("bench", "run", "--all", "--runs", "100")
    assert "MEDIAN" in shown.stdout
    assert "sim" in shown.stdout


def test_a_device_that_fails_does_not_hide_the_others(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with choose.opened() as (_, store):
        store.save_device(Device("second", "generic-x86-64", transport="local"))
    good = choose.connected

    @contextmanager
    def connected(chosen: Device, reporter: Any) -> Iterator[AgentClient]:
        if chosen.name == "second":
            raise UnreachableError("second: no answer", device="second")
        with good(chosen, reporter) as client:
            yield client

    monkeypatch.setattr(choose, "connected", connected)
    result = run("bench", "run", "--all", "--runs", "100", exit_code=3)
    assert "sim" in result.stdout
    assert "second: no answer" in result.stderr
    assert len(records.saved(device / ".edgeship" / "bench")) == 1


def test_saved_measurements_are_shown_beside_each_other(project: Path) -> None:
    folder = project / ".edgeship" / "bench"
    first = records.save(record("pi"), folder)
    second = records.save(record("orin", samples=latencies(median=240.0), warnings=("hot",)), folder)
    shown = run("bench", "report", first.name, str(second), "--html", "r.html", "--markdown", "r.md")
    assert "orin · tflite int8 against pi · tflite int8: 2.4" in shown.stdout
    assert "orin · tflite int8: mind: hot" in shown.stdout
    assert "report: r.html" in shown.stderr
    assert "<!doctype html>" in (project / "r.html").read_text()
    assert (project / "r.md").read_text().startswith("| target |")
    data = run_json("bench.report", "bench", "report", first.name)
    assert len(data["runs"]) == 1


def test_the_list_skips_a_file_that_is_no_record(project: Path) -> None:
    folder = project / ".edgeship" / "bench"
    records.save(record("pi"), folder)
    (folder / "0.json").write_text("{}")
    shown = run("bench", "list")
    assert "pi" in shown.stdout
    assert "0.json is not a benchmark record" in shown.stderr


def test_an_empty_list_says_what_is_next(project: Path) -> None:
    assert "next: edgeship bench run" in run("bench", "list").stderr
    assert run_json("bench.list", "bench", "list") == []


def test_what_cannot_be_done_says_why(project: Path) -> None:
    assert "--runs" in run_error("bench", "run", "--runs", "0", exit_code=2)["message"]
    assert "names no model" in run_error("bench", "run", "--host", exit_code=2)["message"]
    assert "no such file" in run_error("bench", "run", "none.tflite", exit_code=2)["message"]
    records.save(record("pi"), project / "kept")
    [kept] = (project / "kept").iterdir()
    run_error("bench", "report", str(kept), "--html", "no/such/folder/r.html", exit_code=2)
    run_error("bench", "report", "none.json", exit_code=1)
