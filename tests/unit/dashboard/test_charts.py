"""Series become geometry: nothing is bridged that was not measured."""

import json

import pytest

from edgeship.dashboard import measures, text
from edgeship.dashboard.charts import NARROW, WIDE, Chart, Limit, Mark, Measure, chart, scale, sparkline
from edgeship.fleet.audit import Entry
from edgeship.fleet.histogram import Histogram
from edgeship.fleet.query import Point, Span
from edgeship.fleet.summary import Summary
from edgeship.runtime.window import bucket_of

OF = Span(0, 6000)


def point(start: float, milliseconds: float | None = 1.0, step: float = 60) -> Point:
    counts = Histogram({bucket_of(milliseconds * 1000): 10}) if milliseconds else Histogram()
    summary = Summary(
        first=start, last=start + step, windows=1, seconds=step, ok=10 if milliseconds else 0, latency=counts
    )
    return Point(start, step, summary)


def made(
    points: list[Point], gaps: list[Span] | None = None, marks: list[Mark] | None = None, limit: Limit | None = None
) -> Chart:
    p95 = Measure("p95", "p95", lambda p: p.summary.latency.quantile(0.95))
    return chart(
        "Latency", OF, points, [p95], text.latency, text.latency_axis, gaps=gaps or [], marks=marks or [], limit=limit
    )


@pytest.mark.parametrize(
    ("highest", "top", "step"),
    [(0, 1, 1), (1, 1, 0.25 * 1), (0.038, 0.04, 0.01), (7.2, 8, 2), (101, 125, 25 + 0), (1000, 1000, 250), (3, 3, 1)],
)
def test_scales_are_round_and_cover_everything(highest: float, top: float, step: float) -> None:
    found_top, found_step = scale(highest)
    assert found_top >= highest
    assert found_top / found_step == pytest.approx(round(found_top / found_step))
    assert 1 <= found_top / found_step <= 5
    assert found_top <= max(1.0, 1.6 * highest)


def test_a_line_goes_through_every_point() -> None:
    drawing = made([point(0), point(60), point(120)]).drawings[0]
    assert drawing.lines[0].path.count("L") == 2
    assert drawing.lines[0].dots == ()


def test_a_gap_breaks_the_line_and_is_shaded() -> None:
    points = [point(0), point(60), point(600), point(660), point(3000)]
    drawing = made(points, gaps=[Span(120, 600), Span(720, 3000)]).drawings[0]
    (line,) = drawing.lines
    assert line.path.count("M") == 2
    assert len(line.dots) == 1
    wanted = [WIDE.plot_width * seconds / 6000 for seconds in (480, 2280)]
    assert [width for _, width in drawing.gaps] == pytest.approx(wanted, abs=0.2)


def test_a_step_without_a_value_breaks_the_line() -> None:
    drawing = made([point(0), point(60), point(120, None), point(180), point(240)]).drawings[0]
    assert drawing.lines[0].path.count("M") == 2


def test_everything_stays_inside_the_frame() -> None:
    built = made(
        [point(-500, 5.0), point(9000, 9.0)], marks=[Mark(-5, "a", ""), Mark(10, "b", ""), Mark(7000, "c", "")]
    )
    for drawing in built.drawings:
        frame = drawing.frame
        numbers = [float(n) for n in drawing.lines[0].path.replace("M", " ").replace("L", " ").split()]
        assert all(frame.left <= x <= frame.width - frame.right for x in numbers[::2])
        assert all(frame.top <= y <= frame.height - frame.bottom for y in numbers[1::2])
        assert [label for _, label, _ in drawing.marks] == ["b"]


def test_labels_that_would_run_into_each_other_are_left_out() -> None:
    marks = [Mark(100, "#1", "one"), Mark(101, "#2", "two"), Mark(3000, "#3", "three")]
    drawn = made([point(0), point(60)], marks=marks).drawings[0].marks
    assert [(label, title) for _, label, title in drawn] == [("#1", "one"), ("", "two"), ("#3", "three")]


def test_a_limit_far_above_is_left_out() -> None:
    points = [point(0, 1.0), point(60, 1.0)]
    assert made(points, limit=Limit(0.002, "budget")).drawings[0].limit is not None
    assert made(points, limit=Limit(0.5, "budget")).drawings[0].limit is None
    assert made([], limit=Limit(0.5, "budget")).drawings[0].limit is not None


def test_an_empty_chart_says_so() -> None:
    assert made([]).empty
    assert made([point(0, None)]).empty
    assert not made([point(0)]).empty


def test_the_crosshair_gets_every_point_as_text() -> None:
    records = json.loads(made([point(0, 3.0), point(3000, None)]).points)
    assert records == [[0.005, "1970-01-01 00:00 UTC", ["3.01 ms"]], [0.505, "1970-01-01 00:50 UTC", ["–"]]]


def test_labels_at_the_ends_of_lines_keep_a_distance() -> None:
    built = measures.latency(OF, [point(0), point(60)], [], None)
    for drawing in built.drawings:
        ends = {line.key: line.label_y for line in drawing.lines}
        assert ends["p99"] is not None
        assert ends["p95"] is not None
        assert ends["p50"] is not None
        assert ends["p99"] + 13 < ends["p95"] < ends["p50"] - 13
        assert ends["p50"] <= drawing.frame.height - drawing.frame.bottom


def test_time_ticks_fit_the_width() -> None:
    for seconds in (30, 900, 3600, 86_400, 30 * 86_400, 3650 * 86_400):
        of = Span(1e9, 1e9 + seconds)
        built = chart("x", of, [], [], text.latency, text.latency_axis)
        assert len(built.drawings[0].x_ticks) <= max(WIDE.time_ticks, seconds / 2_592_000) + 1
        assert NARROW.time_ticks < WIDE.time_ticks


def test_small_lines() -> None:
    assert sparkline([1.0, None, 2.0, 3.0]).count("M") == 1
    assert sparkline([1.0, 2.0, None, 3.0, 2.0]).count("M") == 2
    assert sparkline([None, 1.0]) == sparkline([]) == ""
    assert sparkline([5.0, 5.0], from_zero=False) == "M0 11L96 11"
    assert sparkline([0.0, 0.0]) == "M0 11L96 11"
    assert sparkline([0.0, 5.0]) == "M0 20L96 2"


def test_a_rate_of_too_short_a_time_is_none() -> None:
    short = Point(0, 600, Summary(first=0, last=60, ok=5, windows=1, seconds=60))
    assert measures.TRAFFIC[0].value(short) is None
    assert measures.TRAFFIC[0].value(point(0)) == pytest.approx(10 / 60)


def entry(at: float, subject: str, action: str, counter: int | None) -> Entry:
    detail = {"model": "digits", "counter": counter} if counter else {}
    return Entry(1, at, "me", action, subject, detail, "", "")


def test_one_mark_a_release_where_it_began() -> None:
    entries = [
        entry(300, "b", "deploy.good", 2), entry(200, "a", "deploy.good", 2), entry(100, "a", "deploy.good", 1),
        entry(400, "a", "deploy.failed", 3), entry(50, "other", "deploy.good", 1), entry(60, "a", "deploy.good", None),
    ]  # fmt: skip
    marks = measures.deployment_marks(entries, {"a", "b"})
    assert [(m.at, m.label) for m in marks] == [(100, "#1"), (200, "#2"), (400, "✕ #3")]
    assert marks[1].title.startswith("digits #2 deployed to 2 devices")
    assert marks[2].title.startswith("digits #3 refused by a")
