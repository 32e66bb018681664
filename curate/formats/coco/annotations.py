"""COCO annotations as columns: a piece of the file at a time becomes one Arrow table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from curate.dataset.ids import Hashes, annotation_ids, hash_text, mix, ordinals, to_ids
from curate.formats.coco.decoder import NOTHING, ObjectDecoder, collector_paused
from curate.formats.coco.fields import Ids, Lookup, column, numbers, truths
from curate.formats.coco.objects import AnnotationObject, Annotations, Id, both_names, decode_annotations, same_id
from curate.formats.coco.panoptic import SEGMENTS, segments_of
from curate.formats.coco.pieces import BLOCK_BYTES, JsonFile
from curate.formats.coco.shapes import Shapes, orient_shapes, read_shapes, with_boxes
from curate.formats.columns import Flags, Ints, annotations_table
from curate.formats.losses import LossReport
from curate.names import PREDICTIONS

TYPES: Final = ("label", "box", "polygon", "mask", "keypoints")
"""From the least to the most specific."""

_OUTLINED: Final = 1
_NO_HASHES = np.zeros(0, dtype=np.uint64)


class Seen:
    """A set of hashes that grows by arrays: a few sorted runs, merged as they reach one another's length."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def contains(self, values: Hashes) -> Flags:
        """Which of n values are in the set; shape (n,)."""
        found = np.zeros(len(values), dtype=np.bool_)
        low, high = (values.min(), values.max()) if len(values) else (0, 0)
        for run in self._runs:
            if low > run[-1] or high < run[0]:  # ids that go on where those before ended
                continue
            place = np.searchsorted(run, values)
            found |= run[np.minimum(place, len(run) - 1)] == values
        return found

    def add(self, values: Hashes) -> Flags:
        """Put n values into the set; which of them were in it already, or stand in `values` before; shape (n,)."""
        known = self.contains(values)
        run = values
        if not (values[1:] > values[:-1]).all():
            order = np.argsort(values, kind="stable")
            run = values[order]
            known[order[1:]] |= run[1:] == run[:-1]
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        return known


@dataclass
class Reader:
    """What is the same for all annotations of a file, and what is remembered from one piece to the next.

    Attributes:
        source: The file's name for the table and the loss report.
        layer: Where the annotations go.
        rows: Row of each image id in `hashes`.
        hashes: Hash of every image's location.
        stored: Stored width and height, and orientation, of the images labelled as they are stored, by row.
        names: Class of each category id.
        losses: Gets what cannot be read.
        others: Hashes of the annotations of the files read before, where files share images, else None.
        fields: Gets the fields beyond COCO's that annotations have.
        segments: Folders that may hold the PNG files of panoptic annotations.
    """

    source: str
    layer: str
    rows: Mapping[Id, int]
    hashes: Hashes
    stored: Mapping[int, tuple[int, int, int]]
    names: Mapping[Id, str]
    losses: LossReport
    others: Seen | None = None
    fields: set[str] = field(default_factory=set)
    segments: Sequence[Path] = ()
    _ids: Seen = field(default_factory=Seen)
    _repeated: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._image_ids = to_ids(self.hashes)
        self._nameless = np.zeros(len(self.hashes), dtype=np.uint64)
        self._labels = pa.array([*self.names.values()], pa.string())
        self._codes = Lookup({key: code for code, key in enumerate(self.names)})
        self._rows = Lookup(self.rows)

    def tables(self, json: JsonFile, key: str) -> Iterator[pa.Table]:
        """Read the array of that key; tables with the columns of `curate.dataset.schema.ANNOTATIONS`."""
        decoder = ObjectDecoder(AnnotationObject)
        first = 0
        mine: list[Hashes] = []
        for piece in json.pieces(key):
            with collector_paused():
                found, count = decode_annotations(decoder, piece, first, self.source, self.losses)
            first += count
            for part, panoptic in self._parts(found, decoder):
                with collector_paused():
                    table, contents = self._table(part, decoder, panoptic)
                mine.append(contents)
                if table.num_rows:
                    yield table
        for contents in mine:
            if self.others is not None:
                self.others.add(contents)

    def _parts(
        self, found: Annotations, decoder: ObjectDecoder[AnnotationObject]
    ) -> Iterator[tuple[Annotations, bool]]:
        """The annotations, with the segments of panoptic ones in their stead; and whether they are such segments."""
        if SEGMENTS not in decoder.extra_keys:
            yield found, False
            return
        items = found.items
        extras = decoder.extras(items)
        is_panoptic = _filled(extras[SEGMENTS], len(items))
        yield found.chosen(~is_panoptic), False
        segments: list[bytes] = []
        for row in np.flatnonzero(is_panoptic).tolist():
            own = {key: column[row] for key, column in extras.items() if column[row]}
            segments += segments_of(items[row], own, self.segments, self.place(items[row]), self.losses)
            if sum(map(len, segments)) > BLOCK_BYTES:
                yield self._decoded(segments, decoder), True
                segments = []
        yield self._decoded(segments, decoder), True

    def _decoded(self, texts: list[bytes], decoder: ObjectDecoder[AnnotationObject]) -> Annotations:
        piece = b"[" + b",".join(texts) + b"]"
        return decode_annotations(decoder, piece, 0, self.source, self.losses)[0]

    def _table(
        self, found: Annotations, decoder: ObjectDecoder[AnnotationObject], panoptic: bool
    ) -> tuple[pa.Table, Hashes]:
        """The annotations as rows of the table, and the hashes of their contents where files share images."""
        found, rows = self._on_known_images(found)
        items = found.items
        ids, categories = Ids(column(items, "id")), Ids(column(items, "category_id"))
        codes = self._codes.find(categories)
        shapes = read_shapes(found, self.place, self.losses)
        shapes = with_boxes(orient_shapes(shapes, rows, self.stored))
        extras = decoder.extras(items)
        attributes = self._attributes(items, codes, categories, extras)
        keep = self._meaningful(items, codes, categories, shapes, attributes, extras)
        contents = _NO_HASHES
        if self.others is not None:
            contents = self._contents(rows, codes, ids, shapes)
            keep &= ~self._repeats(contents, keep, items, shapes, self.others)
        labels = pa.array(codes, mask=codes < 0)
        predicted = self.layer.startswith(PREDICTIONS)
        columns = {
            "annotation_id": annotation_ids(
                self.hashes[rows], self.layer, self.source, keys=self._keys(items, ids, rows, keep, panoptic)
            ),
            "image_id": self._image_ids.take(pa.array(rows)),
            "layer": self.layer,
            "type": pa.array(TYPES).take(pa.array(shapes.type_codes())),
            "label": self._labels.take(labels),
            **shapes.columns(),
            "area": numbers(column(items, "area")),
            "iscrowd": truths(column(items, "iscrowd")),
            "score": numbers(column(items, "score")) if predicted else None,
            "attributes": attributes,
            "source_id": ids.texts(),
            "source": self.source,
        }
        table = annotations_table(len(items), columns)
        if self.others is not None:
            outlined = keep & shapes.outlined()
            contents = np.concatenate([contents[keep], mix(contents[outlined], _OUTLINED)])
        return (table if keep.all() else table.filter(pa.array(keep))), contents

    def place(self, item: AnnotationObject) -> str:
        """Where an annotation is, for the loss report."""
        return f"{self.source}: annotation {item.id} of image {item.image_id}"

    def _report(self, outcome: str, reason: str, items: list[AnnotationObject], affected: Flags) -> None:
        count = int(affected.sum())
        if count:
            report = self.losses.dropped if outcome == "dropped" else self.losses.converted
            report("annotations", reason, self.place(items[int(affected.argmax())]), count)

    def _on_known_images(self, found: Annotations) -> tuple[Annotations, Ints]:
        rows = self._rows.find(Ids(column(found.items, "image_id")))
        lost = rows < 0
        if not lost.any():
            return found, rows
        self._report("dropped", "image_id is not among the images", found.items, lost)
        return found.chosen(~lost), rows[~lost]

    def _attributes(
        self, items: list[AnnotationObject], codes: Ints, categories: Ids, extras: Mapping[str, list[bytes]]
    ) -> list[str | None] | None:
        """Everything without a column of its own, as JSON objects; the `attributes` of an annotation are merged in.

        None if there is nothing of the kind.
        """
        columns = {key: column for key, column in extras.items() if key != SEGMENTS}
        own, scores = column(items, "attributes"), column(items, "score")
        filled = _rows_without(own, NOTHING)
        scored = set() if self.layer.startswith(PREDICTIONS) else _rows_without(scores, None)
        self.fields.update([*columns, "score"] if scored else columns)
        unknown = set(np.flatnonzero((codes < 0) & categories.given).tolist())
        filled |= scored | unknown
        for texts in columns.values():
            filled.update(row for row, text in enumerate(texts) if text)
        if not filled:
            return None
        merged: list[str | None] = [None] * len(items)
        for row in filled:
            extra = {key: column[row] for key, column in columns.items() if column[row]}
            if row in scored:
                extra["score"] = msgspec.json.encode(scores[row])
            if row in unknown:
                extra["category_id"] = msgspec.json.encode(categories.values[row])
            merged[row] = _merged(bytes(own[row]), extra)
        return merged

    def _meaningful(
        self,
        items: list[AnnotationObject],
        codes: Ints,
        categories: Ids,
        shapes: Shapes,
        attributes: list[str | None] | None,
        extras: Mapping[str, list[bytes]],
    ) -> Flags:
        """Which annotations say something: those with a geometry, or a class or attributes for the whole image."""
        shapeless = shapes.type_codes() == 0
        if not shapeless.any() and (codes >= 0).all():
            meaningful: Flags = ~shapeless
            return meaningful
        captions = _filled(extras.get("caption"), len(items))
        described = np.fromiter((text is not None for text in attributes or [None] * len(items)), np.bool_, len(items))
        given = categories.given
        broken = shapes.broken & shapeless
        empty = shapeless & (codes < 0) & (given | ~described) & ~captions & ~broken
        self._report("dropped", "no usable geometry", items, broken)
        self._report("dropped", "neither a known category nor a geometry", items, empty)
        kept: Flags = ~(broken | empty)
        unlabelled = (codes < 0) & kept & ~captions
        self._report("converted", "category_id is not among the categories; no label", items, unlabelled & given)
        self._report("converted", "no category_id; no label", items, unlabelled & ~given)
        return kept

    def _repeats(
        self, contents: Hashes, keep: Flags, items: list[AnnotationObject], shapes: Shapes, others: Seen
    ) -> Flags:
        """Which annotations a file before had too."""
        double = others.contains(contents) & keep
        self._report("converted", "the same annotation is in two files; the first is kept", items, double)
        more = double & shapes.outlined() & ~others.contains(mix(contents, _OUTLINED))
        self._report(
            "dropped", "the second of two files has an outline, the first, which is kept, has none", items, more
        )
        return double

    def _contents(self, rows: Ints, codes: Ints, ids: Ids, shapes: Shapes) -> Hashes:
        """Hashes that are equal for the same annotation in two files (instances and person_keypoints share many)."""
        names = np.array([0, *map(hash_text, self.names.values())], dtype=np.uint64)[codes + 1]
        return mix(self.hashes[rows], _numbers_of(ids), names, *shapes.boxes.view(np.uint64).T)

    def _keys(self, items: list[AnnotationObject], ids: Ids, rows: Ints, keep: Flags, panoptic: bool) -> Hashes:
        """What tells the annotations of an image apart: their id, else their place among those without one.

        Ids of annotations are unique in a file, those of panoptic segments on an image.
        """
        keys = _numbers_of(ids)
        nameless = ~ids.given
        if nameless.any():
            image = rows[nameless]
            place = ordinals(self.hashes[image]) + self._nameless[image]
            self._nameless += np.bincount(image, minlength=len(self.hashes)).astype(np.uint64)
            keys[nameless] = mix(place, hash_text("no id"))
        named = np.flatnonzero(~nameless & keep)
        unique = mix(self.hashes[rows[named]], keys[named]) if panoptic else keys[named]
        double = named[self._ids.add(unique)]
        again = np.zeros(len(items), dtype=np.bool_)
        again[double] = True
        self._report("converted", "annotation id used twice; both are kept", items, again)
        for number, pair in zip(double.tolist(), mix(self.hashes[rows[double]], keys[double]).tolist(), strict=True):
            self._repeated[pair] = self._repeated.get(pair, 0) + 1
            keys[number] = mix(keys[number : number + 1], hash_text("again"), self._repeated[pair])[0]
        return keys


def _filled(column: list[bytes] | None, count: int) -> Flags:
    return np.fromiter(map(bool, column or [b""] * count), np.bool_, count)


def _rows_without(values: list[Any], nothing: object) -> set[int]:
    """Which of n values are given."""
    if values.count(nothing) == len(values):
        return set()
    return {row for row, value in enumerate(values) if value is not nothing}


def _numbers_of(ids: Ids) -> Hashes:
    """Ids as 64-bit numbers: integers as they are, texts hashed, None as 0."""
    if ids.numbers is not None:
        return np.array(ids.numbers.fill_null(0) if ids.numbers.null_count else ids.numbers).view(np.uint64)
    same = map(same_id, ids.values)
    values = (hash_text(key) if isinstance(key, str) else (key or 0) & (2**64 - 1) for key in same)
    return np.fromiter(values, np.uint64, len(ids.values))


def _merged(given: bytes, extras: Mapping[str, bytes]) -> str | None:
    """One JSON object of an annotation's attributes and its undefined keys; None if there is nothing in it."""
    try:
        own = msgspec.json.decode(given, type=dict[str, msgspec.Raw] | None) if given else None
    except msgspec.ValidationError:
        own = {"attributes": msgspec.Raw(given)}
    merged: dict[str, Any] = {key: bytes(value) for key, value in (own or {}).items()}
    for key, value in extras.items():
        merged[both_names(key) if key in merged else key] = value
    if not merged:
        return None
    text = b",".join(msgspec.json.encode(key) + b":" + value for key, value in merged.items())
    return msgspec.json.format(b"{" + text + b"}", indent=-1).decode()
