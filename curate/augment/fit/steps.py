"""From fitted parameters to steps of a recipe: plain transforms of albumentations 2.0.8, in a camera's order.

A step's range holds what the target's images vary by and how unsure the estimate is: a uniform distribution of that standard
deviation about the estimate, never beyond nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from curate.augment.fit.base import Parameter
from curate.augment.fit.camera import BELL, STORED, balance_gains
from curate.recipes.recipe import Step

Found = Mapping[str, Parameter]

REFERENCES: Final = "target"
"""`metadata_key` of the steps that take colours from the target's own images."""

# Illumination's intensity may not be more.
_MOST_LIGHT: Final = 0.2
_LEAST_LIGHT: Final = 0.01
_LEVELS: Final = 5
# A gain that nobody sees.
_SLIGHT: Final = 0.01


def steps_of(found: Found, *, appearance: bool = False, compress: bool = False) -> tuple[Step, ...]:
    """Steps for the parameters that differ.

    Args:
        found: All parameters by name.
        appearance: Whether colours are to be taken from references as well, on some images.
        compress: Whether images are to be compressed as the target's are, though the source's are no less.
    """
    light = _light(found)
    exposure, gain = _exposure(found, _in_middle(light))
    # What makes it darker comes first, so that the light does not cut it off at white.
    return (
        *(exposure if gain < 1 else ()),
        *light,
        *_events(found),
        *_lens(found),
        *(exposure if gain >= 1 else ()),
        *_balance(found),
        *(_appearance() if appearance else ()),
        *_noise(found),
        *_tone(found),
        *_jpeg(found, compress),
    )


def span(parameter: Parameter) -> tuple[float, float]:
    """Range of values to draw from."""
    deviation = math.hypot(parameter.spread, (parameter.high - parameter.low) / 3.92)
    half = math.sqrt(3) * deviation
    low, high = parameter.estimate - half, parameter.estimate + half
    if parameter.estimate > parameter.nothing:
        low = max(low, parameter.nothing)
    else:
        high = min(high, parameter.nothing)
    return low, high


def nominal_noise(deviation: float) -> float:
    """`GaussNoise`'s standard deviation for one of pixels, both in grey levels: it cuts its noise to whole levels towards 0."""
    asked, given = _cut_noise()
    return float(np.interp(deviation, given, asked))


@cache
def _cut_noise() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Standard deviations of normal noise, and of that noise cut to whole numbers towards 0."""
    asked, levels = np.linspace(0.3, 90, 900), np.arange(1, 400)
    beyond = special.erfc(levels / (asked[:, None] * math.sqrt(2)))
    # E[n^2] = sum over n of (2 n - 1) P(|x| >= n).
    return asked, np.sqrt(beyond @ (2.0 * levels - 1))


def _light(found: Found) -> list[Step]:
    """A plane and a bell; in several steps where one may not be strong enough."""
    steps = []
    across, down = (found[name] if found[name].differs else None for name in ("light_x", "light_y"))
    if across or down:
        x, y = (0.0 if each is None else each.estimate for each in (across, down))
        strength = math.hypot(x, y)
        spread = math.hypot(*((span(each)[1] - span(each)[0]) / 2 for each in (across, down) if each is not None), 0.0)
        count = max(1, math.ceil((strength + spread) / 0.18))
        # So that several together are as steep as one would be.
        low, high = (math.tanh(math.atanh(min(max(strength + sign * spread, 0), 0.9)) / count) for sign in (-1, 1))
        steps += [_plane(math.degrees(math.atan2(y, x)) % 360, low, high)] * count
    if found["vignetting"].differs:
        low, high = span(found["vignetting"])
        count = max(1, math.ceil(max(abs(low), abs(high)) / math.log2(1 + _MOST_LIGHT)))
        ends = sorted(abs(2 ** (value / count) - 1) for value in (low, high))
        steps += [
            _illumination(
                "gaussian", *ends, dark=high <= 0 and low < 0, center_range=[0.5, 0.5], sigma_range=[BELL, BELL]
            )
        ] * count
    return steps


def _plane(angle: float, low: float, high: float) -> Step:
    """Light from one side, so that the middle stays as nearly as it can.

    The transform's gradient is x cos(angle) + y sin(angle) with x and y from 0 to 1, and it multiplies by 1 - I + 2 I gradient
    or, darkening, by 1 + I - 2 I gradient: 1 in the middle only where the cosine and sine sum to 1.
    """
    dark = 135 <= angle < 315
    turned = (angle + 180) % 360 if dark else angle
    # At these very angles the transform scales its gradient in another way.
    turned = turned + 0.01 if turned % 45 == 0 and turned not in {0, 90} else turned
    beyond = _beyond(turned)
    ends = sorted(value / (1 + value * beyond if dark else 1 - value * beyond) for value in (low, high))
    return _illumination("linear", *ends, dark=dark, angle_range=[round(turned, 3)] * 2)


def _beyond(angle: float) -> float:
    """How far the gradient in the middle is from one half, doubled."""
    return math.cos(math.radians(angle)) + math.sin(math.radians(angle)) - 1


def _illumination(mode: str, low: float, high: float, *, dark: bool, **other: Any) -> Step:
    limits = [round(float(np.clip(value, _LEAST_LIGHT, _MOST_LIGHT)), 4) for value in (low, high)]
    effect = "darken" if dark else "brighten"
    return Step("Illumination", {"mode": mode, "intensity_range": limits, "effect_type": effect, **other})


def _events(found: Found) -> list[Step]:
    """Shadows and glare on as many images as the target has more of them."""
    steps = []
    if found["shadows"].differs and found["shadows"].estimate > 0:
        steps.append(Step("RandomShadow", {"shadow_intensity_range": [0.3, 0.6]}, round(found["shadows"].estimate, 3)))
    if found["glare"].differs and found["glare"].estimate > 0:
        steps.append(
            Step(
                "RandomSunFlare",
                {"flare_roi": [0, 0, 1, 1], "method": "physics_based"},
                round(found["glare"].estimate, 3),
            )
        )
    return steps


def _lens(found: Found) -> list[Step]:
    if found["motion"].differs:
        lengths = [max(3, round((value - 1) / 2) * 2 + 1) for value in span(found["motion"])]
        start, end = span(found["motion_angle"])
        limits = [start % 180, start % 180 + max(0.0, end - start)]
        return [
            Step(
                "MotionBlur",
                {
                    "blur_limit": lengths,
                    "angle_range": [round(value, 1) for value in limits],
                    "direction_range": [0.0, 0.0],
                    "allow_shifted": False,
                },
            )
        ]
    if found["resolution"].differs:
        low, high = (round(min(max(value, 0.05), 1.0), 3) for value in span(found["resolution"]))
        # cv2's INTER_AREA and INTER_LINEAR.
        return [Step("Downscale", {"scale_range": [low, high], "interpolation_pair": {"downscale": 3, "upscale": 1}})]
    if found["blur"].differs:
        low, high = (round(value, 3) for value in span(found["blur"]))
        return [Step("GaussianBlur", {"blur_limit": 0, "sigma_limit": [low, high]})]
    return []


def _gain(low: float, high: float) -> list[float]:
    return [round(value - 1, 4) for value in sorted((low, high))]


def _exposure(found: Found, middle: float) -> tuple[list[Step], float]:
    """Exposure, and back what the steps of the light give the middle; and the gain."""
    exposure = found["exposure"]
    stops = span(exposure) if exposure.differs else (0.0, 0.0)
    low, high = (2 ** (each / STORED) / middle for each in stops)
    gain = (low + high) / 2
    if not exposure.differs and abs(gain - 1) < _SLIGHT:
        return [], 1.0
    params = {"contrast_limit": _gain(low, high), "brightness_limit": [0.0, 0.0], "ensure_safe_range": False}
    return [Step("RandomBrightnessContrast", params)], gain


def _in_middle(light: Sequence[Step]) -> float:
    """What the steps of the light multiply the middle by."""
    gain = 1.0
    for step in light:
        intensity = sum(step.params["intensity_range"]) / 2
        sign = -1 if step.params["effect_type"] == "darken" else 1
        part = _beyond(step.params["angle_range"][0]) if step.params["mode"] == "linear" else 1.0
        gain *= 1 + sign * intensity * part
    return gain


def _balance(found: Found) -> list[Step]:
    """Gains of red and blue, one of a few from end to end.

    `PlanckianJitter` cannot: its range must hold 6,000 K, more than half of its draws lie there, and its 6,000 K is itself not
    neutral. `Normalize` and `FromFloat` multiply each channel by what is asked for.
    """
    names = [name for name in ("temperature", "tint") if found[name].differs]
    if not names:
        return []
    spans = {name: span(found[name]) if name in names else (0.0, 0.0) for name in ("temperature", "tint")}
    choices = []
    for share in np.linspace(0, 1, _LEVELS):
        temperature, tint = (float(low + share * (high - low)) for low, high in spans.values())
        red, blue = balance_gains(temperature, tint)
        divided = [round(1 / red, 5), 1.0, round(1 / blue, 5)]
        choices.append(
            Step(
                "Sequential",
                steps=(
                    Step("Normalize", {"mean": [0.0, 0.0, 0.0], "std": divided, "max_pixel_value": 255.0}),
                    Step("FromFloat", {"dtype": "uint8", "max_value": 255.0}),
                ),
            )
        )
    return [Step("OneOf", steps=tuple(choices))]


def _appearance() -> tuple[Step, ...]:
    """What no camera's setting explains: colours of the target's own images."""
    steps = (
        Step("FDA", {"beta_limit": [0.005, 0.02], "metadata_key": REFERENCES}),
        Step("HistogramMatching", {"blend_ratio": [0.3, 0.7], "metadata_key": REFERENCES}),
        Step("PixelDistributionAdaptation", {"blend_ratio": [0.2, 0.5], "metadata_key": REFERENCES}),
    )
    return (Step("OneOf", p=0.3, steps=steps),)


def _noise(found: Found) -> list[Step]:
    steps = []
    if found["shot_noise"].differs:
        steps.append(
            Step("ShotNoise", {"scale_range": [round(max(value, 1e-6), 6) for value in span(found["shot_noise"])]})
        )
    if found["read_noise"].differs:
        limits = [round(min(max(value, 0.0) / 255, 1.0), 5) for value in span(found["read_noise"])]
        steps.append(Step("GaussNoise", {"std_range": limits, "per_channel": True}))
    return steps


def _tone(found: Found) -> list[Step]:
    steps = []
    if found["gamma"].differs:
        steps.append(Step("RandomGamma", {"gamma_limit": [round(100 * value, 2) for value in span(found["gamma"])]}))
    if found["contrast"].differs:
        choices = []
        for factor in np.linspace(*span(found["contrast"]), 3):
            level = round(float(1 - factor) / 2, 4)
            params = {
                "contrast_limit": _gain(factor, factor),
                "brightness_limit": [level, level],
                "ensure_safe_range": False,
            }
            choices.append(Step("RandomBrightnessContrast", params))
        steps.append(Step("OneOf", steps=tuple(choices)))
    return steps


def _jpeg(found: Found, compress: bool) -> list[Step]:
    quality = found["jpeg"]
    if not quality.differs and not compress:
        return []
    # There is no quality that is nothing: spread and doubt go both ways.
    low, high = (int(np.clip(round(value), 1, 100)) for value in span(replace(quality, nothing=math.inf)))
    return [Step("ImageCompression", {"quality_range": [low, high], "compression_type": "jpeg"})]
