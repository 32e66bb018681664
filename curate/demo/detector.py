"""A stand-in for a trained detector: results drawn at random around the truth, with the errors that detectors make.

It is no model and looks at no pixels. It serves to develop and measure the checks that compare annotations with predictions
until a real detector is trained on the set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.demo.build import CATEGORY_IDS, PartsSet
from curate.demo.faults import CONFUSIONS
from curate.demo.pictures import Annotation, BBox, Picture, covered, iou
from curate.demo.render import PART_LABELS
from curate.files import write_atomic

_RECALL: Final = {
    "bolt": 0.985,
    "nut": 0.97,
    "washer": 0.96,
    "gear": 0.975,
    "bearing": 0.98,
    "scratch": 0.62,
    "dent": 0.55,
}
"""Part of the plainly visible things of each class that is found."""


def make_predictions(
    parts: PartsSet,
    *,
    seed: int = 0,
    path: Path | None = None,
    skill: float = 1.0,
    confusion: float = 0.025,
    false_positives: float = 0.35,
) -> Path:
    """Write a simulated detector's results on every image of a set, as a COCO results file.

    Boxes jitter by a few per cent, more for small things. Things are missed and scored lower the less of them is to be seen,
    the smaller they are, and on dark and blurred images. Some are called by a similar class, mostly with a middling score;
    some are found twice, below the overlap that suppression removes.

    Args:
        parts: The set; the results are drawn around what is really there, not around its annotations.
        seed: The same seed gives the same file.
        path: File to write; by default `predictions.json` in the set's root.
        skill: 1 is a good detector; 0.5 misses and jitters about twice as much.
        confusion: Part of the found parts that get a wrong class.
        false_positives: Mean number per image on the background.

    Returns:
        The file.
    """
    trouble = {fault.image for fault in parts.truth.of_kind("dark", "blurry")}
    rows: list[dict[str, Any]] = []
    for picture in parts.truth.pictures:
        rng = np.random.default_rng([seed, 6, picture.id])
        hard = 1.0 if picture.file in trouble else 0.0
        for thing in picture.annotations:
            difficulty = _difficulty(thing) + hard
            rows += _found(thing, picture, difficulty, skill, confusion, rng)
        rows += _imagined(picture, int(rng.poisson(false_positives / skill)), rng)
    path = parts.root / "predictions.json" if path is None else path
    write_atomic(path, json.dumps(rows, separators=(",", ":")).encode())
    return path


def _difficulty(thing: Annotation) -> float:
    """From 0 (large, wholly visible) to about 1 (small, half hidden)."""
    hidden = 1.0 - thing.visible
    small = float(np.clip((32.0 - np.sqrt(thing.bbox[2] * thing.bbox[3])) / 32.0, 0, 1))
    return 0.9 * hidden + 0.5 * small


def _found(
    thing: Annotation, picture: Picture, difficulty: float, skill: float, confusion: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """The predictions for one thing: none, one, or one and its echo."""
    if rng.random() < min(0.95, (1 - _RECALL[thing.label]) / skill + 0.35 * difficulty**1.5 / skill):
        return []
    label = thing.label
    score = _score(0.94 - 0.35 * difficulty if label in PART_LABELS else 0.62 - 0.2 * difficulty, 22.0, rng)
    if label in CONFUSIONS and rng.random() < confusion * (1 + 3 * difficulty) / skill:
        label = str(rng.choice(list(CONFUSIONS[label]), p=list(CONFUSIONS[label].values())))
        score = _score(0.55, 8.0, rng)
    spread = (0.022 + 0.03 * difficulty) / skill
    rows = [_row(picture, label, _jittered(thing.bbox, spread, picture, rng), score)]
    if rng.random() < 0.04 / skill:
        echo = _jittered(thing.bbox, 0.16, picture, rng)
        if 0.2 < iou(echo, [thing.bbox])[0] < 0.6:
            rows.append(_row(picture, label, echo, score * _score(0.35, 8.0, rng)))
    return rows


def _imagined(picture: Picture, count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """False positives on the background, as large as parts are, mostly unsure of themselves."""
    real: Sequence[BBox] = [thing.bbox for thing in picture.annotations]
    rows = []
    for _ in range(count):
        width, height = rng.uniform(24, 110, 2)
        x, y = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
        box: BBox = (round(x, 2), round(y, 2), round(width, 2), round(height, 2))
        if not (covered(box, real) > 0.3).any():
            rows.append(_row(picture, str(rng.choice(PART_LABELS)), box, _score(0.22, 5.0, rng)))
    return rows


def _score(mean: float, certainty: float, rng: np.random.Generator) -> float:
    """A score around a mean, from a beta distribution: the more certainty, the closer."""
    mean = float(np.clip(mean, 0.08, 0.97))
    return float(rng.beta(mean * certainty, (1 - mean) * certainty))


def _jittered(box: BBox, spread: float, picture: Picture, rng: np.random.Generator) -> BBox:
    """The box with each side moved by about `spread` of its length, at least a pixel or so, and clipped to the image."""
    x, y, w, h = box
    left, right = x + rng.normal(0, spread * w + 0.6), x + w + rng.normal(0, spread * w + 0.6)
    top, bottom = y + rng.normal(0, spread * h + 0.6), y + h + rng.normal(0, spread * h + 0.6)
    left, right = np.clip([left, max(right, left + 2)], 0, picture.width)
    top, bottom = np.clip([top, max(bottom, top + 2)], 0, picture.height)
    return (round(float(left), 2), round(float(top), 2), round(float(right - left), 2), round(float(bottom - top), 2))


def _row(picture: Picture, label: str, box: BBox, score: float) -> dict[str, Any]:
    return {
        "image_id": picture.id,
        "category_id": CATEGORY_IDS[label],
        "bbox": list(box),
        "score": round(min(max(score, 0.001), 0.999), 4),
    }
