"""Annotations as Label Studio's results: the way back from `curate.formats.label_studio.regions`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from curate.formats.label_studio.brush import encode_brush
from curate.formats.label_studio.config import Control, default_control
from curate.formats.label_studio.images import OWN
from curate.formats.label_studio.keypoints import POINTS
from curate.formats.losses import LossReport
from curate.formats.values import mapping, number
from curate.geometry import decode_rle, rle_boxes, rotated_box_corners

Row = Mapping[str, Any]

POINT_WIDTH: Final = 0.5
"""How wide a keypoint is drawn whose width nobody has said: percent of the image's."""

_PERCENT: Final = 100.0
_SAME_BOX: Final = 1e-3
_OF_RESULT: Final = {"origin": str, "parent": str, "image_rotation": int | float, "score": int | float, "meta": dict}
_NAME_IN_RESULT: Final = {"parent": "parentID"}
_ALWAYS_LIST: Final = frozenset({"choices", "taxonomy", "textarea"})
_WHO: Final = ("annotator", "annotation_id", "prediction_id")
_POINT: Final = 3


class _Point(NamedTuple):
    """One keypoint: its place among those of its annotation, its name, and where it is in pixels."""

    place: int
    name: str | None
    x: float
    y: float
    visibility: float


class Controls:
    """The names of the controls that results are of: those of the project that the dataset came from, else new ones.

    Args:
        known: By name.

    Attributes:
        used: What was asked for, by name, with the labels that were used.
        image_keys: Field of the data of each image object, by its name.
    """

    def __init__(self, known: Mapping[str, Control]) -> None:
        self.known = known
        self.used: dict[str, tuple[Control, dict[str, None]]] = {}
        self.image_keys: dict[str, str] = {}

    def use(self, kind: str, preferred: Any, labels: Sequence[str], image: tuple[str, str]) -> tuple[str, str]:
        """Name and object of a control.

        Args:
            kind: Its type: 'rectanglelabels'.
            preferred: Its name, if it has that type.
            labels: What is said with it.
            image: The object, for a new control, and its field of the data.
        """
        name = preferred if isinstance(preferred, str) and self._type(preferred) == kind else self._first(kind, labels)
        control, said = self.used.setdefault(name, (self.known.get(name, Control(kind, image[0])), {}))
        said.update(dict.fromkeys(labels))
        to_name = control.to_name or image[0]
        self.image_keys.setdefault(to_name, image[1])
        return name, to_name

    def has(self, kind: str) -> bool:
        """Whether the project has a control of that type."""
        return any(control.type == kind for control in self.known.values())

    def _type(self, name: str) -> str | None:
        return self.known[name].type if name in self.known else None

    def _first(self, kind: str, labels: Sequence[str]) -> str:
        found = default_control(self.known, kind, labels)
        return found or (kind if kind not in self.known else f"{kind}_curate")


@dataclass
class Writer:
    """Writes the annotations of one image as results.

    Attributes:
        size: Width and height of the image; None if it is not known.
        image: Name of the image object, for new controls, and its field of the data.
        item: Place of the image in its field, where that is a list.
        controls: Names of controls.
        keypoints: Names of the keypoints of each class.
        losses: What cannot be written.
        place: What to call the image in the loss report.
        written: How many annotations were written.
        unsaid: Attributes that are not written, since the annotation or prediction that results belong to says them.
    """

    size: tuple[int, int] | None
    image: tuple[str, str]
    item: int | None
    controls: Controls
    keypoints: Mapping[str, Sequence[str]]
    losses: LossReport
    place: str
    written: int = 0
    unsaid: Sequence[str] = _WHO
    _ids: set[str] = field(default_factory=set)

    def results(self, rows: Sequence[Row], before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The results of the rows of one annotation or prediction.

        Args:
            rows: Those on this image.
            before: Its results on other images of the task.
        """
        results: list[dict[str, Any]] = []
        choices: dict[tuple[str, ...], dict[str, Any]] = {}
        self._ids = {result["id"] for result in before}
        for row in rows:
            if row["bbox"] is not None or row["keypoints"]:
                results += self._shape(row)
            elif row["label"] is None:
                self.losses.dropped("annotations", "without a class and a place", self.place)
            else:
                self._choice(row, choices)
        return [*results, *choices.values()]

    def _choice(self, row: Row, choices: dict[tuple[str, ...], dict[str, Any]]) -> None:
        """Add a label of the whole image to the result that it came from, or to a new one."""
        self.written += 1
        said = dict(row["attributes"])
        name, to_name = self.controls.use("choices", said.get("from_name"), [row["label"]], self.image)
        if said.get("from_name") == name:
            del said["from_name"]
        score = row["score"] if row["score"] is not None else number(said.pop("score", None))
        own = self._own(row, {key: value for key, value in said.items() if key not in self.unsaid})
        extra: dict[str, Any] = {"origin": "manual"}
        extra |= {} if score is None else {"score": score}
        # Labels that one result said are said by one again, if nothing else is said of them that differs.
        same = (name, row["source_id"] or row["annotation_id"], json.dumps([extra, own], sort_keys=True))
        if same in choices and row["label"] not in choices[same]["value"]["choices"]:
            choices[same]["value"]["choices"].append(row["label"])
            return
        id_, was = self._id(row)
        own |= was
        extra |= {"meta": {OWN: own}} if own else {}
        value = {"choices": [row["label"]]}
        result = {"id": id_, "type": "choices", "value": value, "from_name": name, "to_name": to_name, **extra}
        choices[same if same not in choices else (*same, id_)] = result

    def _shape(self, row: Row) -> list[dict[str, Any]]:
        if self.size is None or min(self.size) <= 0:
            self.losses.dropped("annotations", "on an image without a size: Label Studio wants percentages", self.place)
            return []
        self.written += 1
        points = self._labelled_points(row)
        id_, was = self._id(row)
        if len(points) == 1 and row["type"] == "keypoints" and _is_point(row) and self._is_alone(row, points[0]):
            return self._point(row, points[0], row["attributes"], id_, was)
        results = self._drawn(row, id_, was)
        details = mapping(row["attributes"].get(POINTS))
        for point in points:
            said = {**mapping(details.get(point.name or "")), "parent": id_}
            own_id = said.pop("id", None)
            label = point.name or str(point.place + 1)
            own_id, was = self._unique(own_id if isinstance(own_id, str) else None, f"{id_}-{label}")
            # Names need not be unique, nor are they met in their order: the place is kept too.
            own = {"point": [point.place, len(row["keypoints"]) // _POINT], **was}
            results += self._point({**row, "label": label, "score": said.get("score")}, point, said, own_id, own)
        return results

    def _labelled_points(self, row: Row) -> list[_Point]:
        """The keypoints that are labelled; Label Studio has no others."""
        values = row["keypoints"] or []
        names = self.keypoints.get(row["label"] or "", ())
        points = [
            _Point(place, names[place] if place < len(names) else None, *values[3 * place : 3 * place + 3])
            for place in range(len(values) // _POINT)
        ]
        labelled = [point for point in points if point.visibility > 0]
        placed = sum(point.visibility <= 0 and (point.x, point.y) != (0, 0) for point in points)
        self.losses.dropped(
            "keypoints", "not labelled: Label Studio has no place for where they are", self.place, placed
        )
        nameless = any(point.name is None for point in labelled) and len(points) > 1
        self.losses.converted("keypoints", "without names: called by their numbers", self.place, nameless)
        if points and not labelled:
            self.losses.converted("keypoints", "none is labelled; written without", self.place)
        return labelled

    def _is_alone(self, row: Row, point: _Point) -> bool:
        """Whether a row's only labelled point can be told from its class alone."""
        return point.name == row["label"] or (point.name is None and len(row["keypoints"]) == _POINT)

    def _drawn(self, row: Row, id_: str, was: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row's area: mask, polygons, rotated box or box, the first that it has."""
        unsaid = [name for name in ("rle", "polygons", "rotated_box") if row[name]]
        for name in unsaid[1:]:
            self.losses.dropped(name, f"beside a geometry that says more ({unsaid[0]})", self.place)
        if not _follows(row):
            self.losses.converted("boxes", "not the one around the shape, which Label Studio takes", self.place)
        if row["rle"]:
            mask = decode_rle(row["rle"], row["rle_size"])
            value: dict[str, Any] = {"format": "rle", "rle": encode_brush(mask)}
            return self._region(row, id_, "brush", value, was, size=(mask.shape[1], mask.shape[0]))
        if row["polygons"]:
            parts = [self._percent(part) for part in row["polygons"]]
            is_open = row["type"] == "polyline"
            if is_open and (self.controls.has("vectorlabels") or self.controls.has("vector")):
                return self._region(row, id_, "vector", _vertices(parts[0]), was)
            values = [{"points": np.reshape(part, (-1, 2)).tolist(), "closed": not is_open} for part in parts]
            results = self._region(row, id_, "polygon", values[0], was)
            for number_, value in enumerate(values[1:], 2):
                part = {**row, "attributes": {}, "iscrowd": None}
                part_id, _ = self._unique(None, f"{id_}-part{number_}")
                results += self._region(part, part_id, "polygon", value, {"part_of": id_})
            return results
        if row["rotated_box"]:
            return self._region(row, id_, "rectangle", self._rectangle(row["rotated_box"]), was)
        x, y, width, height = self._percent(row["bbox"])
        value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
        return self._region(row, id_, "rectangle", value, was)

    def _point(
        self, row: Row, point: _Point, attributes: Mapping[str, Any], id_: str, own: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        x, y = self._percent([point.x, point.y])
        said = dict(attributes)
        width = number(said.pop("point_width", None))
        value = {"x": x, "y": y, "width": POINT_WIDTH if width is None else width}
        extra = {**own, **({"visibility": 1} if point.visibility == 1 else {})}
        return self._region({**row, "attributes": said}, id_, "keypoint", value, extra)

    def _region(
        self,
        row: Row,
        id_: str,
        kind: str,
        value: dict[str, Any],
        extra: Mapping[str, Any],
        size: tuple[int, int] | None = None,
    ) -> list[dict[str, Any]]:
        """The results of one region: its shape, with its label where one control says both, and what was answered."""
        said = {key: each for key, each in row["attributes"].items() if key not in (*self.unsaid, POINTS)}
        labels = [] if row["label"] is None else [row["label"]]
        several = said.get("labels")
        if isinstance(several, list) and several[:1] == labels and all(isinstance(each, str) for each in several):
            labels = said.pop("labels")
        has = self.controls.has
        apart = bool(labels) and not has(f"{kind}labels") and has(kind) and has("labels")
        of_kind = f"{kind}labels" if labels and not apart else kind
        name, to_name = self.controls.use(of_kind, said.get("from_name"), labels, self.image)
        if said.get("from_name") == name:
            del said["from_name"]
        common: dict[str, Any] = {"id": id_, "to_name": to_name}
        if self.item is not None:
            common["item_index"] = self.item
        width, height = size or self.size or (0, 0)
        common |= {"original_width": width, "original_height": height, "image_rotation": 0}
        result = {**common, "type": of_kind, "from_name": name, "origin": "manual"}
        for key, expected in _OF_RESULT.items():
            if isinstance(said.get(key), expected) and not isinstance(said[key], bool):
                result[_NAME_IN_RESULT.get(key, key)] = said.pop(key)
        if row["score"] is not None:
            result["score"] = row["score"]
        result["value"] = {**value, **({of_kind: labels} if labels and not apart else {})}
        results = [result]
        if apart:
            from_name, _ = self.controls.use("labels", None, labels, self.image)
            results.append({**common, "type": "labels", "from_name": from_name, "value": {**value, "labels": labels}})
        results += self._answers(said, common, value)
        own = {**self._own(row, said), **extra}
        if own:
            result["meta"] = {**mapping(result.get("meta")), OWN: own}
        return results

    def _answers(
        self, said: dict[str, Any], common: Mapping[str, Any], value: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Results for the attributes that are answers to the project's controls; they are taken out of the attributes."""
        results = []
        for name in [name for name in said if name in self.controls.known]:
            kind = self.controls.known[name].type
            if kind.endswith("labels") or kind in {
                "rectangle",
                "polygon",
                "brush",
                "keypoint",
                "ellipse",
                "vector",
                "relation",
            }:
                continue
            answer = said.pop(name)
            if kind in _ALWAYS_LIST and not isinstance(answer, list):
                answer = [answer]
            used = [each for each in answer if isinstance(each, str)] if kind == "choices" else []
            _, to_name = self.controls.use(kind, name, used, self.image)
            key = "text" if kind == "textarea" else kind
            given = {**value, key: answer}
            results.append({**common, "to_name": to_name, "type": kind, "from_name": name, "value": given})
        return results

    def _own(self, row: Row, said: Mapping[str, Any]) -> dict[str, Any]:
        """What Label Studio has no place for, for the region's ``meta``."""
        own = {"attributes": dict(said), "iscrowd": row["iscrowd"]}
        return {key: value for key, value in own.items() if value not in (None, {})}

    def _rectangle(self, rotated: Sequence[float]) -> dict[str, float]:
        """A rotated box about its top-left corner."""
        centre_x, centre_y, width, height, degrees = rotated
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        left = centre_x - (width * cosine - height * sine) / 2
        top = centre_y - (width * sine + height * cosine) / 2
        x, y, across, down = self._percent([left, top, width, height])
        return {"x": x, "y": y, "width": across, "height": down, "rotation": degrees % 360}

    def _percent(self, values: Sequence[float]) -> list[float]:
        assert self.size is not None
        return [value / self.size[place % 2] * _PERCENT for place, value in enumerate(values)]

    def _id(self, row: Row) -> tuple[str, dict[str, Any]]:
        """The source's id, which is a region's, else curate's own; and the source's, where another region has it."""
        return self._unique(row["source_id"], row["annotation_id"])

    def _unique(self, preferred: str | None, other: str) -> tuple[str, dict[str, Any]]:
        """An id that no other result of the annotation has; and what to keep of the preferred one, if it is not that."""
        id_ = preferred or other
        number_ = 1
        while id_ in self._ids:
            id_ = other if number_ == 1 else f"{other}-{number_}"
            number_ += 1
        self._ids.add(id_)
        return id_, {"source_id": preferred} if preferred and preferred != id_ else {}


def _vertices(line: Sequence[float]) -> dict[str, Any]:
    """The value of a polyline: points that name the one before."""
    pairs = zip(line[::2], line[1::2], strict=True)
    vertices: list[dict[str, Any]] = [
        {"id": str(place), "x": x, "y": y, "isBezier": False} for place, (x, y) in enumerate(pairs)
    ]
    for before, vertex in pairwise(vertices):
        vertex["prevPointId"] = before["id"]
    return {"vertices": vertices, "closed": False}


def _is_point(row: Row) -> bool:
    """Whether a row has no area of its own beside its only point."""
    return not (row["rle"] or row["polygons"] or row["rotated_box"]) and max(map(abs, row["bbox"][2:])) <= _SAME_BOX


def _follows(row: Row) -> bool:
    """Whether a row's box is the one around its other geometry, so that it need not be said."""
    if row["rle"]:
        around = rle_boxes([row["rle"]], [row["rle_size"]])[0]
    elif row["polygons"]:
        corners = np.concatenate([np.reshape(part, (-1, 2)) for part in row["polygons"]])
        around = np.r_[corners.min(axis=0), np.ptp(corners, axis=0)]
    elif row["rotated_box"]:
        corners = rotated_box_corners([row["rotated_box"]])[0]
        around = np.r_[corners.min(axis=0), np.ptp(corners, axis=0)]
    else:
        return True
    return bool(np.abs(around - row["bbox"]).max() <= _SAME_BOX)
