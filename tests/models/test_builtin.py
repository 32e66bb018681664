"""The built-in encoder: its two views, what each ignores, how well they tell things apart, and what its file is."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from benchmarks.pretrain.record import FOLDER, example
from curate.demo.render import plan_shots, render
from curate.errors import UsageError
from curate.imaging import Pixels, crop
from curate.models.encoders import builtin
from curate.models.encoders.base import Encoder, TextEncoder, Vectors
from curate.models.encoders.registry import load_encoder

RECORD = FOLDER / "record.json"


@pytest.fixture(scope="module")
def semantic() -> Encoder:
    return load_encoder("builtin")


@pytest.fixture(scope="module")
def style() -> Encoder:
    return load_encoder("builtin:style")


@pytest.fixture(scope="module")
def scenes() -> list[Pixels]:
    """Twelve places in scikit-learn's two photographs, 96 x 96."""
    photos = [np.asarray(image) for image in load_sample_images().images]
    return [
        np.ascontiguousarray(photo[y : y + 150, x : x + 150])
        for photo in photos
        for y in (20, 240)
        for x in (20, 240, 470)
    ]


def vectors_of(encoder: Encoder, images: list[Pixels]) -> Vectors:
    return encoder.encode([encoder.prepare(image) for image in images])


def test_contract(semantic: Encoder, style: Encoder, scenes: list[Pixels]) -> None:
    assert (semantic.name, style.name) == ("builtin-v1", "builtin-v1:style")
    for encoder in (semantic, style):
        vectors = vectors_of(encoder, [*scenes, scenes[0][:1, :1], scenes[0][:90, :7]])
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(scenes) + 2, encoder.dimensions)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
        again = load_encoder(encoder.name)  # a name is a spec
        assert again.name == encoder.name
        np.testing.assert_array_equal(vectors_of(again, scenes), vectors_of(encoder, scenes))


def test_views_that_do_not_exist_and_texts_are_refused(semantic: Encoder) -> None:
    with pytest.raises(UsageError, match="no view 'large'"):
        load_encoder("builtin:large")
    assert not isinstance(semantic, TextEncoder)


def test_the_same_in_any_batch(semantic: Encoder, style: Encoder, scenes: list[Pixels]) -> None:
    for encoder in (semantic, style):
        together = vectors_of(encoder, scenes * 3)  # several calls of the graph
        alone = np.concatenate([vectors_of(encoder, [scene]) for scene in scenes])
        np.testing.assert_allclose(together, np.tile(alone, (3, 1)), atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 130), st.integers(1, 130), st.sampled_from(["noise", "black", "white"]), st.integers(0, 9))
def test_any_image_has_finite_unit_vectors(height: int, width: int, kind: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = {"noise": noise, "black": np.zeros_like(noise), "white": np.full_like(noise, 255)}[kind]
    for spec in ("builtin", "builtin:style"):
        (vector,) = vectors_of(load_encoder(spec), [pixels])
        assert abs(np.linalg.norm(vector) - 1) < 1e-4


LIGHTS: dict[str, Callable[[Pixels], npt.NDArray[Any]]] = {
    "darker": lambda image: image * 0.55,
    "warmer": lambda image: image * np.array([1.1, 1.0, 0.75]),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 2.5).astype(float),
    "noisy": lambda image: image + np.random.default_rng(0).normal(0, 25, image.shape),
}


@pytest.mark.parametrize("light", LIGHTS)
def test_the_semantic_view_finds_the_place_and_the_style_view_the_light(
    semantic: Encoder, style: Encoder, scenes: list[Pixels], light: str
) -> None:
    changed = [LIGHTS[light](scene).clip(0, 255).astype(np.uint8) for scene in scenes]
    plain, other = (vectors_of(semantic, images) for images in (scenes, changed))
    assert ((other @ plain.T).argmax(axis=1) == np.arange(len(scenes))).mean() >= 0.9

    # Halves of the places: does the style of a half that was not seen tell whether it was changed?
    plain, other = (vectors_of(style, images) for images in (scenes, changed))
    direction = (other[::2] - plain[::2]).mean(axis=0)
    scores = np.concatenate([plain[1::2] @ direction, other[1::2] @ direction])
    n = len(scenes) // 2
    assert (scores[n:, None] > scores[None, :n]).mean() > 0.8


def neighbors_agree(X: Vectors, y: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], k: int = 10) -> float:
    similarity = np.where(groups[:, None] == groups, -np.inf, X @ X.T)
    nearest = np.argsort(-similarity, axis=1)[:, :k]
    votes = (y[nearest][:, :, None] == np.arange(y.max() + 1)).sum(axis=1)
    return float((votes.argmax(axis=1) == y).mean())


def test_digits_are_told_apart(semantic: Encoder) -> None:
    digits = load_digits()
    images = [np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, axis=2) for image in digits.images[:900]]
    assert neighbors_agree(vectors_of(semantic, images), digits.target[:900], np.arange(900)) > 0.97


def test_parts_are_told_apart_better_than_by_the_descriptor(semantic: Encoder) -> None:
    crops, labels, groups = [], [], []
    for number, shot in enumerate(plan_shots(40, 0)):
        rendering = render(shot, 0)
        pixels = np.asarray(Image.open(io.BytesIO(rendering.jpeg)).convert("RGB"))
        for thing in rendering.things:
            crops.append(crop(pixels, thing.bbox, margin=0.15))
            labels.append(thing.label)
            groups.append(number)
    y, of = np.unique(labels, return_inverse=True)[1], np.array(groups)
    learnt, described = (
        neighbors_agree(vectors_of(encoder, crops), y, of) for encoder in (semantic, load_encoder("builtin-v0"))
    )
    assert learnt > described + 0.03


def test_the_file_is_small_and_the_one_that_the_record_tells_of() -> None:
    content = resources.files("curate.models.encoders").joinpath(builtin.WEIGHTS).read_bytes()
    assert len(content) <= 8_000_000
    assert hashlib.sha256(content).hexdigest() == json.loads(RECORD.read_text())["sha256"]


def test_numbers_of_version_1_do_not_change(semantic: Encoder, style: Encoder) -> None:
    """Stored vectors must stay comparable: a change of these numbers needs a new name."""
    recorded = json.loads(RECORD.read_text())["example"]
    for encoder, view in ((semantic, "semantic"), (style, "style")):
        (vector,) = vectors_of(encoder, [example()])
        np.testing.assert_allclose(vector[:8], recorded[view], atol=2e-4)
