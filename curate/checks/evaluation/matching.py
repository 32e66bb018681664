"""Which predictions are right, as COCO decides it: at ten overlaps, for objects of any size and of three ranges of it.

Gives what `pycocotools.cocoeval` gives, without its loops over images, classes and boxes: predictions of all images are
looked at together, in rounds, the surest of each image and class first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.objects import Objects
from curate.checks.mistakes.matching import Pairs

IOU_THRESHOLDS: Final = np.linspace(0.5, 0.95, 10)
RECALLS: Final = np.linspace(0.0, 1.0, 101)
AREAS: Final = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of area, square pixels; both ends count."""

MOST: Final = (1, 10, 100)
"""So many predictions of one class on one image are looked at, the surest first."""

HIT, FALSE, LEFT_OUT = 1, 0, -1
"""What a prediction is: right, wrong, or not counted (in a crowd, or of another size)."""


@dataclass(frozen=True)
class Matches:
    """What the n predictions that count are, and which of the g true objects there were to find.

    Attributes:
        image: Place of each prediction's image; (n,).
        label: Its class; (n,).
        score: Its confidence; (n,).
        rank: Its place among those of its class on its image; (n,).
        row: Its row in the predictions that were matched; (n,).
        outcome: `HIT`, `FALSE` or `LEFT_OUT`; int8 of shape (areas, n, thresholds).
        found: Row of the true object that it is, at an overlap of 0.5; -1 for none; (n,).
        iou: Overlap with that; 0 for none; (n,).
        truth_image: Place of each true object's image; (g,).
        truth_label: Its class; (g,).
        counted: Whether it is to be found; bool of shape (areas, g).
    """

    image: IntArray
    label: IntArray
    score: FloatArray
    rank: IntArray
    row: IntArray
    outcome: npt.NDArray[np.int8]
    found: IntArray
    iou: FloatArray
    truth_image: IntArray
    truth_label: IntArray
    counted: BoolArray

    @cached_property
    def by_class(self) -> IntArray:
        """Rows of the predictions by class, highest score first, equal ones in order; (n,)."""
        return np.lexsort((-self.score, self.label))

    def of_images(self, images: BoolArray) -> Matches:
        """The same of some images (bool of shape (images,)); `found` keeps its numbers."""
        kept, true = images[self.image], images[self.truth_image]
        names = ("image", "label", "score", "rank", "row", "found", "iou")
        return replace(
            self,
            **{name: getattr(self, name)[kept] for name in names},
            outcome=self.outcome[:, kept],
            truth_image=self.truth_image[true],
            truth_label=self.truth_label[true],
            counted=self.counted[:, true],
        )


def match_objects(predicted: Objects, truth: Objects, pairs: Pairs) -> Matches:
    """Decide which predictions are right.

    Each takes, surest first, the true object of its class that it overlaps most among those that are free and count;
    where there is none, one that does not count (of a crowd any number may be taken).

    Args:
        predicted: What the model found.
        truth: What is there.
        pairs: Which of them overlap (`curate.checks.evaluation.overlaps`): rows, and COCO's IoU.
    """
    looked_at = np.flatnonzero(predicted.rank < MOST[-1])
    place = np.full(len(predicted), NOWHERE)
    place[looked_at] = np.arange(len(looked_at))
    same_class = predicted.label[pairs.first] == truth.label[pairs.second]
    pairs = pairs.take(same_class & (place[pairs.first] != NOWHERE))
    seen = predicted.take(looked_at)
    candidates = _Candidates.of(place[pairs.first], pairs.second, pairs.iou, predicted.rank[pairs.first])
    outcome = np.empty((len(AREAS), len(seen), len(IOU_THRESHOLDS)), dtype=np.int8)
    counted = np.empty((len(AREAS), len(truth)), dtype=np.bool_)
    found, iou = np.full(len(seen), NOWHERE), np.zeros(len(seen))
    for area, (low, high) in enumerate(AREAS.values()):
        ignored = truth.crowd | (truth.area < low) | (truth.area > high)
        outside = (seen.area < low) | (seen.area > high)
        outcome[area] = np.where(outside, LEFT_OUT, FALSE)[:, None]
        winner = candidates.assign(ignored, truth.crowd)
        hits = np.where(ignored[candidates.second[winner]], LEFT_OUT, HIT) if winner.size else winner
        outcome[area, candidates.rows] = np.where(winner == NOWHERE, outcome[area, candidates.rows], hits)
        counted[area] = ~ignored
        if area == 0:
            taken = winner[:, 0] != NOWHERE
            found[candidates.rows[taken]] = candidates.second[winner[taken, 0]]
            iou[candidates.rows[taken]] = candidates.iou[winner[taken, 0]]
    return Matches(
        seen.image,
        seen.label,
        seen.score,
        predicted.rank[looked_at],
        looked_at,
        outcome,
        found,
        iou,
        truth.image,
        truth.label,
        counted,
    )


@dataclass(frozen=True)
class _Candidates:
    """Pairs in the order in which they are decided: by round, prediction, overlap and true object.

    Attributes:
        first: Prediction of each of p pairs.
        second: Its true object.
        iou: Their overlap.
        starts: Where each of k predictions starts; (k + 1,).
        rounds: Which of these k starts begin a round; (rounds + 1,).
    """

    first: IntArray
    second: IntArray
    iou: FloatArray
    starts: IntArray
    rounds: IntArray

    @classmethod
    def of(cls, first: IntArray, second: IntArray, iou: FloatArray, rank: IntArray) -> _Candidates:
        order = np.lexsort((second, iou, first, rank))
        first, rank = first[order], rank[order]
        starts = np.flatnonzero(np.diff(first, prepend=NOWHERE, append=NOWHERE)) if len(first) else np.zeros(1, int)
        turn = rank[starts[:-1]]
        rounds = np.r_[np.flatnonzero(np.diff(turn, prepend=NOWHERE)), len(turn)]
        return cls(first, second[order], iou[order], starts, rounds)

    @property
    def rows(self) -> IntArray:
        """The k predictions that overlap anything."""
        return self.first[self.starts[:-1]]

    def assign(self, ignored: BoolArray, crowd: BoolArray) -> npt.NDArray[np.int32]:
        """The pair of each prediction that overlaps anything with what it takes, -1 for none; (k, thresholds)."""
        pairs = len(self.first)
        # A pair of an object that counts beats every other; of equals the one with more overlap, then the later one.
        preference = np.arange(pairs, dtype=np.int32) + np.where(ignored[self.second], 0, pairs).astype(np.int32)
        free = np.ones((len(ignored), len(IOU_THRESHOLDS)), dtype=np.bool_)
        winner = np.full((len(self.starts) - 1, len(IOU_THRESHOLDS)), NOWHERE, dtype=np.int32)
        threshold = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
        for low, high in zip(self.rounds[:-1], self.rounds[1:], strict=True):
            span = slice(self.starts[low], self.starts[high])
            possible = free[self.second[span]] & (self.iou[span, None] >= threshold)
            weight = np.where(possible, preference[span, None], np.int32(NOWHERE))
            best = np.maximum.reduceat(weight, self.starts[low:high] - self.starts[low], axis=0)
            winner[low:high] = np.where(best == NOWHERE, np.int32(NOWHERE), best % np.int32(pairs))
            taken = self.second[winner[low:high]]
            once = (best != NOWHERE) & ~crowd[taken]
            free[taken[once], np.nonzero(once)[1]] = False
        return winner
