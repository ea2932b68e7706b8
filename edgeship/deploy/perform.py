"""A push to one device: contact, fit, send, switch. Each step can be made again, so a cut connection is taken up.

A connection that breaks while files travel is opened again and goes on where the device's disk says it stopped; one
that breaks while the device switches is opened again and asks what became of it: the agent finishes or reverts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from edgeship.deploy import fit
from edgeship.deploy.contact import Agent, Session, Settings, contact, open_agent
from edgeship.deploy.device import Device
from edgeship.deploy.facts import Facts
from edgeship.deploy.packing import Packed, Packer
from edgeship.deploy.plan import KINDS, Have, Plan, Send, Wanted, missing, plan, wanted
from edgeship.deploy.transport import BROKEN, clean
from edgeship.errors import DeviceError, EdgeshipError, UnreachableError
from edgeship.profile import Profile
from edgeship.release.build import PublishedRelease
from edgeship.release.repository import Repository
from edgeship.reporter import Reporter, Step
from edgeship.runtime.errors import ProtocolError
from edgeship.runtime.manifest import FileRef, RuntimeRef, VariantRef
from edgeship.runtime.wire import MAX_CHUNK, need

TRIES = 5  # connections in a row that bring nothing forward
HELD = 90.0  # seconds after a break for which "busy" means ourselves: the agent lets a silent host go after 60
PAUSE = 0.5  # seconds before the second; doubles
LOG_LINES = 20  # of the device, with an error
CHUNK = min(MAX_CHUNK, 1 << 16)  # bytes of one data frame: progress is told at this grain


@dataclass(frozen=True)
class Deployed:
    """A release that a device serves."""

    device: str
    model: str
    counter: int
    sent: Mapping[str, int]  # bytes by kind; resent ones count again
    seconds: float
    probe: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0  # connections that broke on the way
    notes: tuple[str, ...] = ()

    @property
    def sent_bytes(self) -> int:
        """All bytes sent."""
        return sum(self.sent.values())

    @property
    def summary(self) -> str:
        """One line for people."""
        parts = ", ".join(f"{kind} {_size(size)}" for kind, size in self.sent.items() if size)
        again = f" · resumed {self.resumed}×" if self.resumed else ""
        return f"{_size(self.sent_bytes)} MB sent ({parts}){again} · verified · golden samples · switched · healthy"


def deploy(
    device: Device, profile: Profile, release: PublishedRelease, repository: Repository, settings: Settings,
    reporter: Reporter, *, agent: Agent | None = None, packer: Packer | None = None,
) -> Deployed:  # fmt: skip
    """Bring one device to serve a release.

    Args:
        device: its record.
        profile: its profile.
        release: what to serve.
        repository: where its files and metadata are.
        settings: what the agent is told.
        reporter: told of the steps "fit" and "deploy" and their progress in bytes.
        agent: the agent to install; None: this host's own. A push to many builds it once.
        packer: compresses files; shared by pushes to many devices.

    Raises:
        UnfitError: it cannot take the release; nothing was sent.
        RolledBackError: its probe refused the release; the old one serves.
        AuthError, UnreachableError, DeviceError: see the message.
    """
    started = time.monotonic()
    variant = fit.variant_for(device, release.manifest)
    session = _contact(device, profile, repository.root_bytes(), settings, reporter, agent or Agent.own())
    try:
        push = _Push(session, release, repository, variant, packer or Packer(repository.packed()), reporter)
        push.prepare()
        push.send()
        result = push.switch()
    finally:
        session.close()
    probe = result.get("probe")
    deployed = Deployed(
        device.name, release.manifest.model, release.manifest.counter, push.sent(), time.monotonic() - started,
        probe if isinstance(probe, dict) else {}, push.resumed, tuple(session.notes),
    )  # fmt: skip
    reporter.finished(push.step, deployed.summary, {"sent": dict(deployed.sent), "seconds": deployed.seconds})
    return deployed


def trial(
    device: Device, profile: Profile, release: PublishedRelease, repository: Repository, settings: Settings,
    bench: Mapping[str, Any], reporter: Reporter, *, agent: Agent | None = None, packer: Packer | None = None,
) -> tuple[Mapping[str, Any], Facts]:  # fmt: skip
    """Have a device time a release beside what it serves; nothing is switched there.

    The files stay staged, so that the next trial sends less: `clear` removes them. `bench` holds "runs", "warmup" and
    "max_seconds"; the rest is as of `deploy`.

    Returns:
        {"probe", "bench"} as the agent answered, and what the device is.

    Raises:
        UnfitError: it cannot take the release; nothing was sent.
        AuthError, UnreachableError, DeviceError: see the message; code "worker" where the model does not run.
    """
    session = _contact(device, profile, repository.root_bytes(), settings, reporter, agent or Agent.own())
    try:
        variant = fit.variant_for(device, release.manifest)
        push = _Push(session, release, repository, variant, packer or Packer(repository.packed()), reporter)
        push.step = Step("send", device.name)
        push.prepare()
        push.send()
        reporter.finished(push.step, f"{_size(sum(push.sent().values()))} MB sent")
        return push.trial(bench), session.facts
    finally:
        session.close()


def clear(device: Device, profile: Profile, reporter: Reporter) -> None:
    """Remove from a device what trials left staged. Raises as `open_agent`."""
    link = open_agent(device, profile, reporter=reporter)
    try:
        link.client.request("sweep")
    finally:
        link.close()


def _contact(
    device: Device, profile: Profile, root: bytes, settings: Settings, reporter: Reporter, agent: Agent
) -> Session:  # fmt: skip
    """Contact, made again when the connection breaks on the way; not when there is none."""
    for tries in range(TRIES):
        try:
            return contact(device, profile, root_json=root, settings=settings, reporter=reporter, agent=agent)
        except UnreachableError as error:
            if error.code != BROKEN or tries == TRIES - 1:
                raise
            time.sleep(PAUSE * 2**tries)
    raise AssertionError


class _Push:
    """One push while it runs: the session that may be opened again, and what was sent."""

    def __init__(
        self, session: Session, release: PublishedRelease, repository: Repository, variant: VariantRef, packer: Packer,
        reporter: Reporter,
    ) -> None:  # fmt: skip
        self._session, self._release, self._repository = session, release, repository
        self._variant, self._packer, self._reporter = variant, packer, reporter
        self._library: RuntimeRef | None = variant.runtime_for(session.facts.arch)
        self._metadata = repository.metadata()
        self._packed: dict[str, Packed] = {}
        self._plan: Plan | None = None
        self._sent = dict.fromkeys(KINDS, 0) | {"agent": session.agent_bytes}
        self._shown = 0
        self._stage = "send"
        self._broke_at = 0.0
        self.resumed = 0
        self.step = Step("deploy", session.device.name)

    def prepare(self) -> Plan:
        """Fit check, before a byte of the release is sent. Raises UnfitError."""
        step = Step("fit", self._session.device.name)
        self._reporter.started(step)
        planned = self._planned()
        facts = replace(self._session.facts, disk_free_bytes=self._have.disk_free_bytes)
        fit.check(self._session.device, self._session.profile, facts, self._variant, planned.room)
        self._reporter.finished(step, "system, disk, runtime library", {"bytes": planned.left})
        self._plan = planned
        return planned

    def send(self) -> None:
        """Send what is missing; a connection that breaks is opened again while that brings the transfer forward."""
        assert self._plan is not None
        self._reporter.started(self.step)
        total = self._plan.left
        tries = 0
        while True:
            before = self._plan.left
            try:
                self._send_once(total)
                return
            except UnreachableError as error:
                self.resumed += 1
                tries = self._reopen(error, tries)
                tries = 0 if self._replan(before) else tries
            except DeviceError as error:
                if self._is_held(error):
                    self._replan(before)
                    continue
                if error.code == "untrusted":
                    self._forget_packed()
                self._explain(error)
                raise

    def switch(self) -> Mapping[str, Any]:
        """Ask the device to verify, probe and serve the release. Asking twice for the same release is safe."""
        tries = 0
        while True:
            try:
                return self._session.client.request(
                    "switch", manifest=self._release.target_path, sha256=self._release.manifest_sha256,
                    on_event=self._at,
                ).result  # fmt: skip
            except UnreachableError as error:
                self.resumed += 1
                tries = self._reopen(error, tries)
            except DeviceError as error:
                if self._is_held(error):
                    continue
                self._explain(error)
                raise

    def trial(self, bench: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the device to verify the release and to time it. Asked once: a cut connection ends it."""
        try:
            return self._session.client.request(
                "trial", manifest=self._release.target_path, sha256=self._release.manifest_sha256, **bench,
                on_event=self._at,
            ).result  # fmt: skip
        except DeviceError as error:
            self._explain(error)
            raise

    def sent(self) -> Mapping[str, int]:
        """Bytes by kind, without the kinds of which nothing was sent."""
        return {kind: size for kind, size in self._sent.items() if size}

    def _forget_packed(self) -> None:
        """What arrived is not what was announced: our compressed copies may be the damaged ones. They are made anew."""
        for send in self._plan.files if self._plan else ():
            if send.packed.encoding == "xz":
                send.packed.path.unlink(missing_ok=True)

    def _is_held(self, error: DeviceError) -> bool:
        """Whether the device may still believe in our connection that broke; then after a pause. It lets go in time."""
        if error.code != "busy" or not self.resumed or time.monotonic() > self._broke_at + HELD:
            return False
        time.sleep(PAUSE)
        return True

    def _at(self, event: Mapping[str, Any]) -> None:
        self._stage = str(event.get("stage", self._stage))[:20]

    def _explain(self, error: DeviceError) -> None:
        """Add where it happened and the device's last words, where it still speaks."""
        error.stage = error.stage or self._stage
        with suppress(EdgeshipError, ProtocolError):
            lines = need(self._session.client.request("logs", lines=LOG_LINES).result, "lines", list)
            error.log = error.log or tuple(clean(str(line))[:500] for line in lines)[-LOG_LINES:]

    def _reopen(self, error: UnreachableError, tries: int) -> int:
        """Connect again, with a growing pause; gives the number of tries that brought nothing."""
        self._session.close()
        self._broke_at = time.monotonic()
        while True:
            tries += 1
            if tries >= TRIES:
                raise error
            time.sleep(PAUSE * 2 ** (tries - 1))
            try:
                self._session.link = open_agent(self._session.device, self._session.profile, reporter=self._reporter)
                return tries
            except UnreachableError as again:
                error = again

    def _planned(self) -> Plan:
        manifest = FileRef(self._release.manifest_sha256, len(self._release.manifest.canonical()))
        files = wanted(manifest, self._variant, self._library)
        self._have = self._ask(files)
        self._pack(missing(files, self._have))
        return plan(self._session.facts, self._have, files, self._packed, self._metadata)

    def _replan(self, before: int) -> bool:
        """Whether less is left than before; a connection that breaks here too is the next try's matter."""
        try:
            self._plan = self._planned()
        except UnreachableError:
            return False
        return self._plan.left < before

    def _ask(self, files: Sequence[Wanted]) -> Have:
        blobs = [{"sha256": f.ref.sha256, "bytes": f.ref.bytes} for f in files]
        try:
            return Have.parse(self._session.client.request("have", blobs=blobs).result)
        except ProtocolError as error:
            name = self._session.device.name
            raise DeviceError(f"{name}: what it has cannot be read: {error}", device=name, stage="send",
                              code="protocol") from error  # fmt: skip

    def _pack(self, files: Sequence[Wanted]) -> None:
        """Compress what is not yet; several files at once, lzma lets other threads run."""
        todo = [f for f in files if f.ref.sha256 not in self._packed]
        unpacks = self._session.facts.lzma

        def one(file: Wanted) -> Packed:
            path, shared = self._repository.blob(file.ref.sha256), file.kind == "runtime library"
            return self._packer.pack(path, file.ref.sha256, unpacks=unpacks, shared=shared)

        with ThreadPoolExecutor(max(1, min(4, len(todo)))) as pool:
            for file, packed in zip(todo, pool.map(one, todo), strict=True):
                self._packed[file.ref.sha256] = packed

    def _send_once(self, total: int) -> None:
        """Metadata and files, each sent before the answer to the one before it is waited for."""
        assert self._plan is not None
        client = self._session.client
        left = self._plan.left

        def progress(kind: str, size: int) -> None:
            nonlocal left
            self._sent[kind] += size
            left -= size
            self._shown = max(self._shown, total - left)  # never goes backwards, whatever was sent again
            self._reporter.progress(self.step, min(self._shown, total), total)

        def told(send: Send) -> Iterator[bytes]:
            for chunk in _read(send):
                yield chunk
                progress(send.kind, len(chunk))

        waiting: list[int] = []
        for name, raw in self._plan.metadata:
            waiting.append(client.submit("put", raw, **_metadata_fields(name, raw)))
            progress("metadata", len(raw))
        for send in self._plan.files:
            waiting.append(client.submit("put", told(send), **_blob_fields(send)))
            while len(waiting) > 1:
                client.wait(waiting.pop(0))
        for number in waiting:
            client.wait(number)


def _read(send: Send) -> Iterator[bytes]:
    with send.packed.path.open("rb") as file:
        file.seek(send.offset)
        while chunk := file.read(CHUNK):
            yield chunk


def _metadata_fields(name: str, raw: bytes) -> dict[str, Any]:
    return {
        "kind": "metadata", "name": name, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw),
        "encoding": "raw", "offset": 0, "encoded_bytes": len(raw),
    }  # fmt: skip


def _blob_fields(send: Send) -> dict[str, Any]:
    return {
        "kind": "blob", "name": send.ref.sha256, "sha256": send.ref.sha256, "bytes": send.ref.bytes,
        "encoding": send.packed.encoding, "offset": send.offset, "encoded_bytes": send.packed.encoded_bytes,
    }  # fmt: skip


def _size(size: int) -> str:
    return f"{size / 1e6:.1f}" if size >= 50_000 else f"{size / 1e6:.3f}"
