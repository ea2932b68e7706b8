"""Environments are made of pinned wheels alone, whole or not at all, and a damaged one is made again."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgeship import environments
from edgeship.environments import Recipe
from edgeship.errors import ConversionError, InputError, UsageError
from edgeship.reporter import Reporter, Step

RECIPE = Recipe(
    "tiny", "is tiny", "import edgeship_tiny", (sys.version_info[:2], sys.version_info[:2]), ("x86_64", "aarch64")
)
WHEEL = "edgeship_tiny-1.0-py3-none-any.whl"

Call = Callable[..., tuple[int, list[str]]]


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, step: Step) -> None:
        self.lines.append(f"{step.name} {step.subject}")

    def progress(self, step: Step, done: int, total: int) -> None:
        self.lines.append(f"{done}/{total}")

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of one package, its list in a folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(environments, "RECIPES", (RECIPE,))
    folder = tmp_path / "lists"
    folder.mkdir()
    monkeypatch.setattr(environments, "requirements", lambda name: folder / f"{name}.txt")
    (folder / "tiny.txt").write_text("edgeship-tiny==1.0 --hash=sha256:" + "0" * 64 + "\n")
    return folder


def wheelhouse(folder: Path, body: str = "") -> str:
    """A folder with the wheel in it; the wheel's sha256."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("edgeship_tiny.py", body)
        info = "edgeship_tiny-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: edgeship-tiny\nVersion: 1.0\nRequires-Python: >=9\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


class Fake:
    """In the place of venv, pip and the check: (status, lines) of each."""

    def __init__(self, pip: tuple[int, list[str]] = (0, []), check: int = 0, venv: int = 0) -> None:
        self.pip, self.check, self.venv = pip, check, venv
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], said: Callable[[str], object], seconds: float = 0) -> tuple[int, list[str]]:
        if "venv" in argv:
            self.asked.append("venv")
            if not self.venv:
                python = Path(argv[-1]) / "bin" / "python"
                python.parent.mkdir(parents=True)
                python.write_text("#!/bin/sh\n")
                python.chmod(0o755)
            return self.venv, ["ensurepip is not available"]
        if "pip" in argv:
            self.asked.append("pip")
            said("Collecting edgeship-tiny==1.0")
            return self.pip
        self.asked.append("check")
        return self.check, ["ModuleNotFoundError: No module named 'edgeship_tiny'"]


@pytest.mark.slow
def test_an_environment_comes_out_of_a_wheelhouse_once_and_with_the_pinned_hash_alone(
    lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    sha = wheelhouse(tmp_path / "wheels")
    with pytest.raises(InputError, match="is not the one that is pinned, and was not installed"):
        environments.setup("tiny", wheelhouse=tmp_path / "wheels", reporter=Reporter())
    assert environments.state("tiny").reason == "not set up"
    (lists / "tiny.txt").write_text(f"edgeship-tiny==1.0 \\\n    --hash=sha256:{sha}\n")
    told = Told()
    made = environments.setup("tiny", wheelhouse=tmp_path / "wheels", reporter=told)
    assert made.ready
    assert made.bytes > 1000
    assert told.lines[0] == "setup tiny"
    assert "1/1" in told.lines
    found = subprocess.run(
        [environments.python("tiny"), "-I", "-c", "import edgeship_tiny; print(edgeship_tiny.__file__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(made.folder) in found.stdout
    marker = (made.folder / "edgeship.json").stat()
    again = environments.setup("tiny", wheelhouse=tmp_path / "wheels", reporter=Reporter())
    assert (again, (made.folder / "edgeship.json").stat()) == (made, marker)


def test_what_is_there_and_works_is_left_alone(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(environments, "_call", fake)
    assert environments.missing("tiny") == "the environment tiny is not set up; edgeship setup tiny makes it"
    environments.setup("tiny", reporter=Reporter())
    assert environments.missing("tiny") is None
    environments.setup("tiny", reporter=Reporter())
    assert fake.asked == ["venv", "pip", "check", "check"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("list", "made by another version of edgeship"),
        ("marker", "half made"),
        ("garbage", "its marker cannot be read"),
        ("python", "the Python that it was made with is gone"),
        ("package", ""),
    ],
)
def test_a_damaged_one_is_made_again(lists: Path, monkeypatch: pytest.MonkeyPatch, damage: str, reason: str) -> None:
    monkeypatch.setattr(environments, "_call", Fake())
    folder = environments.setup("tiny", reporter=Reporter()).folder
    (folder / "stale").touch()
    fake = Fake()
    if damage == "list":
        (lists / "tiny.txt").write_text("edgeship-tiny==1.1\n")
    elif damage == "marker":
        (folder / "edgeship.json").unlink()
    elif damage == "garbage":
        (folder / "edgeship.json").write_text("{")
    elif damage == "python":
        (folder / "bin" / "python").unlink()
    else:
        answers = iter([1, 0])
        monkeypatch.setattr(environments, "_works", lambda *_: None if not next(answers) else "no module")
    monkeypatch.setattr(environments, "_call", fake)
    assert environments.state("tiny").reason == reason
    if reason:
        with pytest.raises(UsageError, match=reason) as caught:
            environments.python("tiny")
        assert caught.value.hint == "edgeship setup tiny"
    assert environments.setup("tiny", reporter=Reporter()).ready
    assert fake.asked[:2] == ["venv", "pip"]
    assert not (folder / "stale").exists()


@pytest.mark.parametrize(
    ("fake", "error", "words"),
    [
        (Fake(venv=1), UsageError, "cannot make a virtual environment: ensurepip is not available"),
        (
            Fake(pip=(1, ["ERROR: No matching distribution found for edgeship-tiny==1.0"])),
            InputError,
            "No matching distr",
        ),
        (Fake(pip=(1, [])), InputError, "no reason given"),
        (Fake(check=1), ConversionError, "does not work: ModuleNotFoundError"),
    ],
)
def test_what_fails_leaves_nothing_behind(
    lists: Path, monkeypatch: pytest.MonkeyPatch, fake: Call, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(environments, "_call", fake)
    with pytest.raises(error, match=words):
        environments.setup("tiny", reporter=Reporter())
    assert not environments.state("tiny").folder.exists()


def test_ctrl_c_leaves_nothing_behind(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Fake):
        def __call__(self, argv: Sequence[str], said: object, seconds: float = 0) -> tuple[int, list[str]]:
            if "pip" in argv:
                raise KeyboardInterrupt
            return super().__call__(argv, print)

    monkeypatch.setattr(environments, "_call", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        environments.setup("tiny", reporter=Reporter())
    assert not environments.state("tiny").folder.exists()


def test_a_program_that_hangs_is_stopped() -> None:
    with pytest.raises(InputError, match="did not end within 0 s and was stopped"):
        environments._call(["/bin/sh", "-c", "sleep 60 & sleep 60"], print, 0.3)


def test_hosts_that_the_wheels_are_not_for_are_refused(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UsageError, match="pinned for Linux on x86_64 and aarch64; this is Linux on riscv64"):
        environments.setup("tiny", reporter=Reporter())
    monkeypatch.undo()
    monkeypatch.setattr(environments, "RECIPES", (RECIPE,))
    monkeypatch.setattr(sys, "version_info", (3, 42, 0))
    with pytest.raises(UsageError, match="its packages are there for") as caught:
        environments.setup("tiny", reporter=Reporter())
    assert "install edgeship in a Python" in str(caught.value.hint)


def test_an_arm64_host_is_told_that_onnx2tf_is_not_for_it_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is typed too: no message names a command that cannot work there."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    words = "its packages are pinned for Linux on x86_64; this is Linux on aarch64"
    with pytest.raises(UsageError, match=words) as caught:
        environments.setup("onnx2tf", reporter=Reporter())
    assert caught.value.hint == environments.remedy("onnx2tf")
    assert "convert the model on such a machine" in str(caught.value.hint)
    assert environments.missing("onnx2tf") == f"the environment onnx2tf cannot be made here: {words}"
    monkeypatch.setattr(sys, "version_info", (3, 11, 9))
    assert environments.remedy("tflite-runtime") == "edgeship setup tflite-runtime"
    assert "is not set up; edgeship setup tflite-runtime makes it" in str(environments.missing("tflite-runtime"))


def test_a_runtime_package_is_known_by_name_and_version() -> None:
    (runtime,) = environments.runtimes()
    assert runtime == f"tflite-runtime-{environments.packages('tflite-runtime')['tflite-runtime']}"
    assert environments.of_runtime(runtime) == "tflite-runtime"
    assert environments.of_runtime("tflite-runtime-2.13.0") is None
    assert environments.of_runtime(f"onnx2tf-{environments.packages('onnx2tf')['onnx2tf']}") is None


def test_names_and_wheelhouses_that_are_not_there_are_refused(lists: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no environment 'tensorrt'") as caught:
        environments.state("tensorrt")
    assert caught.value.hint == "known are tiny"
    with pytest.raises(UsageError, match="no such wheelhouse"):
        environments.setup("tiny", wheelhouse=tmp_path / "none", reporter=Reporter())


def test_the_old_runtime_has_a_numpy_below_2() -> None:
    """With numpy 2 tflite-runtime 2.14 imports, and cannot create an interpreter."""
    assert int(environments.packages("tflite-runtime")["numpy"].partition(".")[0]) < 2
    (check,) = (recipe.check for recipe in environments.RECIPES if recipe.name == "tflite-runtime")
    assert "numpy.__version__ < '2'" in check


@pytest.mark.parametrize("name", [recipe.name for recipe in environments.RECIPES])
def test_every_package_of_a_list_is_pinned_to_version_and_hash_and_no_address_is_named(name: str) -> None:
    text = environments.requirements(name).read_text()
    entries = re.sub(r"\\\n", "", text).splitlines()
    pinned = [line for line in entries if not line.startswith("#")]
    assert len(pinned) == len(environments.packages(name)) > 1
    for line in pinned:
        assert re.fullmatch(r"[\w.-]+==[\w.]+\s+(--hash=sha256:[0-9a-f]{64}\s*)+", line), line
    assert "//" not in text
