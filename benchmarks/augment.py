"""Targeted augmentation: how much of what new lamps cost a model does a fitted recipe win back? And how fast are images made?

    python -m benchmarks.augment [--seeds 5] [--images 1600] [--steps 800] [--only SETUP ...] [--keep FOLDER] [--json FILE]

A small network learns from nothing to tell crops of rendered parts apart (`parts_v3`; bolts, nuts, washers, gears, bearings),
under three set-ups of lamps, and is measured under the fourth. Half of the scenes of the fourth set-up are measured on, and
the other half may be looked at; a seed is of a network's weights and of all that is drawn. The arms differ in nothing but what
is done to the colours and the light of whole images, before crops are cut from them:

    none            nothing
    colour jitter   brightness, contrast and saturation by up to 40%, hue by up to a tenth of the circle
    RandAugment     two of nine changes of colour and sharpness at magnitude 9 of 30 (Cubuk et al. 2020)
    fitted          `curate.augment.fit.fit_recipe`, from the images that may be looked at, without their labels and without being
                    told which set-up an image of the other three was taken under
    real            those very images with their labels beside the others, unchanged: the ceiling

All take the same number of steps on the same crops (the ceiling's set is larger by a third), mirrored, turned, scaled and
shifted alike; four changed versions are made of every image, and a crop is of one of these four times out of five. Accuracy is
the mean over the classes, of crops of whole scenes that nothing else has seen. No weights are loaded.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from benchmarks.crop_classifier import recalls, train
from benchmarks.lit_parts import CLASSES, SETUPS, Division, Scene, cut, divide, render_scenes
from benchmarks.report import Report, markdown, options, run
from benchmarks.synthesis_rate import synthesis_rates
from curate.augment.fit import Fitted, fit_recipe
from curate.augment.fit.steps import REFERENCES
from curate.recipes import Pipeline, Recipe, Step

FloatArray = npt.NDArray[np.float64]

NONE: Final = "none"
REAL: Final = "real"
FITTED: Final = "fitted"
ARMS: Final = (NONE, "colour jitter", "RandAugment", FITTED, REAL)
VERSIONS: Final = 4
LOOKED_AT: Final = 80
"""Images of the target that a fit sees; of the others it sees as many as `curate augment` lets it."""

TARGET: Final = 0.5
"""Part of the gap that a fitted recipe is to close."""

JITTER: Final = Recipe(
    "colour jitter",
    (
        Step(
            "ColorJitter",
            {"brightness": [0.6, 1.4], "contrast": [0.6, 1.4], "saturation": [0.6, 1.4], "hue": [-0.1, 0.1]},
        ),
    ),
)

MOST_SLOWER: Final = 1.2
"""How much more CPU than the peer an image may take."""

_RATED: Final = 100
"""Images that are made at each measurement of the rate."""

_MAGNITUDE: Final = 9 / 30
_STRENGTH: Final = 0.99 * _MAGNITUDE
"""Of what makes a colour, the contrast, brightness or sharpness stronger or weaker."""


def _one(name: str) -> Step:
    """A colour jitter of one property."""
    still = {"brightness": [1.0, 1.0], "contrast": [1.0, 1.0], "saturation": [1.0, 1.0], "hue": [0.0, 0.0]}
    return Step("ColorJitter", {**still, name: [1 - _STRENGTH, 1 + _STRENGTH]})


RANDAUGMENT: Final = Recipe(
    "RandAugment",
    (
        Step(
            "SomeOf",
            {"n": 2, "replace": True},
            steps=(
                Step("NoOp"),
                Step("AutoContrast"),
                Step("Equalize"),
                Step("Solarize", {"threshold_range": [1 - _MAGNITUDE, 1 - _MAGNITUDE]}),
                Step("Posterize", {"num_bits": 8 - round(4 * _MAGNITUDE)}),
                _one("saturation"),
                _one("contrast"),
                _one("brightness"),
                Step("Sharpen", {"alpha": [0.0, _STRENGTH], "lightness": [1.0, 1.0]}),
            ),
        ),
    ),
)


def main() -> None:
    """Every set-up held out, every seed, every arm; then the rate."""
    parser = options(__doc__, seeds=5)
    parser.add_argument("--images", type=int, default=1600, help="rendered in all (default 1600)")
    parser.add_argument("--steps", type=int, default=800, help="of a training, of 64 crops (default 800)")
    parser.add_argument("--only", nargs="+", choices=SETUPS, default=list(SETUPS), metavar="SETUP")
    parser.add_argument("--repeats", type=int, default=5, help="of the measurements of the rate (default 5)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where an ended run leaves what the next goes on from"
    )
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Both parts."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = render_scenes(Path(folder) / "parts", images=arguments.images, seed=0)
    kept = _Kept(arguments.keep)
    results, fits = [], []
    for held_out in arguments.only:
        arms = _Arms(held_out, divide(scenes, held_out, 0), arguments.steps)
        for seed in range(arguments.seeds):
            for arm in ARMS:
                results.append(kept(f"{held_out} {seed} {arm}", partial(arms.run, arm, seed)))
        fits.append(kept(f"{held_out} fits", arms.told))
    rates = synthesis_rates(arguments.repeats, _RATED)
    settings = {
        "seeds": arguments.seeds, "images": arguments.images, "steps": arguments.steps, "versions": VERSIONS,
        "set-ups held out": arguments.only,
    }  # fmt: skip
    table = f"{_table(results)}\n\n{_rate_table(rates)}"
    return Report(settings, [*results, *fits, *rates], table, _notes(results, rates))


@dataclass(frozen=True)
class _Kept:
    """Results that a run which was ended goes on from: one file each, where there is a folder."""

    folder: Path | None

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = None if self.folder is None else self.folder / f"{name}.json"
        if file is not None and file.exists():
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return found
        row = make()
        print(name, round(row["accuracy"], 3) if "accuracy" in row else "", file=sys.stderr, flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(row), encoding="utf-8")
        return row


@dataclass(frozen=True)
class _Arms:
    """The arms of one held-out set-up."""

    held_out: str
    division: Division
    steps: int

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """Train once, and measure."""
        scenes = self.division.sources + (self.division.target if arm == REAL else [])
        crops, labels = self._material(scenes, arm, seed)
        network = train(crops, labels, classes=len(CLASSES), steps=self.steps, seed=seed)
        tested, truth = _crops(self.division.test)
        found = recalls(network, tested, truth)
        return {
            "held out": self.held_out, "seed": seed, "arm": arm, "accuracy": float(found.mean()),
            "recalls": dict(zip(CLASSES, found.tolist(), strict=True)), "crops": len(labels), "tested": len(truth),
        }  # fmt: skip

    def told(self) -> dict[str, Any]:
        """What the fit found, for the record."""
        fitted = self._fitted
        return {
            "held out": self.held_out,
            "unexplained": round(fitted.unexplained, 3),
            "fit": [
                {"images": count, "parameters": {name: each.to_json() for name, each in found.items()}}
                for count, found in fitted.lights or [(fitted.images[0], fitted.parameters)]
            ],
        }

    def _material(
        self, scenes: Sequence[Scene], arm: str, seed: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Crops of shape (1 + versions, n, side, side, 3), and their labels."""
        plain, labels = _crops(scenes)
        change = self._change(arm)
        if change is None:
            return plain[None], labels
        rng = np.random.default_rng([seed, ARMS.index(arm)])
        versions = [
            np.concatenate([cut(change(scene.pixels, rng).pixels, scene.boxes) for scene in scenes])
            for _ in range(VERSIONS)
        ]
        return np.stack([plain, *versions]), labels

    def _change(self, arm: str) -> Pipeline | None:
        """What is done to images; None for nothing."""
        if arm == FITTED:
            pixels = [self._seen[k].pixels for k in self._fitted.references]
            return Pipeline(self._fitted.recipe, {REFERENCES: pixels} if pixels else None)
        recipe = {JITTER.name: JITTER, RANDAUGMENT.name: RANDAUGMENT}.get(arm)
        return None if recipe is None else Pipeline(recipe)

    @cached_property
    def _fitted(self) -> Fitted:
        """From all of the sources; which of their images belong together is known, as it is to `curate augment`."""
        sources = self.division.sources
        return fit_recipe(
            [scene.pixels for scene in sources],
            [scene.pixels for scene in self._seen],
            groups=([scene.group for scene in sources], [scene.group for scene in self._seen]),
        )

    @property
    def _seen(self) -> list[Scene]:
        """Images of the target that a fit sees."""
        return self.division.target[:LOOKED_AT]


def _crops(scenes: Sequence[Scene]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    crops = np.concatenate([cut(scene.pixels, scene.boxes) for scene in scenes])
    return crops, np.concatenate([scene.labels for scene in scenes])


def _table(results: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds with half the width of their 95% intervals, and how much of the gap each arm closes."""
    rows = []
    names = list(dict.fromkeys(row["held out"] for row in results))
    for name in names + (["all"] if len(names) > 1 else []):
        accuracy = accuracies(results, None if name == "all" else name)
        found = [_interval(accuracy[arm]) for arm in ARMS]
        shares = [_share(accuracy, arm) for arm in ARMS[1:-1]]
        rows.append([name, *found, *shares])
    return markdown(["held out", *ARMS, *(f"closed by {arm}" for arm in ARMS[1:-1])], rows)


def accuracies(results: Sequence[Mapping[str, Any]], held_out: str | None = None) -> dict[str, FloatArray]:
    """By arm, one for each seed; the mean over set-ups where none is named."""
    found = {}
    for arm in ARMS:
        rows = [row for row in results if row["arm"] == arm and held_out in (None, row["held out"])]
        seeds = sorted({row["seed"] for row in rows})
        found[arm] = np.array([np.mean([row["accuracy"] for row in rows if row["seed"] == seed]) for seed in seeds])
    return found


def closed(accuracy: Mapping[str, FloatArray], arm: str) -> tuple[float, float, float]:
    """Part of the gap between `none` and `real` that an arm closes, and its 95% interval over seeds.

    The ratio of two means; what each seed deviates from it gives its error (delta method), with Student's t.
    """
    gain, gap = accuracy[arm] - accuracy[NONE], accuracy[REAL] - accuracy[NONE]
    share = float(gain.mean() / gap.mean())
    half = _half_width(gain - share * gap) / abs(float(gap.mean()))
    return share, share - half, share + half


def _share(accuracy: Mapping[str, FloatArray], arm: str) -> str:
    share, low, high = closed(accuracy, arm)
    return f"{share:.0%} ({low:.0%} to {high:.0%})"


def _interval(values: FloatArray) -> str:
    """Mean and half of its 95% interval, in per cent."""
    half = f" ±{100 * _half_width(values):.1f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.1f}{half}"


def _half_width(values: FloatArray) -> float:
    """Of the 95% interval of a mean, by Student's t; NaN for a single value."""
    if len(values) < 2:
        return math.nan
    return float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))


def _rate_table(rates: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [row["recipe"], *(f"{row[f'{name} ms']:.1f}" for name in ("albumentations", "with decoding", "curate", "command"))]
        for row in rates
    ]  # fmt: skip
    return markdown(
        ["recipe", "albumentations and encoding", "decoding too", "curate, labels and file too", "whole run"], rows
    )


def _notes(results: Sequence[Mapping[str, Any]], rates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What misses its target."""
    notes = []
    for name in dict.fromkeys(row["held out"] for row in results):
        share, low, _ = closed(accuracies(results, name), FITTED)
        if share < TARGET:
            notes.append(f"{name}: the fitted recipe closes {share:.0%} of the gap; half is the target")
        elif not low >= TARGET:
            notes.append(
                f"{name}: the fitted recipe closes {share:.0%} of the gap, but the interval holds less than half"
            )
    for row in rates:
        ratio = row["curate ms"] / row["with decoding ms"]
        if ratio > MOST_SLOWER:
            notes.append(
                f"recipe {row['recipe']}: {ratio:.2f} times the CPU of the peer that decodes too; 1.2 is the target"
            )
    return notes


if __name__ == "__main__":
    main()
