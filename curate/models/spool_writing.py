"""Spooled rows written into a table by an engine's workers: each makes a fragment of it, and the one commit is the driver's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.dataset.fragments import FragmentTarget, write_fragment
from curate.engine.jobs import Job
from curate.models.spool import Spool

_FRAGMENT_ROWS: Final = 1 << 18
"""Rows of a fragment: 268 MB of 512 numbers of 16 bits, some seconds of work."""

Chosen = tuple[Path, npt.NDArray[np.uint8], int]
"""A part of the spool, which of its rows are wanted (a bit for each), and how many rows it has."""


def spooled_jobs(target: FragmentTarget, spool: Spool, wanted: npt.NDArray[np.bool_]) -> Iterator[Job]:
    """Jobs of `write_spooled`, which write the wanted rows of a spool in their order.

    Args:
        target: The table they go to.
        spool: Where they are.
        wanted: Which of its n rows; shape (n,).
    """
    chosen: list[Chosen] = []
    start = rows = 0
    for path in spool.parts():
        if (piece := spool.read_part(path, ["id"])) is None:
            continue
        inside = wanted[start : start + piece.num_rows]
        start += piece.num_rows
        if not inside.any():
            continue
        chosen.append((path, np.packbits(inside), piece.num_rows))
        rows += int(inside.sum())
        if rows >= _FRAGMENT_ROWS:
            yield Job(arguments=(target, spool.folder, spool.schema, spool.name, chosen))
            chosen, rows = [], 0
    if chosen:
        yield Job(arguments=(target, spool.folder, spool.schema, spool.name, chosen))


def write_spooled(
    target: FragmentTarget, folder: Path, schema: pa.Schema, name: str, chosen: list[Chosen]
) -> str | None:
    """Write some rows of a spool as a fragment.

    Returns:
        What `Transaction.append_fragments` wants; None, and nothing is written, where this machine does not see the spool.

    Raises:
        UnavailableError: The table's store does not answer, or refuses.
    """
    if not all(path.is_file() for path, _, _ in chosen):
        return None
    spool = Spool(folder, schema, name)

    def pieces() -> Iterator[pa.Table]:
        for path, bits, count in chosen:
            if (piece := spool.read_part(path)) is not None:
                inside = np.unpackbits(bits, count=count).astype(bool)
                yield piece.filter(pa.array(inside)).replace_schema_metadata(None).combine_chunks()

    return write_fragment(target, pieces())
