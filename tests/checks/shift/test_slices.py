"""Slices on which a model fails, and how errors are counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.findings import Finding
from curate.checks.labels import Labels
from curate.checks.shift.performance import classifier_errors, detector_performance, label_errors
from curate.checks.shift.slices import ends, slice_errors
from curate.dataset.schema import ANNOTATIONS, IMAGES


def test_a_failing_slice_is_found() -> None:
    rng = np.random.default_rng(0)
    slices = rng.random((300, 30)) < 0.2
    errors = (rng.random(300) < np.where(slices[:, 4], 0.5, 0.1)).astype(float)
    tests = slice_errors(slices, errors, np.arange(300))
    assert [k for k, each in enumerate(tests) if each.fails] == [4]
    assert tests[4].error > 0.35 > 0.2 > tests[4].rest


def test_no_slice_fails_where_errors_are_anywhere() -> None:
    rng = np.random.default_rng(1)
    slices = rng.random((200, 40)) < 0.2
    alarms = [
        any(
            each.fails
            for each in slice_errors(
                slices, (rng.random(200) < 0.2).astype(float), np.arange(200), permutations=199, seed=seed
            )
        )
        for seed in range(60)
    ]
    assert np.mean(alarms) <= 0.15


def test_a_burst_of_errors_is_one_error() -> None:
    groups = np.concatenate([np.arange(100), np.full(30, 100)])
    inside = np.concatenate([np.arange(100) < 12, np.ones(30, dtype=bool)])
    errors = np.concatenate([np.zeros(100), np.ones(30)])
    (alone,), (together,) = (slice_errors(inside[:, None], errors, each) for each in (np.arange(130), groups))
    assert alone.fails
    assert not together.fails
    assert together.error == pytest.approx(1 / 13)


def test_unknown_errors_are_left_out() -> None:
    slices = np.arange(60)[:, None] < 30
    errors = np.where(np.arange(60) % 2, np.nan, (np.arange(60) < 30).astype(float))
    (test,) = slice_errors(slices, errors, np.arange(60))
    assert (test.error, test.rest, test.fails) == (1.0, 0.0, True)
    (unknown,) = slice_errors(slices, np.full(60, np.nan), np.arange(60))
    assert unknown.p_value == 1


def test_ends_of_axes() -> None:
    values = np.stack([np.arange(100.0), np.zeros(100)], axis=1)
    slices = ends(values)
    assert slices.sum(axis=0).tolist() == [10, 10, 0, 0]
    assert slices[:10, 0].all()
    assert slices[-10:, 1].all()


def labels(layer: str, rows: list[dict[str, object]]) -> Labels:
    """A layer on three images, classes 'a' and 'b'."""
    images = pa.Table.from_pylist(
        [{"image_id": str(k), "location": str(k), "width": 100, "height": 100} for k in range(3)], schema=IMAGES
    )
    full = [
        {"annotation_id": f"{layer}{k}", "layer": layer, "image_id": str(row["image"]), **row}
        for k, row in enumerate(rows)
    ]
    annotations = pa.Table.from_pylist(
        [{k: v for k, v in row.items() if k != "image"} for row in full], schema=ANNOTATIONS
    )
    image = np.array([int(str(row["image"])) for row in rows])
    return Labels(
        layer, images, annotations, image, ["a", "b"], np.array(["ab".index(str(row["label"])) for row in rows])
    )


def box(image: int, label: str, x: float, score: float | None = None) -> dict[str, object]:
    return {"image": image, "label": label, "type": "box", "bbox": [x, 0.0, 10.0, 10.0], "score": score}


def test_errors_and_average_precision_of_a_detector() -> None:
    truth = labels("ground_truth", [box(0, "a", 0), box(0, "b", 50), box(1, "a", 0), box(2, "b", 0)])
    model = labels(
        "predictions/m",
        [box(0, "a", 1, 0.9), box(0, "b", 50, 0.8), box(1, "b", 0, 0.7), box(2, "b", 1, 0.9)],
    )
    found = detector_performance(truth, model)
    assert found is not None
    np.testing.assert_allclose(found.errors, [0, 1, 0])
    assert found.average_precision(np.array([True, False, True])) == pytest.approx(1.0)
    assert found.average_precision(np.array([False, True, False])) == pytest.approx(0.0)
    assert found.average_precision(np.zeros(3, dtype=bool)) is None


def test_errors_of_a_classifier() -> None:
    given = labels("ground_truth", [{"image": k, "label": each, "type": "label"} for k, each in enumerate("aab")])
    seen = labels(
        "predictions/m", [{"image": k, "label": each, "type": "label", "score": 0.9} for k, each in enumerate("ab")]
    )
    errors = classifier_errors(given, seen)
    assert errors is not None
    np.testing.assert_array_equal(errors, [0, 1, np.nan])
    assert detector_performance(given, seen) is None


def test_errors_by_findings() -> None:
    wrong = Finding(kind="mislabeled", score=0.9, image="1", image_id="1", check="mistakes")
    doubtful = Finding(kind="missing", score=0.2, image="2", image_id="2", check="mistakes")
    rejected = Finding(kind="missing", score=0.9, image="0", image_id="0", check="mistakes", status="rejected")
    found = label_errors(["0", "1", "2"], [wrong, doubtful, rejected])
    assert found is not None
    assert found.tolist() == [0, 1, 0]
    assert label_errors(["0"], [doubtful]) is None
