"""One connection of a host: what is staged, what is refused, and what a hang-up leaves."""

from __future__ import annotations

import base64
import hashlib
import lzma
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.runtime import rpc as module
from edgeship.runtime.disk import Disk
from edgeship.runtime.layout import Layout
from edgeship.runtime.rpc import Channel, Rpc
from edgeship.runtime.wire import data_frames, frame, json_frame
from tests.simulators.agent import PROFILE, Host, Refused, SimulatedDevice, add_tiny_release, development_app
from tests.simulators.repository import SimulatedRepository

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return development_app(tmp_path_factory.mktemp("agent"))


@pytest.fixture
def device(app: Path, tmp_path: Path) -> Iterator[SimulatedDevice]:
    device = SimulatedDevice(tmp_path / "device", app)
    yield device
    device.stop()


@pytest.fixture
def host(device: SimulatedDevice) -> Iterator[Host]:
    with device.connect() as host:
        yield host


def put(host: Host, data: bytes, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": "blob", "name": "", "sha256": SHA, "bytes": len(CONTENT), "encoding": "raw", "offset": 0,
        "encoded_bytes": len(CONTENT), **changes,
    }  # fmt: skip
    return host.ask("put", data, **fields)


def refused(code: str, words: str = "") -> Any:
    class Expectation:
        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: object, error: object, trace: object) -> bool:
            assert isinstance(error, Refused), f"not refused: {error!r}"
            assert error.code == code, str(error)
            assert words in str(error)
            return True

    return Expectation()


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_hello_and_facts(host: Host, device: SimulatedDevice) -> None:
    hello = host.hello()
    assert hello["protocol"] == 1
    assert hello["enrolled"] is False
    assert hello["root_sha256"] is None
    assert abs(hello["clock_skew_seconds"]) < 60
    assert host.ask("hello", protocol=1, clock=time.time() - 1000)["clock_skew_seconds"] > 900
    assert host.ask("facts")["cores"] >= 1
    host.ask("configure", arch="aarch64")
    assert host.ask("facts")["arch"] == "aarch64"
    assert host.ask("logs", lines=10) == {"lines": []}
    assert (device.root.stat().st_mode & 0o777) == 0o700
    with refused("protocol"):
        host.ask("hello", protocol=2, clock=0)


def test_wrong_requests_are_answered_and_the_connection_goes_on(host: Host) -> None:
    with refused("bad-request"):
        host.ask("format-disk")
    with refused("protocol"):
        host.ask("logs", lines="many")
    with refused("protocol"):
        host.ask("have", blobs=[{"sha256": "../etc/passwd", "bytes": 1}])
    assert host.hello()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n", frame(b"D", b"x"), b"J\xff\xff\xff\xff", b"J\0\0\0\2[]",
        b'J\0\0\0\x0c{"id":1,"id":1}', b"J\0\0\0\5ab", b"\0" * 100,
    ],
)  # fmt: skip
def test_malformed_frames_end_the_connection(host: Host, nonsense: bytes) -> None:
    host.write(nonsense)
    assert host.process.stdin is not None
    host.process.stdin.flush()
    if nonsense.startswith(b"J\0\0\0\5"):
        assert host.close() == 1
        return
    with refused("protocol"):
        host.receive()
    assert host.process.wait(30) == 1


# ── enrolling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_enrolling_once_and_again(host: Host) -> None:
    repo, other = SimulatedRepository(), SimulatedRepository()
    host.enroll(repo)
    hello = host.hello()
    assert (hello["enrolled"], hello["name"]) == (True, "device")
    assert hello["root_sha256"] == hashlib.sha256(repo.root_bytes).hexdigest()
    root = base64.b64encode(repo.root_bytes).decode()
    host.ask("enroll", name="renamed", profile=PROFILE, root=root)
    assert host.hello()["name"] == "renamed"
    with refused("enrolled-elsewhere"):
        host.enroll(other)
    assert host.hello()["root_sha256"] == hello["root_sha256"]


def test_what_is_no_root_is_not_pinned(host: Host) -> None:
    repo = SimulatedRepository()
    for root, code in ((repo.metadata["timestamp.json"], "untrusted"), (b"{}", "untrusted")):
        with refused(code):
            host.ask("enroll", name="device", profile=PROFILE, root=base64.b64encode(root).decode())
    with refused("bad-request"):
        host.ask("enroll", name="device", profile=PROFILE, root="not base64!")
    with refused("protocol"):
        host.ask("enroll", name="a device", profile=PROFILE, root=base64.b64encode(repo.root_bytes).decode())
    assert host.hello()["enrolled"] is False


def test_the_boot_hook_comes_and_goes(app: Path, tmp_path: Path) -> None:
    device = SimulatedDevice(tmp_path / "device", app, environment={"HOME": str(tmp_path)})
    hook = tmp_path / ".termux" / "boot" / "edgeship.sh"
    with device.connect() as host:
        host.ask("configure", boot_hook="termux", python=["proot-distro", "login", "debian", "--", "python3"])
        assert "nohup proot-distro login debian -- python3 -I" in hook.read_text()
        host.ask("configure", boot_hook="termux", python=[])
        assert "proot" not in hook.read_text()
        host.ask("configure", boot_hook="none")
    assert not hook.exists()


# ── staging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["raw", "xz"])
def test_a_blob_is_stored_and_known(host: Host, device: SimulatedDevice, encoding: str) -> None:
    host.put("blob", CONTENT, encoding=encoding)
    blob = device.root / "blobs" / SHA
    assert blob.read_bytes() == CONTENT
    assert blob.stat().st_mode & 0o777 == 0o400
    have = host.ask("have", blobs=[{"sha256": SHA, "bytes": len(CONTENT)}, {"sha256": "0" * 64, "bytes": 1}])
    assert have["present"] == [SHA]
    assert have["partial"] == {}
    assert have["disk_free_bytes"] > 0
    assert not list((device.root / "partial").iterdir())
    assert host.ask("have", blobs=[{"sha256": SHA, "bytes": 5}])["present"] == []


@pytest.mark.parametrize("encoding", ["raw", "xz"])
def test_a_cut_transfer_resumes(device: SimulatedDevice, encoding: str) -> None:
    encoded = CONTENT if encoding == "raw" else lzma.compress(CONTENT)
    part = len(encoded) // 3
    with device.connect() as host:
        fields = {"kind": "blob", "name": "", "sha256": SHA, "bytes": len(CONTENT), "encoding": encoding, "offset": 0}
        host.write(json_frame({"id": 1, "op": "put", **fields, "encoded_bytes": len(encoded)}))
        host.write(frame(b"D", encoded[:part]))
    with device.connect() as host:
        have = host.ask("have", blobs=[{"sha256": SHA, "bytes": len(CONTENT)}])
        assert have["partial"] == {SHA: {"encoding": encoding, "bytes": part}}
        host.put("blob", CONTENT, encoding=encoding, offset=part)
    assert (device.root / "blobs" / SHA).read_bytes() == CONTENT


def test_what_was_changed_on_the_way_is_refused_and_forgotten(host: Host, device: SimulatedDevice) -> None:
    flipped = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    with refused("untrusted"):
        put(host, flipped)
    packed = lzma.compress(flipped)
    with refused("untrusted"):
        put(host, packed, encoding="xz", encoded_bytes=len(packed))
    with refused("untrusted"):
        put(host, b"not xz at all", encoding="xz", encoded_bytes=13)
    assert not list((device.root / "partial").iterdir())
    assert not list((device.root / "blobs").iterdir())
    host.put("blob", CONTENT)


def test_a_bomb_is_bounded(host: Host, device: SimulatedDevice) -> None:
    bomb = lzma.compress(b"\0" * 5_000_000)
    with refused("untrusted"):
        put(host, bomb, encoding="xz", encoded_bytes=len(bomb))
    assert not list((device.root / "blobs").iterdir())


def test_too_few_bytes_are_kept_for_the_next_try(host: Host) -> None:
    with refused("bad-request"):
        put(host, CONTENT[:1000])
    assert host.ask("have", blobs=[{"sha256": SHA, "bytes": len(CONTENT)}])["partial"][SHA]["bytes"] == 1000
    with refused("disk-error"):
        put(host, CONTENT[5000:], offset=5000)
    host.put("blob", CONTENT, offset=1000)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "program"}, {"kind": "metadata", "name": "../x.json"}, {"sha256": "x"}, {"encoding": "zip"},
        {"bytes": -1}, {"bytes": 1 << 40}, {"offset": -1}, {"offset": 1 << 30}, {"encoded_bytes": 1 << 30},
        {"kind": "metadata", "name": "timestamp.json", "bytes": 6_000_000, "encoded_bytes": 6_000_000},
    ],
)  # fmt: skip
def test_a_put_out_of_range_ends_the_connection(host: Host, device: SimulatedDevice, changes: dict[str, Any]) -> None:
    with refused("protocol"):
        put(host, b"x", **changes)
    assert not list((device.root / "partial").iterdir())


def test_what_another_push_swept_meanwhile_is_no_fault_of_the_disk(host: Host, device: SimulatedDevice) -> None:
    with refused("busy"):
        put(host, CONTENT[5000:], offset=5000)
    host.put("blob", CONTENT)
    assert (device.root / "blobs" / SHA).read_bytes() == CONTENT


def test_more_data_than_announced_ends_the_connection(host: Host, device: SimulatedDevice) -> None:
    with refused("protocol"):
        put(host, CONTENT + b"more")
    assert not (device.root / "blobs" / SHA).exists()


def test_metadata_lands_in_incoming(host: Host, device: SimulatedDevice) -> None:
    host.put("metadata", b'{"a": 1}', name="7.targets.json")
    assert (device.root / "incoming" / "7.targets.json").read_bytes() == b'{"a": 1}'


def test_links_and_fifos_in_staging_are_replaced(host: Host, device: SimulatedDevice, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    host.hello()
    (device.root / "partial" / f"{SHA}.raw").symlink_to(outside)
    assert host.ask("have", blobs=[{"sha256": SHA, "bytes": len(CONTENT)}])["partial"] == {}
    (device.root / "blobs" / SHA).symlink_to(outside)
    host.put("blob", CONTENT)
    assert not (device.root / "blobs" / SHA).is_symlink()
    os.mkfifo(device.root / "incoming" / "timestamp.json")
    os.mkfifo(device.root / "incoming" / ".new-timestamp.json")
    host.put("metadata", b"{}", name="timestamp.json", encoding="xz")
    assert (device.root / "incoming" / "timestamp.json").read_bytes() == b"{}"
    assert outside.read_bytes() == b"precious"


def test_a_second_push_is_told_to_wait(host: Host, device: SimulatedDevice) -> None:
    host.put("blob", CONTENT)
    with device.connect() as second:
        assert second.hello()
        with refused("busy"):
            second.put("metadata", b"{}", name="timestamp.json")
        with refused("busy"):
            second.ask("switch", manifest="digits/manifest.json", sha256=SHA)
        assert second.hello()
        host.close()
        second.put("metadata", b"{}", name="timestamp.json")


def test_a_full_disk_is_named_and_leaves_room_for_the_next(app: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without room: the write fails in the same place."""
    device = SimulatedDevice(tmp_path / "device", app)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, before[1]))
    try:
        host = device.connect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    with host:
        with refused("disk-full"):
            host.put("blob", CONTENT)
        assert not (device.root / "blobs" / SHA).exists()
        host.put("metadata", b"{}", name="timestamp.json")
    with device.connect() as again:
        again.put("blob", CONTENT)
    assert (device.root / "blobs" / SHA).read_bytes() == CONTENT


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_rpc_that_is_ended_leaves_nothing_half_done(device: SimulatedDevice, how: signal.Signals) -> None:
    host = device.connect()
    host.put("blob", CONTENT)
    host.write(json_frame({
        "id": 9, "op": "put", "kind": "blob", "name": "", "sha256": "1" * 64, "bytes": 1000, "encoding": "raw",
        "offset": 0, "encoded_bytes": 1000,
    }))  # fmt: skip
    host.process.send_signal(how)
    host.process.wait(30)
    host.close()
    assert [path.name for path in (device.root / "blobs").iterdir()] == [SHA]
    with device.connect() as again:  # the lock went with the process
        again.put("metadata", b"{}", name="timestamp.json")


# ── asking the supervisor ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_without_model(host: Host) -> None:
    assert host.ask("status")["state"] == "no-model"
    with refused("no-model"):
        host.ask("bench", runs=1, warmup=0, max_seconds=1)
    answer = host.ask("http", b"", method="GET", path="/v2/health/live", headers={})
    assert answer["status"] == 200
    assert host.ask("http", b"", method="GET", path="/v2/health/ready", headers={})["status"] == 503
    with refused("not-enrolled"):
        host.ask("switch", manifest="digits/manifest.json", sha256=SHA)
    with refused("protocol"):
        host.ask("switch", manifest="digits/manifest.json", sha256=None)
    with refused("worker"):
        host.ask("http", b"", method="GET", path="/a b\r\n", headers={})
    host.ask("stop")
    host.ask("stop")


def test_a_host_that_hangs_up_does_not_stop_an_install(device: SimulatedDevice, tmp_path: Path) -> None:
    repo = SimulatedRepository()
    release = add_tiny_release(repo, tmp_path)
    host = device.connect()
    host.enroll(repo)
    host.stage(repo)
    host.ask("status")
    host.send("switch", manifest=release.target, sha256=release.sha256)
    while not host.process.poll() and "verify" not in "".join(device_log(device)):
        time.sleep(0.01)
    host.process.kill()
    host.close()
    assert device.wait_for("serving")["counter"] == 1


def device_log(device: SimulatedDevice) -> list[str]:
    path = device.root / "log" / "agent.log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_changed_port_is_served_after_the_change(device: SimulatedDevice) -> None:
    with socket.socket() as one, socket.socket() as other:  # both are held, so that they differ
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        first, second = one.getsockname()[1], other.getsockname()[1]
    with device.connect() as host:
        assert host.ask("status")["serve"]["port"] is None
        for port in (first, second):
            host.ask("configure", serve_port=port)
            while host.ask("status")["serve"]["port"] != port:
                time.sleep(0.02)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", first)) != 0


def test_a_supervisor_that_cannot_start_says_why(device: SimulatedDevice, host: Host) -> None:
    host.hello()
    os.rmdir(device.root / "spool")
    (device.root / "spool").write_bytes(b"in the way")
    with refused("internal", "spool is not a directory of ours"):
        host.ask("status")


# ── without a process ────────────────────────────────────────────────────────────────────────────────────────────────


class FakeSupervisor:
    """Notes what is asked of the supervisor."""

    asked: list[str]

    def __init__(self, *_args: object) -> None:
        pass

    def stop(self) -> None:
        self.asked.append("stop")

    def ensure(self) -> socket.socket:
        self.asked.append("ensure")
        return socket.socket()


def requests_of(tmp_path: Path, data: bytes) -> tuple[Rpc, int]:
    """An `rpc` that reads these bytes, and where its answers can be read."""
    (tmp_path / "requests").write_bytes(data)
    layout = Layout.of(str(tmp_path / "device"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    answers, sink = os.pipe()
    return Rpc(layout, Disk(), "/no/agent", Channel(os.open(tmp_path / "requests", os.O_RDONLY), sink)), answers


def test_a_new_agent_takes_over_only_if_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = b"import sys; sys.exit(sys.argv[1:] != ['version'])"
    sha256 = hashlib.sha256(script).hexdigest()
    request = {
        "id": 1, "op": "put", "kind": "agent", "name": "agent", "sha256": sha256, "bytes": len(script),
        "encoding": "raw", "offset": 0, "encoded_bytes": len(script),
    }  # fmt: skip
    rpc, answers = requests_of(tmp_path, json_frame(request) + b"".join(data_frames(script)))
    monkeypatch.setattr(module, "Supervisor", FakeSupervisor)
    monkeypatch.setattr(rpc, "_supervisor", FakeSupervisor())
    monkeypatch.setattr(FakeSupervisor, "asked", [], raising=False)
    became: list[list[str]] = []

    def execv(_path: str, argv: list[str]) -> None:
        became.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(SystemExit):
        rpc.serve()
    path = tmp_path / "device" / "agent" / f"{sha256}.pyz"
    assert became == [[sys.executable, "-I", str(path), "rpc", "--root", str(tmp_path / "device")]]
    assert os.readlink(tmp_path / "device" / "agent" / "current") == path.name
    assert FakeSupervisor.asked == ["stop", "ensure"]
    assert b'"stored":true' in os.read(answers, 1000)
    os.close(answers)


def test_a_host_that_falls_silent_loses_the_lock_and_then_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.05)
    layout = Layout.of(str(tmp_path / "device"))
    for folder in layout.folders:
        Disk().mkdir(folder)
    source, feed = os.pipe()
    answers, sink = os.pipe()
    rpc = Rpc(layout, Disk(), "/no/agent", Channel(source, sink))
    rpc._hold()
    os.write(feed, json_frame({
        "id": 1, "op": "put", "kind": "blob", "name": "", "sha256": SHA, "bytes": 10, "encoding": "raw", "offset": 0,
        "encoded_bytes": 10,
    }))  # fmt: skip
    assert rpc.serve() == 1
    assert b"sent nothing for" in os.read(answers, 1000)
    assert rpc._lock is None

    rpc._hold()
    os.close(feed)
    assert rpc.serve() == 0
    for fd in (source, answers, sink):
        os.close(fd)


def test_the_lock_goes_when_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rpc, answers = requests_of(tmp_path, b"")
    silent = [True]
    monkeypatch.setattr(Channel, "silent", lambda _channel, _seconds: silent.pop())
    rpc._hold()
    assert rpc.serve() == 0
    assert rpc._lock is None
    os.close(answers)
