"""Results as regions: what one annotation, or one prediction, says of a task's images.

Results with the same id are one region: its shape (`curate.formats.label_studio.shapes`), its label (of the same result or of
another control's) and what was answered about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from curate.formats.label_studio.images import OWN
from curate.formats.label_studio.shapes import Size, kind_of, read_shape
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape, problem_of
from curate.formats.values import is_shallow, mapping, number, sequence, text

NOTE: Final = "note"
"""Key, in a region's ``meta.curate``, of the text that curate shows with the region, which is its ``meta.text``."""

_KNOWN: Final = frozenset(
    {
        *(
            "id",
            "type",
            "value",
            "from_name",
            "to_name",
            "original_width",
            "original_height",
            "image_rotation",
            "origin",
        ),
        *("score", "parentID", "item_index", "meta", "source"),
    }
)
_GEOMETRY: Final = frozenset(
    {
        *("x", "y", "width", "height", "rotation", "points", "vertices", "closed", "rle", "format", "unit"),
        *("radiusX", "radiusY"),
    }
)
_ANSWERS: Final = frozenset({"choices", "taxonomy", "rating", "textarea", "number", "datetime", "pairwise", "ranker"})
_MOST_POINTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Region:
    """One labelled thing.

    Attributes:
        id: The result's id, or None.
        source_id: The id that it has for the source: the result's, unless curate wrote another since that was taken.
        key: What tells it from the others of its annotation.
        image: Which of the task's images it is on.
        label: Its class, or None.
        shape: Where it is, pixels.
        control: Type and name of the control that drew it, and the object's name.
        kind: 'rectangle', 'polygon', 'vector', 'brush', 'keypoint', 'ellipse' or 'label'.
        score: Confidence, or None.
        iscrowd: As curate wrote it.
        parent: Id of the region that it belongs to, or None.
        part_of: Id of the region that it is a further part of, as curate wrote it.
        point: A keypoint's place among those of its region, and how many these are, as curate wrote it.
        attributes: Everything else.
        answers: Type, name and object of the controls whose answers are among the attributes, under their names.
        own: What curate wrote in its ``meta``.
        results: As they were given, all that it was read from.
    """

    id: str | None
    source_id: str | None
    key: str
    image: int
    label: str | None
    shape: Shape
    control: tuple[str, str, str]
    kind: str
    score: float | None = None
    iscrowd: bool | None = None
    parent: str | None = None
    part_of: str | None = None
    point: tuple[int, int] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    answers: tuple[tuple[str, str, str], ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Found:
    """What an annotation holds.

    Attributes:
        regions: On the task's images.
        kept: Results that are about no region: answers about the whole image, relations.
    """

    regions: list[Region]
    kept: list[Any]


def read_regions(
    results: Sequence[Any],
    image_of: Callable[[Mapping[str, Any]], int | str],
    sizes: Sequence[Size | None],
    place: str,
    losses: LossReport,
) -> Found:
    """The regions of an annotation.

    Args:
        results: Its ``result``.
        image_of: Which image a result is on, or why on none.
        sizes: Width and height of each image, that percentages refer to; None where it is not known.
        place: What to call the annotation in the loss report.
        losses: What cannot be read.
    """
    regions: list[Region] = []
    kept: list[Any] = []
    for number_, group in enumerate(_by_id(results, place, losses)):
        image = image_of(group[0])
        where = f"{place}, result {text(group[0].get('id')) or number_}"
        if group[0].get("type") == "relation":
            kept += _shallow(group, where, losses)
        elif isinstance(image, str):
            losses.dropped("results", image, where, len(group))
        elif (drawn := drawn_result(group)) is not None:
            region = _region(drawn, group, image, sizes[image], f"#{number_}", where, losses)
            regions += [] if region is None else [region]
        else:
            for result in group:
                if _is_choice(result):
                    regions += _whole_image_labels(result, image, f"#{number_}", where, losses)
                elif text(result.get("type")) in _ANSWERS:
                    kept += _shallow([result], where, losses)
                else:
                    kind = text(result.get("type")) or "without a type"
                    losses.dropped("results", f"of a kind that is not read: {kind}", where)
    return Found(_with_unique_keys(_joined(regions)), kept)


def drawn_result(group: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the results with one id the one that has the shape, or None; what is answered about a region repeats it."""
    shapes = [result for result in group if kind_of(result)]
    return next(
        (result for result in shapes if text(result.get("type")) not in _ANSWERS), shapes[0] if shapes else None
    )


def is_said(value: Any) -> bool:
    """Whether a field's value says anything: servers fill in what nobody said."""
    return value is not None and value is not False and value != "" and value != [] and value != {}


def _by_id(results: Sequence[Any], place: str, losses: LossReport) -> list[list[dict[str, Any]]]:
    """Results in groups that have the same id, those without one alone."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row, result in enumerate(results):
        if not isinstance(result, dict):
            losses.dropped("results", "not an object", place)
            continue
        own = result.get("id")
        key = own if isinstance(own, str) and own and result.get("type") != "relation" else row
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _region(
    drawn: Mapping[str, Any],
    group: Sequence[Mapping[str, Any]],
    image: int,
    size: Size | None,
    key: str,
    place: str,
    losses: LossReport,
) -> Region | None:
    """The region of some results with one id, or None if its shape cannot be read, which is reported."""
    kind = kind_of(drawn) or ""
    if size is None:
        losses.dropped("annotations", "percentages of an image whose size nobody says", place)
        return None
    own = mapping(mapping(drawn.get("meta")).get(OWN))
    shape = read_shape(kind, drawn, size, place, losses)
    if shape is None:
        losses.dropped("annotations", f"a {kind} that is not whole", place)
        return None
    problem = problem_of(shape)
    if problem is not None:
        losses.dropped("annotations", problem, place)
        return None
    if shape.keypoints is not None and own.get("visibility") == 1:
        shape = replace(shape, keypoints=[*shape.keypoints[:2], 1.0])
    labels, attributes = _said(drawn, group, place, losses)
    score = number(drawn.get("score"))
    id_ = text(drawn.get("id")) or None
    region = Region(
        id_,
        id_,
        id_ or key,
        image,
        labels[0] if labels else None,
        shape,
        (text(drawn.get("type")) or f"{kind}{'labels' if labels else ''}", *_names(drawn)),
        kind,
        score=score,
        parent=text(drawn.get("parentID")) or None,
        part_of=text(own.get("part_of")) or None,
        attributes=attributes,
        answers=tuple(
            (text(result.get("type")), *_names(result))
            for result in group
            if result is not drawn and text(result.get("type")) in _ANSWERS
        ),
        results=tuple(group),
    )
    return _with_own(region, drawn)


def _with_own(region: Region, result: Mapping[str, Any]) -> Region:
    """A region with what curate wrote of it."""
    own = mapping(mapping(result.get("meta")).get(OWN))
    if not own:
        return region
    crowd = own.get("iscrowd")
    return replace(
        region,
        own=own,
        iscrowd=crowd if isinstance(crowd, bool) else None,
        point=_place_of_point(own.get("point")),
        source_id=text(own.get("source_id")) or region.source_id,
    )


def _place_of_point(value: Any) -> tuple[int, int] | None:
    """A place, and among how many."""
    if not isinstance(value, list) or len(value) != 2 or any(type(each) is not int for each in value):
        return None
    place, count = value
    return (place, count) if 0 <= place < count <= _MOST_POINTS else None


def _said(
    drawn: Mapping[str, Any], group: Sequence[Mapping[str, Any]], place: str, losses: LossReport
) -> tuple[list[str], dict[str, Any]]:
    """A region's labels, and its attributes."""
    labels: list[str] = []
    attributes: dict[str, Any] = {}
    for result in group:
        value = mapping(result.get("value"))
        name, kind = text(result.get("from_name")), text(result.get("type"))
        found = [
            label
            for key, each in value.items()
            if key.endswith("labels")
            for label in sequence(each)
            if isinstance(label, str) and label.strip()
        ]
        if found and labels:
            attributes[name or kind] = found
        labels = labels or found
        if kind in _ANSWERS and result is not drawn:
            attributes[name or kind] = _answer(value.get(kind, value.get("text")))
            continue
        rest = {key: each for key, each in value.items() if key not in _GEOMETRY and not key.endswith("labels")}
        rest |= {key: each for key, each in result.items() if key not in _KNOWN}
        attributes |= {key: each for key, each in rest.items() if is_said(each)}
    if len(labels) > 1:
        attributes["labels"] = labels
        losses.converted(
            "annotations", "several labels: the first is the class, all are in the attribute 'labels'", place
        )
    attributes |= _about(drawn)
    if attributes and not is_shallow(attributes):
        losses.dropped("attributes", "nested too deeply", place)
        attributes = {}
    return labels, attributes


def _about(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of its region beside its value, as attributes: what curate wrote there, origin, notes."""
    attributes: dict[str, Any] = {}
    meta = dict(mapping(drawn.get("meta")))
    own = mapping(meta.pop(OWN, None))
    attributes |= mapping(own.get("attributes"))
    if NOTE in own and meta.get("text") == [own[NOTE]]:
        del meta["text"]
    if meta:
        attributes["meta"] = meta
    if text(drawn.get("origin")) not in {"", "manual"}:
        attributes["origin"] = text(drawn.get("origin"))
    if number(drawn.get("image_rotation")):
        attributes["image_rotation"] = drawn["image_rotation"]
    if kind_of(drawn) == "keypoint" and (width := number(drawn["value"].get("width"))) is not None:
        attributes["point_width"] = width
    return attributes


def _answer(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list) else value


def _is_choice(result: Mapping[str, Any]) -> bool:
    return "choices" in mapping(result.get("value"))


def _whole_image_labels(
    result: Mapping[str, Any], image: int, key: str, place: str, losses: LossReport
) -> list[Region]:
    """A label of the whole image for each choice; a choice below another is joined to it with '/'."""
    regions = []
    id_ = text(result.get("id")) or None
    attributes = _said(result, [result], place, losses)[1]
    attributes.pop("choices", None)
    choices = mapping(result.get("value")).get("choices")
    for choice in [choices] if isinstance(choices, str) else sequence(choices):
        path = [each for each in sequence(choice) if isinstance(each, str)]
        label = choice if isinstance(choice, str) else "/".join(path)
        if not label:
            losses.dropped("results", "a choice that is not a text", place)
            continue
        if path:
            losses.converted("annotations", "a choice below another: joined with '/'", place)
        region = Region(
            id_,
            id_,
            f"{id_ or key}/{label}",
            image,
            label,
            WHOLE_IMAGE,
            ("choices", *_names(result)),
            "label",
            score=number(result.get("score")),
            attributes=dict(attributes),
            results=(result,),
        )
        regions.append(_with_own(region, result))
    return regions


def _joined(regions: list[Region]) -> list[Region]:
    """Regions with those that are further parts of a polygon, which curate wrote apart, joined to it."""
    if not any(region.part_of for region in regions):
        return regions
    whole_ones = {region.id: row for row, region in enumerate(regions) if region.part_of is None}
    joined = list(regions)
    for region in regions:
        row = whole_ones.get(region.part_of) if region.part_of else None
        if row is None or not region.shape.polygons or not joined[row].shape.polygons:
            continue
        parts = [*(joined[row].shape.polygons or ()), *region.shape.polygons]
        results = (*joined[row].results, *region.results)
        joined[row] = replace(joined[row], shape=Shape(polygons=parts), results=results)
    return [region for region in joined if region.part_of is None or whole_ones.get(region.part_of) is None]


def _with_unique_keys(regions: list[Region]) -> list[Region]:
    """Regions whose keys differ: of a choice made twice, say, the second is numbered."""
    if len({region.key for region in regions}) == len(regions):
        return regions
    taken: dict[str, int] = {}
    unique = []
    for region in regions:
        taken[region.key] = count = taken.get(region.key, 0) + 1
        unique.append(region if count == 1 else replace(region, key=f"{region.key} #{count}"))
    return unique


def _names(result: Mapping[str, Any]) -> tuple[str, str]:
    return text(result.get("from_name")), text(result.get("to_name"))


def _shallow(results: Sequence[Any], place: str, losses: LossReport) -> list[Any]:
    if is_shallow(results):
        return list(results)
    losses.dropped("results", "nested too deeply", place, len(results))
    return []
