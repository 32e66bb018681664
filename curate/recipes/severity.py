"""How strong a recipe is: every parameter between doing nothing and what it says.

    at_severity(named_recipe("night"), 0.5)
    graded("motion", 0.3)

Corruptions are recipes of one thing each, for finding out where a model breaks; their full severity is about the worst that
cameras deliver (Hendrycks and Dietterich 2019 have five steps of some of them).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from curate.errors import InputError, UsageError
from curate.recipes import backend
from curate.recipes.files import NAMED, named_recipe
from curate.recipes.light import CAMERA_KELVIN
from curate.recipes.recipe import Recipe, Step

_AREA_AND_LINEAR: Final = {"downscale": 3, "upscale": 1}

_FULL: Final[Mapping[str, tuple[Step, ...]]] = {
    "brightness_down": (Step("Exposure", {"ev_range": [-5.0, -5.0]}),),
    "brightness_up": (Step("Exposure", {"ev_range": [4.0, 4.0]}),),
    "warm": (Step("LampTemperature", {"kelvin_range": [2000.0, 2000.0], "balanced_for": CAMERA_KELVIN}),),
    "cold": (Step("LampTemperature", {"kelvin_range": [25000.0, 25000.0], "balanced_for": CAMERA_KELVIN}),),
    "contrast": (
        Step("ColorJitter", {"brightness": [1, 1], "contrast": [0.1, 0.1], "saturation": [1, 1], "hue": [0, 0]}),
    ),
    "gamma": (Step("RandomGamma", {"gamma_limit": [400, 400]}),),
    "vignette": (Step("Vignetting", {"strength_range": [0.95, 0.95]}),),
    "shadow": (
        Step("RandomShadow", {"shadow_roi": [0, 0, 1, 1], "shadow_dimension": 3, "shadow_intensity_range": [0.9, 0.9]}),
    ),
    "glare": (Step("VeilingGlare", {"strength_range": [2.0, 2.0], "width": 0.2}),),
    "defocus": (Step("Defocus", {"radius": [12, 12], "alias_blur": [0.5, 0.5]}),),
    "motion": (Step("MotionBlur", {"blur_limit": [41, 41], "direction_range": [0.0, 0.0], "allow_shifted": False}),),
    "noise": (
        Step("ShotNoise", {"scale_range": [0.1, 0.1]}),
        Step("GaussNoise", {"std_range": [0.1, 0.1]}),
    ),
    "jpeg": (Step("ImageCompression", {"quality_range": [3, 3]}),),
    "resolution": (Step("Downscale", {"scale_range": [0.08, 0.08], "interpolation_pair": _AREA_AND_LINEAR}),),
}

CORRUPTIONS: Final[tuple[str, ...]] = tuple(_FULL)
"""Names of the corruptions, those of light first."""


@dataclass(frozen=True)
class _Nothing:
    """At which value a parameter does nothing, and how one goes there.

    Attributes:
        value: Of the parameter.
        by: `linear`; `ratio` for what multiplies; `mired` for temperatures, by their reciprocals.
        whole: `int`, or `odd` for sizes of kernels.
        least: The transform takes no less (no more where it does nothing at a high value); a step that would need it is dropped.
    """

    value: float = 0.0
    by: Literal["linear", "ratio", "mired"] = "linear"
    whole: Literal["", "int", "odd"] = ""
    least: float | None = None


_ONE: Final = _Nothing(1.0, "ratio")
_ZERO: Final = _Nothing()

_NOTHING: Final[Mapping[str, Mapping[str, _Nothing]]] = {
    "Exposure": {"ev_range": _ZERO},
    "LampTemperature": {"kelvin_range": _Nothing(CAMERA_KELVIN, "mired")},
    "Vignetting": {"strength_range": _ZERO},
    "VeilingGlare": {"strength_range": _ZERO},
    "DirtyLens": {"opacity_range": _ZERO},
    "RollingShutter": {"skew_range": _ZERO, "wobble_range": _ZERO},
    "FogWithDepth": {"density_range": _ZERO},
    "RandomGamma": {"gamma_limit": _Nothing(100.0, "ratio")},
    "RandomBrightnessContrast": {"brightness_limit": _ZERO, "contrast_limit": _ZERO},
    "ColorJitter": {"brightness": _ONE, "contrast": _ONE, "saturation": _ONE, "hue": _ZERO},
    "HueSaturationValue": dict.fromkeys(("hue_shift_limit", "sat_shift_limit", "val_shift_limit"), _ZERO),
    "RGBShift": dict.fromkeys(("r_shift_limit", "g_shift_limit", "b_shift_limit"), _ZERO),
    "MultiplicativeNoise": {"multiplier": _ONE},
    "PlanckianJitter": {"temperature_limit": _Nothing(6000.0, "mired", "int")},
    "Illumination": {"intensity_range": _Nothing(least=0.01)},
    "PlasmaShadow": {"shadow_intensity_range": _ZERO},
    "PlasmaBrightnessContrast": {"brightness_range": _ZERO, "contrast_range": _ZERO},
    "RandomShadow": {"shadow_intensity_range": _ZERO},
    "RandomSunFlare": {"src_radius": _Nothing(whole="int", least=10)},
    "RandomToneCurve": {"scale": _ZERO},
    "RandomRain": {"brightness_coefficient": _ONE},
    "RandomFog": {"fog_coef_range": _Nothing(least=0.02), "alpha_coef": _ZERO},
    "GaussianBlur": {"sigma_limit": _Nothing(least=0.1)},
    "MotionBlur": {"blur_limit": _Nothing(1.0, whole="odd", least=3)},
    "Defocus": {"radius": _Nothing(whole="int", least=1), "alias_blur": _ZERO},
    "ZoomBlur": {"max_factor": _ONE},
    "Downscale": {"scale_range": _ONE},
    "ImageCompression": {"quality_range": _Nothing(100.0, whole="int")},
    "GaussNoise": {"std_range": _ZERO, "mean_range": _ZERO},
    "ShotNoise": {"scale_range": _Nothing(least=1e-5)},
    "ISONoise": {"color_shift": _ZERO, "intensity": _ZERO},
    "HistogramMatching": {"blend_ratio": _ZERO},
    "PixelDistributionAdaptation": {"blend_ratio": _ZERO},
    "FDA": {"beta_limit": _ZERO},
    "Affine": {"scale": _ONE, "translate_percent": _ZERO, "rotate": _ZERO, "shear": _ZERO},
    "Rotate": {"limit": _ZERO},
    "SafeRotate": {"limit": _ZERO},
    "Perspective": {"scale": _ZERO},
    "ElasticTransform": {"alpha": _ZERO},
    "GridDistortion": {"distort_limit": _ZERO},
    "OpticalDistortion": {"distort_limit": _ZERO},
}


def graded(name: str, severity: float) -> Recipe:
    """A corruption, or a named recipe, of a severity.

    Args:
        name: One of `CORRUPTIONS` or of `curate.recipes.NAMED`.
        severity: 0, which is a recipe without steps, to 1.

    Raises:
        InputError: There is none of that name.
        UsageError: The severity is not in [0, 1].
    """
    if name in NAMED:
        return named_recipe(name, severity)
    if name not in _FULL:
        near = difflib.get_close_matches(name, [*CORRUPTIONS, *NAMED], n=3, cutoff=0.4)
        listed = f"near ones: {', '.join(near)}" if near else f"there are {', '.join([*CORRUPTIONS, *NAMED])}"
        raise InputError(f"there is no corruption {name!r}", remedy=listed)
    return at_severity(Recipe(name, _FULL[name], {"description": f"{name.replace('_', ' ')}, graded"}), severity)


def at_severity(recipe: Recipe, severity: float) -> Recipe:
    """A recipe with every parameter between doing nothing and what it says; where it says a range, both ends.

    Of transforms that are not known to do nothing anywhere (a flip) the chance grows instead.

    Args:
        recipe: What is done at severity 1.
        severity: 0, which is a recipe without steps, to 1.

    Raises:
        UsageError: The severity is not in [0, 1].
    """
    if not 0 <= severity <= 1:
        raise UsageError(f"the severity is {severity}", remedy="between 0 and 1")
    if severity == 1:
        return recipe
    scaled = [_at(step, severity, recipe.name) for step in recipe.steps] if severity else []
    steps = tuple(step for step in scaled if step is not None)
    return replace(recipe, steps=steps, about={**recipe.about, "severity": float(severity)})


def _at(step: Step, severity: float, where: str) -> Step | None:
    if step.steps:
        if step.transform == "ByLight":  # as many as there are lights
            return replace(step, steps=tuple(_at(each, severity, where) or Step("NoOp") for each in step.steps))
        inner = tuple(found for each in step.steps if (found := _at(each, severity, where)) is not None)
        return replace(step, steps=inner) if inner else None
    nothing = _NOTHING.get(step.transform)
    if nothing is None:
        return replace(step, p=step.p * severity)
    made = backend.make(step, where)
    params = dict(step.params)
    for name, way in nothing.items():
        # As the transform understood it: a single number stands for a range around nothing.
        full = getattr(made, name, None)
        if full is None:
            continue
        if step.transform == "LampTemperature":
            way = replace(way, value=made.balanced_for)
        found = _between(full, way, severity)
        if way.least is not None and _largest(found) < way.least:
            return None
        params[name] = found
    if "visibility_range" in params and params["visibility_range"] is not None:
        params["visibility_range"] = [each / severity for each in params["visibility_range"]]
    said = {name: value for name, value in params.items() if name in step.params or not _is_default(made, name, value)}
    return replace(step, params=said)


def _between(full: Any, way: _Nothing, severity: float) -> Any:
    if isinstance(full, Mapping):
        return {key: _between(value, way, severity) for key, value in full.items()}
    if isinstance(full, list | tuple):
        return [_between(value, way, severity) for value in full]
    if full is None:
        return None
    if way.by == "ratio" and full > 0:
        value = way.value * (full / way.value) ** severity
    elif way.by == "mired":
        value = 1 / ((1 - severity) / way.value + severity / full)
    else:
        value = way.value + (full - way.value) * severity
    if way.whole == "odd":
        return 2 * round((value - 1) / 2) + 1
    if way.whole == "int":
        return round(value)
    return value if way.least is None else max(value, 0.0)


def _largest(value: Any) -> float:
    if isinstance(value, Mapping):
        return max(map(_largest, value.values()))
    return max(map(_largest, value)) if isinstance(value, list) else float(value)


def _is_default(made: Any, name: str, value: Any) -> bool:
    default = inspect.signature(type(made).__init__).parameters[name].default
    return bool(value == (list(default) if isinstance(default, tuple) else default))
