"""The exception tree is whole: drawn in the docstring, every class with its exit code."""

import re

import pytest

from edgeship import errors

CLASSES: dict[str, type[errors.EdgeshipError]] = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.EdgeshipError)
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
