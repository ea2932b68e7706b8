"""What a search leaves behind: the model, its recipe beside it, the report and its data, in a folder of the user's."""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import UsageError
from edgeship.optimize.handover import put
from edgeship.optimize.search import report
from edgeship.optimize.search.pick import Row
from edgeship.optimize.search.run import Found

REPORT, DATA = "report.html", "search.json"


@dataclass(frozen=True)
class Saved:
    """Files that were written; no model where nothing met the budget."""

    model: Path | None
    recipe: Path | None
    report: Path
    data: Path
    pruned: Path | None = None  # the Keras model that the pick was converted from; its recipe lies beside it
    earlier: tuple[Path, ...] = ()  # models of other searches of the same source that lie there still


def check_folder(folder: Path) -> None:
    """Raise UsageError unless the folder can be made and written to; nothing is left of the try."""
    made: list[Path] = []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}", hint="--output: a folder to write to") from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it was not made, or somebody uses it already
                path.rmdir()


def write(found: Found, folder: Path) -> Saved:
    """Write them. A file appears whole or not at all. Raises UsageError where one cannot be written."""
    row = found.pick.row
    model = recipe = pruned = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if row is not None:
            model = folder / f"{found.request.source.path.stem}.{name_of(row)}.{row.variant.format}"
            recipe = folder / f"{model.name}.recipe.json"
            put(model, lambda path: shutil.copyfile(row.variant.path, path))
            put(recipe, lambda path: shutil.copyfile(row.variant.recipe_path, path))
            if (tuned := found.pruned.get(row.candidate.pruned)) is not None:
                pruned = folder / f"{found.request.source.path.stem}.pruned.keras"
                put(pruned, lambda path: shutil.copyfile(tuned.path, path))
                put(folder / f"{pruned.name}.recipe.json", lambda path: shutil.copyfile(tuned.recipe_path, path))
        page, data = folder / REPORT, folder / DATA
        text = json.dumps(report.encode(found), indent=1, allow_nan=False) + "\n"
        put(page, lambda path: path.write_text(report.html(found), encoding="utf-8"))
        put(data, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.strerror or error}", hint="free some room, or another --output FOLDER"
        ) from error
    recipes = sorted(folder.glob(f"{glob.escape(found.request.source.path.stem)}.*.recipe.json"))
    models = [path.with_name(path.name.removesuffix(".recipe.json")) for path in recipes]
    earlier = tuple(path for path in models if path.is_file() and path not in (model, pruned))
    return Saved(model, recipe, page, data, pruned, earlier)


def name_of(row: Row) -> str:
    """The part of a file name that tells the variant: `int8`, `int8-mixed`."""
    scheme = row.candidate.scheme
    pruned = "pruned-" if row.candidate.pruned != 1 else ""
    return pruned + scheme.precision + ("-mixed" if scheme.keep or scheme.weights_only else "")
