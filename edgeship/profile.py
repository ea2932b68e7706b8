"""HardwareProfile: what a kind of board is and can do, read strictly from `hw_profiles/*.toml`.

A profile decides: which format and precision a push builds, which runtime library goes along, how Python is started on
the device and how the device is reached. Each states its facts with their source. The user's own profiles stand in
the folder `profiles` of the user's configuration and win over ours.

The table of fields in `hw_profiles/README.md` is generated from the annotations here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from edgeship.errors import ConfigError
from edgeship.tomlfile import (
    ARGV,
    OPTIONAL_TEXT,
    TEXT,
    Document,
    Key,
    Kind,
    build,
    choice,
    integer,
    leaves,
    matching,
    several,
    suggestion,
    table_of,
)

SCHEMA = "edgeship.profile/v1"
FORMATS = ("tflite", "onnx")
PRECISIONS = ("int8", "float16", "dynamic", "float32")
FAMILIES = ("raspberry-pi", "jetson", "android", "generic")
FEATURES = ("neon", "asimd", "asimdhp", "asimddp", "avx2", "avx512_vnni")
INITS = ("systemd", "termux", "none")
#: Files in `hw_profiles/` that are not profiles.
NOT_PROFILES = ("runtimes.toml",)

_VERSION = r"\d+\.\d+"
_SENSOR = re.compile(r"[a-z]+:[A-Za-z0-9_.:/-]+")
_AGENT = r"supported|unsupported: \S.*"


def _runtime(format_name: str, runtime: object) -> str:
    if format_name not in FORMATS:
        raise ValueError(
            f"names {format_name!r}, which is none of {', '.join(FORMATS)}{suggestion(format_name, FORMATS)}"
        )
    if not isinstance(runtime, str) or not re.fullmatch(r"[a-z][a-z0-9-]*-\d[\w.]*", runtime):
        raise ValueError(f'must name a runtime library with its version for {format_name}, such as "litert-2.3.0"')
    return runtime


def _sensor(name: str, value: object) -> str | float:
    if name == "throttle_celsius":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 200:
            raise ValueError("must hold throttle_celsius as a temperature from 0 to 200")
        return float(value)
    if name not in ("temperature", "throttled"):
        raise ValueError(
            f"holds {name!r}, which is none of temperature, throttled, throttle_celsius"
            f"{suggestion(name, ('temperature', 'throttled', 'throttle_celsius'))}"
        )
    if not isinstance(value, str) or not _SENSOR.fullmatch(value):
        raise ValueError(f'must give {name} as "source:what", such as "sysfs:thermal_zone0"')
    return value


RUNTIMES: Kind = table_of(_runtime, "a runtime library of runtimes.toml for each format")
SENSORS: Kind = table_of(_sensor, "temperature, throttled as `source:what`; throttle_celsius as a number")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the board is."""

    arch: Annotated[str, Key(choice("aarch64", "x86_64", "armv7l"), "Architecture as `uname -m` says it.")]
    cpu: Annotated[str, Key(TEXT, "Cores, their kind and clock.")]
    features: Annotated[
        tuple[str, ...],
        Key(several(*FEATURES), "Vector units; with a dot product (`asimddp`) int8 is worth it most."),
    ] = ()
    memory_mb: Annotated[int, Key(integer(64, 1 << 20), "Memory in MB; of the smallest variant sold.")]
    storage: Annotated[
        str, Key(choice("sd", "emmc", "nvme", "ufs", "disk"), "What the agent's folder usually lies on.")
    ]


@dataclass(frozen=True, kw_only=True)
class System:
    """The software that is there before edgeship comes."""

    python: Annotated[tuple[str, ...], Key(ARGV, "Command that starts Python on the device.")]
    python_min: Annotated[
        str, Key(matching(_VERSION, 'a version such as "3.11"'), "Oldest Python of the systems meant.")
    ]
    glibc_min: Annotated[str, Key(matching(_VERSION, 'a version such as "2.36"'), "Oldest glibc of the systems meant.")]
    init: Annotated[
        str, Key(choice(*INITS), "What can start the agent after a boot; so far `termux` alone is made use of.")
    ]
    agent: Annotated[
        str,
        Key(
            matching(_AGENT, '"supported" or "unsupported: why"'),
            "Whether the agent runs there; if not, why. A push refuses with this reason.",
        ),
    ] = "supported"


@dataclass(frozen=True, kw_only=True)
class Build:
    """What a push builds for the board."""

    formats: Annotated[
        tuple[str, ...],
        Key(
            several(*FORMATS),
            "Formats in order of preference: the source's own where listed, else the first it can reach.",
        ),
    ]
    precisions: Annotated[tuple[str, ...], Key(several(*PRECISIONS), "Precisions in order of preference.")]
    runtime: Annotated[
        Mapping[str, str],
        Key(
            RUNTIMES,
            "Runtime library for each format, by its name in `runtimes.toml`; or a package that a program of yours "
            "has there: `tflite-runtime-2.14.0`.",
        ),
    ]
    threads: Annotated[int, Key(integer(1, 256), "Threads of one inference.")]


@dataclass(frozen=True, kw_only=True)
class TransportDefaults:
    """How a device of this kind is reached, where the device does not say otherwise."""

    port: Annotated[int, Key(integer(1, 65535), "SSH port.")] = 22
    user: Annotated[str, Key(OPTIONAL_TEXT, "SSH user; empty: the one that `~/.ssh/config` or the login says.")] = ""
    root: Annotated[str, Key(TEXT, "The agent's folder on the device.")] = "~/.local/share/edgeship"
    serve_port: Annotated[
        int, Key(integer(0, 65535), "Port on the device's loopback for inference; 0: Unix socket only.")
    ] = 8000


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A kind of board."""

    name: Annotated[
        str,
        Key(
            matching(r"[a-z0-9][a-z0-9-]{0,63}", "lower-case letters, digits and dashes"),
            "The file's name without `.toml`.",
        ),
    ]
    family: Annotated[str, Key(choice(*FAMILIES), "Whose board it is.")]
    summary: Annotated[str, Key(TEXT, "One line for people.")]
    source: Annotated[str, Key(TEXT, "Where the facts come from.")]
    hardware: Hardware
    system: System
    build: Build
    transport: TransportDefaults = field(default_factory=TransportDefaults)
    sensors: Annotated[
        Mapping[str, str | float],
        Key(
            SENSORS,
            "Where the device's sensors are. So far `temperature` is read and compared with `throttle_celsius`.",
        ),
    ] = field(default_factory=dict)

    @property
    def supported(self) -> str | None:
        """None where the agent runs; otherwise the reason why it cannot."""
        return None if self.system.agent == "supported" else self.system.agent.removeprefix("unsupported: ")

    @property
    def temperature(self) -> str | None:
        """Where the temperature is read ("sysfs:thermal_zone0"), if anywhere."""
        source = self.sensors.get("temperature")
        return source if isinstance(source, str) else None


def folders() -> tuple[Path, ...]:
    """Where profiles stand; an earlier folder wins."""
    from edgeship.config import user_folder

    return (user_folder() / "profiles", Path(__file__).with_name("hw_profiles"))


def names() -> list[str]:
    """All known profiles, sorted."""
    return sorted(
        {path.stem for folder in folders() for path in folder.glob("*.toml") if path.name not in NOT_PROFILES}
    )


def path_of(name: str) -> Path:
    """The file of a profile. Raises ConfigError with a suggestion when there is none."""
    if re.fullmatch(r"[\w.-]+", name):
        for folder in folders():
            path = folder / f"{name}.toml"
            if path.is_file() and path.name not in NOT_PROFILES:
                return path
    raise ConfigError(f"unknown profile {name!r}{suggestion(name, names())}", hint="edgeship profile list")


def load(name: str) -> Profile:
    """A profile by name. Raises ConfigError: unknown, or its file is wrong."""
    return load_file(path_of(name))


def load_file(path: Path) -> Profile:
    """A profile from a file.

    Raises:
        ConfigError: missing, no TOML, unknown key, wrong value; the message names file, line and key.
    """
    document = Document.open(path)
    values = document.values(leaves(Profile), free=("schema",))
    if document.data.get("schema") != SCHEMA:
        raise document.error(("schema",), f'schema must be "{SCHEMA}" (it is {document.data.get("schema")!r})')
    try:
        profile = build(Profile, values)
    except KeyError as error:
        missing = error.args[0]
        raise document.error(
            missing, f"{'.'.join(missing)} is missing", hint="hw_profiles/README.md lists the keys"
        ) from None
    _consistent(profile, document, path)
    return profile


def _consistent(profile: Profile, document: Document, path: Path) -> None:
    if profile.name != path.stem:
        raise document.error(("name",), f"name {profile.name!r} must be the file's: {path.stem!r}")
    without = [name for name in profile.build.formats if name not in profile.build.runtime]
    if without:
        raise document.error(("build", "runtime"), f"build.runtime names no runtime library for {', '.join(without)}")
    unused = [name for name in profile.build.runtime if name not in profile.build.formats]
    if unused:
        raise document.error(("build", "runtime", unused[0]), f"build.formats does not list {unused[0]}")
    if profile.supported is None and not (profile.build.formats and profile.build.precisions):
        raise document.error(
            ("build",), "build.formats and build.precisions must not be empty where the agent is supported"
        )


def version_tuple(version: str) -> tuple[int, ...]:
    """A version such as "3.11.2" as (3, 11, 2), to compare with `python_min` and `glibc_min`."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def host_profile(machine: str) -> str:
    """The generic profile of an architecture, for the device `sim`."""
    return "generic-arm64" if machine in ("aarch64", "arm64") else "generic-x86-64"
