"""Masks that are made worse for a trial, and what is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.mistakes.masks.errors import mask_errors
from curate.checks.mistakes.masks.rehearsal import Rehearsed, both, rehearse, worse_than_usual
from curate.checks.mistakes.masks.scene import (
    Item,
    Objects,
    Regions,
    Scene,
    compare_maps,
    joined_objects,
    joined_regions,
    rows,
)
from curate.checks.mistakes.masks.shapes import crop
from curate.geometry import encode_rle

SIZE = (64, 96)
Mask = npt.NDArray[np.bool_]


def disc(x: float, y: float, radius: float) -> Mask:
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray((across - x) ** 2 + (down - y) ** 2 <= radius**2)


def items(masks: Sequence[Mask]) -> list[Item]:
    found = []
    for number, mask in enumerate(masks):
        window = crop(encode_rle(mask), mask.shape)
        assert window is not None
        found.append(Item(number, 0, window, 0.9))
    return found


def scene(truth: Sequence[Mask], seen: Sequence[Mask]) -> Scene:
    return compare_maps(items(truth), items([np.any(seen, axis=0)]), SIZE, split=False)


def a_set(count: int, bad: int) -> tuple[Objects, Regions, Rehearsed]:
    """One object on each image, seen with a wavering outline; of the first few a third is labelled."""
    random = np.random.default_rng(0)
    found, trials = [], []
    for image in range(count):
        x, y, radius = random.uniform(30, 60), random.uniform(25, 40), random.uniform(8, 14)
        true, seen = (
            disc(x, y, radius),
            disc(x + random.normal(0, 0.6), y + random.normal(0, 0.6), radius * random.uniform(0.93, 1.07)),
        )
        labelled = true & (np.arange(SIZE[1]) < x - radius / 4) if image < bad else true
        one = scene([labelled], [seen])
        found.append(rows(one, image))
        trials += rehearse(one, image, SIZE, count, is_map=True)
    return joined_objects([a for a, _ in found]), joined_regions([b for _, b in found]), Rehearsed.joined(trials)


def test_masks_are_made_smaller_larger_and_moved() -> None:
    one = scene([disc(48, 32, 10)], [disc(48, 32, 10)])
    tried = [each for seed in range(20) for each in rehearse(one, 7, SIZE, 1, is_map=True, seed=seed)]
    assert len(tried) == 20
    area = disc(48, 32, 10).sum()
    for trial in tried:
        for name, least, most in (("smaller", 0.25, 0.8), ("larger", 1.25, 2.7), ("moved", 0.79, 1.01)):
            worse: Objects = getattr(trial, name)
            assert len(worse) == 1
            assert worse.image[0] == 7
            assert least * area <= worse.area[0] <= most * area
        assert trial.smaller.agree[0] == 1  # what is left is still seen so
        assert trial.larger.precise[0] == 1
        assert trial.moved.agree[0] < 0.8


def test_of_many_masks_some_are_tried_and_the_same_ones_again() -> None:
    one = scene([disc(30, 32, 8), disc(70, 32, 8)], [disc(30, 32, 8), disc(70, 32, 8)])
    counts = [len(rehearse(one, image, SIZE, 4000, is_map=True)) for image in range(100)]
    assert 5 < sum(counts) < 40  # a tenth of 200
    assert counts == [len(rehearse(one, image, SIZE, 4000, is_map=True)) for image in range(100)]
    assert not rehearse(Scene((), (), np.zeros((0, 0)), np.zeros(0), np.zeros(0)), 0, SIZE, 10, is_map=True)


def test_masks_that_lack_a_part_are_like_those_that_were_made_worse() -> None:
    objects, regions, trials = a_set(120, bad=4)
    worse = worse_than_usual(objects, trials, 1)
    assert worse.shape == (120,)
    assert set(np.argsort(-worse)[:4]) == {0, 1, 2, 3}
    assert worse[4:].max() < 0.3
    alone = mask_errors(objects, regions, 1)
    heard = mask_errors(objects, regions, 1, worse=worse)
    assert {(kind, row) for kind, row in zip(heard.kind[:4], heard.annotation[:4], strict=True)} == {
        ("bad_mask", row) for row in range(4)
    }
    assert len(np.unique(heard.annotation[heard.annotation >= 0])) == (heard.annotation >= 0).sum()
    assert set(alone.annotation[:4]) == {0, 1, 2, 3}


def test_nothing_is_learnt_where_there_is_nothing() -> None:
    objects, _, trials = a_set(4, bad=0)
    np.testing.assert_array_equal(worse_than_usual(objects, trials, 1), 0)
    none = joined_objects([])
    assert len(worse_than_usual(none, Rehearsed.joined([]), 1)) == 0
    unlabelled = objects.take(np.arange(4))
    unlabelled = Objects(
        **{each.name: getattr(unlabelled, each.name) for each in fields(Objects)} | {"label": np.full(4, -1)}
    )
    assert np.isnan(worse_than_usual(unlabelled, trials, 1)).all()


def test_two_opinions_meet_in_the_middle_of_their_log_odds() -> None:
    found = both(np.array([0.5, 0.9, 0.2, 0.0]), np.array([0.5, 0.1, np.nan, 0.0]))
    assert found == pytest.approx([0.5, 0.5, 0.2, 0.001])
