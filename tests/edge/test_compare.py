"""The test of two packages is right as often as it says, however often one looks, and finds what is there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.edge.runtime.compare import Comparison
from curate.edge.runtime.likeness import likeness
from curate.errors import UsageError
from curate.runner import VOID, Result


def differences(first: float, second: float, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Of two classifiers that are right so often, independently."""
    right = [(rng.random(count) < part).astype(np.int64) for part in (first, second)]
    return np.asarray(right[0] - right[1])


def looked_at_always(values: npt.NDArray[np.int64]) -> str | None:
    """What is called better by somebody who looks after every pair, and stops as soon as he may."""
    comparison = Comparison(0.1)
    for value in values.tolist():
        comparison.add(value)
        if comparison.better is not None:
            return comparison.better
    return None


def test_alike_packages_are_seldom_told_apart_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)

    told = [looked_at_always(differences(0.8, 0.8, 100, rng)) for _ in range(60)]

    assert sum(each is not None for each in told) <= 6  # a tenth, at most


def test_what_differs_is_found_and_the_right_one() -> None:
    rng = np.random.default_rng(1)

    told = [looked_at_always(differences(0.75, 0.9, 400, rng)) for _ in range(20)]

    assert told.count("second") >= 18
    assert "first" not in told


def test_the_interval_holds_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(2)
    comparison = Comparison()
    widths = []
    for value in differences(0.9, 0.7, 600, rng).tolist():
        comparison.add(value)
        low, high = comparison.interval
        assert low <= 0.2 <= high
        widths.append(high - low)

    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.15
    assert comparison.better == "first"


def test_pairs_that_agree_prove_nothing() -> None:
    comparison = Comparison()
    for _ in range(200):
        comparison.add(0.0)

    assert comparison.better is None
    assert comparison.to_json()["mean_difference"] == 0.0


def test_no_pairs_know_nothing() -> None:
    assert Comparison().interval == (-1.0, 1.0)
    assert Comparison().mean is None


def test_what_is_no_difference_is_refused() -> None:
    with pytest.raises(UsageError, match="not in"):
        Comparison().add(1.5)
    with pytest.raises(UsageError, match="probability"):
        Comparison(0.0)


def boxes(*rows: tuple[float, float, float, float], labels: tuple[int, ...] = (), scores: float = 1.0) -> Result:
    count = len(rows)
    return Result(
        "detect",
        (100, 100),
        boxes=np.array(rows, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels or (0,) * count, dtype=np.int64),
        scores=np.full(count, scores),
    )


def test_likeness_of_boxes_is_f1() -> None:
    one, far = (10.0, 10.0, 20.0, 20.0), (60.0, 60.0, 20.0, 20.0)

    assert likeness(boxes(one, far), boxes(one, far)) == 1.0
    assert likeness(boxes(one), boxes(one, far)) == pytest.approx(2 / 3)
    assert likeness(boxes(one), boxes(far)) == 0.0
    assert likeness(boxes(one), boxes(one, labels=(1,))) == 0.0
    assert likeness(boxes(one, one), boxes(one)) == pytest.approx(2 / 3)  # one thing is found once
    assert likeness(boxes(), boxes()) == 1.0
    assert likeness(boxes(), boxes(one)) == 0.0


def test_likeness_of_classes_and_maps() -> None:
    def said(*probabilities: float) -> Result:
        return Result("classify", (9, 9), probabilities=np.array(probabilities, dtype=np.float32))

    assert likeness(said(0.6, 0.4), said(0.9, 0.1)) == 1.0
    assert likeness(said(0.6, 0.4), said(0.1, 0.9)) == 0.0

    def drawn(*values: int) -> Result:
        return Result("segment", (1, 4), class_map=np.array([values], np.int16), confidence=np.ones((1, 4), np.float32))

    assert likeness(drawn(VOID, 0, 0, 1), drawn(VOID, 0, 0, 1)) == 1.0
    assert likeness(drawn(VOID, 0, 0, 1), drawn(VOID, 0, 1, 1)) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert likeness(drawn(VOID, VOID, VOID, VOID), drawn(VOID, VOID, VOID, VOID)) == 1.0
