"""The descriptor: what its vectors are, what they ignore, and how well they tell things apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from curate.errors import UsageError
from curate.imaging import Pixels, crop, load_pixels, resize
from curate.models.encoders import descriptor
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.registry import load_encoder

# Numbers 0, 1, 2, 500, 767, 768 and 959 of one image's vector.
VERSION_0 = [0.12907, 0.01161, -0.00956, -0.04964, 0.00082, -0.00405, -0.01446]


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """As `curate.models.embedding` runs it: several threads for such small products wait for one another."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("builtin-v0")


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return np.asarray(load_sample_images().images[1])  # a flower, 640 x 427


def vectors_of(encoder: Encoder, *images: Pixels) -> Vectors:
    return encoder.encode([encoder.prepare(image) for image in images])


def test_contract(encoder: Encoder, photo: Pixels) -> None:
    assert encoder.name == "builtin-v0"
    assert load_encoder("builtin-v0").dimensions == encoder.dimensions == 960
    vectors = vectors_of(encoder, photo, photo[:100, :50], photo[:1, :1])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 960)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(UsageError, match="no argument"):
        load_encoder("builtin-v0:large")


def test_the_same_in_any_batch_and_after_float16(encoder: Encoder, photo: Pixels) -> None:
    parts = [photo[y : y + 80, x : x + 80] for y in range(0, 320, 80) for x in range(0, 640, 80)]
    together = vectors_of(encoder, *parts)
    alone = np.concatenate([vectors_of(encoder, part) for part in parts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.astype(np.float16).astype(np.float32), together, atol=3e-4)


def test_numbers_of_version_0_do_not_change(encoder: Encoder) -> None:
    """Stored vectors must stay comparable: a change of these numbers needs a new name."""
    y, x = np.mgrid[:32, :32]
    pixels = np.stack([8 * x, 8 * y, 255 * ((x // 8 + y // 8) % 2)], axis=2).astype(np.uint8)
    (vector,) = vectors_of(encoder, pixels)
    np.testing.assert_allclose(vector[[0, 1, 2, 500, 767, 768, 959]], VERSION_0, atol=2e-4)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["noise", "black", "white"]), st.integers(0, 9))
def test_any_image_has_a_finite_unit_vector(height: int, width: int, kind: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = {"noise": noise, "black": np.zeros_like(noise), "white": np.full_like(noise, 255)}[kind]
    (vector,) = vectors_of(load_encoder("builtin-v0"), pixels)
    assert abs(np.linalg.norm(vector) - 1) < 1e-4


def test_mirroring_negates_the_odd_part_only(photo: Pixels) -> None:
    bank = descriptor.read_weights()[0]
    square = resize(photo, (32, 32))
    same, odd = descriptor.describe(square, bank)
    same_mirrored, odd_mirrored = descriptor.describe(square[:, ::-1], bank)
    np.testing.assert_allclose(same_mirrored, same, atol=2e-3)  # the stored filters are rounded
    np.testing.assert_allclose(odd_mirrored, -odd, atol=2e-3)
    assert np.abs(odd).max() > 0.02


def test_light_matters_less_than_content(encoder: Encoder, photo: Pixels) -> None:
    scene = resize(photo[100:300, 200:400], (64, 64))
    darker = (scene * 0.7).astype(np.uint8)
    other = resize(photo[:200, :200], (64, 64))
    first, dark, second = vectors_of(encoder, scene, darker, other)
    assert first @ dark > 0.9
    assert first @ second < 0.5


def accuracy(model: Any, X: npt.NDArray[np.float32], y: npt.NDArray[Any], groups: npt.NDArray[Any]) -> float:
    return float(cross_val_score(model, X, y, groups=groups, cv=GroupKFold(3)).mean())


def test_digits_are_told_apart(encoder: Encoder) -> None:
    digits = load_digits()
    images = [np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, axis=2) for image in digits.images[:900]]
    X, y = vectors_of(encoder, *images), digits.target[:900]
    assert accuracy(KNeighborsClassifier(5), X, y, np.arange(900)) > 0.975
    assert accuracy(RidgeClassifier(0.1), X, y, np.arange(900)) > 0.975


@pytest.mark.slow
def test_blood_cells_are_told_apart(encoder: Encoder, shared_data: Path) -> None:
    folder = shared_data / "detection" / "bccd"
    crops, labels, groups = [], [], []
    for number, path in enumerate(sorted((folder / "Annotations").glob("*.xml"))[:60]):
        pixels = load_pixels(folder / "JPEGImages" / f"{path.stem}.jpg")
        for thing in ElementTree.parse(path).iter("object"):
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")
            )
            if right > left and bottom > top:
                crops.append(crop(pixels, [left, top, right - left, bottom - top], margin=0.15))
                labels.append(thing.findtext("name"))
                groups.append(number)
    X = vectors_of(encoder, *crops)
    assert accuracy(KNeighborsClassifier(10), X, np.array(labels), np.array(groups)) > 0.99


def test_coloured_things_of_one_shape_differ(encoder: Encoder) -> None:
    def disc(color: tuple[int, int, int]) -> Pixels:
        y, x = np.mgrid[:40, :40]
        image = np.full((40, 40, 3), 128, np.uint8)
        image[np.hypot(x - 20, y - 20) < 12] = color
        return np.asarray(Image.fromarray(image))

    red, dark_red, blue = vectors_of(encoder, disc((200, 40, 40)), disc((180, 40, 40)), disc((40, 40, 200)))
    assert red @ dark_red > red @ blue + 0.1
