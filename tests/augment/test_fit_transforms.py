"""What fitting takes transforms to do is what albumentations does, and steps do what was fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from curate.augment.fit.base import Parameter
from curate.augment.fit.camera import TONE, balance_gains, shot_table, show, temperature_of
from curate.augment.fit.detail import gaussian, motion
from curate.augment.fit.steps import nominal_noise, span, steps_of
from curate.imaging import Pixels
from curate.recipes import Pipeline, Recipe, Step
from tests.augment.fit_pictures import picture

NOTHING = {"gamma": 1.0, "contrast": 1.0, "motion": 1.0, "resolution": 1.0, "jpeg": 95.0}
NAMES = (
    *TONE,
    *("blur", "motion", "motion_angle", "resolution", "noise", "read_noise", "shot_noise", "jpeg", "shadows", "glare"),
)


def found(**values: float) -> dict[str, Parameter]:
    """Parameters that are known exactly."""
    return {
        name: Parameter(name, "", nothing, value, value, value, name in values)
        for name in NAMES
        for nothing in [NOTHING.get(name, 0.0)]
        for value in [values.get(name, nothing)]
    }


def done(steps: Sequence[Step], pixels: Pixels) -> Pixels:
    return Pipeline(Recipe("test", tuple(steps)))(pixels, np.random.default_rng(0)).pixels


@pytest.mark.parametrize(
    "values",
    [
        {"exposure": -1.0},
        {"exposure": 0.8},
        {"gamma": 0.5},
        {"gamma": -0.4},
        {"contrast": -0.5},
        {"contrast": 0.3},
        {"temperature": 60.0},
        {"temperature": -40.0, "tint": 0.1},
        {"light_x": 0.2},
        {"light_y": -0.15},
        {"light_x": -0.12, "light_y": 0.1},
        {"light_x": 0.25, "light_y": 0.1},
        {"vignetting": 0.25},
        {"vignetting": -0.25},
        {"exposure": -0.7, "temperature": 50.0, "gamma": 0.3, "vignetting": 0.5},
    ],
)
def test_steps_do_to_images_what_was_fitted_to_thumbnails(values: dict[str, float]) -> None:
    pixels = np.clip(cv2.GaussianBlur(picture(5, 192, 192), (0, 0), 4).astype(float) * 0.7, 10, 170).astype(np.uint8)
    read = {name: 2**value if name in {"gamma", "contrast"} else value for name, value in values.items()}
    changed = done(steps_of(found(**read)), pixels)
    tone = dict.fromkeys(TONE, 0.0) | values
    expected = 255 * show(pixels[None].astype(np.float32) / 255, np.ones((1, 2), np.float32), tone)[0]
    apart = changed.astype(float) - expected
    # Each step cuts to whole levels.
    assert abs(apart.mean()) < 2.0
    assert np.quantile(abs(apart), 0.99) < 5


def test_nothing_that_differs_is_no_step() -> None:
    assert steps_of(found()) == ()
    assert [step.transform for step in steps_of(found(), appearance=True)] == ["OneOf"]


def test_steps_are_in_the_order_of_a_camera() -> None:
    values: dict[str, Any] = {"light_x": 0.1, "blur": 1.0, "exposure": 1.0, "temperature": 50.0, "shot_noise": 0.01}
    steps = steps_of(found(**values, read_noise=5.0, gamma=1.3, jpeg=60.0), appearance=True)
    assert [step.transform for step in steps] == [
        *("Illumination", "GaussianBlur", "RandomBrightnessContrast", "OneOf", "OneOf"),
        *("ShotNoise", "GaussNoise", "RandomGamma", "ImageCompression"),
    ]


def test_range_holds_spread_and_doubt_and_stops_at_nothing() -> None:
    sure = Parameter("exposure", "stops", 0.0, -1.0, -1.0, -1.0, True, 0.3)
    assert span(sure) == pytest.approx((-1 - 0.3 * math.sqrt(3), -1 + 0.3 * math.sqrt(3)))
    unsure = Parameter("exposure", "stops", 0.0, -0.2, -0.6, 0.2, True, 0.3)
    assert span(unsure)[1] == 0
    low, high = span(Parameter("gamma", "", 1.0, 1.4, 1.3, 1.5, True))
    assert 1 < low < 1.35 < 1.45 < high


@pytest.mark.parametrize(("temperature", "tint"), [(0.0, 0.0), (70.0, 0.0), (-50.0, 0.1), (120.0, -0.2)])
def test_temperature_of_gains(temperature: float, tint: float) -> None:
    assert temperature_of(*balance_gains(temperature, tint)) == pytest.approx((temperature, tint), abs=1e-3)


def test_temperature_is_planckian_jitters() -> None:
    from albumentations import PlanckianJitter

    grey = np.full((4, 4, 3), 100, np.uint8)
    red, green, blue = PlanckianJitter(p=1).apply(grey, temperature=4500)[0, 0] / 100.0
    temperature, _ = temperature_of(red / green, blue / green)
    assert 1e6 / (temperature + 1e6 / 6536) == pytest.approx(4500, rel=0.01)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_gaussian_is_gaussian_blurs(sigma: float) -> None:
    given = done([Step("GaussianBlur", {"blur_limit": 0, "sigma_limit": [sigma, sigma]})], picture(4))
    require_same(given, gaussian(sigma))


@pytest.mark.parametrize(("length", "angle"), [(7, 30.0), (11, 90.0), (5, 150.0)])
def test_motion_is_motion_blurs(length: int, angle: float) -> None:
    params = {"blur_limit": [length, length], "angle_range": [angle, angle], "direction_range": [0.0, 0.0]}
    given = done([Step("MotionBlur", params | {"allow_shifted": False})], picture(4))
    require_same(given, motion(length, angle))


def require_same(given: Pixels, kernel: Any) -> None:
    expected = cv2.filter2D(picture(4).astype(np.float32), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    assert abs(given - expected).max() < 1.6


@pytest.mark.parametrize("deviation", [2.0, 5.0, 12.0])
def test_nominal_noise_undoes_what_cutting_takes(deviation: float) -> None:
    share = nominal_noise(deviation) / 255
    noisy = done([Step("GaussNoise", {"std_range": [share, share]})], np.full((256, 256, 3), 128, np.uint8))
    assert noisy.std() == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("level", [5, 40, 128, 250])
def test_shot_noise_as_the_transform_has_it(level: int) -> None:
    noisy = done([Step("ShotNoise", {"scale_range": [0.02, 0.02]})], np.full((256, 256, 3), level, np.uint8))
    row = 255 * shot_table(0.02)[level]
    assert noisy.mean() == pytest.approx(row.mean(), abs=1.0)
    assert noisy.std() == pytest.approx(row.std(), rel=0.05, abs=0.5)
