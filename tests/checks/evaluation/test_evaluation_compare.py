"""Whether one model is better than another: intervals by a paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.evaluation.base import Asked, Evaluation, Key
from curate.checks.evaluation.bootstrap import draw, percentiles
from curate.checks.evaluation.classification import Guesses, evaluate_labels
from curate.checks.evaluation.compare import Difference, compare, simultaneous, verdict
from curate.checks.evaluation.detection import evaluate_objects
from curate.checks.evaluation.objects import Objects
from curate.checks.evaluation.overlaps import box_overlaps
from tests.checks.evaluation.coco_reference import objects


def classified(right: np.ndarray, classes: int = 2, slices: dict[str, np.ndarray] | None = None) -> Evaluation:
    """A classifier that is right where it is said to be."""
    truth = np.arange(len(right)) % classes
    label = np.where(right, truth, (truth + 1) % classes)
    names = [f"class {k}" for k in range(classes)]
    guesses = Guesses(truth, label, np.full(len(right), 0.9), None, np.arange(len(right)))
    return evaluate_labels(guesses, Asked(names, len(right), slices or {}))


def detected(truth: Objects, share: float, seed: int) -> Evaluation:
    """A detector that finds this share of what is there."""
    rng = np.random.default_rng(seed)
    found = truth.take(rng.random(len(truth)) < share)
    predicted = objects(
        found.image, found.label, found.bbox + rng.normal(0, 1, (len(found), 4)), score=rng.random(len(found))
    )
    asked = Asked(["a", "b"], 60, {"first half": np.arange(60) < 30})
    return evaluate_objects("detect", predicted, truth, box_overlaps(predicted, truth), asked, str, str)


def main(differences: list[Difference], name: str = "top1") -> Difference:
    return next(each for each in differences if each.part == "all" and each.name == name)


def test_the_same_model_cannot_be_told_from_itself() -> None:
    one = classified(np.random.default_rng(0).random(200) < 0.8)
    for each in compare(one, one, np.arange(200), resamples=200):
        assert each.verdict == "cannot tell"
        assert each.row()["difference"] == 0.0


def test_a_better_model_is_better_and_the_other_worse() -> None:
    rng = np.random.default_rng(1)
    good, poor = classified(rng.random(300) < 0.9), classified(rng.random(300) < 0.6)
    assert main(compare(good, poor, np.arange(300))).verdict == "better"
    assert main(compare(poor, good, np.arange(300))).verdict == "worse"
    told = main(compare(good, poor, np.arange(300)))
    assert told.low is not None
    assert told.high is not None
    assert told.low < (told.value or 0) - (told.other or 0) < told.high


def test_frames_of_few_videos_say_little() -> None:
    rng = np.random.default_rng(2)
    good, poor = rng.random(300) < 0.75, rng.random(300) < 0.65
    frames = np.repeat(np.arange(10), 30)
    alone = main(compare(classified(good), classified(poor), np.arange(300)))
    first, second = (classified(np.repeat(each[::30], 30)) for each in (good, poor))
    together = main(compare(first, second, frames))
    assert (together.high or 0) - (together.low or 0) > 2 * ((alone.high or 0) - (alone.low or 0))
    few = main(compare(classified(good), classified(~good), frames // 5))
    assert (few.verdict, few.low) == ("cannot tell", None)


def test_detectors_are_compared_per_class_and_slice() -> None:
    rng = np.random.default_rng(0)
    count = 240
    boxes = np.column_stack([rng.uniform(0, 400, (count, 2)), rng.uniform(20, 80, (count, 2))])
    truth = objects(rng.integers(0, 60, count), rng.integers(0, 2, count), boxes)
    found = compare(detected(truth, 0.9, 1), detected(truth, 0.4, 2), np.arange(60), resamples=300)
    assert [(each.part, each.name) for each in found] == [
        ("all", "AP"), ("all", "AP50"), ("all", "AP75"), ("class", "a"), ("class", "b"), ("slice", "first half"),
    ]  # fmt: skip
    assert {each.verdict for each in found} == {"better"}
    assert [each.corrected for each in found] == [False] * 3 + [True] * 3
    again = compare(detected(truth, 0.9, 1), detected(truth, 0.4, 2), np.arange(60), resamples=300)
    assert found == again


def test_a_class_on_few_images_cannot_be_told() -> None:
    rng = np.random.default_rng(3)
    count = 100
    label = np.r_[np.zeros(97), np.ones(3)].astype(np.int64)
    boxes = np.column_stack([rng.uniform(0, 400, (count, 2)), rng.uniform(20, 80, (count, 2))])
    truth = objects(np.arange(count) % 50, label, boxes)
    asked = Asked(["a", "b"], 50)
    none = objects([], [], [], score=[])
    good, poor = (
        evaluate_objects("detect", each, truth, box_overlaps(each, truth), asked, str, str) for each in (truth, none)
    )
    told = {
        each.name: each.verdict for each in compare(good, poor, np.arange(50), resamples=200) if each.part == "class"
    }
    assert told == {"a": "better", "b": "cannot tell"}


def test_every_resample_has_as_many_groups_as_there_are() -> None:
    groups = np.array([3, 3, 1, 7, 7, 7])
    weights = np.concatenate(list(draw(groups, 50, 0)))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(weights, np.concatenate(list(draw(groups, 50, 0))))
    assert not np.array_equal(weights, np.concatenate(list(draw(groups, 50, 1))))


def test_intervals_hold_as_often_as_they_say() -> None:
    """Of 300 pairs of models whose accuracy differs by 0.1, about 95% of the intervals hold 0.1."""
    rng = np.random.default_rng(0)
    n, trials = 150, 300
    covered = 0
    for trial in range(trials):
        first = rng.random(n) < 0.8
        # Right on much the same images, as two models are.
        second = np.where(rng.random(n) < 0.5, first & (rng.random(n) < 0.7 / 0.8), rng.random(n) < 0.7)
        change = first.astype(float) - second
        weights = np.concatenate(list(draw(np.arange(n), 400, trial)))
        low, high = percentiles(weights @ change / n) or (0, 0)
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / trials <= 0.975


def test_simultaneous_intervals_rarely_find_what_is_not_there() -> None:
    """Of 200 families of 20 classes without a difference, about 5% have one, where single intervals would find it in 64%."""
    rng = np.random.default_rng(1)
    n, trials, wrong, alone = 60, 200, 0, 0
    for trial in range(trials):
        change = rng.normal(size=(n, 20))
        weights = np.concatenate(list(draw(np.arange(n), 400, trial)))
        draws: dict[Key, np.ndarray] = {("class", str(k)): values for k, values in enumerate((weights @ change / n).T)}
        estimates = {key: float(change[:, int(key[1])].mean()) for key in draws}
        wrong += any(verdict(each) != "cannot tell" for each in simultaneous(estimates, draws).values())
        alone += any(verdict(percentiles(each)) != "cannot tell" for each in draws.values())
    assert wrong / trials <= 0.11
    assert alone / trials > 0.4


@pytest.mark.parametrize(
    ("interval", "says"), [((0.1, 0.2), "better"), ((-0.2, -0.1), "worse"), ((-0.1, 0.2), "cannot tell")]
)
def test_verdicts(interval: tuple[float, float], says: str) -> None:
    assert verdict(interval) == says
