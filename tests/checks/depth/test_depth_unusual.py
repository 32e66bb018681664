"""What is usual for a class at a depth, and what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.checks.depth.hidden import may_be_hidden
from curate.checks.depth.unusual import Sized, _image_effects, unusual_distances, unusual_sizes

HEIGHTS = np.array([0.3, 0.1, 0.6])


def street(
    seed: int, images: int = 200, each: int = 5, *, lens: float = 0.0, slope: float = -1.0, wrong: float = 0.0
) -> tuple[Sized, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Objects of three classes, of which some are 2.5 times too large or small; with `lens`, images are off by a factor."""
    rng = np.random.default_rng(seed)
    count = images * each
    image, label = np.repeat(np.arange(images), each), rng.integers(0, 3, count)
    depth = np.exp(rng.uniform(np.log(4), np.log(50), count))
    size = HEIGHTS[label] * depth**slope * np.exp(rng.normal(0, 0.12, count) + rng.normal(0, lens, images)[image])
    bad = rng.random(count) < wrong
    size[bad] *= np.where(rng.random(bad.sum()) < 0.5, 2.5, 0.4)
    return Sized(size, size * 20_000, depth, label, image, image, np.zeros(count, np.bool_)), bad


def relative(objects: Sized) -> Sized:
    """The same with what a model of relative depth says: each image from 0 to 1, by nearness."""
    nearness = 1 / objects.depth
    low, high = (
        np.array([extreme(nearness[objects.image == k]) for k in np.unique(objects.image)])[objects.image]
        for extreme in (np.min, np.max)
    )
    low, high = 0.5 * low, 1.5 * high  # the ground goes on behind and before
    return replace(objects, depth=(high - nearness) / (high - low))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("metric", [True, False])
def test_nothing_is_flagged_where_nothing_is_wrong(seed: int, metric: bool) -> None:
    objects, _ = street(seed)
    found, trends = unusual_sizes(objects if metric else relative(objects), metric=metric)
    assert set(trends) == {0, 1, 2}
    assert (found.p_outlier >= 0.5).sum() <= (0 if metric else 3)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("lens", "found_at_least"), [(0.0, 0.95), (0.4, 0.75)])
def test_what_is_wrong_is_found(seed: int, lens: float, found_at_least: float) -> None:
    objects, bad = street(seed, lens=lens, wrong=0.03)
    flagged = unusual_sizes(objects, metric=True)[0].p_outlier >= 0.5
    assert flagged[bad].mean() >= found_at_least
    assert flagged[~bad].sum() <= 3


def test_other_objects_on_the_image_say_what_lens_it_was_taken_with() -> None:
    objects, bad = street(0, lens=0.4, wrong=0.03)
    alone = replace(objects, image=np.arange(len(bad)), group=np.arange(len(bad)))
    with_fellows, without = (unusual_sizes(each, metric=True)[0].p_outlier >= 0.5 for each in (objects, alone))
    assert with_fellows[bad].sum() > 2 * without[bad].sum()


@pytest.mark.parametrize("slope", [-0.7, -1.0, -1.3])
def test_the_trend_is_the_one_that_there_is(slope: float) -> None:
    objects, _ = street(3, slope=slope, wrong=0.05)
    _, trends = unusual_sizes(objects, metric=True)
    for number, trend in trends.items():
        x = np.log([5.0, 40.0])
        np.testing.assert_allclose(trend.at(x), np.log(HEIGHTS[number]) + slope * x, atol=0.1)
        assert trend.scatter == pytest.approx(0.12, abs=0.03)


def test_relative_depth_that_says_nothing_of_size_judges_nothing() -> None:
    objects, _ = street(0)
    rng = np.random.default_rng(0)
    shuffled = replace(objects, depth=rng.permutation(objects.depth))
    for each in (shuffled, replace(objects, depth=0 * objects.depth)):
        found, trends = unusual_sizes(each, metric=False)
        assert not trends
        assert np.isnan(found.deviation).all()
        assert (found.p_outlier == 0).all()


def test_few_objects_are_not_judged() -> None:
    objects, _ = street(0, images=9, each=2)
    assert unusual_sizes(objects, metric=True)[1] == {}
    none = objects.take(np.zeros(0, np.int64))
    assert unusual_sizes(none, metric=True)[1] == {}
    assert len(unusual_distances(none.depth, none.label, none.group).p_value) == 0


def test_small_boxes_are_not_drawn_to_a_part_of_a_pixel() -> None:
    objects, _ = street(0)
    size = objects.size.copy()
    size[7] *= 2
    coarse = objects.pixels.copy()
    coarse[7] = 1.5
    sharp, blunt = (
        unusual_sizes(replace(objects, size=size, pixels=pixels), metric=True)[0] for pixels in (objects.pixels, coarse)
    )
    assert sharp.deviation[7] > 3 > 1.5 > blunt.deviation[7] > 0


def test_what_is_where_its_class_never_is() -> None:
    objects, _ = street(0)
    depth = objects.depth.copy()
    depth[[3, 500]] = 900, 0.2
    found = unusual_distances(depth, objects.label, objects.group)
    assert set(np.flatnonzero(found.p_outlier >= 0.5)) == {3, 500}
    assert found.deviation[3] > 0 > found.deviation[500]
    assert (unusual_distances(objects.depth, objects.label, objects.group).p_outlier < 0.5).all()
    # A class that is always at one distance.
    same = np.full(len(depth), 5.0)
    assert (unusual_distances(same, objects.label, objects.group).p_outlier == 0).all()


def test_an_object_says_nothing_of_itself() -> None:
    rng = np.random.default_rng(0)
    image = rng.permutation(np.repeat(np.arange(60), np.arange(60) % 6 + 1))
    residual = rng.normal(0, 0.5, 60)[image] + rng.normal(0, 0.1, len(image))
    effect, widening = _image_effects(residual, image)
    others = [np.delete(residual[image == image[k]], (image[:k] == image[k]).sum()) for k in range(len(image))]
    few = np.array([len(each) < 2 for each in others])
    medians = np.array([0.0 if not len(each) else np.median(each) for each in others])
    assert (effect[few] == 0).all()
    weight = effect[~few] / medians[~few]
    assert ((weight > 0.8) & (weight < 1)).all()
    assert len(np.unique(weight.round(9))) == 4  # it depends on how many others there are, and on nothing else
    assert widening[few].min() > widening[~few].max() >= 1


def test_a_class_may_reach_far_and_begin_near() -> None:
    rng = np.random.default_rng(0)
    depth = 10 * np.exp(
        np.where(rng.random(900) < 0.5, -np.abs(rng.normal(0, 0.05, 900)), np.abs(rng.normal(0, 1, 900)))
    )
    depth[0] = 3.0
    other = 10 * np.exp(rng.normal(0, 1, 900))
    label = np.repeat([0, 1], 900)
    found = unusual_distances(np.concatenate([depth, other]), label, np.arange(1800))
    assert np.flatnonzero(found.p_outlier >= 0.5).tolist() == [0]


@pytest.mark.parametrize("metric", [True, False])
def test_what_is_not_behind_hides(metric: bool) -> None:
    bbox = np.array([[0, 0, 100, 100], [50, 0, 60, 100], [0, 80, 10, 10], [0, 0, 100, 100], [200, 0, 9, 9]], float)
    image = np.array([0, 0, 0, 1, 0])
    depth = np.array([0.5, 0.2, 0.5, 0.1, 0.1])
    np.testing.assert_array_equal(may_be_hidden(bbox, image, depth, metric=metric), [True, False, True, False, False])
    assert may_be_hidden(bbox[:0], image[:0], depth[:0], metric=metric).shape == (0,)


def test_what_may_be_hidden_is_not_too_small() -> None:
    objects, _ = street(0)
    size, hidden = objects.size.copy(), objects.hidden.copy()
    size[[3, 4]] *= 0.3
    size[500] *= 3
    hidden[[3, 500]] = True
    found, _ = unusual_sizes(replace(objects, size=size, hidden=hidden), metric=True)
    assert set(np.flatnonzero(found.p_outlier >= 0.5)) == {4, 500}
