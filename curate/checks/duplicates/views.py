"""Images that overlap without being copies: frames of one recording, and views of one place that each show something else.

They share pixels, and so are found by the same comparison as copies are. But to throw one away loses what only it shows: they
are superfluous only as far as what is kept shows the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from curate.checks.duplicates.pairs import COPY, NEAR, BoolArray, IntArray, Pairs
from curate.checks.duplicates.repetitive import recordings

WHOLE: Final = 0.8
"""Copies show at least this part of one another, unless the one is cut out of the other; views show less."""


@dataclass(frozen=True)
class Overlap:
    """An image of which another, that is kept, shows a part.

    Attributes:
        row: Its row.
        by: The row of the other.
        pair: Their row in the pairs.
        score: Probability that they overlap, times the part that is shown.
    """

    row: int
    by: int
    pair: int
    score: float


def is_view(pairs: Pairs, images: pa.Table) -> BoolArray:
    """Which pairs are of images that overlap without being copies; bool array of shape (m,).

    Args:
        pairs: Of n images.
        images: n rows, columns group, frame and timestamp.
    """
    overlapping = (pairs.kind == NEAR) & (pairs.score >= COPY)
    frames = recordings(images)
    one_recording = (frames[pairs.first] == frames[pairs.second]) & (frames[pairs.first] >= 0)
    return np.asarray(overlapping & ((pairs.overlap < WHOLE) | one_recording), dtype=bool)


def shown_by_others(
    pairs: Pairs, view: BoolArray, alike: IntArray, rows: IntArray, rank: IntArray, kept: set[int]
) -> list[Overlap]:
    """Of some images, what those that are kept show of them already: each is kept unless one kept before shows most of it.

    Args:
        pairs: Of n images.
        view: Which pairs are views, shape (m,).
        alike: Numbers that equal images share, shape (n,): a pair of one holds for the others.
        rows: The images, one of each group of copies.
        rank: Which to keep first, shape (n,).
        kept: Those of them that are kept in any case.
    """
    row_of = {int(alike[row]): int(row) for row in rows}
    links: dict[int, list[tuple[int, int]]] = {}
    for k in np.flatnonzero(view).tolist():
        a, b = (row_of.get(int(alike[side[k]])) for side in (pairs.first, pairs.second))
        if a is not None and b is not None:
            links.setdefault(a, []).append((b, k))
            links.setdefault(b, []).append((a, k))
    kept = set(kept)
    found = []
    for row in sorted(links.keys() - kept, key=lambda row: int(rank[row])):
        score, by, k = max(
            ((float(pairs.score[k] * pairs.overlap[k]), other, k) for other, k in links[row] if other in kept),
            key=lambda each: (each[0], -int(rank[each[1]])),
            default=(0.0, row, -1),
        )
        if score < COPY:
            kept.add(row)
        if by != row:
            found.append(Overlap(row, by, k, score))
    return found
