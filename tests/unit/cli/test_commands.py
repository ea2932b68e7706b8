"""Commands that need no device: what they print for people, and as JSON by their published schemas."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edgeship import __version__, config
from edgeship.cli import schemas
from edgeship.release.keys import KeySet
from edgeship.release.repository import Repository
from tests.simulators import models, releases
from tests.simulators.commandline import run, run_error, run_json

# ── init ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_init_sets_up_a_project_with_keys_releases_and_the_device_sim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    for name in ("digits.keras", "calibration.npz", "evaluation.npz"):
        (folder / name).touch()
    monkeypatch.chdir(folder)
    result = run("init")
    assert "edgeship.toml, .edgeship/, development keys, release folder, device sim" in result.stdout
    assert result.stderr == "next: edgeship push digits.keras -l name=sim\n"
    assert config.load().model.source == folder / "digits.keras"
    assert (folder / ".gitignore").read_text() == ".edgeship/\n"
    keys = folder / ".edgeship" / "keys"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys.iterdir())
    assert Repository.open(folder / ".edgeship" / "releases", KeySet.load(keys)).models() == {}
    (device,) = run_json("device.list", "device", "list")
    assert (device["name"], device["transport"]) == ("sim", "local")


def test_init_completes_what_is_missing_and_keeps_the_rest(project: Path) -> None:
    before = (project / "edgeship.toml").read_text()
    data = run_json("init", "init", "--name", "other")
    assert (data["made"], data["name"], data["model"]) == ([], "digits", None)
    assert (project / "edgeship.toml").read_text() == before
    assert "nothing; all was there" in run("init").stdout


def test_init_in_another_folder_and_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / "x" / name).touch()
    result = run("init", str(tmp_path / "x"), "--name", "better")
    assert "better in" in result.stdout
    assert "not found: name it in edgeship.toml" in result.stdout
    assert "note: several models here (a.onnx, b.onnx)" in result.stderr
    assert "next: edgeship push MODEL -l name=sim" in result.stderr


def test_init_refuses_a_name_that_is_none(tmp_path: Path) -> None:
    assert "name must be" in run_error("init", str(tmp_path), "--name", "a/b", exit_code=2)["message"]


# ── profiles, models, configuration ──────────────────────────────────────────────────────────────────────────────────


def test_profiles_are_listed() -> None:
    data = run_json("profile.list", "profile", "list")
    assert {p["name"]: p["supported"] for p in data}["jetson-nano"] is False
    text = run("profile", "list").stdout
    assert "raspberry-pi-zero-2-w  aarch64  tflite, onnx" in text
    assert "jetson-nano            aarch64  unsupported" in text


def test_a_profile_is_shown_whole() -> None:
    data = run_json("profile.show", "profile", "show", "android-termux")
    assert data["transport"]["port"] == 8022
    text = run("profile", "show", "android-termux").stdout
    assert "system.python         proot-distro, login, debian, --, python3" in text
    assert "transport.user" in text
    assert "sensors               temperature = sysfs:thermal_zone0" in text
    assert "transport.user        -" in run("profile", "show", "generic-arm64").stdout


def test_an_unknown_profile_is_a_usage_error_with_a_suggestion() -> None:
    error = run_error("profile", "show", "raspberry-pi5", exit_code=2)
    assert "did you mean 'raspberry-pi-5'" in error["message"]


def test_profile_files_are_validated(tmp_path: Path) -> None:
    good = Path(__file__).resolve().parents[3] / "hw_profiles" / "generic-arm64.toml"
    bad = tmp_path / "bad.toml"
    bad.write_text(good.read_text().replace("memory_mb", "memroy_mb"))
    data = run_json("profile.validate", "profile", "validate", str(good), str(bad), exit_code=2)
    assert [d["valid"] for d in data] == [True, False]
    assert "bad.toml:14: unknown key 'hardware.memroy_mb'" in data[1]["error"]
    assert "WRONG" in run("profile", "validate", str(bad), exit_code=2).stdout
    assert run("profile", "validate", str(good)).stdout.split()[-2:] == ["valid", "-"]


def test_a_model_is_inspected(tmp_path: Path) -> None:
    tiny = models.tiny_tflite(tmp_path / "tiny.tflite")
    data = run_json("model.inspect", "model", "inspect", str(tiny.path))
    assert (data["format"], data["precision"], data["sha256"]) == ("tflite", "int8", tiny.sha256)
    text = run("model", "inspect", str(tiny.path)).stdout
    assert "image  int8 [1, 8, 8, 1]  scale 0.00392157, zero point -128" in text
    assert "1 FULLY_CONNECTED" in text


def test_a_model_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    assert "no such file" in run_error("model", "inspect", "nothing.keras", exit_code=2)["message"]
    (tmp_path / "empty.onnx").touch()
    assert "empty" in run_error("model", "inspect", str(tmp_path / "empty.onnx"), exit_code=1)["message"]


def test_settings_are_listed_with_their_origin(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_BUDGET_MAX_DROP", "2.5")
    data = {d["key"]: d for d in run_json("config.list", "config", "list")}
    assert (data["budget.max_drop"]["value"], data["budget.max_drop"]["origin"]) == (2.5, "environment")
    assert data["budget.max_drop"]["where"] == data["budget.max_drop"]["variable"] == "EDGESHIP_BUDGET_MAX_DROP"
    lines = (project / "edgeship.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("window = "))
    assert data["telemetry.window"]["where"] == f"{project}/edgeship.toml:{line}"
    text = run("config", "list", "--origin").stdout
    assert "environment (EDGESHIP_BUDGET_MAX_DROP)" in text
    assert "ORIGIN" not in run("config", "list").stdout


def test_a_misspelt_key_stops_every_command_with_file_and_line(project: Path) -> None:
    path = project / "edgeship.toml"
    text = path.read_text().replace("max_drop =", "max_dorp =", 1)
    path.write_text(text)
    line = next(number for number, words in enumerate(text.splitlines(), 1) if words.startswith("max_dorp"))
    for command in (("config", "list"), ("device", "list"), ("release", "list"), ("lab", "list")):
        error = run_error(*command, exit_code=2)
        assert error["message"] == f"{path}:{line}: unknown key 'budget.max_dorp'; did you mean 'max_drop'?"


def test_outside_of_a_project_the_next_step_is_init() -> None:
    error = run_error("device", "list", exit_code=2)
    assert error["hint"] == "edgeship init"


# ── this tool ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_are_printed() -> None:
    data = run_json("version", "version")
    assert data["edgeship"] == __version__
    assert data["packages"]["click"]
    assert f"edgeship           {__version__}" in run("version").stdout


def test_a_package_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.cli.version.PACKAGES", ("no-such-package",))
    assert run_json("version", "version")["packages"] == {"no-such-package": None}
    assert "no-such-package  not installed" in run("version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    assert "_EDGESHIP_COMPLETE" in run("completion", shell).stdout
    assert run_json("completion", "completion", shell)["shell"] == shell


def test_schemas_are_listed_and_printed() -> None:
    assert {d["name"] for d in run_json("schema", "schema")} == set(schemas.SCHEMAS)
    printed = run_json("schema", "schema", "edgeship.device.list/v1")
    assert printed["title"] == "edgeship.device.list/v1"
    assert '"title": "edgeship.version/v1"' in run("schema", "version").stdout
    error = run_error("schema", "device.lst", exit_code=2)
    assert error["message"] == "no schema 'device.lst'; did you mean 'device.list'?"
    assert run_error("schema", "zzz", exit_code=2)["message"] == "no schema 'zzz'"


def test_every_schema_says_what_it_holds() -> None:
    assert all(about and not about.startswith("Usage") for _, about in schemas.listed())


# ── releases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def released(project: Path, tmp_path: Path) -> Repository:
    """A project with two releases of digits."""
    repository = Repository.open(project / ".edgeship" / "releases", KeySet.load(project / ".edgeship" / "keys"))
    for version in (1, 2):
        releases.publish(repository, tmp_path / "files", version=version)
    return repository


def test_without_a_release_the_next_step_is_a_push(project: Path) -> None:
    assert run("release", "list").stderr == "no release yet; next: edgeship push MODEL\n"
    assert run_json("release.list", "release", "list") == []
    assert run_error("release", "inspect", exit_code=2)["hint"] == "edgeship push MODEL"


def test_releases_are_listed_newest_first(released: Repository) -> None:
    data = run_json("release.list", "release", "list")
    assert [(d["counter"], d["current"]) for d in data] == [(2, True), (1, False)]
    lines = run("release", "list").stdout.splitlines()
    assert lines[1].split()[:3] == ["digits", "2", "current"]
    assert lines[1].endswith("tflite int8  passed")


def test_a_release_is_inspected(released: Repository) -> None:
    data = run_json("release.inspect", "release", "inspect")
    assert data["manifest"]["counter"] == 2
    assert run_json("release.inspect", "release", "inspect", "digits", "--counter", "1")["manifest"]["counter"] == 1
    text = run("release", "inspect").stdout
    assert "litert-2.3.0 aarch64, litert-2.3.0 x86_64" in text
    assert "no release 9" in run_error("release", "inspect", "--counter", "9", exit_code=1)["message"]


def test_of_two_models_one_must_be_named(released: Repository, tmp_path: Path) -> None:
    releases.publish(released, tmp_path / "files", version=3, model="faces")
    assert run_error("release", "inspect", exit_code=2)["hint"] == "one of: digits, faces"
    assert run_json("release.inspect", "release", "inspect", "faces")["manifest"]["model"] == "faces"


def test_a_flipped_byte_in_a_release_is_found(released: Repository) -> None:
    assert run_json("release.verify", "release", "verify")["holds"] is True
    assert "all verify" in run("release", "verify").stdout
    manifest, _ = released.manifest("digits")
    path = released.blob(manifest.variants[0].file.sha256)
    path.chmod(0o644)
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    data = run_json("release.verify", "release", "verify", exit_code=1)
    assert len(data["problems"]) == 1
    assert "problem: blobs/" in run("release", "verify", exit_code=1).stdout
