"""Images become what the model takes: upright, of its size, colours, range and layout; what cannot be is named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeship import dataset
from edgeship.dataset.images import Frame, ImageReader, frame_of
from edgeship.errors import InputError, UsageError
from edgeship.preparation import Preparation, from_flags
from edgeship.runtime.manifest import TensorSpec
from tests.simulators.media import image

COLOR = TensorSpec("image", "float32", (1, 4, 4, 3))
GRAY = TensorSpec("image", "float32", (1, 4, 4, 1))
Pixels = np.ndarray[Any, np.dtype[Any]]


def noise(height: int = 4, width: int = 4, channels: int = 3, seed: int = 0) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read(path: Path, spec: TensorSpec = COLOR, *pairs: str) -> Pixels:
    """One image, as [*sample]."""
    made: Pixels = ImageReader(spec, from_flags(pairs or ["normalize=0..255"])).read(path)
    assert made.shape[0] == 1
    only: Pixels = made[0]
    return only


@pytest.mark.parametrize(
    ("shape", "frame"),
    [
        ((1, 4, 6, 3), Frame(4, 6, 3, "channels-last")), ((1, 3, 4, 6), Frame(4, 6, 3, "channels-first")),
        ((1, 4, 6, 1), Frame(4, 6, 1, "channels-last")), ((1, 1, 4, 6), Frame(4, 6, 1, "channels-first")),
        ((1, 4, 6), Frame(4, 6, 1, "none")), ((4, 6), Frame(4, 6, 1, "none")),
        ((4, 6, 3), Frame(4, 6, 3, "channels-last")),
    ],
)  # fmt: skip
def test_size_and_layout_come_from_the_shape(shape: tuple[int, ...], frame: Frame) -> None:
    assert frame_of(TensorSpec("x", "float32", shape), None) == frame


def test_a_shape_that_could_be_both_is_asked_for() -> None:
    both = TensorSpec("x", "float32", (1, 3, 8, 3))
    with pytest.raises(UsageError, match="channels first or last"):
        frame_of(both, None)
    assert frame_of(both, "channels-first") == Frame(8, 3, 3, "channels-first")
    assert frame_of(both, "channels-last") == Frame(3, 8, 3, "channels-last")


@pytest.mark.parametrize("shape", [(1, 784), (1, 4, 4, 2), (1, 2, 4, 4, 3), (), (1,)])
def test_a_shape_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="takes no images"):
        frame_of(TensorSpec("x", "float32", shape), None)
    with pytest.raises(UsageError, match="takes no images with channels-first"):
        frame_of(COLOR, "channels-first")


@pytest.mark.parametrize(
    ("normalize", "low", "high"), [("0..255", 0, 255), ("0..1", 0, 1), ("-1..1", -1, 1)]
)  # fmt: skip
def test_the_range_is_the_stated_one(tmp_path: Path, normalize: str, low: float, high: float) -> None:
    pixels = noise()
    pixels[0, 0], pixels[0, 1] = 0, 255
    made = read(image(tmp_path / "a.png", pixels), COLOR, f"normalize={normalize}")
    assert made.dtype == np.float32
    assert (made.min(), made.max()) == (low, high)
    assert np.allclose(made, pixels / 255 * (high - low) + low, atol=1e-6)


def test_imagenet_is_the_mean_and_deviation_of_each_colour(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", noise())
    wanted = (noise() / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(read(path, COLOR, "normalize=imagenet"), wanted, atol=1e-6)
    assert np.allclose(read(path, COLOR, "normalize=imagenet", "color=bgr"), wanted[:, :, ::-1], atol=1e-6)


def test_mean_and_std_of_ones_own_follow_the_scale(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", noise())
    made = read(path, COLOR, "normalize=0..1", "mean=0.5,0.25,0.1", "std=0.5")
    assert np.allclose(made, (noise() / 255 - [0.5, 0.25, 0.1]) / 0.5, atol=1e-6)


def test_channels_go_first_where_the_model_has_them_first(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", noise())
    assert np.array_equal(read(path, TensorSpec("x", "float32", (1, 3, 4, 4))), noise().transpose(2, 0, 1))
    gray = image(tmp_path / "g.png", noise(channels=1))
    assert np.array_equal(read(gray, TensorSpec("x", "float32", (1, 1, 4, 4)))[0], noise(channels=1))
    assert np.array_equal(read(gray, TensorSpec("x", "float32", (1, 4, 4))), noise(channels=1))


def test_gray_and_colour_become_what_the_model_counts(tmp_path: Path) -> None:
    luma = noise().astype(float) @ [0.299, 0.587, 0.114]
    assert np.allclose(read(image(tmp_path / "a.png", noise()), GRAY)[:, :, 0], luma, atol=1)
    gray = noise(channels=1)
    assert np.array_equal(read(image(tmp_path / "g.png", gray), COLOR), np.repeat(gray[:, :, None], 3, axis=2))


def test_alpha_is_dropped_and_palettes_are_looked_up(tmp_path: Path) -> None:
    rgba = noise(channels=4)
    assert np.array_equal(read(image(tmp_path / "a.png", rgba)), rgba[:, :, :3])
    flat = np.full((4, 4, 3), (10, 200, 30), np.uint8)
    Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png", transparency=b"\x80")
    assert np.array_equal(read(tmp_path / "p.png"), flat)


def test_sixteen_bits_are_scaled_and_not_cut_at_255(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535, 1000]] * 4, np.uint16)
    assert read(image(tmp_path / "d.png", deep), GRAY)[0, :, 0].tolist() == [0, 1, 255, 4]


def test_an_image_is_turned_upright_as_the_camera_recorded(tmp_path: Path) -> None:
    flat = Image.fromarray(noise(4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is at the right
    flat.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png"), np.rot90(noise(), -1))


def halves(width: int, height: int) -> Pixels:
    """The middle square is white, what is beside it black."""
    out = np.zeros((height, width), np.uint8)
    out[:, (width - height) // 2 : (width + height) // 2] = 255
    return out


def test_crop_keeps_the_middle(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", halves(32, 16))
    assert read(path, GRAY, "normalize=0..1", "resample=box").min() == 1
    tall = image(tmp_path / "b.png", halves(32, 16).T.copy())
    assert read(tall, GRAY, "normalize=0..1", "resample=box").min() == 1


def test_a_share_of_the_middle_is_cut_out_even_at_the_models_size(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[1:3, 1:3] = 255
    path = image(tmp_path / "a.png", pixels)
    assert read(path, GRAY, "normalize=0..1", "crop=0.5", "resample=box").min() == 1
    assert read(path, GRAY, "normalize=0..1", "crop=0.5", "resize=squash").min() == 0


def test_squash_keeps_everything_and_pad_keeps_the_shape(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", halves(32, 16))
    assert read(path, GRAY, "normalize=0..1", "resize=squash", "resample=box")[0, :, 0].tolist() == [0, 1, 1, 0]
    padded = read(image(tmp_path / "b.png", np.full((16, 32), 255, np.uint8)), GRAY, "normalize=0..1", "resize=pad")
    assert padded[:, 0, 0].tolist() == [0, 1, 1, 0]


def test_another_size_is_refused_where_resizing_is(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", halves(32, 16))
    with pytest.raises(InputError, match="32 × 16 pixels, the model takes 4 × 4"):
        read(path, GRAY, "normalize=0..1", "resize=none")


def test_integer_inputs_take_pixels_as_they_are(tmp_path: Path) -> None:
    spec = TensorSpec("x", "uint8", (1, 4, 4, 3))
    path = image(tmp_path / "a.png", noise())
    made = ImageReader(spec, Preparation()).read(path)
    assert made.dtype == np.uint8
    assert np.array_equal(made[0], noise())
    with pytest.raises(UsageError, match="takes uint8: pixels as they are"):
        ImageReader(spec, Preparation(normalize="0..1"))


def test_the_scale_is_never_guessed() -> None:
    with pytest.raises(UsageError, match="how were pixels scaled in training") as caught:
        ImageReader(COLOR, Preparation())
    assert "0..1, -1..1, 0..255, imagenet" in str(caught.value.hint)
    quantized = TensorSpec("x", "int8", (1, 4, 4, 3), 0.5, 3)
    with pytest.raises(UsageError, match="how were pixels scaled"):
        ImageReader(quantized, Preparation())


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["normalize=peak"], "is for recordings"),
        (["normalize=0..1", "mean=1,2"], "mean has 2 numbers, the input has 3 channels"),
        (["normalize=0..1", "std=0"], "std must be above 0"),
        (["normalize=imagenet", "mean=0.5"], "has its own mean and std"),
    ],
)
def test_a_preparation_that_does_not_fit_is_refused(pairs: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ImageReader(COLOR, from_flags(pairs))
    with pytest.raises(UsageError, match="three colours"):
        ImageReader(GRAY, Preparation(normalize="imagenet"))


# ── a folder, through the child ──────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_classes_becomes_labelled_samples(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "cat" / f"{number}.png", noise(seed=number))
        image(tmp_path / "ape" / f"{number}.jpg", noise(8, 6, seed=number), quality=95)
    data = dataset.read(tmp_path, [COLOR], preparation=Preparation(normalize="0..1"))
    assert data.inputs["image"].shape == (6, 1, 4, 4, 3)
    assert data.inputs["image"].dtype == np.float32
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.classes == ("ape", "cat")
    assert np.allclose(data.inputs["image"][4, 0], noise(seed=1) / 255, atol=1e-6)
    assert data.groups is None
    again = dataset.read(tmp_path, [COLOR], preparation=Preparation(normalize="0..1"))
    assert again.sha256 == data.sha256
    assert data.preparation is not None
    assert {key: data.preparation[key] for key in ("kind", "size", "normalize", "resize", "layout", "color")} == {
        "kind": "images", "size": [4, 4], "normalize": "0..1", "resize": "crop", "layout": "channels-last",
        "color": "rgb",
    }  # fmt: skip


def test_integers_come_through_the_child_as_they_are(tmp_path: Path) -> None:
    image(tmp_path / "a.png", noise())
    data = dataset.read(tmp_path, [TensorSpec("x", "uint8", (1, 4, 4, 3))])
    assert data.labels is None
    assert data.inputs["x"].dtype == np.uint8
    assert np.array_equal(data.inputs["x"][0, 0], noise())
    native = dataset.read(
        tmp_path, [TensorSpec("x", "uint8", (1, 4, 4, 3), 1 / 255, 0)], preparation=Preparation(normalize="0..1")
    )
    assert np.allclose(native.inputs["x"][0, 0], noise() / 255, atol=1e-6), "real values, not quantized"


def bomb(path: Path, side: int = 40_000) -> None:
    """A PNG of a few hundred bytes that declares 1.6 billion pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def test_files_that_cannot_be_used_are_named_with_their_reasons(tmp_path: Path) -> None:
    good = image(tmp_path / "a" / "good.png", noise(64, 64))
    (tmp_path / "a" / "cut.png").write_bytes(good.read_bytes()[:5000])
    cut = image(tmp_path / "a" / "cut.jpg", noise(64, 64))
    cut.write_bytes(cut.read_bytes()[:-900])
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.png").write_text("hello")
    bomb(tmp_path / "a" / "bomb.png")
    bomb(tmp_path / "a" / "large.png", 11_000)  # 121 million: over the limit, below twice of it
    with pytest.raises(InputError) as caught:
        dataset.read(tmp_path, [COLOR], preparation=Preparation(normalize="0..1"))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}: 6 of 7 files cannot be used\n")
    assert "a/bomb.png: far more pixels than a sample can need" in text
    assert "a/large.png: far more pixels than a sample can need" in text
    assert "a/empty.png: not an image" in text
    assert "truncated" in text.partition("a/cut.jpg")[2].partition("\n")[0]
    assert "and 1 more" in text
    assert "good.png" not in text


def test_a_svg_or_any_other_format_by_a_false_name_is_no_image(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "real.gif")
    (tmp_path / "real.gif").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: not an image of a kind that is read"):
        dataset.read(tmp_path, [COLOR], preparation=Preparation(normalize="0..1"))


def test_bytes_flipped_in_images_end_in_an_error_or_in_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(60):
        path = image(tmp_path / f"{number}.{'png' if number % 2 else 'jpg'}", noise(16, 16, seed=number))
        raw = bytearray(path.read_bytes())
        for _ in range(3):
            raw[rng.integers(8, len(raw))] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
    with pytest.raises(InputError, match="of 60 files cannot be used"):
        dataset.read(tmp_path, [COLOR], preparation=Preparation(normalize="0..1"))


def test_a_model_with_two_inputs_takes_no_files(tmp_path: Path) -> None:
    image(tmp_path / "a.png", noise())
    with pytest.raises(UsageError, match="files are samples of one input, the model has 2: image, other"):
        dataset.read(tmp_path, [COLOR, TensorSpec("other", "float32", (1, 2))])


def test_the_error_of_the_preparation_names_the_folder(tmp_path: Path) -> None:
    image(tmp_path / "a.png", noise())
    with pytest.raises(UsageError, match=f"^{tmp_path}: how were pixels scaled"):
        dataset.read(tmp_path, [COLOR])
