"""Geometry: EXIF orientation against Pillow, run lengths against pycocotools, boxes and areas by hand."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from curate.geometry import (
    boxes_around,
    clip_polygon,
    decode_rle,
    encode_rle,
    orient_boxes,
    orient_pixels,
    orient_points,
    orient_rle,
    polygon_area,
    polygons_to_rle,
    rle_areas,
    rle_boxes,
    rle_from_counts,
    rotated_box_corners,
    valid_rles,
)

ORIENTATIONS = range(1, 9)
mask_bits = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda size: st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]).map(
        lambda bits: np.array(bits, dtype=np.uint8).reshape(size)
    )
)


def shown(stored: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """The image as Pillow shows it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = BytesIO()
    Image.fromarray(stored).save(buffer, "png", exif=exif)
    with Image.open(buffer) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_pillows(orientation: int) -> None:
    stored = np.zeros((5, 8), np.uint8)
    stored[1:3, 2:7] = 1
    expected = shown(stored, orientation)
    counts, size = orient_rle(encode_rle(stored), stored.shape, orientation)
    assert np.array_equal(decode_rle(counts, size), expected)
    y, x = np.nonzero(expected)
    box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
    assert orient_boxes([[2, 1, 5, 2]], orientation, 8, 5).tolist() == [box]
    corners = orient_points([[2, 1], [7, 3]], orientation, 8, 5)
    assert boxes_around(corners, [0]).tolist() == [box]


def test_orientation_per_row() -> None:
    points = np.tile([[2.0, 1.0]], (8, 1))
    together = orient_points(points, np.arange(1, 9), np.full(8, 8), np.full(8, 5))
    single = np.concatenate([orient_points([[2, 1]], orientation, 8, 5) for orientation in ORIENTATIONS])
    assert np.array_equal(together, single)
    negative = orient_boxes([[7, 3, -5, -2]], 6, 8, 5)
    assert negative.tolist() == [[4, 7, -2, -5]]
    assert orient_points(np.zeros((0, 2)), 6, 8, 5).shape == (0, 2)


@settings(deadline=None)
@given(mask_bits)
def test_run_lengths_are_pycocotools(mask: npt.NDArray[np.uint8]) -> None:
    encoded = coco_mask.encode(np.asfortranarray(mask))
    counts = encode_rle(mask)
    assert counts == encoded["counts"].decode()
    assert valid_rles([counts], [mask.shape]).tolist() == [True]
    assert valid_rles([counts], [(mask.shape[0] + 1, mask.shape[1])]).tolist() == [False]
    assert np.array_equal(decode_rle(counts, mask.shape), mask)
    assert rle_areas([counts], [mask.shape]).tolist() == [mask.sum()]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=300), max_size=12), max_size=4))
def test_only_texts_that_fill_their_mask_are_valid(texts: list[str]) -> None:
    valid = valid_rles(texts, np.full((len(texts), 2), 6))
    for text, is_valid in zip(texts, valid.tolist(), strict=True):
        if is_valid:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                drawn = coco_mask.decode({"size": [6, 6], "counts": text.encode()})
            assert np.array_equal(drawn, decode_rle(text, (6, 6)))


def test_invalid_run_lengths_among_valid_ones() -> None:
    good = rle_from_counts([3, 13], [4, 4])
    assert valid_rles([good, "", "~~", good, good[:-1], "é"], np.full((6, 2), 4)).tolist() == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert valid_rles(["€€€", "5" + 13 * "P" + "@"], [[5, 9], [1, 5]]).tolist() == [False, False]
    assert valid_rles([good], [[0, 0]]).tolist() == [False]
    assert valid_rles([], np.zeros((0, 2))).tolist() == []


def test_boxes_and_areas() -> None:
    points = [[1, 2], [5, 2], [5, 9], [0, 0], [3, 3]]
    assert boxes_around(points, [0, 3]).tolist() == [[1, 2, 4, 7], [0, 0, 3, 3]]
    assert boxes_around(np.zeros((0, 2)), []).shape == (0, 4)
    assert polygon_area([0, 0, 4, 0, 4, 3]) == 6
    assert polygon_area([0, 0, 4, 3, 4, 0]) == 6
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4, 3:8] = 1
    assert rle_boxes([encode_rle(mask)], [mask.shape]).tolist() == [[3, 2, 5, 2]]


def test_rotated_box_corners() -> None:
    corners = rotated_box_corners([[10, 10, 8, 4, 90], [0, 0, 2, 2, 0]])
    assert np.allclose(corners[0], [[12, 6], [12, 14], [8, 14], [8, 6]])
    assert np.allclose(corners[1], [[-1, -1], [1, -1], [1, 1], [-1, 1]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_turn_as_masks_do(orientation: int) -> None:
    pixels = np.array([[1, 1, 0], [0, 1, 0]])
    counts, size = orient_rle(encode_rle(pixels), pixels.shape, orientation)
    assert decode_rle(counts, size).tolist() == orient_pixels(pixels, orientation).tolist()


def test_polygons_become_the_pixels_inside() -> None:
    parts = [[1.0, 1, 4, 1, 4, 3, 1, 3], [6.0, 0, 8, 0, 8, 4, 6, 4]]
    expected = np.zeros((5, 9), dtype=int)
    expected[1:3, 1:4] = 1
    expected[0:4, 6:8] = 1
    assert decode_rle(polygons_to_rle(parts, 5, 9), (5, 9)).tolist() == expected.tolist()


def test_polygons_are_cut_off_at_the_border() -> None:
    far = [[-1e300, -1e300, 1e300, -1e300, 1e300, 1e300, -1e300, 1e300]]
    assert decode_rle(polygons_to_rle(far, 3, 4), (3, 4)).all()
    assert not decode_rle(polygons_to_rle([[5.0, 0, 9, 0, 9, 9]], 3, 4), (3, 4)).any()
    # A triangle with a corner outside keeps its slope inside: clamping the corner would not.
    assert clip_polygon([0.0, 0, 20, 0, 0, 10], 10, 10) == [0, 0, 10, 0, 10, 5, 0, 10]


def test_more_masks_than_pycocotools_counts() -> None:
    counts = [encode_rle(np.eye(4, 5)), encode_rle(np.ones((4, 5)))] * 300
    assert rle_areas(counts, [[4, 5]] * 600).tolist() == [4.0, 20.0] * 300
    assert rle_boxes(counts, [[4, 5]] * 600).tolist() == [[0, 0, 4, 4], [0, 0, 5, 4]] * 300
    assert len(rle_areas([], np.zeros((0, 2)))) == 0
