"""Tracks: one thing over the frames of a video.

A shape that is outside the picture is no annotation of its frame. The last shape before it that was inside (else the first one)
keeps it in its attribute ``outside``, as it is, since CVAT interpolates towards it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from curate.formats.cvat.attributes import number
from curate.formats.cvat.meta import Task
from curate.formats.cvat.shapes import Drawn, is_shape
from curate.formats.cvat.skeletons import is_outside
from curate.formats.cvat.source import Source, size_of

_OF_TRACK = ("source", "group_id")


@dataclass(frozen=True)
class _Visible:
    """A shape of a track that is an annotation."""

    frame: int
    image: int
    drawn: Drawn
    attributes: dict[str, Any]


@dataclass
class Tracks:
    """Reads the tracks of one file.

    Attributes:
        source: The file.
        rows: The image of each frame, by subset and frame number.
        listed: Subsets whose frames on disk are images already.
        count: How many tracks of each id there have been.
    """

    source: Source
    rows: dict[tuple[str | None, int], int] = field(default_factory=dict)
    listed: set[str | None] = field(default_factory=set)
    count: Counter[str] = field(default_factory=Counter)

    def read(self, track: Element) -> None:
        """Add a track's shapes to their frames."""
        source = self.source
        identity, label = track.get("id", ""), track.get("label") or None
        place = f"{source.name}: track {identity}"
        visible: list[_Visible] = []
        outside: list[tuple[int, Element]] = []
        for child in track:
            frame = frame_number(child)
            if not is_shape(child):
                source.losses.dropped("annotations", f"<{child.tag}> is not a shape that is known", place)
            elif frame is None:
                source.losses.dropped("annotations", "without a frame's number", place)
            elif is_outside(child):
                outside.append((frame, child))
            else:
                image = self.frame(frame, track)
                drawn = source.draw(child, label, source.sizes.get(image), f"{place}, frame {frame}")
                if drawn is not None:
                    visible.append(_Visible(frame, image, *drawn))
        visible.sort(key=lambda shape: shape.frame)
        if outside and not visible:
            source.losses.dropped(
                "annotations", "outside the picture on every frame of their track", place, len(outside)
            )
        self._add(track, visible, outside_of([shape.frame for shape in visible], outside), place)

    def frame(self, frame: int, track: Element) -> int:
        """The image of a frame."""
        subset = track.get("subset")
        task = self.source.meta.task(track.get("task_id"))
        self.list_frames(subset, task, track.get("task_id"))
        row = self.rows.get((subset, frame))
        return self._add_frame(frame, subset, task, track.get("task_id")) if row is None else row

    def list_frames(self, subset: str | None, task: Task, task_id: str | None) -> None:
        """Take every frame of a subset that has a file as an image, once."""
        if subset in self.listed:
            return
        self.listed.add(subset)
        for frame in self.source.files.frames(subset):
            self._add_frame(frame, subset, task, task_id)

    def _add_frame(self, frame: int, subset: str | None, task: Task, task_id: str | None) -> int:
        source = self.source
        location, path = source.files.frame(frame, subset)
        cut = source.cut.get(frame) if path is None else None
        if cut is not None:
            location, path = f"{source.files.prefix}{cut.path.parent.name}/{cut.path.name}", cut.path
        row = source.collector.image(
            location,
            path,
            size=task.size,
            split=source.split(subset, task),
            group=task.group or source.name,
            frame=frame,
            timestamp=None if cut is None else cut.timestamp,
            metadata=source.image_metadata(task_id, subset),
            source_id=str(frame),
            source=source.name,
        )
        self.rows[subset, frame] = row
        source.sizes[row] = size_of(task.size, path)
        return row

    def _add(self, track: Element, visible: list[_Visible], outside: Mapping[int, list[Any]], place: str) -> None:
        identity = track.get("id", "")
        number_of_track = self.count[identity]
        self.count[identity] += 1
        own: dict[str, Any] = {"track_id": number(identity)}
        own |= {
            name: number(value) if name == "group_id" else value for name in _OF_TRACK if (value := track.get(name))
        }
        seen: Counter[int] = Counter()
        for index, shape in enumerate(visible):
            attributes = {**own, **shape.attributes}
            if index in outside:
                attributes["outside"] = outside[index]
            # The same id and frame should come once only; where they do not, ids must still differ.
            again = number_of_track, seen[shape.frame]
            seen[shape.frame] += 1
            key = f"track {identity}" if again == (0, 0) else f"track {identity} {again}"
            at = f"{place}, frame {shape.frame}"
            label = track.get("label") or None
            self.source.add(shape.image, label, shape.drawn, attributes, at, key)


def frame_number(element: Element) -> int | None:
    """The frame a shape of a track is on; None where it does not say."""
    text = element.get("frame", "").strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None


def to_json(element: Element) -> dict[str, Any]:
    """A shape as it is, JSON-ready."""
    found: dict[str, Any] = {"shape": element.tag, **element.attrib}
    attributes = [[child.get("name", ""), child.text or ""] for child in element if child.tag == "attribute"]
    elements = [to_json(child) for child in element if is_shape(child)]
    return found | ({"attributes": attributes} if attributes else {}) | ({"elements": elements} if elements else {})


def outside_of(frames: Sequence[int], outside: Sequence[tuple[int, Element]]) -> dict[int, list[Any]]:
    """For each visible shape, by its index, the shapes outside the picture that it keeps in its attribute ``outside``.

    Args:
        frames: Those of a track's visible shapes, ascending.
        outside: Frames and shapes of the others.
    """
    kept: dict[int, list[Any]] = {}
    for frame, element in outside if frames else ():
        kept.setdefault(max(0, bisect_left(frames, frame) - 1), []).append(to_json(element))
    return kept


def from_json(found: Any) -> Element | None:
    """The inverse of `to_json`; None for what is not a shape."""
    if not isinstance(found, dict) or not isinstance(found.get("shape"), str):
        return None
    element = Element(found["shape"])
    if not is_shape(element):
        return None
    for name, value in found.items():
        if name != "shape" and isinstance(value, str):
            element.set(name, value)
    element.extend(part for part in map(from_json, _list(found, "elements")) if part is not None)
    element.extend(_attributes(_list(found, "attributes")))
    return element


def _attributes(pairs: list[Any]) -> Iterator[Element]:
    for pair in pairs:
        match pair:
            case [str(name), str(text)]:
                child = Element("attribute", {"name": name})
                child.text = text
                yield child


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []
