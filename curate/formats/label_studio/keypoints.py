"""Keypoints: single points in Label Studio, the points of one annotation in a dataset.

A point that belongs to a region (``parentID``) becomes one of that region's keypoints. A point that belongs to none becomes an
annotation of its own, of the class that is its label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from curate.formats.label_studio.regions import Region

POINTS: Final = "keypoints"
"""Attribute of an annotation with keypoints: id, score and what else each point has, by its name."""

_POINT = 3


class KeypointNames:
    """The names of each class's keypoints, in the order of the configuration, else that in which they are met.

    Args:
        known: Those of the configuration.
        of_classes: Those of each class, where that is known.
    """

    def __init__(self, known: Sequence[str], of_classes: Mapping[str, Sequence[str]] | None = None) -> None:
        self._known = known
        self._names: dict[str, list[str | None]] = {label: [*names] for label, names in (of_classes or {}).items()}

    def place(self, label: str, name: str, point: tuple[int, int] | None) -> int:
        """The place of a name among those of a class.

        Args:
            label: The class.
            name: The point's.
            point: Its place, and of how many, where that is said.
        """
        if label not in self._names:
            self._names[label] = list(self._known) if label != name and point is None else []
        names = self._names[label]
        if point is not None:
            names += [None] * (point[1] - len(names))
            if names[point[0]] in {None, name}:
                names[point[0]] = name
                return point[0]
        if name not in names:
            names.append(name)
        return names.index(name)

    def of(self, label: str) -> tuple[str, ...]:
        """The names of a class's keypoints: of those that no point has, as the configuration goes on, else their numbers."""
        names = self._names.get(label, [])
        listed = {name: place for place, name in enumerate(self._known)}
        starts = {listed[name] - place for place, name in enumerate(names) if name in listed}
        start = starts.pop() if len(starts) == 1 else 0
        found = []
        for place, name in enumerate(names):
            is_listed = 0 <= start + place < len(self._known)
            other = self._known[start + place] if is_listed else None
            found.append(name or (other if other and other not in names else str(place + 1)))
        return tuple(found)

    def padded(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Annotations, each with all keypoints of its class: those that were met later are not labelled."""
        for piece in pieces:
            column = piece[POINTS]
            if column.null_count == len(column):
                yield piece
                continue
            labels, values = piece["label"].to_pylist(), column.to_pylist()
            for row, (label, points) in enumerate(zip(labels, values, strict=True)):
                missing = _POINT * len(self._names.get(label, ())) - len(points or ())
                if points and missing > 0:
                    values[row] = points + [0.0] * missing
            place = piece.schema.get_field_index(POINTS)
            yield piece.set_column(place, piece.schema.field(place), pa.array(values, column.type))


def join_keypoints(regions: Sequence[Region], names: KeypointNames) -> list[Region]:
    """Regions with their points: each point that belongs to a labelled region of its image moves into it."""
    owners = {
        region.id: region
        for region in regions
        if region.id and region.label and region.kind not in {"keypoint", "label"}
    }
    points: dict[str | None, dict[str, Region]] = defaultdict(dict)
    rest = []
    for region in regions:
        owner = owners.get(region.parent or "") if region.kind == "keypoint" else None
        if owner is not None and region.label and owner.image == region.image and region.label not in points[owner.id]:
            points[owner.id][region.label] = region
        else:
            rest.append(region)
    return [_with_points(region, points[region.id], names) for region in rest]


def _with_points(region: Region, points: dict[str, Region], names: KeypointNames) -> Region:
    label = region.label
    if label is None or not (points or region.kind == "keypoint"):
        return region
    places = {name: names.place(label, name, point.point) for name, point in (points or {label: region}).items()}
    triples = [0.0] * (_POINT * len(names.of(label)))
    for name, place in places.items():
        triples[_POINT * place : _POINT * (place + 1)] = (points.get(name) or region).shape.keypoints or ()
    shape = replace(region.shape, keypoints=triples)
    if not points:
        return replace(region, shape=shape)
    attributes = {**region.attributes, POINTS: {name: _details(point) for name, point in points.items()}}
    results = (*region.results, *(result for point in points.values() for result in point.results))
    return replace(region, shape=shape, attributes=attributes, results=results)


def _details(point: Region) -> dict[str, Any]:
    details: dict[str, Any] = {"id": point.source_id, "score": point.score, **point.attributes}
    return {key: value for key, value in details.items() if value is not None and key != "parent"}
