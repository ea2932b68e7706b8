"""edgeship.toml: what a project is, and where each setting comes from.

Rules this module keeps:

* Flag > `EDGESHIP_TABLE_KEY` in the environment > edgeship.toml > user file > default. Every value knows its origin.
* An unknown key is an error with file and line. So is a variable `EDGESHIP_TABLE_…` of a known table that names none.
* Paths in edgeship.toml and in the user file are relative to the project folder, paths in the environment to the
  current folder.

The reference of settings in the documentation is generated from the annotations here.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
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
NAME = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 letters, digits, dots, dashes or underscores")


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


# ── a new project ────────────────────────────────────────────────────────────────────────────────────────────────────

_MODELS = (".keras", ".onnx", ".tflite", ".pt2")
_WORDS = {
    "representative": re.compile(r"calib|represent|(^|[-_.])train"), "evaluation": re.compile(r"eval|test|(^|[-_.])val")
}  # fmt: skip
_ENTRIES = 2000  # of a folder that are looked at to tell whether it holds samples


@dataclass(frozen=True)
class Found:
    """What `edgeship init` finds in a folder, by file names; None where nothing, or not one thing, fits."""

    model: Path | None
    representative: Path | None
    evaluation: Path | None
    notes: tuple[str, ...] = ()


def discover(folder: Path) -> Found:
    """Find the model and its data in a folder, by suffix and name. Nothing is opened."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    models = [path for path in files if path.suffix in _MODELS]
    notes: list[str] = []
    model = models[0] if len(models) == 1 else next((m for m in models if m.stem == folder.name), None)
    if len(models) > 1 and model is None:
        notes.append(f"several models here ({', '.join(m.name for m in models)}): name one in [model] source")
    named = {role: _data(folder, files, words) for role, words in _WORDS.items()}
    picked = {role: paths[0] if len(paths) == 1 else None for role, paths in named.items()}
    for role, paths in named.items():
        if len(paths) > 1:
            notes.append(
                f"several files could be {role} data ({', '.join(p.name for p in paths)}): name one in [data] {role}"
            )
    if any(path is not None and path.suffix != ".npz" for path in picked.values()):
        notes.append("images and recordings are prepared as in training: state [data.preparation] normalize")
    return Found(model, picked["representative"], picked["evaluation"], tuple(notes))


def _data(folder: Path, files: Sequence[Path], words: re.Pattern[str]) -> list[Path]:
    """What could be data of a role by its name: arrays before tables before folders of images or recordings."""
    for suffix in (".npz", ".csv"):
        if found := [path for path in files if path.suffix == suffix and words.search(path.stem.lower())]:
            return found
    if not folder.is_dir():
        return []
    folders = (path for path in sorted(folder.iterdir()) if path.is_dir() and words.search(path.name.lower()))
    return [path for path in folders if _holds_samples(path)]


def _holds_samples(folder: Path) -> bool:
    """Whether images or recordings lie in a folder, or in its folders: one a class."""
    from edgeship.dataset.listing import KINDS

    def entries(place: Path) -> list[Path]:
        try:
            return list(itertools.islice(place.iterdir(), _ENTRIES))
        except OSError:
            return []

    inside = entries(folder)
    found = itertools.chain(inside, *(entries(path) for path in inside if path.is_dir()))
    return any(path.suffix.lower() in KINDS and path.is_file() for path in found)


def default_text(name: str, found: Found) -> str:
    """The text of a new edgeship.toml; what was not found stands there as a comment."""

    def line(key: str, value: Path | None, example: str, comment: str) -> str:
        setting = f'{key} = "{value.name}"' if value else f'# {key} = "{example}"'
        return f"{setting:<38} # {comment}" if comment else setting

    inputs = "arrays named like the model's inputs; 200 to 1,000 samples"
    return f"""# Settings of this edgeship project. Paths are relative to this file. Every key: docs/reference/config.md
[project]
name = "{name}"

[model]
{line("source", found.model, "model.keras", "")}
# signature = "serving_default"         # of a SavedModel that has several
# shape = ["image=1,224,224,3"]         # of inputs that the model leaves open
# labels = ["cat", "dog"]              # names of the classes, in the order of the model's output

[data]
{line("representative", found.representative, "calibration.npz", inputs)}
{line("evaluation", found.evaluation, "evaluation.npz", 'the same, and "labels"')}
# metric = "top1"                      # or top5, f1, mae, rmse, cosine, agreement, module:function

# [data.preparation]                   # of images and recordings: as in training. Arrays are taken as they are
# samples = 1000                       # files that are read, of each class alike; all by default
# normalize = "0..1"                   # images: 0..1, -1..1, 0..255, imagenet; recordings: -1..1, int16, peak
# mean = [0.5]                         # then minus this,
# std = [0.5]                          # then divided by that; one number, or one a channel
# resize = "crop"                      # or squash, pad, none
# crop = 1.0                           # share of the image that is kept; ImageNet models often use 0.875
# resample = "bilinear"
# color = "rgb"                        # or bgr
# layout = "channels-last"             # where the model's shape does not say
# sample_rate = 16000                  # Hz of recordings
# windows = "first"                    # of a long recording; or center, all

[budget]
max_drop = 1.0                         # points of the metric, float against variant, same samples
max_class_drop = 5.0                   # points, for each class alone. A drop is positive when the variant is worse
# max_slice_drop = 5.0                 # points, for each named slice of the data; else as for a class
# max_latency_p95 = "20ms"             # on the device, probed before a switch when set
# max_memory = "64MB"                  # the worker on the device, probed before a switch when set
# max_size = "4MB"

[telemetry]
window = "60s"                         # one durable write each; a power cut loses at most the open window

[fleet]
store = "sqlite:///{STATE}/fleet.db"
keys = "{STATE}/keys"                # mode 0600, ignored by git; development keys
"""


def write_default(folder: Path, name: str, found: Found) -> Path:
    """Write a new edgeship.toml.

    Returns:
        the path of the new file.

    Raises:
        UsageError: there is one already, or the name is no name.
        ConfigError: the folder cannot be written.
    """
    path = folder / FILE
    try:
        NAME.read(name)
    except ValueError as error:
        raise UsageError(f"the project's name {error} (it is {name!r})", hint="edgeship init --name NAME") from None
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(default_text(name, found))
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", hint="edit it, or take it away first") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}", hint="work in a folder that you may write to"
        ) from error
    return path


def make_state(folder: Path) -> bool:
    """Make the state folder of a project and keep git away from it.

    Returns:
        whether anything was missing.

    Raises:
        ConfigError: the folder cannot be written.
    """
    state, ignore, entry = folder / STATE, folder / ".gitignore", f"{STATE}/"
    try:
        missing = not state.is_dir()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.exists() else []
        if not {entry, f"/{entry}", STATE, f"/{STATE}"} & {line.strip() for line in lines}:
            ignore.write_text("\n".join([*lines, entry]) + "\n", encoding="utf-8")
            missing = True
    except OSError as error:
        raise ConfigError(
            f"{error.filename or state}: {error.strerror or error}", hint="work in a folder that you may write to"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{ignore}: not UTF-8 text", hint=f"add the line {entry} to it yourself") from error
    return missing


def name_for(folder: Path) -> str:
    """A project name out of a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip("-._")[:64] or "project"
