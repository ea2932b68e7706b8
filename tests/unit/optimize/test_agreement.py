"""When answers are alike: by classes, by classes at each place, as a whole, number by number."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeship.optimize.agreement import agreeing, states
from edgeship.runtime.manifest import TensorSpec

Float = NDArray[np.float32]

TEXT = TensorSpec("text", "float32", (20, 30))
MASK = TensorSpec("mask", "float32", (1, 64, 64))
HEADS = TensorSpec("heads", "float32", (5, 400))


def shares(classes: NDArray[np.int64], other: float = 0.001) -> Float:
    """[n, 20, 30]: nearly all of each step for its class."""
    out = np.full((*classes.shape, 30), other, np.float32)
    np.put_along_axis(out, classes[..., None], 1 - 29 * other, axis=-1)
    return out


def masks(n: int, moved: int = 0) -> Float:
    """Soft squares somewhere in the picture, moved to the right by some pixels."""
    rng, out = np.random.default_rng(0), np.zeros((n, 1, 64, 64), np.float32)
    for index in range(n):
        y, x = rng.integers(2, 40, 2)
        out[index, 0, y : y + 16, x + moved : x + moved + 20] = 1
    return out


def test_a_text_is_alike_when_every_step_says_the_same() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 30, (8, 20))
    other = classes.copy()
    other[3, 7] = (other[3, 7] + 1) % 30
    assert agreeing([shares(classes)], [shares(classes, 0.02)], [TEXT]).all()
    assert agreeing([shares(classes)], [shares(other)], [TEXT]).tolist() == [i != 3 for i in range(8)]


def test_a_pixel_more_at_the_edge_of_what_was_found_is_the_same_mask() -> None:
    wanted = masks(12)
    blurred = wanted.copy()
    blurred[:, :, 1:] = 0.9 * wanted[:, :, 1:] + 0.1 * wanted[:, :, :-1]
    flipped = wanted.copy()
    flipped[:, 0, ::22, ::22] = 1 - flipped[:, 0, ::22, ::22]
    assert agreeing([wanted], [blurred], [MASK]).all()
    assert agreeing([wanted], [flipped], [MASK]).all()


def test_a_mask_elsewhere_or_gone_is_another() -> None:
    wanted = masks(12)
    assert not agreeing([wanted], [masks(12, moved=4)], [MASK]).any()
    assert not agreeing([wanted], [np.zeros_like(wanted)], [MASK]).any()
    assert not agreeing([wanted], [np.broadcast_to(wanted.mean(axis=0), wanted.shape).copy()], [MASK]).any()


def test_an_empty_mask_beside_full_ones_may_have_a_trace_of_noise() -> None:
    wanted = masks(12)
    wanted[4] = 0
    noisy = wanted + np.float32(0.01)
    assert agreeing([wanted], [noisy], [MASK]).all()


def test_a_quiet_row_of_a_large_answer_is_judged_in_its_own_range() -> None:
    """Boxes of 0 to 320 beside a row of scores of 0 to 1, 400 candidates: without the scores nothing is detected."""
    rng = np.random.default_rng(1)
    wanted = np.concatenate([rng.random((6, 4, 400)) * 320, rng.random((6, 1, 400))], axis=1).astype(np.float32)
    near, lost = wanted.copy(), wanted.copy()
    near[:, :4] += rng.normal(0, 2, (6, 4, 400))
    lost[:, 4] = 0.5
    assert agreeing([wanted], [near], [HEADS]).all()
    assert not agreeing([wanted], [lost], [HEADS]).any()


@pytest.mark.parametrize("spec", [TEXT, MASK])
def test_an_answer_with_a_number_that_is_none_is_like_no_other(spec: TensorSpec) -> None:
    wanted = masks(4) if spec is MASK else shares(np.zeros((4, 20), np.int64))
    broken = wanted.copy()
    broken[1].reshape(-1)[5] = np.nan
    assert agreeing([wanted], [broken], [spec]).tolist() == [True, False, True, True]


def test_a_model_that_always_answers_the_same_is_compared_with_its_answer() -> None:
    wanted = np.broadcast_to(masks(1), (3, 1, 64, 64)).copy()
    assert agreeing([wanted], [wanted * np.float32(0.95)], [MASK]).all()
    assert not agreeing([wanted], [wanted * np.float32(0.5)], [MASK]).any()


def test_one_sample_alone_can_be_judged() -> None:
    wanted = masks(1)
    assert agreeing([wanted], [wanted], [MASK]).all()
    assert not agreeing([wanted], [masks(1, moved=6)], [MASK]).any()


def test_a_state_that_goes_in_again_is_no_vector_of_classes() -> None:
    """Which of 64 numbers of a hidden state is the largest says nothing."""
    rng = np.random.default_rng(2)
    outputs = [TensorSpec("scores", "float32", (1, 5)), TensorSpec("h_next", "float32", (1, 1, 64))]
    inputs = {"frame": np.zeros((12, 1, 9), np.float32), "h": np.zeros((12, 1, 1, 64), np.float32)}
    assert states(outputs, inputs) == {1}
    assert not states(outputs[1:], inputs)  # all that it answers: no state beside an answer
    scores, held = rng.normal(size=(12, 1, 5)), np.tanh(rng.normal(size=(12, 1, 1, 64)))
    near = np.clip(held + rng.normal(0, 0.05, held.shape), -1, 1)
    wanted, got = (
        [scores.astype(np.float32), held.astype(np.float32)],
        [scores.astype(np.float32), near.astype(np.float32)],
    )
    assert agreeing(wanted, got, outputs, {1}).all()
    assert not agreeing(wanted, got, outputs).all()
    assert not agreeing(wanted, [wanted[0], wanted[1][::-1].copy()], outputs, {1}).any()


def test_whole_numbers_are_the_same_or_not() -> None:
    """The letters of a text that the model itself has chosen."""
    letters = TensorSpec("letters", "int64", (1, 6))
    wanted = np.arange(24, dtype=np.float32).reshape(4, 1, 6)
    got = wanted.copy()
    got[2, 0, 0] += 1  # not the largest number of its row
    assert agreeing([wanted], [got], [letters]).tolist() == [True, True, False, True]


def test_a_share_is_not_judged_finer_than_int8_can_tell() -> None:
    """A wake word that was never said: from one millionth to a thousandth, and all of it is no."""
    word = TensorSpec("word", "float32", (1, 1))
    wanted = np.array([1e-6, 2e-4, 1e-3, 1e-5], np.float32).reshape(4, 1, 1)
    assert agreeing([wanted], [np.zeros_like(wanted)], [word]).all()
    assert not agreeing([wanted], [np.full_like(wanted, 0.02)], [word]).any()
    beyond = wanted * 4 - np.float32(0.001)  # numbers below 0 are no shares
    assert not agreeing([beyond], [np.zeros_like(wanted)], [word]).all()
