"""Annotations go where their pixels go.

Outlines, corners and points are mapped as such, and cut at the border of every image on the way, so that what one crop took off
does not come back by a later shift. A mask takes each of its pixels from the nearest one that it shows. The box is the one around
the mask, else around the outline, else around what is left of the box as moved. What has left the image is gone altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.geometry import (
    Integers,
    boxes_around,
    clip_polygon,
    polygon_area,
    rle_from_counts,
    rle_runs,
    rotated_box_corners,
    valid_rles,
)
from curate.recipes.shapes import Shape
from curate.recipes.warps import Array, Field, Homography, Size, Warp, Window, origin

Outside = Literal["refuse", "cut"]
"""What is done with annotations that leave the image before anything is moved: `refuse` raises an error."""

_TOLERANCE: Final = 1.0
"""Pixels by which an annotation may leave its image: formats round."""

_SPACING: Final = 3.0
_BEND: Final = 0.05
_LEAST_AREA: Final = 1e-6
_SAMPLES: Final = 400


@dataclass(frozen=True)
class Moved:
    """Annotations after an image was moved.

    Attributes:
        shapes: As many as before; None for those that have left the image.
        visible: Share of each that is still on it, 0 to 1: of the area of a mask, outline or box, of the length of a line, of the
            number of points; float64 of shape (n,).
    """

    shapes: tuple[Shape | None, ...]
    visible: Array


def move(shapes: Sequence[Shape], warps: Sequence[Warp], *, min_visible: float = 0.0) -> Moved:
    """Move annotations as their image was moved.

    Args:
        shapes: On the image before; what of them is outside of it is cut off.
        warps: What was done to the image, in this order.
        min_visible: Annotations of which less is left are gone as well.
    """
    if not warps:
        return Moved(tuple(shapes), np.ones(len(shapes)))
    flips = sum(warp.mirrors() for warp in warps) % 2 == 1
    found = [_moved(shape, warps, flips) for shape in shapes]
    visible = np.array([share for _, share in found], dtype=np.float64)
    kept = (visible > 0) & (visible >= min_visible)
    return Moved(tuple(shape if stays else None for (shape, _), stays in zip(found, kept, strict=True)), visible)


def move_boxes(boxes: Array, warps: Sequence[Warp]) -> tuple[Array, Array]:
    """Boxes around moved boxes.

    Args:
        boxes: [x, y, width, height] on the image; shape (n, 4).
        warps: What was done to the image.

    Returns:
        The boxes, cut at the image, with zeros for those that have left it; and the share of each that is left; shapes (n, 4) and
        (n,).
    """
    moved, visible = np.zeros((len(boxes), 4)), np.zeros(len(boxes))
    for number, box in enumerate(boxes):
        outline, visible[number] = _outline(_box_corners(box), warps)
        if visible[number]:
            moved[number] = boxes_around(outline, [0])[0]
    return moved, visible


def require_on_image(shapes: Sequence[Shape], size: Size, *, outside: Outside = "refuse") -> None:
    """See that annotations fit their image.

    Args:
        shapes: The annotations.
        size: (height, width) of the image.
        outside: Whether one that leaves the image by more than a pixel is refused.

    Raises:
        InputError: One does not: its numbers are not finite, its mask is of another size, or it leaves the image.
    """
    height, width = size
    masks = [number for number, shape in enumerate(shapes) if shape.rle is not None]
    # All at once: each call costs as much as many masks do.
    whole = valid_rles([shapes[number].rle or "" for number in masks], [size] * len(masks))
    broken = {number for number, fits in zip(masks, whole.tolist(), strict=True) if not fits}
    for number, shape in enumerate(shapes):
        where = f"annotation {number} ({shape.type}) on an image of {width} x {height}"
        _require_whole(shape, where)
        points = _points(shape)
        if not np.isfinite(points).all():
            raise InputError("its coordinates are not finite numbers", where=where, remedy="mend or remove it")
        if number in broken:
            raise InputError("its mask is of another size", where=where, remedy="import the masks that fit the image")
        beyond = (points < -_TOLERANCE) | (points > np.array([width, height]) + _TOLERANCE)
        if outside == "refuse" and beyond.any():
            x, y = points[beyond.any(axis=1)][0].tolist()
            raise InputError(
                f"it leaves the image, at ({x:g}, {y:g})",
                where=where,
                remedy="mend it (`curate mistakes` finds such ones), leave the image out, or have it cut at the border",
            )


def _require_whole(shape: Shape, where: str) -> None:
    """See that coordinates are pairs, keypoints triples, and what is mirrored each of them once."""
    numbers = 0 if shape.keypoints is None else len(shape.keypoints)
    if numbers % 3 or any(len(part) % 2 for part in _parts(shape)):
        raise InputError("a coordinate of it has no partner", where=where, remedy="mend or remove it")
    count = numbers // 3
    if shape.mirrored is not None and sorted(shape.mirrored) != list(range(count)):
        said = f"what its {count} keypoints are in a mirror image does not name each of them once"
        raise InputError(said, where=where, remedy="name the number of each point once, or leave it out")


def _moved(shape: Shape, warps: Sequence[Warp], flips: bool) -> tuple[Shape | None, float]:
    """The annotation and the share of it that is left."""
    shares: list[float] = []
    box: list[float] | None = None
    rle, polygons, rotated, keypoints = None, None, None, None
    if shape.rle is not None:
        rle, box, share = _mask(shape.rle, warps)
        shares.append(share)
    if shape.polygons is not None:
        polygons, share = _polygons(shape.polygons, warps, is_open=shape.type == "polyline")
        shares.append(share)
        box = box or _around(polygons)
    if shape.rotated_box is not None:
        rotated, cut, share = _rotated_box(np.asarray(shape.rotated_box, dtype=np.float64), warps)
        shares.append(share)
        box = box or _around([cut])
    if shape.bbox is not None and not shares:
        outline, share = _outline(_box_corners(np.asarray(shape.bbox, dtype=np.float64)), warps)
        shares.append(share)
        box = _around([outline.ravel().tolist()])
    if shape.keypoints is not None:
        keypoints, share = _keypoints(shape, warps, flips)
        shares.append(share)
    if not shares:
        return shape, 1.0
    if not shares[0]:
        return None, 0.0
    moved = replace(shape, bbox=box, rotated_box=rotated, polygons=polygons or None, rle=rle, keypoints=keypoints)
    return moved, shares[0]


def _mask(counts: str, warps: Sequence[Warp]) -> tuple[str | None, list[float] | None, float]:
    """A mask, the box around it, and the share of it that is left."""
    height, width = warps[0].size_in
    runs = rle_runs(counts)
    ends = np.cumsum(runs)
    if len(runs) < 2 or not runs[1::2].any():
        return None, None, 0.0
    last_end = ends[1::2][runs[1::2] > 0][-1]
    first, last = int(runs[0]) // height, (int(last_end) - 1) // height
    columns = slice(first * height, (last + 1) * height)
    lengths = np.diff(np.clip(ends, columns.start, columns.stop), prepend=columns.start).astype(np.int64)
    drawn = np.repeat(np.arange(len(runs)) % 2 == 1, lengths).reshape(-1, height).T
    rows = np.flatnonzero(drawn.any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    window = _window([first, top, last + 1 - first, bottom - top], warps)
    if window is None:
        return None, None, 0.0
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top:bottom, first : last + 1] = drawn[top:bottom]
    moved = origin(warps, window).take(mask, False)
    if not moved.any():
        return None, None, 0.0
    return *_encode(moved, window, warps[-1].size_out), _share_of_pixels(drawn, first, warps)


def _window(box: Sequence[float], warps: Sequence[Warp]) -> Window | None:
    """Where to look for a mask after it was moved, from the box around it before."""
    height, width = warps[-1].size_out
    if any(isinstance(warp, Field) and warp.folds for warp in warps):
        return Window(0, 0, width, height)
    outline = _box_corners(np.asarray(box, dtype=np.float64))
    if all(isinstance(warp, Homography) and warp.affine for warp in warps):
        for warp in warps:  # what is cut on the way need not be known
            outline = warp.forward(outline)
    else:
        outline = _outline(outline, warps)[0]
    if not len(outline):
        return None
    slack = 2 + 2 * _BEND * len(warps)
    low = np.clip(outline.min(axis=0) - slack, 0, [width, height]).astype(np.int64).tolist()
    high = np.clip(outline.max(axis=0) + slack + 1, 0, [width, height]).astype(np.int64).tolist()
    return Window(*low, *high) if low[0] < high[0] and low[1] < high[1] else None


def _encode(mask: npt.NDArray[np.bool_], window: Window, size: Size) -> tuple[str, list[float]]:
    """Run lengths of a mask that is drawn on a window of an image of this size, and the box around it."""
    height, width = size
    columns = np.zeros((mask.shape[1], height), dtype=np.bool_)
    columns[:, window.top : window.bottom] = mask.T
    values = columns.ravel()
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1 + window.left * height
    if values[0]:
        changes = np.concatenate([[window.left * height], changes])
    rle = rle_from_counts(np.diff(np.concatenate([[0], changes, [height * width]])).tolist(), size)
    x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    box = [window.left + x[0], window.top + y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]]
    return rle, [float(side) for side in box]


def _share_of_pixels(mask: npt.NDArray[np.bool_], left: int, warps: Sequence[Warp]) -> float:
    """Of some hundred of a mask's pixels, how many still are on the image; never 0."""
    every = np.flatnonzero(mask.T)  # in the order in which it was drawn
    some = every[np.linspace(0, len(every) - 1, min(len(every), _SAMPLES)).astype(np.int64)]
    columns, rows = np.divmod(some, len(mask))
    points = np.column_stack([columns + left, rows]) + 0.5
    return max(float(_stays(points, warps)[1].mean()), 1 / _SAMPLES)


def _polygons(
    polygons: Sequence[Sequence[float]], warps: Sequence[Warp], *, is_open: bool
) -> tuple[list[list[float]], float]:
    """The parts that are left, and the share of their area or length."""
    given = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in polygons]
    sizes = np.array([_length(part) if is_open else polygon_area(part) for part in given])
    moved = [_line(part, warps) if is_open else _outline(part, warps) for part in given]
    shares = np.array([share for _, share in moved])
    left = [part.ravel().tolist() for part, share in moved if share > 0]
    total = float(sizes.sum())
    return left, float((shares * sizes).sum() / total) if total > 0 else float(shares.max(initial=0))


def _outline(points: Array, warps: Sequence[Warp]) -> tuple[Array, float]:
    """A closed outline, moved and cut; and the share of its area that is left, 0 where nothing is."""
    share = 1.0
    points = _cut(points, warps[0].size_in)
    for warp in warps:
        if len(points) < 3:
            return np.zeros((0, 2)), 0.0
        moved = _moved_outline(points, warp)
        points = _cut(moved, warp.size_out)
        area = polygon_area(moved) if len(moved) >= 3 else 0.0
        left = polygon_area(points) if len(points) >= 3 else 0.0
        if left <= _LEAST_AREA < area or not len(points):
            return np.zeros((0, 2)), 0.0
        share *= min(left / area, 1.0) if area > _LEAST_AREA else 1.0
    return points, share


def _moved_outline(points: Array, warp: Warp) -> Array:
    if isinstance(warp, Homography):
        if not warp.affine:
            ahead = warp.in_front(points)
            points = points if (ahead > 0).all() else _half(points, ahead)
        return warp.forward(points) if len(points) else points
    many, starts = _densified(points, closed=True)
    return _thinned(warp.forward(many), starts, closed=True)


def _cut(points: Array, size: Size) -> Array:
    height, width = size
    if ((points >= 0) & (points <= [width, height])).all():
        return points
    cut = np.asarray(clip_polygon(points.ravel().tolist(), height, width), dtype=np.float64).reshape(-1, 2)
    return np.clip(cut, 0, [width, height])


def _half(points: Array, distance: Array) -> Array:
    """The part of a polygon where a distance, which is linear in the points, is positive."""
    after, distance_after = np.roll(points, -1, axis=0), np.roll(distance, -1)
    crosses = (distance > 0) != (distance_after > 0)
    share = np.divide(distance, distance - distance_after, out=np.zeros_like(distance), where=crosses)
    crossing = points + share[:, None] * (after - points)
    both = np.stack([points, crossing], axis=1)
    return np.asarray(both[np.column_stack([distance > 0, crosses])])


def _densified(points: Array, *, closed: bool) -> tuple[Array, Integers]:
    """More points on the same lines, and where the given ones are among them."""
    after = np.roll(points, -1, axis=0) if closed else np.concatenate([points[1:], points[-1:]])
    pieces = np.maximum(np.ceil(np.hypot(*(after - points).T) / _SPACING), 1).astype(np.int64)
    if not closed:
        pieces[-1] = 1
    starts = np.concatenate([[0], np.cumsum(pieces)[:-1]])
    share = (np.arange(pieces.sum()) - np.repeat(starts, pieces)) / np.repeat(pieces, pieces)
    first, second = np.repeat(points, pieces, axis=0), np.repeat(after, pieces, axis=0)
    return first + share[:, None] * (second - first), starts


def _thinned(points: Array, starts: Integers, *, closed: bool) -> Array:
    """Without the added points where the line between the given ones is straight all the same."""
    pieces = np.diff(np.concatenate([starts, [len(points)]]))
    after = points[np.roll(starts, -1)] if closed else points[np.concatenate([starts[1:], starts[-1:]])]
    first, chord = points[starts], after - points[starts]
    length = np.maximum(np.hypot(*chord.T), 1e-9)
    off, along = points - np.repeat(first, pieces, axis=0), np.repeat(chord / length[:, None], pieces, axis=0)
    bend = np.maximum.reduceat(np.abs(off[:, 0] * along[:, 1] - off[:, 1] * along[:, 0]), starts)
    kept = np.repeat(bend > _BEND, pieces)
    kept[starts] = True
    return points[kept]


def _line(points: Array, warps: Sequence[Warp]) -> tuple[Array, float]:
    """An open line: its longest piece on the image, and the share of its length."""
    share = 1.0
    for warp in warps:
        if len(points) < 2:
            return np.zeros((0, 2)), 0.0
        if warp.straight:
            moved = warp.forward(points)
        else:
            many, starts = _densified(points, closed=False)
            moved = _thinned(warp.forward(many), starts, closed=False)
        points = _longest_piece(moved, warp.size_out)
        length = _length(moved)
        share *= min(_length(points) / length, 1.0) if length > 0 else 1.0
    return points, share if len(points) > 1 else 0.0


def _longest_piece(points: Array, size: Size) -> Array:
    """Of a line cut at an image's border (Liang and Barsky 1984), the longest piece."""
    limits = np.array([size[1], size[0]], dtype=np.float64)
    pieces: list[list[Array]] = []
    for start, end in pairwise(points):
        way = end - start
        with np.errstate(divide="ignore", invalid="ignore"):
            enter, leave = np.sort(np.stack([-start / way, (limits - start) / way]), axis=0)
        still = way == 0
        if not np.isfinite(way).all() or (still & ((start < 0) | (start > limits))).any():
            continue
        low, high = max(0.0, *enter[~still]), min(1.0, *leave[~still])
        if low > high:
            continue
        if not pieces or low > 0 or not np.array_equal(pieces[-1][-1], start):
            pieces.append([start + low * way])
        pieces[-1].append(start + high * way if high < 1 else end)
    return max((np.array(piece) for piece in pieces), key=_length, default=np.zeros((0, 2)))


def _rotated_box(box: Array, warps: Sequence[Warp]) -> tuple[list[float] | None, list[float], float]:
    """[centre x, centre y, width, height, degrees], the outline of what of it is on the image, and the share of that.

    The box keeps to its own direction: where it was cut, or is no rectangle any more, it is the one around what is left that is
    along its moved width, or along its moved height, whichever is smaller.
    """
    outline, share = _outline(rotated_box_corners(box)[0], warps)
    if not share:
        return None, [], 0.0
    radians = np.deg2rad(box[4])
    wide = np.array([np.cos(radians), np.sin(radians)])
    tall = np.array([-wide[1], wide[0]])
    ends = box[:2] + np.stack([-wide * box[2], wide * box[2], -tall * box[3], tall * box[3]]) / 2
    for warp in warps:
        ends = warp.forward(ends)
    if not np.isfinite(ends).all() or np.hypot(*(ends[1] - ends[0])) == 0 or np.hypot(*(ends[3] - ends[2])) == 0:
        return None, outline.ravel().tolist(), share
    along_width, along_height = (np.arctan2(*(second - first)[::-1]) for first, second in (ends[:2], ends[2:]))
    upright = along_height - np.pi / 2
    upright += np.pi if np.cos(upright - along_width) < 0 else 0.0
    found = [_around_along(outline, angle) for angle in (along_width, upright)]
    x, y, w, h, angle = min(found, key=lambda each: round(each[2] * each[3], 6))
    turned = (np.rad2deg(angle) - box[4] + 180) % 360 - 180
    return [x, y, w, h, float(box[4] + turned)], outline.ravel().tolist(), share


def _around_along(points: Array, angle: float) -> tuple[float, float, float, float, float]:
    """Centre, width, height and angle (radians) of the rectangle in a direction around points."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = points @ np.array([[cosine, -sine], [sine, cosine]])
    low, high = turned.min(axis=0), turned.max(axis=0)
    centre = np.array([[cosine, -sine], [sine, cosine]]) @ ((low + high) / 2)
    return float(centre[0]), float(centre[1]), float(high[0] - low[0]), float(high[1] - low[1]), float(angle)


def _keypoints(shape: Shape, warps: Sequence[Warp], flips: bool) -> tuple[list[float], float]:
    """[x, y, visibility] of each point, all 0 of one that has left the image; and the share of the labelled ones that stay."""
    points = np.array(shape.keypoints, dtype=np.float64).reshape(-1, 3)
    labelled = points[:, 2] > 0
    points[:, :2], stays = _stays(points[:, :2], warps)
    points[~(stays & labelled)] = 0
    if flips and shape.mirrored is not None:
        points = points[np.asarray(shape.mirrored, dtype=np.int64)]
    share = float((stays & labelled).sum() / labelled.sum()) if labelled.any() else 0.0
    return points.ravel().tolist(), share


def _stays(points: Array, warps: Sequence[Warp]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Points after all steps, and whether they were on the image after each."""
    stays = _on(points, warps[0].size_in)
    for warp in warps:
        if isinstance(warp, Homography) and not warp.affine:
            stays &= warp.in_front(points) > 0
        points = warp.forward(points)
        stays &= _on(points, warp.size_out)
    return points, stays


def _on(points: Array, size: Size) -> npt.NDArray[np.bool_]:
    """Whether points are on an image of this size."""
    return np.asarray(((points >= 0) & (points <= [size[1], size[0]])).all(axis=1))


def _points(shape: Shape) -> Array:
    """Every point that an annotation says."""
    parts: list[Array] = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in _parts(shape)]
    if shape.rotated_box is not None:
        parts.append(np.asarray(shape.rotated_box, dtype=np.float64)[None, :2])
    elif shape.bbox is not None:
        parts.append(_box_corners(np.asarray(shape.bbox, dtype=np.float64)))
    if shape.keypoints is not None:
        points = np.asarray(shape.keypoints, dtype=np.float64).reshape(-1, 3)
        parts.append(points[points[:, 2] > 0, :2])
    return np.concatenate([np.zeros((0, 2)), *parts])


def _parts(shape: Shape) -> Sequence[Sequence[float]]:
    return () if shape.polygons is None else shape.polygons


def _box_corners(box: Array) -> Array:
    x, y, w, h = box
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])


def _around(parts: Sequence[Sequence[float]]) -> list[float] | None:
    points = np.concatenate([np.zeros(0), *(np.asarray(part) for part in parts)]).reshape(-1, 2)
    return None if not len(points) else [float(side) for side in boxes_around(points, [0])[0]]


def _length(points: Array) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum()) if len(points) > 1 else 0.0
