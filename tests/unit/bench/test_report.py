"""The report says what the records say, runs nothing, loads nothing, and shows outside text as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgeship.bench import charts, report
from edgeship.bench.charts import Axis
from edgeship.bench.record import Identity, Memory, Place
from tests.simulators.bench import latencies, record


class Page(HTMLParser):
    """Tags and their attributes, and that every tag is closed."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


RECORDS = [
    record("pi"),
    record("orin", samples=latencies(median=240.0, seed=2), identity=Identity("digits", "onnx", "int8")),
    record("phone", samples=latencies(100, seed=3), memory=Memory(), quality=None),
]


def test_the_page_loads_and_runs_nothing() -> None:
    page = Page(report.html(RECORDS))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form"}
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    attributes = {name for _, given in page.tags for name in given}
    assert not attributes & {"src", "href", "style"}
    assert not [name for name in attributes if name.startswith("on")]


def test_the_page_has_a_chart_of_each_kind_and_one_run_chart_a_record() -> None:
    labels = [a["aria-label"] or "" for t, a in Page(report.html(RECORDS)).tags if t == "svg" and "aria-label" in a]
    assert labels == [
        "Median latency with its interval", "Speed beside size", "Share of runs that took at most so long",
        *(f"Latency in run order, {r.title}" for r in RECORDS),
    ]  # fmt: skip


def test_one_record_is_compared_with_nothing() -> None:
    text = report.html(RECORDS[:1])
    assert "Against" not in text
    assert "1 measurement ·" in text


def test_what_a_device_wrote_stays_text() -> None:
    evil = '<script>alert(1)</script>"><img src=x>'
    nasty = record(evil, place=Place(evil, kernel=evil, board=evil), warnings=(evil,))
    page = Page(report.html([nasty, record("pi")]))
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert "<script" not in report.markdown([nasty])


def test_a_missing_percentile_says_why() -> None:
    text = report.html([RECORDS[2]])
    assert "needs at least 368 runs, there are 100" in text


def test_comparison_claims_a_difference_only_where_the_interval_shows_one() -> None:
    slower, same = report.compared([record("a"), RECORDS[1], record("b", samples=latencies(seed=9))])
    assert slower["says"].startswith("slower: takes 2.4")
    assert same["says"] == "no difference is proven"
    faster = report.compared([RECORDS[1], record("a")])[0]
    assert faster["says"].startswith("faster")
    assert report.compared([record()]) == []


@pytest.mark.parametrize(
    ("budget", "n", "word"),
    [
        (None, 512, None),
        (200.0, 512, "within"),
        (50.0, 512, "over"),
        (110.0, 512, "not proven"),
        (200.0, 20, "not proven"),
    ],
)
def test_the_interval_decides_about_the_budget(budget: float | None, n: int, word: str | None) -> None:
    found = report.verdict(record(samples=latencies(n), budget_p95_us=budget))
    assert (found.word if found else None) == word
    if found is not None:
        assert found.word in report.html([record(samples=latencies(n), budget_p95_us=budget)])


def test_the_line_for_a_terminal() -> None:
    assert re.fullmatch(r"p50 100 µs  p95 10\d µs  \(n=512, ±0\.\d %\)", report.line(record()))
    assert "p95" not in report.line(record(samples=latencies(20)))


def test_the_table_for_a_pull_request() -> None:
    text = report.markdown([record("pi", warnings=("hot | and slow",)), RECORDS[1]])
    lines = text.splitlines()
    assert lines[0].startswith("| target | model | median |")
    assert len({line.count(" | ") for line in lines[:4] if line.startswith("| ")}) == 1
    assert "- pi · tflite int8: hot \\| and slow" in text
    assert "- orin · onnx int8 against pi · tflite int8: 2.4" in text
    assert "budget" not in lines[0]  # a column that says nothing is left out


def test_unknown_facts_are_left_out() -> None:
    bare = replace(record(place=Place("sim"), quality=None, load_us=None, cpu_seconds=None))
    names = {name for _, rows in report.facts(bare) for name, _ in rows}
    assert "board" not in names
    assert "load" not in names
    assert {"frequency governor", "energy", "runs"} <= names
    assert "Quality" not in [title for title, _ in report.facts(bare)]


def test_charts_hold_extreme_series() -> None:
    for samples in ([5.0], [5.0] * 300, [0.4, 9e6] * 50, latencies(40_000), [0.0] * 10):
        one = record(samples=samples)
        for text in (charts.ecdf([one]), charts.run_order(one), charts.medians([one]), charts.bars([one])):
            assert "nan" not in text
            assert "inf" not in text.replace("informat", "")
            assert len(text) < 400_000


def test_far_outliers_are_drawn_at_the_edge_and_counted() -> None:
    text = charts.run_order(record(samples=[*latencies(200), 90_000.0]))
    assert "1 above the axis" in text
    assert "run 201: 90.0 ms" in text


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 10, 0, 100), [0, 2, 4, 6, 8, 10]),
        (Axis(90, 145, 0, 100), [90, 100, 110, 120, 130, 140]),
        (Axis(5, 5, 0, 100), [5]),
        (Axis(0.8, 30, 0, 100, log=True), [1, 2, 5, 10, 20]),
        (Axis(1, 1e6, 0, 100, log=True), [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
    ],
)
def test_ticks_are_round_values(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)
