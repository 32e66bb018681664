"""Do labels still fit? The mistakes check on synthetic images and on their parents: does it doubt more of the former?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.augment.check.looks import Looks, Vectors, look_at_things
from curate.augment.check.pictures import Picture, boxes_and_sizes, group_numbers
from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray
from curate.checks.evaluation.base import Weights, ratios
from curate.checks.evaluation.bootstrap import draw, percentiles
from curate.checks.evaluation.compare import FEWEST
from curate.checks.labels import Labels
from curate.checks.mistakes.boxes import impossible_boxes
from curate.checks.mistakes.labels import find_label_errors
from curate.models.encoders.base import Encoder
from curate.models.passes import Progress

FEWEST_LABELS: Final = 50
"""Fewer labels say nothing of which are wrong."""

_RESAMPLES: Final = 500
_LIKELY: Final = 0.5
_LEAST_EXCESS: Final = 0.01


@dataclass(frozen=True)
class Rate:
    """How many labels of a set are doubted.

    Attributes:
        labels: How many were judged.
        flagged: Those that are more probably wrong than right.
        expected: Sum of the probabilities that they are wrong.
        impossible: Boxes that cannot be, whatever is on the image: no area, outside of it, two of one thing.
    """

    labels: int
    flagged: int
    expected: float
    impossible: int

    @property
    def share(self) -> float:
        """Expected wrong, as a share of all."""
        return self.expected / self.labels if self.labels else 0.0


@dataclass(frozen=True)
class LabelFit:
    """Whether labels fit synthetic images as they fit their parents.

    Attributes:
        synthetic: Of the synthetic images.
        parents: Of their parents.
        excess: Share of labels that are expected wrong, above that of the parents.
        low: Lower end of its 95% interval, over groups; None where there are too few.
        high: Upper end.
    """

    synthetic: Rate
    parents: Rate
    excess: float
    low: float | None
    high: float | None

    @property
    def fits(self) -> bool:
        """Whether no larger part of the labels is doubted than by chance and by more than is worth a word, nor is impossible."""
        made, own = self.synthetic, self.parents
        worse = self.low is not None and self.low > 0 and self.excess >= _LEAST_EXCESS
        return made.impossible * own.labels <= own.impossible * made.labels and not worse


def label_fit(
    synthetic: Sequence[Picture],
    parents: Sequence[Picture],
    looks: tuple[Looks, Looks],
    encoder: Encoder,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> LabelFit | None:
    """Judge the labels of synthetic images and of their parents together.

    Neither has a vote on the other's labels where they are of one group.

    Args:
        synthetic: Synthetic images.
        parents: Their parents, each once.
        looks: Of both.
        encoder: Of the vectors.
        seed: Of the check.
        progress: Told (boxes looked at, boxes to look at).

    Returns:
        None where there are too few labels, or they are all of one class.
    """
    pictures = [*synthetic, *parents]
    judged = _boxes(pictures, encoder, progress) if _boxed(pictures) else _images(pictures, looks)
    labels, classes = _codes(judged.labels)
    if len(labels) < FEWEST_LABELS or classes < 2:
        return None
    (groups,) = group_numbers(pictures)
    owner_group = groups[judged.owner]
    errors = find_label_errors(
        judged.vectors, labels, classes, groups=owner_group, extra=judged.shapes, predictions=(), seed=seed
    )
    made = judged.owner < len(synthetic)
    excess, interval = _excess(errors.p_wrong, made, owner_group, seed)
    rates = [
        Rate(int(rows.sum()), int((errors.flagged & rows).sum()), float(errors.p_wrong[rows].sum()), _impossible(of))
        for rows, of in ((made, synthetic), (~made, parents))
    ]
    return LabelFit(rates[0], rates[1], excess, *(interval or (None, None)))


@dataclass(frozen=True)
class _Judged:
    """Labels that are judged: n of them.

    Attributes:
        vectors: Of what they are on; (n, d).
        labels: Their classes.
        owner: Number of the picture; (n,).
        shapes: What a box's size tells, (n, 4); None for whole images.
    """

    vectors: Vectors
    labels: list[str]
    owner: IntArray
    shapes: FloatArray | None


def _boxed(pictures: Sequence[Picture]) -> bool:
    return any(thing.bbox is not None for picture in pictures for thing in picture.things)


def _boxes(pictures: Sequence[Picture], encoder: Encoder, progress: Progress | None) -> _Judged:
    vectors, read = look_at_things(pictures, encoder, progress)
    owner = np.array(
        [k for k, each in enumerate(pictures) for thing in each.things if thing.bbox is not None], dtype=np.int64
    )
    labels = [thing.label for each in pictures for thing in each.things if thing.bbox is not None]
    boxes, sizes = boxes_and_sizes(pictures)
    kept = np.flatnonzero(read)
    return _Judged(
        vectors[kept], [labels[k] for k in kept.tolist()], owner[kept], Labels.shape_of(boxes[kept], sizes[kept])
    )


def _images(pictures: Sequence[Picture], looks: tuple[Looks, Looks]) -> _Judged:
    """Labels of whole images, where there is one of each."""
    read = np.concatenate([each.read for each in looks])
    vectors = np.concatenate([each.vectors for each in looks])
    kept = [k for k, each in enumerate(pictures) if len(each.things) == 1 and read[k]]
    return _Judged(vectors[kept], [pictures[k].things[0].label for k in kept], np.array(kept, dtype=np.int64), None)


def _codes(labels: Sequence[str]) -> tuple[IntArray, int]:
    if not labels:
        return np.zeros(0, np.int64), 0
    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    return codes.astype(np.int64), len(names)


def _excess(
    p_wrong: FloatArray, made: BoolArray, groups: IntArray, seed: int
) -> tuple[float, tuple[float, float] | None]:
    """How much more probably wrong the labels of synthetic images are, with its interval over groups."""
    excess = float(p_wrong[made].mean() - p_wrong[~made].mean()) if made.any() and not made.all() else 0.0
    if len(np.unique(groups)) < FEWEST or not made.any() or made.all():
        return excess, None
    drawn = [_mean(each, p_wrong, made) - _mean(each, p_wrong, ~made) for each in draw(groups, _RESAMPLES, seed)]
    return excess, percentiles(np.concatenate(drawn))


def _mean(weights: Weights, values: FloatArray, rows: BoolArray) -> FloatArray:
    """Mean of the values of some rows, drawn so often as each row of weights says; NaN where none is drawn."""
    inside = weights.astype(np.float64)[:, rows]
    return ratios(inside @ values[rows], inside.sum(axis=1))


def _impossible(pictures: Sequence[Picture]) -> int:
    """How many boxes are more probably impossible than not."""
    boxes, _ = boxes_and_sizes(pictures)
    if not len(boxes):
        return 0
    labels, _ = _codes([thing.label for each in pictures for thing in each.things if thing.bbox is not None])
    image = np.array(
        [k for k, each in enumerate(pictures) for thing in each.things if thing.bbox is not None], dtype=np.int64
    )
    sizes = np.array([each.size[::-1] for each in pictures], dtype=np.float64)
    return int((impossible_boxes(Boxes(image, boxes, labels), sizes).score >= _LIKELY).sum())
