"""The pages and their JSON over a fleet with a bit of everything."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.dashboard import fleet_view
from edgeship.dashboard.app import STATIC, create
from edgeship.dashboard.fleet_view import Settings
from edgeship.deploy.device import Device
from edgeship.errors import StoreError
from edgeship.fleet.ingest import ingest
from edgeship.fleet.overview import Limits
from edgeship.fleet.query import Span
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from tests.simulators.telemetry import SimulatedDevice, fill, window
from tests.simulators.web import Asker

NOW = 1_800_001_234.0
SETTINGS = Settings("digits", Limits(budget_p95=0.020, throttle_celsius={"raspberry-pi-4": 85.0}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path_factory.mktemp("fleet") / "f.db") as made:
        made._clock = lambda: NOW
        fill(made, NOW, hours=6, spread=9)
        yield made


@pytest.fixture
def ask(store: FleetStore) -> Asker:
    return Asker(create(store, SETTINGS))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "f.db") as made:
        made._clock = lambda: NOW
        yield made


def data(ask: Asker, path: str) -> Any:
    answer = ask(path)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)["data"]


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_the_tiles_are_what_the_store_says(ask: Asker) -> None:
    fleet = data(ask, "/api/v1/fleet?since=6h")
    assert fleet["devices"] == {"online": 5, "degraded": 2, "stale": 1, "offline": 1}
    assert sum(row["requests"] for row in fleet["rows"]) == sum(fleet["requests"].values())
    assert 0 < fleet["error_ratio"] < 0.02
    assert 0.001 < fleet["p95_seconds"] < fleet["budget_p95_seconds"] == 0.02
    assert fleet["last_rollout"]["release"] == "digits #3"
    assert (fleet["last_rollout"]["good"], fleet["last_rollout"]["failed"]) == (0, 1)
    page = text_of(ask("/?since=6h").text)
    for shown in ("5 ● online", "2 ▲ degraded", "1 ◐ stale", "1 ✕ offline", "digits #3", "within 20.0 ms"):
        assert shown in page


def test_what_needs_attention_comes_with_a_reason_and_a_command(ask: Asker) -> None:
    page = text_of(ask("/").text)
    for shown in (
        "no route to host phone-07.local · since 4 h ago $ edgeship agent status -l name=phone-07",
        "of requests fail (last hour) $ edgeship logs jetson-line-b",
        "no telemetry for 2 h: not pulled · since 2 h ago $ edgeship telemetry pull -l name=pi-dock-2",
    ):
        assert shown in page
    rows = {row["name"]: row for row in data(ask, "/api/v1/fleet")["rows"]}
    assert rows["phone-07"]["status"] == "offline"
    assert rows["pi-roof"]["status"] == "degraded"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("l=site%3Doslo", {"jetson-line-a", "jetson-line-b", "pi-archive"}),
        ("l=profile+in+(jetson-orin-nano)", {"jetson-line-a", "jetson-line-b"}),
        ("status=offline", {"phone-07"}),
        ("status=offline&l=site%3Doslo", set()),
        ("counter=1", {"pi-archive", "phone-07"}),
    ],
)
def test_the_address_selects_devices(ask: Asker, query: str, names: set[str]) -> None:
    assert {row["name"] for row in data(ask, f"/api/v1/fleet?{query}")["rows"]} == names
    page = ask(f"/?{query}").text
    assert all(name in page for name in names)
    if not names:
        assert "No device matches." in page


@pytest.mark.parametrize("sort", ["status", "name", "requests", "errors", "p95", "temperature"])
def test_the_table_sorts(ask: Asker, sort: str) -> None:
    rows = data(ask, f"/api/v1/fleet?since=6h&sort={sort}")["rows"]
    names = [row["name"] for row in rows]
    if sort == "name":
        assert names == sorted(names)
    elif sort == "status":
        assert [row["status"] for row in rows][:4] == ["offline", "degraded", "degraded", "stale"]
    elif sort == "requests":
        assert [row["requests"] for row in rows] == sorted((row["requests"] for row in rows), reverse=True)
    elif sort == "p95":
        assert names[0] == "pi-roof"
    elif sort == "errors":
        assert names[0] == "jetson-line-b"
    else:
        assert names[-2:] == ["phone-07", "pi-dock-2"]  # nothing measured in the last hour


def test_the_table_has_pages(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_view, "PAGE", 4)
    first, last = data(ask, "/api/v1/fleet?sort=name"), data(ask, "/api/v1/fleet?sort=name&page=3")
    assert (len(first["rows"]), first["pages"], len(last["rows"])) == (4, 3, 1)
    page = ask("/?sort=name&page=2").text
    assert "page 2 of 3" in page
    assert "← previous" in page
    assert "next →" in page


def test_the_chart_breaks_where_nothing_was_measured(ask: Asker) -> None:
    series = data(ask, "/api/v1/series?since=6h&l=name%3Dpi-entrance")
    ((start, end),) = [(gap["start"], gap["end"]) for gap in series["gaps"]]
    assert (start - (NOW - 6 * 3600)) / 3600 == pytest.approx(1.8, abs=0.1)
    assert (end - start) / 3600 == pytest.approx(0.48, abs=0.1)
    assert not [s for s in series["steps"] if start + 180 < s["start"] < end - 180]
    page = ask("/?since=6h&l=name%3Dpi-entrance").text
    assert 'class="gap"' in page
    assert page.count('class="line p95"') == 3  # legend, wide, narrow
    assert "digits #2 deployed to pi-entrance" in page


def test_a_device_has_a_page(ask: Asker) -> None:
    page = text_of(ask("/devices/jetson-line-b?since=6h").text)
    for shown in (
        "jetson-line-b ▲ degraded", "of requests fail (last hour)", "Model health ▲ degraded", "Share of classes",
        "Confidence mean 0.9", "By release", "digits #2", "digits #1", "temperature", "jetson-orin-nano",
        "deploy.good", "device.add", "Audit trail", "as the host&#39;s", "supervisor 9.3 MB, worker 16.1 MB",
    ):  # fmt: skip
        assert shown in page or shown.replace("&#39;", "'") in page, shown
    told = data(ask, "/api/v1/devices/jetson-line-b?since=6h")
    assert told["model_health"]["verdict"] == "degraded"
    assert sum(told["classes"].values()) == sum(told["confidence"])
    assert [release["name"] for release in told["releases"]] == ["digits #2", "digits #1"]
    assert told["sensors"]["temperature_celsius"]["low"] < told["sensors"]["temperature_celsius"]["high"]


def test_too_few_samples_are_grey_never_green(ask: Asker) -> None:
    page = ask("/devices/pi-archive").text
    assert "○</span> too few samples" in page
    assert "too few to judge, 500 are needed" in text_of(page)
    assert 'class="bars grey"' in page
    assert "● healthy" not in text_of(page)
    assert data(ask, "/api/v1/devices/pi-archive")["model_health"]["verdict"] == "unknown"


def test_a_healthy_model_is_said_to_be_so(ask: Asker) -> None:
    assert "Model health ● healthy" in text_of(ask("/devices/pi-entrance").text)


def test_events_and_gaps_of_a_device(empty: FleetStore) -> None:
    empty.save_device(Device("pi", "raspberry-pi-5", "local"))
    made = [
        window(n, start=NOW - 600, classes={f"class-{i}": i for i in range(1, 20)},
               events=({"kind": "boot", "text": "agent starts"},) if n == 1 else ())
        for n in (1, 2, 5)
    ]  # fmt: skip
    ingest(empty, "pi", made, Contact(NOW, NOW))
    page = text_of(Asker(create(empty, SETTINGS))("/devices/pi").text)
    assert "boot agent starts" in page
    assert "2 missing (number 3 to 4)" in page
    assert "a child process of this host" in page
    assert "7 more" in page


def test_empty_states_show_the_next_command(empty: FleetStore) -> None:
    ask = Asker(create(empty, SETTINGS))
    page = text_of(ask("/").text)
    assert "No device is enrolled yet" in page
    assert "$ edgeship lab up" in page
    empty.save_device(Device("pi", "raspberry-pi-5"))
    page = text_of(ask("/").text)
    assert "edgeship telemetry pull --all" in page
    assert "$ edgeship push MODEL -l name=pi" in page
    assert "edgeship telemetry pull -l name=pi" in text_of(ask("/devices/pi").text)


def test_a_fleet_that_is_large_is_shown_by_the_hour(store: FleetStore) -> None:
    of = Span(NOW - 86_400, NOW)
    assert fleet_view.step_of(of, 3) == 600
    assert fleet_view.step_of(of, 2000) == 3600
    assert fleet_view.step_of(Span(NOW - 900, NOW), 2000) < 60


def test_errors_have_a_page_and_a_json(ask: Asker) -> None:
    for path, status, said in [
        ("/devices/nobody", 404, "there is no device"),
        ("/devices/pi-dock-3", 404, "did you mean"),
        ("/nothing", 404, "There is no such page."),
        ("/?l=a+b+c", 400, "not understood"),
        ("/?since=soon", 400, "not a time"),
        ("/static/../app.py", 404, "no such page"),
    ]:
        answer = ask(path)
        assert (answer.status_code, said in answer.text) == (status, True), path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    wrong = ask("/api/v1/fleet?status=x")
    assert (wrong.status_code, json.loads(wrong.text)["schema"]) == (400, "edgeship.error/v1")
    assert "online" in json.loads(wrong.text)["data"]["hint"]


def test_a_store_that_fails_is_said_so(ask: Asker, store: FleetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: object) -> list[Device]:
        raise StoreError("the disk is gone", hint="mount it")

    monkeypatch.setattr(FleetStore, "devices", broken)
    assert ask("/").status_code == 503
    assert "the disk is gone" in ask("/api/v1/series").text


def test_a_defect_tells_the_browser_nothing(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_args: object) -> None:
        raise RuntimeError("secret path /home/somebody")

    monkeypatch.setattr(fleet_view, "gather", defect)
    answer = ask("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("name", "kind"), STATIC.items())
def test_static_files(ask: Asker, name: str, kind: str) -> None:
    answer = ask(f"/static/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert len(answer.content) > 100


def test_pages_hold_no_inline_style_or_script_and_nothing_from_elsewhere(ask: Asker) -> None:
    for path in ("/", "/devices/pi-roof", "/nothing"):
        page = ask(path).text
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", page)
        assert all(
            src.startswith("/static/") for src in re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]*)"', page)
        )


def test_a_page_of_a_day_is_small_enough_for_a_phone(ask: Asker) -> None:
    assert len(ask("/?since=24h").content) < 250_000


def test_a_clock_of_the_future_does_not_break_the_page(empty: FleetStore) -> None:
    empty.save_device(Device("pi", "p"))
    ahead = 300 * 365 * 86_400.0
    made = SimulatedDevice("pi").windows(NOW - 600, NOW, clock_ahead=ahead)
    ingest(empty, "pi", made, Contact(NOW, NOW + ahead))
    empty.record_contact("pi", status={"state": "serving"}, skew=-ahead)
    page = text_of(Asker(create(empty, SETTINGS))("/devices/pi").text)
    assert "its clock is 300 years ahead" in page
