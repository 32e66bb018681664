"""Annotations as the tracks of a CVAT for video file.

Annotations with the same ``track_id`` (in one video, of one class) are a track; one without is a track of a single frame, which
CVAT itself ends with a shape outside the picture on the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import groupby
from typing import Any, Final
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow as pa

from curate.formats.base import Export
from curate.formats.columns import Ints, image_rows
from curate.formats.cvat.attributes import split_attributes
from curate.formats.cvat.layout import Layout
from curate.formats.cvat.shapes import is_shape
from curate.formats.cvat.tracks import frame_number, from_json
from curate.formats.cvat.write_shapes import COLUMNS, ShapeWriter, attributes_of_row
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text

_BATCH: Final = 8192
_OF_TRACK: Final = ("source", "group_id", "track_id")


def frames_of_task(export: Export, layout: Layout) -> dict[str, Any]:
    """What the head of the file says of the video."""
    frames: dict[str, Any] = {"mode": "interpolation"}
    if layout.ids:
        first, last = min(layout.ids), max(layout.ids)
        steps = np.diff(sorted(layout.ids))
        step = int(np.gcd.reduce(steps)) if len(steps) else 1
        frames |= {
            "start_frame": str(first),
            "stop_frame": str(last),
            "frame_filter": f"step={step}" if step > 1 else "",
        }
    sizes = set(zip(export.images["width"].to_pylist(), export.images["height"].to_pylist(), strict=True))
    if len(sizes) == 1 and None not in (size := sizes.pop()):
        frames["original_size"] = {"width": str(size[0]), "height": str(size[1])}
    return frames


def track_elements(export: Export, layout: Layout, shapes: ShapeWriter) -> Iterator[tuple[Element, int]]:
    """Every track, with its number of annotations."""
    rows = image_rows(export.annotations, export.images)
    frames = np.array(layout.ids, dtype=np.int64)[rows]
    tracks, names = _tracks(export, rows.tolist(), shapes.losses)
    order = np.lexsort((frames, tracks))
    annotations = _in_order(export, order)
    following = dict(zip(ids := sorted(layout.ids), ids[1:], strict=False))
    places = zip(tracks[order].tolist(), frames[order].tolist(), annotations, strict=True)
    for track, members in groupby(places, key=lambda place: place[0]):
        element = Element("track", {"id": names[track][0]})
        outside: list[Element] = []
        for _, frame, annotation in members:
            _add_shape(element, outside, frame, annotation, shapes)
        count = len(element)
        if count == 0:
            continue
        if not names[track][1]:
            _end(element, following)
        seen = {frame_number(shape) for shape in element}
        element.extend(shape for shape in outside if frame_number(shape) not in seen)
        element[:] = sorted(element, key=lambda shape: frame_number(shape) or 0)
        yield element, count


def _in_order(export: Export, order: Ints) -> Iterator[dict[str, Any]]:
    """The annotations' `COLUMNS` in an order of n rows, without holding all of them."""
    table = export.annotations.select(COLUMNS)
    for start in range(0, len(order), _BATCH):
        yield from table.take(pa.array(order[start : start + _BATCH])).to_pylist()


def _add_shape(
    track: Element, outside: list[Element], frame: int, annotation: dict[str, Any], shapes: ShapeWriter
) -> None:
    place = f"track {track.get('id')}, frame {frame}"
    attributes = attributes_of_row(annotation["attributes"])
    if annotation["type"] == "label":
        shapes.losses.dropped("annotations", "labels of the whole image have no place in CVAT for video", place)
        return
    shape = shapes.element(annotation, attributes, place)
    if shape is None:
        return
    own, _ = split_attributes(attributes)
    if "label" not in track.attrib:
        track.attrib |= {"label": shapes.label(annotation, place)}
        track.attrib |= {name: xml_text(own[name]) for name in ("source", "group_id") if name in own}
    for name in ("source", "group_id"):
        if own.get(name) != track.get(name):
            shapes.losses.converted("attributes", "of a track's shapes the first one's is written", f"{place}: {name}")
    shape.set("frame", str(frame))
    shapes.describe(shape, annotation, attributes, place, skip=_OF_TRACK)
    shape.attrib.setdefault("keyframe", "1")
    _set_outside(shape, False)
    track.append(shape)
    given = attributes.get("outside")
    found = [from_json(each) for each in given] if isinstance(given, list) else []
    outside += [each for each in found if each is not None and frame_number(each) is not None]


def _end(track: Element, following: dict[int, int]) -> None:
    """Let a track of one frame be outside the picture on the next."""
    last = max(track, key=lambda shape: frame_number(shape) or 0)
    frame = following.get(frame_number(last) or 0)
    if frame is not None:
        end = deepcopy(last)
        end.set("frame", str(frame))
        _set_outside(end, True)
        track.append(end)


def _set_outside(shape: Element, outside: bool) -> None:
    """Say whether a shape is outside; a skeleton says it of each of its points."""
    if shape.tag != "skeleton":
        shape.set("outside", str(int(outside)))
        return
    for part in filter(is_shape, shape):
        part.attrib.setdefault("keyframe", shape.get("keyframe", "1"))
        if outside:
            part.set("outside", "1")


def _tracks(export: Export, rows: list[int], losses: LossReport) -> tuple[Any, list[tuple[str, bool]]]:
    """Which track each annotation is in; and each track's id, and whether it was a track before."""
    groups = export.images["group"].to_pylist()
    texts, labels = export.annotations["attributes"].to_pylist(), export.annotations["label"].to_pylist()
    numbers: dict[Any, int] = {}
    ids: list[str | None] = []
    tracks = np.empty(len(rows), dtype=np.int64)
    for index, (row, text, label) in enumerate(zip(rows, texts, labels, strict=True)):
        identity = attributes_of_row(text).get("track_id") if text and '"track_id"' in text else None
        is_track = isinstance(identity, int | str)
        key = (groups[row], str(identity), label) if is_track else index
        tracks[index] = numbers.setdefault(key, len(numbers))
        if tracks[index] == len(ids):
            ids.append(xml_text(str(identity)) if is_track else None)
    losses.converted("annotations", "written as tracks of one frame", "tracks", ids.count(None))
    taken = {each for each in ids if each is not None}
    free = (str(number) for number in range(len(ids) + len(taken)) if str(number) not in taken)
    seen: set[str] = set()
    names = []
    for each in ids:
        if each in seen:
            losses.converted("track ids", "renumbered: another track has the same", each)
        name = each if each is not None and each not in seen else next(free)
        seen.add(name)
        names.append((name, each is not None))
    return tracks, names
