"""The process that is always there: keeps a worker up, serves, counts, answers `rpc`.

One loop (`loop.py`) owns the state; whatever blocks (starting a worker, an install, a benchmark) runs in a thread and
hands its result to the loop. Rules kept here:

* One supervisor a folder: it holds a lock as long as it lives, and it ends when its folder is taken away.
* A worker that dies is started again, with growing pauses. `MAX_FAILURES` deaths without `HEALTHY_SECONDS` between
  them are a crash loop: the slot that was good before takes over; where there is none, starts become rare.
* The old worker ends only after the requests in it were answered.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeship.runtime import __version__, sensors
from edgeship.runtime.children import Worker, agent_argv, describe
from edgeship.runtime.clock import load_state
from edgeship.runtime.control import ControlServer
from edgeship.runtime.disk import Disk
from edgeship.runtime.errors import AgentError
from edgeship.runtime.facts import boot_id
from edgeship.runtime.install import Installer
from edgeship.runtime.layout import Layout
from edgeship.runtime.logs import Log
from edgeship.runtime.loop import Loop
from edgeship.runtime.serve import Answered, Front
from edgeship.runtime.settings import Settings
from edgeship.runtime.slots import Slot, Slots, sweep
from edgeship.runtime.telemetry import Spool, Telemetry
from edgeship.runtime.wire import need

MAX_FAILURES = 3
HEALTHY_SECONDS = 10.0
CRASH_LOOP_SECONDS = 300.0  # between starts once it is a crash loop
DRAIN_SECONDS = 35.0  # longer than the front's own timeout
LOAD_SECONDS = 120.0
LOCK_SECONDS = 3.0  # for the one before to end
MAX_SAID = 200  # lines of a worker's standard error that are logged, of each worker

Json = Mapping[str, Any]
Emit = Callable[[Json], None]


def pause(failures: int) -> float:
    """Seconds before the next start after so many failures in a row."""
    return 0.0 if failures < 1 else min(30.0, 0.2 * 4 ** (failures - 1))


def _bench_fields(request: Json) -> tuple[dict[str, Any], float]:
    """What a worker's "bench" takes of a request, and the seconds that it may take."""
    fields = {key: request[key] for key in ("runs", "warmup", "max_seconds") if key in request}
    seconds = need(fields, "max_seconds", (int, float)) if "max_seconds" in fields else 60.0
    return fields, min(seconds, 3600.0) + 60.0


def _identity(path: str) -> int:
    """Which directory stands at a path: its inode, 0 where there is none."""
    try:
        return os.stat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


class Supervisor:
    """The agent's main process.

    Args:
        layout: the agent's folder.
        disk: the one writer.
        app: path of the agent's zipapp, to start workers and verifiers from.
    """

    def __init__(self, layout: Layout, disk: Disk, app: str) -> None:
        self._layout, self._disk, self._app = layout, disk, app
        self._log = Log(layout.path("log"), disk)
        self._loop = Loop(self._log.write)
        self._boot = boot_id()
        self._began = time.monotonic()
        self._settings = Settings.load(layout)
        self._sensors = sensors.Sensors(layout.root, self._settings.temperature)
        self._slots = Slots(layout, disk)
        self._telemetry = Telemetry(Spool(layout.path("spool"), disk), self._boot, self._settings.window_seconds)
        self._installer = Installer(layout, disk, self._slots, self, app=app, boot=self._boot, note=self._note)

        self._slot: Slot | None = None
        self._worker: Worker | None = None
        self._since = 0.0  # when the worker began to serve
        self._starting = False
        self._start_at = 0.0
        self._failures = 0
        self._restarts = 0
        self._retiring: list[tuple[Worker, float]] = []

        self._folder = os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY)  # open: no other folder gets its number
        self._front = Front(self._loop.selector, self._record, self._stuck)
        self._port: socket.socket | None = None
        self._next_port_try = 0.0

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Serve until `stop` or SIGTERM."""
        self._loop.catch_signals()
        try:
            self._begin()
            self._loop.run(self._tick, self._wait)
        finally:
            self._finish()

    def _begin(self) -> None:
        interrupted = self._slots.start()
        self._note("boot", f"agent {__version__} starts, boot {self._boot}")
        if interrupted:
            self._note("revert", self._slots.journal.outcome)
        self._sweep()
        self._slot = self._slots.good
        self._make_socket_folder()
        self._front.listen(self._listen(self._layout.serve_socket()))
        listener = self._listen(self._layout.control_socket())
        operations = {
            "status": self._op_status, "switch": self._op_switch, "bench": self._op_bench, "stop": self._op_stop,
            "telemetry": self._op_telemetry, "reload": self._op_reload, "trial": self._op_trial,
        }  # fmt: skip
        control = ControlServer(listener, operations, self._log.write)
        self._loop.selector.register(listener, selectors.EVENT_READ, control.accept)
        self._serve_as(self._slot)
        if self._slot is not None:
            self._front.expect()

    def _wait(self, now: float) -> float:
        soonest = min(1.0, self._telemetry.remaining)
        if self._slot is not None and self._worker is None and not self._starting:
            soonest = min(soonest, self._start_at - now)
        return max(0.0, 0.05 if self._retiring else soonest)

    def _tick(self, now: float) -> None:
        self._front.tick(now)
        if self._is_homeless():
            self._loop.end()
            return
        if self._slot is not None and self._worker is None and not self._starting and now >= self._start_at:
            self._starting = True
            threading.Thread(target=self._bring_up, args=(self._slot,), daemon=True).start()
        for worker, until in self._retiring[:]:
            if worker.serve.fileno() == -1 or now >= until:
                worker.close_control()  # the front closed its end: every request in it is answered
            if now >= until:
                worker.kill()
        if self._telemetry.remaining <= 0:
            self._telemetry.close(self._read_sensors())
        wanted = self._settings.serve_port
        if wanted and self._port is None and now >= self._next_port_try:
            self._open_port(wanted, now)

    def _is_homeless(self) -> bool:
        """Whether the folder was removed, or another stands in its place: nothing here could be updated or asked."""
        with contextlib.suppress(OSError):  # a disk that cannot be read is no reason to stop serving
            return _identity(self._layout.root) != os.fstat(self._folder).st_ino
        return False

    def _finish(self) -> None:
        self._loop.forget_signals()
        homeless = self._is_homeless()
        if not homeless:
            self._telemetry.event("stop", "the agent stops")
            self._telemetry.close(self._read_sensors())
        self._front.attach(None)
        self._front.close()
        for worker in [*([self._worker] if self._worker else []), *(worker for worker, _ in self._retiring)]:
            worker.stop()
        if homeless:  # the sockets may be those of whoever was installed there since
            return
        for path in (self._layout.control_socket(), self._layout.serve_socket()):
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.realpath(self._layout.run))
        self._log.write("the agent stopped")

    # ── sockets ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_socket_folder(self) -> None:
        folder = self._layout.sockets()
        try:
            self._disk.mkdir(folder)
        except AgentError as error:  # somebody else's directory is in the way: a longer path may still do
            self._log.write(f"{error}; sockets lie in the agent's own folder")
            folder = self._layout.path("sockets")
            self._disk.mkdir(folder)
        if os.path.realpath(self._layout.run) != folder or not os.path.islink(self._layout.run):
            self._disk.link(folder, self._layout.run)

    @staticmethod
    def _listen(path: str) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        listener.setblocking(False)
        return listener

    def _open_port(self, port: int, now: float) -> None:
        listener = socket.socket(socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(64)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            if not self._next_port_try:
                self._note("port", f"cannot serve on port {port}: {error.strerror}; trying again every 5 s")
            self._next_port_try = now + 5
            return
        self._port = listener
        self._front.listen(listener)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, slot: Slot, seconds: float) -> Worker:
        """See `install.Traffic`. Blocks; not for the loop's thread."""
        worker = Worker(agent_argv(self._app, "worker"))
        self._loop.call(lambda: self._hear(worker))
        paths = {
            "model": str(slot.variant["file"]).removeprefix("sha256:"),
            "golden": str(slot.variant["golden"]["file"]).removeprefix("sha256:"),
            "library": slot.library,
        }
        try:
            worker.request(
                "load", seconds, variant=dict(slot.variant), library_sha256=slot.library, name=slot.model,
                version=str(slot.counter), **{key: self._layout.blob(sha) for key, sha in paths.items()},
            )  # fmt: skip
        except AgentError:
            worker.stop()
            raise
        return worker

    def move(self, slot: Slot | None, worker: Worker | None) -> None:
        """See `install.Traffic`."""
        self._loop.call(lambda: self._move(slot, worker))

    def serving(self) -> Worker | None:
        """See `install.Traffic`."""
        return self._loop.call(lambda: self._worker)

    def _move(self, slot: Slot | None, worker: Worker | None) -> None:
        if worker is None and slot == self._slot and self._worker is not None:
            return  # traffic never left it
        old = self._worker
        self._slot, self._worker = slot, worker
        self._failures, self._start_at, self._since = 0, 0.0, time.monotonic()
        self._serve_as(slot)
        if worker is not None or slot is None:
            self._front.attach(worker.serve if worker else None)
        else:
            self._front.expect()
        if old is not None:
            self._retiring.append((old, time.monotonic() + DRAIN_SECONDS))

    def _serve_as(self, slot: Slot | None) -> None:
        model, counter = (None, None) if slot is None else (slot.model, slot.counter)
        precision = None if slot is None else str(slot.variant["precision"])
        self._telemetry.serve(model, counter, precision, self._read_sensors())

    def _bring_up(self, slot: Slot) -> None:
        """In a thread: start the slot's worker."""
        try:
            worker = self.start(slot, LOAD_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever it is, the next try must come
            text = str(error)
            self._loop.call(lambda: self._failed(slot, text))
            return
        self._loop.call(lambda: self._started(slot, worker))

    def _started(self, slot: Slot, worker: Worker) -> None:
        self._starting = False
        if slot != self._slot or self._worker is not None:  # an install was faster
            worker.close_control()
            return
        self._worker, self._since = worker, time.monotonic()
        self._front.attach(worker.serve)
        self._log.write(f"release {slot.counter} of {slot.model} serves, process {worker.pid}")

    def _failed(self, slot: Slot, reason: str) -> None:
        """A worker of this slot did not start, or died."""
        self._starting = False
        if slot != self._slot:
            return
        self._failures += 1
        self._restarts += 1
        self._start_at = time.monotonic() + pause(self._failures)
        self._note("worker-exit", f"release {slot.counter} of {slot.model}: {reason}")
        if self._failures >= MAX_FAILURES:
            self._start_at = time.monotonic() + CRASH_LOOP_SECONDS
            text = f"release {slot.counter} failed {self._failures} times: {reason}"
            self._front.attach(None)
            threading.Thread(target=self._installer.fall_back, args=(text,), daemon=True).start()

    def _hear(self, worker: Worker) -> None:
        """Log what a worker says, and notice its end by the end of that."""
        left = MAX_SAID
        rest = b""

        def readable(_mask: int) -> None:
            nonlocal left, rest
            try:
                data = os.read(worker.stderr, 1 << 14)
            except BlockingIOError:
                return
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[:1000] if data else b""
            for line in lines[:left]:
                self._log.write(f"worker {worker.pid}: {line.decode('utf-8', 'replace')}")
            left = max(0, left - len(lines))
            if not data:
                self._loop.selector.unregister(worker.stderr)
                os.close(worker.stderr)
                self._gone(worker)

        self._loop.selector.register(worker.stderr, selectors.EVENT_READ, readable)

    def _gone(self, worker: Worker) -> None:
        code = worker.wait(0.5)
        worker.close_control()
        self._retiring = [pair for pair in self._retiring if pair[0] is not worker]
        if worker is self._worker and self._slot is not None:
            self._worker = None
            if time.monotonic() - self._since >= HEALTHY_SECONDS:
                self._failures = 0
            self._failed(self._slot, f"the worker {describe(code)}")

    def _stuck(self) -> None:
        """The front waited too long for an answer: a hanging worker is ended, and started again."""
        if self._worker is not None:
            self._note("stuck", f"process {self._worker.pid} did not answer and was ended")
            self._worker.kill()

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _record(self, answered: Answered) -> None:
        self._telemetry.count(answered, answered.cls, answered.confidence)

    def _note(self, kind: str, text: str) -> None:
        self._log.write(f"{kind}: {text}")
        self._loop.call(lambda: self._telemetry.event(kind, text))

    def _read_sensors(self) -> dict[str, float]:
        return self._sensors.read(self._worker.pid if self._worker else None)

    def _sweep(self) -> None:
        """Clean up what crashes left, unless somebody stages files right now."""
        lock = self._disk.lock(self._layout.staging_lock)
        if lock is not None:
            try:
                sweep(self._layout, self._disk, self._slots.journal, staging=False)
            except AgentError as error:
                self._log.write(f"cleaning up: {error}")
            finally:
                os.close(lock)

    # ── operations, each in a connection's thread ────────────────────────────────────────────────────────────────────

    def _op_status(self, _request: Json, _emit: object) -> dict[str, Any]:
        return self._loop.call(self._status)

    def _status(self) -> dict[str, Any]:
        slot, worker, spool = self._slot, self._worker, self._telemetry.spool
        measured = self._read_sensors()
        crashing = self._failures >= MAX_FAILURES
        waiting = "crash-loop" if crashing else "starting"
        return {
            "name": self._settings.name, "agent": __version__, "uptime_seconds": time.monotonic() - self._began,
            "boot_id": self._boot, "model": slot and slot.model, "counter": slot and slot.counter,
            "slot": slot and slot.name, "last_good": self._slots.journal.previous or None,
            "precision": slot and slot.variant["precision"], "format": slot and slot.variant["format"],
            "state": "no-model" if slot is None else waiting if worker is None else "serving",
            "worker_pid": worker and worker.pid, "worker_restarts": self._restarts,
            "outcome": self._slots.journal.outcome,
            "serve": {
                "socket": self._layout.serve_socket(),
                "port": self._port.getsockname()[1] if self._port is not None else None,
            },
            "windows": {"spool": spool.id, "first": spool.first, "next": spool.next},
            "pss": {
                "supervisor": measured.get("supervisor_pss_bytes"), "worker": measured.get("worker_pss_bytes"),
            },
            "sensors": measured, "clock": time.time(), "mono": time.clock_gettime(time.CLOCK_BOOTTIME),
            "expired": load_state(self._layout).expired(time.time()), "pid": os.getpid(),
        }  # fmt: skip

    def _op_switch(self, request: Json, emit: Emit) -> dict[str, Any]:
        return self._installer.install(*self._release(request), self._report(emit))

    def _op_trial(self, request: Json, emit: Emit) -> dict[str, Any]:
        return self._installer.trial(*self._release(request), self._report(emit), *_bench_fields(request))

    @staticmethod
    def _release(request: Json) -> tuple[str, str, float | None]:
        """(target, sha256 of the manifest, the host's clock) of a staged release."""
        host_clock = request.get("host_clock")
        clock = float(host_clock) if isinstance(host_clock, (int, float)) else None
        return need(request, "manifest", str), need(request, "sha256", str), clock

    def _report(self, emit: Emit) -> Callable[[str, str], None]:
        def report(stage: str, text: str) -> None:
            self._log.write(f"{stage}: {text}")
            emit({"stage": stage, "text": text})

        return report

    def _op_bench(self, request: Json, _emit: object) -> dict[str, Any]:
        worker = self.serving()
        if worker is None:
            raise AgentError("no model is served on this device", "no-model")
        fields, seconds = _bench_fields(request)
        return worker.request("bench", seconds, **fields)

    def _op_telemetry(self, request: Json, _emit: object) -> dict[str, Any]:
        return self._loop.call(lambda: self._windows(request))

    def _windows(self, request: Json) -> dict[str, Any]:
        spool = self._telemetry.spool
        same = request.get("spool") in (None, spool.id)
        if "ack" in request:
            if same:
                spool.ack(need(request, "ack", int))
            return {"spool": spool.id, "first": spool.first}
        limit = need(request, "limit", int) if "limit" in request else 1000
        after = need(request, "after", int) if same and "after" in request else 0
        windows, more = spool.read(after, max(1, limit))
        return {"spool": spool.id, "windows": windows, "next": spool.next, "more": more}

    def _op_reload(self, _request: Json, _emit: object) -> dict[str, Any]:
        self._loop.call(self._reload)
        return {}

    def _reload(self) -> None:
        self._settings = Settings.load(self._layout)
        self._telemetry.seconds = self._settings.window_seconds
        self._sensors = sensors.Sensors(self._layout.root, self._settings.temperature)
        self._next_port_try = 0.0

    def _op_stop(self, _request: Json, _emit: object) -> dict[str, Any]:
        self._loop.call(self._loop.end)
        return {}


def supervise(layout: Layout, disk: Disk, app: str) -> int:
    """Run the supervisor of a folder; returns the exit status (0 too when another one runs already)."""
    for folder in layout.folders:
        disk.mkdir(folder)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:  # what whoever started us left open must not stay open for months
            with contextlib.suppress(OSError):
                os.close(int(name))
    lock = disk.lock(layout.supervisor_lock, seconds=LOCK_SECONDS)
    if lock is None:
        return 0
    with contextlib.suppress(PermissionError):
        os.setsid()
    os.umask(0o077)
    os.chdir("/")
    try:
        Supervisor(layout, disk, app).run()
    finally:
        os.close(lock)
    return 0
