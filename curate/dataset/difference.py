"""What changed from one commit to another."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.rows import compare
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
    for table, key in _KEYS.items():
        if old.commit.tables.get(table) != new.commit.tables.get(table):
            result[table] = _table_difference(old.table(table), new.table(table), table, key, examples)
    before, after = ([info["name"] for info in dataset.commit.classes] for dataset in (old, new))
    if before != after:
        result["classes"] = {
            "added": [name for name in after if name not in before],
            "removed": [name for name in before if name not in after],
        }
    return result


def _table_difference(old: pa.Table, new: pa.Table, table: str, key: str, examples: int) -> dict[str, Any]:
    rows = compare(old, new, key, ignore=["commit"])
    group = _GROUPED[table]
    changed = new.take(rows.changed[:examples])
    before = old.take(pc.index_in(changed[key], old[key].combine_chunks()))
    shown = _SHOWN[table]
    return {
        "added": _part(new, rows.added, group, new.take(rows.added[:examples]).select(shown).to_pylist()),
        "changed": _part(
            new,
            rows.changed,
            group,
            [
                {"before": a, "after": b}
                for a, b in zip(before.select(shown).to_pylist(), changed.select(shown).to_pylist(), strict=True)
            ],
        ),
        "removed": _part(old, rows.removed, group, old.take(rows.removed[:examples]).select(shown).to_pylist()),
    }


def _part(table: pa.Table, rows: npt.NDArray[np.int64], group: str, examples: list[dict[str, Any]]) -> dict[str, Any]:
    counts = pc.value_counts(table[group].take(rows)).to_pylist()
    by = {str(entry["values"]): entry["counts"] for entry in counts}
    return {"count": len(rows), f"by_{group}": by, "first": examples}
