"""edgeship.toml: what it may hold, what wins, where a value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import config
from edgeship.errors import ConfigError, UsageError
from edgeship.optimize import metrics, own
from edgeship.preparation import Preparation

EXAMPLE = """[project]
name = "digits"

[model]
source = "digits.keras"
labels = ["0", "1"]

[data]
representative = "calibration.npz"
evaluation = "evaluation.npz"
metric = "top1"

[budget]
max_drop = 1.0
max_class_drop = 5.0
max_latency_p95 = "20ms"
max_size = "4MB"
max_memory = "64MiB"

[telemetry]
window = "2s"

[fleet]
store = "sqlite:///.edgeship/fleet.db"
keys = ".edgeship/keys"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = tmp_path / "project"
    made.mkdir()
    (made / "edgeship.toml").write_text(EXAMPLE, encoding="utf-8")
    return made


def user_file(text: str) -> Path:
    path = config.user_folder() / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_design_loads(folder: Path) -> None:
    project = config.load(folder)
    assert project.name == "digits"
    assert project.folder == folder
    assert project.state == folder / ".edgeship"
    assert project.releases == folder / ".edgeship" / "releases"
    assert project.model == config.ModelConfig(source=folder / "digits.keras", labels=("0", "1"))
    assert project.data.representative == folder / "calibration.npz"
    assert project.budget == config.Budget(
        max_drop=1.0, max_class_drop=5.0, max_latency_p95_ms=20.0, max_size_bytes=4_000_000, max_memory_bytes=64 << 20
    )
    assert project.telemetry.window_seconds == 2.0
    assert project.fleet.store == f"sqlite:///{folder}/.edgeship/fleet.db"
    assert project.fleet.keys == folder / ".edgeship" / "keys"


@pytest.mark.parametrize("metric", ["top1", "top5", "f1", "f1-binary", "mae", "rmse", "cosine", "agreement"])
def test_metrics_by_name_are_those_that_the_check_knows(folder: Path, metric: str) -> None:
    (folder / "edgeship.toml").write_text(f'[project]\nname = "a"\n[data]\nmetric = "{metric}"', encoding="utf-8")
    assert config.load(folder).data.metric == metric
    assert metrics.known(metric)
    assert set(metrics.NAMES) <= {"top1", "f1", "f1-binary", "mae", "rmse", "cosine", "agreement"}


def test_a_metric_of_ones_own_is_looked_for_in_the_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[project]\nname = "a"\n[data]\nmetric = "scores.boxes:mean_ap"'
    (folder / "edgeship.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir("/")
    assert config.load(folder).data.metric == f"{folder}/scores.boxes:mean_ap"
    assert own.is_own(f"{folder}/scores.boxes:mean_ap")
    assert own.short(f"{folder}/scores.boxes:mean_ap") == "scores.boxes:mean_ap"


def test_a_name_is_enough(folder: Path) -> None:
    (folder / "edgeship.toml").write_text('[project]\nname = "a"', encoding="utf-8")
    project = config.load(folder)
    assert project.model.source is None
    assert project.data.metric is None
    assert project.budget == config.Budget()
    assert project.budget.max_slice_drop is None
    assert project.fleet.store == f"sqlite:///{folder}/.edgeship/fleet.db"
    assert project.fleet.keys == folder / ".edgeship" / "keys"


def test_it_is_found_from_a_folder_below(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert config.load().folder == folder
    assert config.find(below) == folder


def test_without_a_project_the_next_step_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no edgeship.toml") as caught:
        config.load(tmp_path)
    assert caught.value.hint == "edgeship init"
    assert config.find(tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_drop = 1.0", "max_dorp = 1.0", ":14: unknown key 'budget.max_dorp'; did you mean 'max_drop'?"),
        ("[budget]", "[buget]", ":13: unknown table 'buget'; did you mean 'budget'?"),
        ('window = "2s"', "window = 2", ':21: telemetry.window must be a time with its unit, such as "20ms"'),
        ('max_size = "4MB"', 'max_size = "4 mb"', ":17: budget.max_size must be a size with its unit"),
        ('metric = "top1"', 'metric = "top0"', ":11: data.metric must be `top1`, `top5` (any number), `f1`, "),
        ('name = "digits"', 'name = "my digits"', ":2: project.name must be 1 to 64 letters"),
        ('name = "digits"\n', "", ": project.name is missing"),
        ("[model]", "[model", ":4: not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "edgeship.toml"
    path.write_text(EXAMPLE.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(folder)
    assert str(caught.value).startswith(f"{path}{message}")


def test_environment_wins_over_file_over_user_file_over_default(folder: Path) -> None:
    path = user_file('[budget]\nmax_drop = 9.0\nmax_class_drop = 9.0\n[data]\nmetric = "agreement"\n')
    (folder / "edgeship.toml").write_text('[project]\nname = "a"\n[budget]\nmax_drop = 2.0\nmax_class_drop = 2.0')
    project = config.load(folder, environ={"EDGESHIP_BUDGET_MAX_DROP": "1.5", "HOME": "/"})
    assert (project.budget.max_drop, project.budget.max_class_drop, project.data.metric) == (1.5, 2.0, "agreement")
    origins = {key: str(origin) for key, origin in project.origins.items()}
    assert origins["budget.max_drop"] == "environment (EDGESHIP_BUDGET_MAX_DROP)"
    assert origins["budget.max_class_drop"] == f"edgeship.toml ({folder}/edgeship.toml:5)"
    assert origins["data.metric"] == f"user file ({path}:5)"
    assert origins["telemetry.window"] == "default"
    assert {leaf.dotted for leaf in config.all_settings()} == set(origins)


def test_listed_gives_every_setting_with_its_value(folder: Path) -> None:
    values = {leaf.dotted: value for leaf, value in config.listed(config.load(folder, environ={}))}
    assert values["project.name"] == "digits"
    assert values["budget.max_latency_p95"] == 20.0


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("EDGESHIP_BUDGET_MAX_DORP", "1", "unknown setting $EDGESHIP_BUDGET_MAX_DORP; did you mean 'EDGESHIP"),
        ("EDGESHIP_BUDGET_MAX_DROP", "much", "$EDGESHIP_BUDGET_MAX_DROP must be a number from 0 to 100 (it is"),
        ("EDGESHIP_TELEMETRY_WINDOW", "1", "$EDGESHIP_TELEMETRY_WINDOW must be a time with its unit"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(folder: Path, variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(folder, environ={variable: value})
    assert str(caught.value).startswith(message)


def test_variables_of_other_things_are_left_alone(folder: Path) -> None:
    assert config.load(folder, environ={"EDGESHIP_CI": "1"}).name == "digits"


def test_paths_of_the_environment_are_taken_from_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "EDGESHIP_MODEL_SOURCE": "x.onnx", "EDGESHIP_FLEET_STORE": "sqlite:///x.db", "EDGESHIP_MODEL_LABELS": "a,b",
        "EDGESHIP_DATA_EVALUATION": "~/e.npz",
    }  # fmt: skip
    project = config.load(folder, environ=environ)
    assert project.model == config.ModelConfig(source=tmp_path / "x.onnx", labels=("a", "b"))
    assert project.fleet.store == f"sqlite:///{tmp_path}/x.db"
    assert project.data.evaluation == Path("~/e.npz").expanduser()


@pytest.mark.parametrize("url", ["postgresql://h/db", "sqlite:////abs/x.db", "sqlite:///:memory:"])
def test_other_stores_are_taken_as_they_are(folder: Path, url: str) -> None:
    assert config.load(folder, environ={"EDGESHIP_FLEET_STORE": url}).fleet.store == url


def test_a_user_file_is_checked_too(folder: Path) -> None:
    path = user_file("[budget]\nmaxdrop = 1")
    with pytest.raises(ConfigError, match=f"{path}:2: unknown key 'budget.maxdrop'"):
        config.load(folder)


@pytest.mark.parametrize("key", ["max_drop", "max_class_drop", "max_slice_drop"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.5", "101"])
def test_a_budget_is_a_number_of_points(folder: Path, key: str, value: str) -> None:
    (folder / "edgeship.toml").write_text(f'[project]\nname = "x"\n[budget]\n{key} = {value}\n')
    with pytest.raises(ConfigError, match=f"edgeship.toml:4: budget.{key} must be a number from 0 to 100"):
        config.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_latency_p95", '"nanms"'), ("max_latency_p95", '"-3ms"'), ("max_latency_p95", "inf"),
     ("max_size", '"-4MB"'), ("max_size", "nan"), ("max_memory", '"infMB"')],
)  # fmt: skip
def test_a_budget_of_time_or_bytes_is_positive_and_finite(folder: Path, key: str, value: str) -> None:
    (folder / "edgeship.toml").write_text(f'[project]\nname = "x"\n[budget]\n{key} = {value}\n')
    with pytest.raises(ConfigError, match=f"budget.{key} must be "):
        config.load(folder)


def test_signature_and_shapes_of_the_model_are_settings(folder: Path) -> None:
    text = 'source = "digits.keras"\nsignature = "serve"\nshape = ["image=1,8,8,1"]'
    (folder / "edgeship.toml").write_text(EXAMPLE.replace('source = "digits.keras"', text))
    project = config.load(folder)
    assert (project.model.signature, project.model.shape) == ("serve", ("image=1,8,8,1",))


def test_the_preparation_is_a_table_of_the_data(folder: Path) -> None:
    text = (folder / "edgeship.toml").read_text()
    (folder / "edgeship.toml").write_text(f'{text}\n[data.preparation]\nnormalize = "0..1"\nmean = [0.5, 1, 2]\n')
    project = config.load(folder, environ={"EDGESHIP_DATA_PREPARATION_STD": "0.5,0.25,1"})
    assert project.data.preparation == Preparation(normalize="0..1", mean=(0.5, 1.0, 2.0), std=(0.5, 0.25, 1.0))
    assert str(project.origins["data.preparation.std"]) == "environment (EDGESHIP_DATA_PREPARATION_STD)"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('normalise = "0..1"', "unknown key 'data.preparation.normalise'; did you mean 'normalize'"),
        ("mean = 0.5", r"data\.preparation\.mean must be a list of numbers, such as \[0\.5"),
        ("std = [inf]", r"data\.preparation\.std must be a list of finite numbers"),
        ("std = [true]", r"data\.preparation\.std must be a list of numbers"),
    ],
)
def test_a_preparation_is_read_strictly(folder: Path, line: str, words: str) -> None:
    text = (folder / "edgeship.toml").read_text()
    (folder / "edgeship.toml").write_text(f"{text}\n[data.preparation]\n{line}\n")
    with pytest.raises(ConfigError, match=words):
        config.load(folder, environ={})
