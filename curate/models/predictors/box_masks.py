"""Boxes of one layer turned into masks of another, by a model that takes boxes (SAM 2; Ravi et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import from_ids, mix, to_ids
from curate.dataset.query import in_layer
from curate.dataset.store import Transaction
from curate.errors import UsageError
from curate.formats.columns import offsets
from curate.models.passes import Progress, crop_items, fingerprints, is_known
from curate.models.predictors.base import BoxSegmenter
from curate.models.predictors.class_names import ClassMapping, match_classes
from curate.models.predictors.layer_store import (
    Author,
    Images,
    IntArray,
    LayerUpdate,
    Piece,
    choose_images,
    class_names,
    discard_spool,
    layer_name,
    open_spool,
    require_readable,
    seen_by,
    settings_text,
    spooled_pieces,
    spooled_rows,
    write_layer,
)
from curate.models.predictors.predict_pass import SegmenterPass, spool_pass
from curate.models.predictors.seen import seen_table
from curate.names import GROUND_TRUTH, PREDICTIONS


def segment_boxes(
    transaction: Transaction,
    segmenter: BoxSegmenter,
    *,
    boxes: str,
    layer: str,
    where: str | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> LayerUpdate:
    """Make a mask for each box of a layer, on the images whose file or boxes are new or changed.

    A mask has the class of its box; its score is the model's own estimate of its IoU. Where the model finds nothing in a box,
    the box stays one.

    Args:
        transaction: The commit being made.
        segmenter: What makes masks.
        boxes: The layer that has the boxes.
        layer: 'predictions/NAME', where the masks go.
        where: SQL condition on the images; None for all.
        batch_size: Boxes for each call; None for as many as fit well into memory.
        progress: Told (boxes done, boxes to do).

    Raises:
        UsageError: The condition cannot be understood or chooses no image, or the layer has no boxes there.
        InputError: Not one image can be read.
    """
    layer = layer_name(layer)
    images = choose_images(transaction, where)
    annotations = _boxed(transaction, boxes, images)
    items = crop_items(annotations, images.table.select(["image_id", "path"]))
    prints = fingerprints(items)
    place = np.asarray(pc.index_in(annotations["image_id"], value_set=images.ids), dtype=np.int64)
    images = replace(images, prints=_with_boxes(images, prints, place))
    mapping = _classes_of(transaction, annotations)
    author = Author(segmenter.name, settings_text(None, None, boxes=boxes))
    spool = open_spool(transaction, layer, author, [])
    stored = is_known(images.table["image_id"], images.prints, seen_by(transaction, layer, author))
    computation = SegmenterPass(segmenter)
    todo = np.flatnonzero(~stored[place] & ~is_known(items["id"], prints, spool.read(["id", "fingerprint"])))
    with closing(spool):
        unreadable, skipped = spool_pass(
            computation, spool, items, prints, todo, batch_size=batch_size, progress=progress
        )
    left_out = list({each.path: each for each in unreadable}.values())
    require_readable(left_out, len(np.unique(place)))
    wanted = spooled_rows(spool, items["id"], prints, stored[place])
    unread = ~np.asarray(images.prints.is_valid())
    unread[place[np.asarray(pc.is_in(items["id"], pa.array([each.id for each in unreadable], pa.string())))]] = True

    def pieces() -> Iterator[Piece]:
        for piece in spooled_pieces(spool, wanted):
            rows = np.asarray(pc.index_in(piece["id"], value_set=items["id"].combine_chunks()), dtype=np.int64)
            labelled = _labelled(piece, annotations["label"].take(pa.array(rows)), mapping)
            yield Piece(place[rows], labelled, from_ids(piece["id"]))

    update = write_layer(transaction, layer, author, images, np.flatnonzero(~stored & ~unread), mapping, pieces)
    discard_spool(transaction, spool, items["id"])
    return replace(update, reused=int(stored.sum()), left_out=left_out, skipped=skipped, refused=computation.refused)


def layer_of_boxes(transaction: Transaction, text: str) -> str:
    """The layer that a person means by a name: one of predictions goes by its short one too.

    Raises:
        UsageError: There is no such layer.
    """
    known = set(pc.unique(transaction.read("annotations", columns=["layer"])["layer"]).to_pylist()) | {GROUND_TRUTH}
    if text in known:
        return text
    layer = text if text.startswith(PREDICTIONS) else PREDICTIONS + text
    if layer in known or transaction.has(seen_table(layer)):
        return layer
    raise UsageError(f"there is no layer '{text}'", where="--boxes-from", remedy=f"layers: {', '.join(sorted(known))}")


def _boxed(transaction: Transaction, layer: str, images: Images) -> pa.Table:
    """The annotations with boxes that a layer has on some images: annotation_id, image_id, bbox and label.

    Raises:
        UsageError: There are none.
    """
    columns = ["annotation_id", "image_id", "bbox", "label"]
    rows = transaction.read("annotations", columns=columns, where=f"{in_layer(layer)} AND bbox IS NOT NULL")
    rows = rows.filter(pc.is_in(rows["image_id"], value_set=images.ids)).combine_chunks()
    if rows.num_rows == 0:
        raise UsageError(
            f"the layer '{layer}' has no boxes on these images",
            where="--boxes-from",
            remedy="name a layer that has some, or loosen --where",
        )
    return rows


def _with_boxes(images: Images, prints: pa.StringArray, place: IntArray) -> pa.StringArray:
    """Fingerprints of images that change with any of the boxes on them too; null for a file that is not there."""
    total = np.zeros(images.table.num_rows, dtype=np.uint64)
    there = np.asarray(prints.is_valid())
    np.add.at(total, place[there], from_ids(prints.filter(pa.array(there))))
    known = np.asarray(images.prints.is_valid())
    total[known] = mix(from_ids(images.prints.drop_null()), total[known])
    return pc.if_else(pa.array(known), to_ids(total), pa.scalar(None, pa.string()))


def _classes_of(transaction: Transaction, annotations: pa.Table) -> ClassMapping:
    """The dataset's classes, and any name behind them that a box has and the dataset does not list."""
    names = class_names(transaction)
    given = [name for name in pc.unique(annotations["label"]).to_pylist() if name is not None]
    return match_classes([*names, *(name for name in given if name not in names)] or [""], names, keep_unmapped=True)


def _labelled(piece: pa.Table, labels: pa.ChunkedArray, mapping: ClassMapping) -> pa.Table:
    """Results of one object each, or none, with the class of the box that each is of."""
    objects = piece["objects"].combine_chunks()
    inner = objects.flatten()
    number = pc.index_in(labels, value_set=pa.array(mapping.names, pa.string())).combine_chunks()
    own = number.take(pc.list_parent_indices(objects))
    fields = [own if field.name == "label" else inner.field(field.name) for field in inner.type]
    struct = pa.StructArray.from_arrays(fields, fields=list(inner.type))
    column = pa.ListArray.from_arrays(offsets(np.asarray(pc.list_value_length(objects))), struct)
    return piece.set_column(piece.column_names.index("objects"), "objects", column)
