"""The quality of a JPEG, from its file and from its pixels alone."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.augment.fit.jpeg import NONE, quality_of_file, quality_of_pixels
from curate.imaging import Pixels
from curate.recipes import Pipeline, Recipe, Step
from tests.augment.fit_pictures import picture


def compressed(pixels: Pixels, quality: int) -> Pixels:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_pixels_tell_the_quality_of_their_last_compression(quality: int) -> None:
    assert quality_of_pixels(compressed(picture(1), quality)) == pytest.approx(quality, abs=1)
    assert quality_of_pixels(compressed(compressed(picture(1), 92), quality)) == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("quality", [40, 80])
def test_compression_by_albumentations_is_told_as_well(quality: int) -> None:
    recipe = Recipe("jpeg", (Step("ImageCompression", {"quality_range": [quality, quality]}),))
    pixels = Pipeline(recipe)(picture(2), np.random.default_rng(0)).pixels
    assert quality_of_pixels(pixels) == pytest.approx(quality, abs=1)


def test_what_was_never_compressed_or_changed_since_has_none() -> None:
    assert quality_of_pixels(picture(3)) == NONE
    noise = np.random.default_rng(0).normal(0, 5, picture(3).shape)
    assert quality_of_pixels(np.clip(compressed(picture(3), 60) + noise, 0, 255).astype(np.uint8)) == NONE
    assert quality_of_pixels(np.zeros((6, 200, 3), np.uint8)) == NONE
    assert quality_of_pixels(np.zeros((64, 64, 3), np.uint8)) == NONE


@pytest.mark.parametrize("quality", [10, 50, 83])
def test_file_says_its_quality(tmp_path: Path, quality: int) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "a.jpg", quality=quality)
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    assert quality_of_file(tmp_path / "a.jpg") == quality
    assert quality_of_file(tmp_path / "a.png") is None
