"""What evaluating a model gives, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import BoolArray, FloatArray, IntArray

Task = Literal["detect", "instances", "segment", "classify"]
"""Boxes; masks of single objects; a class for each pixel; a class for each image."""

TASKS: Final[tuple[Task, ...]] = ("detect", "instances", "segment", "classify")

Unlabelled = Literal["background", "ignore"]

Key = tuple[Literal["all", "class", "slice"], str]
"""A number that is resampled: a metric of all images, or the main metric of a class or of a slice."""

Weights = npt.NDArray[np.float32]
"""How often each image counts in each of b resamples; of shape (b, images)."""

Resample = Callable[[Weights], Mapping[Key, FloatArray]]
"""The numbers that images weighted like this give, each of shape (b,); NaN where there is nothing to measure."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What is wanted beside the usual numbers.

    Attributes:
        classes: Names of the classes.
        images: How many images are evaluated.
        slices: Which of them are in each slice, by its name; bool of shape (images,).
        precision: Also the lowest score that gives this precision; None for none.
        limit: At most so many hard images.
        top_k: A label of an image counts for `topK` if it is among so many of the most probable.
        unlabelled: Whether pixels that nobody labelled count as 'background', or not at all ('ignore'); None to find out.
    """

    classes: Sequence[str]
    images: int
    slices: Mapping[str, BoolArray] = field(default_factory=dict)
    precision: float | None = None
    limit: int = 50
    top_k: int = 5
    unlabelled: Unlabelled | None = None


@dataclass(frozen=True)
class Part:
    """A class or a slice.

    Attributes:
        name: Of it.
        images: Places of the images that tell anything of it.
        numbers: Counts and metrics, JSON-ready.
    """

    name: str
    images: IntArray
    numbers: Mapping[str, float | int | None]


@dataclass(frozen=True)
class Hard:
    """The images a model does worst on, worst first; k of them.

    Attributes:
        image: Places; int64 of shape (k,).
        score: How bad, in [0, 1]; (k,).
        annotation: Row of the true annotation in question, -1 where the whole image is; (k,).
        evidence: What went wrong on each, JSON-ready.
    """

    image: IntArray
    score: FloatArray
    annotation: IntArray
    evidence: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """How good a model is.

    Attributes:
        task: What was compared.
        metrics: Of all images; the first is the main one. None where nothing is there to measure.
        part_metric: Name of the metric by which classes are compared.
        slice_metric: That by which slices are.
        classes: Those with objects or predictions.
        slices: In the order asked for.
        tables: More, as rows by title.
        resample: The numbers again, on resampled images.
        hard: The worst images.
        notes: What has to be known of how it was counted.
    """

    task: Task
    metrics: Mapping[str, float | None]
    part_metric: str
    slice_metric: str
    classes: Sequence[Part]
    slices: Sequence[Part]
    tables: Mapping[str, Rows]
    resample: Resample
    hard: Hard
    notes: Sequence[str] = field(default_factory=tuple)

    def values(self) -> dict[Key, float | None]:
        """Every number that `resample` gives, as it is."""
        found: dict[Key, float | None] = {("all", name): value for name, value in self.metrics.items()}
        found |= {("class", part.name): part.numbers[self.part_metric] for part in self.classes}
        return found | {("slice", part.name): part.numbers[self.slice_metric] for part in self.slices}


def worst(score: FloatArray, chosen: IntArray, limit: int) -> IntArray:
    """At most `limit` of the chosen images, highest score first; equal ones in order."""
    return chosen[np.argsort(-score[chosen], kind="stable")][:limit]


def ratio(part: float, whole: float) -> float | None:
    """A share; None of nothing."""
    return float(part) / float(whole) if whole else None


def ratios(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> FloatArray:
    """Shares; NaN of nothing."""
    shares: FloatArray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return shares


def mean(values: FloatArray) -> float | None:
    """Mean of the values that are there; None of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def row_means(values: FloatArray) -> FloatArray:
    """Mean of what is there in each row, NaN of nothing; from (b, k) to (b,)."""
    known = np.isfinite(values)
    return ratios(np.where(known, values, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
