"""From proposals to objects: suppression, what counts, and masks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from curate.models.predictors.base import VOID, Objects
from curate.models.predictors.layouts.maps import read_class_map, read_depth_map, read_label_map
from curate.models.predictors.layouts.read import read
from curate.models.predictors.postprocess import Limits, Masks, Proposals, finish, suppress
from curate.models.predictors.sidecar import ClassMapLayout, DepthMapLayout, LabelMap, Yolov5
from curate.runner import Placement, place

WHOLE = place((100, 100), (100, 100), "squash")
ALL = Limits(min_score=0.0, nms_iou=0.5, most_objects=1000)


def boxes_and_labels(most: int) -> st.SearchStrategy[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    corner = st.tuples(
        st.integers(0, 20), st.integers(0, 20), st.integers(0, 12), st.integers(0, 12), st.integers(0, 2)
    )
    return st.lists(corner, max_size=most).map(
        lambda rows: (
            np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows], float).reshape(-1, 4),
            np.array([label for *_, label in rows], np.int64),
        )
    )


def brute_force(boxes: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], iou: Fraction) -> list[int]:
    """Box by box, in whole numbers."""
    kept: list[int] = []
    for number in range(len(boxes)):
        x1, y1, x2, y2 = (int(value) for value in boxes[number])
        for other in kept:
            a1, b1, a2, b2 = (int(value) for value in boxes[other])
            common = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common
            if labels[number] == labels[other] and union and Fraction(common, union) > iou:
                break
        else:
            kept.append(number)
    return kept


@given(
    boxes_and_labels(40), st.sampled_from([Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1)])
)
def test_suppression_is_what_brute_force_does(
    found: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]], iou: Fraction
) -> None:
    assert suppress(*found, float(iou)).tolist() == brute_force(*found, iou)


def test_suppression_of_more_boxes_than_fit_into_a_block() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 90, (800, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 40, (800, 2))], axis=1).astype(float)
    labels = rng.integers(0, 2, 800)
    kept = suppress(boxes, labels, 0.5).tolist()
    assert kept == brute_force(boxes, labels, Fraction(1, 2))
    assert len(kept) > 300
    for most in (0, 1, 200, 290, 5000):
        assert suppress(boxes, labels, 0.5, most).tolist() == kept[:most]


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 30), st.just(4)), elements=st.floats(-300, 300, width=32)),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(["squash", "letterbox", "letterbox_centre", "shortest_side_crop", "none"]),
    st.data(),
)
def test_objects_are_on_the_image_and_surest_first(
    boxes: npt.NDArray[np.float32], height: int, width: int, resize: str, data: st.DataObject
) -> None:
    count = len(boxes)
    scores = data.draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    labels = data.draw(hnp.arrays(np.int64, count, elements=st.integers(0, 3)))
    limits = Limits(min_score=0.25, nms_iou=0.5, most_objects=7)
    placement = place((height, width), (96, 128), resize)
    found = finish(Proposals(boxes, scores, labels), placement, limits)
    assert found.size == (height, width)
    assert len(found.boxes) == len(found.labels) == len(found.scores) <= 7
    assert (found.boxes[:, 2:] > 0).all()
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= np.array([width, height]) * (1 + 1e-12)).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores >= 0.25).all()


def test_of_equally_sure_boxes_the_first_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    found = finish(Proposals(boxes, np.array([0.5, 0.5, 0.5]), np.zeros(3, np.int64)), WHOLE, ALL)
    np.testing.assert_array_equal(found.boxes[:, 0], [0, 50])
    lefts = np.random.default_rng(0).permutation(99).astype(np.float32)
    apart = np.stack([lefts, lefts, lefts + 1, lefts + 1], axis=1)
    scores = np.where(np.arange(99) % 3 == 0, 0.5, 0.75)
    found = finish(Proposals(apart, scores, np.zeros(99, np.int64)), WHOLE, ALL)
    np.testing.assert_array_equal(found.boxes[:, 0], [*lefts[scores == 0.75], *lefts[scores == 0.5]])


def test_boxes_that_are_not_finite_are_left_out() -> None:
    rows = np.array(
        [[30, 30, 20, 20, 0.9, 0.9], [np.inf, 30, 20, 20, 0.9, 0.9], [30, 30, np.inf, 20, 0.9, 0.9]], np.float32
    )
    found = read(Yolov5(output="o"), {"o": rows}, WHOLE, ALL, 1)
    assert isinstance(found, Objects)
    np.testing.assert_array_equal(found.boxes, [[20, 20, 20, 20]])


def test_probabilities_stay_with_their_boxes() -> None:
    probabilities = np.array([[0.1, 0.3], [0.9, 0.2], [0.05, 0.6]], np.float32)
    boxes = np.array([[0, 0, 9, 9], [20, 20, 29, 29], [40, 40, 49, 49]], np.float32)
    proposals = Proposals(boxes, probabilities.max(axis=1), probabilities.argmax(axis=1), probabilities)
    found = finish(proposals, WHOLE, ALL)
    assert found.probabilities is not None
    np.testing.assert_array_equal(found.probabilities, probabilities[[1, 2, 0]])
    np.testing.assert_array_equal(found.labels, [0, 1, 1])


def test_a_mask_over_the_input_is_pasted_exactly() -> None:
    """A mask at the image's own resolution, letterboxed at scale 1, comes back pixel for pixel."""
    rng = np.random.default_rng(0)
    mask = rng.random((1, 60, 80)) > 0.5
    placement = Placement((40, 70), (60, 80), (40, 70), (10, 5))
    boxes = np.array([[5, 10, 75, 50]], np.float32)
    masks = Masks(lambda chosen: mask[chosen].astype(np.float32), over="input", cropped=True)
    found = finish(Proposals(boxes, np.ones(1), np.zeros(1, np.int64), masks=masks), placement, ALL)
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks[0], mask[0, 10:50, 5:75])


def test_a_mask_is_cropped_to_its_box_where_that_is_asked_for() -> None:
    everywhere = Masks(lambda chosen: np.ones((len(chosen), 25, 25), np.float32), over="input", cropped=True)
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    found = finish(Proposals(boxes, np.ones(1), np.zeros(1, np.int64), masks=everywhere), WHOLE, ALL)
    expected = np.zeros((100, 100), bool)
    expected[20:60, 10:30] = True
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks[0], expected)


def test_a_small_mask_is_stretched_over_its_box() -> None:
    left_half = np.zeros((1, 28, 28), np.float32)
    left_half[:, :, :14] = 1
    masks = Masks(lambda chosen: left_half[chosen], over="box", cropped=True)
    boxes = np.array([[10.5, 20, 66.5, 76]], np.float32)
    found = finish(Proposals(boxes, np.ones(1), np.zeros(1, np.int64), masks=masks), WHOLE, ALL)
    assert found.masks is not None
    rows, columns = np.nonzero(found.masks[0])
    assert abs(columns.min() - 10.5) <= 1
    assert abs(columns.max() + 1 - 38.5) <= 1
    assert abs(rows.min() - 20) <= 1
    assert abs(rows.max() + 1 - 76) <= 1
    assert found.masks[0].sum() == (rows.max() + 1 - rows.min()) * (columns.max() + 1 - columns.min())


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["squash", "letterbox", "letterbox_centre"]),
    st.integers(1, 4),
)
def test_a_map_is_brought_to_the_images_size(height: int, width: int, resize: str, cell: int) -> None:
    """A left and a right half: the border is in the middle of the image, within one cell of the network's map."""
    placement = place((height, width), (32, 48), resize)
    columns = (np.arange(48 // cell) + 0.5) * cell
    right = columns > placement.offset[1] + placement.scaled[1] / 2
    scores = np.stack([np.where(right, -5.0, 5.0), np.where(right, 5.0, -5.0)])[:, None].repeat(32 // cell, axis=1)
    found = read_class_map(ClassMapLayout(output="o"), {"o": scores.astype(np.float32)}, placement)
    assert found.labels.shape == found.confidence.shape == (height, width)
    assert found.labels.dtype == np.int16
    middles = np.arange(width) + 0.5
    clear = np.abs(middles - width / 2) > (cell + 1) / placement.scale[1] + 1
    np.testing.assert_array_equal(
        found.labels[:, clear], np.broadcast_to(middles > width / 2, (height, width))[:, clear]
    )
    assert ((found.confidence >= 0.5 - 1e-6) & (found.confidence <= 1)).all()


def test_padding_does_not_leak_into_a_map() -> None:
    placement = place((20, 40), (40, 40), "letterbox_centre")
    scores = np.full((2, 40, 40), -9.0, np.float32)
    scores[0, 10:30] = 9
    scores[1, :10] = scores[1, 30:] = 90
    found = read_class_map(ClassMapLayout(output="o"), {"o": scores}, placement)
    assert (found.labels == 0).all()


def test_confidence_is_the_probability_of_the_class() -> None:
    placement = place((4, 4), (4, 4), "squash")
    scores = np.log(np.array([0.2, 0.7, 0.1], np.float32))[:, None, None].repeat(4, 1).repeat(4, 2)
    found = read_class_map(ClassMapLayout(output="o"), {"o": scores}, placement)
    assert (found.labels == 1).all()
    np.testing.assert_allclose(found.confidence, 0.7, rtol=1e-5)
    with_none = read_class_map(ClassMapLayout(output="o", background=True), {"o": scores}, placement)
    assert (with_none.labels == 0).all()
    none_first = read_class_map(ClassMapLayout(output="o", background=True), {"o": scores[[1, 0, 2]]}, placement)
    assert (none_first.labels == VOID).all()
    np.testing.assert_allclose(none_first.confidence, 0.7, rtol=1e-5)
    one = read_class_map(ClassMapLayout(output="o"), {"o": np.full((1, 4, 4), -2, np.float32)}, placement)
    assert (one.labels == VOID).all()
    np.testing.assert_allclose(one.confidence, 1 / (1 + np.exp(-2)), rtol=1e-5)
    apart = read_class_map(ClassMapLayout(output="o", activation="sigmoid"), {"o": scores}, placement)
    assert (apart.labels == VOID).all()


def test_what_a_crop_cuts_off_is_not_known() -> None:
    placement = place((40, 80), (20, 20), "shortest_side_crop")
    layout = ClassMapLayout(output="o", activation="none")
    found = read_class_map(layout, {"o": np.ones((2, 20, 20), np.float32) / 2}, placement)
    assert (found.labels[:, 20:60] == 0).all()
    assert (found.labels[:, :20] == VOID).all()
    assert (found.labels[:, 60:] == VOID).all()
    assert (found.confidence[:, :20] == 0).all()
    depth = read_depth_map(
        DepthMapLayout(output="o", metric=True, inverse=False), {"o": np.ones((20, 20))}, placement
    ).depth
    assert np.isnan(depth[:, :20]).all()
    assert (depth[:, 20:60] == 1).all()


@given(st.integers(1, 3), st.integers(1, 300), st.booleans())
def test_images_of_a_few_rows_are_no_trouble(thin: int, long: int, turned: bool) -> None:
    size = (long, thin) if turned else (thin, long)
    placement = place(size, (20, 24), "shortest_side_crop", 0.6)
    assert (
        read_class_map(ClassMapLayout(output="o"), {"o": np.ones((2, 5, 6), np.float32)}, placement).labels.shape
        == size
    )
    assert read_depth_map(DepthMapLayout(output="o"), {"o": np.ones((5, 6), np.float32)}, placement).depth.shape == size
    assert read_label_map(LabelMap(output="o"), {"o": np.ones((5, 6), np.int64)}, placement, 2).labels.shape == size


def test_labels_are_not_blended() -> None:
    given_labels = np.array([[0, 200], [3, 1]], np.int64)
    found = read_label_map(LabelMap(output="o"), {"o": given_labels}, place((6, 4), (4, 4), "squash"), 4)
    np.testing.assert_array_equal(found.labels, np.repeat(np.repeat([[0, VOID], [3, 1]], 3, axis=0), 2, axis=1))
    first_is_none = read_label_map(
        LabelMap(output="o", background=True), {"o": given_labels[None]}, place((2, 2), (2, 2), "squash"), 4
    )
    np.testing.assert_array_equal(first_is_none.labels, [[VOID, VOID], [2, 0]])


def test_depths_grow_with_distance() -> None:
    placement = place((2, 2), (2, 2), "squash")
    given_depths = np.array([[1.0, 2.0], [4.0, 0.0]], np.float32)
    near_is_large = read_depth_map(DepthMapLayout(output="o"), {"o": given_depths}, placement)
    np.testing.assert_allclose(near_is_large.depth, [[0.75, 0.5], [0.0, 1.0]])
    assert not near_is_large.metric
    nan = float("nan")
    metres = read_depth_map(DepthMapLayout(output="o", inverse=False, metric=True), {"o": given_depths}, placement)
    np.testing.assert_allclose(metres.depth, np.array([[1, 2], [4, nan]]))
    assert metres.metric
    inverse = read_depth_map(
        DepthMapLayout(output="o", inverse=True, metric=True), {"o": given_depths[None]}, placement
    )
    np.testing.assert_allclose(inverse.depth, np.array([[1, 0.5], [0.25, nan]]))
    flat = read_depth_map(DepthMapLayout(output="o", inverse=False), {"o": np.ones((2, 2))}, placement)
    assert (flat.depth == 0).all()


def test_metres_grow_with_the_distance_unless_it_is_said_otherwise() -> None:
    assert not DepthMapLayout(metric=True).nearer_is_larger
    assert DepthMapLayout(metric=True, inverse=True).nearer_is_larger
    assert DepthMapLayout().nearer_is_larger
    assert not DepthMapLayout(inverse=False).nearer_is_larger
