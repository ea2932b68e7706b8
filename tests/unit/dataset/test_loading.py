"""One call reads whatever a user names; a long read tells how far it is."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import child, dataset
from edgeship.dataset import loading
from edgeship.dataset.decode import SAMPLES
from edgeship.dataset.drawing import Bound
from edgeship.errors import InputError, MissingExtra, UsageError
from edgeship.model import ModelFacts
from edgeship.preparation import Preparation
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.media import image, wav

SPEC = TensorSpec("image", "float32", (1, 4, 4, 1))


def of_input(spec: TensorSpec) -> ModelFacts:
    return ModelFacts(Path("m"), "tflite", "a" * 64, 1, "float32", (spec,), (), {}, None)


class Told(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.moved = threading.Event()

    def started(self, step: Step) -> None:
        self.events.append(("started", step))

    def progress(self, step: Step, done: int, total: int) -> None:
        self.events.append(("progress", step, done, total))
        self.moved.set()

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        self.events.append(("finished", step, summary))

    def note(self, text: str) -> None:
        self.events.append(("note", text))


def test_every_kind_of_one_data_gives_the_same_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    labels = np.array([0, 0, 1, 1, 2, 2])
    np.savez(tmp_path / "d.npz", image=(pixels / 255)[..., None], labels=labels)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        image(tmp_path / "d" / str(label) / f"{number}.png", picture)
    (tmp_path / "files.csv").write_text(
        "file,label\n" + "".join(f"d/{label}/{number}.png,{label}\n" for number, label in enumerate(labels))
    )
    rows = [[*(f"p{i}" for i in range(16)), "label"]]
    rows += [[*map(repr, (p.reshape(-1) / 255).tolist()), str(k)] for p, k in zip(pixels, labels, strict=True)]
    (tmp_path / "values.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    (tmp_path / "prep.py").write_text(
        "import numpy as np\ndef samples():\n    with np.load('d.npz') as d:\n        return dict(d)\n"
    )
    monkeypatch.chdir(tmp_path)
    made = [
        dataset.read(Path(name), [SPEC], preparation=Preparation(normalize="0..1"))
        for name in ("d.npz", "d", "files.csv", "values.csv", "prep:samples")
    ]
    for data in made:
        assert data.labels is not None
        assert data.labels.tolist() == labels.tolist()
        assert np.allclose(data.inputs["image"], made[0].inputs["image"], atol=1e-6)
        assert data.inputs["image"].dtype == np.float32
    assert made[1].inputs_sha256 == made[2].inputs_sha256, "one preparation, one content"


def test_reading_files_is_a_step(tmp_path: Path) -> None:
    image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    told = Told()
    dataset.read(tmp_path, [SPEC], preparation=Preparation(normalize="0..1"), reporter=told)
    step = Step("read", str(tmp_path))
    assert [event for event in told.events if event[0] != "progress"] == [
        ("started", step), ("finished", step, "1 image"),
    ]  # fmt: skip


def test_a_long_read_tells_how_far_it_is(tmp_path: Path) -> None:
    told, step = Told(), Step("read", "x")
    with loading._watched(tmp_path / "samples.bin", 10, 5, step, told):  # no file yet: nothing to tell
        (tmp_path / "whole").write_bytes(bytes(35))
        (tmp_path / "whole").rename(tmp_path / "samples.bin")
        assert told.moved.wait(30)
    assert set(told.events) == {("progress", step, 3, 5)}
    with loading._watched(tmp_path / "samples.bin", 1, 5, step, told):  # more windows than files
        told.moved.clear()
        assert told.moved.wait(30)
    assert told.events[-1] == ("progress", step, 5, 5)


def test_a_preparation_for_arrays_is_noted(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 4, 4, 1)))
    told = Told()
    dataset.read(tmp_path / "d.npy", [SPEC], reporter=told)
    assert told.events == []
    dataset.read(tmp_path / "d.npy", [SPEC], preparation=Preparation(normalize="0..1"), reporter=told)
    (event,) = told.events
    assert "arrays are taken as they are" in event[1]


def test_images_without_pillow_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "PIL" else find(name))
    image(tmp_path / "i" / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(MissingExtra, match="pillow") as caught:
        dataset.read(tmp_path / "i", [SPEC])
    assert caught.value.hint == "pip install 'edgeship[data]'"
    wav(tmp_path / "w" / "a.wav", np.zeros(16))
    assert len(dataset.read(tmp_path / "w", [TensorSpec("x", "float32", (1, 16))])) == 1


def test_a_child_that_writes_less_than_it_says_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))

    def lying(step: str, request: Any, folder: Path, **_: Any) -> dict[str, Any]:
        (folder / SAMPLES).write_bytes(bytes(64))
        return {"counts": [2], "preparation": {}}

    monkeypatch.setattr(child, "run", lying)
    with pytest.raises(InputError, match="1 samples were made, 2 counted"):
        dataset.read(tmp_path, [SPEC], preparation=Preparation(normalize="0..1"))


@pytest.mark.parametrize("name", ["nothing.npz", "nothing", "no module:f", "prep:"])
def test_what_is_not_there_is_a_usage_error_with_all_kinds(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no such data") as caught:
        dataset.check_file(tmp_path / name)
    assert all(
        kind in str(caught.value.hint) for kind in (".npz", "folder of images or WAV", ".csv", "module:function")
    )


def facts(*outputs: TensorSpec) -> ModelFacts:
    return ModelFacts(Path("m"), "onnx", "a" * 64, 1, "float32", (SPEC,), outputs, {}, None)


def test_classes_that_are_not_those_of_the_model_are_asked_for(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        image(tmp_path / name / "1.png", np.zeros((4, 4), np.uint8))
    stated = Preparation(normalize="0..1")
    scores = TensorSpec("p", "float32", (1, 3))
    with pytest.raises(UsageError, match="There are 2 names, the model has 3 classes: cat, dog"):
        dataset.load(tmp_path, facts(scores), preparation=stated)
    named = dataset.load(tmp_path, facts(scores), preparation=stated, classes=("dog", "cow", "cat"))
    assert named.labels is not None
    assert named.labels.tolist() == [0, 2]
    one = TensorSpec("p", "float32", (1, 1))
    boxes = TensorSpec("b", "float32", (1, 10, 4))
    for outputs in ((one,), (boxes,), (scores, boxes), ()):
        assert dataset.load(tmp_path, facts(*outputs), preparation=stated).classes == ("cat", "dog")


def test_labels_that_are_needed_and_missing_are_a_usage_error(tmp_path: Path) -> None:
    image(tmp_path / "1.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(UsageError, match="no labels in it") as caught:
        dataset.load(tmp_path, facts(), preparation=Preparation(normalize="0..1"), need_labels=True)
    assert "a column 'label'" in str(caught.value.hint)


def test_a_draw_reads_only_what_was_drawn(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / f"{number}.png", np.full((4, 4), number, np.uint8))
    data = dataset.read(tmp_path, [SPEC], preparation=Preparation(normalize="0..255", samples=5))
    assert len(set(data.inputs["image"][:, 0, 0, 0, 0].tolist())) == 5
    assert data.preparation is not None
    assert data.preparation["files"] == 5


def test_of_more_files_than_are_kept_a_draw_of_each_class_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4), dtype=np.uint8)
    for number in range(12):
        image(tmp_path / "d" / str(number % 3) / f"{number:02}.png", pixels)
    told = Told()
    data = dataset.load(
        tmp_path / "d", of_input(SPEC), preparation=Preparation(normalize="0..1"), bound=Bound(samples=6), reporter=told
    )
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [2, 2, 2]
    assert ("finished", Step("read", str(tmp_path / "d")), "6 images") in told.events
    assert (data.preparation or {})["drawn"] == {"samples": 6, "of": 12, "seed": 0}
    [note] = [event[1] for event in told.events if event[0] == "note"]
    assert note.startswith(f"{tmp_path}/d: of 12 samples a seeded draw of 6 is used")


def test_of_more_rows_of_a_table_than_are_kept_a_draw_is_used(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,b,label\n" + "".join(f"{i},{-i},{i}\n" for i in range(20)))
    data = dataset.load(tmp_path / "v.csv", of_input(TensorSpec("x", "float32", (1, 2))), bound=Bound(samples=5))
    assert data.labels is not None
    assert len(data) == 5
    assert np.array_equal(data.inputs["x"][:, 0, 0], data.labels)
    assert (data.preparation or {})["drawn"]["of"] == 20
