"""Images that findings point at: those with wrong labels, and those like the images on which the model fails."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.neighbors import nearest_neighbors
from curate.dataset import Transaction
from curate.errors import UsageError
from curate.loop.scores import Scores, by_image
from curate.wording import counted

IntArray = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

_MISTAKES: Final = "check = 'mistakes' AND status = 'open'"
_SLICES: Final = "check = 'shift' AND status IN ('open', 'queued', 'confirmed') AND evidence LIKE '%\"slice\"%'"
_NEIGHBORS: Final = 10
_REFERENCES: Final = 5_000  # images inside failing slices, and as many outside, among which neighbours are looked for


def open_mistakes(transaction: Transaction, ids: pa.ChunkedArray) -> Scores:
    """How probably at least one label of an image is wrong, by the open findings of `curate mistakes`.

    Args:
        transaction: The dataset.
        ids: Of n images; those without a finding have no score.

    Raises:
        UsageError: There are no such findings.
    """
    found, row = _on_images(transaction, ids, _MISTAKES)
    if not len(row):
        raise UsageError(
            "there are no open findings of wrong labels",
            where=transaction.base.name,
            remedy="run 'curate mistakes' first",
        )
    score = found["score"].to_numpy()
    values = np.full(len(ids), np.nan)
    all_right = np.bincount(row, weights=np.log1p(-np.minimum(score, 1 - 1e-9)), minlength=len(ids))
    values[row] = -np.expm1(all_right[row])

    on_image = by_image(row, len(ids))

    def why(place: int) -> str:
        own = on_image(place)
        best = found.slice(int(own[score[own].argmax()]), 1).to_pylist()[0]
        labels = [f"'{best[key]}'" for key in ("given", "suggested") if best[key]]
        more = f"; {counted(len(own) - 1, 'more findings')}" if len(own) > 1 else ""
        return f"{best['kind']} {best['score']:.2f} {' -> '.join(labels)}".rstrip() + more

    return Scores(values, why, "open findings of mistakes")


def failing_slices(transaction: Transaction, ids: pa.ChunkedArray, vectors: Vectors, *, seed: int) -> Scores:
    """How much an image is like those of the slices on which the model fails, by the findings of `curate shift`.

    An image of such a slice has its finding's score; any other the mean over its ten nearest images, those of no such slice
    counting 0.

    Args:
        transaction: The dataset.
        ids: Of n images.
        vectors: Of them, shape (n, d).
        seed: Of the sample among which neighbours are looked for, in large sets.

    Raises:
        UsageError: There are no such findings.
    """
    found, row = _on_images(transaction, ids, _SLICES)
    if not len(row):
        raise UsageError(
            "there are no findings of slices that fail", where=transaction.base.name, remedy="run 'curate shift' first"
        )
    own = np.zeros(len(ids))
    np.maximum.at(own, row, found["score"].to_numpy())
    rng = np.random.default_rng(seed)
    pool = np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(side))[:_REFERENCES] for side in (own > 0, own <= 0)])
    )
    near = nearest_neighbors(vectors, _NEIGHBORS, pool=pool).indices
    around = np.where(near >= 0, own[near], 0).sum(axis=1) / np.maximum((near >= 0).sum(axis=1), 1)

    on_image = by_image(row, len(ids))

    def told(place: int) -> dict[str, Any]:
        evidence: dict[str, Any] = json.loads(found["evidence"][int(on_image(place)[0])].as_py())
        return evidence

    def why(place: int) -> str:
        if own[place] > 0:
            return str(told(place)["why"])
        like = [int(k) for k in near[place] if k >= 0 and own[k] > 0]
        if not like:
            return "like no image of a slice that fails"
        return f"{len(like)} of its {_NEIGHBORS} nearest are of a slice that fails: {told(like[0])['slice']}"

    return Scores(np.where(own > 0, own, around), why, "slices that fail")


def _on_images(transaction: Transaction, ids: pa.ChunkedArray, where: str) -> tuple[pa.Table, IntArray]:
    """Findings on the images at hand, and the row of each one's image."""
    columns = ["image_id", "kind", "score", "given", "suggested", "evidence"]
    found = transaction.read("findings", columns=columns, where=where)
    row = pc.index_in(found["image_id"], value_set=ids.combine_chunks())
    return found.filter(row.is_valid()), np.asarray(row.drop_null().to_numpy(), dtype=np.int64)
