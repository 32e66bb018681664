"""Moving boxes with exact truth, what a detector would make of them, and how well tracks follow them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from curate.edge.runtime.kalman import FloatArray
from curate.edge.runtime.tracker import Track, Tracker

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moment:
    """One frame: where things truly are (whole boxes, hidden ones too), and what a detector says.

    Attributes:
        ids: Of the things that are there and at least partly seen.
        boxes: [x, y, width, height] of each.
        labels: Class of each.
        found: Detections' boxes.
        found_labels: Their classes.
        scores: Their confidences.
    """

    ids: IntArray
    boxes: FloatArray
    labels: IntArray
    found: FloatArray
    found_labels: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Scores:
    """CLEAR MOT (Bernardin and Stiefelhagen, 2008) and identity scores (Ristani et al., 2016) at an overlap of 0.5.

    Attributes:
        mota: 1 less missed, false and switched over true boxes.
        idf1: Of the best one-to-one naming of tracks.
        switches: How often a thing's track became another.
        tracks: How many tracks were told.
    """

    mota: float
    idf1: float
    switches: int
    tracks: int


def scene(
    paths: Sequence[FloatArray],
    sides: FloatArray,
    *,
    seed: int = 0,
    noise: float = 0.0,
    misses: float = 0.0,
    false: float = 0.0,
    walls: Sequence[tuple[float, float, float, float]] = (),
    size: tuple[int, int] = (480, 640),
) -> list[Moment]:
    """Things on their ways, later ones before earlier ones, behind walls.

    Args:
        paths: Middle of each thing in each frame, shape (frames, 2); NaN where it is not there.
        sides: (width, height) of each.
        seed: Of noise.
        noise: Standard deviation of detected corners, as a part of sides.
        misses: Part of detections that fail.
        false: Detections of nothing, in a frame on average.
        walls: [x, y, width, height] of what hides things.
        size: (height, width) of frames.
    """
    rng = np.random.default_rng(seed)
    moments = []
    for frame in range(len(paths[0])):
        centres = np.array([path[frame] for path in paths])
        boxes = np.column_stack([centres - sides / 2, sides])
        there = np.isfinite(centres[:, 0])
        seen = np.array([_visible(boxes, there, row, walls) if there[row] else 0.0 for row in range(len(boxes))])
        rows = np.flatnonzero(seen > 0.1)
        lucky = rows[rng.random(len(rows)) >= misses]
        scale = np.tile(boxes[lucky, 2:], 2)
        found = boxes[lucky] + rng.normal(0, 1, (len(lucky), 4)) * noise * scale
        extra = rng.poisson(false)
        corners = rng.uniform(0, np.array(size[::-1]) - 40, (extra, 2))
        ghosts = np.column_stack([corners, rng.uniform(20, 60, (extra, 2))])
        scores = np.clip(0.95 * seen[lucky] ** 0.5 + rng.normal(0, 0.3 * noise, len(lucky)), 0.05, 0.99)
        moments.append(
            Moment(
                rows,
                boxes[rows],
                rows % 3,
                np.concatenate([found, ghosts]),
                np.concatenate([lucky % 3, rng.integers(0, 3, extra)]),
                np.concatenate([scores, rng.uniform(0.1, 0.65, extra)]),
            )
        )
    return moments


def _visible(
    boxes: FloatArray, there: npt.NDArray[np.bool_], row: int, walls: Sequence[tuple[float, float, float, float]]
) -> float:
    """Part of a box that nothing in front of it hides, on a grid of 12 x 12 points."""
    x, y, width, height = boxes[row]
    steps = (np.arange(12) + 0.5) / 12
    px, py = np.meshgrid(x + steps * width, y + steps * height)
    free = np.ones(px.shape, np.bool_)
    fronts = [*walls, *(tuple(boxes[other]) for other in range(row + 1, len(boxes)) if there[other])]
    for left, top, wide, high in fronts:
        free &= ~((px >= left) & (px < left + wide) & (py >= top) & (py < top + high))
    return float(free.mean())


def straight(start: tuple[float, float], step: tuple[float, float], frames: int) -> FloatArray:
    """Middles of a thing that goes straight on."""
    path: FloatArray = np.array(start) + np.arange(frames)[:, None] * np.array(step)
    return path


def follow(moments: Sequence[Moment], tracker: Tracker, *, every: int = 1) -> list[list[Track]]:
    """The tracks of every so many-th frame."""
    return [
        tracker.update(moment.found, moment.found_labels, moment.scores, elapsed=float(every))
        for moment in moments[::every]
    ]


def score(moments: Sequence[Moment], told: Sequence[Sequence[Track]]) -> Scores:
    """Compare tracks with the truth."""
    missed = false = switches = total = 0
    last: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    true_frames: Counter[int] = Counter()
    track_frames: Counter[int] = Counter()
    for moment, tracks in zip(moments, told, strict=True):
        ids = moment.ids.tolist()
        overlap = _overlaps(moment.boxes, tracks)
        pairs = _pairs(overlap, ids, tracks, last)
        for row, column in pairs:
            switches += last.get(ids[row], tracks[column].id) != tracks[column].id
            last[ids[row]] = tracks[column].id
        missed += len(ids) - len(pairs)
        false += len(tracks) - len(pairs)
        total += len(ids)
        true_frames.update(ids)
        track_frames.update(track.id for track in tracks)
        together.update((ids[row], tracks[column].id) for row, column in np.argwhere(overlap >= 0.5).tolist())
    return Scores(
        1 - (missed + false + switches) / total,
        _idf1(together, true_frames, track_frames),
        switches,
        len(track_frames),
    )


def _overlaps(boxes: FloatArray, tracks: Sequence[Track]) -> FloatArray:
    if not len(boxes) or not tracks:
        return np.zeros((len(boxes), len(tracks)))
    overlap: FloatArray = np.asarray(coco.iou(boxes, np.array([track.box for track in tracks]), [False] * len(tracks)))
    return overlap


def _pairs(overlap: FloatArray, ids: list[int], tracks: Sequence[Track], last: dict[int, int]) -> list[tuple[int, int]]:
    """Pairs of this frame: those of the frame before stay, where they still overlap."""
    worth = np.where(overlap >= 0.5, overlap, 0.0)
    for row, thing in enumerate(ids):
        for column, track in enumerate(tracks):
            if worth[row, column] and last.get(thing) == track.id:
                worth[row, column] += 10
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if worth[row, column]]


def _idf1(together: Counter[tuple[int, int]], true_frames: Counter[int], track_frames: Counter[int]) -> float:
    ids, tracks = list(true_frames), list(track_frames)
    worth = np.array([[together[thing, track] for track in tracks] for thing in ids]).reshape(len(ids), len(tracks))
    best = worth[linear_sum_assignment(worth, maximize=True)].sum()
    return float(2 * best / (sum(true_frames.values()) + sum(track_frames.values())))
