"""Counts in words."""

from __future__ import annotations

import pytest

from curate.wording import counted


@pytest.mark.parametrize(
    ("count", "plural", "words"),
    [
        (1, "images", "1 image"),
        (0, "images", "0 images"),
        (2000, "images", "2,000 images"),
        (1, "classes added", "1 class added"),
        (1, "class names", "1 class name"),
        (1, "boxes", "1 box"),
        (1, "supercategories", "1 supercategory"),
        (1, "image files", "1 image file"),
        (1, "holes in masks", "1 hole in masks"),
        (1, "metadata", "1 metadata"),
    ],
)
def test_counted(count: int, plural: str, words: str) -> None:
    assert counted(count, plural) == words
