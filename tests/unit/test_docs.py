"""Documentation is tested: what is generated is fresh, and every name that a user can meet is written down."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from edgeship import config, profile
from edgeship.cli.schemas import SCHEMAS
from edgeship.runtime.errors import CODES
from edgeship.tomlfile import leaves

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """docs/build.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_generated_files_are_fresh(build: ModuleType) -> None:
    assert build.stale() == [], "run python docs/build.py"


def test_check_fails_when_a_file_is_stale_and_writing_mends_it(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hw_profiles").symlink_to(ROOT / "hw_profiles")
    monkeypatch.setattr(build, "PAGES", {k: v for k, v in build.PAGES.items() if k.startswith("docs/")})
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    assert build.main() == 1
    assert "docs/reference/cli.md is stale: run python docs/build.py" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["build.py"])
    assert build.main() == 0
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    assert build.main() == 0
    (tmp_path / "docs/reference/cli.md").write_text("old")
    assert build.stale() == ["docs/reference/cli.md"]


def test_every_command_and_option_is_documented(build: ModuleType) -> None:
    text = page("docs/reference/cli.md")
    for name, command, _ in build.commands():
        assert f"# {name}\n" in text
        section = text.partition(f"# {name}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
        if not isinstance(command, click.Group):
            for parameter in command.params:
                assert all(opt in section for opt in parameter.opts if opt.startswith("-")), f"{name}: {parameter.opts}"


def test_every_setting_is_documented_with_its_variable() -> None:
    text = page("docs/reference/config.md")
    for leaf in config.all_settings():
        assert f"| `{leaf.path[-1]}` |" in text
        assert f"`{config.variable(leaf)}`" in text
        assert leaf.key.doc.replace("|", "\\|") in text


@pytest.mark.parametrize("name", ["docs/reference/profiles.md", "hw_profiles/README.md"])
def test_every_profile_field_is_documented(name: str) -> None:
    text = page(name)
    for leaf in leaves(profile.Profile):
        assert f"| `{leaf.dotted}` |" in text


def test_every_profile_of_ours_is_documented(build: ModuleType) -> None:
    text = page("docs/reference/profiles.md")
    for path in (ROOT / "hw_profiles").glob("*.toml"):
        assert (f"| `{path.stem}` |" in text) is (path.name not in profile.NOT_PROFILES)


def test_every_error_and_code_of_the_agent_is_documented(build: ModuleType) -> None:
    text = page("docs/reference/errors.md")
    for kind in build.error_classes():
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in text
    for code in CODES:
        assert f"| `{code}` |" in text


def test_every_schema_is_documented() -> None:
    text = page("docs/reference/schemas.md")
    for name in SCHEMAS:
        assert f"`edgeship.{name}/v1`" in text


def test_every_trap_names_tests_that_exist() -> None:
    text = page("docs/explanation/traps.md")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| with plain tools")]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"no test in the row {row[:60]}"
        for path, name in named:
            assert f"\ndef {name}(" in page(path), f"{path} has no test {name}"


def test_every_command_has_a_schema_of_its_name(build: ModuleType) -> None:
    streams_of_their_own = {"device.ssh"}
    for name, command, _ in build.commands():
        short = name.removeprefix("edgeship ").replace(" ", ".")
        if not isinstance(command, click.Group) and short not in streams_of_their_own:
            assert short in SCHEMAS, f"--json of `{name}` has no published schema"
