"""One label of a BDD100K frame as shapes, attributes and the like; see `curate.formats.bdd100k`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from curate.formats.columns import Floats
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.formats.values import is_shallow, mapping, number, numbers, sequence, whole

JOINTS: Final = (
    "head", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_hand", "left_hand",
    "right_foot", "left_foot",
)  # fmt: skip
"""Keypoints of a person in BDD100K's pose files, in order."""

_READ: Final = frozenset({"id", "category", "attributes", "box2d", "poly2d", "seg2d", "rle", "score", "graph"})
_CURVE_PIECES: Final = 12


@dataclass(frozen=True)
class Label:
    """What a label says.

    Attributes:
        category: None where it has none.
        shapes: One for what is closed, and one for each open line.
        attributes: JSON-ready.
        iscrowd: Whether it stands for many; None where that is not said.
        score: Confidence of a prediction.
        source_id: Its own id, or None.
    """

    category: str | None
    shapes: Sequence[Shape]
    attributes: dict[str, Any]
    iscrowd: bool | None
    score: float | None
    source_id: str | None


def read_label(content: dict[str, Any], place: str, losses: LossReport) -> Label | None:
    """Understand a label.

    Args:
        content: Its members.
        place: What to call it in the loss report.
        losses: Gets what has no place.

    Returns:
        None where nothing in it can be kept, which is reported.
    """
    if not content:
        losses.dropped("annotations", "not an object with members", place)
        return None
    category = content.get("category")
    if not isinstance(category, str) or not category:
        losses.converted("annotations", "without a category: kept without a label", place)
        category = None
    attributes = dict(mapping(content.get("attributes")))
    is_crowd = attributes.get("crowd")
    if isinstance(is_crowd, bool):
        del attributes["crowd"]
    attributes |= {name: value for name, value in content.items() if name not in _READ and value not in (None, "")}
    shapes, kept = _shapes(content, place, losses)
    attributes |= kept
    if not shapes:
        only_3d = content.get("box3d") is not None and not _says_where(content)
        reason = "a 3-D box without one in the image" if only_3d else "nothing in it can be kept"
        losses.dropped("annotations", reason, place)
        return None
    if not is_shallow(attributes):
        losses.dropped("attributes", "nested too deeply", place)
        attributes = {}
    identity = content.get("id")
    score = number(content.get("score"))
    return Label(
        category,
        shapes,
        attributes,
        is_crowd if isinstance(is_crowd, bool) else None,
        score if score is not None and np.isfinite(score) else None,
        str(identity) if isinstance(identity, str | int) and not isinstance(identity, bool) else None,
    )


def _shapes(content: dict[str, Any], place: str, losses: LossReport) -> tuple[list[Shape], dict[str, Any]]:
    """The shapes of a label, and what of them must be kept in the attributes."""
    kept: dict[str, Any] = {}
    box = _box(content["box2d"], place, losses) if content.get("box2d") is not None else None
    rle = _rle(content["rle"], place, losses) if content.get("rle") is not None else None
    outlines = content.get("poly2d") or content.get("seg2d")
    closed, lines = _outlines(outlines, place, losses, kept) if outlines is not None else ([], [])
    keypoints = _keypoints(content["graph"], kept) if content.get("graph") is not None else None
    shapes = [Shape(polygons=[line], is_open=True) for line in lines]
    if box is not None or rle is not None or closed or keypoints is not None:
        shapes.insert(0, Shape(bbox=box, polygons=closed or None, rle=rle, keypoints=keypoints))
    if len(lines) > 1:
        losses.converted("annotations", "a label of several open lines: an annotation for each", place)
    if not _says_where(content) and content.get("box3d") is None:
        shapes = [WHOLE_IMAGE]
    return shapes, kept


def _says_where(content: dict[str, Any]) -> bool:
    return any(content.get(name) is not None for name in ("box2d", "poly2d", "seg2d", "rle", "graph"))


def _box(content: Any, place: str, losses: LossReport) -> list[float] | None:
    corners = numbers(mapping(content).get(name) for name in ("x1", "y1", "x2", "y2"))
    if corners is None:
        losses.dropped("boxes", "without four numbers for a box", place)
        return None
    left, top, right, bottom = corners
    return [left, top, right - left + 1, bottom - top + 1]


def _rle(content: Any, place: str, losses: LossReport) -> tuple[str, list[int]] | None:
    said = mapping(content)
    counts, size = said.get("counts"), [whole(side) for side in sequence(said.get("size"))]
    if not isinstance(counts, str) or len(size) != 2 or not all(size):
        losses.dropped("masks", "without run lengths and a size", place)
        return None
    return counts, size


def _outlines(
    content: Any, place: str, losses: LossReport, kept: dict[str, Any]
) -> tuple[list[list[float]], list[list[float]]]:
    """Closed and open outlines; what had curves is kept."""
    parts = sequence(content)
    if parts and _is_vertex(parts[0]):  # of old: one outline, its vertices with their types
        parts = [parts]
    closed: list[list[float]] = []
    lines: list[list[float]] = []
    for part in parts:
        said = mapping(part) or _old_outline(part)
        vertices = [numbers(sequence(vertex)[:2]) for vertex in sequence(said.get("vertices"))]
        points = [vertex for vertex in vertices if vertex is not None and len(vertex) == 2]
        types = said.get("types")
        types = types if isinstance(types, str) and len(types) == len(vertices) else "L" * len(points)
        is_closed = said.get("closed") is not False
        if not points or len(points) != len(vertices):
            losses.dropped("outlines", "a vertex that is not two numbers", place)
            continue
        if "C" in types:
            losses.converted("annotations", "Bezier curves became lines of short pieces", place)
            kept["poly2d"] = content
        flat = [side for point in _flatten_curves(points, types, is_closed) for side in point]
        if len(flat) < (6 if is_closed else 4):
            losses.dropped("outlines", "an outline of too few points", place)
        else:
            (closed if is_closed else lines).append(flat)
    return closed, lines


def _is_vertex(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 2 and number(value[0]) is not None


def _old_outline(part: Any) -> dict[str, Any]:
    """``[[x, y, "L"], ...]`` in the new form; it is closed where it ends as it began."""
    vertices = sequence(part)
    types = "".join(
        "C" if isinstance(vertex, list) and len(vertex) > 2 and vertex[2] == "C" else "L" for vertex in vertices
    )
    is_closed = len(vertices) > 3 and vertices[0] == vertices[-1]
    return {"vertices": vertices, "types": types, "closed": is_closed}


def _flatten_curves(points: list[list[float]], types: str, is_closed: bool) -> list[list[float]]:
    """An outline's vertices, with points along its curves instead of their control points."""
    flat = [points[0]]
    row = 1
    while row < len(points):
        ends = points[row : row + 3]
        if is_closed and len(ends) == 2:
            ends = [*ends, points[0]]
        if types[row] == "C" and len(ends) == 3:
            curve = _bezier(np.array([flat[-1], *ends]))
            flat += curve[:-1] if row + 2 == len(points) else curve
            row += 3
        else:
            flat.append(points[row])
            row += 1
    return flat


def _bezier(control: Floats) -> list[list[float]]:
    """Points of a cubic Bezier curve after its first, for control points of shape (4, 2)."""
    t = np.arange(1, _CURVE_PIECES + 1)[:, None] / _CURVE_PIECES
    with np.errstate(over="ignore", invalid="ignore"):
        curve = (1 - t) ** 3 * control[0] + 3 * (1 - t) ** 2 * t * control[1]
        curve = curve + 3 * (1 - t) * t**2 * control[2] + t**3 * control[3]
    points: list[list[float]] = curve.tolist()
    return points


def _keypoints(content: Any, kept: dict[str, Any]) -> list[float] | None:
    """A pose's joints in BDD100K's order; a graph of anything else stays in the attributes alone."""
    nodes = [mapping(node) for node in sequence(mapping(content).get("nodes"))]
    triples = np.zeros((len(JOINTS), 3))
    for node in nodes:
        place = numbers(sequence(node.get("location")))
        if node.get("category") not in JOINTS or place is None or len(place) != 2:
            kept["graph"] = content
            return None
        is_visible = node.get("visibility") in {None, "V"}
        triples[JOINTS.index(node["category"])] = [*place, 2 if is_visible else 1]
    if not triples[:, 2].any():
        kept["graph"] = content
        return None
    keypoints: list[float] = triples.ravel().tolist()
    return keypoints
