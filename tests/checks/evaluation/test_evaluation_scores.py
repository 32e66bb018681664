"""Thresholds, calibration, confusion, labels of images and classes of pixels, each against something simple."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from curate.checks.evaluation.base import Asked
from curate.checks.evaluation.calibration import brier_score, calibration
from curate.checks.evaluation.classification import Guesses, evaluate_labels
from curate.checks.evaluation.confusion import NOTHING, confusion_matrix, confusion_rows
from curate.checks.evaluation.detection import evaluate_objects, image_quality
from curate.checks.evaluation.matching import match_objects
from curate.checks.evaluation.overlaps import box_overlaps
from curate.checks.evaluation.segmentation import PixelCounter, evaluate_pixels
from curate.checks.evaluation.thresholds import curve
from curate.geometry import encode_rle
from tests.checks.evaluation.coco_reference import objects, random_objects

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_precision_and_recall_at_every_threshold_are_counted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, right = np.round(rng.random(40), 1), rng.random(40) < 0.6
    found = curve(score, right, 50)
    for threshold in (0.0, 0.05, 0.3, 0.95, 1.0):
        at, used = found.at(threshold), score >= threshold
        assert (at.predictions, at.right) == (used.sum(), right[used].sum())
        assert at.recall == right[used].sum() / 50
    wanted = found.for_precision(0.7)
    possible = [value for value in np.unique(score) if right[score >= value].mean() >= 0.7]
    assert (None if wanted is None else wanted.threshold) == (min(possible) if possible else None)
    best = max(2 * right[score >= value].sum() / ((score >= value).sum() + 50) for value in score)
    assert (found.best().f1 or 0) == pytest.approx(best)


def test_no_prediction_has_no_threshold() -> None:
    found = curve(np.zeros(0), np.zeros(0, dtype=bool), 3)
    assert found.for_precision(0.5) is None
    assert found.most_precise() is None
    assert found.best().predictions == 0
    assert found.best().recall == 0


def test_the_interval_of_a_precision_is_wilsons() -> None:
    right = np.r_[np.ones(8, dtype=bool), np.zeros(2, dtype=bool)]
    low, high = curve(np.full(10, 0.9), right, 10).at(0.9).precision_interval() or (0, 0)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_calibration_by_hand() -> None:
    found = calibration(np.array([0.95, 0.95, 0.15, 1.0]), np.array([True, False, False, True]), bins=10)
    assert found.count.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert found.error == pytest.approx((3 * abs(2.9 / 3 - 2 / 3) + 0.15) / 4)
    assert [row["predictions"] for row in found.rows()] == [1, 3]


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_confusion_counts_every_object_and_prediction_once(seed: int) -> None:
    truth, predicted = random_objects(np.random.default_rng(seed), 5, 3)
    pairs = box_overlaps(predicted, truth)
    matrix = confusion_matrix(predicted, truth, pairs, 3, 0.5)
    single = truth.label[~truth.crowd]
    assert matrix[:3].sum(axis=1).tolist() == np.bincount(single, minlength=3).tolist()
    used = predicted.score >= 0.5
    inside = np.zeros(len(predicted), dtype=bool)
    inside[pairs.first[truth.crowd[pairs.second]]] = True
    assert matrix[:, :3].sum() <= used.sum()
    assert matrix[:, :3].sum() >= (used & ~inside).sum()
    assert matrix[3, 3] == 0


def test_confusion_prefers_the_same_class_then_the_larger_overlap() -> None:
    truth = objects([0, 0], [0, 1], [[0, 0, 10, 10], [100, 0, 10, 10]])
    boxes = [[0, 0, 10, 9], [0, 0, 10, 10], [100, 0, 10, 10], [200, 0, 5, 5]]
    predicted = objects([0] * 4, [0, 1, 0, 1], boxes, score=[0.9] * 4)
    matrix = confusion_matrix(predicted, truth, box_overlaps(predicted, truth), 2, 0.1)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 0], [0, 2, 0]]
    rows = confusion_rows(matrix, ["cat", "dog"], "objects")
    assert rows[0] == {"true": NOTHING, "predicted": "dog", "objects": 2, "share_of_true": None}
    assert rows[1] == {"true": "dog", "predicted": "cat", "objects": 1, "share_of_true": 1.0}


def test_image_quality_is_panoptic_quality_drawn_to_the_mean() -> None:
    truth = objects([0, 0, 1], [0, 0, 0], [[0, 0, 10, 10], [50, 0, 10, 10], [0, 0, 10, 10]])
    predicted = objects([0, 1, 1], [0, 0, 0], [[0, 0, 10, 8], [0, 0, 10, 10], [70, 0, 5, 5]], score=[0.9, 0.9, 0.1])
    found = match_objects(predicted, truth, box_overlaps(predicted, truth))
    quality, mistakes, overall = image_quality(found, 0.5, 3)
    assert overall == pytest.approx(1.8 / 2.5)
    assert quality.tolist() == pytest.approx([(0.8 + 0.72) / 2.5, (1 + 0.72) / 2, 0.72])
    assert mistakes.tolist() == [1, 0, 0]
    assert image_quality(found, 0.05, 3)[1].tolist() == [1, 1, 0]


def test_the_worst_image_comes_first_and_says_what_is_wrong() -> None:
    truth = objects([0, 1, 1, 2], [0, 0, 0, 0], [[0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 10, 10], [0, 0, 10, 10]])
    predicted = objects([0, 1, 2], [0, 0, 0], [[0, 0, 10, 10], [90, 0, 10, 10], [0, 0, 10, 10]], score=[0.9, 0.95, 0.9])
    asked = Asked(["thing"], 3)
    found = evaluate_objects(
        "detect", predicted, truth, box_overlaps(predicted, truth), asked, "p{}".format, "t{}".format
    )
    assert found.hard.image.tolist() == [1]
    (evidence,) = found.hard.evidence
    assert evidence["counts"] == {"missed": 2, "false": 1, "right": 0}
    assert [each["annotation_id"] for each in evidence["missed"]] == ["t1", "t2"]
    assert [each["annotation_id"] for each in evidence["false"]] == ["p1"]
    assert 0.5 < found.hard.score[0] <= 1


def test_classes_that_the_model_does_not_know_are_told() -> None:
    truth = objects([0, 0], [0, 1], [[0, 0, 10, 10], [50, 0, 10, 10]])
    predicted = objects([0], [0], [[0, 0, 10, 10]], score=[0.9])
    asked = Asked(["cat", "unicorn"], 1)
    found = evaluate_objects("detect", predicted, truth, box_overlaps(predicted, truth), asked, str, str)
    assert found.metrics["AP"] == pytest.approx(0.5)
    assert any("unicorn" in note for note in found.notes)


def test_a_precision_out_of_reach_is_told_with_the_highest_there_is() -> None:
    truth = objects([0], [0], [[0, 0, 10, 10]])
    predicted = objects([0, 0], [0, 0], [[50, 0, 10, 10], [0, 0, 10, 10]], score=[0.9, 0.5])
    asked = Asked(["cat"], 1, precision=0.9)
    found = evaluate_objects("detect", predicted, truth, box_overlaps(predicted, truth), asked, str, str)
    assert any("the highest is 0.500, from a score of 0.5 on" in note for note in found.notes)
    assert found.classes[0].numbers["threshold"] is None


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_labels_of_images_are_scored_as_scikit_learn_scores_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes = 60, 4
    truth = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[truth]
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    label = probabilities.argmax(axis=1)
    found = evaluate_labels(
        Guesses(truth, label, probabilities.max(axis=1).astype(float), probabilities, np.arange(n)),
        Asked(["a", "b", "c", "d"], n, top_k=2),
    )
    assert found.metrics["top1"] == pytest.approx(accuracy_score(truth, label))
    assert found.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, label))
    assert found.metrics["macro_F1"] == pytest.approx(f1_score(truth, label, average="macro"))
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    assert found.metrics["log_loss"] == pytest.approx(sklearn_log_loss(truth, exact), rel=1e-5)
    one_class = brier_score_loss((truth == 0).astype(int), exact[:, 0])
    assert brier_score(np.stack([exact[:, 0], 1 - exact[:, 0]], axis=1), (truth != 0).astype(int)) == pytest.approx(
        2 * one_class
    )
    ranks = [sorted(-row).index(-row[k]) for row, k in zip(probabilities, truth, strict=True)]
    assert found.metrics["top2"] == pytest.approx(np.mean(np.array(ranks) < 2))
    ones = found.resample(np.ones((1, n), dtype=np.float32))
    assert ones["all", "macro_F1"][0] == pytest.approx(found.metrics["macro_F1"])
    assert ones["class", "b"][0] == pytest.approx(found.classes[1].numbers["F1"])


def test_images_without_a_prediction_are_wrong_and_told() -> None:
    guesses = Guesses(np.array([0, 1]), np.array([0, -1]), np.array([0.9, np.nan]), None, np.array([3, 5]))
    found = evaluate_labels(guesses, Asked(["a", "b"], 2))
    assert found.metrics["top1"] == 0.5
    assert "log_loss" not in found.metrics
    assert found.hard.annotation.tolist() == [5]
    assert any("without a prediction" in note for note in found.notes)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, overlapping=st.booleans())
def test_pixels_are_counted_as_on_painted_maps(seed: int, overlapping: bool) -> None:
    rng = np.random.default_rng(seed)
    classes, images = 3, 4
    counter = PixelCounter(classes)
    maps = []
    for image in range(images):
        shape = (int(rng.integers(4, 12)), int(rng.integers(4, 12)))
        both = [rng.integers(-1, classes, shape) for _ in range(2)]
        both[1] = np.where(rng.random(shape) < 0.7, both[0], both[1])
        masks = [_masks(each) for each in both]
        if overlapping:  # a large mask below the others, of which nothing is to be seen
            masks[0].append((0, encode_rle(both[0] >= 0)))
            present = np.unique(both[0][both[0] >= 0])
            if len(present) < 2:
                masks[0].pop()
        counter.add(image, shape, *masks)
        maps.append(both)
    counts = counter.counts()
    truth, said = (np.concatenate([each[k].ravel() for each in maps]) for k in range(2))
    wanted = np.zeros((classes + 1, classes + 1), dtype=int)
    np.add.at(wanted, (truth, said), 1)  # -1 is the last row and column
    assert counts.confusion.tolist() == wanted.tolist()
    for unlabelled in ("background", "ignore"):
        found = evaluate_pixels(counts, Asked(["a", "b", "c"], images, unlabelled=unlabelled))
        on = truth >= 0 if unlabelled == "ignore" else np.ones(len(truth), dtype=bool)
        ious = []
        for label in range(classes):
            union = (((truth == label) | (said == label)) & on).sum()
            ious += [((truth == label) & (said == label) & on).sum() / union] if union else []
        assert found.metrics["mIoU"] == (pytest.approx(np.mean(ious)) if ious else None)
        assert found.metrics["pixel_accuracy"] == (pytest.approx((truth == said)[on].mean()) if on.any() else None)
        once = found.resample(np.ones((1, images), dtype=np.float32))
        assert once["all", "mIoU"][0] == pytest.approx(found.metrics["mIoU"], nan_ok=True) or not ious


def test_what_is_unlabelled_does_not_count_where_nearly_all_is_labelled() -> None:
    full, holed = np.zeros((10, 10), dtype=int), np.zeros((10, 10), dtype=int)
    holed[0, :3] = -1
    for drawn, wanted in ((holed, "are not counted"), (full[:5], "background")):
        counter = PixelCounter(1)
        true = np.full((10, 10), -1)
        true[: len(drawn)] = drawn
        counter.add(0, (10, 10), _masks(true), _masks(full))
        found = evaluate_pixels(counter.counts(), Asked(["a"], 1))
        assert wanted in found.notes[0]
    assert found.metrics["mIoU"] == 0.5


def _masks(labels: np.ndarray) -> list[tuple[int, str]]:
    return [(int(label), encode_rle(labels == label)) for label in np.unique(labels[labels >= 0])]


@pytest.mark.parametrize("predicted", [[], [(1, np.ones((4, 4)))]])
def test_nothing_labelled_or_nothing_predicted(predicted: Sequence[tuple[int, np.ndarray]]) -> None:
    counter = PixelCounter(2)
    counter.add(0, (4, 4), [(0, encode_rle(np.eye(4)))], [(label, encode_rle(mask)) for label, mask in predicted])
    found = evaluate_pixels(counter.counts(), Asked(["a", "b"], 1, unlabelled="background"))
    assert found.metrics["mIoU"] == 0.0
    assert found.hard.score.tolist() == [1.0]
    assert len(found.hard.evidence[0]["classes"]) == 1 + len(predicted)
