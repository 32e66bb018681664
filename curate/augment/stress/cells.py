"""The grid: corruptions, light first, each at graded severities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from curate.augment.scoring.predicting import Version
from curate.errors import UsageError

STEPS: Final = 5
"""Severities, as in ImageNet-C (Hendrycks and Dietterich 2019)."""

WEATHER: Final = ("dirty_lens", "fog_with_depth", "rain", "rolling_shutter")
"""Named recipes that are run beside the corruptions; the others are made of those."""

COVERED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "brightness_down": ("night",),
    "warm": ("new_lamp_3000K", "night"),
    "contrast": ("fog_with_depth", "low_sun_glare"),
    "gamma": ("night",),
    "shadow": ("low_sun_glare",),
    "glare": ("low_sun_glare",),
    "motion": ("conveyor_motion",),
    "noise": ("night",),
    "jpeg": ("jpeg_stream",),
    "resolution": ("jpeg_stream",),
}
"""Named recipes that do what a corruption does, among other things."""

_MIN_VISIBLE: Final = 0.25


@dataclass(frozen=True)
class Cell:
    """A corruption at a severity.

    Attributes:
        corruption: Its name.
        severity: In (0, 1].
        digest: Of what is done: another version of a corruption is another cell.
    """

    corruption: str
    severity: float
    digest: str

    @property
    def name(self) -> str:
        """Unique to what is done."""
        return f"{self.corruption}@{self.severity:.6g}#{self.digest}"


def severities(steps: int) -> tuple[float, ...]:
    """So many severities, the highest 1."""
    return tuple(round((step + 1) / steps, 6) for step in range(steps))


def choose(names: Sequence[str]) -> tuple[str, ...]:
    """The corruptions of these names, each once; for none, all of them and the weather.

    Raises:
        UsageError: There is none of a name.
    """
    from curate.recipes import CORRUPTIONS, NAMED

    known = (*CORRUPTIONS, *NAMED)
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, n=3)) or ", ".join(CORRUPTIONS)
            raise UsageError(f"there is no corruption '{name}'", where="--corruptions", remedy=f"perhaps: {near}")
    return tuple(dict.fromkeys(names)) or (*CORRUPTIONS, *WEATHER)


def cell(corruption: str, severity: float) -> Cell:
    """One cell of the grid."""
    from curate.recipes import graded

    if not (math.isfinite(severity) and 0 < severity <= 1):
        raise UsageError(f"a severity of {severity:g} cannot be", remedy="above 0, to 1")
    return Cell(corruption, severity, graded(corruption, severity).digest)


def version(cell: Cell) -> Version:
    """What a cell does to images. All severities of a corruption draw the same random numbers."""
    from curate.recipes import Pipeline, graded

    pipeline = Pipeline(graded(cell.corruption, cell.severity), min_visible=_MIN_VISIBLE, outside="cut")
    return Version(cell.name, pipeline, stream=cell.corruption)


def covering(corruption: str) -> tuple[str, ...]:
    """Names of the recipes that come with curate and change images in the way that a corruption does, the closest first."""
    from curate.recipes import NAMED

    return (corruption,) if corruption in NAMED else COVERED_BY.get(corruption, ())
