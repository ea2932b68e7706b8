"""The example: its split is stratified, its checks end it, its prober counts, and it finds what it left running."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "digits"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"digits_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def train() -> ModuleType:
    return module("train")


@pytest.fixture(scope="module")
def stage() -> ModuleType:
    return module("stage")


def test_the_split_is_stratified_and_repeatable(train: ModuleType) -> None:
    images = np.arange(5000 * 784, dtype=np.float64).reshape(5000, 784) % 256
    images[:, 0] = np.arange(5000) % 256
    labels = np.repeat(np.arange(10), 500)
    parts = train.split(images, labels)
    for name, each in (("training", 370), ("calibration", 30), ("evaluation", 100)):
        x, y = parts[name]
        assert np.bincount(y).tolist() == [each] * 10
        assert x.shape == (each * 10, 28, 28, 1)
        assert (x.dtype, x.min() >= 0, x.max() <= 1) == (np.float32, True, True)
    again = train.split(images, labels)
    assert all(np.array_equal(parts[n][0], again[n][0]) for n in parts)


def test_augmentation_moves_and_loses_nothing_in_the_middle(train: ModuleType) -> None:
    images = np.zeros((50, 28, 28, 1), np.float32)
    images[:, 10:18, 10:18] = 1.0
    moved = train.shifted(images, np.random.default_rng(1))
    assert moved.shape == images.shape
    assert np.array_equal(moved.sum(axis=(1, 2, 3)), images.sum(axis=(1, 2, 3)))
    assert not np.array_equal(moved, images)


def test_the_data_files_hold_what_edgeship_reads(train: ModuleType, tmp_path: Path) -> None:
    x, y = np.ones((5, 28, 28, 1), np.float32), np.arange(5)
    train.write_data(tmp_path, {"calibration": (x, y), "evaluation": (x, y)})
    with np.load(tmp_path / "wrong-scale.npz") as wrong, np.load(tmp_path / "evaluation.npz") as evaluation:
        assert wrong["image"].max() == pytest.approx(0.01)
        assert sorted(evaluation) == ["image", "labels"]


def test_what_an_import_logs_is_shown_only_where_it_fails(train: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with train.quiet():
        os.write(2, b"native code says something\n")
    assert capfd.readouterr().err == ""

    def importing() -> None:
        os.write(2, b"a library is missing\n")
        raise ImportError

    with pytest.raises(ImportError), train.quiet():
        importing()
    print("and after it", file=sys.stderr)
    assert capfd.readouterr().err == "a library is missing\nand after it\n"


@pytest.mark.slow
def test_nothing_is_logged_when_the_framework_is_imported(tmp_path: Path) -> None:
    """The first lines that `make demo` shows are the training's own."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import train; sys.exit(train.main(sys.argv[2:]))"
    arguments = ("--folder", str(tmp_path), "--epochs", "1")
    done = subprocess.run(
        [sys.executable, "-c", code, str(FOLDER), *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stderr == ""
    assert done.stdout.startswith("training 105,866 parameters")


def test_a_command_is_shown_with_its_output_and_its_exit_code_is_checked(
    stage: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play = stage.Stage(tmp_path)
    assert play.run("python -c 'print(6 * 7)'") == "42\n"
    assert "$ python -c" in capsys.readouterr().out
    play.run("python -c 'raise SystemExit(6)'", code=6)
    with pytest.raises(stage.Deviation, match="exit code 7, 0 was expected"):
        play.run("python -c 'raise SystemExit(7)'")
    with pytest.raises(stage.Deviation, match="does not hold: two is three"):
        play.check(False, "two is three")


def test_the_demos_own_questions_are_asked_as_json(stage: ModuleType, tmp_path: Path) -> None:
    play = stage.Stage(tmp_path)
    answer = "import sys; assert sys.argv[1:] == ['--json']; print('{\"data\": [1]}')"
    assert play.ask("python", "-c", answer) == [1]
    with pytest.raises(stage.Deviation, match="ended with 3"):
        play.ask("python", "-c", "raise SystemExit(3)")


@pytest.fixture
def device() -> Iterator[tuple[int, list[int]]]:
    """A server that answers infer requests; its port, and a list whose first number is the version it serves."""
    version = [1]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"model_version": str(version[0])}).encode()
            self.send_response(200 if version[0] else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1], version
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_prober_counts_answers_versions_and_failures(stage: ModuleType, device: tuple[int, list[int]]) -> None:
    port, version = device
    with stage.Prober({"pi": port}, "digits", b"{}", pause=0.01) as prober:
        stage.until("answers", lambda: prober.answered["pi"] >= 3, seconds=20)
        version[0] = 2
        stage.until("the new version", lambda: prober.versions["pi"] == ["1", "2"], seconds=20)
        assert prober.failures == []
        version[0] = 0
        stage.until("a failure", lambda: prober.failures, seconds=20)
    assert prober.failures[0].startswith("pi: HTTP Error 503")
    assert prober.total == prober.answered["pi"]


def test_what_is_left_running_is_found_by_its_folder_and_ended(stage: ModuleType, tmp_path: Path) -> None:
    code = "import time; print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        assert list(stage.left_running(tmp_path)) == [process.pid]
        stage.end([process.pid])
        assert process.wait() == -9
    assert stage.left_running(tmp_path) == {}
    stage.end([process.pid])


def test_waiting_ends_with_a_deviation(stage: ModuleType) -> None:
    with pytest.raises(stage.Deviation, match="the impossible: not within"):
        stage.until("the impossible", lambda: False, seconds=0.05, every=0.01)
