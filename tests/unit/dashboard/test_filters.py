"""What a page shows stands in its address."""

import pytest

from edgeship.dashboard.filters import Filter
from edgeship.errors import UsageError


def test_the_address_of_the_defaults_is_empty() -> None:
    assert Filter.parse({}).link() == "?"
    assert Filter.parse({"since": " ", "unknown": "x"}) == Filter()


def test_it_comes_back_from_its_own_link() -> None:
    wanted = Filter(l="site=berlin,name in (a,b)", since="7d", status="offline", counter="3", sort="p95", page=4)
    query = dict(pair.split("=", 1) for pair in wanted.link(page=4)[1:].split("&"))
    from urllib.parse import unquote_plus

    assert Filter.parse({k: unquote_plus(v) for k, v in query.items()}) == wanted


def test_a_changed_filter_begins_on_its_first_page() -> None:
    assert Filter(page=3, status="stale").link(status="online") == "?status=online"


def test_active() -> None:
    assert not Filter(since="7d", sort="name").active
    assert Filter(l="a").active
    assert Filter(status="online").active
    assert Filter(counter="2").active


@pytest.mark.parametrize(
    "values",
    [{"status": "fine"}, {"sort": "price"}, {"page": "x"}, {"page": "-1"}, {"page": "1" * 20}, {"counter": "²"},
     {"counter": "<b>"}, {"l": "a b c"}],
)  # fmt: skip
def test_nonsense_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Filter.parse(values)


def test_time_ranges() -> None:
    assert Filter(since="1h").span(10_000).seconds == 3600
    assert Filter(since="1970-01-01T00:00:10", until="1970-01-01T00:01:00").span(1e9).seconds == 50
    with pytest.raises(UsageError):
        Filter(since="soon").span(1e9)
