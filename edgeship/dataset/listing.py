"""Which files are samples, of which class, in which order: by names alone, nothing is opened.

A folder of folders is one class a folder; a folder of files has no labels. The order is that of the names, so the same
folder makes the same data everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeship.dataset.parting import stratified
from edgeship.dataset.samples import Array
from edgeship.errors import InputError, UsageError

MAX_FILES = 200_000

#: Suffix -> what reads such files.
KINDS: Mapping[str, str] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".webp"), "images"), ".wav": "recordings"
}  # fmt: skip

#: Media files that are not read: leaving them out without a word would be leaving samples out.
_UNREAD = {
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm", ".npy", ".mp3", ".flac", ".ogg", ".m4a",
    ".aac", ".opus", ".aif", ".aiff", ".mp4", ".avi", ".mov", ".mkv",
}  # fmt: skip

CLASSES_FILE = "labels.txt"


@dataclass(frozen=True)
class Listing:
    """Files that are samples, in order."""

    kind: str  # images or recordings
    root: Path
    files: tuple[str, ...]  # relative to root
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    about: Mapping[str, Array] = field(default_factory=dict)  # one row a file: targets, slices

    def drawn(self, n: int, seed: int = 0) -> Listing:
        """About `n` of the files, of each class alike, in order; the same for the same seed."""
        if n >= len(self.files):
            return self
        labels = np.zeros(len(self.files), np.int64) if self.labels is None else np.asarray(self.labels)
        chosen = stratified(labels, np.ones(len(labels), np.intp), n / len(labels), np.random.default_rng(seed))
        at = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            files=tuple(self.files[i] for i in at),
            labels=None if self.labels is None else tuple(self.labels[i] for i in at),
            about={name: array[at] for name, array in self.about.items()},
        )


@dataclass(frozen=True)
class Known:
    """What is known of a model's classes: their names in the order of its output, and how many there are."""

    names: tuple[str, ...] = ()
    count: int | None = None


def of_folder(root: Path, known: Known = Known()) -> Listing:
    """The samples of a folder.

    Args:
        root: `root/CLASS/file`, or `root/file` without labels.
        known: of the model's classes. Their names, else those of `labels.txt` in the folder, a name a line, else the
            folders' names, sorted, are the order of the labels.

    Raises:
        InputError: no samples, files of two kinds or of one that is not read, deeper folders, folders beside samples.
        UsageError: the order of the classes is not clear, or a folder is none of them.
    """
    loose, folders = _entries(root)
    if not folders:
        return Listing(kind_of(root, loose), root, tuple(loose))
    if loose:
        raise InputError(
            f"{root}: {loose[0]!r} lies beside the class folders {', '.join(folders[:3])}",
            hint="one folder a class and nothing beside them, or files without folders",
        )
    names = order(root, folders, known)
    files: list[str] = []
    labels: list[int] = []
    for folder in sorted(folders, key=names.index):
        inside, deeper = _entries(root / folder)
        if deeper:
            raise InputError(f"{root / folder}: a folder within a class folder: {deeper[0]!r}", hint="one level only")
        files += [f"{folder}/{name}" for name in inside]
        labels += [names.index(folder)] * len(inside)
        if len(files) > MAX_FILES:
            raise InputError(f"{root}: more than {MAX_FILES} files", hint="a few hundred samples of each class do")
    return Listing(kind_of(root, files), root, tuple(files), tuple(labels), names)


def kind_of(root: Path, files: Iterable[str]) -> str:
    """What all these files are. Raises InputError: none, or of two kinds."""
    found: dict[str, str] = {}
    for name in files:
        found.setdefault(KINDS[Path(name).suffix.lower()], name)
    if not found:
        raise InputError(f"{root}: no samples in it", hint=f"files in CLASS folders: {', '.join(KINDS)}")
    if len(found) > 1:
        raise InputError(f"{root}: images and recordings: {', '.join(found.values())}", hint="data of one kind")
    return next(iter(found))


def order(root: Path, found: Sequence[str], known: Known) -> tuple[str, ...]:
    """The classes in the order of the model's output.

    Raises:
        UsageError: `found` holds a name that is no class; or the order is not clear: the names are numbers other than
            0, 1, 2, …, or more or fewer than the model's classes.
        InputError: `labels.txt` cannot be read, or names a class twice.
    """
    file = root / CLASSES_FILE
    stated, where = known.names, "the model's labels"
    if not stated and file.is_file():
        stated, where = read_classes(file), str(file)
    if stated:
        if strangers := [name for name in found if name not in stated]:
            raise UsageError(
                f"{root}: the class {strangers[0]!r} is none of {where}: {', '.join(stated[:10])}",
                hint="name the classes as the model's labels are named",
            )
        return stated
    names = tuple(sorted(set(found)))
    why = ""
    if all(name.isdecimal() for name in names):
        if [int(name) for name in names] != list(range(len(names))):
            why = f"The names are numbers: {', '.join(names[:12])}"
    elif known.count not in (None, len(names)):
        why = f"There are {len(names)} names, the model has {known.count} classes: {', '.join(names[:12])}"
    if why:
        raise UsageError(
            f"{root}: which class has which index? {why}",
            hint=f"write {root / CLASSES_FILE}, one name a line, in the order of the model's output",
        )
    return names


def read_classes(file: Path) -> tuple[str, ...]:
    """Names of classes, one a line. Raises InputError."""
    try:
        if file.stat().st_size > 1 << 20:
            raise InputError(f"{file}: too large for a list of classes", hint="one name a line, and nothing else")
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}", hint="a text file in UTF-8, one name a line") from error
    names = [name for name in names if name]
    if len(set(names)) != len(names) or not names:
        raise InputError(f"{file}: one class a line, each once", hint="take the doubled line away")
    return tuple(names)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """(files that are samples, folders), sorted. Hidden ones, text and tables are none of them."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number > MAX_FILES:
                    raise InputError(
                        f"{folder}: more than {MAX_FILES} files", hint="a few hundred samples of each class do"
                    )
                suffix = Path(entry.name).suffix.lower()
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif suffix in _UNREAD:
                    raise InputError(
                        f"{folder / entry.name}: {suffix[1:]} files are not read",
                        hint=f"convert them: {', '.join(KINDS)} are read; or give a Python function",
                    )
                elif suffix in KINDS:
                    if not entry.is_file():
                        raise InputError(
                            f"{folder / entry.name}: not a regular file",
                            hint="take it away, or put the file itself there",
                        )
                    files.append(entry.name)
    except OSError as error:
        raise InputError(
            f"{error.filename or folder}: {error.strerror or error}", hint="may you read there?"
        ) from error
    return sorted(files), sorted(folders)
