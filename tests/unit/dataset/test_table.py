"""Tables: a list of files that never leads out of its folder, or the numbers themselves; every error names the row."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgeship import dataset
from edgeship.dataset import Dataset, table
from edgeship.errors import InputError, UsageError
from edgeship.preparation import Preparation
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.media import image, wav

IMAGE = TensorSpec("image", "float32", (1, 4, 4, 1))
VALUES = TensorSpec("x", "float32", (1, 3))


def read(
    path: Path, text: str | bytes, *specs: TensorSpec, classes: tuple[str, ...] = (),
) -> Dataset:  # fmt: skip
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return dataset.read(path, specs or [VALUES], preparation=Preparation(normalize="0..255"), classes=classes)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Four images whose pixels all have the value of their number."""
    for number in range(4):
        image(tmp_path / "shots" / f"{number}.png", np.full((4, 4), number, np.uint8))
    return tmp_path / "list.csv"


def test_files_come_in_the_order_of_the_table_with_labels_and_slices(shots: Path) -> None:
    data = read(
        shots,
        "file,label,site,slice:dark,group\n"
        "shots/3.png,dog,berlin,true,b\nshots/0.png,cat,rome,false,a\n\nshots/2.png,dog,berlin,FALSE,b\n",
        IMAGE,
    )
    assert data.inputs["image"][:, 0, 0, 0, 0].tolist() == [3, 0, 2]
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0, 1]
    assert data.classes == ("cat", "dog")
    assert {name: mask.tolist() for name, mask in data.slices.items()} == {
        "dark": [True, False, False], "site=berlin": [True, False, True], "site=rome": [False, True, False],
    }  # fmt: skip
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 0]
    assert data.preparation is not None
    assert data.preparation["kind"] == "images"


def test_the_step_of_reading_is_named_like_the_table(shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shots.parent)
    shots.write_text("file,label\nshots/3.png,1\nshots/0.png,0\n")
    told: list[Step] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "started", told.append)
    dataset.read(Path("list.csv"), [IMAGE], preparation=Preparation(normalize="0..255"), reporter=reporter)
    assert told == [Step("read", "list.csv")]


def test_labels_are_indices_or_names_in_the_order_of_the_model(shots: Path) -> None:
    text = "file,label\nshots/0.png,{}\nshots/1.png,{}\n"
    indices = read(shots, text.format(7, 2), IMAGE)
    assert indices.labels is not None
    assert indices.labels.tolist() == [7, 2]
    floats = read(shots, text.format("1.0", "0.0"), IMAGE)
    assert floats.labels is not None
    assert floats.labels.tolist() == [1, 0]
    for wrong in ("-1", "0.5", "nan", "inf", "3000000000"):
        with pytest.raises(InputError, match=f"row 3: the label '{wrong}' is no class index"):
            read(shots, text.format("1", wrong), IMAGE)
    named = read(shots, text.format("cat", "ape"), IMAGE, classes=("cat", "dog", "ape"))
    assert named.labels is not None
    assert named.labels.tolist() == [0, 2]
    with pytest.raises(UsageError, match="the class 'cow' is none of the model's labels"):
        read(shots, text.format("cat", "cow"), IMAGE, classes=("cat", "dog"))
    with pytest.raises(InputError, match="row 3 has no label"):
        read(shots, text.format("cat", " "), IMAGE)


def test_what_is_said_of_a_recording_holds_for_all_its_windows(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", np.full(250, 0.5))
    wav(tmp_path / "b.wav", np.full(90, 0.5))
    (tmp_path / "list.csv").write_text("file,label,target,mic\na.wav,1,0.5,x\nb.wav,0,1.5,y\n")
    data = dataset.read(
        tmp_path / "list.csv", [TensorSpec("audio", "float32", (1, 100))], preparation=Preparation(windows="all")
    )
    assert data.labels is not None
    assert data.targets is not None
    assert data.groups is not None
    assert data.labels.tolist() == [1, 1, 0]
    assert data.targets.tolist() == [0.5, 0.5, 1.5]
    assert data.groups.tolist() == [0, 0, 1]
    assert data.slices["mic=y"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    "name", ["/etc/passwd.png", "../outside.png", "shots/../../outside.png", "link.png", "linked/outside.png"]
)
def test_no_path_leads_out_of_the_folder(shots: Path, name: str) -> None:
    image(shots.parent.parent / "outside.png", np.zeros((4, 4), np.uint8))
    (shots.parent / "link.png").symlink_to(shots.parent.parent / "outside.png")
    (shots.parent / "linked").symlink_to(shots.parent.parent)
    with pytest.raises(InputError, match=r"list\.csv: row 2: '.*' leads out of the folder of the table"):
        read(shots, f"file\n{name}\n", IMAGE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("shots/9.png", "no such file"), ("shots", "such files are not read"), ("a.gif", "such files are not read"),
     ("", "is no name of a file"), ("pipe.png", "no such file"),
     pytest.param("a" * 300 + ".png", "no such file", id="longer than a file system takes")],
)  # fmt: skip
def test_files_that_are_none_are_named_with_their_row(shots: Path, name: str, words: str) -> None:
    os.mkfifo(shots.parent / "pipe.png")
    with pytest.raises(InputError, match=f"row 3: '{name[:200]}'.* {words}"):
        read(shots, f"file,label\nshots/1.png,0\n{name},1\n", IMAGE)


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_are_the_values_of_one_input(tmp_path: Path) -> None:
    data = read(
        tmp_path / "d.csv",
        "\ufefftemp,label,hum,press,target.1,target.0,slice:site\n1,1,2,3,10,20,a\n4.5,0,-5e1,6,30,40,b\n",
    )
    assert data.inputs["x"].tolist() == [[[1, 2, 3]], [[4.5, -50, 6]]]
    assert data.inputs["x"].dtype == np.float32
    assert data.labels is not None
    assert data.targets is not None
    assert data.labels.tolist() == [1, 0]
    assert data.targets.tolist() == [[20, 10], [40, 30]]
    assert list(data.slices) == ["site=a", "site=b"]
    assert data.preparation is None


def test_one_target_is_one_number_a_sample(tmp_path: Path) -> None:
    data = read(tmp_path / "d.csv", "a,b,c,target\n1,2,3,4\n")
    assert data.targets is not None
    assert data.targets.tolist() == [4]


def test_several_inputs_take_the_columns_of_their_names(tmp_path: Path) -> None:
    two = TensorSpec("ids", "int32", (1, 2)), TensorSpec("age", "float32", (1, 1))
    data = read(tmp_path / "d.csv", "age,ids.1,ids.0,label\n7.5,2,1,yes\n8,4,3,no\n", *two)
    assert data.inputs["ids"].tolist() == [[[1, 2]], [[3, 4]]]
    assert data.inputs["ids"].dtype == np.int32
    assert data.inputs["age"].tolist() == [[[7.5]], [[8]]]
    assert data.classes == ("no", "yes")
    with pytest.raises(InputError, match="no columns for the input 'ids'") as caught:
        read(tmp_path / "d.csv", "age,ids.1\n7.5,2\n", *two)
    assert caught.value.hint == "call them ids.0 to ids.1"
    with pytest.raises(InputError, match="the column 'site' is of no input"):
        read(tmp_path / "d.csv", "age,ids.0,ids.1,site\n7.5,2,1,3\n", *two)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty table"),
        ("a,b,c\n", "no samples in it"),
        ("a,b,c\n,,\n", "no samples in it"),
        ("1,2,3\n4,5,6\n", "the first row is 1, 2, 3: a header is wanted"),
        ("a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("a,b\n1,2\n", r"2 columns of values, the input 'x' \[1, 3\] takes 3"),
        ("a;b;c\n1;2;3\n", "1 column of values"),
        ("a,b,c\n1,2,3\n1,2\n", "row 3 has 2 fields, the header 3"),
        ("a,b,c\n1,2,3,4\n", "row 2 has 4 fields, the header 3"),
        ("a,b,c\n1,two,3\n", "row 2, column 'b': 'two' is no number"),
        ("a,b,c\n1,,3\n", "row 2, column 'b': '' is no number"),
        ("a,b,c\n1,nan,3\n", "1 values are NaN or infinite"),
        ("a,b,c,target\n1,2,3,x\n", "row 2, column 'target': 'x' is no number"),
        ('a,b,c\n1,2,"3\n', "not a table"),
        (b"a,b,c\n\xff\xfe,2,3\n", "not a table"),
        (b"a,b,c\n1,2\x00,3\n", "not a table|is no number"),
    ],
)
def test_a_wrong_table_is_refused_with_row_and_column(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path / "d.csv", text)


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_COLUMNS", 2)
    with pytest.raises(InputError, match="3 columns are over the limit of 2"):
        read(tmp_path / "d.csv", "a,b,c\n1,2,3\n")
    monkeypatch.setattr(table, "MAX_BYTES", 5)
    with pytest.raises(InputError, match="12 bytes are over the limit of 5"):
        read(tmp_path / "d.csv", "a,b,c\n1,2,3\n")
    monkeypatch.undo()
    monkeypatch.setattr(table, "MAX_FILES", 1)
    with pytest.raises(InputError, match="2 rows are over the limit of 1 files"):
        read(tmp_path / "d.csv", "file\na.png\nb.png\n")


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = TensorSpec("kind", "string", (1, 2))


def test_columns_of_text_go_to_inputs_of_text(tmp_path: Path) -> None:
    text = 'x.0,kind.1,x.1,label,kind.0,x.2\n1,"b, c",2,0,a,3\n4,größer,5,1,,6\n'
    data = read(tmp_path / "t.csv", text, VALUES, WORDS)
    assert data.inputs["x"].tolist() == [[[1, 2, 3]], [[4, 5, 6]]]
    kinds = [text.decode() for text in data.inputs["kind"].reshape(-1).tolist()]
    assert kinds == ["a", "b, c", "", "größer"]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1]


def test_one_input_of_text_takes_the_columns_in_their_order(tmp_path: Path) -> None:
    data = read(tmp_path / "t.csv", "first,second\na,7\n", WORDS)
    assert data.inputs["kind"].tolist() == [[[b"a", b"7"]]]


def test_files_are_no_text(shots: Path) -> None:
    shots.write_text("file\nshots/0.png\n")
    with pytest.raises(UsageError, match="the input 'kind' takes text, files are images"):
        dataset.read(shots, [WORDS], preparation=Preparation())
