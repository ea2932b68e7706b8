"""Windows lie on the host's time axis, whatever the device's clock believes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgeship.fleet.timeline import MAX_AGE, MAX_LENGTH, Contact, place
from edgeship.runtime.window import Window
from tests.simulators.telemetry import window

HOST = 1_800_000_000.0
YEAR = 365.25 * 86_400


def clocked(
    seq: int, *, ahead: float = 0.0, boot: str = "boot-a", mono: float | None = None, end: float = HOST
) -> Window:
    """A window of one minute that truly ended at `end`, told by a clock that is `ahead`."""
    at = mono if mono is not None else seq * 60.0
    return window(seq, boot=boot, mono_start=at - 60, mono_end=at, wall_end=end + ahead)


def test_a_right_clock_is_taken_as_it_is() -> None:
    placed = place([clocked(1, end=HOST - 90), clocked(2, end=HOST - 30)], Contact(HOST, HOST))
    assert [(p.start, p.end) for p in placed] == [(HOST - 150, HOST - 90), (HOST - 90, HOST - 30)]


def test_a_clock_far_in_the_past_is_moved_by_what_the_contact_showed() -> None:
    behind = -55 * YEAR  # a board without a clock battery: 1970
    placed = place([clocked(1, ahead=behind, end=HOST - 30)], Contact(HOST, HOST + behind))
    assert placed[0].end == HOST - 30


def test_a_clock_far_in_the_future_is_moved_by_what_the_contact_showed() -> None:
    placed = place([clocked(1, ahead=10 * YEAR, end=HOST - 30)], Contact(HOST, HOST + 10 * YEAR))
    assert placed[0].end == HOST - 30


def test_the_future_is_never_believed_even_when_the_device_tells_no_clock() -> None:
    placed = place([clocked(1, ahead=YEAR), clocked(2, ahead=YEAR)], Contact(HOST))
    assert placed[-1].end == HOST
    assert placed[0].end == placed[1].start == HOST - 60


def test_the_running_boot_is_placed_by_its_monotonic_clock_alone() -> None:
    lies = [clocked(1, ahead=-YEAR), clocked(2, ahead=YEAR)]
    placed = place(lies, Contact(HOST, HOST + 3, boot="boot-a", mono=500.0))
    assert [p.end for p in placed] == [HOST - 440, HOST - 380]


def test_a_clock_that_jumped_in_mid_boot_keeps_the_distances() -> None:
    jumped = [clocked(1, ahead=-YEAR, end=HOST - 120), clocked(2, end=HOST - 60), clocked(3, end=HOST)]
    placed = place(jumped, Contact(HOST, HOST))
    assert [p.end for p in placed] == [HOST - 120, HOST - 60, HOST]


def test_an_earlier_boot_ends_before_the_next_one_begins() -> None:
    first = clocked(7, boot="boot-a", mono=9000, end=HOST, ahead=3600)  # believes to have ended in an hour
    second = clocked(8, boot="boot-b", mono=100, end=HOST - 10)
    placed = place([first, second], Contact(HOST, HOST))
    assert placed[0].end == placed[1].start == HOST - 70


def test_an_earlier_boot_of_1970_is_put_before_the_next_one() -> None:
    first = clocked(7, boot="boot-a", mono=9000, end=100.0)
    second = clocked(8, boot="boot-b", mono=100, end=HOST)
    assert place([first, second], Contact(HOST, HOST))[0].end == HOST - 60


def test_nothing_begins_before_the_stored_window_ended() -> None:
    placed = place([clocked(2, end=HOST - 30)], Contact(HOST, HOST), floor=HOST - 50)
    assert (placed[0].start, placed[0].end) == (HOST - 50, HOST - 30)


def test_a_window_that_fills_a_gap_ends_before_what_follows() -> None:
    placed = place([clocked(2, end=HOST)], Contact(HOST, HOST), floor=HOST - 500, ceiling=HOST - 300)
    assert (placed[0].start, placed[0].end) == (HOST - 360, HOST - 300)


def test_a_window_of_absurd_length_counts_as_a_day() -> None:
    long = window(1, mono_start=0, mono_end=1e12, wall_end=HOST)
    placed = place([long], Contact(HOST, HOST))
    assert placed[0].end - placed[0].start <= MAX_LENGTH


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["boot-a", "boot-b", "boot-c"]), st.floats(-1e15, 1e15), st.floats(0, 1e15),
            st.floats(-1e15, 1e15),
        ),
        min_size=1, max_size=12,
    ),
    st.none() | st.floats(-1e15, 1e15), st.none() | st.floats(-1e15, 1e15),
    st.none() | st.floats(HOST - YEAR, HOST + YEAR),
)  # fmt: skip
def test_whatever_a_device_claims_order_and_bounds_hold(
    lies: list[tuple[str, float, float, float]], clock: float | None, mono: float | None, floor: float | None
) -> None:
    windows = [
        window(i + 1, boot=boot, mono_start=start, mono_end=start + length, wall_end=wall)
        for i, (boot, start, length, wall) in enumerate(lies)
    ]
    placed = place(windows, Contact(HOST, clock, "boot-a", mono), floor=floor)
    assert [p.window.seq for p in placed] == [w.seq for w in windows]
    assert all(HOST - MAX_AGE <= p.start <= p.end <= HOST for p in placed)
    assert all(a.end <= b.start for a, b in pairwise(placed))
    assert floor is None or placed[0].start >= min(floor, HOST)
