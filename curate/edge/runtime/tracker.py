"""Which box is the same thing as in the frame before.

ByteTrack (Zhang et al., 2022): predicted boxes are matched by overlap with the sure detections first, then with the unsure ones,
which are mostly things half hidden; only sure detections begin a track. A track that is not found is kept, and predicted, for a
while, so that a thing that passes behind another keeps its number. The box of a thing that goes behind something shrinks, and its
middle slows down; so a track also remembers where it was, and how fast, while it was whole, and is looked for from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from curate.edge.runtime.kalman import BoxFilter, FloatArray
from curate.edge.runtime.likeness import box_overlaps
from curate.errors import UsageError

IntArray = npt.NDArray[np.int64]

_SAME_THING: Final = 0.85  # overlap of a found and a lost track above which one of them is the other's ghost
_WHOLE: Final = 0.9  # of the area that it had, from which on a thing is whole
_AROUND: Final = 1.5  # times the sides of a lost thing: within them is looked for it, for its speed is not known well
_INSIDE: Final = 0.5  # of a detection that must lie within them
_OTHER_CLASS: Final = 0.5  # what an overlap with another class is worth: detectors waver between like classes


@dataclass(frozen=True)
class TrackerSettings:
    """How tracks are kept.

    Attributes:
        high: Detections from this score on are sure.
        low: Detections below it are not looked at.
        begin: A track begins from this score on.
        overlap: Intersection over union from which a sure detection may be a track's.
        low_overlap: The same for an unsure one.
        new_overlap: The same for a track that was seen once.
        patience: Frames of the source for which a track that is not found is kept.
        confirm: Frames in which a thing is seen before it is told.
    """

    high: float = 0.5
    low: float = 0.1
    begin: float = 0.6
    overlap: float = 0.2
    low_overlap: float = 0.5
    new_overlap: float = 0.3
    patience: float = 30.0
    confirm: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= self.begin <= 1:
            what = f"scores {self.low}, {self.high}, {self.begin} are not in order"
            raise UsageError(what, where="tracker", remedy="0 <= low <= high <= begin <= 1")
        if self.patience < 0 or self.confirm < 1:
            raise UsageError("patience is 0 or more and confirm 1 or more", where="tracker")

    @classmethod
    def beginning_at(cls, score: float) -> TrackerSettings:
        """For a detector whose sure detections have this score: a little less continues a track."""
        high = score * cls.high / cls.begin
        return cls(high=high, low=min(cls.low, high), begin=score)


@dataclass(frozen=True)
class Track:
    """One thing, as seen in one frame.

    Attributes:
        id: Its number, from 1; never given twice.
        box: [x, y, width, height] in pixels, smoothed.
        label: The class that it was seen as most, by summed scores.
        score: Of the detection.
        detection: Row of the detection.
        frames: In how many frames it was seen so far.
    """

    id: int
    box: tuple[float, float, float, float]
    label: int
    score: float
    detection: int
    frames: int


class Tracker:
    """Follows boxes from frame to frame. Memory grows with the things that are there, not with time.

    Args:
        settings: How.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.ended: tuple[int, ...] = ()
        """Tracks that the last update gave up."""
        self._filter = BoxFilter()
        self._ids = np.zeros(0, np.int64)
        self._seen = np.zeros(0, np.int64)
        self._missed = np.zeros(0)
        self._whole = np.zeros((0, 8))  # value and velocity of each while it was whole
        self._since = np.zeros(0)  # frames since then
        self._votes: dict[int, dict[int, float]] = {}
        self._next, self._is_first = 1, True

    def update(self, boxes: FloatArray, labels: IntArray, scores: FloatArray, *, elapsed: float = 1.0) -> list[Track]:
        """Take in the detections of the next frame.

        Args:
            boxes: [x, y, width, height]; shape (k, 4).
            labels: Class numbers; shape (k,).
            scores: Shape (k,).
            elapsed: Frames of the source since the last update; more than 1 where some were lost or left out.

        Returns:
            The tracks that are found in this frame and were seen often enough, oldest first.
        """
        settings = self.settings
        measured = np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]]).reshape(-1, 4)
        self._missed += elapsed
        self._since += elapsed
        self._filter.predict(elapsed, unseen=self._missed > elapsed)
        similar = box_overlaps(_corner_boxes(self._filter.value), boxes.reshape(-1, 4))
        similar[self._labels()[:, None] != labels[None, :]] *= _OTHER_CLASS
        found = np.full(len(self._ids), -1)
        sure = scores >= settings.high
        is_new = self._seen < settings.confirm
        weighed = similar * scores[None, :]
        _match(weighed, similar >= settings.overlap, ~is_new, sure, found)
        recent = ~is_new & (self._missed <= elapsed)
        _match(similar, similar >= settings.low_overlap, recent, ~sure & (scores >= settings.low), found)
        _match(weighed, similar >= settings.new_overlap, is_new, sure, found)
        self._recover(boxes.reshape(-1, 4), labels, ~is_new & (self._missed > elapsed), sure, found)
        rows = np.flatnonzero(found >= 0)
        self._filter.correct(rows, measured[found[rows]])
        self._seen[rows] += 1
        self._missed[rows] = 0
        self._note_whole(rows)
        for row in rows.tolist():
            self._vote(int(self._ids[row]), int(labels[found[row]]), float(scores[found[row]]))
        found = self._forget(found, is_new)
        found = self._begin(measured, labels, scores, found)
        self._is_first = False
        return self._told(found, scores)

    def _recover(
        self,
        boxes: FloatArray,
        labels: IntArray,
        lost: npt.NDArray[np.bool_],
        sure: npt.NDArray[np.bool_],
        found: IntArray,
    ) -> None:
        """Look for lost tracks where they would be, had they gone on as when they were whole; fills in `found`."""
        expected = self._whole.copy()
        expected[:, :2] += self._since[:, None] * expected[:, 4:6]
        around = np.column_stack([expected[:, :2], _AROUND * expected[:, 2:4]])
        similar = _inside(_corner_boxes(around), boxes)
        allowed = (similar >= _INSIDE) & (self._labels()[:, None] == labels[None, :])
        before = found < 0
        _match(similar, allowed, lost, sure, found)
        rows = np.flatnonzero(before & (found >= 0))
        self._filter.place(rows, expected[rows, :4], expected[rows, 4:])

    def _note_whole(self, rows: IntArray) -> None:
        """Remember tracks that are found and as large as they were, or were not for longer than anything is hidden."""
        value, velocity = self._filter.value[rows], self._filter.velocity[rows]
        kept = self._whole[rows]
        whole = (value[:, 2:].prod(axis=1) >= _WHOLE * kept[:, 2:4].prod(axis=1)) | (
            self._since[rows] > self.settings.patience
        )
        self._whole[rows[whole]] = np.column_stack([value[whole], velocity[whole]])
        self._since[rows[whole]] = 0

    def _begin(self, measured: FloatArray, labels: IntArray, scores: FloatArray, found: IntArray) -> IntArray:
        """Begin tracks with the sure detections that are nobody's."""
        free = scores >= self.settings.begin
        free[found[found >= 0]] = False
        rows = np.flatnonzero(free)
        ids = np.arange(self._next, self._next + len(rows))
        self._next += len(rows)
        self._filter.add(measured[rows])
        self._ids = np.concatenate([self._ids, ids])
        # What is there in the first frame is taken as seen, or a count would begin a frame late.
        seen = self.settings.confirm if self._is_first else 1
        self._seen = np.concatenate([self._seen, np.full(len(rows), seen)])
        self._missed = np.concatenate([self._missed, np.zeros(len(rows))])
        self._whole = np.concatenate([self._whole, np.column_stack([measured[rows], np.zeros_like(measured[rows])])])
        self._since = np.concatenate([self._since, np.zeros(len(rows))])
        for track, row in zip(ids.tolist(), rows.tolist(), strict=True):
            self._vote(track, int(labels[row]), float(scores[row]))
        return np.concatenate([found, rows])

    def _forget(self, found: IntArray, is_new: npt.NDArray[np.bool_]) -> IntArray:
        """Give up tracks that were not found for too long, that were seen once only, and ghosts of others."""
        lost = self._missed > 0
        kept = ~(lost & (is_new | (self._missed > self.settings.patience)))
        there = _corner_boxes(self._filter.value)
        same = box_overlaps(there, there) > _SAME_THING
        for one, other in np.argwhere(same & lost[None, :] & ~lost[:, None]).tolist():
            kept[other if self._seen[one] >= self._seen[other] else one] = False
        self.ended = tuple(self._ids[~kept].tolist())
        for track in self.ended:
            del self._votes[track]
        self._filter.keep(kept)
        self._ids, self._seen, self._missed = self._ids[kept], self._seen[kept], self._missed[kept]
        self._whole, self._since = self._whole[kept], self._since[kept]
        return found[kept]

    def _told(self, found: IntArray, scores: FloatArray) -> list[Track]:
        boxes = _corner_boxes(self._filter.value)
        labels = self._labels()
        told = np.flatnonzero((found >= 0) & (self._seen >= self.settings.confirm))
        return [
            Track(
                id=int(self._ids[row]),
                box=(float(boxes[row, 0]), float(boxes[row, 1]), float(boxes[row, 2]), float(boxes[row, 3])),
                label=int(labels[row]),
                score=float(scores[found[row]]),
                detection=int(found[row]),
                frames=int(self._seen[row]),
            )
            for row in told.tolist()
        ]

    def _labels(self) -> IntArray:
        """The class that each track was seen as most."""
        return np.array([max(votes, key=votes.__getitem__) for votes in self._votes.values()], dtype=np.int64)

    def _vote(self, track: int, label: int, score: float) -> None:
        votes = self._votes.setdefault(track, {})
        votes[label] = votes.get(label, 0.0) + score


def _match(
    similar: FloatArray,
    allowed: npt.NDArray[np.bool_],
    tracks: npt.NDArray[np.bool_],
    detections: npt.NDArray[np.bool_],
    found: IntArray,
) -> None:
    """Give tracks that have none the detections that nobody has, so that the sum of similarities is the largest.

    Args:
        similar: Of each track and detection; shape (n, k).
        allowed: Which may be pairs; shape (n, k).
        tracks: Which are looked at; shape (n,).
        detections: The same; shape (k,).
        found: Detection of each track, -1 for none; is filled in.
    """
    free = detections.copy()
    free[found[found >= 0]] = False
    rows, columns = np.flatnonzero(tracks & (found < 0)), np.flatnonzero(free)
    if not len(rows) or not len(columns):
        return
    worth = np.where(allowed, similar, 0.0)[np.ix_(rows, columns)]
    for row, column in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
        if allowed[rows[row], columns[column]]:
            found[rows[row]] = columns[column]


def _inside(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Part of each of k other boxes that lies in each of n, all [x, y, width, height]; shape (n, k)."""
    near = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    return np.asarray(np.maximum(far - near, 0).prod(axis=2) / np.maximum(others[:, 2:].prod(axis=1), 1e-9))


def _corner_boxes(boxes: FloatArray) -> FloatArray:
    """Boxes as (middle, sides) to [x, y, width, height]; shape (n, 4)."""
    return np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
