"""The Pareto front, the pick, the nearest miss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeship.optimize.gate import GateVerdict
from edgeship.optimize.quality import PartDrop, gated
from edgeship.optimize.search.pick import Budget, Row, choose, front, misses
from tests.simulators.searched import Limits, row

PI = ("int8", "float16", "float32")
FORMATS = ("tflite", "onnx")


def test_the_fastest_within_the_budget_is_picked_where_it_was_timed_on_that_architecture() -> None:
    rows = [row("tflite int8", us=300), row("tflite float32", us=100, size=4000), row("onnx int8", us=50, lost=20)]
    picked = choose(rows, Budget(), arch="x86_64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[1]
    assert picked.reason.startswith("fastest of 2 within the budget: median 100 µs on host")


def test_equally_fast_ones_are_decided_by_the_profiles_orders_of_precisions_and_formats() -> None:
    rows = [row("tflite float32", us=100, size=4000), row("onnx int8", us=101, size=990), row("tflite int8", us=101)]
    picked = choose(rows, Budget(), arch="x86_64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[2]
    assert picked.reason.endswith(
        "3 are as fast, of them the first in the profile's order of precisions (int8, float16, float32), "
        "then the first in the order of formats (tflite, onnx)"
    )


def test_a_file_that_is_some_bytes_smaller_does_not_bring_another_runtime_library() -> None:
    rows = [row("onnx int8 percentile", size=990), row("tflite int8 percentile", us=10)]
    picked = choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[1]
    assert picked.reason.startswith("of 2 within the budget, the first in the order of formats (tflite, onnx); the lat")


def test_only_what_decided_is_given_as_the_reason() -> None:
    rows = [row("tflite dynamic", size=900), row("tflite int8-weights", size=800)]
    picked = choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[1]
    assert picked.reason == "of 2 within the budget, the smallest"
    alone = choose(rows[:1], Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert alone.reason == "it meets the budget"
    other = row("tflite int8", lost=90)
    one = choose([rows[0], other], Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert one.reason == "of 2 the only one within the budget"


def test_a_limit_that_was_held_by_another_architecture_is_said() -> None:
    rows = [row("tflite int8", us=10)]
    found = choose(rows, Budget(max_latency_us=100.0), arch="aarch64", precisions=PI, formats=FORMATS)
    assert "the latencies, and so what was held against the limit, are of x86_64, not of the board" in found.reason


def test_what_was_not_measured_is_never_the_nearest_to_what_was() -> None:
    far, unknown = row("tflite int8", us=9000), row("tflite int16x8", size=10)
    found = choose([unknown, far], Budget(max_latency_us=1.0), arch="x86_64", precisions=PI, formats=FORMATS)
    assert found.nearest is far


def test_what_is_only_not_proven_is_nearer_than_what_is_measured_above_the_limit() -> None:
    rows = [row("tflite int8", lost=11), row("tflite float32", lost=9, size=4000)]
    found = choose(rows, Budget(strict=True), arch="x86_64", precisions=PI, formats=FORMATS)
    assert found.nearest is rows[1]
    assert "its loss is within the limit but not proven, that needs n ≥ " in found.reason


@pytest.mark.parametrize(
    ("one", "budget", "said"),
    [
        (row("tflite int8", lost=17, n=8000), Budget(max_drop=0.2), "0.21 points lost, 0.2 allowed"),
        (row("tflite int8", size=4_000_400), Budget(max_bytes=4_000_000), "400 B above the 4.00 MB allowed"),
        (
            row("tflite int8", us=16_667.5),
            Budget(max_latency_us=20_000.0),
            "p95 1.00 µs above the 20.0 ms allowed on host",
        ),
    ],
)
def test_a_miss_never_reads_as_if_it_held(one: Row, budget: Budget, said: str) -> None:
    one = replace(one, verdict=replace(one.verdict, passed=one.verdict.drop <= budget.max_drop))
    assert [miss.text for miss in misses(one, budget)] == [said]


def test_of_equally_fast_ones_the_profiles_order_comes_before_size() -> None:
    rows = [row("tflite float16", us=100, size=500), row("tflite int8", us=101, size=900)]
    assert choose(rows, Budget(), arch="x86_64", precisions=PI, formats=FORMATS).row is rows[1]


def test_a_precision_that_the_profile_does_not_list_comes_last() -> None:
    rows = [row("tflite dynamic", size=500), row("tflite float32", size=4000)]
    assert choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS).row is rows[1]


def test_of_equal_size_the_one_that_loses_less_is_picked() -> None:
    rows = [row("tflite int8", lost=4), row("tflite int8 mse", lost=2)]
    assert choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS).row is rows[1]


def test_a_limit_is_met_where_it_is_reached_and_latency_is_that_of_the_tail() -> None:
    one = row("tflite int8", size=1000, us=100)
    assert misses(one, Budget(max_bytes=1000, max_latency_us=120)) == []
    assert [m.text for m in misses(one, Budget(max_bytes=999))] == ["1.00 kB of 999 B allowed"]
    (miss,) = misses(one, Budget(max_latency_us=110))
    assert miss.text == "p95 120 µs of 110 µs allowed on host"


def test_latency_of_another_architecture_does_not_decide_and_that_is_said() -> None:
    rows = [row("tflite float32", us=10, size=4000), row("tflite int8", us=100)]
    picked = choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[1]
    assert "the latencies are of x86_64, not of the board: --on DEVICE measures there" in picked.reason


def test_on_the_device_that_was_asked_for_latency_decides_and_another_architecture_is_said() -> None:
    rows = [row("tflite float32", us=10, size=4000), row("tflite int8", us=100)]
    there = [replace(r, latency=replace(r.latency, place="pi")) for r in rows if r.latency is not None]
    picked = choose(there, Budget(), arch="aarch64", precisions=PI, formats=FORMATS)
    assert picked.row is there[0]
    assert picked.reason == (
        "fastest of 2 within the budget: median 10.0 µs on pi, which is x86_64 and not aarch64 as its profile says"
    )


def test_one_that_could_not_be_timed_is_not_counted_as_slower() -> None:
    rows = [row("tflite int8", us=100), row("tflite float32", us=200, size=4000), row("onnx int8")]
    rows[2] = replace(rows[2], latency=None, untimed="the device went away")
    picked = choose(rows, Budget(), arch="x86_64", precisions=PI, formats=FORMATS)
    assert picked.row is rows[0]
    assert picked.reason.startswith("fastest of 2 timed within the budget: median 100 µs on host")


def test_fewer_layers_in_float_come_first() -> None:
    rows = [row("tflite int8", keep=("a", "b")), row("tflite int8", keep=("a",), size=1200)]
    assert choose(rows, Budget(), arch="aarch64", precisions=PI, formats=FORMATS).row is rows[1]


def test_a_loss_that_is_not_proven_is_said_and_with_strict_a_miss() -> None:
    one = row("tflite int8", lost=8)
    assert one.verdict.passed
    assert not one.verdict.proven
    assert (
        "within the limit but not proven, that needs n ≥"
        in choose([one], Budget(), arch="a", precisions=PI, formats=FORMATS).reason
    )
    assert choose([one], Budget(strict=True), arch="a", precisions=PI, formats=FORMATS).row is None


def test_it_is_said_whether_the_whole_or_a_part_is_not_proven() -> None:
    one = row("tflite int8")
    part = PartDrop("class", "6", 30, 1.0, 0.95, 5.0, (0.0, 12.0), lost=1)
    opened = replace(one, verdict=replace(one.verdict, proven=False, needs_n=1430, worst_class=part))
    [miss] = misses(opened, Budget(strict=True))
    assert miss.text == (
        "its whole loss is proven, that of a class is within the limit but not proven, that needs n ≥ 1,430"
    )


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_bytes=500), "1.00 kB of 500 B allowed"),
        (Budget(max_latency_us=100.0), "p95 360 µs of 100 µs allowed on host"),
        (Budget(), "2.0 points lost, 1.0 allowed"),
    ],
)
def test_the_nearest_miss_is_named_with_what_it_breaks(budget: Budget, said: str) -> None:
    near = row("tflite int8", us=300, lost=20 if budget == Budget() else 0)
    far = row("tflite float32", us=9000, size=90_000, lost=500)
    found = choose([far, near], budget, arch="x86_64", precisions=PI, formats=FORMATS)
    assert found.row is None
    assert found.nearest is near
    assert found.reason == f"no candidate meets the budget; tflite int8 comes nearest: {said}"


def test_a_class_that_loses_too_much_is_named() -> None:
    limits = Limits(max_drop=50.0, max_class_drop=0.5)
    one = row("tflite int8", lost=10, limits=limits)
    [miss] = misses(one, Budget(max_drop=50.0, max_class_drop=0.5))
    assert miss.text == '1.0 points lost in class "0", 0.5 allowed'


def test_a_slice_that_loses_too_much_is_named() -> None:
    one = row("tflite int8", lost=10)
    dusk = PartDrop("slice", "dusk", 100, 1.0, 0.9, 10.0, (5.0, 17.0), lost=10)
    broken = replace(one, verdict=replace(one.verdict, passed=False, worst_slice=dusk))
    [miss] = misses(broken, Budget(max_slice_drop=4.0))
    assert miss.text == '10.0 points lost in slice "dusk", 4.0 allowed'
    [miss] = misses(broken, Budget(max_class_drop=8.0))
    assert miss.text == '10.0 points lost in slice "dusk", 8.0 allowed'


def test_a_class_of_few_samples_that_fails_all_the_same_is_named() -> None:
    one = row("tflite int8")
    rare = PartDrop("class", "rare", 9, 1.0, 0.0, 100.0, (66.0, 100.0), lost=9, few=True)
    [miss] = misses(replace(one, verdict=replace(one.verdict, passed=False, worst_class=rare)), Budget())
    assert miss.text == '100.0 points lost in class "rare", 5.0 allowed'
    assert miss.excess > 1


def test_what_the_gate_refuses_says_so_first() -> None:
    one = row("tflite int8")
    refused = GateVerdict("quantization", False, (), (), 3, 100, "scores, column 1: SQNR 0.1 dB")
    [miss] = misses(replace(one, verdict=gated(one.verdict, refused)), Budget())
    assert miss.text == "it computes something else: scores, column 1: SQNR 0.1 dB"
    assert miss.excess >= 1


def test_a_latency_that_was_not_measured_does_not_meet_a_limit() -> None:
    one = row("tflite int16x8")
    [miss] = misses(one, Budget(max_latency_us=1e6))
    assert miss.text == "its latency is not known: not timed"


def test_the_front_holds_what_nothing_else_beats() -> None:
    small, exact = row("tflite int8", lost=5, size=100, us=50), row("tflite float32", size=400, us=90)
    slow, equal = row("onnx int8", lost=5, size=100, us=60), row("onnx float32", size=400, us=90)
    assert front([small, exact, slow, equal]) == [small, exact, equal]


def test_gains_do_not_count_as_better_and_rows_without_latency_compare_by_the_rest() -> None:
    one, other = row("tflite int8", size=100), row("tflite float32", size=400)
    assert front([one, other]) == [one]
    gained = replace(other, verdict=replace(other.verdict, drop=-1.0))
    assert front([one, gained]) == [one]


def test_nothing_built_is_nothing_picked() -> None:
    assert choose([], Budget(), arch="a", precisions=PI, formats=FORMATS).reason == "no candidate could be built"
