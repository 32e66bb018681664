from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.checks.boxes import Boxes
from curate.checks.mistakes.detection import detection_errors
from curate.checks.mistakes.tables import Suspects, image_scores
from curate.errors import InputError

IMAGES, PER_IMAGE, CLASSES = 150, 6, 4
SIZES = np.tile([600.0, 400.0], (IMAGES, 1))


def clean_truth(images: int = IMAGES, seed: int = 0) -> Boxes:
    """Six boxes an image on a grid, so that nothing overlaps."""
    rng = np.random.default_rng(seed)
    cell = np.tile(np.arange(PER_IMAGE), images)
    extent = rng.uniform(40, 120, (len(cell), 2))
    corner = np.stack([200.0 * (cell % 3), 200.0 * (cell // 3)], axis=1) + rng.uniform(20, 60, (len(cell), 2))
    return Boxes(
        np.repeat(np.arange(images), PER_IMAGE),
        np.concatenate([corner, extent], axis=1),
        rng.integers(0, CLASSES, len(cell)),
    )


def detector(truth: Boxes, seed: int = 1, found: float = 0.97) -> Boxes:
    """Finds nearly all with high confidence and good boxes; false positives are unsure."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(len(truth)) < found)
    bbox = truth.bbox[rows] + rng.normal(0, 0.03, (len(rows), 4)) * np.tile(truth.bbox[rows, 2:], 2)
    false = rng.integers(0, len(truth), len(truth) // 8)
    return Boxes(
        np.concatenate([truth.image[rows], truth.image[false]]),
        np.concatenate([bbox, truth.bbox[false] + [rng.uniform(-200, 200), 90, 0, 0]]),
        np.concatenate([truth.label[rows], rng.integers(0, CLASSES, len(false))]),
        np.concatenate([rng.beta(12, 2, len(rows)), rng.beta(2, 8, len(false))]),
    )


def only(found: Suspects, annotation: int) -> Suspects:
    return found.take(found.annotation == annotation)


@pytest.fixture(scope="module")
def planted() -> tuple[Boxes, Boxes, dict[str, np.ndarray]]:
    """Ground truth with 20 errors of each kind, the predictions, and where the errors are."""
    clean = clean_truth()
    predictions = detector(clean)
    rng = np.random.default_rng(2)
    swapped, moved, deleted = rng.permutation(len(clean))[:60].reshape(3, 20)
    label, bbox = clean.label.copy(), clean.bbox.copy()
    label[swapped] = (label[swapped] + 1) % CLASSES
    steps = rng.uniform(0.15, 0.45, (20, 2)) * rng.choice([-1.0, 1.0], (20, 2))
    bbox[moved, :2] += steps * bbox[moved, 2:]
    keep = np.setdiff1d(np.arange(len(clean)), deleted)
    # Between the cells, where nothing is.
    added = np.tile([182.0, 120.0, 0.0, 0.0], (20, 1)) + rng.uniform([0, 0, 20, 60], [2, 40, 34, 200], (20, 4))
    truth = Boxes(
        np.concatenate([clean.image[keep], rng.choice(IMAGES, 20, replace=False)]),
        np.concatenate([bbox[keep], added]),
        np.concatenate([label[keep], rng.integers(0, CLASSES, 20)]),
    )
    wrong = {
        "mislabeled": np.searchsorted(keep, swapped),
        "mislocated": np.searchsorted(keep, moved),
        "spurious": np.arange(len(keep), len(truth)),
        "deleted": deleted,
        "moved from": clean.bbox[moved],
    }
    return truth, predictions, wrong


def test_finds_each_planted_kind_first(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, wrong = planted
    found = detection_errors(truth, [predictions], sizes=SIZES)
    for kind, share in (("mislabeled", 0.9), ("mislocated", 0.9)):
        first = found.of_kind(kind).annotation[:20]
        assert np.isin(first, wrong[kind]).mean() >= share, kind
    # Nothing tells an added box from the 27 or so that the detector overlooked; all of these come before the others.
    assert np.isin(wrong["spurious"], found.of_kind("spurious").annotation[:55]).mean() >= 0.85
    missing = found.of_kind("missing").take(np.arange(20))
    clean = clean_truth()
    deleted = wrong["deleted"]
    right = [
        np.abs(clean.bbox[deleted[clean.image[deleted] == image]] - box).max(axis=1, initial=0).min(initial=1e9) < 40
        for image, box in zip(missing.image, missing.bbox, strict=True)
    ]
    assert np.mean(right) >= 0.85


def test_the_suggestions_are_the_truth(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, wrong = planted
    found = detection_errors(truth, [predictions], sizes=SIZES)
    swapped = found.of_kind("mislabeled").take(np.arange(10))
    assert (swapped.label == (truth.label[swapped.annotation] - 1) % CLASSES).all()
    moved = found.of_kind("mislocated").take(np.arange(10))
    right = dict(zip(wrong["mislocated"].tolist(), wrong["moved from"], strict=True))
    for annotation, suggested in zip(moved.annotation.tolist(), moved.bbox, strict=True):
        assert (np.abs(suggested - right[annotation]) < 0.15 * right[annotation][[2, 3, 2, 3]]).all()


def test_one_object_gives_one_suspect(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, _ = planted
    found = detection_errors(truth, [predictions], sizes=SIZES, min_score=0.0)
    for column in (found.annotation, found.prediction):
        named = column[column >= 0]
        assert len(np.unique(named)) == len(named)


def test_a_suspect_says_how_probable_each_kind_is(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, wrong = planted
    found = detection_errors(truth, [predictions], sizes=SIZES)
    kinds = ("mislabeled", "mislocated", "spurious")
    boxes = found.take(found.annotation >= 0)
    each = np.stack([boxes.evidence[f"p_{kind}"] for kind in kinds], axis=1)
    np.testing.assert_array_equal(each.max(axis=1), boxes.score)
    assert (np.array(kinds)[each.argmax(axis=1)] == boxes.kind).all()
    assert each.sum(axis=1).max() < 1.0
    for column, kind in zip(each.T, kinds, strict=True):
        is_wrong = np.isin(boxes.annotation, wrong[kind])
        assert column[is_wrong].mean() > 1.5 * column[~is_wrong].mean(), kind
    assert np.isnan(found.take(found.annotation < 0).evidence["p_spurious"]).all()


def test_scores_are_probabilities_about_right(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, _ = planted
    found = detection_errors(truth, [predictions], sizes=SIZES)
    assert ((found.score >= 0.01) & (found.score <= 1)).all()
    assert (np.diff(found.score) <= 0).all()
    for kind in ("mislabeled", "missing", "mislocated"):
        assert 10 <= found.of_kind(kind).score.sum() <= 30, kind


def test_clean_data_gives_few_confident_suspects() -> None:
    clean = clean_truth()
    found = detection_errors(clean, [detector(clean)], sizes=SIZES)
    assert (found.score > 0.5).sum() <= 0.01 * len(clean)


def test_the_same_twice_and_in_any_order(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, _ = planted
    first = detection_errors(truth, [predictions], sizes=SIZES)
    again = detection_errors(truth, [predictions], sizes=SIZES)
    assert np.array_equal(first.score, again.score)
    order = np.random.default_rng(3).permutation(len(predictions))
    mixed = detection_errors(truth, [predictions.take(order)], sizes=SIZES)
    assert mixed.score == pytest.approx(first.score, abs=1e-3)


def test_a_detector_that_misses_half_accuses_no_box() -> None:
    clean = clean_truth()
    found = detection_errors(clean, [detector(clean, found=0.5)], sizes=SIZES).of_kind("spurious")
    assert found.score.max(initial=0.0) < 0.3


def test_a_class_that_the_detector_never_names_is_not_its_business() -> None:
    clean = clean_truth()
    predictions = detector(clean)
    predictions = predictions.take(predictions.label != 3)
    found = detection_errors(clean, [predictions], sizes=SIZES)
    assert not (clean.label[found.of_kind("spurious").annotation] == 3).any()


def test_classes_unknown_to_the_ground_truth_are_never_suggested() -> None:
    clean = clean_truth()
    predictions = detector(clean)
    foreign = replace(predictions, label=np.where(predictions.label == 2, 77, predictions.label))
    found = detection_errors(clean, [foreign], sizes=SIZES, min_score=0.0)
    assert not (found.label == 77).any()


def test_boxes_without_a_class_are_neither_accused_nor_copied() -> None:
    clean = clean_truth()
    predictions = detector(clean)
    truth = replace(clean, label=np.where(np.arange(len(clean)) % 10 == 0, -1, clean.label))
    nameless = replace(predictions, label=np.where(np.arange(len(predictions)) % 7 == 0, -1, predictions.label))
    found = detection_errors(truth, [nameless], sizes=SIZES, min_score=0.0)
    accused = found.take(found.annotation >= 0)
    assert not (
        (truth.label[accused.annotation] == -1)
        & np.isin(accused.kind, ["mislabeled", "spurious"])
        & (accused.score > 0)
    ).any()
    assert (found.of_kind("missing").label >= 0).all()
    assert (found.of_kind("mislabeled").take(found.of_kind("mislabeled").score > 0).label >= 0).all()


def test_images_that_were_not_looked_at_are_left_alone(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, _ = planted
    seen = np.arange(0, IMAGES, 2)
    partial = replace(predictions.take(np.isin(predictions.image, seen)), covered=seen)
    found = detection_errors(truth, [partial], sizes=SIZES)
    assert len(found)
    assert np.isin(found.image, seen).all()
    labelled = replace(truth.take(np.isin(truth.image, seen)), covered=seen)
    assert np.isin(detection_errors(labelled, [predictions], sizes=SIZES).image, seen).all()


def test_nothing_is_missing_inside_a_crowd_region() -> None:
    clean = clean_truth()
    predictions = detector(clean)
    # One region stands for everything on image 0.
    truth = clean.take(clean.image != 0)
    region = Boxes(
        np.append(truth.image, 0),
        np.append(truth.bbox, [[0.0, 0.0, 600.0, 400.0]], axis=0),
        np.append(truth.label, 0),
        crowd=np.append(np.zeros(len(truth), dtype=bool), True),
    )
    found = detection_errors(region, [predictions], sizes=SIZES, min_score=0.0)
    assert not (found.image == 0).any()
    assert (detection_errors(truth, [predictions], sizes=SIZES).of_kind("missing").image == 0).any()


def test_several_detectors_that_agree_say_more(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, wrong = planted
    clean = clean_truth()
    layers = [predictions, detector(clean, seed=5), detector(clean, seed=6)]
    found = detection_errors(truth, layers, sizes=SIZES)
    assert np.isin(found.of_kind("spurious").annotation[:20], wrong["spurious"]).mean() >= 0.85
    assert np.isin(found.of_kind("mislocated").annotation[:20], wrong["mislocated"]).mean() >= 0.95
    assert found.prediction.max() < sum(map(len, layers))


def test_two_classes_on_one_prediction_box_are_one_object() -> None:
    clean = clean_truth()
    predictions = detector(clean)
    assert predictions.score is not None
    second = replace(predictions, label=(predictions.label + 1) % CLASSES, score=predictions.score * 0.3)
    both = Boxes(
        np.concatenate([predictions.image, second.image]),
        np.concatenate([predictions.bbox, second.bbox]),
        np.concatenate([predictions.label, second.label]),
        np.concatenate([predictions.score, predictions.score * 0.3]),
    )
    found = detection_errors(clean, [both], sizes=SIZES, min_score=0.0)
    assert (found.prediction < len(predictions)).all()


def test_probabilities_are_used_where_given(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, wrong = planted
    probabilities = np.full((len(predictions), CLASSES), 0.02, dtype=np.float32)
    probabilities[np.arange(len(predictions)), predictions.label] = 0.94
    found = detection_errors(truth, [replace(predictions, probabilities=probabilities)], sizes=SIZES).of_kind(
        "mislabeled"
    )
    assert np.isin(found.annotation[:18], wrong["mislabeled"]).all()
    assert found.evidence["class_share"][0] == pytest.approx(0.94, abs=1e-3)


EMPTY = Boxes(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))


@pytest.mark.parametrize("sizes", [None, SIZES, np.full_like(SIZES, np.nan), np.zeros_like(SIZES)])
def test_empty_sides(sizes: np.ndarray | None) -> None:
    clean = clean_truth()
    nothing = replace(EMPTY, score=None)
    assert len(detection_errors(nothing, [detector(clean)], sizes=sizes)) == 0
    assert len(detection_errors(clean, [EMPTY], sizes=sizes)) == 0
    assert len(detection_errors(clean, [], sizes=sizes)) == 0
    assert len(detection_errors(nothing, [EMPTY], sizes=sizes)) == 0
    assert len(detection_errors(clean, [detector(clean)], sizes=sizes))
    some = detection_errors(nothing, [detector(clean)], sizes=sizes, classes=np.arange(CLASSES))
    assert set(some.kind) <= {"missing"}


def test_one_class_one_image_equal_scores_and_degenerate_boxes() -> None:
    clean = clean_truth(images=1)
    truth = replace(clean, label=np.zeros(len(clean), dtype=np.int64))
    truth.bbox[0] = [np.nan, 0, 0, 0]
    truth.bbox[1, 2] = 0.0
    predictions = replace(truth, score=np.full(len(truth), 0.5))
    found = detection_errors(truth, [predictions], sizes=SIZES[:1])
    assert not np.isin(found.annotation, [0, 1]).any()
    assert np.isfinite(found.score).all()


def test_predictions_without_proper_confidence_are_refused() -> None:
    clean = clean_truth()
    with pytest.raises(InputError, match="confidence"):
        detection_errors(clean, [clean])
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        detection_errors(clean, [replace(clean, score=np.full(len(clean), 37.0))])
    with pytest.raises(InputError, match="sizes for 10 images"):
        detection_errors(clean, [detector(clean)], sizes=SIZES[:10])


def test_image_scores_are_the_chance_of_any_error(planted: tuple[Boxes, Boxes, dict[str, np.ndarray]]) -> None:
    truth, predictions, _ = planted
    found = detection_errors(truth, [predictions], sizes=SIZES)
    scores = image_scores(found, IMAGES)
    assert scores.shape == (IMAGES,)
    image = int(found.image[0])
    assert scores[image] == pytest.approx(1 - np.prod(1 - np.clip(found.score[found.image == image], 0, 1 - 1e-12)))
    assert scores[np.setdiff1d(np.arange(IMAGES), found.image)].max(initial=0.0) == 0.0


def test_another_order_or_numbering_of_boxes_and_classes_changes_little(
    planted: tuple[Boxes, Boxes, dict[str, np.ndarray]],
) -> None:
    truth, predictions, _ = planted
    order = np.random.default_rng(5).permutation(len(truth))
    first = detection_errors(truth, [predictions], sizes=SIZES)
    mixed = detection_errors(truth.take(order), [predictions], sizes=SIZES)
    assert mixed.score == pytest.approx(first.score, abs=1e-6)
    assert sorted(order[mixed.annotation[mixed.annotation >= 0]]) == sorted(first.annotation[first.annotation >= 0])
    names = np.array([30, 10, 20, 0])
    renamed = [replace(each, label=names[each.label]) for each in (truth, predictions)]
    other = detection_errors(renamed[0], renamed[1:], sizes=SIZES)
    for kind in ("mislabeled", "mislocated", "missing"):
        before, after = (set(each.of_kind(kind).annotation[:15].tolist()) for each in (first, other))
        assert len(before & after) >= 0.8 * len(before), kind
