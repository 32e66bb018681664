"""The measures of a dataset's images and of its annotated objects: kept in the dataset, brought up to date, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.measures.computation import HASHES, NUMBERS, VECTORS, MeasureImages
from curate.dataset import Transaction
from curate.errors import UsageError
from curate.models.passes import Progress
from curate.models.spaces import Content, Kept, TableUpdate, update_tables

MEASURES: Final = Kept("measures/3", MeasureImages(), "measured")
"""What `curate.models.spaces.update_tables` computes in tables `measures/3-images` and `measures/3-crops`."""

PHOTOMETRIC: Final = (
    *("brightness", "luminance_p05", "luminance_p25", "luminance_p50", "luminance_p75", "luminance_p95"),
    *("clipped_dark", "clipped_bright", "contrast"),
    *("red_gain", "blue_gain", "cast_a", "cast_b", "chroma"),
    *("sharpness", "edge_width", "motion_blur", "noise", "blockiness"),
    *("light_x", "light_y", "light_center"),
)
"""Columns that say how a picture was taken rather than what it shows."""


@dataclass(frozen=True)
class Measures:
    """What was measured of n images or crops.

    Attributes:
        ids: Their ids; n rows.
        columns: Arrays with n rows by name: float32 numbers, `layout` of shape (n, 16), `light_cues` of shape (n, 14), uint64
            hashes.
    """

    ids: pa.ChunkedArray
    columns: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.ids)

    def photometric(self) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
        """Light, color, focus and noise, unscaled; float32 array of shape (n, k), and the names of its k columns."""
        columns = [self.columns[name] for name in PHOTOMETRIC]
        return np.stack(columns, axis=1).astype(np.float32), PHOTOMETRIC


def update_measures(
    transaction: Transaction, items: Mapping[Content, pa.Table], *, progress: Progress | None = None
) -> list[TableUpdate]:
    """Measure what is not measured yet, images and crops in one decoding; arguments as for `update_tables`."""
    return update_tables(transaction, [MEASURES], items, progress=progress)


def read_measures(
    transaction: Transaction, content: Content, ids: pa.ChunkedArray
) -> tuple[Measures, npt.NDArray[np.bool_]]:
    """Measures of n rows, as the transaction has them so far.

    Args:
        transaction: In which `update_measures` or `update_tables` with `MEASURES` was called.
        content: Whether ids are of images or of annotations.
        ids: n ids.

    Returns:
        Measures of m rows in the order of ids, and a bool array of shape (n,) that says which m rows were measured.
    """
    try:
        table = transaction.read(f"{MEASURES.prefix}-{content}", columns=["id", *NUMBERS, *VECTORS, *HASHES])
    except UsageError:  # nothing could be measured, so that there is no table
        table = pa.schema([pa.field("id", pa.string()), *MEASURES.computation.columns]).empty_table()
    position = pc.index_in(ids, value_set=table["id"].combine_chunks())
    there = np.asarray(position.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    rows = table.take(position.drop_null()).combine_chunks()
    return Measures(rows["id"], columns_of(rows)), there


def columns_of(rows: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name from rows that the computation gave."""
    columns: dict[str, npt.NDArray[Any]] = {name: rows[name].to_numpy() for name in (*NUMBERS, *HASHES)}
    for name, size in VECTORS.items():
        columns[name] = pc.list_flatten(rows[name]).to_numpy().reshape(-1, size)
    return columns
