"""Rehearsed errors are what they are called, and what is seen of them is what the detections say."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.boxes import Boxes
from curate.checks.mistakes import rehearsal
from curate.checks.mistakes.clues import read_clues
from curate.checks.mistakes.ensemble import fuse
from curate.checks.mistakes.habits import Habits, learn_habits
from curate.checks.mistakes.rehearsal import rehearse
from curate.checks.mistakes.scene import Scene

IMAGES, CLASSES = 60, 3
SIZES = np.tile([400.0, 300.0], (IMAGES, 1))
HAS, SAME, CONFIDENCE, IOU = 0, 1, 2, 3


def made(certain: bool = True) -> tuple[Boxes, Boxes]:
    """Four boxes an image in its quarters, and a detector that finds them all."""
    rng = np.random.default_rng(0)
    cell = np.tile(np.arange(4), IMAGES)
    corner = np.stack([200.0 * (cell % 2), 150.0 * (cell // 2)], axis=1) + rng.uniform(10, 40, (len(cell), 2))
    label = rng.integers(0, CLASSES, len(cell))
    extent = rng.uniform(40, 60, (len(cell), 2)) * (1.0 + label[:, None]) / 2
    truth = Boxes(np.repeat(np.arange(IMAGES), 4), np.concatenate([corner, extent], axis=1), label)
    score = rng.uniform(0.8, 0.95, len(cell)) if certain else np.full(len(cell), 0.5)
    return truth, Boxes(truth.image, truth.bbox + rng.normal(0, 1.0, truth.bbox.shape), label, score)


def scene_of(truth: Boxes, predictions: Boxes, sizes: np.ndarray | None = SIZES) -> tuple[Scene, Habits]:
    scene = Scene.of(truth, fuse([predictions]), [predictions], np.unique(truth.label), sizes)
    return scene, learn_habits(scene)


@pytest.mark.parametrize("sizes", [SIZES, None])
def test_each_error_looks_like_one(sizes: np.ndarray | None) -> None:
    truth, predictions = made()
    scene, habits = scene_of(truth, predictions, sizes)
    clues = read_clues(scene, habits, scene.truth)
    examples = rehearse(scene, habits, clues)
    swapped, shifted, added = (examples[kind].raw for kind in ("mislabeled", "mislocated", "spurious"))
    assert (swapped[:, HAS] == 1).all()
    assert (swapped[:, SAME] == 0).all()
    assert (swapped[:, IOU] > 0.6).all()
    near = shifted[:, SAME] == 1
    assert near.mean() > 0.95
    assert shifted[near, IOU].mean() < 0.6
    assert added[:, HAS].mean() < 0.2
    assert len(examples["missing"]) > 300
    assert (clues.boxes.raw[:, SAME] == 1).all()


def test_nothing_that_was_rehearsed_stays() -> None:
    truth, predictions = made()
    before = [column.copy() for column in (truth.image, truth.bbox, truth.label)]
    scene, habits = scene_of(truth, predictions)
    rehearse(scene, habits, read_clues(scene, habits, scene.truth))
    for column, old in zip((truth.image, truth.bbox, truth.label), before, strict=True):
        assert np.array_equal(column, old)


def test_a_single_class_cannot_be_swapped() -> None:
    truth, predictions = made()
    one = Boxes(truth.image, truth.bbox, np.zeros_like(truth.label))
    scene, habits = scene_of(one, Boxes(one.image, predictions.bbox, one.label, predictions.score))
    assert set(rehearse(scene, habits, read_clues(scene, habits, scene.truth))) == {"mislocated", "spurious", "missing"}


def test_a_swapped_box_meets_its_rival() -> None:
    truth, predictions = made()
    label = truth.label.copy()
    label[7] = (label[7] + 1) % CLASSES
    scene, habits = scene_of(Boxes(truth.image, truth.bbox, label), predictions)
    clues = read_clues(scene, habits, scene.truth)
    wrong = np.flatnonzero(clues.rival >= 0)
    assert scene.truth_rows[wrong].tolist() == [7]
    assert scene.found.boxes.label[clues.rival[wrong]].tolist() == [truth.label[7]]


def test_the_shape_tells_for_the_class_that_is_usually_so() -> None:
    truth, predictions = made()
    _, habits = scene_of(truth, predictions)
    large = np.array([[0.0, 0.0, 75.0, 75.0]])
    small, big = np.array([0]), np.array([2])
    assert habits.shape_tells(large, small, big)[0] > 1.0
    assert habits.shape_tells(large, big, small)[0] < -1.0
    assert habits.shape_tells(large, big, big)[0] == 0.0


def test_some_images_of_a_scene_are_matched_as_in_the_whole() -> None:
    truth, predictions = made()
    scene, habits = scene_of(truth, predictions)
    whole = read_clues(scene, habits, scene.truth)
    part = scene.of_images(np.arange(IMAGES) % 3 == 1)
    clues = read_clues(part, habits, part.truth)
    rows = np.flatnonzero(np.isin(scene.truth_rows, part.truth_rows))
    assert part.n_images == IMAGES
    assert set(part.truth.image.tolist()) == set(range(1, IMAGES, 3))
    np.testing.assert_array_equal(clues.boxes.raw, whole.boxes.raw[rows])
    np.testing.assert_array_equal(clues.boxes.linear, whole.boxes.linear[rows])
    np.testing.assert_array_equal(
        part.found.prediction[clues.detection_of], scene.found.prediction[whole.detection_of[rows]]
    )
    np.testing.assert_array_equal(part.pairs.iou, scene.pairs.iou[np.isin(scene.pairs.first, rows)])
    np.testing.assert_array_equal(part.truth.bbox[part.pairs.first], scene.truth.bbox[rows][part.pairs.first])


def test_of_many_boxes_a_sample_of_the_images_is_spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = made()
    scene, habits = scene_of(truth, predictions)
    clues = read_clues(scene, habits, scene.truth)
    monkeypatch.setattr(rehearsal, "_ENOUGH_BOXES", 120)
    examples = rehearse(scene, habits, clues)
    images = set(np.concatenate([examples[kind].image for kind in rehearsal.ERRORS]).tolist())
    assert 15 < len(images) < 45
    assert len(examples["missing"]) > 150
    assert (examples["mislabeled"].raw[:, SAME] == 0).all()
