"""Masks against those that a model predicts: what is compared, and what is thought of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.mistakes.masks.errors import mask_errors
from curate.checks.mistakes.masks.scene import (
    Item,
    Objects,
    Regions,
    Scene,
    compare_instances,
    compare_maps,
    difference,
    joined_objects,
    joined_regions,
    rows,
)
from curate.checks.mistakes.masks.shapes import Window, crop, tight
from curate.checks.mistakes.tables import Suspects
from curate.geometry import encode_rle

SIZE = (64, 96)
Mask = npt.NDArray[np.bool_]
Labelled = tuple[int, Mask]
"""Class and mask."""


def disc(x: float, y: float, radius: float) -> Mask:
    down, across = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray((across - x) ** 2 + (down - y) ** 2 <= radius**2)


def window(mask: Mask) -> Window:
    found = crop(encode_rle(mask), mask.shape)
    assert found is not None
    return found


def items(masks: Sequence[Labelled], score: float = 0.9) -> list[Item]:
    return [Item(k, label, window(mask), score) for k, (label, mask) in enumerate(masks) if mask.any()]


def class_map(masks: Sequence[Labelled]) -> list[Labelled]:
    """One mask for each class, as a predictions layer has them."""
    return [(k, np.any([mask for label, mask in masks if label == k], axis=0)) for k in sorted({k for k, _ in masks})]


def compared(truth: Sequence[Labelled], found: Sequence[Labelled], *, split: bool = False) -> Scene:
    return compare_maps(items(truth), items(class_map(found)), SIZE, split=split)


def collected(scenes: Sequence[Scene]) -> tuple[Objects, Regions]:
    pairs = [rows(scene, number) for number, scene in enumerate(scenes)]
    return joined_objects([pair[0] for pair in pairs]), joined_regions([pair[1] for pair in pairs])


def wobbly(mask: Mask, random: np.random.Generator) -> Mask:
    """As a model draws it: its border pixels are off here and there."""
    moved = np.stack([np.roll(mask, step, axis) for axis in (0, 1) for step in (-1, 1)])
    border, near = mask & ~moved.all(axis=0), ~mask & moved.any(axis=0)
    flip = random.random(mask.shape)
    return np.asarray((mask & ~(border & (flip < 0.2))) | (near & (flip < 0.2)))


def a_set(count: int, seed: int = 0) -> tuple[list[list[Labelled]], list[list[Labelled]]]:
    """Two objects on each image, and what a good model says of them."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        both = [(int(random.integers(2)), disc(x + random.uniform(-5, 5), 32, random.uniform(8, 14))) for x in (24, 72)]
        truth.append(both)
        found.append([(label, wobbly(mask, random)) for label, mask in both])
    return truth, found


def judged(
    truth: Sequence[Sequence[Labelled]], found: Sequence[Sequence[Labelled]]
) -> tuple[Suspects, Objects, Regions]:
    objects, regions = collected([compared(a, b) for a, b in zip(truth, found, strict=True)])
    return mask_errors(objects, regions, 2), objects, regions


def test_what_agrees_is_not_suspected() -> None:
    truth, found = a_set(80)
    suspects, _, _ = judged(truth, found)
    assert (suspects.score < 0.3).all()
    perfect, _, _ = judged(truth, truth)
    assert (perfect.score < 0.1).all()


def test_each_kind_of_error_comes_first() -> None:
    truth, found = a_set(150)
    label, mask = truth[3][0]
    truth[3][0] = (1 - label, mask)  # another class
    truth[10] = truth[10][1:]  # forgotten
    label, mask = truth[20][1]
    truth[20][1] = (label, mask & (np.arange(SIZE[1]) < 72))  # half of it
    label, mask = truth[30][0]
    truth[30][0] = (label, np.roll(mask, 10, axis=1))  # beside it
    truth[40] = [*truth[40], (0, disc(48, 10, 8))]  # nothing there
    suspects, objects, regions = judged(truth, found)
    first = {(str(kind), int(image)) for kind, image in zip(suspects.kind[:5], suspects.image[:5], strict=True)}
    assert first == {("mislabeled", 3), ("missing", 10), ("bad_mask", 20), ("bad_mask", 30), ("spurious", 40)}
    assert (suspects.score[:4] > 0.5).all()
    assert suspects.kind[4] == "spurious"  # that a model overlooks a thing is never out of the question
    assert suspects.score[4] > 0.3
    assert (suspects.score[5:] < 0.3).all()
    by_image = {int(image): row for row, image in enumerate(suspects.image[:5])}
    assert suspects.label[by_image[3]] == label_of(objects, suspects, by_image[3])
    assert suspects.prediction[by_image[10]] >= 0
    assert regions.matched[suspects.prediction[by_image[10]]] == 0
    assert "leaves out" in suspects.reason[by_image[20]]
    assert "beside" in suspects.reason[by_image[30]]


def label_of(objects: Objects, suspects: Suspects, row: int) -> int:
    """The other class."""
    return 1 - int(objects.label[suspects.annotation[row]])


def test_a_thin_thing_that_is_moved_off_itself_is_one_bad_mask() -> None:
    truth, found = a_set(60)
    for number in range(60):
        line = np.zeros(SIZE, dtype=bool)
        line[54:56, 30:60] = True
        truth[number].append((0, np.roll(line, 4, axis=0) if number == 5 else line))
        found[number].append((0, line))
    suspects, _, _ = judged(truth, found)
    own = [
        (str(kind), round(float(score), 1))
        for kind, score, image in zip(suspects.kind, suspects.score, suspects.image, strict=True)
        if image == 5 and score > 0.3
    ]
    assert [kind for kind, _ in own] == ["bad_mask"]


def test_objects_that_touch_share_a_region() -> None:
    left, right = disc(36, 32, 12), disc(60, 32, 12)
    objects, regions = rows(compared([(0, left), (0, right)], [(0, left | right)]), 0)
    assert len(regions) == 1
    assert objects.agree.tolist() == [1, 1]
    assert objects.precise.tolist() == [1, 1]


def test_of_masks_on_one_another_the_smaller_is_seen() -> None:
    part, scratch = disc(48, 32, 20), disc(48, 32, 4)
    objects, regions = rows(compared([(0, part), (1, scratch)], [(0, part & ~scratch), (1, scratch)]), 0)
    assert objects.agree.tolist() == [1, 1]
    assert objects.area.tolist() == [part.sum() - scratch.sum(), scratch.sum()]
    assert regions.matched.tolist() == [1, 1]


def test_a_region_on_something_else_is_missing_but_known_to_lie_on_it() -> None:
    part, scratch = disc(48, 32, 20), disc(48, 32, 4)
    objects, regions = rows(compared([(0, part)], [(0, part & ~scratch), (1, scratch)]), 0)
    assert regions.matched[regions.label == 1].tolist() == [0]
    assert regions.under[regions.label == 1].tolist() == objects.place.tolist()


def test_crowds_are_neither_judged_nor_missed() -> None:
    crowd, thing = disc(30, 32, 20), disc(80, 20, 8)
    truth = [Item(0, 0, window(crowd), crowd=True), Item(1, 0, window(thing))]
    found = items([(0, disc(30, 32, 10) | thing)])
    objects, regions = rows(compare_maps(truth, found, SIZE, split=False), 0)
    assert objects.row.tolist() == [1]
    assert (regions.matched == 1).all()
    assert len(regions) == 1
    one_by_one = [Item(k, 0, window(mask), 0.9) for k, mask in enumerate((disc(30, 32, 10), thing))]
    objects, regions = rows(compare_instances(truth, one_by_one, SIZE), 0)
    assert objects.row.tolist() == [1]
    assert regions.matched.tolist() == [1]


def test_a_map_is_taken_apart_into_its_regions() -> None:
    two = disc(24, 32, 10) | disc(72, 32, 10)
    objects, _ = rows(compared([(0, two)], [(0, disc(24, 32, 10))], split=True), 0)
    assert objects.agree.tolist() == [1, 0]
    assert objects.row.tolist() == [0, 0]
    assert objects.pieces.tolist() == [2, 2]


def test_instances_are_matched_one_to_one() -> None:
    first, second = disc(40, 32, 12), disc(48, 32, 12)
    truth, found = items([(0, first), (0, second)]), items([(0, second), (0, first), (0, disc(80, 50, 6))])
    objects, regions = rows(compare_instances(truth, found, SIZE), 0)
    assert objects.agree == pytest.approx([1, 1])
    assert regions.matched.tolist() == [1, 1, 0]


def test_the_difference_is_shown() -> None:
    whole = disc(48, 32, 14)
    half = whole & (np.arange(SIZE[1]) < 48)
    scene = compared([(0, half)], [(0, whole)])
    region = difference(scene, 0, SIZE)
    assert region is not None
    shown = np.zeros(SIZE, dtype=bool)
    shown[region.slices] = region.pixels > 0
    assert (shown == (whole & ~half)).all()


def test_images_without_masks_are_fine() -> None:
    nothing = compare_maps([], [], SIZE, split=True)
    only_truth, only_found = compared([(0, disc(30, 30, 9))], []), compared([], [(0, disc(30, 30, 9))])
    objects, regions = collected([nothing, only_truth, only_found])
    assert (len(objects), len(regions)) == (1, 1)
    suspects = mask_errors(objects, regions, 1)
    assert set(suspects.kind.tolist()) <= {"missing", "spurious"}
    assert len(mask_errors(*collected([nothing]), 1)) == 0


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["across", "down", "moved"]), st.permutations(range(12)))
def test_mirrored_or_moved_images_in_any_order_give_the_same(how: str, order: list[int]) -> None:
    truth, found = a_set(12)
    truth[3] = truth[3][:1]
    truth[5][0] = (truth[5][0][0], np.roll(truth[5][0][1], 8, axis=0))

    def turned(mask: Mask) -> Mask:
        return {"across": mask[:, ::-1], "down": mask[::-1], "moved": np.roll(mask, (3, -2), (0, 1))}[how]

    plain, _, _ = judged(truth, found)
    changed, _, _ = judged(
        *([[(k, turned(mask)) for k, mask in side[number]] for number in order] for side in (truth, found))
    )
    first = sorted(
        (str(k), int(i), round(float(s), 6)) for k, i, s in zip(plain.kind, plain.image, plain.score, strict=True)
    )
    second = sorted(
        (str(k), order[int(i)], round(float(s), 6))
        for k, i, s in zip(changed.kind, changed.image, changed.score, strict=True)
    )
    assert [each[:2] for each in first] == [each[:2] for each in second]
    assert [each[2] for each in first] == pytest.approx([each[2] for each in second], abs=1e-4)


def test_a_window_is_found_in_a_larger_one() -> None:
    assert tight(np.zeros((4, 4)), 3, 3) is None
    inner = tight(np.pad(np.ones((2, 3)), 2), 10, 20)
    assert inner is not None
    assert inner.bbox == [12, 22, 3, 2]
