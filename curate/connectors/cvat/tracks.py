"""Tracks: one thing over the frames of a task, said on some of them, its keyframes, and filled in between.

As CVAT fills in: boxes, ellipses, cuboids and single points move evenly, and turn the shorter way; masks and several points stay
as they are until the next keyframe. Outlines are matched along their length and their points move evenly; CVAT then leaves out
points that lie close together, which is not done here: the outline is the same, with a few points more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from curate.formats.columns import Floats, Ints
from curate.formats.values import number, numbers, sequence

_EVENLY: Final = frozenset({"rectangle", "ellipse", "cuboid"})
_OUTLINES: Final = frozenset({"polygon", "polyline"})


def expand(track: Mapping[str, Any], last: int) -> Iterator[dict[str, Any]]:
    """A track's shapes on every frame from its first on, in order; those outside the picture only on keyframes.

    Args:
        track: As the API has it.
        last: The last frame that is wanted.

    Yields:
        A shape as the API has it, with its ``frame``, ``keyframe``, the track's attributes too, and a skeleton's ``elements``.
    """
    elements = [each for each in sequence(track.get("elements")) if isinstance(each, dict)]
    parts = [{shape["frame"]: shape for shape in _filled(each, last, hidden=True)} for each in elements]
    own = sequence(track.get("attributes"))
    for shape in _filled(track, last, hidden=False):
        found = {**shape, "attributes": [*sequence(shape.get("attributes")), *own]}
        if elements:
            found["elements"] = [
                {**part[shape["frame"]], "label_id": each.get("label_id")}
                for each, part in zip(elements, parts, strict=True)
                if shape["frame"] in part
            ]
            found["outside"] = all(part.get("outside") is True for part in found["elements"])
        if found["keyframe"] or not found.get("outside"):
            yield found


def keyframes(track: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shapes that a track is made of, in order; those without a frame are left out."""
    shapes = [
        each for each in sequence(track.get("shapes")) if isinstance(each, dict) and type(each.get("frame")) is int
    ]
    return sorted(shapes, key=lambda shape: int(shape["frame"]))


def _filled(track: Mapping[str, Any], last: int, *, hidden: bool) -> Iterator[dict[str, Any]]:
    """The keyframes and what lies between and after them; with `hidden`, also while it is outside the picture."""
    shapes = keyframes(track)
    attributes: dict[Any, Any] = {}
    for index, shape in enumerate(shapes):
        if shape["frame"] > last:
            return
        attributes |= {
            each.get("spec_id"): each for each in sequence(shape.get("attributes")) if isinstance(each, dict)
        }
        known = {**shape, "attributes": list(attributes.values()), "keyframe": True}
        yield known
        if shape.get("outside") is True and not hidden:
            continue
        following = shapes[index + 1] if index + 1 < len(shapes) else None
        end = last if following is None else min(last, following["frame"] - 1)
        for frame in range(shape["frame"] + 1, end + 1):
            between = {**known, "frame": frame, "keyframe": False}
            if following is not None:
                share = (frame - shape["frame"]) / (following["frame"] - shape["frame"])
                between |= _between(shape, following, share)
            yield between


def _between(first: Mapping[str, Any], second: Mapping[str, Any], share: float) -> dict[str, Any]:
    """What changes on the way from one keyframe to the next."""
    kind = first.get("type")
    start, end = (numbers(sequence(each.get("points"))) for each in (first, second))
    if start is None or end is None or kind != second.get("type"):
        return {}
    if kind in _EVENLY or (kind == "points" and len(start) == 2):
        if len(start) != len(end):
            return {}
        turn, turned = (number(each.get("rotation")) or 0.0 for each in (first, second))
        way = (turned - turn + 180) % 360 - 180
        points: Floats = np.array(start) + (np.array(end) - start) * share
        return {"points": points.tolist(), "rotation": (turn + way * share) % 360}
    if kind in _OUTLINES and len(start) % 2 == len(end) % 2 == 0 and min(len(start), len(end)) >= 4:
        return {"points": _outline_between(start, end, share, closed=kind == "polygon")}
    return {}


def _outline_between(first: Sequence[float], second: Sequence[float], share: float, *, closed: bool) -> list[float]:
    start, end = (np.array(each).reshape(-1, 2) for each in (first, second))
    if closed:
        start, end = np.vstack([start, start[:1]]), np.vstack([end, end[:1]])
    left, right = _matched(_along(start), _along(end))
    moved = start[left] + (end[right] - start[left]) * share
    kept: list[float] = (moved[:-1] if closed and len(moved) > 3 else moved).ravel().tolist()
    return kept


def _matched(first: Floats, second: Floats) -> tuple[Ints, Ints]:
    """Which of n and m points along two lines belong together; each belongs to at least one of the other line."""
    distance = np.abs(first[:, None] - second[None, :])
    pairs = {(index, int(nearest)) for index, nearest in enumerate(distance.argmin(axis=1))}
    left_out = set(range(len(second))) - {right for _, right in pairs}
    pairs |= {(int(distance[:, right].argmin()), right) for right in left_out}
    ordered = np.array(sorted(pairs), dtype=np.int64)
    return ordered[:, 0], ordered[:, 1]


def _along(points: Floats) -> Floats:
    """How far along a line each of its points is, from 0 to 1."""
    lengths = np.r_[0.0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    found: Floats = lengths / lengths[-1] if lengths[-1] > 0 else np.linspace(0.0, 1.0, len(points))
    return found
