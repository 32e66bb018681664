from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
from duplicate_pictures import picture

from curate.checks.duplicates.background import background_only


def test_what_stands_before_a_shared_background_decides() -> None:
    rng = np.random.default_rng(0)
    background = cv2.cvtColor(picture(0, 128, 96), cv2.COLOR_RGB2GRAY)
    places = [(int(rng.integers(0, 100)), int(rng.integers(0, 70))) for _ in range(14)]
    pictures = []
    for place in [*places, places[0], places[1]]:
        shown = background.copy()
        cv2.rectangle(shown, place, (place[0] + 18, place[1] + 14), 255, -1)
        shown = np.clip(0.9 * shown + rng.normal(0, 2, shown.shape), 0, 255).astype(np.uint8)
        pictures.append(shown)
    pairs = np.array(list(combinations(range(16), 2)))
    only = background_only(pairs, np.ones(len(pairs), dtype=bool), lambda row: pictures[row], 16)
    same = {(0, 14), (1, 15)}
    kept = set(map(tuple, pairs[~only].tolist()))
    assert same <= kept
    assert len(kept - same) <= 6  # parts that happen to lie on the same place


def test_copies_of_one_picture_stay_copies() -> None:
    rng = np.random.default_rng(0)
    base = cv2.cvtColor(picture(0, 128, 96), cv2.COLOR_RGB2GRAY)
    pictures = [
        np.clip(rng.uniform(0.8, 1.1) * base + rng.normal(0, 3, base.shape), 0, 255).astype(np.uint8) for _ in range(20)
    ]
    pairs = np.array(list(combinations(range(20), 2)))
    assert not background_only(pairs, np.ones(len(pairs), dtype=bool), lambda row: pictures[row], 20).any()


def test_few_images_are_left_alone() -> None:
    pictures = [cv2.cvtColor(picture(seed, 64, 48), cv2.COLOR_RGB2GRAY) for seed in range(6)]
    pairs = np.array(list(combinations(range(6), 2)))
    assert not background_only(pairs, np.ones(len(pairs), dtype=bool), lambda row: pictures[row], 6).any()
