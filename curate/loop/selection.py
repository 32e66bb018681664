"""The selection: images chosen to be labelled next, kept in the dataset until the next choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa

from curate.dataset import Dataset, Transaction

SELECTION: Final = "selection"
"""Name of the table."""

_SCHEMA: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("strategy", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Selected:
    """An image that was chosen.

    Attributes:
        image_id: The image.
        rank: From 0, the most worthwhile first.
        score: In [0, 1], for services that show priorities: falls with the rank.
        strategy: What chose it.
        why: In words, for the annotator.
    """

    image_id: str
    rank: int
    score: float
    strategy: str
    why: str


def write_selection(transaction: Transaction, selected: Sequence[Selected]) -> None:
    """Keep a selection in place of the one before."""
    rows = pa.Table.from_pylist([asdict(each) for each in selected], schema=_SCHEMA)
    transaction.overwrite(SELECTION, [rows], _SCHEMA)
    transaction.count("images selected", len(selected))


def read_selection(dataset: Dataset) -> list[Selected]:
    """The selection, best first; empty if nothing was chosen yet."""
    if SELECTION not in dataset.commit.tables:
        return []
    return [Selected(**row) for row in dataset.table(SELECTION).sort_by("rank").to_pylist()]
