"""A new project: what is found in a folder, the edgeship.toml that comes of it, the state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship import config, newproject
from edgeship.errors import ConfigError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = tmp_path / "project"
    made.mkdir()
    return made


def files(folder: Path, *names: str) -> newproject.Found:
    for name in names:
        (folder / name).touch()
    return newproject.discover(folder)


def test_model_and_data_are_found_by_name(tmp_path: Path) -> None:
    found = files(tmp_path, "digits.keras", "calibration.npz", "evaluation.npz", "wrong-scale.npz", "notes.txt")
    assert found == newproject.Found(
        tmp_path / "digits.keras", tmp_path / "calibration.npz", tmp_path / "evaluation.npz"
    )  # fmt: skip


def test_of_several_models_the_one_named_like_the_folder_is_taken(tmp_path: Path) -> None:
    assert files(tmp_path, "a.onnx", f"{tmp_path.name}.tflite").model == tmp_path / f"{tmp_path.name}.tflite"


def test_what_is_not_clear_is_said_and_not_guessed(tmp_path: Path) -> None:
    found = files(tmp_path, "a.onnx", "b.keras", "test.npz", "valid.npz")
    assert (found.model, found.representative, found.evaluation) == (None, None, None)
    assert found.notes == (
        "several models here (a.onnx, b.keras): name one in [model] source",
        "several files could be evaluation data (test.npz, valid.npz): name one in [data] evaluation",
    )


@pytest.mark.parametrize(
    ("kind", "made"),
    [("images", "cat/1.png"), ("images of one folder", "1.JPG"), ("recordings", "yes/a.wav")],
)
def test_folders_of_samples_are_found_by_name_and_content(tmp_path: Path, kind: str, made: str) -> None:
    for name in ("calibration", "validation"):
        (tmp_path / name / made).parent.mkdir(parents=True)
        (tmp_path / name / made).touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_code.py").touch()
    found = newproject.discover(tmp_path)
    assert (found.representative, found.evaluation) == (tmp_path / "calibration", tmp_path / "validation"), kind
    assert "[data.preparation] normalize" in found.notes[0]
    assert 'representative = "calibration"' in newproject.default_text("x", found)


def test_a_table_is_found_and_arrays_come_before_it(tmp_path: Path) -> None:
    found = files(tmp_path, "train.csv", "eval.csv", "prices.csv")
    assert (found.representative, found.evaluation) == (tmp_path / "train.csv", tmp_path / "eval.csv")
    assert files(tmp_path, "eval.npz").evaluation == tmp_path / "eval.npz"


def test_a_program_for_pytorch_is_a_model_too(tmp_path: Path) -> None:
    assert files(tmp_path, "m.pt2").model == tmp_path / "m.pt2"


def test_an_empty_or_missing_folder_has_nothing(tmp_path: Path) -> None:
    assert newproject.discover(tmp_path) == newproject.discover(tmp_path / "none") == newproject.Found(None, None, None)


def test_what_init_writes_loads_and_holds_what_was_found(folder: Path) -> None:
    found = files(folder, "m.keras", "calibration.npz", "evaluation.npz")
    assert newproject.write_default(folder, "digits", found) == folder / "edgeship.toml"
    project = config.load(folder, environ={})
    assert project.model.source == found.model
    assert project.data.representative == found.representative
    assert project.data.evaluation == found.evaluation
    assert project.budget == config.Budget()
    named = {leaf.dotted for leaf in config.all_settings()}
    text = (folder / "edgeship.toml").read_text()
    assert all(f"{dotted.rpartition('.')[2]} = " in text for dotted in named), (
        "each setting is written, or shown in a comment"
    )


def test_what_was_not_found_stands_there_as_a_comment(folder: Path) -> None:
    newproject.write_default(folder, "digits", newproject.Found(None, None, None))
    assert '# source = "model.keras"' in (folder / "edgeship.toml").read_text()
    assert config.load(folder, environ={}).model.source is None


def test_an_existing_file_is_not_overwritten(folder: Path) -> None:
    (folder / "edgeship.toml").write_text("# mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is there already"):
        newproject.write_default(folder, "digits", newproject.Found(None, None, None))
    assert (folder / "edgeship.toml").read_text() == "# mine"


def test_a_wrong_name_or_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="name must be 1 to 64"):
        newproject.write_default(folder, "a/b", newproject.Found(None, None, None))
    with pytest.raises(ConfigError, match="No such file"):
        newproject.write_default(folder / "none", "digits", newproject.Found(None, None, None))


def test_the_state_folder_is_made_once_and_ignored_by_git(folder: Path) -> None:
    assert newproject.make_state(folder)
    assert (folder / ".edgeship").stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == ".edgeship/\n"
    assert not newproject.make_state(folder)


def test_gitignore_keeps_what_it_holds(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.pyc")
    assert newproject.make_state(folder)
    assert (folder / ".gitignore").read_text() == "*.pyc\n.edgeship/\n"


def test_a_gitignore_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / ".gitignore").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        newproject.make_state(folder)
    (folder / ".gitignore").unlink()
    (folder / ".gitignore").mkdir()
    with pytest.raises(ConfigError, match=r"gitignore: Is a directory"):
        newproject.make_state(folder)


@pytest.mark.parametrize(
    ("name", "expected"), [("digits", "digits"), ("my model (2)", "my-model-2"), ("-.x", "x"), ("模型", "project")]
)
def test_a_folder_gives_the_project_its_name(name: str, expected: str) -> None:
    assert newproject.name_for(Path("/tmp") / name) == expected
