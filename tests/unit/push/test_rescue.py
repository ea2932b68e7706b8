"""A push whose plain int8 variant breaks the budget searches one that does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import config, profile
from edgeship.config import Project
from edgeship.dataset import Dataset
from edgeship.optimize.search.pick import Row
from edgeship.push import rescue
from edgeship.push.plan import Build
from edgeship.reporter import Reporter, Step
from edgeship.targets import registry
from tests.simulators import inline, tflite_graphs
from tests.unit.optimize.search.test_sensitivity import labelled

BUILD = Build("tflite", "int8", "litert-2.3.0", 1, ("raspberry-pi-5",), "")


@dataclass
class Told(Reporter):
    """Remembers the steps that ended."""

    steps: list[tuple[str, str]] = field(default_factory=list)

    def finished(self, step: Step, summary: str, data: Any = None) -> None:
        self.steps.append((step.name, summary))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project; steps and candidates run in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    inline.patch(monkeypatch)

    @contextlib.contextmanager
    def threads() -> Iterator[Executor]:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(rescue, "processes", threads)
    (tmp_path / "edgeship.toml").write_text(
        '[project]\nname = "uneven"\n[budget]\nmax_drop = 2.0\nmax_class_drop = 8.0\n'
    )
    return config.load(tmp_path)


def search(project: Project, told: Reporter, calibration: Dataset | None = None) -> Row | None:
    path = tflite_graphs.uneven(project.folder / "m.tflite")
    return rescue.search(
        project, registry.inspect(path), BUILD, calibration or tflite_graphs.samples(100),
        labelled(400, path, project.state / "variants"), False, profile.load("raspberry-pi-5"), told,
    )  # fmt: skip


def test_the_layers_that_break_it_stay_in_float_and_are_named(project: Project) -> None:
    told = Told()
    row = search(project, told)
    assert row is not None
    assert row.candidate.scheme.keep
    assert row.verdict.passed
    name, said = told.steps[-1]
    assert name == "search"
    assert "in float: " in said
    assert not [step for step, _ in told.steps if step == "time"]


def test_where_nothing_helps_there_is_none_and_the_nearest_is_named(project: Project) -> None:
    told = Told()
    silent = Dataset({"x": tflite_graphs.samples(100).inputs["x"] / 1000})
    assert search(project, told, silent) is None
    assert "no candidate meets the budget; tflite int8" in told.steps[-1][1]


def test_only_a_float_model_that_is_calibrated_is_worth_it(project: Project) -> None:
    source = registry.inspect(tflite_graphs.uneven(project.folder / "m.tflite"))
    data = tflite_graphs.samples(4)
    assert rescue.worth(source, BUILD, data)
    assert not rescue.worth(source, BUILD, None)
    assert not rescue.worth(replace(source, precision="int8"), BUILD, data)
    assert not rescue.worth(source, replace(BUILD, precision="float16"), data)
