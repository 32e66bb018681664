"""What is left of labels behind something: to the pixel, in every kind of shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.augment.labels import Label, area_of, fault_of, mask_of, mirrored, to_row
from curate.augment.occlusion import occlude, region_of
from curate.geometry import encode_rle
from curate.recipes.shapes import Shape

H, W = 24, 32


def mask(rows: slice, columns: slice) -> np.ndarray:
    drawn = np.zeros((H, W), dtype=bool)
    drawn[rows, columns] = True
    return drawn


def masked(drawn: np.ndarray) -> Label:
    shape = Shape("mask", bbox=(0.0, 0.0, 1.0, 1.0), rle=encode_rle(drawn))
    return Label("a", "disc", shape, float(drawn.sum()), rle_size=(H, W))


def after(label: Label, hidden: np.ndarray) -> Label | None:
    return occlude(label, region_of(label.shape, H, W), hidden)


rectangles = st.tuples(st.integers(0, H - 1), st.integers(1, H), st.integers(0, W - 1), st.integers(1, W))


@given(rectangles, rectangles)
def test_masks_and_their_boxes_lose_exactly_what_is_hidden(
    thing: tuple[int, int, int, int], cover: tuple[int, int, int, int]
) -> None:
    drawn = mask(slice(thing[0], thing[0] + thing[1]), slice(thing[2], thing[2] + thing[3]))
    hidden = mask(slice(cover[0], cover[0] + cover[1]), slice(cover[2], cover[2] + cover[3]))
    label = masked(drawn)
    left = after(label, hidden)
    seen = drawn & ~hidden
    if not (drawn & hidden).any():
        assert left is label
    elif seen.sum() < max(0.05 * drawn.sum(), 1):
        assert left is None
    else:
        assert left is not None
        found = mask_of(left.shape, H, W)
        assert found is not None
        assert (found == seen).all()
        rows, columns = np.nonzero(seen)
        assert left.shape.bbox == (
            columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1,
        )  # fmt: skip
        assert to_row(left, left.shape, H, W)["area"] == seen.sum()


def test_an_outline_that_is_cut_becomes_the_mask_of_what_is_seen() -> None:
    square = Shape("polygon", bbox=(4, 4, 12, 12), polygons=[[4, 4, 16, 4, 16, 16, 4, 16]])
    left = after(Label("a", "disc", square), mask(slice(8, 11), slice(8, 11)))
    assert left is not None
    assert (left.shape.type, left.shape.polygons) == ("mask", None)
    assert area_of(left.shape, H, W) == 12 * 12 - 9
    assert fault_of(left, H, W) is None


@pytest.mark.parametrize(
    ("hidden", "bbox"),
    [
        (mask(slice(0, H), slice(0, 10)), (10.0, 3.5, 8.25, 8.0)),  # from the left
        (mask(slice(0, H), slice(16, W)), (4.25, 3.5, 11.75, 8.0)),  # from the right
        (mask(slice(5, 8), slice(8, 10)), (4.25, 3.5, 14.0, 8.0)),  # in the middle
    ],
)
def test_a_box_shrinks_to_what_is_seen_in_it(hidden: np.ndarray, bbox: tuple[float, ...]) -> None:
    left = after(Label("a", "disc", Shape("box", bbox=(4.25, 3.5, 14.0, 8.0))), hidden)
    assert left is not None
    assert left.shape.bbox == pytest.approx(bbox)


def test_keypoints_behind_are_hidden_ones() -> None:
    points = (5.0, 5.0, 2.0, 20.0, 10.0, 2.0, 0.0, 0.0, 0.0)
    person = Shape("keypoints", bbox=(2, 2, 25, 15), keypoints=points)
    left = after(Label("a", "person", person), mask(slice(0, 8), slice(0, 8)))
    assert left is not None
    assert left.shape.keypoints == (5.0, 5.0, 1.0, 20.0, 10.0, 2.0, 0.0, 0.0, 0.0)


def test_what_is_wholly_covered_goes_and_labels_of_images_stay() -> None:
    everything = np.ones((H, W), dtype=bool)
    assert after(Label("a", "disc", Shape("box", bbox=(2, 2, 5, 5))), everything) is None
    assert after(Label("a", "disc", Shape("rotated_box", rotated_box=(9, 9, 6, 4, 30))), everything) is None
    whole = Label("a", "night", Shape("label"))
    assert after(whole, everything) is whole


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        (Shape("box", bbox=(40, 2, 5, 5)), None, "lies outside"),
        (Shape("box", bbox=(2, 2, 0, 5)), None, "no area"),
        (Shape("box", bbox=(float("nan"), 2, 3, 5)), None, "not a number"),
        (Shape("mask", rle=encode_rle(np.ones((4, 4)))), (4, 4), "another size"),
        (Shape("mask", rle="0"), (H, W), "broken mask"),
        (Shape("box", bbox=(30, 2, 5, 5)), None, None),
    ],
)
def test_labels_that_cannot_be_carried_are_told(shape: Shape, size: tuple[int, int] | None, said: str | None) -> None:
    fault = fault_of(Label("a", "disc", shape, rle_size=size), H, W)
    assert fault is None if said is None else fault is not None and said in fault


def test_sides_of_a_skeleton_change_places_in_a_mirror() -> None:
    assert mirrored(["nose", "left_eye", "right_eye"]) == (0, 2, 1)
    assert mirrored(["nose", "tail"]) is None
