"""Fits blur, resolution and noise, once light and tone are known.

Three ways to lose sharpness are compared: out of focus (a bell), motion (a line with an angle), and fewer pixels. Each is
fitted together with the sensor's noise, and the one that explains the difference best is taken, a parameter less counting for
it. Where none explains enough, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from curate.augment.fit.camera import STORED
from curate.augment.fit.detail import (
    OF_CHANNELS,
    Crops,
    Planes,
    blurred,
    details,
    directions,
    finished,
    gaussian,
    grain,
    luma_crops,
    motion,
    rescaled,
)
from curate.augment.fit.jpeg import NONE
from curate.augment.fit.moments import Solution, Unknown, grouped, misfit, solve, weight_of
from curate.augment.fit.views import SIDE, TEXTURED, Views

FloatArray = npt.NDArray[np.floating[Any]]
Family = Literal["focus", "motion", "resolution"]
Tried = dict[tuple[float, ...], npt.NDArray[np.float64]]

NOISE: Final = (Unknown("read", 12.0, 0, 6000, 800), Unknown("shot", 0.002, 0, 1, 0.1))
"""Variance in each channel (grey levels squared), and `ShotNoise`'s scale."""

BLUR: Final = Unknown("blur", 0.25, 0, 64, 10)
"""Squared sigma of the bell, pixels squared."""

_SQUARES: Final = (0.0, 0.4, 1.0, 2.5, 7.0)
_SCALES: Final = (0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 0.85)
_NEAR_SCALES: Final = (-0.04, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04)
_LENGTHS: Final = (3, 5, 9, 15, 23)
_ANGLES: Final = tuple(range(0, 180, 15))
_LONGER: Final = (-4, -2, 0, 2, 4)
_FINER: Final = (-10, -5, 0, 5, 10)
_DRAWS: Final = 400
# What a number may be wrong by, octaves: rounding between steps, filters' borders.
_WRONG: Final = 0.03
# Images that a search goes over; chi-square per direction that tells of motion.
_FEW: Final = 40
_ONE_WAY: Final = 4.0
# Chi-square per number above which what was found is doubted.
_EXPLAINED: Final = 1.6
# Variance of noise to start from where none is to be seen; and starts that are followed.
_HIDDEN: Final = 30.0
_BEST: Final = 2


@dataclass(frozen=True)
class Lens:
    """What was found.

    Attributes:
        family: How sharpness is lost.
        values: Of 'focus' the squared sigma; of 'motion' the length (pixels) and angle (degrees); of 'resolution' the scale.
        draws: Bootstrap of these, angles within 90 degrees of the one found; shape (b, k).
        noise: Read and shot noise (`NOISE`).
        blurred: Whether sharpness is lost at all.
        spread: Standard deviation of the squared sigma from image to image, beyond the source's.
    """

    family: Family
    values: tuple[float, ...]
    draws: npt.NDArray[np.float64]
    noise: Solution
    blurred: bool
    spread: float = 0.0


@dataclass(frozen=True)
class Scene:
    """What a lens is fitted to.

    Attributes:
        luma: The source's crops under the target's light, `detail.lit_crops`.
        crops: Noise and qualities for them.
        tone: What the tone was found to be.
        target: Numbers of the target's crops.
        groups: Of the source's and of the target's images.
        evidence: Chi-square that a parameter must explain.
    """

    luma: Planes
    crops: Crops
    tone: Mapping[str, float]
    target: FloatArray
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    evidence: float

    def numbers(self, luma: Planes, read: float, shot: float) -> FloatArray:
        """Of blurred crops, with noise, tone curve and JPEG."""
        return details(finished(luma, self.crops, read, shot, self.tone))

    def few(self, count: int) -> Scene:
        """Of some of the images: one of each group as far as that goes, evenly chosen."""
        groups = np.unique(self.groups[0], return_index=True)[1]
        rows = groups[np.linspace(0, len(groups) - 1, min(count, len(groups))).astype(int)]
        crops = replace(self.crops, quality=self.crops.quality[rows])
        return replace(self, luma=self.luma[rows], crops=crops, groups=(np.arange(len(rows)), self.groups[1]))


def fit_lens(scene: Scene, views: Views, rng: np.random.Generator) -> Lens:
    """Find blur, resolution and noise.

    Args:
        scene: What is known.
        views: Of the target.
        rng: For the bootstrap.
    """
    here, there = (np.median(np.square(255 * grain(each[:, TEXTURED:]))) for each in (scene.luma, luma_crops(views)))
    read = max(0.0, float(there - here)) / OF_CHANNELS**2
    focus = _fit_focus(scene, read, rng)
    found = [focus]
    noise = [float(value) for value in focus.noise.values]
    unexplained = focus.noise.misfit > _EXPLAINED
    if focus.blurred or unexplained:
        found.append(_fit_searched("resolution", scene, noise, rng))
    if unexplained and _one_way(scene, focus) > _ONE_WAY:
        found.append(_fit_searched("motion", scene, noise, rng))
    return min(found, key=lambda lens: lens.noise.score)


def numbers_of(scene: Scene, lens: Lens) -> FloatArray:
    """Of the source's crops, seen through the lens that was found."""
    read, shot = (float(value) for value in lens.noise.values)
    if lens.family == "focus":
        kernel = gaussian(math.sqrt(max(lens.values[0], 0.0)))
        return scene.numbers(blurred(scene.luma, kernel, scene.crops.normal), read, shot)
    return scene.numbers(_lose(lens.family, scene, lens.values), read, shot)


def soften(views: Views, lens: Lens) -> Planes:
    """Thumbnails through the lens that was found: as blurred as is to be seen of it at their size; shape (n, 32, 32, 3)."""
    if not lens.blurred:
        return views.small
    across = down = math.sqrt(max(lens.values[0], 0.0))
    if lens.family == "motion":
        deviation, angle = math.sqrt((lens.values[0] ** 2 - 1) / 12), math.radians(lens.values[1])
        across, down = (abs(deviation * part(angle)) for part in (math.cos, math.sin))
    elif lens.family == "resolution":
        # Means of so many pixels, and lines between them.
        across = down = math.sqrt((1 / lens.values[0] ** 2 - 1) / 4)
    shares = SIDE / (views.extent * (views.pixels / np.sqrt(views.extent.prod(axis=1)))[:, None])
    return np.stack(
        [
            cv2.GaussianBlur(small, (0, 0), sigmaX=max(across * x, 1e-3), sigmaY=max(down * y, 1e-3))
            for small, (x, y) in zip(views.small, shares.tolist(), strict=True)
        ]
    )


def _fit_focus(scene: Scene, read: float, rng: np.random.Generator) -> Lens:
    """A bell, and noise of either kind."""

    def describe(theta: FloatArray) -> FloatArray:
        square, of_read, of_shot = (float(value) for value in theta)
        sigma = math.sqrt(max(square, 0.0))
        return scene.numbers(blurred(scene.luma, gaussian(sigma), scene.crops.normal), of_read, of_shot)

    # The same noise in the middle of the range, of either kind.
    kinds = [(read, 0.0), (0.0, read * (STORED / 255) ** 2)]
    if (scene.crops.quality < NONE).any():
        # A JPEG leaves no trace of noise in what is flat.
        kinds.append((_HIDDEN, 0.0))
    best = []
    for kind in kinds:
        tried = [np.array([square, *kind]) for square in _SQUARES]
        apart = [misfit(describe(each), scene.target, _WRONG) for each in tried]
        best.append((min(apart), tried[int(np.argmin(apart))]))
    starts = [start for _, start in sorted(best, key=lambda each: each[0])[:_BEST]]
    unknowns = [BLUR, *NOISE]
    solution = solve(
        describe, scene.target, unknowns, scene.groups, evidence=scene.evidence, rng=rng, starts=starts, wrong=_WRONG
    )
    noise = replace(
        solution,
        values=solution.values[1:],
        chosen=solution.chosen[1:],
        draws=solution.draws[:, 1:],
        spread=solution.spread[1:],
    )
    square = float(solution.values[0])
    return Lens("focus", (square,), solution.draws[:, :1], noise, bool(solution.chosen[0]), float(solution.spread[0]))


def _fit_searched(family: Family, scene: Scene, noise: Sequence[float], rng: np.random.Generator) -> Lens:
    """What has no slopes to follow: the line or the scale among many that explains most, and then the noise."""
    there = grouped(scene.target, scene.groups[1])
    few = scene.few(_FEW)
    if family == "motion":
        roughly, _ = _best(family, few, noise, there, [(length, float(way)) for length in _LENGTHS for way in _ANGLES])
        lengths = [roughly[0] + more for more in _LONGER if roughly[0] + more >= 3]
        near: list[tuple[float, ...]] = [(length, (roughly[1] + finer) % 180) for length in lengths for finer in _FINER]
    else:
        roughly, _ = _best(family, few, noise, there, [(scale,) for scale in _SCALES])
        near = [(roughly[0] + step,) for step in _NEAR_SCALES]
    values, tried = _best(family, scene, noise, there, near)
    lost = _lose(family, scene, values)
    solution = solve(
        lambda theta: scene.numbers(lost, float(theta[0]), float(theta[1])),
        scene.target,
        NOISE,
        scene.groups,
        evidence=scene.evidence,
        rng=rng,
        starts=[np.array(noise)],
        wrong=_WRONG,
    )
    solution = replace(solution, score=solution.score + len(values) * scene.evidence)
    draws = _redrawn(tried, values, there, rng)
    if family == "motion":
        draws[:, 1] = values[1] + (draws[:, 1] - values[1] + 90) % 180 - 90
    return Lens(family, values, draws, solution, blurred=True)


def _best(
    family: Family,
    scene: Scene,
    noise: Sequence[float],
    there: FloatArray,
    candidates: Sequence[tuple[float, ...]],
) -> tuple[tuple[float, ...], Tried]:
    """The candidate that is nearest to the target, and the numbers of all."""
    tried = {
        each: grouped(scene.numbers(_lose(family, scene, each), noise[0], noise[1]), scene.groups[0])
        for each in candidates
    }
    return min(tried, key=lambda each: misfit(tried[each], there, _WRONG)), tried


def _one_way(scene: Scene, focus: Lens) -> float:
    """How much better than by chance directions tell the target from what a bell makes, chi-square per number."""
    soft = blurred(scene.luma, gaussian(math.sqrt(max(focus.values[0], 0.0))), scene.crops.normal)
    here, there = (
        grouped(directions(numbers), groups)
        for numbers, groups in zip((scene.numbers(soft, *focus.noise.values), scene.target), scene.groups, strict=True)
    )
    return misfit(here, there, _WRONG) / int(here.shape[1])


def _lose(family: Family, scene: Scene, values: Sequence[float]) -> Planes:
    """Crops moved or shrunk."""
    if family == "resolution":
        return rescaled(scene.luma, values[0])
    return blurred(scene.luma, motion(int(values[0]), values[1]), scene.crops.normal)


def _redrawn(
    tried: Tried,
    found: tuple[float, ...],
    there: FloatArray,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Which candidate would be best for pictures drawn anew; shape (b, k)."""
    here = tried[found]
    weight = weight_of(here, there, _WRONG)
    noise = [
        numbers[rng.integers(0, len(numbers), (_DRAWS, len(numbers)))].mean(axis=1) - numbers.mean(axis=0)
        for numbers in (there, here)
    ]
    means = np.array([numbers.mean(axis=0) for numbers in tried.values()])
    gaps = there.mean(axis=0) + noise[0] - noise[1] + rng.normal(0, _WRONG, noise[0].shape)
    # |gap - mean|^2 under the weight, without what all means share.
    apart = np.einsum("kd,de,ke->k", means, weight, means) - 2 * gaps @ weight @ means.T
    return np.asarray(np.array(list(tried), float)[apart.argmin(axis=1)])
