"""Matching and average precision against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from curate.checks.evaluation.average_precision import coco_scores, mean_over_classes, resampled_precision
from curate.checks.evaluation.matching import FALSE, HIT, LEFT_OUT, Matches, match_objects
from curate.checks.evaluation.objects import Objects
from curate.checks.evaluation.overlaps import box_overlaps, coco_iou, mask_overlaps
from curate.geometry import encode_rle, rle_areas, rle_boxes
from tests.checks.evaluation.coco_reference import NAMES, evaluated, objects, random_objects, reference

IMAGES, CLASSES = 6, 3
seeds = st.integers(0, 2**32 - 1)


def matched(truth: Objects, predicted: Objects) -> Matches:
    return match_objects(predicted, truth, box_overlaps(predicted, truth))


def assert_equal(found: dict[str, float | None], wanted: dict[str, float | None]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


@settings(max_examples=60, deadline=None)
@given(seed=seeds, ties=st.booleans())
def test_the_twelve_numbers_are_those_of_pycocotools(seed: int, ties: bool) -> None:
    truth, predicted = random_objects(np.random.default_rng(seed), IMAGES, CLASSES, ties=ties)
    scores = coco_scores(matched(truth, predicted), CLASSES)
    assert_equal(scores.summary(), reference(truth, predicted, IMAGES, CLASSES))


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_precision_and_recall_are_those_of_pycocotools_everywhere(seed: int) -> None:
    truth, predicted = random_objects(np.random.default_rng(seed), IMAGES, CLASSES)
    scores = coco_scores(matched(truth, predicted), CLASSES)
    wanted = evaluated(truth, predicted, IMAGES, CLASSES).eval
    np.testing.assert_allclose(np.nan_to_num(scores.precision, nan=-1), wanted["precision"][..., -1], atol=1e-12)
    np.testing.assert_allclose(np.nan_to_num(scores.recall, nan=-1), wanted["recall"], atol=1e-12)


def test_more_than_a_hundred_predictions_of_one_class_on_an_image() -> None:
    rng = np.random.default_rng(0)
    count = 150
    boxes = np.column_stack([rng.uniform(0, 500, (count, 2)), np.full((count, 2), 20.0)])
    truth = objects(np.zeros(count), np.zeros(count), boxes)
    predicted = objects(np.zeros(count), np.zeros(count), boxes + 1, score=np.round(rng.random(count), 2))
    assert_equal(coco_scores(matched(truth, predicted), 1).summary(), reference(truth, predicted, 1, 1))


@pytest.mark.parametrize("what", ["truth", "predicted", "both"])
def test_nothing_there_or_nothing_found(what: str) -> None:
    truth, predicted = random_objects(np.random.default_rng(3), IMAGES, CLASSES)
    none = np.zeros(0, dtype=np.int64)
    truth = truth.take(none) if what != "predicted" else truth
    predicted = predicted.take(none) if what != "truth" else predicted
    assert_equal(
        coco_scores(matched(truth, predicted), CLASSES).summary(), reference(truth, predicted, IMAGES, CLASSES)
    )


def test_a_perfect_model_has_an_average_precision_of_one() -> None:
    truth = objects([0, 0, 1], [0, 1, 0], [[0, 0, 10, 10], [5, 5, 50, 50], [0, 0, 200, 200]])
    summary = coco_scores(matched(truth, truth), 2).summary()
    assert summary["AP"] == 1.0
    assert summary["AR_100"] == 1.0


def test_a_prediction_in_a_crowd_is_neither_right_nor_wrong() -> None:
    truth = objects([0, 0], [0, 0], [[0, 0, 100, 100], [200, 0, 20, 20]], crowd=[True, False])
    boxes = [[10, 10, 20, 20], [50, 50, 20, 20], [200, 0, 20, 20], [300, 0, 20, 20]]
    found = matched(truth, objects([0] * 4, [0] * 4, boxes, score=[0.9, 0.8, 0.7, 0.6]))
    assert found.outcome[0, :, 0].tolist() == [LEFT_OUT, LEFT_OUT, HIT, FALSE]
    assert found.counted[0].tolist() == [False, True]
    assert found.found.tolist() == [0, 0, 1, -1]
    assert found.iou.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_of_two_objects_that_fit_equally_well_the_later_one_is_taken() -> None:
    box = [0, 0, 40, 40]
    truth = objects([0, 0], [0, 0], [box, box], area=[900, 5000])
    predicted = objects([0], [0], [box], score=[0.5])
    assert matched(truth, predicted).found.tolist() == [1]
    summary = coco_scores(matched(truth, predicted), 1).summary()
    assert_equal(summary, reference(truth, predicted, 1, 1))
    assert summary["AR_medium"] == 1.0


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_overlaps_are_those_of_pycocotools_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (np.column_stack([rng.normal(0, 30, (9, 2)), rng.gamma(1, 30, (9, 2))]) for _ in range(2))
    crowd = rng.random(9) < 0.5
    wanted = coco_mask.iou(first, second, crowd.astype(np.uint8).tolist())
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(9), np.arange(9), indexing="ij"))
    assert coco_iou(first[i], second[j], crowd[j]).tolist() == wanted.ravel().tolist()


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_masks_are_evaluated_as_pycocotools_evaluates_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, images, classes = (40, 50), 4, 2

    def draw(count: int) -> list[np.ndarray]:
        masks = []
        for _ in range(count):
            y, x, h, w = rng.integers([0, 0, 3, 3], [30, 40, 25, 30])
            mask = np.zeros(shape, dtype=bool)
            mask[y : y + h, x : x + w] = True
            mask[rng.random(shape) < 0.1] = False
            masks.append(mask)
        return masks

    true = draw(int(rng.integers(0, 15)))
    said = [np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) for mask in true if rng.random() < 0.8]
    said += draw(int(rng.integers(0, 6)))

    def made(masks: list[np.ndarray], score: np.ndarray | None) -> tuple[Objects, list[str]]:
        texts = [encode_rle(mask) for mask in masks]
        sizes = [shape] * len(masks)
        image = np.sort(rng.integers(0, images, len(masks)))
        crowd = None if score is not None else rng.random(len(masks)) < 0.15
        boxes = rle_boxes(texts, sizes) if masks else np.zeros((0, 4))
        area = rle_areas(texts, sizes)
        return objects(image, rng.integers(0, classes, len(masks)), boxes, score=score, crowd=crowd, area=area), texts

    truth, true_texts = made(true, None)
    predicted, texts = made(said, np.round(rng.random(len(said)), 1))
    pairs = mask_overlaps(predicted, truth, texts, true_texts, np.full((images, 2), shape))
    found = coco_scores(match_objects(predicted, truth, pairs), classes).summary()

    def rows(each: Objects, masks: list[str]) -> list[dict[str, object]]:
        return [
            {
                "id": k + 1,
                "image_id": int(each.image[k]),
                "category_id": int(each.label[k]),
                "segmentation": {"counts": masks[k], "size": list(shape)},
                "area": float(each.area[k]),
                "iscrowd": int(each.crowd[k]),
                "score": float(each.score[k]),
            }
            for k in range(len(each))
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        both = []
        for each, masks in ((truth, true_texts), (predicted, texts)):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": k, "height": shape[0], "width": shape[1]} for k in range(images)],
                "categories": [{"id": k} for k in range(classes)],
                "annotations": rows(each, masks),
            }
            coco.createIndex()
            both.append(coco)
        evaluation = COCOeval(*both, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    wanted = dict(zip(NAMES, (None if value == -1 else float(value) for value in evaluation.stats), strict=True))
    assert_equal(found, wanted)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, ties=st.booleans())
def test_images_that_count_several_times_are_like_several_images(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = random_objects(rng, IMAGES, CLASSES, ties=ties)
    times = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=3)
    found = resampled_precision(matched(truth, predicted), CLASSES, times.astype(np.float32))
    for row, counts in enumerate(times):
        copies = [_copied(each, counts) for each in (truth, predicted)]
        scores = coco_scores(matched(*copies), CLASSES)
        # Copies of an image stand together, so that only predictions of equal score could stand in another order.
        if not ties:
            wanted = scores.precision[..., 0].mean(axis=1).T
            np.testing.assert_allclose(found[row], wanted, atol=1e-6)
    once = resampled_precision(matched(truth, predicted), CLASSES, np.ones((1, IMAGES), dtype=np.float32))
    summary = coco_scores(matched(truth, predicted), CLASSES).summary()
    overall = mean_over_classes(once)[0]
    assert (summary["AP"] is None) == np.isnan(overall)
    assert overall == pytest.approx(summary["AP"] or 0.0, abs=1e-6, nan_ok=True) or summary["AP"] is None


def test_some_images_are_evaluated_as_if_they_were_all() -> None:
    rng = np.random.default_rng(5)
    truth, predicted = random_objects(rng, 20, CLASSES)
    chosen = np.zeros(20, dtype=bool)
    chosen[[1, 4, 5, 11, 17]] = True
    part = coco_scores(matched(truth, predicted).of_images(chosen), CLASSES).summary()
    own = [each.take(chosen[each.image]) for each in (truth, predicted)]
    assert part == coco_scores(matched(*own), CLASSES).summary()
    none = coco_scores(matched(truth, predicted).of_images(np.zeros(20, dtype=bool)), CLASSES).summary()
    assert set(none.values()) == {None}


def _copied(each: Objects, times: np.ndarray) -> Objects:
    rows = np.concatenate(
        [np.flatnonzero(each.image == image) for image, count in enumerate(times) for _ in range(count)]
        or [np.zeros(0, dtype=np.int64)]
    ).astype(np.int64)
    number = np.concatenate(
        [
            np.full(int((each.image == image).sum()), sum(times[:image]) + copy)
            for image, count in enumerate(times)
            for copy in range(count)
        ]
        or [np.zeros(0, dtype=np.int64)]
    ).astype(np.int64)
    copied = each.take(rows)
    return Objects(number, copied.label, copied.bbox, copied.area, copied.score, copied.crowd, copied.row)
