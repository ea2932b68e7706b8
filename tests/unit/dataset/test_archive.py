"""Data files: uniform arrays come out, or an error that names the array, what was expected and what was there."""

from __future__ import annotations

import contextlib
import io
import os
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.dataset import archive, load, loading, read, values
from edgeship.dataset.drawing import Bound
from edgeship.errors import InputError, UsageError
from edgeship.model import ModelFacts
from edgeship.reporter import Reporter, Step
from edgeship.runtime.manifest import TensorSpec

IMAGE = TensorSpec("image", "float32", (1, 4, 4, 1))


def facts(*inputs: TensorSpec) -> ModelFacts:
    return ModelFacts(Path("m"), "tflite", "a" * 64, 1, "float32", inputs or (IMAGE,), (), {}, None)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def images(n: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((n, 4, 4, 1)).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 4, 4, 1), (5, 1, 4, 4, 1)])
def test_samples_with_and_without_the_batch_axis_come_out_alike(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = load(save(tmp_path / "d.npz", image=images().reshape(shape), labels=np.arange(5)), facts())
    assert len(data) == 5
    assert data.inputs["image"].shape == (5, 1, 4, 4, 1)
    assert data.inputs["image"].dtype == np.float32
    assert data.labels is not None
    assert data.labels.dtype == np.int32
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


def test_a_model_without_a_batch_axis_keeps_its_shape(tmp_path: Path) -> None:
    data = load(save(tmp_path / "d.npz", x=np.zeros((3, 7))), facts(TensorSpec("x", "float32", (7,))))
    assert data.inputs["x"].shape == (3, 7)


def test_compressed_and_fortran_ordered_arrays_are_read(tmp_path: Path) -> None:
    wanted = images()
    np.savez_compressed(tmp_path / "d.npz", image=np.asfortranarray(wanted))
    assert np.array_equal(load(tmp_path / "d.npz", facts()).inputs["image"][:, 0], wanted)


FEW = Bound(samples=7)


class Noted(Reporter):
    """Remembers notes and steps."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finished(self, step: Step, summary: str, data: Mapping[str, Any] | None = None) -> None:
        self.steps.append(f"{step.name} {summary}")


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunk", [1, 200, 1 << 22])
def test_of_more_samples_than_are_kept_a_seeded_draw_is_read_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_as: Any, order: Any, chunk: int
) -> None:
    monkeypatch.setattr(archive, "_CHUNK", chunk)
    x, labels = images(40), np.arange(40)
    night = labels % 2 == 0
    save_as(tmp_path / "d.npz", image=np.asarray(x, order=order), labels=labels, **{"slice:night": night})
    noted = Noted()
    data = load(tmp_path / "d.npz", facts(), bound=FEW, reporter=noted)
    whole = load(tmp_path / "d.npz", facts())
    assert data.sha256 == whole.take(7, 0).sha256, "the draw is that of every other place"
    assert data.labels is not None
    assert np.array_equal(data.slices["night"], data.labels % 2 == 0)
    assert data.preparation == {"kind": "arrays", "drawn": {"samples": 7, "of": 40, "seed": 0}}
    assert whole.preparation is None
    assert noted.notes == [
        f"{tmp_path}/d.npz: of 40 samples a seeded draw of 7 is used: at most 7, and 2.1 GB of them, are kept in memory"
    ]


def test_one_array_in_a_file_is_drawn_too(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(40))
    data = load(tmp_path / "d.npy", facts(), bound=FEW)
    assert data.sha256 == load(tmp_path / "d.npy", facts()).take(7, 0).sha256


def test_what_is_kept_is_limited_in_bytes_too(tmp_path: Path) -> None:
    """As the model takes them: four bytes a number, whatever the file has."""
    save(tmp_path / "d.npz", image=(images(40) * 255).astype(np.uint8))
    data = load(tmp_path / "d.npz", facts(), bound=Bound(bytes=4 * 16 * 5 + 1))
    assert len(data) == 5


def test_no_more_than_is_kept_is_in_memory_while_it_is_read(tmp_path: Path) -> None:
    save(tmp_path / "d.npz", image=np.zeros((400_000, 4, 4, 1), np.float32))
    tracemalloc.start()
    try:
        data = load(tmp_path / "d.npz", facts(), bound=Bound(samples=1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) == 1000
    assert peak < 24_000_000, "the file holds 25.6 MB of values: a chunk at a time, and the draw"


def test_a_file_that_ends_early_is_damaged_in_a_draw_too(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images(40))
    raw = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(raw[:-4])
    with pytest.raises(InputError, match="damaged: 2560 bytes declared, 2556 there"):
        load(tmp_path / "d.npy", facts(), bound=FEW)


def test_arrays_of_different_length_are_refused_and_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"array 'labels': expected shape \[40\], got \[39\]"):
        load(save(tmp_path / "d.npz", image=images(40), labels=np.arange(39)), facts(), bound=FEW)


def test_what_a_device_is_asked_is_never_drawn(tmp_path: Path) -> None:
    data = read(save(tmp_path / "d.npz", image=np.zeros((100_001, 4, 4, 1), np.uint8)), [IMAGE])
    assert len(data) == 100_001
    assert len(load(tmp_path / "d.npz", facts())) == 100_000


def test_a_large_file_is_a_step_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "d.npz", image=images())
    noted = Noted()
    load(tmp_path / "d.npz", facts(), reporter=noted)
    assert noted.steps == []
    monkeypatch.setattr(loading, "LARGE", 100)
    load(tmp_path / "d.npz", facts(), reporter=noted)
    assert noted.steps == ["read 5 samples"]


@pytest.mark.parametrize("name", ["x", "images", "whatever"])
def test_a_single_array_serves_a_model_with_one_input(tmp_path: Path, name: str) -> None:
    assert len(load(save(tmp_path / "d.npz", **{name: images()}), facts())) == 5


def test_a_general_name_beside_others_serves_too_when_there_is_one(tmp_path: Path) -> None:
    assert len(load(save(tmp_path / "d.npz", x=images(), ids=np.arange(5), labels=np.arange(5)), facts())) == 5
    with pytest.raises(InputError, match="no array for the model's input 'image'"):
        load(save(tmp_path / "e.npz", x=images(), images=images()), facts())


def test_a_npy_file_serves_a_model_with_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", images())
    assert len(load(tmp_path / "d.npy", facts())) == 5


def test_several_inputs_go_by_name(tmp_path: Path) -> None:
    two = facts(TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int32", (1, 3)))
    data = load(save(tmp_path / "d.npz", b=np.ones((4, 3), np.int64), a=np.zeros((4, 2))), two)
    assert list(data.inputs) == ["a", "b"]
    assert data.inputs["b"].dtype == np.int32
    with pytest.raises(InputError, match=r"no array for the model's input 'b'; it holds 'a' \[4, 2\]") as caught:
        load(save(tmp_path / "e.npz", a=np.zeros((4, 2))), two)
    assert "a, b" in str(caught.value.hint)
    with pytest.raises(InputError, match="differ in samples: 'a' 4, 'b' 3"):
        load(save(tmp_path / "f.npz", a=np.zeros((4, 2)), b=np.ones((3, 3), int)), two)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((5, 1, 4, 4), "transpose"), ((5, 16), "reshape"), ((5, 3, 3, 1), None), ((4, 4, 1), None), ((), None)],
)
def test_another_shape_is_refused_with_both_shapes(tmp_path: Path, shape: tuple[int, ...], hint: str | None) -> None:
    with pytest.raises(InputError, match=r"array 'image': expected shape \[n, 4, 4, 1\]") as caught:
        load(save(tmp_path / "d.npz", image=np.zeros(shape, np.float32)), facts())
    assert str(list(shape)) in str(caught.value)
    assert (hint or "") in str(caught.value.hint)


def test_axes_in_another_order_are_said_to_be(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 8, 6, 3))
    with pytest.raises(InputError) as caught:
        load(save(tmp_path / "d.npz", x=np.zeros((2, 3, 8, 6))), facts(spec))
    assert "transpose" in str(caught.value.hint)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_found(tmp_path: Path, bad: float) -> None:
    values = images().astype(np.float64)
    values[3, 2, 1, 0] = bad
    with pytest.raises(InputError, match=r"1 values are NaN or infinite .* the first at \[3, "):
        load(save(tmp_path / "d.npz", image=values), facts())


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "d.npz", image=np.array([Bomb()], dtype=object))
    with pytest.raises(InputError, match="holds Python objects"):
        load(tmp_path / "d.npz", facts())
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("values", [np.array([1j]), np.array(["2026-01-01"], "datetime64[D]")])
def test_what_is_no_number_is_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(InputError, match="numbers are wanted"):
        load(save(tmp_path / "d.npz", image=values), facts())


def test_integer_inputs_take_whole_numbers_in_range(tmp_path: Path) -> None:
    tokens = facts(TensorSpec("t", "int8", (1, 2)))
    assert load(save(tmp_path / "a.npz", t=np.array([[1.0, 2.0]])), tokens).inputs["t"].dtype == np.int8
    with pytest.raises(InputError, match="takes int8, got float64 with fractions"):
        load(save(tmp_path / "b.npz", t=np.array([[1.5, 2.0]])), tokens)
    with pytest.raises(InputError, match="values 1 to 300 do not fit int8"):
        load(save(tmp_path / "c.npz", t=np.array([[1, 300]])), tokens)
    flags = facts(TensorSpec("f", "bool", (1, 2)))
    with pytest.raises(InputError, match="do not fit bool"):
        load(save(tmp_path / "d.npz", f=np.array([[0, 2]])), flags)


def test_a_quantized_input_takes_real_values_or_its_own_integers(tmp_path: Path) -> None:
    spec = facts(TensorSpec("x", "int8", (1, 2), 0.5, -3))
    real = load(save(tmp_path / "a.npz", x=np.array([[0.25, 1.0]])), spec)
    assert real.inputs["x"].tolist() == [[[0.25, 1.0]]]
    native = load(save(tmp_path / "b.npz", x=np.array([[-3, -1]], np.int8)), spec)
    assert native.inputs["x"].tolist() == [[[0.0, 1.0]]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(4), r"expected shape \[5\], got \[4\]"),
        (np.eye(5), r"got \[5, 5\]"),
        (np.arange(5) + 0.5, "integers"),
        (np.arange(5) - 1, "0 or more, got -1 to 3"),
        (np.array(list("abcde")), "integers"),
    ],
)
def test_labels_are_class_indices(tmp_path: Path, labels: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(save(tmp_path / "d.npz", image=images(), labels=labels), facts())


def test_a_column_of_labels_and_whole_floats_pass(tmp_path: Path) -> None:
    data = load(save(tmp_path / "d.npz", image=images(), labels=np.arange(5.0)[:, None]), facts())
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4]


def test_labels_that_are_needed_and_missing_are_a_usage_error(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", image=images())
    assert load(path, facts()).labels is None
    with pytest.raises(UsageError, match="no labels in it"):
        load(path, facts(), need_labels=True)


def test_an_input_may_be_called_labels(tmp_path: Path) -> None:
    data = load(save(tmp_path / "d.npz", labels=np.zeros((2, 3))), facts(TensorSpec("labels", "float32", (1, 3))))
    assert data.labels is None
    assert data.inputs["labels"].shape == (2, 1, 3)


def test_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples in it"):
        load(save(tmp_path / "d.npz", image=images(0)), facts())


def test_missing_files_and_pipes_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such data"):
        load(tmp_path / "missing.npz", facts())
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        load(tmp_path / "pipe.npz", facts())


def test_files_cut_off_anywhere_are_input_errors(tmp_path: Path) -> None:
    raw = save(tmp_path / "d.npz", image=images(), labels=np.arange(5)).read_bytes()
    np.save(tmp_path / "d.npy", images())
    single = (tmp_path / "d.npy").read_bytes()
    for whole in (raw, single):
        for percent in range(0, 100, 4):
            cut = tmp_path / "cut.npz"
            cut.write_bytes(whole[: len(whole) * percent // 100])
            with pytest.raises(InputError, match=r"cut\.npz"):
                load(cut, facts())


def test_flipped_bytes_give_declared_errors_or_data(tmp_path: Path) -> None:
    raw = bytearray(save(tmp_path / "d.npz", image=images(), labels=np.arange(5)).read_bytes())
    rng = np.random.default_rng(3)
    path = tmp_path / "flipped.npz"
    for _ in range(300):
        changed = bytearray(raw)
        changed[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(InputError, UsageError):
            assert len(load(path, facts())) == 5


def declared(shape: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "member",
    [declared("(9999999999999,)"), declared("(-1,)"), declared("(4,)", b"1234"), declared("(1,)", b"12345"),
     declared("(1,)", b"1234", (9, 0)), b"", b"not an array"],
)  # fmt: skip
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("image.npy", member)
    with pytest.raises(InputError, match="array 'image' is damaged"):
        load(tmp_path / "d.npz", facts())


def test_sizes_and_numbers_of_arrays_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "d.npz", image=images(), labels=np.arange(5))
    monkeypatch.setattr(archive, "MAX_ARRAYS", 1)
    with pytest.raises(InputError, match="2 arrays are over the limit"):
        load(path, facts())
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    monkeypatch.setattr(archive, "MAX_ARRAYS", 2)
    with pytest.raises(InputError, match="bytes of arrays are over the limit of 100"):
        load(path, facts())


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    (tmp_path / "d.npz").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="no arrays in it"):
        load(tmp_path / "d.npz", facts())


def test_text_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="array 'image' holds text, numbers are wanted") as caught:
        load(save(tmp_path / "d.npz", image=np.array(["a", "b"])), facts())
    assert "turn the text into the numbers" in str(caught.value.hint)


TEXT = TensorSpec("words", "string", (1, 2))


@pytest.mark.parametrize("shape", [(2, 2), (2, 1, 2)])
def test_an_input_of_text_takes_text(tmp_path: Path, shape: tuple[int, ...]) -> None:
    words = np.array(["größer", "", "a b", "x" * 1024]).reshape(shape)
    made = load(save(tmp_path / "d.npz", words=words), facts(TEXT)).inputs["words"]
    assert (made.dtype.str, made.shape) == ("|S1024", (2, 1, 2))
    assert [text.decode() for text in made.reshape(-1).tolist()] == words.reshape(-1).tolist()
    again = load(save(tmp_path / "b.npz", words=np.char.encode(words, "utf-8")), facts(TEXT)).inputs["words"]
    assert np.array_equal(again, made)


def test_of_text_what_is_kept_is_counted_as_it_will_be_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "d.npz", words=np.full((40, 2), "a"))
    assert len(load(tmp_path / "d.npz", facts(TEXT), bound=Bound(bytes=5 * 2 * 1024 + 1))) == 5
    monkeypatch.setattr(values, "MAX_TEXTS", 40 * 2 * 1024 - 1)
    with pytest.raises(InputError, match="80 texts take 81,920 bytes, over the limit of 81,919"):
        load(tmp_path / "d.npz", facts(TEXT))


@pytest.mark.parametrize(
    ("array", "words", "hint"),
    [
        (np.zeros((2, 2)), "is of type float64, the input 'words' takes text", "dtype=str"),
        (np.array([["a", "b"]], object), "holds Python objects", "dtype='str'"),
        (np.array([["a", "ö" * 513]]), "a text of 1026 bytes is over the limit of 1024", "cut it"),
        (np.array([["a", "b\0c"]]), "a text holds a zero byte", "cut it there"),
        (np.array([["a"]]), "expected shape", None),
    ],
)  # fmt: skip
def test_what_is_no_text_that_a_device_takes_is_refused(
    tmp_path: Path, array: np.ndarray[Any, Any], words: str, hint: str | None
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(save(tmp_path / "d.npz", words=array), facts(TEXT))
    assert hint is None or hint in str(caught.value.hint)


def test_targets_are_real_values_one_row_a_sample(tmp_path: Path) -> None:
    data = load(save(tmp_path / "a.npz", image=images(), targets=np.arange(10).reshape(5, 2)), facts())
    assert data.labels is None
    assert data.targets is not None
    assert data.targets.dtype == np.float32
    assert data.targets.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    with pytest.raises(InputError, match=r"'targets': expected one row a sample, \[5, …\], got \[4\]"):
        load(save(tmp_path / "b.npz", image=images(), targets=np.zeros(4)), facts())
    with pytest.raises(InputError, match=r"'targets': 1 values are NaN or infinite .* the first at \[2\]"):
        load(save(tmp_path / "c.npz", image=images(), targets=[0, 1, np.nan, 3, 4]), facts())


def test_a_slice_is_a_mask_or_one_part_a_value(tmp_path: Path) -> None:
    path = save(
        tmp_path / "d.npz", image=images(), slices=np.array(["day", "day", "night", "night", "day"]),
        **{"slice:dark": np.array([0, 0, 1, 1, 0], bool), "slice:camera": np.array([[3], [3], [3], [7], [7]])},
    )  # fmt: skip
    assert {name: mask.tolist() for name, mask in load(path, facts()).slices.items()} == {
        "camera=3": [True, True, True, False, False], "camera=7": [False, False, False, True, True],
        "dark": [False, False, True, True, False],
        "day": [True, True, False, False, True], "night": [False, False, True, True, False],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("slice:dark", np.zeros(5, bool), "no sample is in the slice 'dark'"),
        ("slice:dark", np.zeros(4, bool), r"expected shape \[5\], got \[4\]"),
        ("slice:dark", np.zeros(5), "booleans, integers or text are wanted, got float64"),
        ("slices", np.zeros((5, 2), int), r"expected shape \[5\], got \[5, 2\]"),
    ],
)
def test_a_wrong_slice_is_refused(tmp_path: Path, name: str, column: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"array '{name}'.*{words}"):
        load(save(tmp_path / "d.npz", image=images(), **{name: column}), facts())


def test_identifiers_are_no_slices(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", image=images(65), **{"slice:id": np.arange(65)})
    with pytest.raises(InputError, match="65 different values are over the limit of 64 slices"):
        load(path, facts())


def test_one_name_for_two_slices_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", image=images(), slices=["a"] * 5, **{"slice:a": np.ones(5, bool)})
    with pytest.raises(InputError, match="names the slice 'a' a second time"):
        load(path, facts())


def test_groups_are_numbered_as_they_appear(tmp_path: Path) -> None:
    data = load(save(tmp_path / "d.npz", image=images(), groups=np.array(["z", "a", "z", "m", "a"])), facts())
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_array_whose_packed_bytes_are_damaged_is_named(tmp_path: Path, method: int) -> None:
    raw = io.BytesIO()
    np.save(raw, images(50))
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("image.npy", raw.getvalue())
    packed = bytearray(path.read_bytes())
    packed[300:400] = bytes(range(155, 255))
    path.write_bytes(packed)
    with pytest.raises(InputError, match="array 'image' is damaged") as refused:
        load(path, facts())
    assert "savez_compressed" in str(refused.value.hint)


def test_an_array_too_large_for_the_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "d.npz", image=images())

    def full(*_: Any, **_how: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "frombuffer", full)
    with pytest.raises(InputError, match=r"array 'image': \d+ bytes do not fit into the memory"):
        load(path, facts())


def test_an_array_of_another_shape_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "d.npz", image=np.zeros(1000, np.float32))

    def unpacked(*_: Any, **_how: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(np, "frombuffer", unpacked)
    with pytest.raises(InputError, match=r"array 'image': expected shape \[n, 4, 4, 1\] or .*, got \[1000\]"):
        load(path, facts())


def test_samples_are_held_once_while_they_are_read(tmp_path: Path) -> None:
    size = 500_000 * 4 * 4 * 4  # 32 MB
    path = save(tmp_path / "d.npz", image=np.ones((500_000, 4, 4, 1), np.float32))
    tracemalloc.start()
    try:
        data = archive.read(path, [IMAGE])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.inputs["image"].nbytes == size
    assert peak < 1.5 * size  # 3.3 × once: the bytes, a copy of them, another as float32
