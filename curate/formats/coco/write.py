"""Writing COCO: one ``annotations/instances_<split>.json`` per split, or results files, in pieces.

Ids survive: an image, annotation or category that came with a whole number as its id gets it back, unless another one in
the same file has it already. Everything else gets the next free number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UsageError
from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.coco.images import SPLIT, clean_location, split_of_file
from curate.formats.coco.lines import OWN_KEYS, annotation_fields, attribute_members, image_lines
from curate.formats.coco.objects import ANNOTATION_FIELDS, CATEGORY_FIELDS
from curate.formats.coco.texts import ENCODER, content, objects, scatter
from curate.formats.columns import (
    BROKEN_MASK,
    Flags,
    Ints,
    box_values,
    broken_masks,
    image_rows,
    polygon_lists,
)
from curate.formats.files import place_images
from curate.formats.locations import split_names
from curate.formats.losses import LossReport
from curate.geometry import rotated_box_corners

PIECE_ROWS: Final = 20_000
PIECE_BYTES: Final = 2**27
"""Of a table, in one piece: as text they are more, and Arrow's texts end at 2^31."""

_TOP_LEVEL_ATTRIBUTES = ("caption", "ignore")
_NOT_IN_RESULTS = {
    "attributes": "attributes",
    "area": "areas",
    "iscrowd": "crowd flags",
    "source_id": "annotation ids",
}
_OF_RESULTS = ("image_id", "category_id", "bbox", "segmentation", "keypoints")
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)$"
_IDS = range(-(2**63), 2**63)
_SURELY_IN_IDS = 18  # characters
_LONGEST_ID = 100  # characters that are looked at: more are too many anyway
_LARGEST_NEW_ID = 2**53


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
    splits = export.images["split"].combine_chunks().dictionary_encode(null_encoding="encode")
    split_of = np.asarray(splits.indices)
    named = splits.dictionary.to_pylist()
    names = split_names(named)
    for number, split in enumerate(named or [None]):
        chosen = split_of == number
        images = export.images.filter(pa.array(chosen))
        image_ids = np.zeros(len(split_of), dtype=np.int64)
        image_ids[chosen] = _whole_ids(images["source_id"], "image", losses)
        suffix = "" if split is None else f"_{names[split]}"
        mine = expressible & chosen[image]
        file = _File(images, image_ids[chosen], annotations, mine, image_ids[image], categories, fields, losses)
        if options.variant == "results":
            _write_pieces(target / f"results{suffix}.json", [("", file.results())])
        else:
            path = target / "annotations" / f"instances{suffix}.json"
            path.parent.mkdir(exist_ok=True)
            told: dict[str, Any] = {} if split == split_of_file(path.name) else {SPLIT: split}
            _write_pieces(path, _parts(export, file, categories, told))
    if options.variant is None:
        if options.images != "none":
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


def _parts(
    export: Export, file: _File, categories: dict[str, int], told: dict[str, Any]
) -> list[tuple[str, Iterable[bytes]]]:
    """The top-level keys of a file and their content, in order."""
    info = dict(export.info)
    info.pop(ANNOTATION_FIELDS, None)
    info.pop(CATEGORY_FIELDS, None)
    fields = _given(export.info, CATEGORY_FIELDS)
    first = {"info": info.pop("info", {}), "licenses": info.pop("licenses", [])}
    plain = {
        key: value for key, value in (first | info | told).items() if key not in {"images", "annotations", "categories"}
    }
    described = [_category(each, categories[each.name], fields.get(each.name, {})) for each in export.classes]
    return [
        *((key, [ENCODER.encode(value)]) for key, value in plain.items()),
        ("categories", [b"[" + b",\n".join(map(ENCODER.encode, described)) + b"]"]),
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
    outlines = polygon_lists(corners.ravel(), np.full(len(rows), 8))
    place = np.full(table.num_rows, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    polygons = pc.coalesce(
        table["polygons"], outlines.take(pa.array(place, mask=place < 0)).cast(table.schema.field("polygons").type)
    )
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
        ids = _Pieces(self.image_ids)
        return _array(image_lines(piece, ids.take(piece.num_rows), self.losses) for piece in _slices(self.images))

    def annotation_array(self) -> Iterator[bytes]:
        own_ids = self.annotations["source_id"].filter(pa.array(self.mine))
        ids = _Pieces(_whole_ids(own_ids, "annotation", self.losses))
        return _array(
            objects(
                [
                    ("id", pa.array(ids.take(piece.num_rows)).cast(pa.string())),
                    *fields.items(),
                    ("", self._beside(piece["attributes"].combine_chunks(), fields)),
                ]
            )
            for piece, fields in self._pieces()
        )

    def _beside(self, attributes: pa.Array, fields: Mapping[str, pa.Array]) -> pa.Array:
        """The members that say the attributes; a key of COCO's own is beside them only where its field has nothing."""
        keys = dict.fromkeys([*_TOP_LEVEL_ATTRIBUTES, *self.fields])
        own = [key for key in keys if key in fields]
        taken = np.zeros(len(attributes), dtype=np.int64)  # one bit for each of them
        for bit, key in enumerate(own):
            taken |= np.asarray(fields[key].is_valid()).astype(np.int64) << bit
        found = pa.nulls(len(attributes), pa.string())
        for code in np.unique(taken).tolist():
            free = {key for bit, key in enumerate(own) if not code >> bit & 1}
            rows = taken == code
            beside = [key for key in keys if key in free or key not in OWN_KEYS]
            found = pc.coalesce(found, scatter(attribute_members(attributes.filter(pa.array(rows)), beside), rows))
        return found

    def results(self) -> Iterator[bytes]:
        for piece in _slices(self.annotations, self.mine):
            _report(
                piece, pc.is_null(piece["score"]), "annotations", "no score; written as 1", "converted", self.losses
            )
            for name, what in _NOT_IN_RESULTS.items():
                given = pc.fill_null(piece[name], False) if name == "iscrowd" else pc.is_valid(piece[name])
                _report(piece, given, what, "a COCO results file has no place for them", "dropped", self.losses)
        yield from _array(
            objects([*((key, fields[key]) for key in _OF_RESULTS), ("score", fields["score"].fill_null("1.0"))])
            for _, fields in self._pieces()
        )

    def _pieces(self) -> Iterator[tuple[pa.Table, dict[str, pa.Array]]]:
        """The annotations, some at a time, and the texts of their fields (`annotation_fields`)."""
        images = _Pieces(self.image_id[self.mine])
        for piece in _slices(self.annotations, self.mine):
            piece = _with_corners(piece, self.losses)
            yield piece, annotation_fields(piece, images.take(piece.num_rows), self.categories)


class _Pieces:
    """Numbers that are taken from the front, some at a time."""

    def __init__(self, values: Ints) -> None:
        self._values = values
        self._taken = 0

    def take(self, count: int) -> Ints:
        self._taken += count
        return self._values[self._taken - count : self._taken]


def _slices(table: pa.Table, chosen: Flags | None = None) -> Iterator[pa.Table]:
    """The chosen rows of a table, or all of them, some at a time, so that they are never all copied or made text of."""
    count = max(1, min(PIECE_ROWS, PIECE_BYTES * table.num_rows // max(1, table.nbytes)))
    for start in range(0, table.num_rows, count):
        piece = table.slice(start, count)
        own = None if chosen is None else chosen[start : start + count]
        if own is None or own.any():
            yield piece if own is None or own.all() else piece.filter(pa.array(own))


def _array(pieces: Iterable[pa.Array]) -> Iterator[bytes]:
    """A JSON array of `objects`, one element per line so that versions can be compared."""
    yield b"["
    start = len(b",")
    for piece in pieces:
        text = content(piece)
        yield text[start:]
        start = 0 if text else start
    yield b"\n]"


def _write_pieces(path: Path, parts: Iterable[tuple[str, Iterable[bytes]]]) -> None:
    """Write an object with these keys, or the one value whose key is empty."""
    with path.open("wb") as file:
        for number, (key, pieces) in enumerate(parts):
            if key:
                file.write((b",\n" if number else b"{\n") + ENCODER.encode(key) + b": ")
            file.writelines(pieces)
        file.write(b"\n}\n" if key else b"\n")
