"""Findings as cards: what a page shows of each, in plain values, with numbers in place of images and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import VERDICT, Finding, Related, from_table
from curate.dataset import Dataset
from curate.report.html.outlines import Outline, annotation_outlines, box_outline
from curate.report.html.pictures import Source, Wanted, Window
from curate.report.html.values import cut, short_number

GIVEN, SUGGESTED, REGION = "given", "suggested", "region"
"""What an outline stands for: what is there, what should be, and where exactly something is wrong."""

COPIES: Final = frozenset({"exact_duplicate", "near_duplicate"})

_COMPARED: Final = 3
_WHOLE: Final = 200
"""Cards that are complete before others have any picture."""
_DETAILS: Final = 12
_MOST_MISSED: Final = 20
_HIDDEN: Final = frozenset({"why", "flagged", "layer", "encoder", "remedy", VERDICT})
_SHAPE_COLUMNS: Final = [
    *("annotation_id", "image_id", "type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints"),
]


@dataclass
class Shapes:
    """Annotations by id: columns of `curate.dataset.schema.ANNOTATIONS` that say where and what they are."""

    rows: Mapping[str, Mapping[str, Any]]
    _drawn: dict[tuple[str, Window], list[Outline]] = field(default_factory=dict)

    def get(self, annotation_id: str | None) -> Mapping[str, Any] | None:
        """The annotation of an id; None where there is none."""
        return None if annotation_id is None else self.rows.get(annotation_id)

    def outlines(self, annotation_id: str, window: Window) -> list[Outline]:
        """What is drawn of an annotation; traced once, however often a page is tried."""
        key = (annotation_id, window)
        if key not in self._drawn:
            self._drawn[key] = annotation_outlines(self.rows[annotation_id], window)
        return self._drawn[key]


@dataclass
class Names:
    """The images that a page speaks of, each a number."""

    sources: Mapping[str, Source]
    locations: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def number(self, image_id: str, location: str) -> int:
        """The number of an image; it gets one when it is first asked for."""
        if image_id not in self._numbers:
            source = self.sources.get(image_id)
            self._numbers[image_id] = len(self.locations)
            self.locations.append(location)
            self.splits.append(source.split if source else None)
        return self._numbers[image_id]


@dataclass(frozen=True)
class Cards:
    """What a page shows of findings.

    Attributes:
        cards: One of each finding, JSON-ready.
        groups: Groups of copies: numbers of the keeper, its picture and its cards, JSON-ready.
    """

    cards: list[dict[str, Any]]
    groups: list[dict[str, Any]]


def choose_findings(table: pa.Table, most: int) -> list[Finding]:
    """The most probable findings, those to be decided on first, each kind getting its share.

    Args:
        table: Findings.
        most: How many.

    Returns:
        Highest score first.
    """
    order = np.lexsort((table["id"].to_numpy(zero_copy_only=False), -table["score"].to_numpy()))
    table = table.take(pa.array(order))
    kinds = table["kind"].combine_chunks().dictionary_encode().indices.to_numpy()
    decided = np.asarray(pc.is_in(table["status"], pa.array(["confirmed", "rejected", "fixed"])).to_numpy(), bool)
    # The place of each within its kind: the first of every kind come before the second of any.
    place = np.zeros(len(order), np.int64)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        place[rows[np.argsort(decided[rows], kind="stable")]] = np.arange(len(rows))
    chosen = np.sort(np.lexsort((np.arange(len(order)), place))[:most])
    return from_table(table.take(pa.array(chosen)))


def read_sources(dataset: Dataset, image_ids: Iterable[str]) -> dict[str, Source]:
    """The images of those ids."""
    wanted = pa.array(sorted(set(image_ids)), pa.string())
    columns = ["image_id", "location", "path", "width", "height", "split"]
    sources = {}
    for batch in dataset.scan("images", columns=columns):
        for row in batch.filter(pc.is_in(batch["image_id"], value_set=wanted)).to_pylist():
            image_id = row.pop("image_id")
            sources[image_id] = Source(**row)
    return sources


def read_shapes(dataset: Dataset, findings: Sequence[Finding]) -> Shapes:
    """The annotations that findings are about or compare with."""
    ids = {each.annotation_id for each in findings}
    ids |= {other.annotation_id for each in findings for other in _compared(each)}
    wanted = pa.array(sorted(each for each in ids if each is not None), pa.string())
    shapes: dict[str, dict[str, Any]] = {}
    if len(wanted):
        for batch in dataset.scan("annotations", columns=_SHAPE_COLUMNS):
            for row in batch.filter(pc.is_in(batch["annotation_id"], value_set=wanted)).to_pylist():
                shapes[row["annotation_id"]] = row
    return Shapes(shapes)


def image_ids_of(findings: Sequence[Finding], shapes: Shapes) -> set[str]:
    """Ids of the images that cards of the findings show."""
    return (
        {each.image_id for each in findings}
        | {other.image_id for each in findings for other in [*each.related[:_COMPARED], *_keeper(each)]}
        | {shape["image_id"] for shape in shapes.rows.values()}
    )


def make_cards(findings: Sequence[Finding], shapes: Shapes, names: Names, wanted: Wanted) -> Cards:
    """Cards of findings; pictures are wanted in the order of the findings' places within their kinds.

    Args:
        findings: Highest score first.
        shapes: The annotations that they speak of.
        names: Gets the images that are spoken of.
        wanted: Gets the pictures; those of the first cards are marked.
    """
    cards: list[dict[str, Any]] = [{}] * len(findings)
    order = _kinds_in_turn(findings)
    # Pictures are made in the order in which they are wanted, while there is room: those that most will look at with all that
    # they are compared with, then what the others are about.
    for first, last in ((0, _WHOLE), (_WHOLE, len(order))):
        for number in order[first:last]:
            cards[number] = _card(findings[number], shapes, names, wanted)
        for number in order[first:last]:
            compared = _compared(findings[number])
            cards[number]["related"] = [_related(other, shapes, names, wanted) for other in compared]
        if not first:
            wanted.mark()
    return Cards(cards, _groups(findings, names, wanted))


def _kinds_in_turn(findings: Sequence[Finding]) -> list[int]:
    places: dict[str, int] = {}
    keys = []
    for number, finding in enumerate(findings):
        places[finding.kind] = places.get(finding.kind, 0) + 1
        keys.append((places[finding.kind], number))
    return [number for _, number in sorted(keys)]


def _card(finding: Finding, shapes: Shapes, names: Names, wanted: Wanted) -> dict[str, Any]:
    evidence = finding.evidence
    picture = wanted.want(finding.image_id, finding.bbox)
    card: dict[str, Any] = {
        "id": finding.id,
        "kind": finding.kind,
        "check": finding.check,
        "score": round(finding.score, 4),
        "status": finding.status,
        "commit": finding.commit,
        "image": names.number(finding.image_id, finding.image),
        "picture": picture,
        "given": finding.given,
        "suggested": finding.suggested,
        "why": cut(str(evidence.get("why", ""))),
        "box": None if finding.bbox is None else [_rounded(value) for value in finding.bbox],
        "outlines": [],
        "details": _details(evidence),
    }
    shape = shapes.get(finding.annotation_id)
    if finding.status in ("fixed", "confirmed") and finding.annotation_id is not None:
        card["now"] = None if shape is None else shape["label"]
    if VERDICT in evidence:
        card["verdict"] = cut(", ".join(str(value) for value in evidence[VERDICT].values()))
    if "slice" in evidence:
        card["slice"] = cut(str(evidence["slice"]))
    if picture is not None:
        window = wanted.windows[picture][1]
        card["outlines"] = _outlines(finding, shapes, window)
    return card


def _outlines(finding: Finding, shapes: Shapes, window: Window) -> list[tuple[str, list[Outline]]]:
    """What is there, what should be, and where exactly something is wrong."""
    evidence = finding.evidence
    drawn: list[tuple[str, list[Outline]]] = []
    if finding.annotation_id is not None and finding.annotation_id in shapes.rows and finding.kind != "mislocated":
        drawn.append((GIVEN, shapes.outlines(finding.annotation_id, window)))
    elif finding.bbox is not None:
        drawn.append((SUGGESTED if finding.kind == "missing" else GIVEN, box_outline(finding.bbox, window)))
    if evidence.get("suggested_bbox") is not None and finding.kind != "missing":
        drawn.append((SUGGESTED, box_outline(evidence["suggested_bbox"], window)))
    region = evidence.get("region")
    if isinstance(region, Mapping) and region.get("rle"):
        drawn.append((REGION, annotation_outlines(_region_row(region), window)))
    # Of an image that is hard for a model: what it has missed, and what it has made up.
    for key, what in (("missed", GIVEN), ("false", SUGGESTED)):
        for each in evidence.get(key, ())[:_MOST_MISSED] if isinstance(evidence.get(key), list) else ():
            drawn.append((what, box_outline(each["bbox"], window)))
    return [(what, outlines) for what, outlines in drawn if outlines]


def _region_row(region: Mapping[str, Any]) -> dict[str, Any]:
    absent = dict.fromkeys(_SHAPE_COLUMNS)
    return {**absent, "bbox": region.get("bbox"), "rle": region["rle"], "rle_size": region["size"]}


def _related(other: Related, shapes: Shapes, names: Names, wanted: Wanted) -> dict[str, Any]:
    shape = shapes.get(other.annotation_id)
    image_id = other.image_id if shape is None else shape["image_id"]
    picture = wanted.want(image_id, None if shape is None else shape["bbox"])
    outlines: list[Outline] = []
    if shape is not None and picture is not None:
        outlines = shapes.outlines(shape["annotation_id"], wanted.windows[picture][1])
    return {
        "image": names.number(image_id, other.image),
        "picture": picture,
        "label": None if shape is None else shape["label"],
        "score": None if other.score is None else round(other.score, 3),
        "outlines": [(GIVEN, outlines)] if outlines else [],
    }


def _compared(finding: Finding) -> list[Related]:
    """What a finding is compared with: objects that look like it, those of the suggested class first; else what is related."""
    against, for_it = (list(finding.evidence.get(key, ())) for key in ("disagreeing", "agreeing"))
    said = [*against[: _COMPARED - 1], *for_it[:1], *against[_COMPARED - 1 :], *for_it[1:]]
    if said:
        return [
            Related(str(each.get("image")), "", each.get("annotation_id"), each.get("similarity"))
            for each in said[:_COMPARED]
        ]
    return list(finding.related[:_COMPARED])


def _keeper(finding: Finding) -> list[Related]:
    """The image that stays of a copy's group; none if it is not told."""
    if finding.kind not in COPIES:
        return []
    keeper = finding.evidence.get("keeper")
    return [other for other in finding.related if other.image == keeper][:1]


def _groups(findings: Sequence[Finding], names: Names, wanted: Wanted) -> list[dict[str, Any]]:
    """Groups of copies, the largest first."""
    groups: dict[str, dict[str, Any]] = {}
    for number, finding in enumerate(findings):
        for keeper in _keeper(finding):
            if finding.evidence.get("repetitive"):
                continue
            group = groups.setdefault(
                keeper.image_id,
                {
                    "keeper": names.number(keeper.image_id, keeper.image),
                    "picture": wanted.want(keeper.image_id),
                    "cards": [],
                },
            )
            group["cards"].append(number)
    return sorted(groups.values(), key=lambda group: (-len(group["cards"]), names.locations[group["keeper"]]))


def _details(evidence: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Single numbers and short texts of a finding's evidence."""
    found: list[tuple[str, Any]] = []
    for key, value in evidence.items():
        if key in _HIDDEN or len(found) == _DETAILS:
            continue
        if isinstance(value, bool):
            found.append((key, "yes" if value else "no"))
        elif isinstance(value, int | float):
            found.append((key, short_number(value)))
        elif isinstance(value, str):
            found.append((key, cut(value)))
        elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            found.append((key, cut(", ".join(value))))
    return found


def _rounded(value: float) -> float | None:
    return round(float(value), 1) if math.isfinite(value) else None
