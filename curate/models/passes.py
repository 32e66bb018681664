"""A pass over a dataset's images, or over crops of what is annotated on them: one decoding for all that is computed of them.

A killed pass goes on where it stopped:

    plan      which rows have no columns yet, or those of other pixels (a fingerprint of file size, time and box tells)
    run       the columns of those, written in numbered parts to a spool folder, each part whole or not there
    collect   the parts of this and of interrupted runs, as one table

Committing that table to the store is the caller's part, and `PassResult.discard_spool` after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from curate.dataset.ids import mix, to_ids
from curate.engine.engines import current_engine
from curate.engine.local import DEFAULT_BATCH
from curate.engine.stage import Failure, Item
from curate.imaging import Pixels, crop
from curate.models.spool import Spool, discard

ITEMS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string()),  # null: the file was not found at import
        pa.field("bbox", pa.list_(pa.float64(), 4)),  # null: the whole image
    ]
)
"""What is to be computed on: one row each."""

_KEYS: Final = ("id", "fingerprint")

Progress = Callable[[int, int], None]
"""Told (rows done, rows to do)."""


class Computation(Protocol):
    """A stage whose columns are kept, by the row that they belong to."""

    name: str
    """Unique to the numbers it gives: what is spooled or stored under another name is computed again."""

    columns: pa.Schema
    """What `run` gives for each image or crop."""

    input_size: int | None
    """As for `curate.engine.stage.Stage`, which a computation is."""

    margin: float
    """The same."""

    def prepare(self, pixels: Pixels) -> Any:
        """One image or crop (uint8 of shape (height, width, 3)) to what `run` takes. Called from decoding threads."""

    def run(self, batch: Sequence[Any]) -> pa.RecordBatch:
        """The columns of n prepared images."""


@runtime_checkable
class CropComputation(Computation, Protocol):
    """A computation that cuts crops out by itself, or looks at the whole image that a box is on."""

    def prepare_crop(self, pixels: Pixels, box: Sequence[float]) -> Any:
        """A decoded image, and a box ([x, y, width, height] in its pixels), to what `run` takes."""


class Together:
    """Several computations as one, so that each image is decoded once for all of them.

    Each gives what it would give alone: of a crop, with its own margin. The columns of one that is not for crops, or for crops
    only, are null in the rows of the others.

    Args:
        computations: Their columns have different names.
        of_images: Which of them are for whole images; one each, None for all.
        of_crops: Which of them are for crops; the same.
    """

    def __init__(
        self,
        computations: Sequence[Computation],
        of_images: Sequence[bool] | None = None,
        of_crops: Sequence[bool] | None = None,
    ) -> None:
        self._computations = computations
        self._of_images = of_images or [True] * len(computations)
        self._of_crops = of_crops or [True] * len(computations)
        self.name = " ".join(each.name for each in computations)
        self.columns = pa.schema([column.with_nullable(True) for each in computations for column in each.columns])
        sizes = [each.input_size for each in computations]
        self.input_size = None if None in sizes else max(size for size in sizes if size is not None)
        # How large a crop is decoded follows from the smallest piece that one of them cuts out.
        self.margin = min((each.margin for each, wanted in self._each(self._of_crops) if wanted), default=0.0)

    def prepare(self, pixels: Pixels) -> tuple[Any, ...]:
        """What each makes of a whole image; None where it is not for those."""
        return tuple(each.prepare(pixels) if wanted else None for each, wanted in self._each(self._of_images))

    def prepare_crop(self, pixels: Pixels, box: Sequence[float]) -> tuple[Any, ...]:
        """What each makes of a box ([x, y, width, height] in pixels) on an image; None where it is not for crops."""
        return tuple(
            each.prepare(crop(pixels, box, margin=each.margin)) if wanted else None
            for each, wanted in self._each(self._of_crops)
        )

    def run(self, batch: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        """The columns of all of them, side by side."""
        parts = [_run_some(each, rows) for each, rows in zip(self._computations, zip(*batch, strict=True), strict=True)]
        return pa.RecordBatch.from_arrays([column for part in parts for column in part], schema=self.columns)

    def _each(self, wanted: Sequence[bool]) -> Iterator[tuple[Computation, bool]]:
        return zip(self._computations, wanted, strict=True)


def _run_some(computation: Computation, prepared: Sequence[Any]) -> list[pa.Array]:
    """The columns of n rows, null where nothing was prepared."""
    there = np.array([each is not None for each in prepared])
    if there.all():
        return list(computation.run(prepared).columns)
    if not there.any():
        return [pa.nulls(len(prepared), column.type) for column in computation.columns]
    place = pa.array(np.cumsum(there) - 1, mask=~there)
    found = computation.run([each for each in prepared if each is not None])
    return [column.take(place) for column in found.columns]


@dataclass(frozen=True)
class LeftOut:
    """A row of which nothing could be computed, and why."""

    id: str
    path: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path or self.id}: {self.reason}"


@dataclass(frozen=True)
class PassResult:
    """What `compute` did.

    Attributes:
        new: Rows to upsert by id: columns id, fingerprint, and those of the computation.
        unreadable: Rows whose image cannot be read.
        skipped: Crops of impossible boxes: no area, outside the image, not numbers.
        reused: Rows whose columns were already there.
        parts: The spool files that `new` came from.
    """

    new: pa.Table
    unreadable: list[LeftOut]
    skipped: list[LeftOut]
    reused: int
    parts: tuple[Path, ...]

    def discard_spool(self) -> None:
        """Delete the spool files, once `new` is committed."""
        discard(self.parts)


def image_items(images: pa.Table) -> pa.Table:
    """Items of whole images, from the columns image_id and path of a dataset's images."""
    boxes = pa.nulls(images.num_rows, ITEMS.field("bbox").type)
    return pa.table([images["image_id"], images["path"], boxes], schema=ITEMS)


def crop_items(annotations: pa.Table, images: pa.Table) -> pa.Table:
    """Items of annotation crops.

    Args:
        annotations: Columns annotation_id, image_id and bbox; rows without a box are left out.
        images: Columns image_id and path.
    """
    boxed = annotations.filter(pc.is_valid(annotations["bbox"]))
    paths = images["path"].take(pc.index_in(boxed["image_id"], value_set=images["image_id"].combine_chunks()))
    return pa.table([boxed["annotation_id"], paths, boxed["bbox"]], schema=ITEMS)


def compute(
    items: pa.Table,
    existing: pa.Table | None,
    computation: Computation,
    spool: Path,
    *,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress | None = None,
) -> PassResult:
    """Compute what is not there yet.

    Args:
        items: Columns of `ITEMS`; ids are unique.
        existing: Columns id and fingerprint of what this computation gave before, or None.
        computation: What makes the columns.
        spool: Folder for finished parts, made if it is not there. A run that is interrupted, or killed, leaves them; the
            next run of the same computation uses them.
        threads: Decoding threads; None for one per core.
        batch_size: Images per call of the computation.
        progress: Called after every batch.
    """
    finished = Spool(spool, stored_schema(computation), computation.name)
    items = items.select(ITEMS.names).combine_chunks()
    prints = fingerprints(items)
    stored = is_known(items["id"], prints, existing)
    spooled = is_known(items["id"], prints, finished.read(_KEYS))
    todo = np.flatnonzero(~stored & ~spooled)

    def keep(rows: npt.NDArray[np.int64], columns: pa.RecordBatch) -> None:
        chosen = pa.array(rows)
        finished.add([items["id"].take(chosen).combine_chunks(), prints.take(chosen), *columns.columns])

    with closing(finished):
        unreadable, skipped = run(
            items, todo, computation, keep, threads=threads, batch_size=batch_size, progress=progress
        )
    return PassResult(
        new=collect(finished.read(), items["id"], prints, ~stored),
        unreadable=unreadable,
        skipped=skipped,
        reused=int(stored.sum()),
        parts=finished.parts(),
    )


def fingerprints(items: pa.Table) -> pa.StringArray:
    """A text per row that changes when the pixels behind it do: file size, time of change, box. Null: no such file."""
    paths = items["path"].combine_chunks().dictionary_encode()
    count = len(paths.dictionary)
    sizes, times = np.zeros((2, count + 1), np.uint64)  # the last stands for null
    there = np.zeros(count + 1, bool)
    for number, path in enumerate(paths.dictionary):
        with contextlib.suppress(OSError, ValueError):
            status = Path(path.as_py()).stat()
            sizes[number], times[number], there[number] = status.st_size, status.st_mtime_ns, True
    codes = pc.fill_null(paths.indices, count).to_numpy()
    boxes = item_boxes(items).view(np.uint64)
    hashes = mix(sizes[codes], times[codes], *boxes.T)
    return pc.if_else(pa.array(there[codes]), to_ids(hashes), pa.scalar(None, pa.string()))


def is_known(ids: pa.ChunkedArray, prints: pa.StringArray, known: pa.Table | None) -> npt.NDArray[np.bool_]:
    """Which rows `known` (columns id, fingerprint) holds with the same fingerprint; bool array of shape (n,)."""
    if known is None or known.num_rows == 0:
        return np.zeros(len(ids), bool)
    last = known.select(_KEYS).filter(pa.array(is_last(known["id"])))
    at = pc.index_in(ids, value_set=last["id"].combine_chunks())
    same = pc.equal(last["fingerprint"].take(at), prints)
    return np.asarray(pc.fill_null(same, False).to_numpy(zero_copy_only=False), dtype=bool)


def is_last(ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which rows have no later one with the same id; bool array of shape (n,). What was computed again stands later."""
    rows = pa.table({"id": ids, "row": pa.array(np.arange(len(ids)))})
    last = np.zeros(len(ids), bool)
    last[rows.group_by("id").aggregate([("row", "max")])["row_max"].to_numpy()] = True
    return last


def run(
    items: pa.Table,
    todo: npt.NDArray[np.int64],
    computation: Computation,
    keep: Callable[[npt.NDArray[np.int64], pa.RecordBatch], None],
    *,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress | None = None,
) -> tuple[list[LeftOut], list[LeftOut]]:
    """Compute the rows `todo` (numbers into `items`), and hand them over batch by batch.

    Args:
        items: Columns of `ITEMS`.
        todo: Row numbers, shape (n,).
        computation: What makes the columns.
        keep: Called with row numbers and the columns of those rows.
        threads: As for `compute`.
        batch_size: The same.
        progress: The same.

    Returns:
        The rows whose image cannot be read, and the crops whose box is impossible.
    """
    groups = _group(items, todo)
    unreadable: list[LeftOut] = []
    skipped: list[LeftOut] = []
    done = 0

    def leave_out(failure: Failure) -> None:
        nonlocal done
        rows = groups[failure.item]
        rows = rows if failure.box is None else rows[failure.box : failure.box + 1]
        for row in rows.tolist():
            what = LeftOut(items["id"][row].as_py(), items["path"][row].as_py(), failure.error.what)
            (unreadable if failure.box is None else skipped).append(what)
        done += len(rows)

    batches = current_engine().run(
        computation,
        _to_items(items, groups),
        threads=threads,
        batch_size=batch_size,
        on_error=leave_out,
        prepare_crop=computation.prepare_crop if isinstance(computation, CropComputation) else None,
    )
    # Decoding threads work side by side already; BLAS threads under each of them would only get in each other's way.
    with threadpool_limits(1, user_api="blas"), closing(batches):
        for batch in batches:
            rows = groups.rows[groups.starts[batch.item] + batch.box]
            keep(rows, batch.columns)
            done += len(rows)
            if progress is not None:
                progress(done, len(todo))
    if progress is not None:
        progress(done, len(todo))
    return unreadable, skipped


def collect(spooled: pa.Table, ids: pa.ChunkedArray, prints: pa.StringArray, wanted: npt.NDArray[np.bool_]) -> pa.Table:
    """The spooled rows whose id and fingerprint are those of a wanted row, each id once, in the order of `ids`."""
    rows = pa.array(np.arange(spooled.num_rows))
    keys = pc.binary_join_element_wise(spooled["id"], spooled["fingerprint"], "/")
    latest = pa.table({"key": keys, "row": rows}).group_by("key").aggregate([("row", "max")])
    asked = pc.binary_join_element_wise(ids, prints, "/").filter(pa.array(wanted))
    return spooled.take(
        latest["row_max"].take(pc.index_in(asked, value_set=latest["key"].combine_chunks()).drop_null())
    )


def stored_schema(computation: Computation) -> pa.Schema:
    """The columns of a table that holds what a computation gives."""
    keys = [pa.field("id", pa.string(), nullable=False), pa.field("fingerprint", pa.string(), nullable=False)]
    return pa.schema([*keys, *computation.columns])


@dataclass(frozen=True)
class _Groups:
    """Row numbers, those of one file together.

    Attributes:
        rows: int64 array of shape (n,).
        starts: Where each file begins in `rows`, and after them where the last ends; int64 array of shape (files + 1,).
    """

    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    def __getitem__(self, file: int) -> npt.NDArray[np.int64]:
        """The rows of one file."""
        return self.rows[self.starts[file] : self.starts[file + 1]]


def _group(items: pa.Table, todo: npt.NDArray[np.int64]) -> _Groups:
    """Row numbers per decoding: everything wanted of one file together; in order of first appearance."""
    # Rows without a file come under one path of their own, and are reported row by row.
    paths = pc.fill_null(items["path"].take(pa.array(todo)), "").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, codes = np.unique(paths, return_index=True, return_inverse=True)
    order = np.argsort(first[codes], kind="stable")
    return _Groups(todo[order], np.flatnonzero(np.diff(first[codes][order], prepend=-1, append=len(todo))))


def _to_items(items: pa.Table, groups: _Groups) -> Iterator[Item]:
    boxes = item_boxes(items)
    whole = pc.is_null(items["bbox"]).to_numpy()
    for file in range(len(groups.starts) - 1):
        rows = groups[file]
        path = items["path"][int(rows[0])].as_py() or ""
        yield Item(path, [None if whole[row] else boxes[row].tolist() for row in rows])


def item_boxes(items: pa.Table) -> npt.NDArray[np.float64]:
    """Boxes as an array of shape (n, 4); zeros for whole images."""
    column = items["bbox"].combine_chunks()
    boxes = np.zeros((len(column), 4))
    given = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    boxes[given] = np.asarray(column.drop_null().flatten().to_numpy(zero_copy_only=False)).reshape(-1, 4)
    return boxes
