"""Names alone decide which files are samples, of which class, in which order."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgeship.dataset import listing
from edgeship.dataset.listing import Known, Listing, of_folder
from edgeship.errors import InputError, UsageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_one_folder_is_one_class_in_the_order_of_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.png", "dog/10.JPG", "Cat/x.jpeg", "ant/1.png")
    found = of_folder(tmp_path)
    assert found.classes == ("Cat", "ant", "dog"), "code points, as training frameworks sort them"
    assert found.files == ("Cat/x.jpeg", "ant/1.png", "dog/10.JPG", "dog/2.png")
    assert found.labels == (0, 1, 2, 2)
    assert found.kind == "images"


def test_files_without_folders_have_no_labels(tmp_path: Path) -> None:
    found = of_folder(touch(tmp_path, "b.wav", "a.wav", "notes.txt", "table.csv", ".hidden.wav", ".git/x"))
    assert (found.kind, found.files, found.labels, found.classes) == ("recordings", ("a.wav", "b.wav"), None, ())


def test_the_order_can_be_stated_in_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.png", "dog/2.png")
    (tmp_path / "labels.txt").write_text("dog\n\ncat\nant\n")
    found = of_folder(tmp_path)
    assert found.classes == ("dog", "cat", "ant")
    assert found.files == ("dog/2.png", "ant/1.png")
    assert found.labels == (0, 2)


def test_the_models_own_labels_come_first(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.png", "dog/2.png")
    (tmp_path / "labels.txt").write_text("ant\ndog\n")
    assert of_folder(tmp_path, Known(("dog", "ant"))).labels == (0, 1)
    with pytest.raises(UsageError, match="the class 'ant' is none of the model's labels: dog, cat"):
        of_folder(tmp_path, Known(("dog", "cat")))
    (tmp_path / "labels.txt").write_text("ant\ncat\n")
    with pytest.raises(UsageError, match=r"the class 'dog' is none of .*labels\.txt: ant, cat"):
        of_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "a\na\n", b"\xff\xfe\x00"])
def test_a_file_of_classes_that_is_none_is_refused(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"labels\.txt"):
        of_folder(touch(tmp_path, "a/1.png"))


def test_numbers_as_names_are_indices_or_are_asked_for(tmp_path: Path) -> None:
    digits = touch(tmp_path / "digits", *(f"{n}/x.png" for n in range(10)))
    assert of_folder(digits).labels == tuple(range(10))
    for names in (range(11), range(1, 4), (0, 2)):
        other = touch(tmp_path / f"n{len(list(names))}{names[0]}", *(f"{n}/x.png" for n in names))
        with pytest.raises(UsageError, match="which class has which index") as caught:
            of_folder(other)
        assert "labels.txt" in str(caught.value.hint)
    (other / "labels.txt").write_text("0\n1\n2\n")
    assert of_folder(other).labels == (0, 2)


def test_more_or_fewer_classes_than_the_model_has_are_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "ant/1.png", "dog/1.png")
    assert of_folder(tmp_path, Known(count=2)).labels == (0, 1)
    for count in (1, 3, 10):
        with pytest.raises(UsageError, match=f"There are 2 names, the model has {count} classes: ant, dog"):
            of_folder(tmp_path, Known(count=count))
    (tmp_path / "labels.txt").write_text("cow\ndog\nant\n")
    assert of_folder(tmp_path, Known(count=3)).labels == (1, 2)
    digits = touch(tmp_path / "digits", "0/x.png", "1/x.png")
    assert of_folder(digits, Known(count=10)).labels == (0, 1), "numbers are indices"


def test_a_draw_is_of_each_class_alike_and_the_same_every_time(tmp_path: Path) -> None:
    found = of_folder(touch(tmp_path, *(f"{'a' if n < 30 else 'b'}/{n:02}.png" for n in range(40))))
    drawn = found.drawn(20)
    assert drawn == found.drawn(20) != found.drawn(20, seed=1)
    assert drawn.labels is not None
    assert (drawn.labels.count(0), drawn.labels.count(1)) == (15, 5)
    assert list(drawn.files) == sorted(set(drawn.files))
    assert [name.startswith("b/") for name in drawn.files] == [label == 1 for label in drawn.labels]
    assert found.drawn(40) is found
    plain = Listing("images", tmp_path, found.files, about={"targets": np.arange(40)}).drawn(7)
    assert [int(name.partition("/")[2][:2]) for name in plain.files] == plain.about["targets"].tolist()
    assert len(plain.files) == 7


def test_an_empty_class_keeps_its_index(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "c/1.png")
    (tmp_path / "b").mkdir()
    assert of_folder(tmp_path).labels == (0, 2)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no samples in it"),
        (("notes.txt",), "no samples in it"),
        (("a/notes.txt",), "no samples in it"),
        (("a/1.png", "2.png"), "'2.png' lies beside the class folders a"),
        (("a/b/1.png",), "a folder within a class folder: 'b'"),
        (("a/1.png", "a/2.wav"), r"images and recordings: a/1\.png, a/2\.wav"),
        (("a/1.png", "a/2.tiff"), r"2\.tiff: tiff files are not read"),
        (("1.mp3",), r"1\.mp3: mp3 files are not read"),
    ],
)
def test_folders_that_are_no_samples_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        of_folder(touch(tmp_path, *names))


def test_a_pipe_is_no_sample(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: not a regular file"):
        of_folder(tmp_path)


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 3)
    with pytest.raises(InputError, match="more than 3 files"):
        of_folder(touch(tmp_path / "flat", *(f"{n}.png" for n in range(5))))
    with pytest.raises(InputError, match="more than 3 files"):
        of_folder(touch(tmp_path / "deep", "a/1.png", "a/2.png", "b/1.png", "b/2.png"))
