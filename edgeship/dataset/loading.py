"""Which reader reads what a user names as data."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeship import child, wording
from edgeship.dataset import archive, function, listing, table, values
from edgeship.dataset.decode import LIMITS, SAMPLES
from edgeship.dataset.drawing import KEPT, Bound, recorded
from edgeship.dataset.listing import Known, Listing
from edgeship.dataset.samples import Array, Dataset, dtype_of
from edgeship.errors import InputError, MissingExtra, UsageError
from edgeship.model import ModelFacts
from edgeship.preparation import Preparation
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec
from edgeship.runtime.wire import TEXT

LARGE = 100_000_000  # bytes of a file that takes so long to read that it is said

_KINDS = (
    "an .npz with arrays named like the model's inputs, a folder of images or WAV files, one folder a class, "
    "a table (.csv), or module:function"
)


def check_file(path: Path) -> None:
    """Raise UsageError unless there is such data; it is not read."""
    if function.is_function(path):
        function.check(path)
        return
    if not path.exists():
        raise UsageError(f"{path}: no such data", hint=_KINDS)
    if not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path}: neither a file nor a folder", hint=_KINDS)


def load(
    path: Path, facts: ModelFacts, *, need_labels: bool = False, preparation: Preparation | None = None,
    classes: Sequence[str] = (), reporter: Reporter | None = None, bound: Bound = KEPT,
) -> Dataset:  # fmt: skip
    """Read data for a model.

    Args:
        path: `.npz`, `.npy` for a model with one input, a folder of images or recordings, a table, or
            `FOLDER/module:function`.
        facts: the model; its inputs say which arrays are wanted and in which shape.
        need_labels: whether data without labels is refused.
        preparation: how files become samples; nothing of it applies to arrays.
        classes: names of the model's classes in the order of its output, where they are known.
        reporter: is told what a person should know.
        bound: what is kept at most: of more samples a seeded draw, which is said and stands in the recipe.

    Raises:
        UsageError: no such data; labels are needed and missing; how to prepare is not clear.
        InputError: it cannot be read, or does not fit the model; the message names array or file.
        MissingExtra: images, and Pillow is not installed.
    """
    known = Known(tuple(classes), _class_count(facts))
    data = _loaded(path, facts.inputs, preparation, known, reporter, bound)
    if reporter is not None and (drawn := (data.preparation or {}).get("drawn")) is not None:
        reporter.note(f"{path}: {bound.said(drawn)}")
    if need_labels and data.labels is None:
        raise UsageError(
            f"{path}: no labels in it",
            hint="one folder a class; a column 'label'; an array 'labels' with an integer a sample",
        )
    return data


def read(
    path: Path, specs: Sequence[TensorSpec], *, preparation: Preparation | None = None, classes: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Dataset:  # fmt: skip
    """As `load`, for inputs that are known without the model file: those of what a device serves. All are kept."""
    return _loaded(path, specs, preparation, Known(tuple(classes)), reporter, None)


def _class_count(facts: ModelFacts) -> int | None:
    """Of a classifier: one output with a score a class. One score alone may stand for two classes."""
    shapes = [values.sample_shape(spec) for spec in facts.outputs]
    return shapes[0][0] if len(shapes) == 1 and len(shapes[0]) == 1 and shapes[0][0] > 1 else None


def _loaded(
    path: Path, specs: Sequence[TensorSpec], preparation: Preparation | None, known: Known, reporter: Reporter | None,
    bound: Bound | None,
) -> Dataset:  # fmt: skip
    check_file(path)
    data = _read(path, specs, preparation or Preparation(), known, reporter or Reporter(), bound)
    size = sum(array[:1].nbytes for array in (*data.inputs.values(), data.targets) if array is not None)
    drawn = "drawn" in (data.preparation or {})  # about as many as are kept
    if bound is not None and not drawn and (rows := bound.rows(len(data), size)) is not None:
        data = replace(data.select(rows), preparation=recorded(data.preparation, len(rows), len(data)))
    prepared = (data.preparation or {}).get("kind") in listing.KINDS.values()
    if reporter is not None and not prepared and preparation not in (None, Preparation()):
        reporter.note(f"{path}: arrays are taken as they are; the preparation is for images and recordings")
    return data


def _read(
    path: Path, specs: Sequence[TensorSpec], preparation: Preparation, known: Known, reporter: Reporter,
    bound: Bound | None,
) -> Dataset:  # fmt: skip
    if function.is_function(path):
        # It is the user's own code: it may take long, or never end.
        return _told(path, lambda: function.read(path, specs), reporter)
    if path.is_dir():
        return _of_files(path, listing.of_folder(path, known), specs, preparation, reporter, bound)
    heard = reporter if path.stat().st_size > LARGE else Reporter()
    if path.suffix.lower() != ".csv":
        return _told(path, lambda: archive.read(path, specs, bound), heard)
    found = table.columns(path)
    if found.file is not None:
        return _of_files(path, table.files(path, found, known), specs, preparation, reporter, bound)
    return _told(path, lambda: table.samples(path, found, specs, known), heard)


def _told(path: Path, make: Callable[[], Dataset], reporter: Reporter) -> Dataset:
    step = Step("read", str(path))
    reporter.started(step)
    made = make()
    reporter.finished(step, wording.counted(len(made), "sample"))
    return made


def _of_files(
    named: Path, files: Listing, specs: Sequence[TensorSpec], preparation: Preparation, reporter: Reporter,
    bound: Bound | None,
) -> Dataset:  # fmt: skip
    """The samples of files, read in a child process; `named` is what the user called them: a folder or a table."""
    if len(specs) != 1:
        raise UsageError(
            f"{named}: files are samples of one input, the model has {len(specs)}: "
            f"{', '.join(spec.name for spec in specs)}",
            hint="an .npz with an array for each input",
        )
    if specs[0].dtype == TEXT:
        raise UsageError(
            f"{named}: the input {specs[0].name!r} takes text, files are {files.kind}",
            hint="an .npz with an array of texts, or a table with a column",
        )
    if preparation.samples is not None:
        files = files.drawn(preparation.samples)
    if files.kind == "images" and importlib.util.find_spec("PIL") is None:
        raise MissingExtra("pillow", "data")
    (spec,) = specs
    count = len(files.files)
    if bound is not None and (rows := bound.rows(count, 4 * spec.count)) is not None:
        files = files.drawn(len(rows))  # before they are decoded: every file is a sample or more
    request = {
        "kind": files.kind, "root": str(files.root.resolve()), "files": files.files, "spec": spec.encode(),
        "preparation": preparation.encode(),
    }  # fmt: skip
    step = Step("read", str(named))
    reporter.started(step)
    with child.workspace() as work:
        with _watched(work / SAMPLES, spec.nbytes, len(files.files), step, reporter):
            answer = child.run(
                "edgeship.dataset.decode", request, work, limits=LIMITS, subject=str(named), failure=InputError
            )
        samples = _samples(work / SAMPLES, spec)
    reporter.finished(step, wording.counted(len(files.files), files.kind.removesuffix("s")))
    file_of = np.repeat(np.arange(len(files.files), dtype=np.int32), answer["counts"])
    if len(file_of) != len(samples):
        raise InputError(f"{named}: {len(samples)} samples were made, {len(file_of)} counted")
    data = Dataset(
        {spec.name: samples},
        None if files.labels is None else np.asarray(files.labels, np.int32)[file_of],
        groups=file_of if len(file_of) > len(files.files) else None,
        classes=files.classes,
        preparation=answer["preparation"] | ({"files": len(files.files)} if preparation.samples is not None else {}),
    )
    if count > len(files.files):
        data = replace(data, preparation=recorded(data.preparation, len(files.files), count))
    return archive.describe(str(named), data, {name: array[file_of] for name, array in files.about.items()})


@contextlib.contextmanager
def _watched(path: Path, size: int, total: int, step: Step, reporter: Reporter) -> Iterator[None]:
    """Tell how far a child is, by the size of the file that it writes; `size` is that of one sample."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.25):
            with contextlib.suppress(FileNotFoundError):
                reporter.progress(step, min(total, path.stat().st_size // size), total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _samples(path: Path, spec: TensorSpec) -> Array:
    dtype = np.dtype("<f4") if spec.scale or spec.dtype.startswith("float") else dtype_of(spec)
    made = np.fromfile(path, dtype.newbyteorder("<")).reshape(-1, *spec.shape)
    return made.astype(dtype.newbyteorder("="), copy=False)
