"""The main job over real OpenSSH: push, serve, update, refuse, survive a power cut, report, go back.

The model is tiny and the data is made, so that what takes time here is the real path: quantizer, engines, signatures,
Debian's sshd in bubblewrap, the agent.
"""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from edgeship.lab import sshd
from tests.simulators.commandline import run, run_error, run_json
from tests.simulators.models import samples, tiny_onnx, tiny_tflite

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


class Fleet:
    """A project with three virtual devices, in the current folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices = {d["name"]: d for d in run_json("device.list", "device", "list")}

    def url(self, device: str, path: str) -> str:
        return f"http://127.0.0.1:{self.devices[device]['serve_port']}{path}"

    def ask(self, device: str) -> tuple[int, str]:
        """What the device's serving port answers to a sample of class 3: status and winning class."""
        x, labels = samples(64)
        image = x[int(np.flatnonzero(labels == 3)[0])]
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8, 1], "data": image.ravel().tolist()}
        request = urllib.request.Request(
            self.url(device, "/v2/models/tiny/infer"), json.dumps({"inputs": [tensor]}).encode()
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            scores = json.load(answer)["outputs"][0]["data"]
            return answer.status, str(int(np.argmax(scores)))

    def agent(self, device: str) -> dict[str, Any]:
        states = run_json("agent.status", "agent", "status", "-l", f"name={device}")
        found: dict[str, Any] = states[0]["status"]
        return found


def windows_closed(fleet: Fleet) -> None:
    """Wait until the device pi has written down the window that is open now; windows last a second."""
    last = fleet.agent("pi")["windows"]["next"]
    deadline = time.monotonic() + 60
    while fleet.agent("pi")["windows"]["next"] == last:
        assert time.monotonic() < deadline, "no window is closed"
        time.sleep(0.2)


def requests_of_pi() -> int:
    (row,) = run_json("telemetry.query", "telemetry", "query", "-l", "name=pi", "--metric", "requests")
    count: int = row["values"]["requests"]
    return count


class Prober:
    """Asks a device all the time; counts answers that were wrong or failed."""

    def __init__(self, fleet: Fleet, device: str) -> None:
        self.fleet, self.device, self.good, self.bad = fleet, device, 0, [""][1:]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                status, winner = self.fleet.ask(self.device)
                if (status, winner) == (200, "3"):
                    self.good += 1
                else:
                    self.bad.append(f"{status} {winner}")
            except OSError as error:
                self.bad.append(repr(error))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def save(folder: Path) -> None:
    x, labels = samples(400)
    np.savez_compressed(folder / "calibration.npz", image=x[:100])
    np.savez_compressed(folder / "evaluation.npz", image=x[100:], labels=labels[100:])
    np.savez_compressed(folder / "wrong-scale.npz", image=x[:100] / 100)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if (why := sshd.missing()) and not os.environ.get("CI"):
        pytest.skip(f"Debian's sshd and bubblewrap are needed: {why}")
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        save(folder)
        tiny_tflite(folder / "tiny.tflite", precision="float32")
        run("init", "--name", "tiny")
        config = (folder / "edgeship.toml").read_text().replace('window = "60s"', 'window = "1s"')
        (folder / "edgeship.toml").write_text(config)
        run("lab", "up")
        yield Fleet(folder)
    finally:
        run("lab", "down")
        os.chdir(before)


def test_01_a_first_push_reaches_three_kinds_of_devices(fleet: Fleet) -> None:
    result = run_json("push", "push", "tiny.tflite", "-l", "lab=tiny")
    assert {d["device"] for d in result["devices"]} == {"pi", "jetson", "phone"}
    assert all(d["sent"]["runtime library"] > 1_000_000 and d["sent"]["agent"] > 100_000 for d in result["devices"])
    assert all(c["passed"] and c["variant"] > 0.9 for c in result["checks"].values())
    assert all(d["probe"]["passed"] for d in result["devices"])
    for device in ("pi", "jetson", "phone"):
        assert fleet.ask(device) == (200, "3")


def test_02_infer_shows_answers_beside_the_true_labels(fleet: Fleet) -> None:
    answers = run_json("infer", "infer", "pi", "--n", "5")
    assert [a["sample"] for a in answers] == [0, 1, 2, 3, 4]
    assert sum(a["label"] == a["predicted"] for a in answers) >= 4
    assert "right" in run("infer", "jetson", "--data", "evaluation.npz", "--n", "3").stdout


def test_03_the_same_again_sends_next_to_nothing(fleet: Fleet) -> None:
    result = run_json("push", "push", "tiny.tflite", "-l", "lab=tiny", "--no-bench")
    for device in result["devices"]:
        assert {kind for kind, size in device["sent"].items() if size} == {"metadata"}
        assert device["sent_bytes"] < 20_000


def test_04_the_hosts_check_refuses_a_wrong_calibration_and_nothing_is_sent(fleet: Fleet) -> None:
    serving = fleet.agent("pi")["counter"]
    error = run_error("push", "tiny.tflite", "-l", "lab=tiny", "--calibration", "wrong-scale.npz", exit_code=6)
    assert error["kind"] == "GateError"
    assert "does not compute what its source does" in error["message"]
    assert "calibration data" in error["hint"]
    assert fleet.agent("pi")["counter"] == serving


def test_05_forced_past_the_check_the_devices_refuse_it_and_never_stop_serving(fleet: Fleet) -> None:
    serving = {name: fleet.agent(name)["counter"] for name in ("pi", "jetson", "phone")}
    with Prober(fleet, "pi") as prober:
        error = run_error(
            "push", "tiny.tflite", "-l", "lab=tiny", "--calibration", "wrong-scale.npz", "--skip-check", exit_code=7
        )
    assert "golden samples agree" in error["message"]
    assert prober.good > 3
    assert prober.bad == []
    assert {name: fleet.agent(name)["counter"] for name in serving} == serving
    newest = run_json("release.list", "release", "list")[0]
    assert newest["checks_skipped"] is True
    assert newest["approved_by"]


def test_06_an_update_loses_no_request(fleet: Fleet) -> None:
    tiny_onnx(fleet.folder / "tiny.onnx", precision="float32")
    with Prober(fleet, "phone") as prober:
        result = run_json("push", "push", "tiny.onnx", "-l", "name=phone")
    assert prober.bad == []
    assert fleet.agent("phone")["counter"] == result["counter"]
    assert fleet.agent("phone")["format"] == "onnx"


def test_07_after_a_power_cut_it_serves_again_without_help_and_old_telemetry_arrives(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.ask("pi")
    windows_closed(fleet)
    counter = fleet.agent("pi")["counter"]
    run("lab", "fault", "pi", "power-cut")
    with pytest.raises(OSError, match=r"refused|reset"):
        fleet.ask("pi")
    assert run_error("infer", "pi", exit_code=5)["kind"] == "UnreachableError"
    run("lab", "fault", "pi", "power-on")
    deadline = time.monotonic() + 60
    answer = None
    while answer is None and time.monotonic() < deadline:
        try:
            answer = fleet.ask("pi")
        except OSError:
            time.sleep(0.2)
    assert answer == (200, "3")
    assert fleet.agent("pi")["counter"] == counter
    windows_closed(fleet)
    run("telemetry", "pull", "-l", "lab=tiny")
    before = requests_of_pi()
    assert before >= 6
    run("telemetry", "pull", "-l", "lab=tiny")
    after = requests_of_pi()
    assert after == before


def test_08_a_rollback_is_a_new_release_of_old_files(fleet: Fleet) -> None:
    result = run_json("rollback", "rollback", "-l", "name=phone", "--yes")
    assert result["to"] == 2, "not release 3, which the devices refused"
    assert fleet.agent("phone")["counter"] == result["counter"]


def test_09_a_dry_run_does_nothing(fleet: Fleet) -> None:
    before = run_json("release.list", "release", "list")
    plan = run_json("push.plan", "push", "tiny.tflite", "-l", "lab=tiny", "--dry-run")
    assert [s["step"] for s in plan["steps"]].count("deploy") == 3
    searches = [s["summary"] for s in plan["steps"] if s["step"] == "search"]
    assert "only if the check fails: tflite int8 with other ranges" in searches[0]
    skipped = run_json("push.plan", "push", "tiny.tflite", "-l", "lab=tiny", "--dry-run", "--skip-check")
    assert "search" not in [s["step"] for s in skipped["steps"]]
    assert run_json("release.list", "release", "list") == before


def test_10_one_device_that_is_gone_does_not_stop_the_others(fleet: Fleet) -> None:
    run("lab", "fault", "jetson", "power-cut")
    error = run_error("push", "tiny.tflite", "-l", "name in (pi,jetson)", "--no-bench", exit_code=3)
    assert set(error["failures"]) == {"jetson"}
    assert error["failures"]["jetson"]["exit_code"] == 5
    run("lab", "fault", "jetson", "power-on")


def test_11_the_fleet_is_shown(fleet: Fleet) -> None:
    status = run("status").stdout
    assert all(name in status for name in ("pi", "jetson", "phone", "sim"))
