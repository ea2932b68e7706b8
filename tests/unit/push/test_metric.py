"""A metric of one's own in edgeship.toml is tried on the float model's answers before anything is made for devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import config, profile
from edgeship.config import Project
from edgeship.errors import InputError, ReleaseError
from edgeship.push.perform import Performer
from edgeship.push.plan import Build, Options, Plan
from edgeship.reporter import Reporter, Step
from edgeship.targets import registry
from tests.simulators import inline, tflite_graphs


@dataclass
class Told(Reporter):
    """Remembers the steps that began."""

    steps: list[str] = field(default_factory=list)

    def started(self, step: Step) -> None:
        self.steps.append(step.name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "xdg"))
    inline.patch(monkeypatch)
    return tmp_path


def push(folder: Path, body: str, told: Reporter, **options: Any) -> None:
    """A push of a small float model as int8, with a metric of this body; there is no device."""
    (folder / "mine.py").write_text(f"import numpy as np\ndef score(answers):\n    {body}\n", encoding="utf-8")
    (folder / "edgeship.toml").write_text('[project]\nname = "m"\n[data]\nmetric = "./mine:score"\n', encoding="utf-8")
    project: Project = config.load(folder)
    np.savez(folder / "data.npz", x=tflite_graphs.samples(24).inputs["x"])
    source = registry.inspect(tflite_graphs.mlp(folder / "m.tflite"))
    build = Build("tflite", "int8", "litert-2.3.0", 1, ("raspberry-pi-5",), "")
    data = folder / "data.npz"
    unused: Any = None  # a repository and a store: nothing is signed, nothing is sent
    performer = Performer(
        project, {"raspberry-pi-5": profile.load("raspberry-pi-5")}, unused, unused, told,
        Options(calibration=data, evaluation=data, bench=False, **options),
    )  # fmt: skip
    performer.perform(Plan("m", source, (build,), ()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('boxes')", "KeyError: 'boxes'"),
        ("return 'good'", "str"),
        ("return np.nan", "NaN"),
        ("return np.ones(7)", "7"),
    ],
)
def test_one_that_cannot_judge_ends_the_push_before_anything_is_converted(folder: Path, body: str, said: str) -> None:
    told = Told()
    with pytest.raises(InputError, match=rf"the metric mine:score: (?s:.*){said}"):
        push(folder, body, told)
    assert told.steps == ["metric", "source"]


def test_one_that_works_is_followed_by_the_conversion(folder: Path) -> None:
    class Converting(Exception):
        pass

    class Until(Told):
        def started(self, step: Step) -> None:
            super().started(step)
            if step.name == "convert":
                raise Converting

    told = Until()
    with pytest.raises(Converting):
        push(folder, "return np.ones(len(next(iter(answers.values()))))", told)
    assert told.steps == ["metric", "source", "convert"]


def test_where_nothing_is_checked_it_is_not_called(folder: Path) -> None:
    told = Told()
    with pytest.raises(ReleaseError, match="no runtime library"):  # it came past the conversion; there is no device
        push(folder, "raise ValueError('never')", told, skip_check=True, approved_by="me")
    assert told.steps == ["convert"]
