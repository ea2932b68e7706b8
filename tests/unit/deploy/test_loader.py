"""The first contact's loader, run as a device runs it: `python -c LOADER ROOT` with the agent on standard input."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeship.deploy import loader


def tiny_app() -> bytes:
    """A zipapp that tells its arguments, then echoes what follows on standard input."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("__main__.py", "import sys; print(sys.argv[1:]); print(sys.stdin.read())")
    return out.getvalue()


def run(root: str, data: bytes, *, python: str = sys.executable) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([python, "-c", loader.LOADER, root], input=data, capture_output=True, check=False, timeout=60)


def test_it_fits_any_shell() -> None:
    """proot-distro wraps each argument in apostrophes as it is; csh knows no line break and no "!" in quotes."""
    assert loader.LOADER.isascii()
    assert not set("'!\n") & set(loader.LOADER)
    assert len(loader.LOADER) < 4096
    assert shlex.split(shlex.join(["python3", "-c", loader.LOADER])) == ["python3", "-c", loader.LOADER]


def test_it_installs_and_becomes_the_agent_without_reading_too_much(tmp_path: Path) -> None:
    app, root = tiny_app(), tmp_path / "home dir" / "agent's root"
    (tmp_path / "home dir").mkdir()
    done = run(str(root), loader.header(app) + app + b"what follows")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"['rpc', '--root', {str(root)!r}]\nwhat follows\n"
    sha256 = hashlib.sha256(app).hexdigest()
    assert sorted(os.listdir(root / "agent")) == sorted([f"{sha256}.pyz", "current"])
    assert os.readlink(root / "agent" / "current") == f"{sha256}.pyz"
    assert (root / "agent").stat().st_mode & 0o777 == 0o700
    again = run(str(root), loader.header(app) + app)
    assert again.returncode == 0


def test_the_home_is_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    app = tiny_app()
    assert run("~/edge", loader.header(app) + app).returncode == 0
    assert (tmp_path / "edge" / "agent" / "current").exists()


APP = tiny_app()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the stream ended before the agent came"),
        (b"hello", "the stream ended before the agent came"),
        (b"x" * 500, "what came first is no agent"),
        (b"\xff\xfe zz\n", "what came first is no agent"),
        (b"edgeship abc many\n", "what came first is no agent"),
        (loader.header(APP) + APP[:-1], "the stream ended inside the agent"),
        (loader.header(APP) + APP[:-1] + b"x", "the agent was changed on the way"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    done = run(str(tmp_path / "root"), data)
    assert done.returncode == 1
    assert done.stdout == b""
    assert f"edgeship: {message}" in done.stderr.decode()
    assert not (tmp_path / "root").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = run(str(tmp_path / "file"), loader.header(APP) + APP)
    assert done.returncode == 1
    assert b"edgeship: cannot install the agent in " in done.stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", loader.LOADER, str(tmp_path / "root")], input=loader.header(APP) + APP, check=False,
        capture_output=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / "root" / "agent" / "current").exists()


def test_an_old_python_is_told(tmp_path: Path) -> None:
    """The lines before the version check must be understood by any Python 3; here the check itself."""
    pretended = loader.LOADER.replace("sys.version_info < (3, 10)", "sys.version_info > (3, 10)")
    done = subprocess.run([sys.executable, "-c", pretended, "x"], input=b"", capture_output=True, check=False)
    assert b"the agent needs Python 3.10 or later" in done.stderr
