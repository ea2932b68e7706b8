"""The exception tree is whole, every class with its exit code; every error that a user can cause says what to do."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship import errors

CLASSES: dict[str, type[errors.EdgeshipError]] = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.EdgeshipError)
}

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"UsageError", "ConfigError", "InputError", "ConversionError", "GateError", "AuthError", "UnfitError"}

#: Where an error needs no hint of its own -> how many such places, and why.
WITHOUT = {
    "edgeship/dataset/recordings.py": (10, "reasons in the list of files that cannot be used, which has a hint"),
    "edgeship/dataset/loading.py": (1, "a defect of ours: a step counted wrong"),
    "edgeship/optimize/prune/network.py": (1, "a defect of ours: Keras graphs have no circles"),
    "edgeship/optimize/search/sensitivity.py": (1, "noted in a search, which goes on without it"),
    "edgeship/optimize/tuning/models.py": (1, "a defect of ours: what pruning changed does not fit"),
    "targets/difference.py": (1, "a defect of ours: formats are chosen before"),
    "targets/feed.py": (1, "a defect of ours: steps that calibrate are given samples"),
    "targets/layers.py": (1, "a defect of ours: formats are chosen before"),
    "targets/onnx/quantize.py": (1, "a defect of ours: precisions are checked before"),
    "targets/scheme.py": (1, "a recipe or a request that edgeship wrote itself"),
}


def drawn() -> dict[str, int]:
    """Class name -> exit code as the module's docstring draws them; a class without one has its parent's."""
    out: dict[str, int] = {}
    parents: list[tuple[int, int]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([\s│├└─]*)([A-Z]\w+)\s*(?:exit (\d+))?", line)
        if not found or found[2] not in CLASSES:
            continue
        depth = len(found[1])
        parents = [p for p in parents if p[0] < depth]
        code = int(found[3]) if found[3] else parents[-1][1]
        parents.append((depth, code))
        out[found[2]] = code
    return out


def test_every_class_is_drawn_and_nothing_else() -> None:
    assert set(drawn()) == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_exit_code_is_the_one_drawn(name: str) -> None:
    assert CLASSES[name].exit_code == drawn()[name]


def test_everything_descends_from_the_base() -> None:
    assert all(issubclass(cls, errors.EdgeshipError) for cls in CLASSES.values())


def test_a_device_error_carries_where_it_happened() -> None:
    error = errors.UnfitError(
        "disk is full", device="pi", stage="fit", log=["a", "b"], code="disk-full", hint="free some"
    )
    assert (error.device, error.stage, error.log, error.code, error.hint) == (
        "pi",
        "fit",
        ("a", "b"),
        "disk-full",
        "free some",
    )


def test_a_missing_extra_prints_the_install_line() -> None:
    assert errors.MissingExtra("onnx", "onnx").hint == "pip install 'edgeship[onnx]'"


def raised() -> Iterator[tuple[str, int, ast.Call]]:
    """(file, line, the error made) of every such place; not of the device's side, which has codes."""
    for base in ("edgeship", "targets"):
        for path in sorted((ROOT / base).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(("edgeship/runtime/", "edgeship/targets/")):  # links
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                made = node.exc if isinstance(node, ast.Raise) else None
                if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id in KINDS:
                    yield name, node.lineno, made  # type: ignore[attr-defined]  # a statement has a line


def hinted(made: ast.Call) -> bool:
    """Whether it is given a hint, and one that says something."""
    hints = [keyword.value for keyword in made.keywords if keyword.arg == "hint"]
    return bool(hints) and not any(isinstance(hint, ast.Constant) and not hint.value for hint in hints)


def test_every_error_of_a_user_has_a_hint_but_for_those_that_are_listed_with_a_reason() -> None:
    bare = [(name, line) for name, line, made in raised() if not hinted(made)]
    found = Counter(name for name, _ in bare)
    expected = {name: count for name, (count, _) in WITHOUT.items()}
    assert found == expected, [f"{name}:{line}" for name, line in bare if found[name] != expected.get(name)]


def test_the_rule_sees_the_places() -> None:
    assert sum(1 for _ in raised()) > 400
    assert not hinted(ast.parse("UsageError('x')", mode="eval").body)  # type: ignore[arg-type]  # a call
    assert not hinted(ast.parse("UsageError('x', hint='')", mode="eval").body)  # type: ignore[arg-type]  # a call
