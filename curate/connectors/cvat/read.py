"""Annotations of a job as curate's rows, by the frame that they are on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from curate.connectors.base import RemoteAnnotation
from curate.connectors.cvat.labels import SCORE, Label, Labels
from curate.connectors.cvat.shapes import to_element
from curate.connectors.cvat.tracks import expand
from curate.dataset.schema import ANNOTATIONS
from curate.formats.cvat.attributes import attributes_of
from curate.formats.cvat.shapes import draw
from curate.formats.cvat.skeletons import draw_skeleton
from curate.formats.cvat.tracks import outside_of
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, problem_of, shape_columns
from curate.formats.values import number, sequence
from curate.names import GROUND_TRUTH

Sizes = Mapping[int, tuple[int, int]]
"""Width and height of frames."""

_CERTAIN: Final = 1.0
_UNKNOWN_LABEL: Final = "a label that the project does not have"


@dataclass(frozen=True)
class _Found:
    """One annotation before it is a row."""

    frame: int
    remote_id: str
    label: str
    shape: Shape
    attributes: dict[str, Any]


def read_annotations(
    data: Mapping[str, Any],
    sizes: Sizes,
    labels: Labels,
    *,
    last: int,
    place: str,
    losses: LossReport,
    layer: str = GROUND_TRUTH,
) -> dict[int, list[RemoteAnnotation]]:
    """A job's annotations by frame.

    Args:
        data: As the API gives them: tags, shapes and tracks.
        sizes: The frames that are wanted.
        labels: The project's.
        last: The job's last frame, to which its tracks go on.
        place: For the loss report.
        losses: What cannot be read.
        layer: Where they go.
    """
    found = [*_single(data, sizes, labels, place, losses), *_tracked(data, sizes, labels, last, place, losses)]
    losses.dropped("annotations", "intervals of time are no images", place, len(sequence(data.get("intervals"))))
    columns = {
        name: values if isinstance(values, list) else values.to_pylist()
        for name, values in shape_columns([each.shape for each in found]).items()
    }
    empty: dict[str, Any] = dict.fromkeys(ANNOTATIONS.names)
    by_frame: dict[int, list[RemoteAnnotation]] = {}
    for index, each in enumerate(found):
        row = empty | {name: values[index] for name, values in columns.items()}
        row |= {"layer": layer, "label": each.label, "attributes": each.attributes}
        by_frame.setdefault(each.frame, []).append(RemoteAnnotation(each.remote_id, row, layer))
    return by_frame


def _single(data: Mapping[str, Any], sizes: Sizes, labels: Labels, place: str, losses: LossReport) -> Iterator[_Found]:
    """Tags and shapes, which are on one frame each."""
    for kind, name in (("tags", "tag"), ("shapes", "shape")):
        for each in _objects(data, kind):
            frame = each.get("frame", -1)
            if frame not in sizes:
                continue
            remote_id = f"{name}:{each.get('id')}"
            at = f"{place}, frame {frame}, {remote_id}"
            drawn = _draw(each, _label(each, labels, at, losses), sizes[frame], labels, at, losses)
            if drawn is None:
                continue
            label, shape, attributes = drawn
            score = number(each.get(SCORE))
            if score is not None and score != _CERTAIN and SCORE not in attributes:
                attributes[SCORE] = score
            yield _Found(frame, remote_id, label, shape, attributes)


def _tracked(
    data: Mapping[str, Any], sizes: Sizes, labels: Labels, last: int, place: str, losses: LossReport
) -> Iterator[_Found]:
    """The shapes of tracks on every frame where they are in the picture."""
    for track in _objects(data, "tracks"):
        remote_id = f"track:{track.get('id')}"
        at = f"{place}, {remote_id}"
        label = _label(track, labels, at, losses)
        if label is None:
            continue
        own = {"track_id": track.get("id"), "source": track.get("source") or "manual"}
        own |= {"group_id": track["group"]} if track.get("group") else {}
        frames: list[int] = []
        outside: list[tuple[int, Element]] = []
        found: dict[int, _Found] = {}
        for each in expand(track, last):
            frame = each["frame"]
            if each.get("outside") is True:
                element = to_element(each, label)
                if isinstance(element, Element):
                    element.attrib |= {"frame": str(frame), "outside": "1", "keyframe": "1"}
                    outside.append((frame, element))
                continue
            frames.append(frame)
            drawn = _draw(each, label, sizes[frame], labels, f"{at}@{frame}", losses) if frame in sizes else None
            if drawn is not None:
                attributes = {**own, **drawn[2], "keyframe": each["keyframe"]}
                found[frame] = _Found(frame, f"{remote_id}@{frame}", label.name, drawn[1], attributes)
        for index, kept in outside_of(frames, outside).items():
            if frames[index] in found:
                found[frames[index]].attributes["outside"] = kept
        yield from found.values()


def _draw(
    found: Mapping[str, Any],
    label: Label | None,
    size: tuple[int, int],
    labels: Labels,
    place: str,
    losses: LossReport,
) -> tuple[str, Shape, dict[str, Any]] | None:
    """Label, shape and attributes; None, and told, if it cannot be read."""
    if label is None:
        return None
    element = to_element(found, label)
    if isinstance(element, str):
        losses.dropped("annotations", element, place)
        return None
    is_skeleton = element.tag == "skeleton"
    drawn = draw_skeleton(element, label.name, labels.meta, place, losses) if is_skeleton else draw(element, size)
    problem = drawn if isinstance(drawn, str) else problem_of(drawn.shape)
    if isinstance(drawn, str) or problem is not None:
        losses.dropped("annotations", str(problem), place)
        return None
    if drawn.converted:
        losses.converted("annotations", drawn.converted, place)
    attributes = attributes_of(element, label.reads, place, losses)
    return label.name, drawn.shape, {**attributes, **drawn.kept}


def _label(found: Mapping[str, Any], labels: Labels, place: str, losses: LossReport) -> Label | None:
    label = labels.by_id.get(found.get("label_id", -1))
    if label is None:
        losses.dropped("annotations", _UNKNOWN_LABEL, place)
    return label


def _objects(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [each for each in sequence(data.get(name)) if isinstance(each, dict)]
