"""What `edgeship init` writes: a new edgeship.toml out of what lies in a folder, and the project's state folder."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship import config
from edgeship.errors import ConfigError, UsageError

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
store = "sqlite:///{config.STATE}/fleet.db"
keys = "{config.STATE}/keys"                # mode 0600, ignored by git; development keys
"""


def write_default(folder: Path, name: str, found: Found) -> Path:
    """Write a new edgeship.toml.

    Returns:
        the path of the new file.

    Raises:
        UsageError: there is one already, or the name is no name.
        ConfigError: the folder cannot be written.
    """
    path = folder / config.FILE
    try:
        config.NAME.read(name)
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
    state, ignore, entry = folder / config.STATE, folder / ".gitignore", f"{config.STATE}/"
    try:
        missing = not state.is_dir()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.exists() else []
        if not {entry, f"/{entry}", config.STATE, f"/{config.STATE}"} & {line.strip() for line in lines}:
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
