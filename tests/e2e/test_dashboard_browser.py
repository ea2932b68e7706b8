"""The dashboard in Chromium: what a person sees, in both themes, at a desk and on a phone, without a complaint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from edgeship.dashboard.fleet_view import Settings
from edgeship.dashboard.server import Listening
from edgeship.deploy.device import Device
from edgeship.fleet.ingest import ingest
from edgeship.fleet.overview import Limits
from edgeship.fleet.store import FleetStore
from edgeship.fleet.timeline import Contact
from tests.simulators.telemetry import SimulatedDevice, fill, window
from tests.simulators.web import running

NOW = 1_800_001_234.0
CHROMIUM = os.environ.get("EDGESHIP_CHROMIUM") or shutil.which("chromium")
SETTINGS = Settings("digits", Limits(budget_p95=0.020))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="Chromium is not installed (apt: chromium)"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "CI must have Chromium (apt: chromium)"
    with sync_playwright() as playwright:
        # Root may not use Chromium's sandbox; in a container there is no other user.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path_factory.mktemp("fleet") / "f.db") as made:
        made._clock = lambda: NOW
        fill(made, NOW, hours=6, spread=9)
        yield made


@pytest.fixture(scope="module")
def at(store: FleetStore) -> Iterator[Listening]:
    with running(store, SETTINGS) as listening:
        yield listening


class Seen:
    """A page, and everything that its browser complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))

    def text(self, selector: str) -> str:
        """What is shown there, white space folded."""
        return " ".join(self.page.inner_text(selector).split())


def look(browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> Seen:
    """Open a page. Policy violations are written to the console by Chromium, so they are complaints."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]  # "light" or "dark"
    seen = Seen(context.new_page())
    seen.page.goto(url)
    return seen


@pytest.fixture
def fleet(browser: Browser, at: Listening) -> Iterator[Seen]:
    seen = look(browser, at.url + "?since=6h")
    yield seen
    assert seen.complaints == []
    seen.page.context.close()


def test_the_four_views_show_what_the_store_holds(fleet: Seen) -> None:
    tiles = fleet.text(".tiles")
    for shown in (
        "5 ● online",
        "2 ▲ degraded",
        "1 ◐ stale",
        "1 ✕ offline",
        "Inferences",
        "/s",
        "within 20.0 ms",
        "digits #3",
    ):
        assert shown in tiles
    assert fleet.page.locator(".devices tbody tr").count() == 9
    assert "▲ degraded" in fleet.text(".devices tbody tr:has-text('jetson-line-b')")
    assert "edgeship agent status -l name=phone-07" in fleet.text(".attention")


def test_the_chart_draws_every_point_it_was_given(fleet: Seen) -> None:
    drawn = fleet.page.evaluate(
        """() => [...document.querySelectorAll('#latency svg.wide path.line')].map(p => [
             p.getAttribute('class'), p.getAttribute('d').match(/[ML]/g).length, p.getBBox().width, p.getTotalLength(),
             getComputedStyle(p).stroke])"""
    )
    given = fleet.page.evaluate("() => JSON.parse(document.querySelector('#latency figure').dataset.points).length")
    assert [name for name, *_ in drawn] == ["line p99", "line p95", "line p50"]
    assert given > 60
    for _, points, width, length, stroke in drawn:
        assert points == given
        assert width > 800
        assert length >= width
        assert stroke not in ("none", "rgb(0, 0, 0)")
    assert len({stroke for *_, stroke in drawn}) == 3


def test_a_tile_leads_to_its_filter(fleet: Seen) -> None:
    fleet.page.click(".statuses a.offline")
    fleet.page.wait_for_url("**status=offline**")
    assert fleet.page.locator(".devices tbody tr").count() == 1
    assert fleet.page.locator(".devices tbody").inner_text().startswith("phone-07")
    fleet.page.click("text=Clear")
    expect(fleet.page.locator(".devices tbody tr")).to_have_count(9)
    assert "status=offline" not in fleet.page.url


def test_selector_and_time_stand_in_the_address(fleet: Seen) -> None:
    fleet.page.fill("input[name=l]", "site=oslo")
    fleet.page.press("input[name=l]", "Enter")
    fleet.page.wait_for_url("**l=site%3Doslo**")
    assert fleet.page.locator(".devices tbody tr").count() == 3
    fleet.page.select_option("select[name=since]", "1h")
    fleet.page.wait_for_url("**since=1h**")
    assert "l=site%3Doslo" in fleet.page.url
    assert fleet.page.input_value("input[name=l]") == "site=oslo"


def test_the_crosshair_says_the_values(fleet: Seen) -> None:
    box = fleet.page.locator("#latency figure").bounding_box()
    assert box is not None
    fleet.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(fleet.page.locator("#latency .tip")).to_contain_text("UTC")
    assert fleet.text("#latency .tip").count(" ms") == 3
    fleet.page.mouse.move(5, 5)
    expect(fleet.page.locator("#latency .tip")).to_be_hidden()


def test_dragging_over_a_chart_chooses_the_time(fleet: Seen) -> None:
    fleet.page.locator("#traffic").scroll_into_view_if_needed()
    box = fleet.page.locator("#traffic figure").bounding_box()
    assert box is not None
    y = box["y"] + 80
    fleet.page.mouse.move(box["x"] + box["width"] * 0.4, y)
    fleet.page.mouse.down()
    fleet.page.mouse.move(box["x"] + box["width"] * 0.6, y)
    fleet.page.mouse.up()
    fleet.page.wait_for_url("**until=**")
    assert fleet.page.locator(".devices tbody tr").count() == 9


def test_fresh_data_comes_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    with FleetStore.open(tmp_path / "f.db") as store, running(store, SETTINGS) as at:
        store.save_device(Device("pi", "raspberry-pi-5"))
        context = browser.new_context()
        context.add_init_script("const old = window.setInterval; window.setInterval = (f) => old(f, 200);")
        seen = Seen(context.new_page())
        seen.page.goto(at.url)
        assert "never" in seen.text(".devices tbody")
        now = store.now()
        ingest(store, "pi", SimulatedDevice("pi").windows(now - 600, now), Contact(now, now))
        store.record_contact("pi", status={"state": "serving"})
        seen.page.wait_for_selector(".statuses a.online b:text('1')")
        assert "just now" in seen.text(".devices tbody") or " s ago" in seen.text(".devices tbody")
        assert seen.complaints == []
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", ["", "devices/pi-archive"])
def test_both_themes_fit_desk_and_phone(browser: Browser, at: Listening, path: str, width: int, scheme: str) -> None:
    seen = look(browser, at.url + path, width=width, scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(_CUT) == []
    background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(n) for n in background[4:-1].split(",")) < 150) is (scheme == "dark")
    assert seen.page.evaluate(_FAINT) == []
    shown = seen.page.locator("#latency svg.narrow").is_visible(), seen.page.locator("#latency svg.wide").is_visible()
    assert shown == (width == 390, width == 1280)
    assert seen.complaints == []
    seen.page.context.close()


def test_a_device_page_shows_the_models_health_and_the_trail(browser: Browser, at: Listening) -> None:
    seen = look(browser, at.url + "devices/pi-archive?since=6h")
    health = seen.text("#model-health")
    assert health.startswith("Model health ○ too few samples")
    assert "too few to judge, 500 are needed" in health
    colours = seen.page.evaluate("""() => [getComputedStyle(document.querySelector('#model-health .badge')).color,
        getComputedStyle(document.querySelector('.badge.online')).color]""")
    assert colours[0] != colours[1]  # grey, not green
    assert "deploy.good" in seen.text("#audit")
    assert "temperature" in seen.text("#sensors")
    assert seen.page.locator("#latency svg.wide rect.gap").count() >= 1
    assert seen.complaints == []
    seen.page.context.close()


def test_a_script_from_a_device_does_not_run(browser: Browser, tmp_path: Path) -> None:
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    with FleetStore.open(tmp_path / "f.db") as store, running(store, SETTINGS) as at:
        store.save_device(Device("pi", "raspberry-pi-5", labels={"site": evil}))
        now = store.now()
        told = window(1, start=now - 60, classes={evil[:64]: 4}, events=({"kind": "boot", "text": evil},))
        ingest(store, "pi", [told], Contact(now, now))
        store.record_contact("pi", error=evil)
        for path in ("", "devices/pi"):
            seen = look(browser, at.url + path)
            assert "owned" not in seen.page.title()
            assert evil in seen.text("main")
            assert seen.complaints == []
            seen.page.context.close()


def test_a_locked_dashboard_opens_with_its_address(browser: Browser, store: FleetStore) -> None:
    with running(store, SETTINGS, token="correct-horse") as at:
        seen = look(browser, at.url)
        assert seen.page.locator(".devices tbody tr").count() == 9
        assert "token" not in seen.page.url
        other = browser.new_context().new_page()
        answer = other.goto(at.url.partition("?")[0])
        assert answer is not None
        assert answer.status == 401
        assert seen.complaints == []
        seen.page.context.close()
        other.context.close()


#: Texts of charts that are cut off at the edge of their drawing.
_CUT = """() => [...document.querySelectorAll('.chart svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(t => {
    const b = t.getBoundingClientRect();
    return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1;
  }).map(t => t.textContent);
})"""

#: Texts with a contrast below 4.5 to 1 (WCAG AA) against the nearest background.
_FAINT = """() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const linear = (v) => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map(linear);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > .9) return c; } return [255, 255, 255, 1]; };
  const faint = [];
  for (const e of document.querySelectorAll('main *')) {
    if (e.closest('svg') || !e.offsetParent || e.tagName === 'OPTION') continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push(`${e.className || e.tagName}: ${e.textContent.trim().slice(0, 30)}`);
  }
  return [...new Set(faint)];
}"""
