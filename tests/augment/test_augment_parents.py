"""Which images may be parents: those of the split train, of 8 bits, opaque; what is left out is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from curate.augment.encoding import bits_of, encode, encoding_of, is_transparent
from curate.augment.parents import labelled_images
from curate.augment.request import Augmented, Request
from curate.augment.run import augment, understand
from curate.augment.seen import shows_nothing
from curate.dataset import open_dataset
from curate.dataset.synthetic import is_synthetic
from curate.errors import ImageError, UsageError
from curate.imaging import load_pixels
from tests.augment.discs import HEIGHT, WIDTH, draw_scene, make_discs


def run(**asked: Any) -> Augmented:
    intent = understand("discs", Request(**asked), report=lambda *_: None)
    return augment(intent, command="curate augment", report=lambda *_: None)


def replaced(folder: Path, change: Callable[[np.ndarray], np.ndarray], count: int, suffix: str = ".png") -> None:
    """Write the first images anew, in place, with what is done to their pixels."""
    for number in range(count):
        pixels = change(draw_scene(number)[0])
        wide = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]  # as OpenCV has them, which writes 16 bits
        assert cv2.imwrite(str(folder / f"{number:03d}{suffix}"), wide)


def deep(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def with_alpha(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def add(pixels: np.ndarray) -> np.ndarray:
        alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        alpha[:40] = value
        return np.concatenate([pixels, alpha], axis=2)

    return add


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_colours_of_16_bits_are_known_by_the_header(tmp_path: Path, suffix: str) -> None:
    replaced(tmp_path, deep, 1, suffix)
    path = tmp_path / f"000{suffix}"
    with Image.open(path) as image:
        assert image.mode == "RGB"  # Pillow does not say
    assert bits_of(path) == 16
    with pytest.raises(ImageError, match="more than 8 bits"):
        encoding_of(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm", ".gif"])
def test_what_has_8_bits_is_said_to(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    try:
        Image.fromarray(draw_scene(0)[0]).convert(mode).save(path)
    except (OSError, ValueError):
        pytest.skip(f"there is no {suffix} of {mode}")
    assert bits_of(path) == 8
    assert not is_transparent(path)
    child = tmp_path / f"b{suffix}"
    child.write_bytes(encode(load_pixels(path), encoding_of(path)))
    with Image.open(path) as own, Image.open(child) as made:
        if mode in {"L", "LA", "RGB", "RGBA"} and own.format not in {"GIF", "PPM"}:
            assert (made.mode, made.format) == (own.mode, own.format)
        if "A" in made.getbands():
            assert made.getchannel("A").getextrema() == (255, 255)


def test_parents_of_more_bits_are_left_out_and_told(tmp_path: Path) -> None:
    make_discs(tmp_path / "images")
    replaced(tmp_path / "images", deep, 3)
    notes: list[str] = []
    parents = labelled_images(open_dataset("discs"), notes=notes)
    assert len(parents) == 9
    assert any(line.startswith("3 images of more than 8 bits a value left out") for line in notes)
    replaced(tmp_path / "images", deep, 12)
    with pytest.raises(UsageError, match="12 images of more than 8 bits"):
        labelled_images(open_dataset("discs"), notes=[])


def test_opaque_parents_have_opaque_children_and_others_none(tmp_path: Path) -> None:
    make_discs(tmp_path / "images", images=6)
    replaced(tmp_path / "images", with_alpha(255), 6)
    replaced(tmp_path / "images", with_alpha(128), 2)
    result = run(recipe="jpeg_stream", count=6)
    assert result.added == 4
    assert result.failed == {"parts of its parent are transparent, which would be lost": 2}
    images = open_dataset("discs").table("images")
    for path in images.filter(np.asarray(is_synthetic(images)))["path"].to_pylist():
        with Image.open(path) as child:
            assert (child.mode, child.getchannel("A").getextrema()) == ("RGBA", (255, 255))


@pytest.mark.parametrize(
    ("splits", "kept", "told"),
    [
        (("train", None), {"train"}, "6 images left out, .*split: none"),
        (("train", "val", "test", None), {"train"}, "3 images left out"),
        (("train", "extra"), {"train"}, "6 images left out, .*split: 'extra'"),
        (("Training", "iid-test"), {"Training"}, None),
        (("batch1", None), {"batch1"}, "6 images left out, .*split: none"),
        (("batch1", "batch2"), {"batch1", "batch2"}, None),
        ((None,), {None}, None),
    ],
)
def test_with_any_split_known_those_to_learn_from_are_parents(
    tmp_path: Path, splits: Sequence[str | None], kept: set[str | None], told: str | None
) -> None:
    make_discs(tmp_path / "images", splits=splits)
    notes: list[str] = []
    parents = labelled_images(open_dataset("discs"), notes=notes)
    assert {each.split for each in parents} == kept
    assert len(notes) == (told is not None)
    assert told is None or re.search(told, notes[0])


def test_images_that_may_be_for_testing_alone_are_no_parents(tmp_path: Path) -> None:
    make_discs(tmp_path / "images", splits=("minitest", None))
    with pytest.raises(UsageError, match="6 images left out, for models may be measured on them"):
        labelled_images(open_dataset("discs"), notes=[])


def test_black_images_are_not_made_and_are_counted(tmp_path: Path) -> None:
    make_discs(tmp_path / "images")
    replaced(tmp_path / "images", lambda pixels: (pixels * 0.1).astype(np.uint8), 4)
    result = run(recipe="night", count=12)
    assert result.added == 8
    (why,) = result.failed
    assert why.startswith("nothing is to be seen")
    assert result.failed[why] == 4


def test_a_plain_parent_may_have_a_plain_child_and_a_visible_one_may_not() -> None:
    rng = np.random.default_rng(0)
    scene = draw_scene(1)[0]
    plain = rng.normal(120, 3, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    black = rng.normal(2, 2, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    assert not shows_nothing(scene, scene)
    assert not shows_nothing((scene * 0.3).astype(np.uint8), scene)
    assert not shows_nothing(plain, plain)
    assert shows_nothing(black, scene)
    assert shows_nothing(np.full_like(scene, 255), scene)
