"""Writing COCO: one ``annotations/instances_<split>.json`` per split, or results files, in pieces.

Ids survive: an image, annotation or category that came with a whole number as its id gets it back, unless another one in
the same file has it already. Everything else gets the next free number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UsageError
from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.coco.decoder import collector_paused
from curate.formats.coco.images import clean_location
from curate.formats.coco.objects import ANNOTATION_FIELDS, CATEGORY_FIELDS, both_names
from curate.formats.columns import BROKEN_MASK, Flags, Ints, box_values, broken_masks, image_rows
from curate.formats.files import place_images
from curate.formats.locations import file_name
from curate.formats.losses import LossReport
from curate.geometry import polygon_area, rle_areas, rotated_box_corners

PIECE_ROWS: Final = 20_000

_TOP_LEVEL_ATTRIBUTES = ("caption", "ignore")
_NOT_IN_RESULTS = {
    "attributes": "attributes",
    "area": "areas",
    "iscrowd": "crowd flags",
    "source_id": "annotation ids",
}
_OWN_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "tags", "group", "frame", "timestamp"})
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
_IDS = range(-(2**63), 2**63)
_SURELY_IN_IDS = 18  # characters
_LONGEST_ID = 100  # characters that are looked at: more are too many anyway
_LARGEST_NEW_ID = 2**53
_ENCODER = msgspec.json.Encoder()


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write an export in COCO format.

    Args:
        export: What to write.
        target: An empty folder. Annotations go to ``annotations/``, images (if asked for) to ``images/<location>``.
        options: The variant 'results' writes ``results[_<split>].json`` arrays of predictions instead.
        losses: Gets what COCO cannot say.

    Raises:
        UsageError: There is no such variant.
    """
    if options.variant not in {None, "results"}:
        raise UsageError(f"COCO has no variant '{options.variant}'", remedy="use 'results', or none")
    categories = category_ids(export.classes, losses)
    annotations = export.annotations
    expressible = _expressible(annotations, losses)
    fields = _given(export.info, ANNOTATION_FIELDS)
    image = image_rows(annotations, export.images)
    splits = export.images["split"].to_pylist()
    for split in dict.fromkeys(splits) or [None]:
        chosen = np.array([each == split for each in splits], dtype=np.bool_)
        images = export.images.filter(pa.array(chosen))
        image_ids = np.zeros(len(splits), dtype=np.int64)
        image_ids[chosen] = _whole_ids(images["source_id"], "image", losses)
        suffix = "" if split is None else f"_{file_name(split)}"
        mine = expressible & chosen[image]
        file = _File(images, image_ids[chosen], annotations, mine, image_ids[image], categories, fields, losses)
        if options.variant == "results":
            _write_pieces(target / f"results{suffix}.json", [("", file.results())])
        else:
            path = target / "annotations" / f"instances{suffix}.json"
            path.parent.mkdir(exist_ok=True)
            _write_pieces(path, _parts(export, file, categories))
    if options.variant is None:
        places = zip(export.images["path"].to_pylist(), export.images["location"].to_pylist(), strict=True)
        pairs = ((path, target / "images" / clean_location(location)) for path, location in places)
        place_images(pairs, options.images, losses)
        losses.carried("images", export.images.num_rows)
        losses.carried("classes", len(export.classes))
    losses.carried("annotations", int(expressible.sum()))


def category_ids(classes: Sequence[ClassInfo], losses: LossReport) -> dict[str, int]:
    """The category id of each class: its own, or the next free one from 1 on."""
    ids: dict[str, int] = {}
    taken: set[int] = set()
    for info in classes:
        if info.source_id is not None and info.source_id not in taken:
            ids[info.name] = info.source_id
            taken.add(info.source_id)
        elif info.source_id is not None:
            losses.converted("classes", "category id already belongs to another class; a new one was given", info.name)
    free = 1
    for info in classes:
        if info.name not in ids:
            while free in taken:
                free += 1
            ids[info.name] = free
            taken.add(free)
    return ids


def _parts(export: Export, file: _File, categories: dict[str, int]) -> list[tuple[str, Iterable[bytes]]]:
    """The top-level keys of a file and their content, in order."""
    info = dict(export.info)
    info.pop(ANNOTATION_FIELDS, None)
    info.pop(CATEGORY_FIELDS, None)
    fields = _given(export.info, CATEGORY_FIELDS)
    first = {"info": info.pop("info", {}), "licenses": info.pop("licenses", [])}
    plain = {key: value for key, value in (first | info).items() if key not in {"images", "annotations", "categories"}}
    described = [_category(each, categories[each.name], fields.get(each.name, {})) for each in export.classes]
    return [
        *((key, [_ENCODER.encode(value)]) for key, value in plain.items()),
        ("categories", [b"[" + b",\n".join(map(_ENCODER.encode, described)) + b"]"]),
        ("images", file.image_array()),
        ("annotations", file.annotation_array()),
    ]


def _given(info: Mapping[str, object], key: str) -> dict[str, Any]:
    fields = info.get(key)
    return fields if isinstance(fields, dict) else {}


def _category(info: ClassInfo, identity: int, extras: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"id": identity, "name": info.name}
    if info.supercategory is not None:
        content["supercategory"] = info.supercategory
    if info.keypoints or info.skeleton:
        content |= {"keypoints": list(info.keypoints), "skeleton": [list(pair) for pair in info.skeleton]}
    if info.color is not None:
        content["color"] = info.color
    return content | {key: value for key, value in extras.items() if key not in content}


def _expressible(annotations: pa.Table, losses: LossReport) -> Flags:
    """Which annotations COCO can hold; shape (n,)."""
    return np.concatenate([np.zeros(0, dtype=np.bool_), *(_tell(piece, losses) for piece in _slices(annotations))])


def _tell(table: pa.Table, losses: LossReport) -> Flags:
    """The same of a few, with a report of what is lost of each."""
    kept = np.ones(table.num_rows, dtype=np.bool_)
    for is_lost, reason in (
        (_is_polyline, "COCO has no open lines"),
        (_not_finite, "bbox is not finite"),
        (broken_masks, BROKEN_MASK),
    ):
        lost = kept & is_lost(table)
        _report(table, pa.array(lost), "annotations", reason, "dropped", losses)
        kept &= ~lost
    table = table if kept.all() else table.filter(pa.array(kept))
    _report(table, pc.and_(pc.is_valid(table["rle"]), pc.is_valid(table["polygons"])), "polygons",
            "a mask stands in their place", "dropped", losses)  # fmt: skip
    _report(
        table, pc.is_valid(table["probabilities"]), "probabilities", "COCO has no place for them", "dropped", losses
    )
    _report(table, pc.is_null(table["label"]), "annotations", "no label: category_id is null", "converted", losses)
    return kept


def _report(table: pa.Table, which: pa.ChunkedArray, what: str, reason: str, outcome: str, losses: LossReport) -> None:
    rows = table.filter(which)
    if rows.num_rows:
        report = losses.dropped if outcome == "dropped" else losses.converted
        report(what, reason, rows["annotation_id"][0].as_py(), rows.num_rows)


def _is_polyline(table: pa.Table) -> Flags:
    return np.asarray(pc.equal(table["type"], "polyline"), dtype=np.bool_)


def _not_finite(table: pa.Table) -> Flags:
    boxes, present = box_values(table["bbox"])
    return present & ~np.isfinite(boxes).all(axis=1)


def _with_corners(table: pa.Table, losses: LossReport) -> pa.Table:
    """Rotated boxes without another outline as polygons of their four corners."""
    bare = pc.and_(
        pc.is_valid(table["rotated_box"]), pc.and_(pc.is_null(table["polygons"]), pc.is_null(table["rle"]))
    ).combine_chunks()
    rows = np.flatnonzero(bare.to_numpy(zero_copy_only=False))
    if len(rows) == 0:
        return table
    turned = table["rotated_box"].take(rows)
    corners = rotated_box_corners(turned.combine_chunks().flatten().to_numpy(zero_copy_only=False))
    losses.converted(
        "annotations", "rotated box written as a polygon", table["annotation_id"][int(rows[0])].as_py(), len(rows)
    )
    outlines = pa.array(corners.reshape(-1, 1, 8).tolist(), table.schema.field("polygons").type)
    place = np.full(table.num_rows, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    polygons = pc.coalesce(table["polygons"], outlines.take(pa.array(place, mask=place < 0)))
    return table.set_column(table.column_names.index("polygons"), "polygons", polygons)


def _whole_ids(source_ids: pa.ChunkedArray, what: str, losses: LossReport) -> Ints:
    """Ids of n rows: their own where it is a whole number that no row before has, else the next free ones."""
    given = source_ids.combine_chunks()
    whole = pc.fill_null(pc.match_substring_regex(given, _WHOLE_NUMBER), False).to_numpy(zero_copy_only=False)
    long = np.flatnonzero(whole & (pc.fill_null(pc.utf8_length(given), 0).to_numpy() > _SURELY_IN_IDS))
    large = np.zeros(len(given), dtype=np.bool_)
    large[[row for row in long.tolist() if int(given[row].as_py()[:_LONGEST_ID]) not in _IDS]] = True
    whole = whole & ~large
    ids = np.zeros(len(given), dtype=np.int64)
    ids[whole] = given.filter(pa.array(whole)).cast(pa.int64()).to_numpy(zero_copy_only=False)
    kept = np.zeros(len(given), dtype=np.bool_)
    own = np.flatnonzero(whole)
    kept[own[np.unique(ids[own], return_index=True)[1]]] = True
    changed = {
        "is another's too": whole & ~kept,
        "does not fit into 64 bits": large,
        "is not a whole number": ~whole & ~large & given.is_valid().to_numpy(zero_copy_only=False),
    }
    for reason, which in changed.items():
        if which.any():
            place = given[int(which.argmax())].as_py()
            losses.converted("ids", f"{what} id {reason}; a new one was given", place, int(which.sum()))
    start = max(0, int(ids[kept].max(initial=0, where=ids[kept] < _LARGEST_NEW_ID))) + 1
    ids[~kept] = np.arange(start, start + int((~kept).sum()))
    return ids


@dataclass(frozen=True)
class _File:
    """What goes into one file.

    Attributes:
        images: The images of one split.
        image_ids: Id of each of them.
        annotations: Those of all splits, n of them.
        mine: Which of them go into this file; shape (n,).
        image_id: Id of the image of each; shape (n,).
        categories: Category id of each class.
        fields: Keys that stood in the annotations themselves, not in their `attributes`.
        losses: Gets what cannot be written.
    """

    images: pa.Table
    image_ids: Ints
    annotations: pa.Table
    mine: Flags
    image_id: Ints
    categories: dict[str, int]
    fields: Collection[str]
    losses: LossReport

    def image_array(self) -> Iterator[bytes]:
        ids = iter(self.image_ids.tolist())
        yield from _array(_image(row, next(ids), self.losses) for row in _rows(self.images))

    def annotation_array(self) -> Iterator[bytes]:
        own_ids = self.annotations["source_id"].filter(pa.array(self.mine))
        ids = _whole_ids(own_ids, "annotation", self.losses)
        fields = list(dict.fromkeys([*_TOP_LEVEL_ATTRIBUTES, *self.fields]))
        yield from _array(
            {"id": identity, **content, **_attributes(row, [key for key in fields if key not in content])}
            for identity, (row, content) in zip(ids.tolist(), self._contents(), strict=True)
        )

    def results(self) -> Iterator[bytes]:
        for piece in _slices(self.annotations, self.mine):
            _report(
                piece, pc.is_null(piece["score"]), "annotations", "no score; written as 1", "converted", self.losses
            )
            for name, what in _NOT_IN_RESULTS.items():
                given = pc.fill_null(piece[name], False) if name == "iscrowd" else pc.is_valid(piece[name])
                _report(piece, given, what, "a COCO results file has no place for them", "dropped", self.losses)
        yield from _array(_result(row, content) for row, content in self._contents())

    def _contents(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each annotation as a row of the table, and as COCO writes it but for id and attributes."""
        images = iter(self.image_id[self.mine].tolist())
        for piece in _slices(self.annotations, self.mine):
            piece = _with_corners(piece, self.losses)
            with collector_paused():
                rows = piece.to_pylist()
            for row, area in zip(rows, _areas(piece, rows), strict=True):
                yield row, _annotation(row, area, next(images), self.categories.get(row["label"]))


def _image(row: dict[str, Any], identity: int, losses: LossReport) -> dict[str, Any]:
    content: dict[str, Any] = {"id": identity, "file_name": row["location"]}
    for key in ("width", "height", "tags", "group", "frame", "timestamp"):
        if row[key] is not None:
            content[key] = row[key]
    for key, value in msgspec.json.decode(row["metadata"] or b"{}", type=dict[str, Any]).items():
        if key in _OWN_IMAGE_KEYS:
            losses.dropped("metadata", f"'{key}' means something else in COCO", row["location"])
        else:
            content[key] = value
    return content


def _annotation(row: dict[str, Any], area: float | None, image: int, category: int | None) -> dict[str, Any]:
    content: dict[str, Any] = {"image_id": image, "category_id": category}
    if row["bbox"] is not None:
        content["bbox"] = _short(row["bbox"])
    if row["rle"] is not None:
        content["segmentation"] = {"size": row["rle_size"], "counts": row["rle"]}
    elif row["polygons"] is not None:
        content["segmentation"] = [_short(part) for part in row["polygons"]]
    if row["keypoints"] is not None:
        content["keypoints"] = _short(row["keypoints"])
        content["num_keypoints"] = sum(visibility > 0 for visibility in row["keypoints"][2::3])
    if area is not None:
        content["area"] = _short([area])[0]
    if row["bbox"] is not None:
        content["iscrowd"] = int(bool(row["iscrowd"]))
    if row["score"] is not None:
        content["score"] = row["score"]
    return content


def _result(row: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: content[key] for key in ("image_id", "category_id", "bbox", "segmentation", "keypoints") if key in content
    }
    return kept | {"score": 1.0 if row["score"] is None else row["score"]}


def _attributes(row: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """An annotation's attributes as COCO has them: those of these fields beside it, the others below `attributes`."""
    if row["attributes"] is None:
        return {}
    nested = msgspec.json.decode(row["attributes"], type=dict[str, Any])
    top = {}
    for key in fields:
        source = both_names(key) if both_names(key) in nested else key
        if source in nested:
            top[key] = nested.pop(source)
    return top | ({"attributes": nested} if nested else {})


def _areas(table: pa.Table, rows: list[dict[str, Any]]) -> list[float | None]:
    """Area of each annotation: as given, else of the mask, else of the polygons, else of the box.

    Args:
        table: The annotations.
        rows: The same.
    """
    areas: list[float | None] = [row["area"] for row in rows]
    boxes, _ = box_values(table["bbox"])
    with np.errstate(over="ignore"):
        measured = (boxes[:, 2] * boxes[:, 3]).tolist()  # NaN where there is no box
    polygons, rles = [row["polygons"] for row in rows], [row["rle"] for row in rows]
    masks = [row for row, (area, rle) in enumerate(zip(areas, rles, strict=True)) if area is None and rle is not None]
    for row, (area, parts) in enumerate(zip(areas, polygons, strict=True)):
        if area is None and parts:
            measured[row] = sum(polygon_area(part) for part in parts)
    sizes = [rows[row]["rle_size"] for row in masks]
    pixels = rle_areas([rles[row] for row in masks], np.array(sizes, dtype=np.int64).reshape(-1, 2))
    for row, count in zip(masks, pixels.tolist(), strict=True):
        measured[row] = count
    return [
        (value if math.isfinite(value) else None) if area is None else area
        for area, value in zip(areas, measured, strict=True)
    ]


def _short(values: Iterable[float]) -> list[float | int]:
    """Numbers as integers where they are whole, so that 12.0 is written as 12."""
    return [int(value) if value.is_integer() and abs(value) < 2**53 else value for value in values]


def _slices(table: pa.Table, chosen: Flags | None = None) -> Iterator[pa.Table]:
    """The chosen rows of a table, or all of them, some at a time, so that they are never all copied or made objects of."""
    for start in range(0, table.num_rows, PIECE_ROWS):
        piece = table.slice(start, PIECE_ROWS)
        own = None if chosen is None else chosen[start : start + PIECE_ROWS]
        yield piece if own is None or own.all() else piece.filter(pa.array(own))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for piece in _slices(table):
        yield from piece.to_pylist()


def _array(contents: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """A JSON array, one element per line so that versions can be compared."""
    yield b"["
    separator = b"\n"
    for content in contents:
        yield separator
        yield _ENCODER.encode(content)
        separator = b",\n"
    yield b"\n]"


def _write_pieces(path: Path, parts: Iterable[tuple[str, Iterable[bytes]]]) -> None:
    """Write an object with these keys, or the one value whose key is empty."""
    with path.open("wb") as file:
        for number, (key, pieces) in enumerate(parts):
            if key:
                file.write((b",\n" if number else b"{\n") + _ENCODER.encode(key) + b": ")
            file.writelines(pieces)
        file.write(b"\n}\n" if key else b"\n")
