"""The worker process: what it loads and refuses, what it answers, when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.runtime.channel import Messages, encode, message_parts
from edgeship.runtime.errors import DiskError, EngineError, TrustError
from edgeship.runtime.manifest import TensorSpec, VariantRef
from edgeship.runtime.oip import JSON_LENGTH, Endpoint
from edgeship.runtime.wire import frame, json_frame, parse_object
from edgeship.runtime.worker import Served, Worker, open_verified
from tests.simulators.models import (
    TinyModel,
    library,
    pair_tflite,
    samples,
    sha256,
    tiny_onnx,
    tiny_tflite,
    variant_ref,
)
from tests.simulators.serving import INFER, Control, WorkerProcess, infer_json, load_message

Json = dict[str, Any]


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    return tiny_tflite(tmp_path / "m.tflite")


@pytest.fixture
def variant(tiny: TinyModel, tmp_path: Path) -> VariantRef:
    return variant_ref(
        tiny,
        tmp_path / "golden",
        labels=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    )


@pytest.fixture
def load(tiny: TinyModel, variant: VariantRef, tmp_path: Path) -> Json:
    return load_message(tiny, variant, tmp_path / "golden")


class Threaded:
    """A worker in a thread of this process: only models that are known to be whole are loaded in it."""

    def __init__(self) -> None:
        ours, control = socket.socketpair()
        self.serve, serve = socket.socketpair()
        self.serve.settimeout(30)
        ours.settimeout(30)
        self.control = Control(ours)
        self._far = (control, serve)
        self.thread = threading.Thread(target=Worker(control, serve).run, daemon=True)
        self.thread.start()

    def http(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[Json, bytes]:
        message = {"id": 5, "op": "http", "method": method, "path": path, "headers": headers or {}}
        for part in message_parts(encode(message), body):
            self.serve.sendall(part)
        return self.answer()

    def answer(self) -> tuple[Json, bytes]:
        messages = Messages(parse_object, lambda message: message["result"].get("data") is True, 1 << 20)
        while raw := self.serve.recv(1 << 16):
            for message, data in messages.feed(raw):
                assert message["id"] == 5
                return message["result"], data
        raise EOFError

    def close(self) -> None:
        self.control.sock.close()
        self.serve.close()
        self.thread.join(30)
        assert not self.thread.is_alive()
        for sock in self._far:
            sock.close()


@pytest.fixture
def worker() -> Iterator[Threaded]:
    threaded = Threaded()
    yield threaded
    threaded.close()


def error_of(answer: Json) -> tuple[str, str]:
    assert answer["ok"] is False
    return answer["error"]["code"], answer["error"]["message"]


# ── load ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_load_tells_times_and_tensors(worker: Threaded, load: Json, tiny: TinyModel) -> None:
    result = worker.control.request("load", **load)["result"]
    assert result["load_us"] > 0
    assert result["first_us"] > 0
    assert result["inputs"] == [spec.encode() for spec in tiny.inputs]
    assert result["outputs"] == [spec.encode() for spec in tiny.outputs]
    assert result["notes"] == []


@pytest.mark.parametrize("which", ["model", "golden"])
def test_a_flipped_byte_is_refused_before_anything_is_loaded(
    worker: Threaded, load: Json, which: str, tmp_path: Path
) -> None:
    content = bytearray(Path(load[which]).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    code, message = error_of(worker.control.request("load", **{**load, which: str(tmp_path / "flipped")}))
    assert code == "untrusted"
    assert "is not what was signed" in message
    assert worker.control.request("load", **load)["ok"]  # the worker is as good as before


def test_another_library_is_refused(worker: Threaded, load: Json, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"another one")
    assert error_of(worker.control.request("load", **{**load, "library": str(tmp_path / "lib.so")}))[0] == "untrusted"


def test_a_library_that_does_not_load_is_an_engine_error_that_names_it(
    worker: Threaded, load: Json, tmp_path: Path
) -> None:
    fake = tmp_path / "lib.so"
    fake.write_bytes(b"another one")
    code, message = error_of(
        worker.control.request("load", **{**load, "library": str(fake), "library_sha256": sha256(fake)})
    )
    assert code == "engine"
    assert str(fake) in message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "/nonexistent"}, "disk-error"),
        ({"model": "/tmp"}, "disk-error"),
        ({"model": 5}, "protocol"),
        ({"variant": {}}, "protocol"),
        ({"variant": None}, "protocol"),
        ({"library_sha256": "abc"}, "protocol"),
        ({"name": "../x"}, "protocol"),
        ({"version": None}, "protocol"),
    ],
)
def test_a_wrong_load_is_refused(worker: Threaded, load: Json, change: Json, code: str) -> None:
    assert error_of(worker.control.request("load", **{**load, **change}))[0] == code


def test_a_second_load_is_refused(worker: Threaded, load: Json) -> None:
    assert worker.control.request("load", **load)["ok"]
    assert error_of(worker.control.request("load", **load))[0] == "bad-request"


def test_a_link_is_no_file_of_ours(tiny: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny.path)
    with pytest.raises(DiskError, match="cannot be opened"):
        open_verified(str(tmp_path / "link"), tiny.sha256)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskError, match="no regular file"):
        open_verified(str(tmp_path / "pipe"), tiny.sha256)


def test_the_size_counts_too(tiny: TinyModel) -> None:
    os.close(open_verified(str(tiny.path), tiny.sha256, tiny.path.stat().st_size))
    with pytest.raises(TrustError):
        open_verified(str(tiny.path), tiny.sha256, tiny.path.stat().st_size + 1)


def test_what_was_verified_is_what_runs(tiny: TinyModel, tmp_path: Path) -> None:
    descriptor = open_verified(str(tiny.path), tiny.sha256)
    os.replace(tiny_tflite(tmp_path / "bad", bad=True).path, tiny.path)
    assert os.pread(descriptor, 1 << 20, 0) != tiny.path.read_bytes()
    os.close(descriptor)


# ── tensors in another order than the library's ──────────────────────────────────────────────────────────────────────


class Reversed:
    """A model that answers with its inputs, the last one first."""

    notes: tuple[str, ...] = ()

    def __init__(self, *names: str) -> None:
        self.inputs = tuple(TensorSpec(name, "int8", (1,)) for name in names)
        self.outputs = tuple(TensorSpec(f"{name}-out", "int8", (1,)) for name in names)

    def run(self, *inputs: bytes | memoryview) -> list[bytes]:
        return [bytes(data) for data in inputs]

    def close(self) -> None:
        pass


def served(variant: VariantRef, model: Reversed, inputs: list[str], outputs: list[str], path: Path) -> Served:
    described = replace(
        variant,
        inputs=tuple(TensorSpec(name, "int8", (1,)) for name in inputs),
        outputs=tuple(TensorSpec(name, "int8", (1,)) for name in outputs),
    )
    path.write_bytes(bytes(16 * (len(inputs) + 4 + 4 * len(outputs))))
    endpoint = Endpoint("m", "1", "tflite", described.inputs, described.outputs)
    return Served(model, described, os.open(path, os.O_RDONLY), endpoint)


def test_tensors_are_matched_by_name(variant: VariantRef, tmp_path: Path) -> None:
    model = Reversed("a", "b", "c")
    same = served(variant, model, ["a", "b", "c"], ["a-out", "b-out", "c-out"], tmp_path / "g")
    assert same.run([b"1", b"2", b"3"]) == [b"1", b"2", b"3"]
    other = served(variant, model, ["c", "a", "b"], ["b-out", "c-out", "a-out"], tmp_path / "g")
    assert other.run([b"c", b"a", b"b"]) == [b"b", b"c", b"a"]


def test_tensors_of_other_names_are_matched_by_position(variant: VariantRef, tmp_path: Path) -> None:
    renamed = served(variant, Reversed("a", "b"), ["x", "y"], ["u", "v"], tmp_path / "g")
    assert renamed.run([b"1", b"2"]) == [b"1", b"2"]


def test_a_model_that_is_not_as_described_is_refused(variant: VariantRef, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="inputs of the model file are not those that the release describes"):
        served(variant, Reversed("a"), ["a", "b"], ["a-out"], tmp_path / "g")


# ── probe, bench, stop ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_probe_passes_a_good_model(worker: Threaded, load: Json) -> None:
    worker.control.request("load", **load)
    result = worker.control.request("probe")["result"]
    assert result["passed"] is True
    assert result["agreement"] == 1.0


def test_the_probe_refuses_a_bad_model(worker: Threaded, tmp_path: Path) -> None:
    bad = tiny_tflite(tmp_path / "bad", bad=True)
    variant = variant_ref(bad, tmp_path / "golden")
    worker.control.request("load", **load_message(bad, variant, tmp_path / "golden"))
    result = worker.control.request("probe")["result"]
    assert result["passed"] is False
    assert result["reason"]


def test_a_bench_gives_every_latency(worker: Threaded, load: Json) -> None:
    worker.control.request("load", **load)
    result = worker.control.request("bench", runs=50, warmup=5, max_seconds=30)["result"]
    assert len(result["latencies_us"]) == 50
    assert result["warmup"] == 5
    assert all(us > 0 for us in result["latencies_us"])


@pytest.mark.parametrize(
    "change",
    [{"runs": 0}, {"runs": 10**6}, {"warmup": -1}, {"max_seconds": 0}, {"max_seconds": 1e9}, {"runs": "5"},
     {"max_seconds": None}],
)  # fmt: skip
def test_a_bench_out_of_bounds_is_refused(worker: Threaded, load: Json, change: Json) -> None:
    worker.control.request("load", **load)
    answer = worker.control.request("bench", **{"runs": 5, "warmup": 0, "max_seconds": 1, **change})
    assert error_of(answer)[0] in ("bad-request", "protocol")


def test_requests_are_answered_while_a_bench_goes_on(worker: Threaded, load: Json, tiny: TinyModel) -> None:
    worker.control.request("load", **load)
    for part in message_parts(encode({"id": 1, "op": "bench", "runs": 50_000, "warmup": 0, "max_seconds": 5})):
        worker.control.sock.sendall(part)
    result, _ = worker.http("POST", INFER, tiny.quantize(samples(1)[0]), {JSON_LENGTH: "0"})
    assert result["status"] == 200
    worker.control.sock.settimeout(0.001)
    with pytest.raises(TimeoutError):
        worker.control.sock.recv(1)  # the bench is not over
    worker.control.sock.settimeout(30)
    worker.serve.shutdown(socket.SHUT_WR)  # and losing its clients does not end it
    assert worker.control.sock.recv(10)


@pytest.mark.parametrize("op", ["probe", "bench"])
def test_without_a_model_there_is_nothing_to_measure(worker: Threaded, op: str) -> None:
    assert error_of(worker.control.request(op))[0] == "no-model"


def test_an_unknown_operation_is_refused(worker: Threaded) -> None:
    assert error_of(worker.control.request("dance")) == ("protocol", "unknown operation 'dance'")


def test_a_defect_is_an_answer_and_not_silence(worker: Threaded, load: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_args: object, **_more: object) -> None:
        raise KeyError("oops")

    worker.control.request("load", **load)
    monkeypatch.setattr("edgeship.runtime.worker.probe", defect)
    assert error_of(worker.control.request("probe")) == ("internal", "KeyError: 'oops'")


def test_stop_ends_it(worker: Threaded) -> None:
    assert worker.control.request("stop") == {"id": 1, "ok": True, "result": {}}
    worker.thread.join(30)
    assert not worker.thread.is_alive()


# ── http ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_inference_says_class_confidence_and_time(worker: Threaded, load: Json, tiny: TinyModel) -> None:
    worker.control.request("load", **load)
    x, _ = samples(3)
    result, body = worker.http("POST", INFER, infer_json(x[2].ravel().tolist()))
    assert (result["status"], result["class"]) == (200, "two")
    assert 0.5 < result["confidence"] <= 1
    assert result["compute_us"] > 0
    assert result["headers"] == {"content-type": "application/json"}
    assert np.argmax(json.loads(body)["outputs"][0]["data"]) == 2


def test_without_labels_the_class_is_its_index(worker: Threaded, tiny: TinyModel, tmp_path: Path) -> None:
    variant = variant_ref(tiny, tmp_path / "golden")
    worker.control.request("load", **load_message(tiny, variant, tmp_path / "golden"))
    result, _ = worker.http("POST", INFER, tiny.quantize(samples(5)[0][4:]), {JSON_LENGTH: "0"})
    assert result["class"] == "4"


def test_other_tasks_have_no_class(worker: Threaded, tiny: TinyModel, tmp_path: Path) -> None:
    variant = variant_ref(tiny, tmp_path / "golden", task="regression")
    worker.control.request("load", **load_message(tiny, variant, tmp_path / "golden"))
    result, _ = worker.http("POST", INFER, tiny.quantize(samples(1)[0]), {JSON_LENGTH: "0"})
    assert result["status"] == 200
    assert "class" not in result


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [("GET", "/v2/models/digits", 200, None), ("GET", "/v2/nothing", 404, None), ("GET", INFER, 405, "POST"),
     ("POST", "/v2", 405, "GET"), ("POST", INFER, 400, None)],
)  # fmt: skip
def test_everything_has_a_status(
    worker: Threaded, load: Json, method: str, path: str, status: int, allow: str | None
) -> None:
    worker.control.request("load", **load)
    result, body = worker.http(method, path, b"{}" if status == 400 else b"")
    assert result["status"] == status
    assert result["headers"].get("allow") == allow
    assert ("error" in json.loads(body)) == (status >= 400)


def test_before_a_model_is_loaded_it_is_503(worker: Threaded) -> None:
    assert worker.http("GET", "/v2")[0]["status"] == 503


def test_an_engine_that_fails_is_a_500_with_its_reason(
    worker: Threaded, load: Json, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise EngineError("the kernel is tired")

    worker.control.request("load", **load)
    monkeypatch.setattr(Served, "run", fail)
    result, body = worker.http("POST", INFER, tiny.quantize(samples(1)[0]), {JSON_LENGTH: "0"})
    assert (result["status"], json.loads(body)) == (500, {"error": "the kernel is tired"})


def test_a_defect_fails_one_request_only(
    worker: Threaded, load: Json, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    worker.control.request("load", **load)
    with monkeypatch.context() as patch:
        patch.setattr("edgeship.runtime.worker.winner", lambda *_: 1 / 0)
        result, body = worker.http("POST", INFER, tiny.quantize(samples(1)[0]), {JSON_LENGTH: "0"})
    assert (result["status"], b"defect" in body) == (500, True)
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert worker.http("POST", INFER, tiny.quantize(samples(1)[0]), {JSON_LENGTH: "0"})[0]["status"] == 200


def test_many_different_requests_are_not_all_remembered(worker: Threaded, load: Json) -> None:
    worker.control.request("load", **load)
    for n in range(150):
        assert worker.http("GET", f"/v2/models/digits?n={n}")[0]["status"] == 200


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nonsense_on_the_serve_channel_closes_that_channel_alone(worker: Threaded) -> None:
    worker.serve.sendall(frame(b"D", b"data without a message"))
    assert worker.serve.recv(1) == b""
    assert worker.control.request("probe")["ok"] is False  # it still answers


def test_nonsense_on_the_control_channel_ends_it(worker: Threaded) -> None:
    worker.control.sock.sendall(b"\xff" * 100)
    worker.thread.join(30)
    assert not worker.thread.is_alive()


def test_the_process_ends_with_its_control_channel_and_not_with_its_clients() -> None:
    with WorkerProcess() as worker:
        worker.serve.close()
        time.sleep(0.2)
        assert error_of(worker.control.request("probe"))[0] == "no-model"
        worker.control.sock.close()
        assert worker.process.wait(30) == 0


def test_the_process_ignores_ctrl_c_and_ends_by_sigterm() -> None:
    with WorkerProcess() as worker:
        worker.control.request("probe")  # it is up
        worker.process.send_signal(signal.SIGINT)
        assert error_of(worker.control.request("probe"))[0] == "no-model"
        worker.process.terminate()
        assert worker.process.wait(30) == -signal.SIGTERM


def test_an_onnx_model_in_a_process(tmp_path: Path) -> None:
    tiny = tiny_onnx(tmp_path / "m.onnx")
    variant = variant_ref(tiny, tmp_path / "golden")
    with WorkerProcess() as worker:
        assert worker.load(tiny, variant, tmp_path / "golden")["notes"] == []
        assert worker.control.request("probe")["result"]["passed"]


def test_two_inputs_in_a_process(tmp_path: Path) -> None:
    tiny = pair_tflite(tmp_path / "m.tflite")
    a, b = np.arange(4, dtype="f4").tobytes(), np.full(4, 2, "f4").tobytes()
    golden = tmp_path / "golden"
    golden.write_bytes(a + b + np.full(1, -1, "<i4").tobytes() + b"".join(tiny.reference(a, b)))
    base = variant_ref(tiny_tflite(tmp_path / "x"), tmp_path / "y")
    sized = replace(
        base.golden, samples=1, file=replace(base.golden.file, sha256=sha256(golden), bytes=golden.stat().st_size)
    )
    variant = replace(
        base, inputs=tiny.inputs, outputs=tiny.outputs, precision="float32", task="regression", golden=sized,
        file=replace(base.file, sha256=tiny.sha256, bytes=tiny.path.stat().st_size),
    )  # fmt: skip
    with WorkerProcess() as worker:
        worker.load(tiny, variant, golden)
        result = worker.control.request("probe")["result"]
        assert (result["passed"], result["max_abs"]) == (True, 0.0)


@pytest.mark.slow
def test_supervisor_and_worker_budget_of_the_worker(tiny: TinyModel, variant: VariantRef, tmp_path: Path) -> None:
    """About 16 MB with a small int8 model; measured with the library's code pages given back."""
    with WorkerProcess() as worker:
        worker.load(tiny, variant, tmp_path / "golden")
        assert worker.control.request("probe")["result"]["pss_bytes"] < 40 << 20  # coverage's own memory included


def test_json_frames_of_wire_are_understood(worker: Threaded) -> None:
    worker.control.sock.sendall(json_frame({"id": 9, "op": "stop"}))
    assert b'"id":9' in worker.control.sock.recv(1 << 16)


def test_the_library_is_found_without_its_package() -> None:
    assert library("tflite").name == "libLiteRt.so"
