"""Depths read off maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.checks.depth.statistics import COLUMNS, object_depths
from curate.checks.depth.thirds import NONE, TAGS, class_thirds, image_tags
from curate.geometry import encode_rle

SIZE = 240, 320
"""(height, width) of the image; maps are half as large."""


def scene() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """A thing 5 m away, at x 100 to 180 and y 60 to 180, before a wall at 20 m; nothing is known of the lowest 40 rows."""
    depth = np.full((120, 160), 20, np.float32)
    depth[30:90, 50:90] = 5
    depth[100:] = np.nan
    return depth


def test_a_thing_before_a_wall() -> None:
    boxes = np.array([[100, 60, 80, 120], [96, 52, 88, 136], [200, 20, 60, 60]], float)
    found = object_depths(scene(), boxes, SIZE)
    np.testing.assert_array_equal(found.depth, [5, 5, 20])
    np.testing.assert_array_equal(found.median, [5, 5, 20])
    np.testing.assert_array_equal(found.p10, [5, 5, 20])
    np.testing.assert_array_equal(found.p90, [5, 20, 20])
    np.testing.assert_array_equal(found.spread, [0, 15, 0])
    np.testing.assert_array_equal(found.border, [15, 15, 0])  # 8% inside of the second box is the thing
    np.testing.assert_array_equal(found.known, [1, 1, 1])
    np.testing.assert_allclose(found.pixels, [2400, 2992, 900])


def test_masks_tell_thing_from_background() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[20:60, 200:260] = 1
    frame = np.ones(SIZE, np.uint8)
    frame[70:170, 110:170] = 0  # around the thing: what is in the box but not in the middle
    box = np.array([[100, 0, 160, 180], [80, 40, 120, 160]], float)
    plain = object_depths(scene(), box, SIZE)
    masked = object_depths(scene(), box, SIZE, [(encode_rle(mask), SIZE), (encode_rle(frame[::2, ::2]), (120, 160))])
    assert masked.depth[0] == masked.median[0] == masked.p10[0] == 20
    assert (plain.depth[1], masked.depth[1]) == (5, 20)
    np.testing.assert_array_equal(masked.known, [1, 1])
    nothing = object_depths(scene(), box[:1], SIZE, [(encode_rle(np.zeros(SIZE)), SIZE)])
    assert np.isnan(nothing.depth[0])
    assert nothing.known[0] == 0


def test_what_is_not_known_and_what_is_outside() -> None:
    boxes = np.array(
        [
            [0, 160, 80, 80],  # half of it is not known
            [0, 210, 80, 20],  # nothing is
            [-40, 20, 80, 60],  # half outside
            [400, 20, 80, 60],
            [10, 10, 0, 5],
            [np.nan, 10, 20, 20],
            [10, 10, np.inf, 20],
            [-1e300, -1e300, 1e300, 1e300],
        ]
    )
    found = object_depths(scene(), boxes, SIZE)
    np.testing.assert_allclose(found.known, [0.5, 0, 0.5, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(found.median), [0, 1, 0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(found.median[[0, 2]], [20, 20])
    np.testing.assert_array_equal(found.pixels[4:], 0)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_constant_and_empty_maps(value: float) -> None:
    found = object_depths(np.full((5, 7), value, np.float32), np.array([[1.0, 1, 3, 3]]), (50, 70))
    np.testing.assert_array_equal(found.depth, [value])
    assert found.spread[0] == 0 or np.isnan(value)
    assert object_depths(scene(), np.zeros((0, 4)), SIZE).depth.shape == (0,)


@given(st.integers(0, 2**32 - 1))
def test_no_object_depends_on_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 50, (30, 40)).astype(np.float32)
    depth[rng.random((30, 40)) < 0.2] = np.nan
    boxes = np.column_stack([rng.uniform(-20, 90, (6, 2)), rng.uniform(0, 60, (6, 2))])
    together = object_depths(depth, boxes, (60, 80))
    for row in range(6):
        alone = object_depths(depth, boxes[row : row + 1], (60, 80))
        for name in COLUMNS:
            assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[row], equal_nan=True)
    known = together.known > 0
    assert (together.p10[known] <= together.median[known]).all()
    assert (together.median[known] <= together.p90[known]).all()


def test_thirds_are_those_of_each_class() -> None:
    depth = np.concatenate([np.arange(1.0, 10), 100 * np.arange(1.0, 10), np.full(9, 7.0), [3.0], [np.nan, 5.0]])
    label = np.concatenate([np.repeat([0, 1, 2], 9), [3], [0, -1]])
    third, bounds = class_thirds(depth, label)
    expected = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(third, [*expected, *expected, *[1] * 9, NONE, NONE, NONE])
    assert set(bounds) == {0, 1, 2}
    assert bounds[0] == pytest.approx((3 + 2 / 3, 6 + 1 / 3))


def test_an_image_is_where_most_of_its_objects_are() -> None:
    third = np.array([0, 0, 2, 2, 1, 2, 2, NONE, 0, 2])
    image = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 4])
    near, middle, far = TAGS
    assert image_tags(third, image, 6).to_pylist() == [near, middle, far, None, middle, None]
