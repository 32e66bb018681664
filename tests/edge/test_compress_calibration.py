"""Which images calibrate: rare light, rare classes and slices are among them, however few there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.edge.compress.calibration import cover, describe, light_parts
from curate.edge.compress.graph import ready
from curate.edge.compress.quantise import calibrate, quantise
from curate.edge.compress.sensitivity import _outputs, distance
from tests.edge.small_networks import SIDE, conv_net

COUNT = 16
RARE = 3
TOTAL = 300


def lit(rng: np.random.Generator, level: float) -> np.ndarray:
    """An image of smooth noise at a level of light."""
    coarse = rng.uniform(0.3, 1.0, (SIDE // 4, SIDE // 4, 3)) * level
    return (255 * coarse.repeat(4, axis=0).repeat(4, axis=1)).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Dim images, and three in glaring light, at places that nothing tells."""
    rng = np.random.default_rng(4)
    bright = set(rng.permutation(TOTAL)[:RARE].tolist())
    return [lit(rng, 1.0 if row in bright else rng.uniform(0.1, 0.2)) for row in range(TOTAL)]


def bright_rows(images: list[np.ndarray]) -> set[int]:
    return {row for row, pixels in enumerate(images) if pixels.mean() > 100}


def test_rare_light_is_among_them(images: list[np.ndarray]) -> None:
    described = describe(images)
    chosen = cover(described, light_parts(described), COUNT)
    assert len(chosen) == len(set(chosen.tolist())) == COUNT
    assert bright_rows(images) & set(chosen.tolist())
    assert chosen.tolist() == cover(described, light_parts(described), COUNT).tolist()
    # The first of them cover already.
    assert bright_rows(images) & set(chosen[:4].tolist())


def test_images_drawn_at_random_make_a_model_that_is_blind_in_rare_light(
    images: list[np.ndarray], tmp_path: Path
) -> None:
    model = ready(conv_net(tmp_path / "net.onnx"))
    inputs = [(pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None] for pixels in images]
    rare = sorted(bright_rows(images))
    described = describe(images)
    covering = cover(described, light_parts(described), COUNT).tolist()
    # Most draws of 16 have none of the three; one that has none is looked at.
    at_random = next(
        rows
        for seed in range(20)
        if not set(rows := np.random.default_rng(seed).permutation(TOTAL)[:COUNT].tolist()) & set(rare)
    )

    def error(rows: list[int]) -> float:
        calibrated = calibrate(model, "images", [inputs[row] for row in rows], ["extremes"])
        seen = [inputs[row] for row in rare]
        return distance(_outputs(model, "images", seen), _outputs(quantise(calibrated), "images", seen))

    assert error(covering) < 0.1
    assert error(at_random) > 3 * error(covering)


def test_rare_classes_and_slices_have_a_share() -> None:
    rng = np.random.default_rng(0)
    described = rng.normal(size=(400, 16))
    rare = np.zeros(400, dtype=np.bool_)
    rare[[17, 230]] = True
    common = ~rare
    chosen = cover(described, {"class rare": rare, "class common": common}, 20)
    assert {17, 230} <= set(chosen.tolist())
    assert common[chosen].sum() == 18


def test_no_more_than_there_are() -> None:
    assert cover(np.zeros((5, 16)), {}, 20).tolist() == [0, 1, 2, 3, 4]
    alike = cover(np.zeros((30, 16)), {}, 8)
    assert len(set(alike.tolist())) == 8


def test_light_that_is_all_the_same_has_no_parts() -> None:
    assert light_parts(np.ones((4, 16))) == {}
