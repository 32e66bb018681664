"""Our own transforms as the nearest of albumentations' own, for those who train without curate, and what that loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from curate.recipes import backend
from curate.recipes.light import lamp_gains
from curate.recipes.recipe import Step

_GAMMA: Final = 2.2
_BRIGHTEST: Final = 0.2
"""The most that `Illumination` can change, and the least is 0.01."""


def in_plain(steps: Sequence[Step]) -> tuple[tuple[Step, ...], list[str]]:
    """Steps with our own transforms replaced.

    Args:
        steps: That can be made.

    Returns:
        The steps, and what was lost, one sentence for each replacement.
    """
    found: list[Step] = []
    lost: list[str] = []
    for step in steps:
        if step.steps:
            inner, lost_inside = in_plain(step.steps)
            if step.transform == "ByLight":
                step = replace(step, transform="OneOf", params={})
                lost.append(
                    "ByLight became OneOf: which of its transforms is done no longer depends on the image's light"
                )
            found.append(replace(step, steps=inner))
            lost += lost_inside
        elif backend.is_own(step.transform):
            # With the defaults of what is not said.
            made = backend.make(step, step.transform)
            found.append(replace(_NEAREST[step.transform][0](made), p=step.p))
            names = " and ".join(each.transform for each in found[-1].steps or found[-1:])
            lost.append(f"{step.transform} became {names}: {_NEAREST[step.transform][1]}")
        else:
            found.append(step)
    return tuple(found), lost


def _exposure(made: Any) -> Step:
    low, high = (float(2.0 ** (ev / _GAMMA) - 1) for ev in made.ev_range)
    return Step("RandomBrightnessContrast", {"brightness_limit": [0.0, 0.0], "contrast_limit": [low, high]})


def _lamp(made: Any) -> Step:
    # `PlanckianJitter` always has 6000 K among what it draws, so it cannot say one lamp; these two multiply by what one says.
    kelvin = 2 / sum(1 / end for end in made.kelvin_range)
    gains = lamp_gains(kelvin, made.balanced_for) ** ((1 - made.adaptation) / _GAMMA)
    scaled = Step("Normalize", {"mean": [0.0, 0.0, 0.0], "std": (1 / gains).tolist(), "max_pixel_value": 255.0})
    return Step("Sequential", steps=(scaled, Step("FromFloat", {"dtype": "uint8", "max_value": 255.0})))


def _vignetting(made: Any) -> Step:
    low, high = (float(np.clip(strength / 2, 0.01, _BRIGHTEST)) for strength in made.strength_range)
    params = {
        "mode": "gaussian",
        "effect_type": "brighten",
        "intensity_range": [low, high],
        "center_range": [0.5, 0.5],
        "sigma_range": [0.4, 0.5],
    }
    return Step("Illumination", params)


def _glare(made: Any) -> Step:
    x, y = (np.clip(each, 0, 1).tolist() for each in (made.centre_x_range, made.centre_y_range))
    roi = [x[0], y[0], max(x[1], min(x[0] + 0.01, 1)), max(y[1], min(y[0] + 0.01, 1))]
    roi[0], roi[1] = min(roi[0], roi[2] - 0.01), min(roi[1], roi[3] - 0.01)
    return Step("RandomSunFlare", {"flare_roi": roi, "src_radius": 200, "method": "overlay"})


def _dirt(made: Any) -> Step:
    opacity = [float(each) for each in made.opacity_range]
    return Step("Spatter", {"mode": "mud", "gauss_sigma": [10.0, 15.0], "intensity": opacity})


def _shutter(made: Any) -> Step:
    # Over the whole height the last row goes on by this share of the width; of a square that is an angle.
    low, high = (float(np.degrees(np.arctan(skew))) for skew in made.skew_range)
    fills = {"fill": made.fill, "fill_mask": made.fill_mask, "border_mode": made.border_mode}
    return Step("Affine", {"shear": {"x": [low, high], "y": [0.0, 0.0]}, **fills})


def _fog(made: Any) -> Step:
    low, high = (float(1 - np.exp(-density)) for density in made.density_range)
    return Step("RandomFog", {"fog_coef_range": [low, high], "alpha_coef": 0.08})


_NEAREST: Final[Mapping[str, tuple[Callable[[Any], Step], str]]] = {
    "Exposure": (_exposure, "the gain is of a pure power of 2.2, so that dark tones differ a little"),
    "LampTemperature": (
        _lamp,
        "one lamp, the middle of the range; the gains are of a pure power of 2.2",
    ),
    "Vignetting": (
        _vignetting,
        "at most a fifth of the light, and the middle gets brighter rather than the corners darker",
    ),
    "VeilingGlare": (
        _glare,
        "a disc of 200 pixels with circles, only within the image, in place of a veil by distance",
    ),
    "DirtyLens": (_dirt, "mud of its own pattern in place of spots; no scattered light"),
    "RollingShutter": (_shutter, "the skew is exact for square images; the wobble is gone"),
    "FogWithDepth": (_fog, "circles of fog by the place in the image; depth is not used"),
}
