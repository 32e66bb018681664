"""What is measured of the light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.shift.light import LIGHT_COLUMNS, describe_light
from curate.imaging import Pixels


def scene(seed: int = 0) -> npt.NDArray[np.float64]:
    """A textured ground with bright blocks on it, in linear light, shape (240, 320, 3)."""
    rng = np.random.default_rng(seed)
    ground = 0.04 * (1 + 0.2 * rng.normal(size=(240, 320, 1))).clip(0.3, 2)
    for _ in range(6):
        y, x = rng.integers(20, 180), rng.integers(20, 260)
        ground[y : y + 40, x : x + 40] *= 3
    return np.repeat(ground, 3, axis=2)


def photograph(light: npt.NDArray[np.float64]) -> Pixels:
    return np.asarray(255 * np.sqrt(light.clip(0, 1)), dtype=np.uint8)


def measured(light: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(LIGHT_COLUMNS, describe_light(photograph(light)).tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_lamp_at_the_side_is_seen_whatever_lies_there(seed: int) -> None:
    x = np.linspace(-1, 1, 320)[None, :, None]
    even, left = measured(scene(seed)), measured(scene(seed) * np.exp2(-0.4 * x))
    assert abs(even["slope_x"]) < 0.1
    assert left["slope_x"] == pytest.approx(even["slope_x"] - 0.4, abs=0.06)
    assert left["slope_y"] == pytest.approx(even["slope_y"], abs=0.05)


def test_corners_that_fall_off() -> None:
    x, y = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 240))
    dark = measured(scene() * np.exp2(-0.3 * (x * x + y * y))[..., None])
    assert dark["falloff"] == pytest.approx(measured(scene())["falloff"] - 0.3, abs=0.06)


def test_the_color_of_the_lamps_and_not_their_strength() -> None:
    plain, warm, weak = (measured(scene() * gains) for gains in ([1, 1, 1], [1.2, 1, 0.7], [0.5, 0.5, 0.5]))
    assert warm["lamp_red"] - plain["lamp_red"] == pytest.approx(np.log2(1.2), abs=0.05)
    assert warm["lamp_blue"] - plain["lamp_blue"] == pytest.approx(np.log2(0.7), abs=0.05)
    assert weak["lamp_red"] == pytest.approx(plain["lamp_red"], abs=0.05)
    assert weak["highlight"] == pytest.approx(plain["highlight"] - 1, abs=0.1)


def test_shadows_lie_away_from_the_lamp() -> None:
    light = np.full((240, 320, 3), 0.15)
    for y in (40, 120, 190):
        for x in (60, 150, 230):
            light[y : y + 20, x : x + 20] = 0.6
            light[y : y + 20, x + 20 : x + 32] = 0.02
    right = measured(light)
    assert right["shadow_x"] > 0.2
    assert abs(right["shadow_y"]) < 0.1
    assert measured(light[:, ::-1])["shadow_x"] == pytest.approx(-right["shadow_x"], abs=0.05)
    assert right["shadow_depth"] > 1


def test_what_is_nearest_to_white_follows_the_light_and_not_the_contents() -> None:
    """A lamp or sheet in the picture: the rest of it may be dark or bright."""
    scenes = [scene(seed) * contents for seed, contents in ((0, 1.0), (1, 0.3), (2, 2.0))]
    for each in scenes:
        each[100:120, 100:120] = 0.9
    plain = [measured(each) for each in scenes]
    half = [measured(0.5 * each) for each in scenes]
    warm = [measured(each * [1.1, 1, 0.7]) for each in scenes]
    assert np.ptp([each["white"] for each in plain]) < 0.05
    assert np.ptp([np.log2(each.mean()) for each in scenes]) > 1
    for before, dark, other in zip(plain, half, warm, strict=True):
        assert dark["white"] - before["white"] == pytest.approx(-1, abs=0.05)
        assert dark["white_red"] == pytest.approx(before["white_red"], abs=0.03)
        assert other["white_red"] - before["white_red"] == pytest.approx(np.log2(1.1), abs=0.05)
        assert other["white_blue"] - before["white_blue"] == pytest.approx(np.log2(0.7), abs=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (500, 2)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_odd_images_give_numbers(shape: tuple[int, int], value: int) -> None:
    assert np.isfinite(describe_light(np.full((*shape, 3), value, np.uint8))).all()
