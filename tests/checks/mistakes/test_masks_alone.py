"""Masks that cannot be right, from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.mistakes.masks.impossible import Measures, impossible_masks
from curate.checks.mistakes.masks.measures import NUMBERS, crossing, doubles, holes, measure, specks
from curate.checks.mistakes.masks.shapes import (
    EMPTY,
    OTHER_SHAPE,
    OTHER_SIZE,
    SOUND,
    TOO_FEW_POINTS,
    UNDECODABLE,
    Stored,
    crop,
    encode,
    stored_masks,
)
from curate.checks.mistakes.tables import Suspects
from curate.dataset.schema import ANNOTATIONS
from curate.geometry import decode_rle, encode_rle, rle_boxes

SIZE = (80, 100)
Mask = npt.NDArray[np.bool_]


def ellipse(x: float, y: float, rx: float, ry: float, size: tuple[int, int] = SIZE) -> Mask:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.asarray(((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1)


def of(mask: Mask) -> Stored:
    return Stored(SOUND, (mask.shape[0], mask.shape[1]), encode_rle(mask))


def measured(mask: Mask) -> dict[str, float]:
    return dict(zip(NUMBERS, measure(of(mask)), strict=True))


def ellipses(count: int, seed: int = 0) -> list[Mask]:
    random = np.random.default_rng(seed)
    return [ellipse(*random.uniform([30, 30], [70, 50]), *random.uniform(9, 20, 2)) for _ in range(count)]


def judged(
    masks: Sequence[Stored | Mask], labels: Sequence[int] | None = None, boxes: Sequence[Sequence[float]] | None = None
) -> Suspects:
    """Suspects among masks, each on an image of its own, with its own box unless another is given."""
    stored = [each if isinstance(each, Stored) else of(each) for each in masks]
    numbers = np.array([measure(each) for each in stored])
    rows = np.arange(len(stored))
    return impossible_masks(
        Measures.of(
            rows, rows, np.zeros(len(rows), dtype=np.int64) if labels is None else np.array(labels),
            [each.fault for each in stored], numbers, numbers[:, 1:5] if boxes is None else np.array(boxes),
            np.zeros(len(rows), dtype=bool), [],
        )
    )  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = ["type", "polygons", "rle", "rle_size"]
    schema = pa.schema([ANNOTATIONS.field(name) for name in columns])
    return pa.Table.from_pylist([{"type": "mask"} | row for row in rows], schema=schema)


def faults(rows: Sequence[dict[str, Any]], size: tuple[int, int] = SIZE) -> list[str]:
    sizes = np.tile(np.array([size[1], size[0]], dtype=np.float64), (len(rows), 1))
    return [each.fault for each in stored_masks(table(rows), sizes)]


def test_perfect_masks_give_nothing() -> None:
    assert len(judged(ellipses(60))) == 0


def test_a_hole_is_unusual_unless_holes_are_usual() -> None:
    masks = ellipses(40)
    masks[7] = ellipse(50, 40, 18, 18) & ~ellipse(50, 40, 5, 5)
    found = judged(masks)
    assert [(found.kind[0], int(found.annotation[0]))] == [("bad_mask", 7)]
    assert len(found) == 1
    assert found.score[0] > 0.5
    assert len(judged([each & ~ellipse(50, 40, 3, 3) for each in ellipses(40)])) == 0


def test_the_habits_of_a_class_are_its_own() -> None:
    rings = [ellipse(50, 40, 15 + k % 5, 15) & ~ellipse(50, 40, 5, 5) for k in range(40)]
    found = judged([*rings, *ellipses(60)], [0] * 40 + [1] * 60)
    assert len(found) == 0
    one_more = judged([*rings, *ellipses(59), rings[0]], [0] * 40 + [1] * 60)
    assert one_more.annotation.tolist() == [99]


def test_holes_and_specks_are_shown_where_they_are() -> None:
    hole = ellipse(45, 35, 4, 3)
    body = ellipse(50, 40, 20, 18)
    speck = np.zeros(SIZE, dtype=bool)
    speck[70:72, 90:92] = True
    window = crop(encode_rle(body & ~hole | speck), SIZE)
    assert window is not None
    inside, outside = holes(window), specks(window)
    assert inside is not None
    assert outside is not None
    assert (decode_rle(encode(inside, SIZE), SIZE) == hole).all()
    assert (decode_rle(encode(outside, SIZE), SIZE) == speck).all()
    assert holes(inside) is None
    assert specks(inside) is None


def test_a_speck_far_away_counts_more_than_one_close_by() -> None:
    masks = ellipses(40)
    for number, x in ((3, 74), (9, 95)):
        masks[number] = ellipse(50, 40, 20, 18)
        masks[number][39:41, x : x + 2] = True
    found = judged(masks)
    assert found.annotation.tolist() == [9, 3]
    assert "speck" in found.reason[0]


def test_a_mask_outside_of_its_box_is_bad() -> None:
    masks = ellipses(40)
    boxes = [measure(of(each))[1:5] for each in masks]
    boxes[5] = [0, 0, 8, 8]
    boxes[6] = [boxes[6][0] - 0.5, *boxes[6][1:]]  # rounding
    found = judged(masks, boxes=boxes)
    assert found.annotation.tolist() == [5]
    assert found.score[0] > 0.9
    padded = [[x - 6, y - 6, w + 12, h + 12] for x, y, w, h in boxes]
    padded[5] = boxes[6]
    assert (judged(masks, boxes=padded).score < 0.5).all()  # boxes with a margin are a habit


def test_a_sliver_is_far_thinner_than_its_class() -> None:
    masks = ellipses(60)
    line = np.zeros(SIZE, dtype=bool)
    line[20, 10:60] = True
    masks[11] = line
    assert judged(masks).annotation.tolist()[0] == 11
    assert len(judged([np.roll(line, k, axis=0) for k in range(30)])) == 0


def test_a_straight_end_is_unusual_where_things_are_round() -> None:
    masks = ellipses(60)
    cut = ellipse(50, 40, 20, 18)
    cut[:, 50:] = False
    masks[2] = cut
    found = judged(masks)
    assert found.annotation.tolist() == [2]
    at_the_border = ellipse(100, 40, 20, 18)
    masks[2] = at_the_border
    assert len(judged(masks)) == 0


def test_polygons_that_cross_themselves() -> None:
    assert crossing([10, 10, 60, 10, 60, 40, 10, 40]) is None
    bow = crossing([10, 10, 60, 40, 60, 10, 10, 40])
    assert bow is not None
    assert bow.share == pytest.approx(0.5)
    small = crossing([0, 0, 100, 0, 100, 100, 50, 100, 48, 104, 52, 104, 49.9, 99.9, 0, 100])
    assert small is not None
    assert small.share < 0.01
    assert crossing([0, 0, 10, 0, 10, 10, 10, 0, 0, 0, 0, 10]) is None  # there and back again touches
    assert crossing([0, 0, 10, 0]) is None


def test_a_long_outline_is_searched_in_little_time_and_memory() -> None:
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 1000 + 1000
    assert crossing(circle.ravel().tolist()) is None
    circle[5000], circle[15000] = circle[15000].copy(), circle[5000].copy()
    assert crossing(circle.ravel().tolist()) is not None


def test_what_is_stored_badly() -> None:
    good = encode_rle(ellipse(50, 40, 10, 10))
    assert faults(
        [
            {"rle": good, "rle_size": SIZE},
            {"rle": "not run lengths", "rle_size": SIZE},
            {"rle": good, "rle_size": (79, 100)},  # counts beyond the mask
            {"rle": encode_rle(np.zeros(SIZE, dtype=bool)), "rle_size": SIZE},
            {"rle": encode_rle(ellipse(25, 20, 5, 5, (40, 50))), "rle_size": (40, 50)},
            {"rle": encode_rle(ellipse(25, 20, 5, 5, (50, 50))), "rle_size": (50, 50)},
            {"polygons": [[10, 10, 20, 10, 20, 20]]},
            {"polygons": [[10, 10, 20, 10]]},
            {"polygons": [[10, 10, 20, 10, 20, 20], [1, 1, 2]]},
            {"polygons": []},
            {"polygons": [[200, 10, 220, 10, 220, 20]]},
            {"polygons": [[float("nan"), 10, 220, 10, 220, 20]]},
        ]
    ) == [
        SOUND, UNDECODABLE, UNDECODABLE, EMPTY, OTHER_SIZE, OTHER_SHAPE, SOUND, TOO_FEW_POINTS, TOO_FEW_POINTS,
        TOO_FEW_POINTS, EMPTY, TOO_FEW_POINTS,
    ]  # fmt: skip


def test_what_is_stored_badly_is_certain() -> None:
    broken = [Stored(fault, SIZE, None) for fault in (UNDECODABLE, EMPTY, TOO_FEW_POINTS, OTHER_SHAPE)]
    found = judged([*ellipses(30), *broken])
    assert sorted(found.annotation.tolist()) == [30, 31, 32, 33]
    assert (found.score == 1).all()


def test_a_mask_of_a_scaled_copy_is_drawn_at_the_image_s_size() -> None:
    small = ellipse(25, 20, 6, 5, (40, 50))
    (stored,) = stored_masks(table([{"rle": encode_rle(small), "rle_size": (40, 50)}]), np.array([[100.0, 80.0]]))
    assert stored.counts is not None
    assert (decode_rle(stored.counts, SIZE) == np.kron(small, np.ones((2, 2)))).all()


def test_doubles_have_the_same_pixels_and_class() -> None:
    masks = [ellipse(50, 40, 15, 15), ellipse(50.5, 40, 15, 15), ellipse(50, 40, 15, 15), ellipse(20, 20, 8, 8)]
    counts = [encode_rle(each) for each in masks]
    boxes = rle_boxes(counts, [SIZE] * 4)
    found = doubles(counts, [SIZE] * 4, boxes, np.array([0, 0, 1, 0]), 0.9)
    assert [(a, b) for a, b, _ in found] == [(0, 1)]
    assert 0.9 < found[0][2] < 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_window_and_its_run_lengths_are_the_same_mask(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 12, 2)) < 0.3
    window = crop(encode_rle(mask), mask.shape)
    assert (window is None) == (not mask.any())
    if window is not None:
        assert encode(window, mask.shape) == encode_rle(mask)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.integers(-8, 8), st.integers(-8, 8))
def test_mirrored_or_moved_masks_measure_the_same(seed: int, across: bool, down: bool, dx: int, dy: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros(SIZE, dtype=bool)
    mask[20:50, 30:70] = random.random((30, 40)) < 0.6
    other = np.roll(mask, (dy, dx), (0, 1))[:: -1 if down else 1, :: -1 if across else 1]
    first, second = measured(mask), measured(other)
    for name in set(NUMBERS) - {"x", "y"}:
        assert first[name] == pytest.approx(second[name]), name


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(30)))
def test_the_order_of_masks_does_not_matter(order: list[int]) -> None:
    masks = ellipses(30)
    masks[4] = ellipse(50, 40, 18, 18) & ~ellipse(50, 40, 5, 5)
    masks[5] = ellipse(50, 40, 18, 18) & ~ellipse(50, 40, 2, 2)
    plain, moved = judged(masks), judged([masks[k] for k in order])
    assert {(int(a), float(s)) for a, s in zip(plain.annotation, plain.score, strict=True)} == {
        (order[int(a)], float(s)) for a, s in zip(moved.annotation, moved.score, strict=True)
    }
