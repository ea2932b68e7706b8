"""Environments of their own for the peers that cannot live beside edgeship, made by venv and pip from pinned lists."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LISTS = Path(__file__).parent / "requirements"


def python(name: str, cache: Path) -> str:
    """The Python of an environment, which is made where it is not there or its list has changed."""
    folder, wanted = cache / "environments" / name, LISTS / f"{name}.txt"
    if not _made(folder, wanted):
        print(f"making the environment {name} (once)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        _pip([str(folder / "bin/python"), "-m", "pip", "install", "-r", str(wanted)])
        _mark(folder, wanted)
    return str(folder / "bin/python")


def packages(name: str, cache: Path) -> Path:
    """A folder with the packages of a list, without what they depend on, to be read or put on the path."""
    folder, wanted = cache / "environments" / name, LISTS / f"{name}.txt"
    if not _made(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _pip([sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), "-r", str(wanted)])
        _mark(folder, wanted)
    return folder


def _pip(argv: list[str]) -> None:
    argv += ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip failed:\n{done.stderr[-2000:]}")


def _made(folder: Path, wanted: Path) -> bool:
    marker = folder / "made-from"
    return marker.exists() and marker.read_text() == _digest(wanted)


def _mark(folder: Path, wanted: Path) -> None:
    (folder / "made-from").write_text(_digest(wanted))  # last: without it, it is made again


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
