"""The depths of a dataset's annotated objects, by annotation id: kept in the dataset, brought up to date, read.

A table for each model, `measures/depth-MODEL`. A row is out of date when the object's box or mask is another one, or its image
has another map; its fingerprint tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.depth.statistics import COLUMNS, ObjectDepths, object_depths
from curate.dataset import Transaction
from curate.dataset.ids import Hashes, hash_texts, mix, to_ids
from curate.dataset.query import in_layer
from curate.errors import InputError
from curate.geometry import polygons_to_rle, valid_rles
from curate.models.depth.maps import DEPTH, DepthMaps, depth_table
from curate.models.passes import LeftOut, Progress, is_known

IntArray = npt.NDArray[np.int64]
Mask = tuple[str, list[int]]

_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in COLUMNS),
    ]
)
_READ: Final = ["annotation_id", "image_id", "type", "bbox", "polygons", "rle", "rle_size"]
_OUTLINED: Final = ("mask", "polygon", "keypoints")
"""Types of annotations whose polygons, where there are any, are outlines."""


@dataclass(frozen=True)
class Measured:
    """What `update_depths` did.

    Attributes:
        new: How many objects were measured.
        left_out: Images whose map cannot be read, and why.
        sizeless: How many images have a map, and no size that is known: where their boxes are on it cannot be told.
    """

    new: int
    left_out: list[LeftOut]
    sizeless: int


def measures_table(model: str) -> str:
    """Name of the table of the depths that objects have on a model's maps."""
    return f"measures/depth-{depth_table(model).removeprefix(DEPTH)}"


def update_depths(
    transaction: Transaction, maps: DepthMaps, layer: str, images: pa.Table, progress: Progress | None = None
) -> Measured:
    """Measure the objects of a layer that are not measured yet, or were other ones.

    Args:
        transaction: The commit being made.
        maps: What depths are read off.
        layer: Whose objects.
        images: Columns image_id, path, width and height of the images to look at.
        progress: Told (objects done, objects in the layer).
    """
    table = measures_table(maps.model)
    known = transaction.read(table, columns=["id", "fingerprint"]) if transaction.has(table) else None
    sized = pc.fill_null(pc.and_(pc.greater(images["width"], 0), pc.greater(images["height"], 0)), False)
    there = pc.is_in(images["image_id"], maps.table["id"].combine_chunks())
    sizeless = int(pc.sum(pc.and_(there, pc.invert(sized))).as_py() or 0)
    images = images.filter(sized)
    pieces: list[pa.Table] = []
    left_out: dict[str, LeftOut] = {}
    total, done = transaction.base.count("annotations", where=in_layer(layer)), 0
    for batch in transaction.base.scan("annotations", columns=_READ, where=in_layer(layer)):
        rows = _lacking(pa.Table.from_batches([batch]), maps, images, known)
        pieces += _measure(rows, maps, images, left_out)
        done += batch.num_rows
        if progress is not None:
            progress(done, total)
    new = pa.concat_tables(pieces).combine_chunks() if pieces else _SCHEMA.empty_table()
    if new.num_rows:
        transaction.upsert(table, new, "id")
        transaction.count("objects measured in depth", new.num_rows)
    return Measured(new.num_rows, list(left_out.values()), sizeless)


def read_depths(transaction: Transaction, maps: DepthMaps, ids: pa.ChunkedArray) -> ObjectDepths:
    """The depths of n annotations, as the transaction has them so far; NaN of those that are not measured."""
    table = measures_table(maps.model)
    rows = transaction.read(table) if transaction.has(table) else _SCHEMA.empty_table()
    place = pc.index_in(ids, value_set=rows["id"].combine_chunks())
    chosen = {name: pc.fill_null(rows[name].take(place), np.nan) for name in COLUMNS}
    return ObjectDepths(**{name: values.to_numpy().astype(np.float64) for name, values in chosen.items()})


def _lacking(rows: pa.Table, maps: DepthMaps, images: pa.Table, known: pa.Table | None) -> pa.Table:
    """The rows with a box, on an image with a map and a size, that are not known as they are; with what tells that.

    Columns `map` (row in `maps`), `image` (row in `images`) and `fingerprint` are added.
    """
    rows = rows.append_column("map", pc.index_in(rows["image_id"], value_set=maps.table["id"].combine_chunks()))
    rows = rows.append_column("image", pc.index_in(rows["image_id"], value_set=images["image_id"].combine_chunks()))
    valid = [pc.is_valid(rows[name]) for name in ("bbox", "map", "image")]
    rows = rows.filter(pc.and_(pc.and_(valid[0], valid[1]), valid[2])).combine_chunks()
    files = hash_texts(maps.table["file"].take(rows["map"]).to_pylist())
    boxes = _boxes(rows).view(np.uint64)
    prints = to_ids(mix(files, *boxes.T, _outline_hashes(rows)))
    rows = rows.append_column("fingerprint", prints)
    return rows.filter(pa.array(~is_known(rows["annotation_id"], prints, known), pa.bool_())).combine_chunks()


def _measure(rows: pa.Table, maps: DepthMaps, images: pa.Table, left_out: dict[str, LeftOut]) -> Iterator[pa.Table]:
    """The depths of some objects, image by image; maps are read ahead."""
    number = rows["map"].to_numpy().astype(np.int64)
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    groups = np.split(order, starts[1:]) if len(starts) else []
    boxes, polygons = _boxes(rows), pc.is_in(rows["type"], value_set=pa.array(_OUTLINED))
    with ThreadPoolExecutor(2) as pool:
        for group, depth in zip(groups, pool.map(lambda each: _map(maps, number[each[0]]), groups), strict=True):
            image = rows["image"][int(group[0])].as_py()
            if isinstance(depth, InputError):
                image_id = images["image_id"][image].as_py()
                left_out[image_id] = LeftOut(image_id, str(depth.where), depth.what)
                continue
            size = [images["height"][image].as_py(), images["width"][image].as_py()]
            own = rows.take(pa.array(group))
            found = object_depths(depth, boxes[group], size, _masks(own, size, polygons.take(pa.array(group))))
            yield _to_table(own, found)


def _to_table(rows: pa.Table, found: ObjectDepths) -> pa.Table:
    columns: list[Any] = [rows["annotation_id"], rows["fingerprint"]]
    columns += [pa.array(getattr(found, name).astype(np.float32)) for name in COLUMNS]
    return pa.table(columns, schema=_SCHEMA)


def _map(maps: DepthMaps, row: int) -> npt.NDArray[np.float32] | InputError:
    try:
        return maps.read(int(row))
    except InputError as error:
        return error


def _masks(rows: pa.Table, size: list[int], outlined: pa.ChunkedArray) -> list[Mask | None]:
    """Outlines of n objects on one image; None of those that have none, or a broken one."""
    masks: list[Mask | None] = [None] * rows.num_rows
    columns = (rows[name].to_pylist() for name in ("rle", "rle_size", "polygons"))
    for row, (rle, stated, polygons) in enumerate(zip(*columns, strict=True)):
        if rle is not None and stated is not None:
            masks[row] = (rle, stated) if valid_rles([rle], [stated])[0] else None
        elif polygons and outlined[row].as_py() and all(np.isfinite(part).all() for part in polygons):
            masks[row] = (polygons_to_rle(polygons, *size), size)
    return masks


def _boxes(rows: pa.Table) -> npt.NDArray[np.float64]:
    flat = rows["bbox"].combine_chunks().flatten()
    return np.ascontiguousarray(flat.to_numpy(zero_copy_only=False).reshape(-1, 4), dtype=np.float64)


def _outline_hashes(rows: pa.Table) -> Hashes:
    """What tells the outlines of n objects apart; shape (n,)."""
    rles = hash_texts(pc.fill_null(rows["rle"], "").to_pylist())
    column = pc.fill_null(rows["polygons"].combine_chunks(), pa.scalar([], rows.schema.field("polygons").type))
    parts = column.flatten()
    points = np.ascontiguousarray(parts.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).tobytes()
    ends = [np.append(0, np.cumsum(pc.list_value_length(each).to_numpy())) for each in (column, parts)]
    places = (8 * ends[1][ends[0]]).astype(np.int64).tolist()
    digests = [hashlib.blake2b(points[first:last], digest_size=8).digest() for first, last in pairwise(places)]
    return mix(rles, np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64))
