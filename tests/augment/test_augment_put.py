"""Objects and defects that are put on images: where, how large, and what their labels say then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.augment.copy_paste import MOST_COVERED, learn_ground, paste_object
from curate.augment.labels import Label, is_put, mask_of
from curate.augment.light import light_of
from curate.augment.objects import whole_objects
from curate.augment.occlusion import region_of
from curate.augment.parents import Parent, labelled_images
from curate.augment.scene import Scene
from curate.augment.transplant import find_defects, frame_of, is_seen, light_ratio, map_between, transplant
from curate.dataset import open_dataset
from curate.imaging import load_pixels
from tests.augment.discs import HEIGHT, WIDTH, make_discs


@pytest.fixture
def parents(tmp_path: Path) -> list[Parent]:
    make_discs(tmp_path / "images")
    return labelled_images(open_dataset("discs"), notes=[])


def width_of(label: Label) -> float:
    assert label.shape.bbox is not None
    return label.shape.bbox[2]


def scene_of(parent: Parent, depth: np.ndarray | None = None) -> Scene:
    return Scene.of(load_pixels(parent.path), parent.labels, parent.image_id, depth)


def test_objects_bring_what_is_labelled_on_them(parents: list[Parent]) -> None:
    donors = whole_objects(parents, ["disc"], (), 0)["disc"]
    assert len(donors) == 12
    assert sorted(len(donor.nested) for donor in donors) == [0] * 8 + [1] * 4
    scratched = {donor.nested[0].annotation_id for donor in donors if donor.nested}
    fewer = whole_objects(parents, ["disc"], scratched, 0)["disc"]
    assert len(fewer) == 8  # nothing that is doubted is copied


def test_pasted_objects_lie_where_they_may_and_cut_what_is_behind(parents: list[Parent]) -> None:
    donors, ground = whole_objects(parents, ["disc"], (), 0)["disc"], learn_ground(parents, ["disc"])["disc"]
    pasted = 0
    for k, parent in enumerate(parents * 4):
        before = scene_of(parent)
        after = paste_object(before, donors, ground, np.random.default_rng(k))
        if after is None:
            continue
        pasted += 1
        new = [label for label in after.labels if is_put(label.attributes)]
        assert [label.label for label in new] in (["disc"], ["disc", "scratch"])
        mask = mask_of(new[0].shape, HEIGHT, WIDTH)
        assert mask is not None
        assert not np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()
        assert (after.pixels[~mask] == before.pixels[~mask]).all()
        assert (after.pixels[mask] != before.pixels[mask]).any(axis=1).mean() > 0.9
        for label, region in zip(before.labels, before.regions, strict=True):
            assert region is not None
            assert (region & mask).sum() <= MOST_COVERED * region.sum()
            kept = next(each for each in after.labels if each.annotation_id == label.annotation_id and each not in new)
            left = region_of(kept.shape, HEIGHT, WIDTH)
            assert left is not None
            assert (left == (region & ~mask)).all()
        if len(new) == 2:
            inside = mask_of(new[1].shape, HEIGHT, WIDTH)
            assert inside is not None
            assert not (inside & ~mask).any()
    assert pasted > 30


def test_discs_are_pasted_where_discs_are(parents: list[Parent]) -> None:
    donors, ground = whole_objects(parents, ["disc"], (), 0)["disc"], learn_ground(parents, ["disc"])["disc"]
    centres = []
    for k, parent in enumerate(parents):
        after = paste_object(scene_of(parent), donors, ground, np.random.default_rng(k))
        if after is not None:
            new = next(label for label in after.labels if is_put(label.attributes))
            assert new.shape.bbox is not None
            centres.append(new.shape.bbox[0] + new.shape.bbox[2] / 2)
    assert max(centres) < 85  # bars are at 105 and beyond


def test_size_and_hiding_follow_depth_in_metres(parents: list[Parent]) -> None:
    donors, ground = whole_objects(parents, ["disc"], (), 0)["disc"], learn_ground(parents, ["disc"])["disc"]
    widths = {}
    for distance in (1.0, 2.0):
        depth = np.full((HEIGHT, WIDTH), distance, dtype=np.float32)
        sizes = []
        for k, parent in enumerate(parents):
            after = paste_object(scene_of(parent, depth), donors, ground, np.random.default_rng(k), lambda donor: 1.5)
            if after is not None:
                sizes += [
                    width_of(label) for label in after.labels if is_put(label.attributes) and label.label == "disc"
                ]
        widths[distance] = np.median(sizes)
    assert widths[1.0] / widths[2.0] == pytest.approx(2, rel=0.15)
    # A pole that is nearer stays in front.
    depth = np.full((HEIGHT, WIDTH), 1.5, dtype=np.float32)
    depth[:, 40:43] = 0.5
    crossed = 0
    for k, parent in enumerate(parents * 3):
        before = scene_of(parent, depth)
        after = paste_object(before, donors, ground, np.random.default_rng(k), lambda donor: 1.5)
        if after is None:
            continue
        mask = mask_of(next(label for label in after.labels if is_put(label.attributes)).shape, HEIGHT, WIDTH)
        assert mask is not None
        assert not mask[:, 40:43].any()
        assert (after.pixels[:, 40:43] == before.pixels[:, 40:43]).all()
        columns = np.flatnonzero(mask.any(axis=0))
        crossed += columns[0] < 40 and columns[-1] > 42
    assert crossed


def test_what_is_pasted_has_the_light_of_the_place(parents: list[Parent]) -> None:
    donors, ground = whole_objects(parents, ["disc"], (), 0)["disc"], learn_ground(parents, ["disc"])["disc"]
    parent = parents[0]
    bright = scene_of(parent)
    dim = Scene.of((bright.pixels * 0.45).astype(np.uint8), parent.labels, parent.image_id)
    values = []
    for scene in (bright, dim):
        after = paste_object(scene, donors, ground, np.random.default_rng(3))
        assert after is not None
        mask = mask_of(next(label for label in after.labels if is_put(label.attributes)).shape, HEIGHT, WIDTH)
        values.append(float(np.median(after.pixels[mask])))
    assert values[1] < 0.75 * values[0]


def test_the_light_of_an_image_is_told_by_its_edges(parents: list[Parent]) -> None:
    pixels = load_pixels(parents[0].path)
    warm = (pixels * np.array([1.0, 0.8, 0.5])).astype(np.uint8)
    change = light_of(warm) / light_of(pixels)
    linear = np.array([1.0, 0.8, 0.5]) ** 2.2
    assert change / change[0] == pytest.approx(linear / linear[0], rel=0.15)


def test_a_scratch_lands_on_another_disc_and_nowhere_else(parents: list[Parent]) -> None:
    defects = find_defects(parents, ["scratch"], (), 0)["scratch"]
    assert [defect.host.label for defect in defects] == ["disc"] * 4
    done = 0
    for k, parent in enumerate(parents * 3):
        before = scene_of(parent)
        after = transplant(before, defects, np.random.default_rng(k))
        if after is None:
            continue
        done += 1
        disc = next(
            region for label, region in zip(before.labels, before.regions, strict=True) if label.label == "disc"
        )
        new = after.labels[-1]
        mask = mask_of(new.shape, HEIGHT, WIDTH)
        assert disc is not None
        assert mask is not None
        assert is_put(new.attributes)
        assert not (mask & ~disc).any()
        assert after.labels[:-1] == before.labels  # nothing is cut by it
        changed = (after.pixels.astype(int) - before.pixels).mean(axis=2)
        assert changed[mask].mean() < -30  # the scratch is dark
        far = np.ones((HEIGHT, WIDTH), dtype=bool)
        rows, columns = np.nonzero(mask)
        far[rows.min() - 5 : rows.max() + 6, columns.min() - 5 : columns.max() + 6] = False
        assert (changed[far] == 0).all()
    assert done > 20  # a third of the discs are scratched in the middle already


def test_a_defect_is_how_it_changes_the_light() -> None:
    rng = np.random.default_rng(0)
    surface = np.repeat((150 + rng.normal(0, 1, (30, 30)))[..., None], 3, axis=2)
    mask = np.zeros((30, 30), dtype=bool)
    mask[14:16, 8:22] = True
    damaged = np.where(mask[..., None], surface * 0.5, surface).astype(np.uint8)
    ratio = light_ratio(damaged, mask)
    assert ratio[mask].mean() == pytest.approx(0.5**2.2, rel=0.15)
    assert (ratio[:10] == 1).all()


def test_frames_of_long_things_are_turned_onto_each_other() -> None:
    y, x = np.mgrid[:80, :80] + 0.5

    def bar(turn: float, centre: tuple[float, float], length: float) -> np.ndarray:
        along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
        across = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
        return np.asarray((np.abs(along) < length) & (np.abs(across) < length / 4))

    source, target = frame_of(bar(0.3, (30, 40), 20)), frame_of(bar(1.2, (45, 35), 30))
    there = map_between(source, target, np.random.default_rng(0))
    tip = np.array([30 + 20 * np.cos(0.3), 40 + 20 * np.sin(0.3)])
    moved = there[:, :2] @ tip + there[:, 2]
    wanted = [np.array([45, 35]) + sign * 30 * np.array([np.cos(1.2), np.sin(1.2)]) for sign in (1, -1)]
    assert min(np.linalg.norm(moved - each) for each in wanted) < 1


def test_a_defect_that_could_hardly_be_seen_is_put_nowhere(parents: list[Parent]) -> None:
    defects = find_defects(parents, ["scratch"], (), 0)["scratch"]
    seen = hidden = 0
    for k, parent in enumerate(parents):
        scene = scene_of(parent)
        seen += transplant(scene, defects, np.random.default_rng(k)) is not None
        black = replace(scene, pixels=(scene.pixels * 0.02).astype(np.uint8))
        hidden += transplant(black, defects, np.random.default_rng(k)) is None
    assert seen > 6
    assert hidden == len(parents)


def test_a_defect_is_seen_where_it_stands_out_from_the_grain() -> None:
    mask = np.zeros((40, 40), bool)
    mask[18:22, 10:30] = True
    plain = np.full((40, 40, 3), 120, np.uint8)
    grained = np.clip(120 + np.random.default_rng(0).normal(0, 20, (40, 40, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    for change, on_plain, on_grained in ((2, False, False), (8, True, False), (40, True, True)):
        assert is_seen(plain, plain - np.uint8(change) * mask[..., None].astype(np.uint8), mask) == on_plain
        changed = np.where(mask[..., None], np.clip(grained.astype(int) - change, 0, 255), grained).astype(np.uint8)
        assert is_seen(grained, changed, mask) == on_grained
