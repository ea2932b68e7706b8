"""edgeship.toml: what a project is, and where each setting comes from.

Rules this module keeps:

* Flag > `EDGESHIP_TABLE_KEY` in the environment > edgeship.toml > user file > default. Every value knows its origin.
* An unknown key is an error with file and line. So is a variable `EDGESHIP_TABLE_…` of a known table that names none.
* Paths in edgeship.toml and in the user file are relative to the project folder, paths in the environment to the
  current folder.

The reference of settings in the documentation is generated from the annotations here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from edgeship.errors import ConfigError, UsageError
from edgeship.preparation import Preparation
from edgeship.tomlfile import (
    STRINGS,
    TEXT,
    Document,
    Key,
    Leaf,
    build,
    duration,
    leaves,
    matching,
    milliseconds,
    number,
    shorten,
    size,
    suggestion,
    value_at,
)

FILE = "edgeship.toml"
STATE = ".edgeship"
METRIC = matching(
    r"top[1-9][0-9]{0,3}|agreement|f1|f1-binary|mae|rmse|cosine|(?:.*/)?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
    "`top1`, `top5` (any number), `f1`, `f1-binary`, `mae`, `rmse`, `cosine`, `agreement` or a function of your own, "
    "`module:function`",
)
#: Not as the names of trials end: `release.repository.TRIAL`.
NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!__trial__)",
    "1 to 64 letters, digits, dots, dashes or underscores, not ending in __trial__",
)


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """The table [project]."""

    name: Annotated[str, Key(NAME, "The project's name; releases carry it.")]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The table [model]."""

    source: Annotated[
        Path | None, Key(TEXT, "The trained model: `.keras`, `.onnx`, `.tflite`, `.pt2` or the folder of a SavedModel.")
    ] = None  # fmt: skip
    signature: Annotated[str | None, Key(TEXT, "Of a SavedModel that has several: which one, as `--signature`.")] = None
    shape: Annotated[
        tuple[str, ...],
        Key(STRINGS, "Shapes of inputs that the model leaves open, `NAME=1,224,224,3` each, as `--shape`."),
    ] = ()
    labels: Annotated[tuple[str, ...], Key(STRINGS, "Names of the classes, in the order of the model's output.")] = ()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The table [data]."""

    representative: Annotated[
        Path | None,
        Key(
            TEXT,
            "Data to calibrate int8 with, 200 to 1,000 samples: `.npz` with arrays named like the model's inputs, a "
            "folder of images or WAV files, one folder a class, a table (`.csv`), or `module:function`.",
        ),
    ] = None
    evaluation: Annotated[Path | None, Key(TEXT, "Data to check variants with: the same, with labels.")] = None
    metric: Annotated[
        str | None,
        Key(METRIC, "What the check measures; else what the data allows: top1 of labels, mae of targets, agreement."),
    ] = None
    preparation: Preparation = field(default_factory=Preparation)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The table [budget]."""

    max_drop: Annotated[
        float, Key(number(0, 100), "Points of the metric that a variant may lose against the float model.")
    ] = 1.0  # fmt: skip
    max_class_drop: Annotated[float, Key(number(0, 100), "The same for each class alone.")] = 5.0
    max_slice_drop: Annotated[
        float | None, Key(number(0, 100), "The same for each named slice of the data; else as for a class.")
    ] = None  # fmt: skip
    max_latency_p95_ms: Annotated[
        float | None,
        Key(
            milliseconds(1e-6, 3600),
            "95th percentile of latency on the device, probed before a switch.",
            "max_latency_p95",
        ),
    ] = None
    max_size_bytes: Annotated[int | None, Key(size(1, 4 << 30), "Size of a variant's file.", "max_size")] = None
    max_memory_bytes: Annotated[
        int | None, Key(size(1, 1 << 40), "PSS of the worker on the device, probed before a switch.", "max_memory")
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TelemetryConfig:
    """The table [telemetry]."""

    window_seconds: Annotated[
        float,
        Key(
            duration(0.5, 3600),
            "Interval of telemetry: one durable write each; a power cut loses at most the open one.",
            "window",
        ),
    ] = 60.0


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """The table [fleet]."""

    store: Annotated[str, Key(TEXT, "URL of the fleet's database; tried with SQLite only.")] = (
        f"sqlite:///{STATE}/fleet.db"
    )
    keys: Annotated[
        Path, Key(TEXT, "Folder of the signing keys: mode 0600, ignored by git. `init` makes development keys.")
    ] = Path(STATE) / "keys"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of edgeship.toml."""

    project: ProjectConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    budget: Budget = field(default_factory=Budget)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: default, user file, edgeship.toml or environment, with file and line or variable."""

    kind: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.where})" if self.where else self.kind


@dataclass(frozen=True)
class Project:
    """A project folder and its settings. Paths are absolute; `fleet.store` holds an absolute path too."""

    folder: Path
    settings: Settings
    origins: Mapping[str, Origin]  # dotted key -> origin

    @property
    def name(self) -> str:
        """The project's name."""
        return self.settings.project.name

    @property
    def model(self) -> ModelConfig:
        """[model]."""
        return self.settings.model

    @property
    def data(self) -> DataConfig:
        """[data]."""
        return self.settings.data

    @property
    def budget(self) -> Budget:
        """[budget]."""
        return self.settings.budget

    @property
    def telemetry(self) -> TelemetryConfig:
        """[telemetry]."""
        return self.settings.telemetry

    @property
    def fleet(self) -> FleetConfig:
        """[fleet]."""
        return self.settings.fleet

    @property
    def state(self) -> Path:
        """The folder that edgeship keeps its files in, ignored by git."""
        return self.folder / STATE

    @property
    def releases(self) -> Path:
        """The folder of the signed releases."""
        return self.state / "releases"


def all_settings() -> list[Leaf]:
    """Every setting, in the order of the file."""
    return list(leaves(Settings))


def listed(project: Project) -> list[tuple[Leaf, Any]]:
    """Every setting with its value, in the order of the file."""
    return [(leaf, value_at(project.settings, leaf)) for leaf in all_settings()]


def variable(leaf: Leaf) -> str:
    """The environment variable of a setting: budget.max_drop is EDGESHIP_BUDGET_MAX_DROP."""
    return "EDGESHIP_" + "_".join(leaf.path).upper()


def user_folder() -> Path:
    """The user's configuration folder ($XDG_CONFIG_HOME/edgeship)."""
    import platformdirs

    return platformdirs.user_config_path("edgeship")


def find(start: Path | None = None) -> Path | None:
    """The nearest folder with an edgeship.toml, from `start` (the current folder) upwards; None where there is none."""
    here = (start or Path.cwd()).absolute()
    return next((folder for folder in (here, *here.parents) if (folder / FILE).is_file()), None)


def load(folder: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Project:
    """The project that a folder belongs to.

    Args:
        folder: where to start; the current folder by default. Its parents are searched too.
        environ: instead of `os.environ`.

    Raises:
        UsageError: no edgeship.toml here or above.
        ConfigError: one of the files, or a variable, is wrong.
    """
    found = find(folder)
    if found is None:
        raise UsageError(f"no {FILE} in {(folder or Path.cwd()).absolute()} or above it", hint="edgeship init")
    allowed = all_settings()
    values: dict[tuple[str, ...], Any] = {}
    origins: dict[str, Origin] = {leaf.dotted: Origin("default") for leaf in allowed}
    user_file = user_folder() / "config.toml"
    for path, kind in ((user_file, "user file"), (found / FILE, FILE)):
        if path == user_file and not path.is_file():
            continue
        document = Document.open(path)
        read = document.values(allowed)
        values |= {key: _resolve(key, value, found) for key, value in read.items()}
        origins |= {".".join(key): Origin(kind, document.place(key)) for key in read}
    for leaf, name, value in _from_environment(allowed, os.environ if environ is None else environ):
        values[leaf.path] = _resolve(leaf.path, value, Path.cwd())
        origins[leaf.dotted] = Origin("environment", name)
    for leaf in allowed:
        if leaf.path not in values and not leaf.required and leaf.default is not None:
            values[leaf.path] = _resolve(leaf.path, leaf.default, found)
    try:
        settings = build(Settings, values)
    except KeyError as error:
        raise ConfigError(
            f"{found / FILE}: {'.'.join(error.args[0])} is missing", hint='write [project] name = "…"'
        ) from None
    return Project(found, settings, origins)


_PATHS = {("model", "source"), ("data", "representative"), ("data", "evaluation"), ("fleet", "keys")}


def _resolve(path: tuple[str, ...], value: Any, base: Path) -> Any:
    if path in _PATHS:
        return (base / Path(value).expanduser()).absolute()
    if path == ("data", "metric") and ":" in value:  # a function: its module is looked for in the project
        return str(base / value)
    if path == ("fleet", "store"):
        return _absolute_store(str(value), base)
    return value


def _absolute_store(url: str, base: Path) -> str:
    """A relative SQLite path is taken from the project, not from wherever the command runs."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or url.startswith(prefix + "/") or ":memory:" in url:
        return url
    return f"{prefix}{(base / url.removeprefix(prefix)).absolute()}"


def _from_environment(allowed: list[Leaf], environ: Mapping[str, str]) -> list[tuple[Leaf, str, Any]]:
    known = {variable(leaf): leaf for leaf in allowed}
    tables = tuple({f"EDGESHIP_{leaf.path[0].upper()}_" for leaf in allowed})
    out = []
    for name in sorted(environ):
        if name in known:
            try:
                out.append((known[name], name, known[name].key.kind.parse(environ[name])))
            except ValueError as error:
                raise ConfigError(
                    f"${name} {error} (it is {shorten(environ[name])})",
                    hint="edgeship config list --origin shows where each value comes from",
                ) from None
        elif name.startswith(tables):
            raise ConfigError(f"unknown setting ${name}{suggestion(name, known)}", hint="edgeship config list")
    return out
