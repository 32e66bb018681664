"""Masks of both layers, a few hundred images at a time, so that memory does not grow with the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.boxes import NOWHERE, FloatArray, IntArray
from curate.checks.evaluation.load import OUTLINED, Source, places, stored_columns
from curate.checks.evaluation.objects import Objects
from curate.checks.evaluation.overlaps import mask_overlaps
from curate.checks.evaluation.segmentation import PixelCounter, PixelCounts
from curate.checks.labels import Labels
from curate.checks.mistakes.matching import Pairs
from curate.dataset.ids import from_ids, positions
from curate.dataset.query import in_layer, quote
from curate.geometry import polygons_to_rle, rle_areas, rle_boxes, valid_rles
from curate.models.passes import Progress
from curate.wording import counted

TOGETHER: Final = 500
"""Images whose masks are read at once."""

_COLUMNS: Final = ["annotation_id", "image_id", "type", "polygons", "rle", "rle_size"]


@dataclass(frozen=True)
class _Masks:
    """The masks of one layer on some images, in the order of images and of the store; n of them.

    Attributes:
        image: Place of each one's image; (n,).
        row: Row of each in the layer's annotations; (n,).
        area: As stated, else of the mask or polygons, square pixels; (n,).
        counts: COCO compressed run lengths.
    """

    image: IntArray
    row: IntArray
    area: FloatArray
    counts: list[str]


@dataclass
class _Reader:
    """Reads one layer; counts what it could not draw."""

    source: Source
    labels: Labels
    place: IntArray
    sizes: IntArray
    left_out: int = 0

    def __post_init__(self) -> None:
        self._ids = from_ids(self.labels.annotations["annotation_id"])
        self._images = from_ids(self.labels.images["image_id"])
        self._order, self.area = stored_columns(self.source.dataset, self.labels)

    def read(self, image_ids: pa.Array) -> _Masks:
        """The masks on these images."""
        listed = ", ".join(quote(image) for image in image_ids.to_pylist())
        condition = f"{in_layer(self.labels.layer)} AND image_id IN ({listed})"
        table = self.source.dataset.table("annotations", columns=_COLUMNS, where=condition)
        table = table.filter(pc.is_in(table["type"], pa.array(OUTLINED)))
        row = positions(from_ids(table["annotation_id"]), self._ids)
        kept = row != NOWHERE
        kept[kept] = self.labels.label[row[kept]] != NOWHERE
        table, row = table.filter(pa.array(kept)), row[kept]
        place = self.place[positions(from_ids(table["image_id"]), self._images)]
        order = np.lexsort((self._order[row], place))
        drawn = _outlines(table, self.sizes[place])
        fits = [k for k in order.tolist() if drawn[k] is not None]
        self.left_out += len(order) - len(fits)
        return _Masks(
            place[fits], row[fits], self.area[row[fits]], [text for k in fits if (text := drawn[k]) is not None]
        )

    def note(self, notes: list[str]) -> None:
        """Tell what was left out."""
        if self.left_out:
            notes.append(
                f"{counted(self.left_out, 'masks')} of {self.labels.layer} are broken, or of another size than their image, "
                "and are left out"
            )


def load_instances(
    source: Source, image_ids: pa.Array, notes: list[str], progress: Progress | None
) -> tuple[Objects, Objects, Pairs]:
    """Predicted and true objects with masks, and which of them overlap (`mask_overlaps`).

    Args:
        source: Both layers.
        image_ids: Of the images to look at.
        notes: What is left out is added here.
        progress: Told how many images are done.
    """
    ours: list[Objects] = []
    theirs: list[Objects] = []
    pairs: list[Pairs] = []
    offset = np.zeros(2, dtype=np.int64)
    sizes = _sizes(source, image_ids)
    for model, truth in _batches(source, image_ids, notes, progress):
        predicted, true = (
            _objects(labels, masks, sizes, true=labels is source.labels)
            for labels, masks in ((source.model, model), (source.labels, truth))
        )
        found = mask_overlaps(predicted, true, model.counts, truth.counts, sizes)
        pairs.append(Pairs(found.first + offset[0], found.second + offset[1], found.iou))
        ours.append(predicted)
        theirs.append(true)
        offset += (len(predicted), len(true))
    joined = Pairs(*(np.concatenate([getattr(part, name) for part in pairs]) for name in ("first", "second", "iou")))
    return _join(ours), _join(theirs), joined


def count_pixels(source: Source, image_ids: pa.Array, notes: list[str], progress: Progress | None) -> PixelCounts:
    """Count the pixels of every class in both layers; arguments as for `load_instances`."""
    counter = PixelCounter(len(source.labels.classes))
    sizes = _sizes(source, image_ids)
    unknown = int((sizes <= 0).any(axis=1).sum())
    if unknown:
        notes.append(f"{counted(unknown, 'images')} whose size is not known are left out")
    start = 0
    for model, truth in _batches(source, image_ids, notes, progress):
        for image in range(start, min(start + TOGETHER, len(image_ids))):
            if (sizes[image] > 0).all():
                counter.add(
                    image, sizes[image].tolist(), _on(source.labels, truth, image), _on(source.model, model, image)
                )
        start += TOGETHER
    return counter.counts()


def _batches(
    source: Source, image_ids: pa.Array, notes: list[str], progress: Progress | None
) -> Iterator[tuple[_Masks, _Masks]]:
    """Predicted and true masks of some images after the other."""
    place, sizes = places(source, image_ids), _sizes(source, image_ids)
    model, truth = (_Reader(source, labels, place, sizes) for labels in (source.model, source.labels))
    for start in range(0, len(image_ids), TOGETHER):
        chosen = image_ids.slice(start, TOGETHER)
        yield model.read(chosen), truth.read(chosen)
        if progress is not None:
            progress(start + len(chosen), len(image_ids))
    for reader in (model, truth):
        reader.note(notes)


def _sizes(source: Source, image_ids: pa.Array) -> IntArray:
    """[height, width] of the images, 0 where unknown; int64 of shape (n, 2)."""
    rows = pc.index_in(image_ids, source.labels.images["image_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    return np.nan_to_num(source.labels.sizes[rows.astype(np.int64), ::-1]).astype(np.int64)


def _outlines(table: pa.Table, sizes: IntArray) -> list[str | None]:
    """Run lengths of each of n annotations; None for those that are broken or of another size than their image."""
    rles, stated, polygons = (table[name].to_pylist() for name in ("rle", "rle_size", "polygons"))
    drawn: list[str | None] = [None] * len(rles)
    same = [row for row, rle in enumerate(rles) if rle is not None and stated[row] == sizes[row].tolist()]
    valid = valid_rles([rles[row] for row in same], sizes[same])
    for row, fine in zip(same, valid.tolist(), strict=True):
        drawn[row] = rles[row] if fine else None
    for row, parts in enumerate(polygons):
        if rles[row] is None and parts and (sizes[row] > 0).all():
            drawn[row] = polygons_to_rle(parts, *sizes[row].tolist())
    return drawn


def _objects(labels: Labels, masks: _Masks, sizes: IntArray, *, true: bool) -> Objects:
    """Masks as objects. A true one has the area that is stated, as COCO has it; a predicted one that of its pixels."""
    shapes, count = sizes[masks.image], len(masks.row)
    area = rle_areas(masks.counts, shapes)
    scores = labels.annotations["score"].take(pa.array(masks.row))
    return Objects(
        masks.image,
        labels.label[masks.row],
        rle_boxes(masks.counts, shapes) if count else np.zeros((0, 4)),
        np.where(np.isnan(masks.area), area, masks.area) if true else area,
        np.ones(count) if true else np.asarray(pc.fill_null(scores, 1.0).to_numpy(), dtype=np.float64),
        labels.crowd[masks.row] if true else np.zeros(count, dtype=np.bool_),
        masks.row,
    )


def _on(labels: Labels, masks: _Masks, image: int) -> list[tuple[int, str]]:
    """Class and run lengths of the masks on one image."""
    first, last = np.searchsorted(masks.image, [image, image + 1]).tolist()
    return [(int(labels.label[masks.row[k]]), masks.counts[k]) for k in range(first, last)]


def _join(parts: Sequence[Objects]) -> Objects:
    names = ("image", "label", "bbox", "area", "score", "crowd", "row")
    return Objects(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
