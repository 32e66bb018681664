"""From images of the rest and of a target condition, pictures of other things, to a recipe that turns one into the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.augment.fit.base import Fitted, Parameter
from curate.augment.fit.camera import STORED, TONE, Sensor, show, temperature_of
from curate.augment.fit.detail import GRAINS, Crops, details, lit_crops, luma_crops
from curate.augment.fit.events import EVENTS, events, representatives
from curate.augment.fit.jpeg import NONE
from curate.augment.fit.lens import Lens, Scene, fit_lens, numbers_of, soften
from curate.augment.fit.lights import Lights, find_lights
from curate.augment.fit.looks import looks
from curate.augment.fit.moments import Solution, Unknown, solve
from curate.augment.fit.steps import REFERENCES, nominal_noise, steps_of
from curate.augment.fit.views import CROP, SIDE, Source, Views, load_views
from curate.errors import UsageError
from curate.models.passes import Progress
from curate.recipes.pipeline import leaves
from curate.recipes.recipe import Recipe, Step

FloatArray = npt.NDArray[np.floating[Any]]
Groups = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

LEAST: Final = 8
"""Images on each side below which nothing can be told."""

MOST: Final = 200
"""Images on each side that are used of more."""

EVIDENCE: Final = 10.0
"""Chi-square that a parameter must explain to differ: one in 600 does by chance, of about fifteen that are looked at."""

_UNKNOWN: Final = (
    Unknown("light_x", 0.05, -0.6, 0.6, 0.3),
    Unknown("light_y", 0.05, -0.6, 0.6, 0.3),
    Unknown("vignetting", 0.1, -1.0, 1.5, 0.7),
    Unknown("exposure", 0.2, -4.0, 4.0, 2.0),
    Unknown("temperature", 10.0, -80.0, 150.0, 60.0),
    Unknown("tint", 0.05, -1.0, 1.0, 0.3),
    Unknown("gamma", 0.1, -1.5, 1.5, 0.7),
    Unknown("contrast", 0.1, -1.5, 1.5, 0.7),
)
_UNITS: Final = {
    "light_x": "part of the light in the middle, from there to the right border",
    "light_y": "part of the light in the middle, from there to the lower border",
    "vignetting": "octaves from the far corners to the middle",
    "exposure": "stops",
    "temperature": "mired, warmer is positive",
    "tint": "octaves of red and blue over green",
    "gamma": "exponent",
    "contrast": "factor about the middle",
    "blur": "pixels, sigma",
    "motion": "pixels, length",
    "motion_angle": "degrees from the x axis to the y axis",
    "resolution": "scale",
    "noise": "grey levels, standard deviation where it is mid-grey",
    "read_noise": "grey levels, GaussNoise's standard deviation",
    "shot_noise": "ShotNoise's scale",
    "jpeg": "quality",
    "shadows": "share of images, beyond the rest's",
    "glare": "share of images, beyond the rest's",
}
# What a number of a thumbnail may be wrong by, octaves: shrinking before a curve is not after it.
_WRONG: Final = 0.01
# Octaves of gamma to start from.
_GAMMAS: Final = (-0.4, 0.0, 0.4)
# Images on each side that blur and noise are fitted to.
_DETAILED: Final = 60
_NOISE_ROWS: Final = 512
_DRAWS: Final = 400
# Differences in quality that matter; and of shares of images.
_QUALITY: Final = 3.0
_SHARE: Final = 0.1
# Sizes that differ by less are taken for the same.
_SAME_SIZE: Final = 1.15
_UNEXPLAINED: Final = 2.0
_BY_CHANCE: Final = 3.0
# Of a crop's amplitudes the first are of what is coarse, which blur does not touch.
_COARSE: Final = 4


@dataclass(frozen=True)
class _Sides:
    """Source and target, and which of their images belong together."""

    source: Views
    target: Views
    groups: Groups

    def lit_by(self, lights: Lights, light: int) -> _Sides:
        """With those of the source's images alone that were taken in one light."""
        rows = np.flatnonzero((lights.of == light) & ~lights.strange)
        of = np.unique(self.groups[0][rows], return_inverse=True)[1]
        return replace(self, source=self.source.of(rows), groups=(of, self.groups[1]))


def fit_recipe(
    source: Sequence[Source],
    target: Sequence[Source],
    *,
    seed: int = 0,
    name: str = "fitted",
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    progress: Progress | None = None,
    workers: int = 2,
) -> Fitted:
    """Find the recipe that makes images of one condition look as if they were taken under another.

    Args:
        source: Images of the rest, pixels or files; of more than 200, as many are drawn.
        target: Images of the target condition, of other things.
        seed: Of what is drawn.
        name: Of the recipe.
        groups: For each image of the source and of the target, which it belongs with (a burst, a video): these say no more
            than one image does.
        progress: Told how many images are read, and how many there are.
        workers: Threads that decode.

    Returns:
        The recipe and what it rests on. About 0.1 s of CPU an image; twice that where the source was taken in several lights.

    Raises:
        UsageError: There are fewer than 8 images on a side.
        ImageError: A file cannot be read.
    """
    for side, images in (("source", source), ("target", target)):
        if len(images) < LEAST:
            raise UsageError(
                f"{len(images)} images of the {side} are too few to fit a recipe to",
                remedy=f"give {LEAST} or more; from 50 on, small differences show",
            )
    rng = np.random.default_rng([seed, 9])
    kept = [np.sort(rng.permutation(len(images))[:MOST]) for images in (source, target)]
    sides = _load(source, target, kept, groups, progress, workers)
    whole = _fit(sides, rng)
    lights, told = find_lights(sides.source, sides.target, sides.groups, seed)
    parts = [] if lights is None else [_fit(sides.lit_by(lights, light), rng) for light in range(len(lights.middles))]
    references = tuple(int(kept[1][k]) for k in representatives(looks(sides.target.small), seed))
    counts = (len(sides.source), len(sides.target))
    steps = whole.steps if lights is None else _by_light(lights, parts)
    recipe = Recipe(name, steps, _about(whole, parts, steps, counts, [target[k] for k in references]))
    found = tuple((part.images, part.parameters) for part in parts)
    notes = (*told, *(_notes(parts) if parts else whole.notes))
    unexplained = float(np.mean([part.unexplained for part in parts or [whole]]))
    return Fitted(recipe, whole.parameters, references, unexplained, notes, counts, found)


@dataclass(frozen=True)
class _Part:
    """What was fitted from the whole source, or from what was taken in one light."""

    images: int
    parameters: Mapping[str, Parameter]
    steps: tuple[Step, ...]
    unexplained: float
    notes: tuple[str, ...]

    @property
    def different(self) -> dict[str, Parameter]:
        """The parameters that differ."""
        return {name: each for name, each in self.parameters.items() if each.differs}


def _fit(sides: _Sides, rng: np.random.Generator) -> _Part:
    quality = _quality(sides, rng)
    tone_solution, lens, sensor, notes = _fit_both(sides, quality.differs, rng)
    tone = dict(zip(TONE, tone_solution.values, strict=True))
    parameters = {**_tone_parameters(tone_solution), "jpeg": quality}
    parameters |= _lens_parameters(lens) | _event_parameters(sides, tone, sensor, rng)
    ordered = {each: parameters[each] for each in _UNITS}
    changed = any(ordered[each].differs for each in ("blur", "motion", "resolution", "noise"))
    appearance = tone_solution.misfit > _UNEXPLAINED
    steps = steps_of(ordered, appearance=appearance, compress=changed and _is_compressed(sides))
    return _Part(len(sides.source), ordered, steps, tone_solution.misfit, notes)


def _notes(parts: Sequence[_Part]) -> list[str]:
    """What each light's fit has to say, naming the lights unless all say it."""
    notes = []
    for note in dict.fromkeys(note for part in parts for note in part.notes):
        lights = [number for number, part in enumerate(parts, 1) if note in part.notes]
        if len(lights) == len(parts):
            notes.append(note)
        else:
            named = ", ".join(f"light {number} ({parts[number - 1].images:,} images)" for number in lights)
            notes.append(f"beside images of {named}: {note}")
    return notes


def _by_light(lights: Lights, parts: Sequence[_Part]) -> tuple[Step, ...]:
    """What each light's images are changed by; nothing where none differs."""
    if not any(part.steps for part in parts):
        return ()
    choices = tuple(Step("Sequential", steps=part.steps) if part.steps else Step("NoOp") for part in parts)
    params = {"lights": lights.middles.round(3).tolist(), "scale": lights.scale.round(4).tolist()}
    return (Step("ByLight", params, steps=choices),)


def _load(
    source: Sequence[Source],
    target: Sequence[Source],
    kept: Sequence[npt.NDArray[np.int64]],
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None,
    progress: Progress | None,
    workers: int,
) -> _Sides:
    """Views of both sides, the target's crops at the source's size of pixels."""
    total = len(kept[0]) + len(kept[1])

    def told(before: int) -> Callable[[int], None]:
        return lambda count: progress(before + count, total) if progress is not None else None

    here = load_views([source[k] for k in kept[0]], done=told(0), workers=workers)
    there = [target[k] for k in kept[1]]
    views = load_views(there, done=told(len(here)), workers=workers)
    scale = float(np.median(here.pixels) / np.median(views.pixels))
    if max(scale, 1 / scale) > _SAME_SIZE:
        views = load_views(there, scale=scale, workers=workers)
    numbered = [_numbers(side, rows) for side, rows in zip(groups or (None, None), kept, strict=True)]
    return _Sides(here, views, (numbered[0], numbered[1]))


def _numbers(groups: Sequence[Hashable] | None, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    if groups is None:
        return np.arange(len(rows))
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(groups[row], len(known)) for row in rows])


def _fit_both(
    sides: _Sides, compressed: bool, rng: np.random.Generator
) -> tuple[Solution, Lens, Sensor, tuple[str, ...]]:
    """Tone and detail. They meet where thumbnails have a little of the blur and the noise, and shot noise makes the dark darker:
    what was found is gone through again with these, and noise of either kind."""
    tone = _fit_tone(sides, rng, Sensor())
    lens, notes = _fit_detail(sides, tone, compressed, rng)
    if not lens.blurred and not lens.noise.chosen.any():
        return tone, lens, Sensor(), notes
    read, shot = (float(value) for value in lens.noise.values)
    # As much noise in the middle of the range, of one kind, of the other, and as it was found.
    total = read + shot * (255 / STORED) ** 2
    kinds = {(read, shot), (total, 0.0), (0.0, total * (STORED / 255) ** 2)}
    softer = replace(sides, source=replace(sides.source, small=soften(sides.source, lens)))
    tried = [(_fit_tone(softer, rng, Sensor(*kind)), Sensor(*kind)) for kind in sorted(kinds)]
    tone, sensor = min(tried, key=lambda each: each[0].score)
    lens, notes = _fit_detail(sides, tone, compressed, rng)
    return tone, lens, sensor, notes


def _is_compressed(sides: _Sides) -> bool:
    """Whether most images of the target are JPEGs."""
    return bool(np.median(sides.target.quality) < NONE)


def _fit_tone(sides: _Sides, rng: np.random.Generator, sensor: Sensor) -> Solution:
    """Light, exposure, white balance, gamma and contrast, from thumbnails."""
    here, target = sides.source, looks(sides.target.small)
    pixels = np.square(here.pixels / SIDE).astype(np.float32)

    def describe(theta: FloatArray) -> FloatArray:
        return looks(show(here.small, here.extent, dict(zip(TONE, theta.tolist(), strict=True)), sensor, pixels))

    return solve(
        describe,
        target,
        _UNKNOWN,
        sides.groups,
        evidence=EVIDENCE,
        rng=rng,
        starts=[np.zeros(len(TONE)), *(_coarse(sides, gamma) for gamma in _GAMMAS)],
        wrong=_WRONG,
    )


def _coarse(sides: _Sides, gamma: float) -> npt.NDArray[np.float64]:
    """Exposure, temperature and tint from the channels' median levels alone, for some gamma: near enough to start from."""
    here, there = (
        np.median(np.log2(side.small.mean(axis=(1, 2)) + 0.01), axis=0) for side in (sides.source, sides.target)
    )
    red, green, blue = (float(value) for value in there / 2**gamma - here)
    temperature, tint = temperature_of(2 ** (red - green), 2 ** (blue - green))
    start = dict.fromkeys(TONE, 0.0)
    start |= {"exposure": STORED * green, "temperature": temperature, "tint": tint, "gamma": gamma}
    clipped = [np.clip(start[each.name], each.low / 2, each.high / 2) for each in _UNKNOWN]
    return np.array(clipped, np.float64)


def _tone_parameters(solution: Solution) -> Mapping[str, Parameter]:
    as_factor = {"gamma", "contrast"}
    return {
        name: _parameter(
            name,
            1.0 if name in as_factor else 0.0,
            (lambda value: 2.0**value) if name in as_factor else float,
            float(solution.values[k]) if solution.chosen[k] else float(solution.draws[:, k].mean()),
            solution.draws[:, k],
            bool(solution.chosen[k]),
            float(solution.spread[k]),
        )
        for k, name in enumerate(TONE)
    }


def _parameter(
    name: str,
    nothing: float,
    scale: Callable[[float], float],
    value: float,
    draws: npt.NDArray[np.float64],
    differs: bool,
    spread: float = 0.0,
) -> Parameter:
    """In the units that people read."""
    low, high = (float(end) for end in np.quantile(draws, [0.025, 0.975]))
    ends = sorted((scale(low), scale(high)))
    moved = abs(scale(value + spread) - scale(value))
    return Parameter(name, _UNITS[name], nothing, scale(value), ends[0], ends[1], differs, moved)


def _quality(sides: _Sides, rng: np.random.Generator) -> Parameter:
    """JPEG quality of the target against the source's."""
    here, there = float(np.median(sides.source.quality)), sides.target.quality
    medians = np.median(there[rng.integers(0, len(there), (_DRAWS, len(there)))], axis=1)
    quarters = np.quantile(there, [0.25, 0.75])
    spread = float(quarters[1] - quarters[0]) / 1.35
    differs = bool(np.quantile(medians, 0.975) < here - _QUALITY)
    return _parameter("jpeg", here, float, float(np.median(there)), medians, differs, spread)


def _fit_detail(
    sides: _Sides, solution: Solution, compressed: bool, rng: np.random.Generator
) -> tuple[Lens, tuple[str, ...]]:
    """Blur, resolution and noise, and what a recipe cannot make.

    Where the target's images are JPEGs it is not known whether they were blurred or noisy before, so that their compression hides
    some of it: both are tried, unless it is known that the source's are compressed less.
    """
    (here, mine), (there, theirs) = (
        views.few(_DETAILED, groups) for views, groups in zip((sides.source, sides.target), sides.groups, strict=True)
    )
    tone = dict(zip(TONE, solution.values.tolist(), strict=True))
    luma = lit_crops(here, tone)
    normal = rng.standard_normal((_NOISE_ROWS, CROP, CROP), np.float32)
    rank = rng.integers(0, 256, normal.shape, np.uint8)
    target = details(luma_crops(there))
    found = []
    for compress in [True] if compressed else sorted({False, _is_compressed(sides)}):
        crops = Crops(luma, normal, rank, _qualities(here, there, compress))
        scene = Scene(luma, crops, tone, target, (mine, theirs), EVIDENCE)
        found.append((scene, fit_lens(scene, there, rng)))
    scene, lens = min(found, key=lambda each: each[1].noise.score)
    return lens, _cleaner(scene, lens)


def _qualities(here: Views, there: Views, compress: bool) -> npt.NDArray[np.int64]:
    """What each image of the source is compressed at: the target's qualities, the lowest for those that have the lowest, so that
    who has the same keeps it."""
    quality = np.full(len(here), int(NONE))
    if compress:
        shares = (np.arange(len(here)) + 0.5) / len(here)
        quality[np.argsort(here.quality, kind="stable")] = np.rint(np.quantile(there.quality, shares)).astype(int)
    return quality


def _cleaner(scene: Scene, lens: Lens) -> tuple[str, ...]:
    """What the target has less of than the source, through the lens that was found."""
    here = numbers_of(scene, lens)
    gap = scene.target.mean(axis=0) - here.mean(axis=0)
    error = np.sqrt(here.var(axis=0) / len(here) + scene.target.var(axis=0) / len(scene.target)) + 0.03
    grains, amplitudes = gap[-GRAINS:] / error[-GRAINS:], gap[_COARSE:-GRAINS] / error[_COARSE:-GRAINS]
    notes = []
    if not lens.noise.chosen.any() and np.median(grains) < -_BY_CHANCE:
        notes.append("the target's images have less noise than the rest, which no recipe can take away")
    if not lens.blurred and np.median(amplitudes) > _BY_CHANCE:
        notes.append("the target's images are sharper than the rest, which no recipe can make them")
    return tuple(notes)


def _lens_parameters(lens: Lens) -> dict[str, Parameter]:
    """Blur, motion, resolution and noise."""
    found = {}
    is_focus, is_motion, is_scale = (lens.family == family for family in ("focus", "motion", "resolution"))
    none = np.zeros(1)
    square = lens.draws[:, 0] if is_focus else none
    found["blur"] = _parameter(
        "blur", 0.0, _root, lens.values[0] if is_focus else 0.0, square, is_focus and lens.blurred, lens.spread
    )
    length, angle = (lens.draws[:, 0], lens.draws[:, 1]) if is_motion else (none + 1, none)
    found["motion"] = _parameter("motion", 1.0, float, lens.values[0] if is_motion else 1.0, length, is_motion)
    found["motion_angle"] = _parameter(
        "motion_angle", 0.0, float, lens.values[1] if is_motion else 0.0, angle, is_motion
    )
    scale = lens.draws[:, 0] if is_scale else none + 1
    found["resolution"] = _parameter("resolution", 1.0, float, lens.values[0] if is_scale else 1.0, scale, is_scale)
    for k, (name, to) in enumerate({"read_noise": _nominal, "shot_noise": lambda value: max(value, 0.0)}.items()):
        noise = lens.noise
        found[name] = _parameter(
            name,
            0.0,
            to,
            float(noise.values[k]) if noise.chosen[k] else float(noise.draws[:, k].mean()),
            noise.draws[:, k],
            bool(noise.chosen[k]),
            float(noise.spread[k]),
        )
    return found | {"noise": _total_noise(lens.noise)}


def _total_noise(noise: Solution) -> Parameter:
    """Both kinds together, which is better known than either."""
    each = noise.values if noise.chosen.any() else noise.draws.mean(axis=0)
    of_shot = 255**2 * 0.5 ** (2 - STORED) / STORED**2
    # As few kinds vary as there are.
    used = noise.chosen if noise.chosen.any() else np.array([True, False])
    draws = (noise.draws * used) @ np.array([1.0, of_shot])
    value = float((each * used) @ np.array([1.0, of_shot]))
    return _parameter("noise", 0.0, _root, value, draws, bool(noise.chosen.any()))


def _root(value: float) -> float:
    return math.sqrt(max(value, 0.0))


def _nominal(variance: float) -> float:
    return nominal_noise(_root(variance)) if variance > 0 else 0.0


def _event_parameters(
    sides: _Sides, tone: Mapping[str, float], sensor: Sensor, rng: np.random.Generator
) -> dict[str, Parameter]:
    """How many more images of the target have shadows and glare than the source's would under its light."""
    pixels = np.square(sides.source.pixels / SIDE).astype(np.float32)
    here = events(show(sides.source.small, sides.source.extent, tone, sensor, pixels))
    there = events(sides.target.small)
    found = {}
    for k, name in enumerate(EVENTS):
        draws = [side[rng.integers(0, len(side), (_DRAWS, len(side))), k].mean(axis=1) for side in (here, there)]
        more = float(there[:, k].mean() - here[:, k].mean())
        error = math.sqrt(sum(float(side[:, k].var()) / len(side) for side in (here, there))) + 1e-6
        differs = abs(more) > max(_SHARE, math.sqrt(EVIDENCE) * error)
        found[name] = _parameter(name, 0.0, float, more, draws[1] - draws[0], differs)
    return found


def _about(
    whole: _Part, parts: Sequence[_Part], steps: Sequence[Step], counts: tuple[int, int], files: Sequence[Source]
) -> dict[str, Any]:
    """What the recipe's file says of it; files are of the images that colours may be taken from."""
    different = list(dict.fromkeys(name for part in parts or [whole] for name in part.different))
    about: dict[str, Any] = {
        "description": "fitted: " + (", ".join(different) if different else "nothing differs"),
        "source": f"estimated from {counts[0]} images of the rest and {counts[1]} of the target",
    }
    if not parts:
        about["fitted"] = {name: parameter.to_json() for name, parameter in whole.parameters.items()}
    else:
        about["lights"] = [
            {"images": part.images, "fitted": {name: each.to_json() for name, each in part.different.items()}}
            for part in parts
        ]
    named = any(step.params.get("metadata_key") == REFERENCES for step in leaves(steps))
    if named and not any(isinstance(file, np.ndarray) for file in files):
        about["references"] = {REFERENCES: [str(file) for file in files]}
    return about
