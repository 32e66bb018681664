"""What changed from one commit to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.rows import Numbers, compare, rows_at
from curate.dataset.store import Dataset

_KEYS: Final = {"images": "image_id", "annotations": "annotation_id", "findings": "id"}
_SHOWN: Final = {
    "images": ["image_id", "location", "split"],
    "annotations": ["annotation_id", "image_id", "layer", "type", "label", "bbox"],
    "findings": ["id", "kind", "score", "image", "given", "suggested", "status"],
}
_GROUPED: Final = {"images": "split", "annotations": "label", "findings": "kind"}


def difference(old: Dataset, new: Dataset, *, examples: int = 5) -> dict[str, Any]:
    """Compare two commits of a dataset.

    Args:
        old: The earlier commit (or the later: then what was added counts as removed).
        new: The other.
        examples: How many rows to give of each kind of change.

    Returns:
        JSON-ready: for each table, for each of 'added', 'changed' and 'removed': how many, how many by class (images by
        split, findings by kind), and the first rows; a changed row as {'before': ..., 'after': ...}.
    """
    result: dict[str, Any] = {"from": old.commit.number, "to": new.commit.number}
    for table in _KEYS:
        if old.commit.tables.get(table) != new.commit.tables.get(table):
            result[table] = _table_difference(old, new, table, examples)
    before, after = ([info["name"] for info in dataset.commit.classes] for dataset in (old, new))
    if before != after:
        result["classes"] = {
            "added": [name for name in after if name not in before],
            "removed": [name for name in before if name not in after],
        }
    return result


def _table_difference(old: Dataset, new: Dataset, table: str, examples: int) -> dict[str, Any]:
    rows = compare(old.scan(table), new.scan(table), _KEYS[table], ignore=["commit"])
    before = _shown(old, table, rows.before[:examples])
    after = _shown(new, table, rows.changed[:examples])
    changed = [{"before": a, "after": b} for a, b in zip(before, after, strict=True)]
    return {
        "added": _part(new, table, rows.added, _shown(new, table, rows.added[:examples])),
        "changed": _part(new, table, rows.changed, changed),
        "removed": _part(old, table, rows.removed, _shown(old, table, rows.removed[:examples])),
    }


def _part(dataset: Dataset, table: str, numbers: Numbers, examples: list[dict[str, Any]]) -> dict[str, Any]:
    group = _GROUPED[table]
    counts = pc.value_counts(_rows(dataset, table, [group], numbers)[group]).to_pylist()
    by = {str(entry["values"]): entry["counts"] for entry in counts}
    return {"count": len(numbers), f"by_{group}": by, "first": examples}


def _shown(dataset: Dataset, table: str, numbers: Numbers) -> list[dict[str, Any]]:
    """The rows of those numbers, in that order, JSON-ready."""
    order = np.argsort(numbers)
    rows = _rows(dataset, table, _SHOWN[table], numbers[order]).to_pylist()
    return [rows[place] for place in np.argsort(order)]


def _rows(dataset: Dataset, table: str, columns: Sequence[str], numbers: Numbers) -> pa.Table:
    """The rows of those numbers, ascending."""
    schema = dataset.schema(table)
    empty = pa.schema([schema.field(name) for name in columns]).empty_table()
    if not len(numbers):
        return empty
    return pa.concat_tables([empty, *rows_at(dataset.scan(table, columns=columns), numbers)])
