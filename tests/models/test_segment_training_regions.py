"""Regions drawn into maps of channels, against drawing each pixel by itself; windows and scaling of the maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from curate.checks.mistakes.masks.shapes import thickness
from curate.errors import InputError
from curate.geometry import decode_rle, encode_rle
from curate.models.predictors.base import VOID
from curate.models.training.base import Example
from curate.models.training.segment.regions import draw, nearest, region_extents, require_fitting
from curate.models.training.segment.views import fit_channels, random_window
from curate.runner import place

Mask = npt.NDArray[np.bool_]


def example(
    size: tuple[int, int] | None, regions: list[Any], labels: list[int], crowd: list[bool] | None = None
) -> Example:
    return Example(
        "a",
        "a.png",
        size,
        labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd or [False] * len(labels), dtype=bool),
        regions=regions,
    )


def rle(mask: npt.ArrayLike) -> dict[str, Any]:
    return {"counts": encode_rle(mask), "size": list(np.shape(mask))}


@st.composite
def scenes(drawn: st.DrawFn) -> tuple[Example, list[Mask]]:
    """A few masks and polygons on a small image, and what each covers."""
    height, width = drawn(st.integers(1, 12)), drawn(st.integers(1, 12))
    regions: list[Any] = []
    covered: list[Mask] = []
    for _ in range(drawn(st.integers(0, 5))):
        if drawn(st.booleans()):
            bits = drawn(st.integers(0, 2 ** (height * width) - 1))
            mask = np.array([bits >> k & 1 for k in range(height * width)], dtype=bool).reshape(height, width)
            regions.append(rle(mask))
        else:
            points = drawn(st.integers(3, 5))
            x = [drawn(st.floats(0, width, width=16)) for _ in range(points)]
            y = [drawn(st.floats(0, height, width=16)) for _ in range(points)]
            polygon = np.column_stack([x, y]).ravel().tolist()
            drawn_by_coco = coco_mask.frPyObjects([polygon], height, width)[0]
            mask = decode_rle(drawn_by_coco["counts"].decode(), (height, width)) > 0
            regions.append([polygon])
        covered.append(mask)
    labels = [drawn(st.integers(0, 3)) for _ in regions]
    crowd = [drawn(st.booleans()) for _ in regions]
    return example((height, width), regions, labels, crowd), covered


@given(scene=scenes(), background=st.booleans())
@settings(deadline=None, max_examples=200)
def test_each_pixel_is_of_the_smallest_region_over_it(scene: tuple[Example, list[Mask]], background: bool) -> None:
    given_example, covered = scene
    assert given_example.labels is not None
    assert given_example.crowd is not None
    found = draw(given_example, background=background)
    assert found.dtype == np.int16
    for place_, channel in np.ndenumerate(found):
        over = [k for k, mask in enumerate(covered) if mask[place_]]
        things = [k for k in over if not given_example.crowd[k]]
        if things:
            smallest = min(things, key=lambda k: (covered[k].sum(), -k))  # of equal ones, the last
            assert channel == given_example.labels[smallest] + background
        elif over:
            assert channel == VOID
        else:
            assert channel == (0 if background else VOID)
    areas = [
        (label, mask.sum())
        for label, mask, is_crowd in zip(given_example.labels, covered, given_example.crowd, strict=True)
        if not is_crowd
    ]
    assert [(each.label, each.area) for each in region_extents(given_example)] == areas


@settings(max_examples=50)
@given(bits=st.integers(1, 2**40 - 1), height=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 40]))
def test_thickness_is_twice_the_area_by_the_length_of_the_outline(bits: int, height: int) -> None:
    mask = np.array([bits >> k & 1 for k in range(40)], dtype=np.uint8).reshape(height, -1)
    (found,) = region_extents(example(mask.shape, [rle(mask)], [3]))
    assert (found.label, found.area) == (3, mask.sum())
    assert found.thickness == pytest.approx(thickness(mask))


def test_a_long_bar_is_as_thick_as_it_is_wide() -> None:
    mask = np.zeros((300, 20), dtype=np.uint8)
    mask[:, 7:9] = 1
    (found,) = region_extents(example(mask.shape, [rle(mask)], [0]))
    assert found.thickness == pytest.approx(2, rel=0.01)


def test_regions_that_enclose_nothing_are_left_out() -> None:
    nothing = [
        [[1.0, 1.0, 3.0, 3.0]],  # two points
        [],
        [[float("nan"), 0.0, 4.0, 0.0, 4.0, 4.0]],
        [[20.0, 20.0, 30.0, 20.0, 30.0, 30.0]],  # beyond the image
        rle(np.zeros((6, 8))),
    ]
    found = draw(example((6, 8), nothing, [0, 1, 2, 3, 4]), background=True)
    assert (found == 0).all()
    with_one = draw(
        example((6, 8), [*nothing, [[0.0, 0.0, 8.0, 0.0, 8.0, 6.0, 0.0, 6.0]]], [0] * 5 + [7]), background=True
    )
    assert (with_one == 8).all()


def test_an_image_without_regions_is_background_or_void() -> None:
    assert (draw(Example("a", "a.png", (3, 4)), background=True) == 0).all()
    assert (draw(Example("a", "a.png", (3, 4)), background=False) == VOID).all()


@pytest.mark.parametrize("factor", [2, 3])
def test_masks_of_a_smaller_or_larger_copy_are_scaled(factor: int) -> None:
    small = np.random.default_rng(0).random((5, 7)) < 0.5
    large = np.kron(small, np.ones((factor, factor))) > 0
    up = draw(example(large.shape, [rle(small)], [0]), background=True)
    np.testing.assert_array_equal(up, large)
    down = draw(example(small.shape, [rle(large)], [0]), background=True)
    np.testing.assert_array_equal(down, small)


@given(height=st.integers(1, 500), width=st.integers(1, 500), factor=st.floats(0.05, 1))
def test_a_copy_whose_sides_were_rounded_fits(height: int, width: int, factor: float) -> None:
    small = max(1, round(height * factor)), max(1, round(width * factor))
    if min(height, width) * factor < 0.5:
        return
    for image, mask in (((height, width), small), (small, (height, width))):
        require_fitting(example(image, [{"counts": "", "size": list(mask)}], [0]))


@pytest.mark.parametrize("size", [(8, 6), (6, 12), (3, 8), (0, 0), (60, 40)])
def test_masks_of_another_shape_than_the_image_are_refused(size: tuple[int, int]) -> None:
    wrong = example((6, 8), [{"counts": "a", "size": list(size)}], [0])
    with pytest.raises(InputError, match=rf"a\.png: a mask is {size[1]} x {size[0]} pixels, the image 8 x 6"):
        draw(wrong, background=True)
    with pytest.raises(InputError, match="import the masks again"):
        require_fitting(wrong)
    require_fitting(example(None, [{"counts": "a", "size": list(size)}], [0]))  # not known yet


def test_the_size_must_be_known_to_draw() -> None:
    with pytest.raises(InputError, match="size of the image is not known"):
        draw(example(None, [], []), background=True)


@given(seed=st.integers(0, 999), tall=st.integers(1, 20), wide=st.integers(1, 20))
def test_scaling_takes_the_nearest_centre(seed: int, tall: int, wide: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 99, rng.integers(1, 15, 2))
    found = nearest(values, (tall, wide))
    assert found.shape == (tall, wide)
    for (row, column), value in np.ndenumerate(found):
        y, x = (row + 0.5) * values.shape[0] / tall, (column + 0.5) * values.shape[1] / wide
        assert value == values[int(y), int(x)]


def test_a_map_lies_in_the_input_as_the_pixels_do() -> None:
    channels = np.arange(12, dtype=np.int16).reshape(3, 4)
    fitted = fit_channels(channels, place((3, 4), (8, 8), "letterbox"))
    np.testing.assert_array_equal(fitted[:6], np.kron(channels, np.ones((2, 2))))
    assert (fitted[6:] == VOID).all()
    np.testing.assert_array_equal(fit_channels(channels, place((3, 4), (6, 4), "squash")), channels.repeat(2, axis=0))


@given(seed=st.integers(0, 9999))
def test_windows_are_inside_and_show_a_channel_that_is_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2).tolist()
    channels = rng.integers(-1, 3, (height, width)).astype(np.int16)
    window = random_window(channels, np.array([0.0, 0.0, 5.0, 1.0]), rng) if (channels == 2).any() else None
    if window is None:
        return
    part = window.cut(channels)
    assert part.shape == (window.height, window.width)
    assert window.top + window.height <= height
    assert window.left + window.width <= width
    assert window.height >= height // 2
    assert (part == 2).any()  # the only one that is wanted and there


def test_windows_show_rare_channels_as_often_as_they_are_wanted() -> None:
    channels = np.zeros((100, 100), np.int16)
    channels[3, 96] = 1
    rng = np.random.default_rng(0)
    windows = [random_window(channels, np.array([1.0, 3.0]), rng) for _ in range(400)]
    # Three in four are made for it; some of the others show it by chance.
    shown = np.mean([(window.cut(channels) == 1).any() for window in windows])
    assert 0.75 < shown < 0.95
    assert len({(window.top, window.left) for window in windows}) > 100


def test_what_a_window_is_made_for_is_anywhere_in_it() -> None:
    channels = np.full((80, 80), VOID, np.int16)
    channels[40, 40] = 0
    rng = np.random.default_rng(0)
    windows = [random_window(channels, np.ones(1), rng) for _ in range(200)]
    places = np.array([[(40 - each.top) / each.height, (40 - each.left) / each.width] for each in windows])
    assert (places.min(axis=0) < 0.15).all()
    assert (places.max(axis=0) > 0.85).all()


def test_a_window_of_a_void_image_is_anywhere() -> None:
    window = random_window(np.full((5, 9), VOID, np.int16), np.ones(2), np.random.default_rng(0))
    assert window.cut(np.zeros((5, 9))).size
