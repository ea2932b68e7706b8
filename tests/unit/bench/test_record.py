"""Records: what is saved is what is read, and nothing else is taken for a record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.bench import record as records
from edgeship.bench.record import Place, Record
from edgeship.errors import InputError
from edgeship.runtime.errors import ProtocolError
from tests.simulators.bench import record


def test_a_saved_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    whole = record(budget_p95_us=20_000.0, warnings=("hot",))
    path = records.save(whole, tmp_path / "bench")
    assert path.name == "20261122T103000Z-pi.json"
    assert records.load(path) == [whole]
    outer = json.loads(path.read_text())
    assert outer["schema"] == "edgeship.bench.run/v1"
    assert outer["data"]["runs"][0]["samples"]["latency_us"] == list(whole.latencies_us)
    assert outer["data"]["runs"][0]["results"]["latency_us"]["median"] == pytest.approx(whole.summary.median)
    assert outer["data"]["runs"][0]["results"]["energy_joules"] is None


def test_what_could_not_be_read_stays_unknown() -> None:
    bare = record(place=Place("sim"), quality=None, cpu_seconds=None, load_us=None, first_us=None)
    back = Record.parse(json.loads(records.dumps([bare]))["data"]["runs"][0])
    assert back == bare
    assert back.place.governor is None
    assert back.quality is None


def test_two_records_of_the_same_second_are_both_kept(tmp_path: Path) -> None:
    first, second = records.save(record(), tmp_path), records.save(record(), tmp_path)
    assert first != second
    assert sorted(records.saved(tmp_path)) == sorted([first, second])
    assert records.saved(tmp_path / "none") == []


def test_unknown_keys_are_ignored_so_that_a_later_version_can_add_some() -> None:
    data = json.loads(records.dumps([record()]))["data"]["runs"][0]
    data["target"]["moon_phase"] = "full"
    data["later"] = 1
    assert Record.parse(data) == record()


def _without(data: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return data


@pytest.mark.parametrize(
    "path", [("samples",), ("identity", "model"), ("target", "name"), ("results", "memory"), ("protocol", "runs")]
)
def test_a_record_that_lacks_something_is_refused(path: tuple[str, ...]) -> None:
    data = json.loads(records.dumps([record()]))["data"]["runs"][0]
    with pytest.raises(ProtocolError):
        Record.parse(_without(data, *path))


@pytest.mark.parametrize("samples", [[], ["1"], [True], [-1.0], [None]])
def test_samples_that_are_no_latencies_are_refused(samples: list[Any]) -> None:
    data = json.loads(records.dumps([record()]))["data"]["runs"][0]
    data["samples"]["latency_us"] = samples
    with pytest.raises(ProtocolError, match="latency_us"):
        Record.parse(data)


def test_a_field_of_the_wrong_type_is_refused() -> None:
    data = json.loads(records.dumps([record()]))["data"]["runs"][0]
    data["target"]["cores"] = "four"
    with pytest.raises(ProtocolError, match="cores"):
        Record.parse(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("[1]", "object"),
        ('{"schema": "other/v1"}', "other/v1"),
        ('{"schema": NaN}', "NaN"),
        ('{"schema": "edgeship.bench.run/v1", "data": {"runs": []}}', "no run"),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        records.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_where_records_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        records.load(tmp_path / "none.json")
    assert "bench list" in str(caught.value.hint)


def test_statistics_are_computed_once() -> None:
    whole = record()
    assert whole.summary is whole.summary
    assert replace(whole, latencies_us=(1.0,)).summary.median == 1.0
    assert whole.title == "pi · tflite int8"
