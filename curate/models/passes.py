"""A pass over a dataset's images, or over crops of what is annotated on them: one decoding for all that is computed of them.

A killed pass goes on where it stopped:

    plan      which rows have no columns yet, or those of other pixels (a fingerprint of file size, time and box tells)
    run       the columns of those, written in numbered parts to a spool folder, each part whole or not there
    collect   the parts of this and of interrupted runs, as one table

Committing that table to the store is the caller's part, and `PassResult.discard_spool` after it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from curate.dataset.ids import mix, to_ids
from curate.engine.local import DEFAULT_BATCH, run_local
from curate.engine.stage import Failure, Item
from curate.files import write_atomic
from curate.imaging import Pixels

ITEMS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string()),  # null: the file was not found at import
        pa.field("bbox", pa.list_(pa.float64(), 4)),  # null: the whole image
    ]
)
"""What is to be computed on: one row each."""

_PART_ROWS: Final = 2048
_PART_SECONDS: Final = 20.0
_NAME_KEY: Final = b"computation"

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


class Together:
    """Several computations as one, so that each image is decoded once for all of them.

    Args:
        computations: Their columns have different names.
    """

    def __init__(self, computations: Sequence[Computation]) -> None:
        self._computations = computations
        self.name = " ".join(each.name for each in computations)
        self.columns = pa.schema([column for each in computations for column in each.columns])
        sizes = [each.input_size for each in computations]
        self.input_size = None if None in sizes else max(size for size in sizes if size is not None)
        self.margin = max(each.margin for each in computations)

    def prepare(self, pixels: Pixels) -> tuple[Any, ...]:
        return tuple(each.prepare(pixels) for each in self._computations)

    def run(self, batch: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        parts = [each.run(rows) for each, rows in zip(self._computations, zip(*batch, strict=True), strict=True)]
        return pa.RecordBatch.from_arrays([column for part in parts for column in part.columns], schema=self.columns)


@dataclass(frozen=True)
class LeftOut:
    """A row of which nothing could be computed, and why."""

    id: str
    path: str | None
    reason: str


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
        for path in self.parts:
            with contextlib.suppress(OSError):  # what stays is seen to be in the store next time
                path.unlink()


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
    spool.mkdir(parents=True, exist_ok=True)
    items = items.select(ITEMS.names).combine_chunks()
    prints = fingerprints(items)
    stored = is_known(items["id"], prints, existing)
    spooled = is_known(items["id"], prints, _read_parts(_parts(spool), computation))
    todo = np.flatnonzero(~stored & ~spooled)
    unreadable, skipped = run(
        items, prints, todo, computation, spool, threads=threads, batch_size=batch_size, progress=progress
    )
    parts = _parts(spool)
    return PassResult(
        new=collect(_read_parts(parts, computation), items["id"], prints, ~stored),
        unreadable=unreadable,
        skipped=skipped,
        reused=int(stored.sum()),
        parts=parts,
    )


def fingerprints(items: pa.Table) -> pa.StringArray:
    """A text per row that changes when the pixels behind it do: file size, time of change, box. Null: no such file."""
    paths = items["path"].combine_chunks().dictionary_encode()
    count = len(paths.dictionary)
    sizes, times = np.zeros((2, count + 1), np.uint64)  # the last stands for null
    there = np.zeros(count + 1, bool)
    for number, path in enumerate(paths.dictionary.to_pylist()):
        with contextlib.suppress(OSError, ValueError):
            status = Path(path).stat()
            sizes[number], times[number], there[number] = status.st_size, status.st_mtime_ns, True
    codes = pc.fill_null(paths.indices, count).to_numpy()
    boxes = _boxes(items).view(np.uint64)
    hashes = mix(sizes[codes], times[codes], *boxes.T)
    return pc.if_else(pa.array(there[codes]), to_ids(hashes), pa.scalar(None, pa.string()))


def is_known(ids: pa.ChunkedArray, prints: pa.StringArray, known: pa.Table | None) -> npt.NDArray[np.bool_]:
    """Which rows `known` (columns id, fingerprint) holds with the same fingerprint; bool array of shape (n,)."""
    if known is None or known.num_rows == 0:
        return np.zeros(len(ids), bool)
    # A row that was computed again stands later in the spool: look only at the last of each id.
    last = known.select(["id", "fingerprint"]).append_column("row", pa.array(np.arange(known.num_rows)))
    last = known.take(last.group_by("id").aggregate([("row", "max")])["row_max"])
    at = pc.index_in(ids, value_set=last["id"].combine_chunks())
    same = pc.equal(last["fingerprint"].take(at), prints)
    return np.asarray(pc.fill_null(same, False).to_numpy(zero_copy_only=False), dtype=bool)


def run(
    items: pa.Table,
    prints: pa.StringArray,
    todo: npt.NDArray[np.int64],
    computation: Computation,
    spool: Path,
    *,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress | None = None,
) -> tuple[list[LeftOut], list[LeftOut]]:
    """Compute the rows `todo` (numbers into `items`) into parts of the spool.

    Returns:
        The rows whose image cannot be read, and the crops whose box is impossible.
    """
    groups = _group(items, todo)
    unreadable: list[LeftOut] = []
    skipped: list[LeftOut] = []
    done = 0

    def leave_out(failure: Failure) -> None:
        nonlocal done
        rows = groups[failure.item] if failure.box is None else groups[failure.item][failure.box : failure.box + 1]
        for row in rows:
            what = LeftOut(items["id"][row].as_py(), items["path"][row].as_py(), failure.error.what)
            (unreadable if failure.box is None else skipped).append(what)
        done += len(rows)

    spooler = _Spooler(spool, computation)
    batches = run_local(
        computation, _to_items(items, groups), threads=threads, batch_size=batch_size, on_error=leave_out
    )
    # Decoding threads work side by side already; BLAS threads under each of them would only get in each other's way.
    with threadpool_limits(1, user_api="blas"), closing(batches), closing(spooler):
        for batch in batches:
            rows = pa.array([groups[item][box] for item, box in zip(batch.item, batch.box, strict=True)], pa.int64())
            spooler.add(items["id"].take(rows), prints.take(rows), batch.columns)
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


class _Spooler:
    """Gathers rows and writes them as numbered parts, each complete or not there. Closing writes what is left."""

    def __init__(self, spool: Path, computation: Computation) -> None:
        self._spool = spool
        self._schema = _part_schema(computation)
        self._rows: list[pa.RecordBatch] = []
        self._number = max((_part_number(path) for path in _parts(spool)), default=0)
        self._last = time.monotonic()

    def add(self, ids: pa.ChunkedArray, prints: pa.StringArray, columns: pa.RecordBatch) -> None:
        self._rows.append(pa.record_batch([ids.combine_chunks(), prints, *columns.columns], schema=self._schema))
        if sum(map(len, self._rows)) >= _PART_ROWS or time.monotonic() - self._last > _PART_SECONDS:
            self.close()

    def close(self) -> None:
        if self._rows:
            self._number += 1
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, self._schema) as writer:
                for rows in self._rows:
                    writer.write_batch(rows)
            write_atomic(self._spool / f"part-{self._number:06d}.arrow", sink.getvalue())
            self._rows = []
        self._last = time.monotonic()


def stored_schema(computation: Computation) -> pa.Schema:
    """The columns of a table that holds what a computation gives."""
    keys = [pa.field("id", pa.string(), nullable=False), pa.field("fingerprint", pa.string(), nullable=False)]
    return pa.schema([*keys, *computation.columns])


def _part_schema(computation: Computation) -> pa.Schema:
    return stored_schema(computation).with_metadata({_NAME_KEY: computation.name.encode()})


def _parts(spool: Path) -> tuple[Path, ...]:
    return tuple(sorted(spool.glob("part-*.arrow")))


def _part_number(path: Path) -> int:
    digits = path.stem.removeprefix("part-")
    return int(digits) if digits.isdecimal() else 0


def _read_parts(parts: Sequence[Path], computation: Computation) -> pa.Table:
    """The parts that this computation wrote, one after another; mapped, not read into memory."""
    schema = _part_schema(computation)
    tables = []
    for path in parts:
        with contextlib.suppress(OSError, pa.ArrowInvalid), pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
            if table.schema.equals(schema, check_metadata=True):
                tables.append(table)
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _group(items: pa.Table, todo: npt.NDArray[np.int64]) -> list[list[int]]:
    """Row numbers per decoding: everything wanted of one file together; in order of first appearance."""
    if not len(todo):
        return []
    # Rows without a file come under one path of their own, and are reported row by row.
    paths = pc.fill_null(items["path"].take(pa.array(todo)), "").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, codes = np.unique(paths, return_index=True, return_inverse=True)
    order = np.argsort(first[codes], kind="stable")
    ends = np.flatnonzero(np.diff(first[codes][order])) + 1
    return [rows.tolist() for rows in np.split(todo[order], ends)]


def _to_items(items: pa.Table, groups: Sequence[Sequence[int]]) -> Iterator[Item]:
    boxes = _boxes(items)
    whole = pc.is_null(items["bbox"]).to_numpy()
    for rows in groups:
        path = items["path"][rows[0]].as_py() or ""
        yield Item(path, [None if whole[row] else boxes[row].tolist() for row in rows])


def _boxes(items: pa.Table) -> npt.NDArray[np.float64]:
    """Boxes as an array of shape (n, 4); zeros for whole images."""
    column = items["bbox"].combine_chunks()
    boxes = np.zeros((len(column), 4))
    given = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    boxes[given] = np.asarray(column.drop_null().flatten().to_numpy(zero_copy_only=False)).reshape(-1, 4)
    return boxes
