"""What a clumsy or hostile user gives to the command line: a clear error, the right exit code, nothing lost.

Every refusal names what and which, and what to type next; none is a traceback or "a defect of edgeship".
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.cli import choose
from edgeship.lab.devices import Lab, Spec
from edgeship.lab.faults import fault
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.models import samples, tiny_tflite

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("edgeship")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model, its data and the device sim, on which nothing was installed yet; the current folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "tiny"
    folder.mkdir()
    monkeypatch.chdir(folder)
    x, labels = samples(400)
    np.savez_compressed("calibration.npz", image=x[:100])
    np.savez_compressed("evaluation.npz", image=x[100:], labels=labels[100:])
    tiny_tflite(folder / "tiny.tflite", precision="float32")
    run("init")
    return folder


@pytest.fixture
def served(project: Path) -> Iterator[Path]:
    """The same after a first push."""
    run("push", "--no-bench", "--skip-check")
    yield project
    run("agent", "uninstall", "-l", "name=sim", "--yes")


def _truncated(folder: Path) -> None:
    (folder / "bad.tflite").write_bytes((folder / "tiny.tflite").read_bytes()[:700])


def _turned(folder: Path) -> None:
    np.savez_compressed(folder / "bad.npz", image=np.zeros((20, 8, 7, 1), np.float32))


def _few_labels(folder: Path) -> None:
    np.savez_compressed(folder / "bad.npz", image=np.zeros((20, 8, 8, 1), np.float32), labels=np.arange(19))


def _fractions(folder: Path) -> None:
    np.savez_compressed(folder / "bad.npz", image=np.zeros((2, 8, 8, 1), np.float32), labels=np.array([0.5, 1]))


def _cut_data(folder: Path) -> None:
    (folder / "bad.npz").write_bytes((folder / "evaluation.npz").read_bytes()[:9_000])


def _undecodable(folder: Path) -> None:
    (folder / os.fsdecode(b"evil\n\x1b[31m\xff.onnx")).write_bytes(b"no model")


def _nothing(_folder: Path) -> None:
    pass


#: What is given -> (prepared by, command line, exit code, what the message says).
BAD: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int, str]] = {
    "no such model": (_nothing, ("push", "nope.tflite"), 2, "nope.tflite: no such file"),
    "empty model": (lambda f: (f / "bad.onnx").touch(), ("push", "bad.onnx"), 1, "bad.onnx: the file is empty"),
    "truncated model": (_truncated, ("push", "bad.tflite"), 1, "bad.tflite: not a sound TFLite file"),
    "bytes that are no model": (
        lambda f: (f / "bad.keras").write_bytes(os.urandom(99)), ("push", "bad.keras"), 1, "bad.keras: the suffix says"
    ),
    "a folder for a model": (_nothing, ("push", "."), 2, ".: a folder, but no SavedModel"),
    "a pipe for a model": (lambda f: os.mkfifo(f / "bad.tflite"), ("push", "bad.tflite"), 2, "bad.tflite: not a file"),
    "a name that is too long": (_nothing, ("push", "a" * 300), 1, "File name too long"),
    "a name with a line feed, an escape and a wrong byte": (
        _undecodable, ("push", os.fsdecode(b"evil\n\x1b[31m\xff.onnx")), 1, ".onnx: "
    ),
    "no such data": (_nothing, ("push", "--evaluation", "nope.npz"), 2, "nope.npz: no such data"),
    "no such data, dry": (_nothing, ("push", "--calibration", "nope.npz", "--dry-run"), 2, "no such data"),
    "empty data": (
        lambda f: (f / "bad.npz").touch(), ("push", "--evaluation", "bad.npz"), 1, "bad.npz: not a readable .npz file"
    ),
    "truncated data": (_cut_data, ("push", "--evaluation", "bad.npz"), 1, "bad.npz: not a readable .npz file"),
    "data of another shape": (_turned, ("push", "--calibration", "bad.npz"), 1, "bad.npz: "),
    "labels of other samples": (_few_labels, ("push", "--evaluation", "bad.npz"), 1, "expected shape [20], got [19]"),
    "labels of other classes": (
        lambda f: np.savez_compressed(f / "bad.npz", image=np.zeros((20, 8, 8, 1), np.float32), labels=np.arange(20)),
        ("push", "--evaluation", "bad.npz"), 1, "the label 19, the model has the classes 0 to 9"
    ),
    "labels that are no classes": (_fractions, ("push", "--evaluation", "bad.npz"), 1, "class indices (integers)"),
    "a model for data": (_nothing, ("push", "--calibration", "tiny.tflite"), 1, "not a readable .npz file"),
    "no such device": (_nothing, ("push", "-l", "name=sm"), 2, "no device matches 'name=sm'"),
    "a selector that is none": (_nothing, ("push", "-l", "a b"), 2, "the selector's term 'a b' is not understood"),
    "unknown profile": (
        _nothing, ("device", "add", "x", "127.0.0.1", "--profile", "raspbery-pi-5"), 2, "did you mean 'raspberry-pi-5'?"
    ),
    "unsupported profile": (
        _nothing, ("device", "add", "x", "127.0.0.1", "--profile", "jetson-nano"), 6, "cannot carry the agent"
    ),
    "a name that cannot be looked up": (
        _nothing, ("device", "add", "x", "a..b", "--profile", "raspberry-pi-5"), 5, "'a..b' has no address"
    ),
    "an option for a host": (
        _nothing, ("device", "add", "x", "pi@-oProxyCommand=id", "--profile", "raspberry-pi-5"), 2,
        "not the name or address of a host",
    ),
    "a quote that is not closed": (
        _nothing, ("device", "add", "x", "127.0.0.1", "--profile", "raspberry-pi-5", "--python", '"py'), 2,
        "No closing quotation",
    ),
    "nothing listens": (
        _nothing, ("device", "add", "x", "127.0.0.1", "--port", "1", "--profile", "raspberry-pi-5"), 5,
        "refuses connections",
    ),
    "a virtual device with no plain name": (_nothing, ("lab", "up", "a b=raspberry-pi-5"), 2, "not a plain name"),
    "no such virtual device": (_nothing, ("lab", "fault", "pi", "power-cut"), 2, "no virtual device 'pi'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_what_is_wrong_and_what_to_do(project: Path, name: str) -> None:
    prepare, args, code, message = BAD[name]
    prepare(project)
    before = run("device", "list", "--json").stdout, run("release", "list", "--json").stdout

    words = run(*args, exit_code=code)
    error = run_error(*args, exit_code=code)

    assert message in words.stderr
    assert error["hint"]
    assert f"  next: {error['hint']}" in words.stderr
    assert words.stdout == ""
    for text in ("Traceback", "defect", "\x1b"):
        assert text not in words.stderr
    assert (run("device", "list", "--json").stdout, run("release", "list", "--json").stdout) == before
    assert not (project / ".edgeship" / "sim").exists()


def test_labels_of_other_classes_are_found_before_anything_is_built(project: Path) -> None:
    prepare, args, _, _ = BAD["labels of other classes"]
    prepare(project)
    run(*args, exit_code=1)
    assert not (project / ".edgeship" / "variants").exists()


def test_a_misspelt_key_is_named_with_file_and_line(project: Path) -> None:
    with (project / "edgeship.toml").open("a") as file:
        file.write('\n[modle]\nsource = "tiny.tflite"\n')
    line = (project / "edgeship.toml").read_text().splitlines().index("[modle]") + 1
    for args in (("push",), ("status",), ("init",)):
        error = run_error(*args, exit_code=2)
        assert f"edgeship.toml:{line}: unknown table 'modle'; did you mean 'model'?" in error["message"]


@pytest.mark.ssh
def test_a_device_that_is_not_what_it_was(project: Path) -> None:
    """Another host key, a key that it does not know, no power: 4, 4, 5; and a device of an unsupported kind: 6."""
    lab = Lab(project / ".edgeship" / "lab", "tiny")
    try:
        pi = lab.up([Spec("pi", "raspberry-pi-5")])[0]
        other = lab.up([Spec("other", "raspberry-pi-5")])[0]
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "wrong"], check=True)
        for changed, code, message in (
            (replace(pi, host_key=other.host_key), 4, "key"),
            (replace(pi, identity=str(project / "wrong")), 4, "refused"),
            (replace(pi, profile="jetson-nano"), 6, "cannot carry the agent"),
            (replace(pi, python=("python9",)), 1, "Python cannot be started"),
        ):
            with choose.opened() as (_, store):
                store.save_device(changed)
            error = run_error("push", "-l", "name=pi", "--skip-check", exit_code=code)
            assert message in error["message"]
            assert error["device"] == "pi"
            assert error["hint"]
        with choose.opened() as (_, store):
            store.save_device(pi)
        fault(lab, "pi", "power-cut")
        assert run_error("push", "-l", "name=pi", "--skip-check", exit_code=5)["hint"]
        fault(lab, "pi", "power-on")
        assert run_json("push", "push", "-l", "name=pi", "--skip-check", "--no-bench")["devices"][0]["device"] == "pi"
    finally:
        lab.down()


# ── a project that was damaged ───────────────────────────────────────────────────────────────────────────────────────


def test_keys_that_are_gone_are_not_replaced_by_others(served: Path) -> None:
    """New keys would be trusted by no device, and hide that the old ones are lost."""
    state = served / ".edgeship"
    (state / "keys").rename(served / "backup")
    for args in (("push", "--skip-check"), ("rollback",), ("release", "list")):
        assert "no signing keys" in run_error(*args, exit_code=1)["message"]

    error = run_error("init", exit_code=1)
    assert "restore them from your backup" in error["hint"]
    assert not (state / "keys").exists()

    (served / "backup").rename(state / "keys")
    run("push", "--no-bench", "--skip-check")


def test_a_store_that_is_damaged_is_named_and_left_alone(served: Path) -> None:
    store = served / ".edgeship" / "fleet.db"
    good = store.read_bytes()
    for bad in (b"no database" * 1000, good[:5000] + bytes(40_000) + good[45_000:]):
        store.write_bytes(bad)
        for args in (("status",), ("push", "--skip-check"), ("init",)):
            error = run_error(*args, exit_code=1)
            assert (error["kind"], "damaged" in error["hint"]) == ("StoreError", True)
        assert store.read_bytes() == bad
    store.write_bytes(good)
    run("push", "--no-bench", "--skip-check")


def test_a_state_folder_that_was_deleted_is_made_anew_and_its_agent_ends(served: Path) -> None:
    shutil.rmtree(served / ".edgeship")
    assert "no device is enrolled" in run_error("push", exit_code=2)["message"]
    run("init")
    run("push", "--no-bench", "--skip-check")
    assert [d["name"] for d in run_json("device.list", "device", "list")] == ["sim"]


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False, timeout=120,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | {"E": str(COMMAND)},
    )  # fmt: skip


@pytest.mark.parametrize("json", ["", "--json"])
def test_a_reader_that_goes_away_and_streams_that_are_closed(project: Path, json: str) -> None:
    assert shell(f'"$E" profile list {json} | true').stderr == ""
    assert (shell(f'"$E" profile list {json} >&-').returncode, shell(f'"$E" profile list {json} <&-').returncode) == (
        0,
        0,
    )
    assert shell(f'"$E" profile show nope {json} 2>&-').returncode == 2
    full = shell(f'"$E" profile list {json} >/dev/full')
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "defect" not in full.stderr


def test_a_push_that_nobody_reads_goes_through(served: Path) -> None:
    """Files of ours never take the number of a stream that was closed; who no longer reads stops nothing."""
    assert shell('"$E" push --no-bench --skip-check <&- >&- 2>&-').returncode == 0
    shell('"$E" push --no-bench --skip-check 2>&1 | true')
    with choose.opened() as (_, store):
        assert len(store.entries(actions=("deploy.good",))) == 3


def test_a_plain_terminal_gets_plain_text(project: Path) -> None:
    for setting in ("NO_COLOR=1", "TERM=dumb", "TERM=nonsense"):
        done = shell(f'{setting} "$E" profile list; {setting} "$E" push nope.tflite')
        assert "\x1b" not in done.stdout + done.stderr
