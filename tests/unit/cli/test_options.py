"""Options that say how data is prepared: short forms and KEY=VALUE, over what the project says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgeship import config
from edgeship.cli.options import data_options, preparation
from edgeship.errors import UsageError
from edgeship.preparation import Preparation


def given(*arguments: str) -> dict[str, Any]:
    """What a command with these options gets."""
    got: dict[str, Any] = {}

    @click.command()
    @data_options
    def command(data: Path | None, evaluation: Path | None, stated: tuple[str, ...]) -> None:
        got.update(data=data, evaluation=evaluation, stated=stated)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return got


def test_nothing_said_is_nothing_stated() -> None:
    assert given() == {"data": None, "evaluation": None, "stated": ()}


def test_a_function_is_data_as_a_folder_is() -> None:
    got = given("--data", "prep:samples", "--evaluation", "pictures/test")
    assert (got["data"], got["evaluation"]) == (Path("prep:samples"), Path("pictures/test"))


def test_short_forms_and_pairs_come_together() -> None:
    got = given("--prepare", "mean=0.5", "--resize", "pad", "--prepare", "color=bgr", "--normalize", "0..1")
    assert preparation(got["stated"]) == Preparation(normalize="0..1", resize="pad", mean=(0.5,), color="bgr")


def test_a_pair_wins_over_the_short_form_of_the_same_key() -> None:
    got = given("--normalize", "0..1", "--prepare", "normalize=-1..1")
    assert preparation(got["stated"]).normalize == "-1..1"


def test_flags_win_over_the_project(tmp_path: Path) -> None:
    (tmp_path / "edgeship.toml").write_text(
        '[project]\nname = "p"\n[data.preparation]\nnormalize = "imagenet"\ncrop = 0.875\n'
    )
    project = config.load(tmp_path, environ={})
    assert preparation(("normalize=0..1",), project) == Preparation(normalize="0..1", crop=0.875)
    assert preparation((), project) == project.data.preparation
    with pytest.raises(UsageError, match="normalize must be one of"):
        preparation(("normalize=0..2",), project)
