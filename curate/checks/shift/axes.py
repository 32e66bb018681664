"""The axes along which sets of images differ, and the words for their ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Axis:
    """One measured axis.

    Attributes:
        name: As it is printed.
        view: 'white point', 'lighting', 'color', 'focus', 'noise', 'compression' or 'detail'.
        low: What an image at its lower end is called; empty for nothing worth a word.
        high: The same of the upper end.
        concept: What it tells of: a name has one word for each.
        column: The measured column; empty where it is derived.
        floor: What is added before the logarithm to base 2 is taken; None for none. Where there is one, the axis is in
            octaves, and stored values are its power.
        least: How far from 0 a word needs the axis to be, where it is signed.
        signed: Whether 0 lies between the two words: what is only less bright on the right than others is not lit from the
            left.
    """

    name: str
    view: str
    low: str
    high: str
    concept: str
    column: str = ""
    floor: float | None = None
    least: float = 0.0
    signed: bool = False


AXES: Final = (
    # A view of its own: the surest sign of another exposure must not be shared out among all that tells of light.
    Axis("white point", "white point", "dim light", "strong light", "strength", "white"),
    Axis("brightness", "lighting", "dark", "bright", "brightness", "brightness", 0.01),
    Axis("dark tones", "lighting", "deep shadows", "lifted shadows", "dark tones", "luminance_p05", 0.02),
    Axis("lower mid-tones", "lighting", "dark", "bright", "brightness", "luminance_p25", 0.02),
    Axis("mid-tones", "lighting", "dark", "bright", "brightness", "luminance_p50", 0.02),
    Axis("upper mid-tones", "lighting", "dark", "bright", "brightness", "luminance_p75", 0.02),
    Axis("bright tones", "lighting", "dim light", "strong light", "strength", "luminance_p95", 0.02),
    Axis("highlights", "lighting", "dim light", "strong light", "strength", "highlight"),
    Axis("clipped dark", "lighting", "", "blocked shadows", "dark tones", "clipped_dark", 0.003),
    Axis("clipped bright", "lighting", "", "blown highlights", "clipping", "clipped_bright", 0.003),
    Axis("contrast", "lighting", "low contrast", "high contrast", "contrast", "contrast", 0.02),
    Axis(
        "light left to right",
        "lighting",
        "light from the left",
        "light from the right",
        "across",
        "slope_x",
        None,
        0.12,
        True,
    ),
    Axis(
        "light top to bottom", "lighting", "light from above", "light from below", "down", "slope_y", None, 0.12, True
    ),
    Axis("unevenness", "lighting", "even light", "", "evenness"),
    Axis("corners", "lighting", "dark corners", "bright corners", "corners", "falloff", None, 0.05, True),
    Axis(
        "shadows left or right",
        "lighting",
        "light from the right",
        "light from the left",
        "across",
        "shadow_x",
        None,
        0.1,
        True,
    ),
    Axis(
        "shadows above or below",
        "lighting",
        "light from below",
        "light from above",
        "down",
        "shadow_y",
        None,
        0.1,
        True,
    ),
    Axis("shadow depth", "lighting", "diffuse light", "hard shadows", "hardness", "shadow_depth"),
    Axis("warmth", "color", "cool", "warm", "warmth", "", None, 0.05, True),
    Axis("tint", "color", "magenta tint", "green tint", "tint", "", None, 0.05, True),
    Axis("red", "color", "", "", "warmth", "red_gain"),
    Axis("blue", "color", "", "", "warmth", "blue_gain"),
    Axis("neutral red-green", "color", "green tint", "magenta tint", "tint", "cast_a"),
    Axis("neutral yellow-blue", "color", "cool", "warm", "warmth", "cast_b"),
    Axis("red of white", "color", "", "", "warmth", "white_red"),
    Axis("blue of white", "color", "", "", "warmth", "white_blue"),
    Axis("chroma", "color", "grey", "colorful", "chroma", "chroma", 1.0),
    Axis("sharpness", "focus", "soft", "sharp", "focus", "sharpness"),
    Axis("edge width", "focus", "sharp", "blurred", "focus", "edge_width", 0.3),
    Axis("motion blur", "focus", "", "motion-blurred", "motion", "motion_blur"),
    Axis("noise", "noise", "clean", "noisy", "noise", "noise", 0.002),
    Axis("blockiness", "compression", "", "JPEG blocks", "compression", "blockiness", 0.05),
    Axis("banding", "compression", "", "banded tones", "banding", "banding", 0.02),
    Axis("edges", "detail", "plain", "busy", "detail", "edge_density", 0.01),
    Axis("entropy", "detail", "plain", "rich in tones", "detail", "entropy"),
)
"""Where a word for an axis is empty, it is tested but not named."""

NAMES: Final = tuple(axis.name for axis in AXES)
VIEWS: Final = tuple(axis.view for axis in AXES)

LAMPS: Final = (
    *("light left to right", "light top to bottom", "corners", "highlights"),
    *("warmth", "tint", "shadows left or right", "shadows above or below", "shadow depth"),
)
"""The axes that tell of the light and little of the contents."""


def axis_values(columns: Mapping[str, FloatArray]) -> npt.NDArray[np.float64]:
    """The axes of n images.

    Args:
        columns: Measures and light by name, each of shape (n,).

    Returns:
        float64 array of shape (n, k), columns in the order of `AXES`.
    """
    red, blue = np.asarray(columns["lamp_red"], np.float64), np.asarray(columns["lamp_blue"], np.float64)
    derived = {
        "warmth": red - blue,
        "tint": -(red + blue) / 2,
        "unevenness": np.hypot(columns["slope_x"], columns["slope_y"]),
    }
    values = []
    for axis in AXES:
        column = np.asarray(columns[axis.column] if axis.column else derived[axis.name], np.float64)
        values.append(column if axis.floor is None else np.log2(np.maximum(column, 0) + axis.floor))
    return np.stack(values, axis=1)


def in_units(axis: Axis, value: float) -> float:
    """An axis's value as it was measured, for a person: the logarithm is taken back."""
    return value if axis.floor is None else float(np.exp2(value)) - axis.floor


def lamp_columns() -> list[int]:
    """Places of `LAMPS` among the axes."""
    return [NAMES.index(name) for name in LAMPS]
