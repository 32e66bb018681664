"""What an annotation says, apart from its ids: digests of it, and whether two of them say the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.connectors.base import Row
from curate.dataset.schema import ANNOTATIONS
from curate.geometry import polygon_area, rle_runs, rotated_box_corners

SHAPE_COLUMNS: Final = ("type", "bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints")
"""One field as far as changes go: an outline is not mixed with another's box."""

_PLAIN: Final = ("label", "iscrowd", "score")
_ATTRIBUTE: Final = "attributes."
_PLACES: Final = 4
_SAME_PIXELS: Final = 0.51
_SAME_PART: Final = 0.01
_SAME_AREA: Final = 0.05
_SAME_PLACE: Final = 0.5
_DIGEST_BYTES: Final = 9


def rows_of(table: pa.Table) -> list[Row]:
    """Annotations as rows, with their attributes read."""
    rows: list[Row] = table.to_pylist()
    for row in rows:
        row["attributes"] = json.loads(row["attributes"]) if row["attributes"] else {}
    return rows


def table_of(rows: Collection[Row]) -> pa.Table:
    """The inverse of `rows_of`."""
    texts = [
        {**row, "attributes": json.dumps(row["attributes"], ensure_ascii=False) if row.get("attributes") else None}
        for row in rows
    ]
    return pa.Table.from_pylist(texts, schema=ANNOTATIONS)


def fields(row: Row) -> dict[str, str]:
    """A digest of each thing that an annotation says: its label, its shape, and every attribute."""
    said = {name: row.get(name) for name in _PLAIN if row.get(name) is not None}
    said |= {_ATTRIBUTE + name: value for name, value in (row.get("attributes") or {}).items()}
    shape = {name: row.get(name) for name in SHAPE_COLUMNS if row.get(name) is not None}
    return {name: _digest(value) for name, value in sorted((said | {"shape": shape}).items())}


def digest(row: Row) -> str:
    """A digest of all that an annotation says."""
    return _digest(fields(row))


def overlay(row: Row, now: Row, names: Collection[str]) -> Row:
    """A row that takes the named fields from another; what a service cannot hold stays as it is.

    Args:
        row: The row here.
        now: The row there.
        names: Which of `fields` to take; one that `now` lacks is taken away.
    """
    changed = {**row, "attributes": dict(row.get("attributes") or {})}
    for name in names:
        if name.startswith(_ATTRIBUTE):
            key = name.removeprefix(_ATTRIBUTE)
            if key in (now.get("attributes") or {}):
                changed["attributes"][key] = now["attributes"][key]
            else:
                changed["attributes"].pop(key, None)
        elif name == "shape":
            changed |= {column: now.get(column) for column in SHAPE_COLUMNS}
            changed["area"] = now.get("area")
        else:
            changed[name] = now.get(name)
    return changed


def changed_fields(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the fields that differ between two results of `fields`."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def alike(first: Row, second: Row) -> bool:
    """Whether two rows are the same annotation, but for what a service rounds, or turns into another geometry.

    The label is the same, the boxes are within half a pixel or a hundredth of their sides, and so is whatever other geometry
    both have; of outlines with other points, and of masks, the area is within a twentieth.
    """
    if first.get("label") != second.get("label"):
        return False
    ours, theirs = first.get("bbox"), second.get("bbox")
    if ours is None or theirs is None:
        return ours is theirs
    within = max(_SAME_PIXELS, _SAME_PART * max(map(abs, [*ours[2:], *theirs[2:]])))
    return _near(ours, theirs, within) and all(
        same(first[name], second[name], within)
        for name, same in _COMPARED.items()
        if first.get(name) is not None and second.get(name) is not None
    )


def agree(first: Row, second: Row) -> bool:
    """Whether two rows are alike, and no attribute that both have differs."""
    ours, theirs = (_digests(row.get("attributes") or {}) for row in (first, second))
    return alike(first, second) and all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def at_same_place(first: Row, second: Row) -> bool:
    """Whether two rows have boxes that overlap by half (intersection over union), or none and the same label."""
    ours, theirs = first.get("bbox"), second.get("bbox")
    if ours is None or theirs is None:
        return ours is theirs and first.get("label") == second.get("label")
    return iou(ours, theirs) >= _SAME_PLACE


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes [x, y, width, height]; 0 where they have no area."""
    a, b = (np.array([x, y, x + w, y + h]) for x, y, w, h in (first, second))
    inner = float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)))
    union = first[2] * first[3] + second[2] * second[3] - inner
    return inner / union if union > 0 else 0.0


def equal(first: Row, second: Row) -> bool:
    """Whether two rows say the same, attributes and all, but for what a service does to shapes."""
    return changed_fields(fields(first), fields(second)) in ([], ["shape"]) and alike(first, second)


def _digests(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _digest(value) for name, value in values.items()}


def _near(first: Sequence[float], second: Sequence[float], within: float) -> bool:
    return len(first) == len(second) and bool((np.abs(np.subtract(first, second)) <= within).all())


def _same_outline(first: list[list[float]], second: list[list[float]], within: float) -> bool:
    if list(map(len, first)) == list(map(len, second)):
        return all(_near(*parts, within) for parts in zip(first, second, strict=True))
    areas = [sum(polygon_area(np.reshape(part, (-1, 2))) for part in parts) for parts in (first, second)]
    return _same_area(*areas)


def _same_corners(first: list[float], second: list[float], within: float) -> bool:
    """Corners in any order: half a turn is the same rectangle, and so is a quarter with its sides exchanged."""
    corners = rotated_box_corners([first, second])
    distances = np.abs(corners[0][:, None] - corners[1][None]).max(axis=2)
    return bool((distances.min(axis=1) <= within).all())


def _same_mask(first: str, second: str, within: float) -> bool:
    if first == second:
        return True
    areas = [float(rle_runs(counts)[1::2].sum()) for counts in (first, second)]
    return _same_area(*areas)


def _same_area(first: float, second: float) -> bool:
    return abs(first - second) <= _SAME_AREA * max(first, second)


_COMPARED: Final[Mapping[str, Callable[[Any, Any, float], bool]]] = {
    "polygons": _same_outline,
    "rotated_box": _same_corners,
    "rle": _same_mask,
    "keypoints": _near,
}


def _digest(value: Any) -> str:
    text = json.dumps(_rounded(value), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _rounded(value: Any) -> Any:
    """Numbers to a ten-thousandth of a pixel: the same text parsed twice is the same number, but not after arithmetic."""
    if isinstance(value, float):
        return round(value, _PLACES) + 0.0
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _rounded(each) for key, each in value.items()}
    return value
