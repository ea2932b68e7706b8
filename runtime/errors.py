"""The agent's own errors; the host maps them to its exception tree at the seam (`edgeship.deploy.client`).

AgentError            carries a code of `CODES`, so that it crosses the wire
├── ProtocolError     what arrived is not the protocol          (code "protocol")
├── EngineError       the runtime library or the model refused  (code "engine")
├── TrustError        a signature, hash, version or expiry      (code "untrusted" unless said)
└── DiskError         a write did not become durable            (code "disk-full" or "disk-error")
"""

CODES = {
    "protocol": "the bytes received are not the protocol",
    "bad-request": "the request is understood and wrong",
    "not-found": "what was named is not there",
    "not-enrolled": "the device has no trusted root yet",
    "enrolled-elsewhere": "the device trusts another fleet's root",
    "busy": "another push is under way on this device",
    "disk-full": "no room on the device",
    "disk-error": "the device's disk failed",
    "untrusted": "a signature or hash does not match",
    "replayed": "older than what the device has seen",
    "expired": "the signed metadata has expired",
    "unfit": "the release does not fit this device",
    "rolled-back": "the new release failed its probe; the old one serves",
    "no-model": "nothing is served here",
    "engine": "the runtime library or the model refused",
    "worker": "the worker died or did not answer in time",
    "internal": "a defect of the agent",
}


class AgentError(Exception):
    """A failure with a code of `CODES` and a message for people."""

    code = "internal"

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        if code:
            if code not in CODES:
                raise ValueError(f"unknown agent error code {code!r}")
            self.code = code


class ProtocolError(AgentError):
    """What arrived is not the protocol: malformed, oversized, out of order."""

    code = "protocol"


class EngineError(AgentError):
    """A runtime library or a model refused."""

    code = "engine"


class TrustError(AgentError):
    """A signature, hash, version or expiry does not hold."""

    code = "untrusted"


class DiskError(AgentError):
    """A write did not become durable."""

    code = "disk-error"
