"""Tables (`.csv` with a header): a list of files with their labels, or the numbers of the samples themselves.

With a column `file` every row is an image or a recording; paths are relative to the table and never lead out of its
folder. Without one, the columns are the input's values. Beside them: `label` (an index, or the name of a class),
`target` or `target.0`, `target.1`, …, `group`, and `slice:NAME`; in a list of files every other column is a slice too.
"""

from __future__ import annotations

import array
import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeship import wording
from edgeship.dataset import archive
from edgeship.dataset.listing import KINDS, MAX_FILES, Known, Listing, kind_of, order
from edgeship.dataset.samples import Array, Dataset
from edgeship.errors import InputError
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import TEXT

MAX_BYTES = 512 << 20  # of a table
MAX_COLUMNS = 1 << 20
FILE, LABEL, TARGET, GROUP = "file", "label", "target", "group"

_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Columns:
    """Where in a row what stands."""

    header: tuple[str, ...]
    file: int | None
    label: int | None
    group: int | None
    targets: tuple[int, ...]
    slices: Mapping[str, int]  # name of the grouping -> column
    values: tuple[int, ...]  # all others, in the order of the table


def columns(path: Path) -> Columns:
    """What the header of a table says.

    Raises:
        InputError: no table, no header, a name twice.
    """
    header = next(_rows(path))
    names = [name.strip() for name in header]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path}: two columns are called {twice[0]!r}", hint="rename one of them")
    if all(_is_number(name) for name in names):
        raise InputError(
            f"{path}: the first row is {', '.join(names[:4])}: a header is wanted", hint="name the columns"
        )
    at = {name: index for index, name in enumerate(names)}
    targets = [name for name in names if re.fullmatch(rf"{TARGET}(\.\d+)?", name)]
    said = {FILE, LABEL, GROUP, *targets}
    slices = {name.removeprefix(archive.SLICE): at[name] for name in names if name.startswith(archive.SLICE)}
    rest = [name for name in names if name not in said and not name.startswith(archive.SLICE)]
    if FILE in at:
        slices |= {name: at[name] for name in rest}
    return Columns(
        tuple(names), at.get(FILE), at.get(LABEL), at.get(GROUP),
        tuple(at[name] for name in sorted(targets, key=_number)), slices,
        () if FILE in at else tuple(at[name] for name in rest),
    )  # fmt: skip


def files(path: Path, found: Columns, known: Known) -> Listing:
    """The samples that a list of files names, in its order.

    Raises:
        InputError: a file is missing, leads out of the table's folder or is of no kind that is read; a value is wrong.
        UsageError: the order of the classes is not clear.
    """
    assert found.file is not None
    rows = _body(path, found)
    if len(rows) > MAX_FILES:
        raise InputError(
            f"{path}: {len(rows)} rows are over the limit of {MAX_FILES} files", hint="200 to 1,000 samples are usual"
        )
    root = path.parent
    inside = root.resolve()
    names = [_safe(path, line, row[found.file].strip(), root, inside) for line, row in rows]
    labels, classes = _labels(path, found, rows, known)
    return Listing(
        kind_of(path, names), root, tuple(names), None if labels is None else tuple(labels), classes,
        _about(path, found, rows),
    )  # fmt: skip


def samples(path: Path, found: Columns, specs: Sequence[TensorSpec], known: Known) -> Dataset:
    """The samples whose values are the columns: numbers, and text for inputs that take it.

    One input takes all columns in the order of the table, or `NAME.0`, `NAME.1`, … of the flat input. Several inputs
    take the columns of their names.

    Raises:
        InputError: a value is no number, a row is too short or too long, columns are missing or too many.
        UsageError: the order of the classes is not clear.
    """
    places = _places(path, found, specs)
    text = {spec.name: places.pop(spec.name) for spec in specs if spec.dtype == TEXT}
    columns = sorted({index for indices in places.values() for index in indices})
    dropped = set(columns)
    flat = array.array("d")
    rest: list[tuple[int, list[str]]] = []  # rows with the numbers taken out
    for line, row in _lines(path, found):
        flat.extend(_number_at(path, line, found, row, index) for index in columns)
        rest.append((line, ["" if index in dropped else text for index, text in enumerate(row)]))
    if not rest:
        raise InputError(f"{path}: no samples in it", hint="one row a sample under the header")
    table = np.frombuffer(flat, np.float64).reshape(len(rest), len(columns))
    at = {index: place for place, index in enumerate(columns)}
    arrays: dict[str, Array] = {}
    for spec in specs:
        if spec.name in text:
            rows = [[row[index] for index in text[spec.name]] for _, row in rest]
            arrays[spec.name] = np.array(rows, np.str_).reshape(-1, *spec.shape)
        else:
            arrays[spec.name] = table[:, [at[index] for index in places[spec.name]]].reshape(-1, *spec.shape)
    labels, classes = _labels(path, found, rest, known)
    if labels is not None:
        arrays[archive.LABELS] = np.asarray(labels, np.int64)
    return replace(archive.assemble(str(path), {**arrays, **_about(path, found, rest)}, specs), classes=classes)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(path: Path) -> Iterator[list[str]]:
    """All rows, the header first. Raises InputError where there is not even one."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size} bytes are over the limit of {MAX_BYTES}", hint="numpy.savez takes more")
    some = False
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file, strict=True):
                if len(row) > MAX_COLUMNS:
                    raise InputError(
                        f"{path}: {len(row)} columns are over the limit of {MAX_COLUMNS}",
                        hint="an .npz holds arrays of any size",
                    )
                some = True
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table: {error}", hint="commas, UTF-8, a header in the first row") from error
    if not some:
        raise InputError(f"{path}: an empty table", hint="commas, UTF-8, a header in the first row, one row a sample")


def _lines(path: Path, found: Columns) -> Iterator[tuple[int, list[str]]]:
    """(number of the row as a spreadsheet counts, its fields); empty rows are left out."""
    rows = _rows(path)
    next(rows)
    for number, row in enumerate(rows, start=2):
        if not row or not any(field.strip() for field in row):
            continue
        if len(row) != len(found.header):
            raise InputError(
                f"{path}: row {number} has {len(row)} fields, the header {len(found.header)}",
                hint="quote fields that hold commas",
            )
        yield number, row


def _body(path: Path, found: Columns) -> list[tuple[int, list[str]]]:
    rows = list(_lines(path, found))
    if not rows:
        raise InputError(f"{path}: no samples in it", hint="one row a sample under the header")
    return rows


def _number_at(path: Path, line: int, found: Columns, row: Sequence[str], index: int) -> float:
    try:
        return float(row[index])
    except ValueError:
        raise InputError(
            f"{path}: row {line}, column {found.header[index]!r}: {row[index][:40]!r} is no number",
            hint="numbers with a point; texts belong into the columns label, group or slice:NAME",
        ) from None


def _safe(table: Path, line: int, name: str, root: Path, inside: Path) -> str:
    """The name of a file within the table's folder."""
    where = f"{table}: row {line}: {name[:200]!r}"
    if not name or "\0" in name:
        raise InputError(
            f"{where} is no name of a file", hint="the column 'file' names a file in the folder of the table"
        )
    if os.path.isabs(name) or not (root / name).resolve().is_relative_to(inside):
        raise InputError(
            f"{where} leads out of the folder of the table", hint="put the table into the folder that holds all files"
        )
    if Path(name).suffix.lower() not in KINDS:
        raise InputError(f"{where}: such files are not read", hint=f"known are {', '.join(KINDS)}")
    if not _is_file(root / name):
        raise InputError(f"{where}: no such file", hint="names are taken from the folder of the table")
    return name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system, a folder that may not be read
        return False


# ── what is said of samples ──────────────────────────────────────────────────────────────────────────────────────────


def _labels(
    path: Path, found: Columns, rows: Sequence[tuple[int, Sequence[str]]], known: Known
) -> tuple[list[int] | None, tuple[str, ...]]:  # fmt: skip
    """(class index of each row or None, names of the classes): whole numbers are indices, other labels are names."""
    if found.label is None:
        return None, ()
    given = [row[found.label].strip() for _, row in rows]
    if "" in given:
        raise InputError(
            f"{path}: row {rows[given.index('')][0]} has no label", hint="fill it, or take the column 'label' away"
        )
    if all(map(_is_number, given)):
        whole = [float(label) for label in given]  # 1.0 too, as a table of pandas has it
        for (line, _), value, label in zip(rows, whole, given, strict=True):
            if not (value.is_integer() and 0 <= value < 1 << 31):
                raise InputError(
                    f"{path}: row {line}: the label {label!r} is no class index: 0, 1, 2, …",
                    hint="whole numbers from 0, or names for all rows",
                )
        return [int(value) for value in whole], known.names
    names = order(path.parent, sorted(set(given)), known)
    index = {name: number for number, name in enumerate(names)}
    return [index[label] for label in given], names


def _about(path: Path, found: Columns, rows: Sequence[tuple[int, Sequence[str]]]) -> dict[str, Array]:
    """Targets, groups and slices, one row a row, as `archive.describe` takes them."""
    out: dict[str, Array] = {}
    if found.targets:
        out[archive.TARGETS] = np.array(
            [[_number_at(path, line, found, row, index) for index in found.targets] for line, row in rows]
        )
        if len(found.targets) == 1:
            out[archive.TARGETS] = out[archive.TARGETS][:, 0]
    if found.group is not None:
        out[archive.GROUPS] = np.array([row[found.group] for _, row in rows])
    for name, index in found.slices.items():
        out[archive.SLICE + name] = _slice([row[index].strip() for _, row in rows])
    return out


def _slice(texts: list[str]) -> NDArray[np.bool_] | NDArray[np.str_]:
    """`true` and `false` mark one slice; other texts name one each."""
    if all(text.lower() in _FLAGS for text in texts):
        return np.array([_FLAGS[text.lower()] for text in texts])
    return np.array(texts)


def _places(path: Path, found: Columns, specs: Sequence[TensorSpec]) -> dict[str, list[int]]:
    """Input name -> for each of its flat values, which column of the table holds it."""
    names = [found.header[index] for index in found.values]
    at = dict(zip(names, found.values, strict=True))
    out: dict[str, list[int]] = {}
    for spec in specs:
        wanted = [f"{spec.name}.{index}" for index in range(spec.count)]
        if set(wanted) <= set(at):
            out[spec.name] = [at[name] for name in wanted]
        elif spec.count == 1 and spec.name in at:
            out[spec.name] = [at[spec.name]]
        elif len(specs) == 1:
            out[spec.name] = list(found.values)
            if len(names) != spec.count:
                raise InputError(
                    f"{path}: {wording.counted(len(names), 'column')} of values, the input {spec.name!r} "
                    f"{list(spec.shape)} takes {spec.count}",
                    hint=f"columns that are no values are called {LABEL}, {TARGET}, {GROUP} or {archive.SLICE}NAME",
                )
        else:
            raise InputError(
                f"{path}: no columns for the input {spec.name!r}",
                hint=f"call them {spec.name}" + ("" if spec.count == 1 else f".0 to {spec.name}.{spec.count - 1}"),
            )
    used = {index for indices in out.values() for index in indices}
    if strangers := [name for name, index in at.items() if index not in used]:
        raise InputError(f"{path}: the column {strangers[0]!r} is of no input", hint=f"a slice: {archive.SLICE}NAME")
    return out


def _number(name: str) -> int:
    return int(name.partition(".")[2] or 0)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
