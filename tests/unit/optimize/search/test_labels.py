"""Names in a plot keep clear of each other, of dots and of the edges."""

from __future__ import annotations

from itertools import combinations

import pytest

from edgeship.optimize.search.labels import Box, around, place

FRAME = Box(70, 2, 1038, 404)


def placed(points: list[tuple[float, float]], frame: Box = FRAME) -> tuple[list[Box], list[Box]]:
    dots = [around(x, y, 8) for x, y in points]
    taken = list(dots)
    for x, y in points:
        taken.append(place("pruned 1.5 × onnx int8-weights", x, y, 8, taken, frame))
    return dots, taken[len(dots) :]


@pytest.mark.parametrize(
    "points",
    [
        [(500, 200)], [(500, 200)] * 6, [(500 + 3 * i, 200 - 2 * i) for i in range(8)],
        [(80, 395), (84, 395), (90, 390)], [(1020, 10), (1025, 14), (1030, 12), (1032, 12)],
    ],
)  # fmt: skip
def test_none_lies_on_another_one_on_a_dot_or_outside(points: list[tuple[float, float]]) -> None:
    dots, names = placed(points)
    assert len(names) == len(points)
    for one, other in combinations(names, 2):
        assert one.overlap(other) == 0
    for name in names:
        assert name.inside(FRAME)
        assert all(name.overlap(dot) == 0 for dot in dots)


def test_alone_it_stands_right_above_its_dot() -> None:
    _, [name] = placed([(500, 200)])
    assert (name.left + name.right) / 2 == pytest.approx(500)
    assert name.bottom == 200 - 8 - 3


def test_without_any_room_it_is_still_in_the_picture() -> None:
    frame = Box(0, 0, 300, 40)
    _, names = placed([(100, 20)] * 9, frame)
    assert all(name.inside(frame) for name in names)
