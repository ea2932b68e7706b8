"""A user's function makes the data, in a child: whatever it makes comes out uniform, whatever it does is one error."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship import dataset
from edgeship.dataset import Dataset, archive, calling, function
from edgeship.errors import InputError, UsageError
from edgeship.preparation import Preparation
from edgeship.reporter import Reporter
from edgeship.runtime.manifest import TensorSpec

X = TensorSpec("x", "float32", (1, 2, 3))
TWO = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int32", (1, 3)))

CODE = """
import sys
from pathlib import Path
import numpy as np

print("what it prints is nobody's business")
grid = np.arange(30, dtype=np.float64).reshape(5, 2, 3)

def whole(): return {"x": grid, "labels": np.arange(5), "slice:odd": np.arange(5) % 2 == 1}
def pair(): return grid, list(range(5))
def singles():
    for row, label in zip(grid, range(5)): yield row, label
def batches_of_one():
    for row, label in zip(grid, range(5)): yield {"x": row[None], "labels": label, "targets": [label / 2]}
def batches(): yield grid[:3], np.arange(3); yield grid[3:], np.arange(3, 5)
def loader():
    for row, label in zip(grid, range(5)): yield [row[None], np.array([label])]
def named_loader():
    for row, label in zip(grid, range(5)): yield [{"x": row}, label]
def one_buffer():
    buffer = np.empty((1, 2, 3), np.float32)
    for row, label in zip(grid, range(5)):
        buffer[:] = row
        yield buffer, label
def bare(): return grid
def nested(): return grid.tolist()
def rows(): return list(grid)
def two():
    for i in range(4): yield {"a": np.full(2, i), "b": np.full(3, i)}, i
def near(): return {"x": np.load("grid.npy")}

class Made:
    @staticmethod
    def data(): return {"images": grid}

def raises(): return helper()
def helper(): raise ValueError("no such\\ncolumn")
def late():
    yield grid[0]
    raise KeyError("k")
def leaves(): sys.exit("bye")
def dies():
    import os, signal; os.kill(os.getpid(), signal.SIGSEGV)
def nothing(): return None
def empty(): return iter(())
def wrong(): return {"x": grid.reshape(5, 3, 2)}
def text(): return {"x": np.array([["a", "b"]])}
def ragged(): return {"x": [[1], [1, 2]]}
def objects(): return {"x": np.array([object()])}
def triple(): yield grid[0], 1, 2
def other(): return {"y": grid, "z": grid}
def uneven(): yield {"x": grid[0], "labels": 0}; yield {"x": grid[1]}
def differ(): yield {"x": grid[0], "targets": [1, 2]}; yield {"x": grid[0], "targets": [1, 2, 3]}
def endless():
    while True: yield grid
def nan(): yield grid[0]; yield grid[0] * np.nan
def arguments(path): return grid
value = 3
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "prep.py").write_text(CODE)
    (folder / "broken.py").write_text("import numpy\nimport there_is_no_such_module\n")
    (folder / "wrong.py").write_text("def f(:\n")
    (folder / "pack").mkdir()
    (folder / "pack" / "deep.py").write_text("import prep\ndef data(): return prep.grid\n")
    return folder


def collected(home: Path, name: str, *specs: TensorSpec) -> Dataset:
    """As `dataset.read`, in this process."""
    sys.modules.pop("prep", None)
    request = {"folder": str(home), "path": [], "cwd": str(Path.cwd()), "module": "prep", "function": name,
               "specs": [spec.encode() for spec in specs or (X,)]}  # fmt: skip
    before = list(sys.path)
    out = home / f"out-{name}"
    out.mkdir(exist_ok=True)
    try:
        answer = calling.perform(request, out)
    finally:
        sys.path[:] = before
        sys.modules.pop("prep", None)
    arrays = {key: np.load(out / file) for key, file in answer["arrays"].items()}
    return archive.assemble("it", arrays, specs or (X,))


@pytest.mark.parametrize(
    "name",
    [
        "whole",
        "pair",
        "singles",
        "batches_of_one",
        "batches",
        "loader",
        "named_loader",
        "bare",
        "rows",
        "nested",
        "one_buffer",
    ],
)
def test_samples_and_batches_come_out_alike(home: Path, name: str) -> None:
    data = collected(home, name)
    assert data.inputs["x"].tolist() == np.arange(30.0).reshape(5, 1, 2, 3).tolist()
    assert data.inputs["x"].dtype == np.float32
    if name in ("bare", "rows", "nested"):
        assert data.labels is None
    else:
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1, 2, 3, 4]
    if name == "batches_of_one":
        assert data.targets is not None
        assert data.targets.reshape(-1).tolist() == [0, 0.5, 1, 1.5, 2]


def test_several_inputs_are_named(home: Path) -> None:
    data = collected(home, "two", *TWO)
    assert data.inputs["a"].tolist() == [[[i, i]] for i in range(4)]
    assert data.inputs["b"].dtype == np.int32
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="item 1 does not name its arrays, the model has 2 inputs"):
        collected(home, "bare", *TWO)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", r"the function raised ValueError: no such column \(prep\.py, line \d+, in helper\)"),
        ("late", r"the function raised KeyError: 'k' \(prep\.py, line \d+, in late\)"),
        ("leaves", "the function raised SystemExit: bye"),
        ("arguments", "the function raised TypeError: .*missing 1 required positional argument: 'path'"),
        ("nothing", "item 1 is None"),
        ("empty", "the function made nothing"),
        ("wrong", r"item 1: 'x': expected shape \[n, 2, 3\].*got \[5, 3, 2\]"),
        ("text", "item 1: 'x' holds text"),
        ("ragged", "item 1: 'x' is no array: ValueError"),
        ("objects", "item 1: 'x' is ndarray, an array of numbers is wanted"),
        ("triple", "item 1 is a tuple of 3, a pair is wanted"),
        ("other", "item 1 lacks the input 'x'; it has 'y', 'z'"),
        ("uneven", r"array 'labels': expected shape \[2\], got \[1\]"),
        ("differ", "'targets' differs in shape from one item to the next"),
        ("nan", "item 2: 'x': 6 values are NaN"),
    ],
)
def test_what_is_no_data_is_one_error_that_says_where(home: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        collected(home, name)


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "no function 'missing' in prep"), ("value", "'value' in prep is no function")]
)
def test_a_function_that_is_not_there_is_a_usage_error(home: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        collected(home, name)


def test_a_generator_that_never_ends_is_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MAX_SAMPLES", 1000)
    with pytest.raises(InputError, match=r"more than 1000 samples .* does it ever end"):
        collected(home, "endless")
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_BYTES", 5000)
    with pytest.raises(InputError, match="or 5000 bytes: does it ever end"):
        collected(home, "endless")


# ── through the child ────────────────────────────────────────────────────────────────────────────────────────────────


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_it_runs_in_a_child_in_the_callers_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("grid.npy", np.ones((2, 2, 3)))
    before = set(sys.modules)
    notes = Notes()
    data = dataset.read(home / "prep:near", [X], preparation=Preparation(crop=0.5), reporter=notes)
    assert data.inputs["x"].shape == (2, 1, 2, 3)
    assert data.preparation == {"kind": "function", "function": "prep:near"}
    assert "prep" not in set(sys.modules) - before
    assert capfd.readouterr() == ("", "")
    assert notes.said == [
        f"{home / 'prep:near'}: arrays are taken as they are; the preparation is for images and recordings"
    ]


@pytest.mark.parametrize("name", ["pack.deep:data", "prep:Made.data"])
def test_packages_and_methods_are_found(home: Path, name: str) -> None:
    assert len(dataset.read(home / name, [X])) == 5


def test_the_suffix_may_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert len(dataset.read(Path("prep.py:bare"), [X])) == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken:f", r"importing broken raised ModuleNotFoundError: .*there_is_no.* \(broken\.py, line 2"),
        ("wrong:f", "importing wrong raised SyntaxError"),
        ("prep:dies", "killed by SIGSEGV"),
        ("prep:raises", "the function raised ValueError"),
    ],
)
def test_code_that_fails_is_one_error_that_names_it(home: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^{home / name}: .*{words}"):
        dataset.read(home / name, [X])


def test_a_module_that_is_not_there_is_a_usage_error_and_nothing_runs(home: Path) -> None:
    with pytest.raises(UsageError, match="no module 'nowhere'"):
        dataset.check_file(home / "nowhere:f")
    dataset.check_file(home / "broken:f")
    dataset.check_file(home / "pack.deep:f")


def test_a_file_with_a_colon_in_its_name_is_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a:b", x=np.zeros((1, 2, 3)))
    (tmp_path / "a:b.npz").rename(tmp_path / "a:b")
    assert not function.is_function(tmp_path / "a:b")
    assert len(dataset.read(tmp_path / "a:b", [X])) == 1
