"""The host is measured by the device's own worker, with real models and runtime libraries."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeship.bench import host, machine
from edgeship.bench.host import HostModel
from edgeship.bench.protocol import BenchOptions
from edgeship.bench.record import Conditions
from edgeship.dataset import Dataset
from edgeship.deploy.contact import Agent
from edgeship.errors import InputError
from edgeship.libraries import Library
from edgeship.runtime.manifest import TensorSpec
from tests.simulators import models
from tests.simulators.models import TinyModel


@pytest.fixture(scope="module")
def agent() -> bytes:
    return Agent.own().zipapp


def host_model(tiny: TinyModel) -> HostModel:
    return HostModel(
        "tiny", tiny.path, tiny.format, tiny.precision, tiny.inputs, tiny.outputs, tiny.sha256,
        tiny.path.stat().st_size,
    )  # fmt: skip


def library(format: str) -> Library:  # noqa: A002
    path = models.library(format)
    return Library(path.name, platform.machine(), path, path, models.sha256(path), path.stat().st_size)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("make", [models.tiny_tflite, models.tiny_onnx])
def test_a_model_is_measured_by_the_agents_worker(
    make: Callable[[Path], TinyModel], tmp_path: Path, agent: bytes
) -> None:
    tiny = make(tmp_path / "model")
    made = host.run(host_model(tiny), library(tiny.format), agent, BenchOptions(64, 4, 20.0))
    assert len(made.latencies_us) == 64
    assert all(latency > 0 for latency in made.latencies_us)
    assert made.memory.pss_bytes is not None
    assert made.memory.pss_bytes > 1_000_000
    assert made.load_us is not None
    assert (made.place.name, made.place.arch) == ("host", platform.machine())
    assert made.identity.sha256 == tiny.sha256
    assert made.software.library == library(tiny.format).name
    assert made.protocol.input == "4 random samples, seed 20261122, in turn"


def test_real_samples_are_used_where_there_are_some(tmp_path: Path, agent: bytes) -> None:
    tiny = models.tiny_tflite(tmp_path / "m.tflite")
    x, _ = models.samples(5)
    data = Dataset({"image": x.reshape(-1, *models.SHAPE)})
    made = host.run(host_model(tiny), library("tflite"), agent, BenchOptions(8, 0, 20.0), samples=data)
    assert made.protocol.input == "4 samples of the evaluation data, in turn"
    path = tmp_path / "golden"
    assert host.write_inputs(path, host_model(tiny), data)[0] == 4
    assert path.read_bytes()[: 4 * 64] == tiny.quantize(x)[: 4 * 64]


def test_a_model_that_was_changed_on_the_way_is_not_loaded(tmp_path: Path, agent: bytes) -> None:
    tiny = models.tiny_tflite(tmp_path / "m.tflite")
    model = host_model(tiny)
    raw = bytearray(tiny.path.read_bytes())
    raw[-1] ^= 1
    tiny.path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot be run"):
        host.run(model, library("tflite"), agent, BenchOptions(8))


def test_a_worker_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = b"raise SystemExit('no agent here')"
    with host.worker(broken, tmp_path) as child, pytest.raises(InputError, match=r"during 'load': no agent here"):
        child.request("load", {}, seconds=20)


def test_a_worker_that_dies_without_a_word_is_told(tmp_path: Path) -> None:
    with host.worker(b"", tmp_path) as child, pytest.raises(InputError, match="died during 'bench'"):
        child.request("bench", {}, seconds=20)


@pytest.mark.parametrize(
    ("code", "seconds", "says"),
    [
        ("time.sleep(60)", 0.3, "did not answer 'load'"),
        ("c.sendall(b'nonsense, not a frame'); time.sleep(60)", 30.0, "died during"),
    ],
)
def test_a_worker_that_hangs_or_babbles_is_ended(tmp_path: Path, code: str, seconds: float, says: str) -> None:
    stuck = f"import socket, sys, time\nc = socket.socket(fileno=int(sys.argv[3]))\n{code}\n"
    with host.worker(stuck.encode(), tmp_path) as child:
        with pytest.raises(InputError, match=says):
            child.request("load", {}, seconds=seconds)
        child.end_after = 0.1
    assert not alive(child.pid)


def test_inputs_that_are_no_real_values_are_made_too(tmp_path: Path) -> None:
    spec = TensorSpec("ids", "int32", (1, 3))
    model = HostModel("m", tmp_path / "m", "onnx", "float32", (spec,), (spec,), "ab" * 32, 1)
    count, source = host.write_inputs(tmp_path / "golden", model, None)
    assert (count, source) == (4, "4 random samples, seed 20261122")
    assert (tmp_path / "golden").stat().st_size == 4 * 3 * 4 + 4 * 4 + 4 * 3 * 4
    np.testing.assert_array_equal(np.frombuffer((tmp_path / "golden").read_bytes()[:48], "<i4"), 0)


def test_this_machine_is_read_from_the_kernel(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "processor : 0\nmodel name : Test CPU\n", "proc/meminfo": "MemTotal: 1000 kB\n",
        "etc/os-release": 'NAME="x"\nPRETTY_NAME="Test OS 1"\n', "proc/loadavg": "1.25 0.5 0.1 1/2 3\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": "51500\n", "sys/devices/virtual/dmi/id/product_name": "Board\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = machine.place(tmp_path)
    assert (found.cpu, found.memory_bytes, found.system) == ("Test CPU", 1_024_000, "Test OS 1")
    assert (found.governor, found.board) == ("powersave", "Board")
    assert machine.conditions(tmp_path) == Conditions(1.25, 51.5, 2.4e9)


def test_what_the_kernel_does_not_tell_is_unknown(tmp_path: Path) -> None:
    found = machine.place(tmp_path)
    assert (found.cpu, found.memory_bytes, found.system, found.governor) == (None, None, None, None)
    assert machine.conditions(tmp_path) == Conditions()
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("hot")
    assert machine.conditions(tmp_path).temperature_celsius is None
