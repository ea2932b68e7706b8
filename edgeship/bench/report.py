"""The report of benchmark records: what it says, as data; then as HTML (one file, no script) and Markdown.

The HTML carries a content security policy that allows its own style sheet and nothing else: it loads nothing, runs
nothing, and whatever a device wrote into a record stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeship import __version__
from edgeship.bench import charts, statistics, units
from edgeship.bench.record import Place, Record


@dataclass(frozen=True)
class Verdict:
    """Against the budget of the release: p95 on this target."""

    word: str  # within | over | not proven
    text: str


def verdict(record: Record) -> Verdict | None:
    """How p95 stands to the budget; None where there is no budget. The interval decides, not the point."""
    budget = record.budget_p95_us
    if budget is None:
        return None
    p95 = next(p for p in record.summary.percentiles if p.percent == 95.0)
    if p95.value is None or p95.interval is None:
        return Verdict("not proven", f"p95 is not known: {p95.reason}")
    shown = f"p95 {units.time(p95.value)} of {units.time(budget)} allowed"
    if p95.interval.high <= budget:
        return Verdict("within", shown)
    if p95.interval.low > budget:
        return Verdict("over", shown)
    return Verdict("not proven", f"{shown}, and the interval reaches over it; more runs")


def line(record: Record) -> str:
    """One line for a terminal: `p50 0.41 ms  p95 0.46 ms  (n=512, ±1.3 %)`."""
    summary = record.summary
    parts = [f"p50 {units.time(summary.median)}"]
    p95 = summary.percentile(95.0)
    if p95 is not None:
        parts.append(f"p95 {units.time(p95)}")
    half = units.percent(summary.interval.half_width_of(summary.median))
    return "  ".join([*parts, f"(n={summary.n:,}, ±{half})"])


def row(record: Record) -> dict[str, str]:
    """One row of the table, by column title."""
    summary, quality = record.summary, record.quality
    found = verdict(record)
    return {
        "target": record.place.name,
        "model": f"{record.identity.model} · {record.identity.format} {record.identity.precision}",
        "median": units.time(summary.median),
        "95 % interval": units.interval(summary.interval.low, summary.interval.high),
        "p95": units.time(summary.percentile(95.0)),
        "p99": units.time(summary.percentile(99.0)),
        "n": f"{summary.n:,}",
        "PSS": units.size(record.memory.pss_bytes),
        "model file": units.size(record.identity.bytes),
        "quality": units.DASH if quality is None else f"{quality.metric} {units.percent(quality.variant_value)}",
        "budget": units.DASH if found is None else found.word,
    }


def table(records: Sequence[Record]) -> list[dict[str, str]]:
    """The rows of all records; a column that says nothing of any is left out."""
    rows = [row(record) for record in records]
    kept = [column for column in rows[0] if any(r[column] != units.DASH for r in rows)]
    return [{column: r[column] for column in kept} for r in rows]


def compared(records: Sequence[Record]) -> list[dict[str, str]]:
    """Every record after the first against the first: ratio of medians with its interval, and what it proves."""
    if len(records) < 2:
        return []
    base = statistics.samples_of(records[0].latencies_us)
    out = []
    for record in records[1:]:
        ratio, interval = statistics.ratio_of_medians(statistics.samples_of(record.latencies_us), base)
        if interval.high < 1:
            says = f"faster: takes {units.digits(ratio)} of the time"
        elif interval.low > 1:
            says = f"slower: takes {units.digits(ratio)} times as long"
        else:
            says = "no difference is proven"
        if record.warnings or records[0].warnings:
            says += "; mind the warnings"
        out.append(
            {
                "target": record.title,
                "ratio": f"{units.digits(ratio)} ×",
                "interval": units.pair(interval.low, interval.high),
                "says": says,
            }
        )
    return out


def facts(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """The record in groups of (name, value) for people; what could not be read is left out, not guessed."""
    summary, identity, software = record.summary, record.identity, record.software
    protocol, quality = record.protocol, record.quality
    groups: list[tuple[str, list[tuple[str, str | None]]]] = [
        ("Model", [
            ("name", identity.model), ("format", identity.format), ("precision", identity.precision),
            ("file", units.size(identity.bytes)), ("sha256", identity.sha256), ("recipe", identity.recipe),
            ("release", None if identity.counter is None else f"number {identity.counter}"),
        ]),
        ("Target", _place(record.place)),
        ("Software", [
            ("runtime library", software.library), ("its sha256", software.library_sha256),
            ("threads", str(software.threads)), ("agent", software.agent), ("agent's sha256", software.agent_sha256),
            ("notes", "; ".join(software.notes) or None),
        ]),
        ("Protocol", [
            ("warm-up", f"{protocol.warmup:,} runs, not counted"),
            ("stop rule", f"{protocol.runs:,} runs, or {protocol.max_seconds:g} s"), ("input", protocol.input),
            ("timed", "one run of the model in the agent's worker, monotonic clock"),
            ("bootstrap", f"{statistics.RESAMPLES:,} resamples, seed {protocol.seed}"), ("measured at", record.created),
        ]),
        ("Results", [
            ("runs", f"{summary.n:,}"), ("load", _known(record.load_us)), ("first inference", _known(record.first_us)),
            ("mean", units.time(summary.mean)), ("standard deviation", units.time(summary.deviation)),
            ("median absolute deviation", units.time(summary.mad)),
            ("least … most", units.interval(summary.least, summary.most)),
            ("outliers", f"{summary.outliers:,} (counted, not removed)"),
            ("memory", f"{units.size(record.memory.pss_bytes)} PSS, {units.size(record.memory.rss_bytes)} RSS"),
            ("processor time", None if record.cpu_seconds is None else units.time(record.cpu_seconds * 1e6)),
            ("energy", "not measured"),
        ]),
        ("Conditions, before → after", _conditions(record)),
        ("Quality", [] if quality is None else [
            (f"{quality.metric}, float", units.percent(quality.float_value)),
            (f"{quality.metric}, {identity.precision}", units.percent(quality.variant_value)),
            ("samples", f"{quality.samples:,}"),
            ("drop, 95 %", None if quality.drop_interval is None else
             "{:+.1f} … {:+.1f} points".format(*quality.drop_interval).replace("-", "−")),
        ]),
    ]  # fmt: skip
    kept = [(title, [(k, v) for k, v in rows if v is not None]) for title, rows in groups]
    return [(title, rows) for title, rows in kept if rows]


def _known(microseconds: float | None) -> str | None:
    return None if microseconds is None else units.time(microseconds)


def _place(place: Place) -> list[tuple[str, str | None]]:
    memory = None if place.memory_bytes is None else units.size(place.memory_bytes)
    cores = None if place.cores is None else str(place.cores)
    return [
        ("name", place.name), ("profile", place.profile), ("board", place.board), ("architecture", place.arch),
        ("processor", place.cpu), ("cores", cores), ("memory", memory), ("system", place.system),
        ("kernel", place.kernel), ("Python", place.python), ("frequency governor", place.governor or "not readable"),
    ]  # fmt: skip


def _conditions(record: Record) -> list[tuple[str, str | None]]:
    def pair(name: str, unit: str, scale: float = 1.0) -> str | None:
        ends = [getattr(record.before, name), getattr(record.after, name)]
        if all(v is None for v in ends):
            return None
        return " → ".join(units.DASH if v is None else f"{v * scale:.2f}{unit}" for v in ends)

    return [
        ("load average, 1 min", pair("load1", "")),
        ("temperature", pair("temperature_celsius", " °C")),
        ("clock", pair("clock_hertz", " GHz", 1e-9)),
    ]


def html(records: Sequence[Record], *, title: str = "") -> str:
    """The report as one self-contained page.

    Args:
        records: at least one; the first is the one that the others are compared with.
        title: of the page; by default the models' names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("edgeship.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    many = len(records) > 1
    context: dict[str, Any] = {
        "title": title or " · ".join(dict.fromkeys(r.identity.model for r in records)),
        "version": __version__,
        "created": max(r.created for r in records),
        "first": records[0],
        "tiles": _tiles(records),
        "rows": table(records),
        "baseline": records[0].title,
        "comparisons": compared(records),
        # `charts` escapes every text that it draws.
        "medians": Markup(charts.medians(records)) if many else None,  # noqa: S704
        "bars": Markup(charts.bars(records)) if many else None,  # noqa: S704
        "ecdf": Markup(charts.ecdf(records)),  # noqa: S704
        "legend": [r.title for r in records] if many else [],
        "runs": [
            {
                "title": r.title,
                "verdict": verdict(r),
                "warnings": r.warnings,
                "chart": Markup(charts.run_order(r, index)),  # noqa: S704
                "percentiles": _percentiles(r),
                "groups": facts(r),
            }
            for index, r in enumerate(records)
        ],
        "warned": sum(bool(r.warnings) for r in records),
    }
    return environment.get_template("report.html.j2").render(context)


def _tiles(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """(title, figure, explanation) at the head of the page: of the only record, or of the fastest."""
    best = min(records, key=lambda r: r.summary.median)
    summary = best.summary
    whose = best.title if len(records) > 1 else ""
    half = units.percent(summary.interval.half_width_of(summary.median))
    median = f"±{half} (95 %), n = {summary.n:,}"
    tiles = [("median" if not whose else "fastest median", units.time(summary.median), whose or median)]
    p95 = next(p for p in summary.percentiles if p.percent == 95.0)
    if not whose and p95.value is not None and p95.interval is not None:
        tiles.append(("p95", units.time(p95.value), units.interval(p95.interval.low, p95.interval.high)))
    lean = min((r for r in records if r.memory.pss_bytes), key=lambda r: r.memory.pss_bytes or 0, default=None)
    if lean is not None:
        text = "PSS of the worker, model loaded" if not whose else lean.title
        tiles.append(("memory" if not whose else "least memory", units.size(lean.memory.pss_bytes), text))
    judged = [r for r in records if r.quality is not None]
    if judged:
        top = max(judged, key=lambda r: r.quality.variant_value if r.quality else 0.0)
        assert top.quality is not None
        of = f"float {units.percent(top.quality.float_value)}, n = {top.quality.samples:,}"
        tiles.append((top.quality.metric, units.percent(top.quality.variant_value), of if not whose else top.title))
    return tiles


def _percentiles(record: Record) -> list[tuple[str, str, str]]:
    """(name, value, interval or the reason for none); the median's interval is the bootstrap's, as everywhere."""
    summary = record.summary
    out = [("p50", units.time(summary.median), units.interval(summary.interval.low, summary.interval.high))]
    for p in summary.percentiles:
        if p.percent == 50.0:
            continue
        text = (p.reason or "") if p.interval is None else units.interval(p.interval.low, p.interval.high)
        out.append((f"p{p.percent:g}", units.time(p.value), text))
    return out


def markdown(records: Sequence[Record]) -> str:
    """The table for a pull request, with the comparison and the warnings."""
    rows = table(records)
    columns = list(rows[0])
    out = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    out += ["| " + " | ".join(_cell(r[c]) for c in columns) + " |" for r in rows]
    notes = [f"- {_cell(c['target'])} against {_cell(records[0].title)}: {c['ratio']} ({c['interval']}), {c['says']}"
             for c in compared(records)]  # fmt: skip
    notes += [f"- {_cell(r.title)}: {_cell(w)}" for r in records for w in r.warnings]
    return "\n".join([*out, *(["", *notes] if notes else [])]) + "\n"


def _cell(text: str) -> str:
    """Text that stays within its cell and is no markup."""
    out = text.replace("\\", "\\\\").replace("\n", " ")
    for sign in "|<`":
        out = out.replace(sign, {"|": "\\|", "<": "&lt;", "`": "\\`"}[sign])
    return out
