"""What evaluations came to, kept in a table of the dataset: which model was how good, on which labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.dataset import Dataset, Transaction
from curate.dataset.ids import hash_text, to_ids

EVALUATIONS: Final = "evaluations"

_SCHEMA: Final = pa.schema(
    [
        # Of what was evaluated and how: the same again replaces the row.
        pa.field("id", pa.string(), nullable=False),
        # Number of the commit whose labels and predictions these were.
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("labels", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("where", pa.string()),
        pa.field("images", pa.int64(), nullable=False),
        # JSON objects: metrics of all images, the main metric of each class, and of each slice.
        pa.field("metrics", pa.string(), nullable=False),
        pa.field("classes", pa.string(), nullable=False),
        pa.field("slices", pa.string(), nullable=False),
        # JSON: what is taken for what, as `curate.checks.evaluation.confusion.confusion_rows` has it; the most frequent.
        pa.field("confusion", pa.string(), nullable=False),
    ]
)

MOST_CONFUSED: Final = 1_000
"""Rows of a confusion that are kept."""

_TEXTS: Final = ("metrics", "classes", "slices", "confusion")
_STATE: Final = ("images", "annotations")


def stored_evaluations(dataset: Dataset, *, layer: str | None = None) -> list[dict[str, Any]]:
    """Evaluations of a dataset's models, JSON-ready, oldest commit first.

    Args:
        dataset: The dataset.
        layer: Only of this layer of predictions.
    """
    if EVALUATIONS not in dataset.commit.tables:
        return []
    rows = [
        # Of an evaluation by an older version it is not known what was taken for what.
        {**row, **{name: json.loads(row.get(name, "[]")) for name in _TEXTS}}
        for row in dataset.table(EVALUATIONS).to_pylist()
        if layer in {None, row["layer"]}
    ]
    return sorted(rows, key=lambda row: (row["commit"], row["layer"], row["id"]))


def store_evaluations(transaction: Transaction, evaluated: Sequence[tuple[Dataset, Mapping[str, Any]]]) -> None:
    """Keep what evaluations came to; nothing is written where the same is kept already.

    Args:
        transaction: The commit being made.
        evaluated: The commit that each is of, and its row: layer, labels, task, where, images, metrics, classes, slices,
            confusion.
    """
    known = {row["id"]: row for row in stored_evaluations(transaction.snapshot())}
    fresh = {}
    for dataset, row in evaluated:
        key = _identity(dataset, row)
        commit = known[key]["commit"] if key in known else dataset.commit.number
        whole = {"id": key, "commit": commit, **row, "confusion": list(row["confusion"][:MOST_CONFUSED])}
        if whole != known.get(key):
            fresh[key] = whole
    if fresh:
        # All anew: a table that an older version wrote has fewer columns.
        rows = [{**row, **{name: json.dumps(row[name]) for name in _TEXTS}} for row in ({**known, **fresh}).values()]
        transaction.overwrite(EVALUATIONS, [pa.Table.from_pylist(rows, schema=_SCHEMA)], _SCHEMA)
        transaction.count("evaluations", len(fresh))


def _identity(dataset: Dataset, row: Mapping[str, Any]) -> str:
    """The same for the same question to the same state of the tables."""
    state = [f"{name} {dataset.commit.tables.get(name)}" for name in _STATE]
    asked = [str(row[name]) for name in ("layer", "labels", "task", "where", "images")]
    key = "\0".join([*state, *asked, *sorted(row["slices"])])
    return str(to_ids(np.array([hash_text(key)], dtype=np.uint64))[0].as_py())
