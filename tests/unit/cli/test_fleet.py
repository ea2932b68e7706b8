"""`status`, `telemetry` and `serve`: the store in a project, and one real agent."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeship import config, profile
from edgeship.cli import COMMANDS, choose
from edgeship.deploy import lifecycle
from edgeship.deploy.contact import Settings, contact
from edgeship.deploy.device import Device
from edgeship.errors import UnreachableError
from edgeship.fleet import health
from edgeship.fleet.ingest import ingest
from edgeship.fleet.timeline import Contact
from edgeship.reporter import Reporter
from edgeship.runtime.window import Window
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.telemetry import Agent, SimulatedDevice, window


@pytest.fixture
def pi(project: Path) -> Device:
    with choose.opened() as (_, store):
        store.save_device(Device("pi", "raspberry-pi-5", host="pi.local", labels={"site": "berlin"}))
    return Device("pi", "raspberry-pi-5")


@pytest.fixture
def filled(pi: Device) -> list[Window]:
    """An hour of a healthy board, in the store."""
    now = time.time()
    made = SimulatedDevice("pi", rate=5).windows(now - 3600, now)
    with choose.opened() as (_, store):
        ingest(store, "pi", made, Contact(now, now))
        store.record_contact("pi", status={"state": "serving", "model": "digits", "counter": 1, "precision": "int8",
                                           "format": "tflite", "pss": {"supervisor": 9e6, "worker": 16e6}})  # fmt: skip
    return made


def agents(monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]) -> None:
    """Stand in for connections: a fake of the client, or an error to raise."""

    @contextmanager
    def connected(device: Device, _reporter: object) -> Iterator[Any]:
        found = known[device.name]
        if isinstance(found, Exception):
            raise found
        yield found

    monkeypatch.setattr(choose, "connected", connected)


def test_status_of_a_new_project_says_what_to_do(project: Path) -> None:
    data = run_json("status", "status")
    assert [(d["device"], d["status"], d["reason"]) for d in data] == [("sim", "offline", "never reached")]
    result = run("status")
    assert "sim" in result.stdout
    assert "next: edgeship push MODEL -l name=sim" in result.stderr


def test_status_after_a_deployment_knows_what_is_served(project: Path) -> None:
    with choose.opened() as (_, store):
        store.audit("deploy.good", "sim", {"model": "digits", "counter": 3, "precision": "int8"})
    (data,) = run_json("status", "status")
    assert (data["status"], data["model"], data["counter"]) == ("stale", "digits", 3)
    assert data["next"] == "edgeship telemetry pull -l name=sim"


def test_status_shows_the_last_hour(filled: list[Window]) -> None:
    (data,) = run_json("status", "status", "-l", "site=berlin")
    assert (data["status"], data["counter"], data["precision"]) == ("online", 1, "int8")
    assert data["last_hour"]["requests"] > 5000
    assert 0.002 < data["last_hour"]["p95_seconds"] < 0.02
    shown = run("status", "-l", "name=pi").stdout
    for text in ("online", "digits #1", "tflite int8", "25.0 MB"):
        assert text in shown


def test_status_can_ask_first(pi: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    agents(monkeypatch, {"pi": Agent([window(1)], clock=time.time()), "sim": UnreachableError("no route to sim")})
    data = {d["device"]: d for d in run_json("status", "status", "--refresh")}
    assert (data["pi"]["counter"], data["pi"]["status"]) == (1, "stale")
    assert (data["sim"]["status"], data["sim"]["reason"]) == ("offline", "no route to sim")


def test_a_selector_that_selects_nothing_is_a_usage_error(pi: Device) -> None:
    assert run_error("status", "-l", "site=oslo", exit_code=2)["hint"] == "devices: pi, sim"


def test_pull_stores_and_says_how_much(pi: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    made = [window(n, start=now - 300) for n in (1, 2, 5)]
    agents(monkeypatch, {"pi": Agent(made, clock=now)})
    (data,) = run_json("telemetry.pull", "telemetry", "pull", "-l", "name=pi")
    assert (data["device"], data["stored"], data["missing"], data["error"]) == ("pi", 3, 2, None)
    assert "pi" in run("telemetry", "pull", "-l", "name=pi").stdout


def test_a_device_that_fails_gives_its_exit_code_and_the_others_are_stored(
    pi: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents(monkeypatch, {"pi": Agent([window(1)], clock=None), "sim": UnreachableError("no route to sim")})
    result = run("telemetry", "pull", "--json", exit_code=3)
    stored = {d["device"]: (d["stored"], d["error"]) for d in json.loads(result.stdout)["data"]}
    assert stored == {"pi": (1, None), "sim": (0, "no route to sim")}
    assert run_error("telemetry", "pull", "-l", "name=sim", exit_code=5)["message"] == "no route to sim"


def test_pull_can_watch_until_it_is_interrupted(pi: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    agents(monkeypatch, {"pi": Agent([window(1)], clock=None)})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("edgeship.cli.telemetry.time.sleep", sleep)
    result = run("telemetry", "pull", "-l", "name=pi", "--watch", "5", exit_code=130)
    assert slept == [5.0, 5.0]
    assert result.stdout.count("pi ") == 2


def test_query_by_device(filled: list[Window]) -> None:
    (row,) = run_json("telemetry.query", "telemetry", "query", "-l", "name=pi", "--since", "2h")
    assert row["device"] == "pi"
    assert row["values"]["requests"] == sum(w.ok + w.failed + w.refused for w in filled)
    assert 0.001 < row["values"]["p50_seconds"] < row["values"]["p99_seconds"] < 0.1
    shown = run("telemetry", "query", "--since", "2h").stdout
    assert "P95" in shown
    assert " ms" in shown


def test_query_in_steps_by_fleet_and_release(filled: list[Window]) -> None:
    steps = run_json("telemetry.query", "telemetry", "query", "--since", "2h", "--by", "fleet", "--step", "15m")
    assert 4 <= len(steps) <= 6
    assert {s["fleet"] for s in steps} == {"fleet"}
    assert "START (UTC)" in run("telemetry", "query", "--since", "2h", "--step", "15m").stdout
    (whole,) = run_json("telemetry.query", "telemetry", "query", "--since", "2h", "--by", "fleet")
    assert whole["values"]["requests"] == sum(s["values"]["requests"] for s in steps)
    (release,) = run_json("telemetry.query", "telemetry", "query", "--since", "2h", "--by", "release")
    assert release["release"] == "digits #1"


def test_query_of_classes_and_sensors(filled: list[Window]) -> None:
    (row,) = run_json(
        "telemetry.query", "telemetry", "query", "--since", "2h", "--metric", "classes", "--metric", "sensors",
        "--metric", "confidence",
    )  # fmt: skip
    values = row["values"]
    assert sum(value for name, value in values.items() if name.startswith("class:")) == pytest.approx(1)
    assert 40 < values["sensor:temperature_celsius"] < 80
    shown = run("telemetry", "query", "--since", "2h", "--metric", "classes", "--metric", "sensors").stdout
    assert "%" in shown


def test_query_as_csv_is_no_formula(pi: Device) -> None:
    now = time.time()
    evil = window(1, start=now - 60, classes={'=HYPERLINK("http://x")': 4, "@x": 1, "ok": 5})
    with choose.opened() as (_, store):
        ingest(store, "pi", [evil], Contact(now, now))
    text = run("telemetry", "query", "--metric", "classes", "--metric", "requests", "--csv").stdout
    (head, row) = list(csv.reader(io.StringIO(text)))
    assert head[:3] == ["device", "start", "end"]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in head)
    assert dict(zip(head, row, strict=True))["requests"] == "10"


def test_an_empty_query_says_what_to_do(pi: Device) -> None:
    assert "edgeship telemetry pull" in run("telemetry", "query").stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--metric", "p96"), ("--since", "yesterday"), ("--since", "1h", "--until", "2h"), ("--step", "0s"),
        ("--by", "release", "--step", "1m"), ("--csv",),
    ],
)  # fmt: skip
def test_a_wrong_query_is_a_usage_error(pi: Device, args: tuple[str, ...]) -> None:
    error = run_error("telemetry", "query", *args, exit_code=2)
    assert (error["kind"], bool(error["message"])) == ("UsageError", True)


def test_every_command_that_is_advised_exists() -> None:
    root = Path(health.__file__).parents[1]
    texts = [Path(health.__file__), *(root / "dashboard" / "templates").glob("*.html"), *(root / "fleet").glob("*.py")]
    advised = {
        found
        for path in texts
        for found in re.findall(r"edgeship ((?:telemetry|agent|bench|device|lab) [a-z]+|[a-z]+)", path.read_text())
    }
    known = {name for section in COMMANDS.values() for name in section}
    for words in sorted(a for a in advised if " " in a or a in known):
        run(*words.split(), "--help")
    assert {"logs", "telemetry pull", "agent status", "bench run", "lab up"} <= advised
    assert "doctor" not in advised


@pytest.mark.slow
def test_a_real_agent_is_pulled_from(project: Path) -> None:
    with choose.opened() as (_, store):
        device = choose.device(store, "sim")
    board = profile.load(device.profile)
    root = choose.repository(config.load()).root_bytes()
    quick = Settings(window_seconds=0.5)
    contact(device, board, root_json=root, settings=quick, reporter=Reporter()).close()
    try:
        stored = 0
        for _ in range(20):  # the first request starts the agent; windows come twice a second
            (data,) = run_json("telemetry.pull", "telemetry", "pull")
            stored += data["stored"]
            if stored >= 3:
                break
            time.sleep(0.5)
        (row,) = run_json(
            "telemetry.query", "telemetry", "query", "--since", "5m", "--metric", "windows", "--metric", "sensors"
        )
        assert row["values"]["windows"] == stored >= 3
        assert row["values"]["sensor:memory_available_bytes"] > 0
        (status,) = run_json("status", "status")
        assert (status["status"], status["reason"]) == ("degraded", "serves no model")
        assert abs(status["clock_skew_seconds"]) < 30
    finally:
        lifecycle.uninstall(device, board, reporter=Reporter())


def served(project: Path, *args: str) -> subprocess.Popen[str]:
    start = [sys.executable, "-c", "from edgeship.cli import main; main()", "serve", "--port", "0", *args]
    return subprocess.Popen(
        start, cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"BROWSER": "/bin/false"},
    )  # fmt: skip


def test_serve_says_where_and_ends_with_ctrl_c(filled: list[Window], project: Path) -> None:
    with served(project, "--json") as process:
        assert process.stdout is not None
        data = json.loads(process.stdout.readline())["data"]
        with urllib.request.urlopen(f"{data['url']}api/v1/fleet", timeout=20) as answer:
            assert json.load(answer)["data"]["devices"]["online"] == 1
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in stderr


def test_serve_opens_a_browser_and_warns_beyond_this_machine(project: Path) -> None:
    with served(project, "--open", "--host", "0.0.0.0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert "?token=" in url
        port = url.partition("?")[0].rpartition(":")[2].strip("/")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert "plain HTTP" in stderr
        assert "no browser" in stderr


# ── telemetry prune ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_old_windows_are_dropped_and_hours_still_answer(filled: list[Window]) -> None:
    asked = ("telemetry", "prune", "--windows", "30m", "--minutes", "30m")
    would = run_json("telemetry.prune", *asked, "--dry-run")
    assert 25 <= would["windows"] <= 35
    assert 25 <= would["minutes"] <= 35
    assert would["dry_run"]
    before = run_json("telemetry.query", "telemetry", "query", "-l", "name=pi", "--since", "3h", "--step", "1h")
    assert run_json("telemetry.prune", *asked, "--dry-run")["windows"] >= would["windows"]  # nothing was done

    done = run_json("telemetry.prune", *asked, "--yes")
    assert not done["dry_run"]
    assert would["windows"] <= done["windows"] <= would["windows"] + 1
    assert run_json("telemetry.prune", *asked, "--yes")["windows"] <= 1
    after = run_json("telemetry.query", "telemetry", "query", "-l", "name=pi", "--since", "3h", "--step", "1h")
    requests = [sum(row["values"]["requests"] or 0 for row in rows) for rows in (before, after)]
    assert requests[0] == requests[1] > 0
    [entry] = [e for e in run_json("audit.list", "audit", "list") if e["action"] == "telemetry.prune"][-1:]
    assert entry["detail"]["windows"] == done["windows"]


def test_nothing_is_dropped_unasked(filled: list[Window]) -> None:
    kept = run_json("telemetry.prune", "telemetry", "prune", "--windows", "1m", "--dry-run")["windows"]
    error = run_error("telemetry", "prune", "--windows", "1m", exit_code=2)
    assert "--yes" in error["hint"]
    assert run_json("telemetry.prune", "telemetry", "prune", "--windows", "1m", "--dry-run")["windows"] >= kept > 50


def test_what_is_young_enough_stays_without_a_question(filled: list[Window]) -> None:
    assert run_json("telemetry.prune", "telemetry", "prune")["windows"] == 0


def test_a_length_of_time_that_is_none_is_refused(project: Path) -> None:
    assert "not a length of time" in run_error("telemetry", "prune", "--minutes", "long", exit_code=2)["message"]
