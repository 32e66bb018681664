"""`curate shift`: which set-ups are there in one set, or is new data unlike the reference; and a map of it.

They are two checks, for what one finds the other does not judge again: an image may lie in a slice that fails and have
drifted as well.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Check, Judgement, Settings, Tables
from curate.checks.shift.compare import DRIFT, NAME, TESTS, compare
from curate.checks.shift.explore import SLICES, explore
from curate.checks.shift.load import Pictures, load_pictures
from curate.checks.shift.map import make_map
from curate.dataset import Transaction
from curate.errors import UsageError
from curate.wording import counted

MAPS: Final = "maps/"
"""Prefix of the tables that hold a map each: columns id, x and y."""

_MAP_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),
        pa.field("y", pa.float32(), nullable=False),
    ]
)


def judge_set(transaction: Transaction, settings: Settings) -> Judgement:
    """Find the set-ups within one set, and where a model fails.

    Args:
        transaction: The dataset.
        settings: Its options: `clusters`, how many set-ups of light, None to find out; `map`, whether to keep a map; `alone`,
            whether it is an error that not one image can be read: among other checks it is a note.

    Raises:
        UsageError: No image is chosen, or there is no such layer.
        UnavailableError: The encoder's weights cannot be had.
    """
    notes: list[str] = []
    pictures = load_pictures(transaction, settings, settings.where, notes)
    if pictures is None:
        if settings.options.get("alone"):
            raise _unreadable(transaction, notes)
        summary = f"{transaction.base.name}: not one image can be read"
        return Judgement([], summary, notes, judged=lambda finding: False)
    if settings.options.get("map"):
        _keep_map(transaction, pictures, settings.seed)
    return explore(transaction, pictures, settings, notes)


def judge_incoming(transaction: Transaction, settings: Settings) -> Judgement:
    """Compare incoming images with a reference.

    Args:
        transaction: The dataset.
        settings: Its options: `reference` and `incoming`, SQL conditions on the images, the second None for all others;
            `map`, whether to keep a map.

    Raises:
        UsageError: There is no reference, no image is chosen or can be read, reference and incoming share images, or there
            is no such layer.
        UnavailableError: The encoder's weights cannot be had.
    """
    reference, arriving = settings.options.get("reference"), settings.options.get("incoming")
    if reference is None:
        raise UsageError(
            "incoming images are compared with a reference", where="--incoming", remedy="add --reference SQL"
        )
    notes: list[str] = []
    where = settings.where
    if arriving is not None:
        where = f"(({reference}) OR ({arriving}))" + (f" AND ({settings.where})" if settings.where else "")
    pictures = load_pictures(transaction, settings, where, notes)
    if pictures is None:
        raise _unreadable(transaction, notes)
    incoming = _incoming(transaction, pictures, reference, arriving)
    if settings.options.get("map"):
        _keep_map(transaction, pictures, settings.seed)
    return compare(transaction, pictures, incoming, settings, notes)


CHECK: Final = Check(NAME, judge_set, kinds=("shifted",))
DRIFT_CHECK: Final = Check(DRIFT, judge_incoming, kinds=("shifted",))


def lowest_p_value(tables: Tables) -> float | None:
    """What `curate shift --fail-on shifted:P` compares with P: the p-value of the test, or of the worst slice.

    Args:
        tables: Of the check's result.

    Returns:
        None where nothing could be tested, or no slice fails.
    """
    rows = tables.get(TESTS) or tables.get(SLICES) or ()
    return float(rows[0]["p_value"]) if rows else None


def _unreadable(transaction: Transaction, notes: list[str]) -> UsageError:
    """The error of having nothing to look at; what was noted says why."""
    where = ": ".join([transaction.base.name, *notes])
    return UsageError("not one image can be read", where=where, remedy="import again with --images FOLDER")


def _incoming(
    transaction: Transaction, pictures: Pictures, reference: str, arriving: str | None
) -> npt.NDArray[np.bool_]:
    """Which images are the incoming ones."""
    inside = _chosen(transaction, pictures, reference, "--reference")
    incoming = ~inside if arriving is None else _chosen(transaction, pictures, arriving, "--incoming")
    both = int((inside & incoming).sum())
    if both:
        raise UsageError(
            f"{counted(both, 'images')} both in the reference and among the incoming ones",
            where="--reference, --incoming",
            remedy="choose conditions that exclude each other",
        )
    return incoming


def _chosen(transaction: Transaction, pictures: Pictures, where: str, option: str) -> npt.NDArray[np.bool_]:
    found = transaction.base.table("images", columns=["image_id"], where=where)["image_id"].combine_chunks()
    inside = np.asarray(pc.is_in(pictures.ids, value_set=found).to_numpy(), dtype=bool)
    if not inside.any():
        raise UsageError(f"no image that can be read is chosen by {where}", where=option, remedy="loosen the condition")
    return inside


def _keep_map(transaction: Transaction, pictures: Pictures, seed: int) -> None:
    """Lay the images out, in a table of the dataset; nothing is written where the map is as it was."""
    table = f"{MAPS}{pictures.space}"
    placed = make_map(pictures.vectors, seed=seed)
    rows = pa.table([pictures.ids, placed[:, 0], placed[:, 1]], schema=_MAP_SCHEMA)
    if table in transaction.base.commit.tables and transaction.base.table(table).equals(rows):
        return
    transaction.overwrite(table, [rows], _MAP_SCHEMA)
    transaction.count("images mapped", len(pictures))
