from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from duplicate_pictures import picture, transforms

from curate.checks.duplicates.features import Features, FeatureStore, extract, find_padding, mirrored
from curate.checks.duplicates.find import to_table
from curate.checks.duplicates.keepers import describe_transform, invert
from curate.checks.duplicates.probability import log_odds, probabilities
from curate.checks.duplicates.verify import Comparison, compare, mutual_matches
from curate.imaging import Pixels


def features(folder: Path, *pictures: Pixels) -> list[Features]:
    store = FeatureStore(folder / "features", len(pictures))
    for row, pixels in enumerate(pictures):
        store.put(row, extract(pixels))
    return [store[row] for row in range(len(pictures))]


def odds(comparison: Comparison) -> float:
    table = to_table(np.array([[0, 1]]), [comparison])
    names = ("detail", "agreement", "inliers", "differing", "displacement")
    return float(log_odds(*(table.column(name) for name in names))[0])


@pytest.mark.parametrize("kind", list(transforms(picture(0))))
def test_every_transform_is_recognised(tmp_path: Path, kind: str) -> None:
    original = picture(0)
    first, second = features(tmp_path, original, transforms(original)[kind])
    found = compare(first, second)
    assert odds(found) > 2
    assert found.mirrored == (kind == "flip")
    assert found.inliers >= 15


def test_different_pictures_are_not_copies(tmp_path: Path) -> None:
    rows = features(tmp_path, *(picture(seed) for seed in range(5)))
    assert max(odds(compare(a, b)) for k, a in enumerate(rows) for b in rows[:k]) < -2


def test_pictures_that_share_only_a_frame_are_not_copies(tmp_path: Path) -> None:
    framed = []
    for seed in range(2):
        pixels = picture(seed)
        border = picture(99)
        border[40:-40, 40:-40] = pixels[40:-40, 40:-40]
        framed.append(border)
    assert odds(compare(*features(tmp_path, *framed))) < 0


def test_tiny_pictures_are_compared_without_features(tmp_path: Path) -> None:
    small = [np.asarray(cv2.resize(picture(seed), (32, 32), interpolation=cv2.INTER_AREA)) for seed in range(3)]
    brighter = np.clip(small[0] * 1.2 + 5, 0, 255).astype(np.uint8)
    copy, *others = features(tmp_path, brighter, *small)
    assert odds(compare(others[0], copy)) > 1
    assert max(odds(compare(others[1], copy)), odds(compare(others[2], copy))) < 0


def test_flat_pictures_compare(tmp_path: Path) -> None:
    black, gray, shown = features(
        tmp_path, np.zeros((60, 80, 3), np.uint8), np.full((60, 80, 3), 128, np.uint8), picture(1)
    )
    assert np.isfinite(odds(compare(black, gray)))
    assert odds(compare(black, shown)) < 0


def test_mirrored_descriptors_are_those_of_the_mirror_image(tmp_path: Path) -> None:
    pixels = picture(3)
    plain, flipped = features(tmp_path, pixels, np.ascontiguousarray(pixels[:, ::-1]))
    rows, _ = mutual_matches(mirrored(plain.descriptors), flipped.descriptors)
    wrong, _ = mutual_matches(plain.descriptors, flipped.descriptors)
    assert len(rows) > 0.8 * len(plain.points) > 4 * len(wrong)


def test_padding_is_what_is_uniform_from_a_corner() -> None:
    small = np.full((40, 60), 114, np.uint8)
    small[10:30] = np.random.default_rng(0).integers(0, 255, (20, 60))
    assert find_padding(small)[:10].all()
    assert find_padding(small)[10:30].mean() < 0.1


def test_the_transform_is_described(tmp_path: Path) -> None:
    original = picture(0)
    made = transforms(original)
    first, turned, flipped = features(tmp_path, original, made["rotated"], made["flip"])
    found = compare(first, turned)
    assert describe_transform(found.matrix, mirrored=False, overlap=1.0) == ["rotated by 5 degrees"]
    found = compare(first, flipped)
    assert describe_transform(found.matrix, mirrored=found.mirrored, overlap=found.overlap) == ["mirrored"]


@pytest.mark.parametrize("flip", [False, True])
def test_inverting_a_model_twice_gives_it_back(flip: bool) -> None:
    matrix = np.array([[0.9, -0.1, 12.0], [0.1, 0.9, -5.0]])
    assert invert(invert(matrix, flip), flip) == pytest.approx(matrix)


def test_probabilities_rise_with_the_odds_and_need_no_copies() -> None:
    rng = np.random.default_rng(0)
    none = rng.normal(-5, 2, 3000)
    assert (probabilities(none) >= 0.5).sum() <= 3
    both = np.concatenate([none, rng.normal(5, 1, 100)])
    found = probabilities(both)
    assert (found[3000:] > 0.5).all()
    assert (np.diff(found[np.argsort(both)]) >= 0).all()
    assert (probabilities(rng.normal(6, 1, 3000)) > 0.5).all()


def test_a_set_of_lookalikes_asks_for_more() -> None:
    rng = np.random.default_rng(0)
    alike = np.concatenate([rng.normal(-1, 2.5, 3000), rng.normal(9, 1, 200)])
    found = probabilities(alike)
    assert (found[:3000] >= 0.5).mean() < 0.005
    assert (found[3000:] >= 0.5).mean() > 0.97
