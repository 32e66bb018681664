"""What stress runs came to, kept in a table of the dataset: a row for each corruption and severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pyarrow as pa

from curate.augment.stress import STRESS as STRESS
from curate.augment.stress.cells import Cell
from curate.augment.stress.curves import CLEAN, MAX_DROP, Point, Stress, from_points
from curate.dataset import Dataset, Transaction
from curate.dataset.ids import hash_text, to_ids
from curate.dataset.query import quote

_FLOATS: Final = tuple(field.name for field in fields(Point) if field.name != "severity")
_SCHEMA: Final = pa.schema(
    [
        # Of the run and the cell: the same again replaces the row.
        pa.field("id", pa.string(), nullable=False),
        # Of what was asked and of the state of the tables; rows of one run have the same clean images.
        pa.field("run", pa.string(), nullable=False),
        pa.field("commit", pa.int64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("chosen", pa.string(), nullable=False),
        # 'clean' with severity 0 for the images as they are.
        pa.field("corruption", pa.string(), nullable=False),
        pa.field("severity", pa.float64(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        *(pa.field(name, pa.float64()) for name in _FLOATS),
    ]
)


@dataclass(frozen=True)
class Header:
    """What all rows of a run have in common; attributes as in `curate.augment.stress.curves.Stress`."""

    run: str
    commit: int
    model: str
    task: str
    metric: str
    layer: str
    images: int
    chosen: str


def run_id(parts: Iterable[object]) -> str:
    """Id of what was asked of which state of the tables."""
    return _id("\0".join(str(part) for part in parts))


def known_points(dataset: Dataset, run: str) -> dict[tuple[str, float, str], Point]:
    """What is kept of a run, by corruption, severity and digest."""
    if STRESS not in dataset.commit.tables:
        return {}
    rows = dataset.table(STRESS, where=f"run = {quote(run)}").to_pylist()
    return {(row["corruption"], row["severity"], row["digest"]): _point(row) for row in rows}


def store_points(transaction: Transaction, header: Header, points: Mapping[Cell, Point]) -> None:
    """Keep points; those of a cell that is kept already are replaced."""
    rows = [
        {
            "id": _id(f"{header.run}\0{cell.name}"),
            **vars(header),
            "corruption": cell.corruption,
            "digest": cell.digest,
            **vars(point),
        }
        for cell, point in points.items()
    ]
    if rows:
        transaction.upsert(STRESS, pa.Table.from_pylist(rows, schema=_SCHEMA), "id")
        transaction.count("severities measured", len(rows))


def stored_stress(dataset: Dataset, *, max_drop: float = MAX_DROP) -> list[Stress]:
    """What is kept of all runs, oldest first; of a corruption that was changed meanwhile the newest version.

    Args:
        dataset: A commit of it.
        max_drop: Share of the clean value that may be lost before a curve breaks.
    """
    if STRESS not in dataset.commit.tables:
        return []
    runs: dict[str, list[dict[str, object]]] = {}
    for row in dataset.table(STRESS).to_pylist():
        runs.setdefault(row["run"], []).append(row)
    found = [_stress(dataset.name, rows, max_drop) for rows in runs.values()]
    return sorted((each for each in found if each is not None), key=lambda each: (each.commit, each.model))


def _stress(name: str, rows: Sequence[Mapping[str, object]], max_drop: float) -> Stress | None:
    points: dict[str, dict[float, Point]] = {}
    for row in rows:
        points.setdefault(str(row["corruption"]), {})[float(str(row["severity"]))] = _point(row)
    clean = points.pop(CLEAN, {}).get(0.0)
    if clean is None:
        return None
    first = rows[0]
    header = Header(**{field.name: first[field.name] for field in fields(Header)})  # type: ignore[arg-type]
    curves = from_points({corruption: list(each.values()) for corruption, each in points.items()}, clean, max_drop)
    return Stress(
        name, header.commit, header.model, header.task, header.metric, header.layer, header.images, header.chosen, clean,
        curves, max_drop,
    )  # fmt: skip


def _point(row: Mapping[str, object]) -> Point:
    return Point(**{field.name: row[field.name] for field in fields(Point)})  # type: ignore[arg-type]


def _id(text: str) -> str:
    return str(to_ids(np.array([hash_text(text)], dtype=np.uint64))[0].as_py())
