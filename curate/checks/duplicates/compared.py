"""Pairs of a dataset's images as they compare, kept in it: no pair is compared twice, not even after a run that was killed."""

from __future__ import annotations

import contextlib
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.duplicates.features import FeatureStore
from curate.checks.duplicates.find import COLUMNS, Table, to_table
from curate.checks.duplicates.verify import compare
from curate.dataset import Transaction
from curate.dataset.ids import from_ids, mix, to_ids
from curate.errors import UsageError
from curate.models.passes import Progress, fingerprints, image_items
from curate.models.spool import Spool, discard

IntArray = npt.NDArray[np.int64]

COMPARED: Final = "pairs/1"
"""Table of the pairs that were compared."""

COMPARED_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the two image ids, in their order
        pa.field("fingerprint", pa.string(), nullable=False),  # of the two files
        pa.field("numbers", pa.list_(pa.float32(), len(COLUMNS)), nullable=False),
        pa.field("matrix", pa.list_(pa.float32(), 6), nullable=False),
    ]
)
_BLOCK: Final = 128


class Comparer:
    """Compares pairs of images, unless it was done before. Close it, or what was compared last does not outlive a fault.

    Only images of pairs that were not compared before are read, each once.

    Args:
        transaction: The commit being made.
        images: n rows, columns image_id and path.
        progress: Told (pairs done, pairs to do).
    """

    def __init__(self, transaction: Transaction, images: pa.Table, progress: Progress | None) -> None:
        folder = transaction.base.path / "spool" / COMPARED.replace("/", "_")
        self._transaction = transaction
        self._ids = from_ids(images["image_id"])
        self._prints = from_ids(pc.fill_null(fingerprints(image_items(images)), "0" * 16))
        self._paths: list[str | None] = images["path"].to_pylist()
        self._progress = progress
        self._spool = Spool(folder, COMPARED_SCHEMA, COMPARED)
        self._features = folder / "features"
        folder.mkdir(parents=True, exist_ok=True)
        self._store = FeatureStore(self._features, images.num_rows)
        stored, spooled = _read_stored(transaction), self._spool.read().replace_schema_metadata(None)
        left = spooled.filter(pc.invert(pc.is_in(_keys(spooled), value_set=_keys(stored))))
        self._known = pa.concat_tables([stored, left])
        self._known_keys = _keys(self._known)
        self._new = [left]

    def __call__(self, pairs: IntArray) -> Table:
        """How pairs of rows compare, shape (m, 2); those of which an image cannot be read are left out."""
        ids = to_ids(mix(self._ids[pairs[:, 0]], self._ids[pairs[:, 1]]))
        prints = to_ids(mix(self._prints[pairs[:, 0]], self._prints[pairs[:, 1]]))
        at = pc.index_in(pc.binary_join_element_wise(ids, prints, "/"), value_set=self._known_keys)
        done = np.asarray(at.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        tables = [_from_rows(pairs[done], self._known.take(at.drop_null()))]
        new = np.flatnonzero(~done)
        for start in range(0, len(new), _BLOCK):
            rows = new[start : start + _BLOCK]
            self._store.fill(np.unique(pairs[rows]), self._paths)
            rows = rows[self._store.there[pairs[rows]].all(axis=1)]
            found = to_table(pairs[rows], [compare(self._store[a], self._store[b]) for a, b in pairs[rows].tolist()])
            self._keep(_to_rows(ids.take(pa.array(rows)), prints.take(pa.array(rows)), found))
            tables.append(found)
            if self._progress is not None:
                self._progress(min(start + _BLOCK, len(new)), len(new))
        return Table(*(np.concatenate([getattr(each, k) for each in tables]) for k in ("pairs", "numbers", "matrix")))

    def small(self, row: int) -> npt.NDArray[np.uint8]:
        """An image's small grey picture."""
        self._store.fill(np.array([row]), self._paths)
        return self._store[row].small

    def store(self) -> None:
        """Put what was compared now, and by a run that was killed, into the dataset."""
        self._spool.close()
        rows = pa.concat_tables(self._new)
        # An image that changed after the run that was killed has been compared again since.
        numbered = rows.select(["id"]).append_column("row", pa.array(np.arange(rows.num_rows)))
        rows = rows.take(numbered.group_by("id").aggregate([("row", "max")])["row_max"])
        if rows.num_rows:
            parts = self._spool.parts()
            self._transaction.upsert(COMPARED, rows, "id")
            self._transaction.count("pairs compared", rows.num_rows)
            self._transaction.after_commit(lambda: discard(parts))

    def close(self) -> None:
        """Write what is not on disk yet, and delete the features."""
        self._spool.close()
        del self._store
        with contextlib.suppress(OSError):
            self._features.unlink()
            self._features.parent.rmdir()  # refused while there are parts in it

    def _keep(self, rows: pa.RecordBatch) -> None:
        self._spool.add(rows.columns)
        self._new.append(pa.Table.from_batches([rows], COMPARED_SCHEMA))


def _read_stored(transaction: Transaction) -> pa.Table:
    try:
        return transaction.read(COMPARED).cast(COMPARED_SCHEMA)
    except UsageError:  # nothing was compared yet
        return COMPARED_SCHEMA.empty_table()


def _keys(rows: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(rows["id"], rows["fingerprint"], "/").combine_chunks()


def _to_rows(ids: pa.Array, prints: pa.Array, table: Table) -> pa.RecordBatch:
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(table.numbers.ravel().astype(np.float32)), len(COLUMNS))
    matrix = pa.FixedSizeListArray.from_arrays(pa.array(table.matrix.ravel().astype(np.float32)), 6)
    return pa.record_batch([ids, prints, numbers, matrix], schema=COMPARED_SCHEMA)


def _from_rows(pairs: IntArray, rows: pa.Table) -> Table:
    def values(name: str, width: int) -> npt.NDArray[np.float64]:
        flat = rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, dtype=np.float64).reshape(-1, width)

    return Table(pairs, values("numbers", len(COLUMNS)), values("matrix", 6).reshape(-1, 2, 3))
