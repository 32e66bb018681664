"""Parts of a set: validation images, and folds. Groups stay whole; within that every class is dealt out in proportion.

Groups are images that would vouch for one another: frames of one video, copies, near-duplicates. Large groups are dealt
first, each to the part that lacks most of what is in it (after iterative stratification, Sechidis et al., ECML 2011); what
stands alone then evens the parts out. Numbers of images are rounded as seats are (Sainte-Laguë), so that of what is too rare to
be divided the largest part gets all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError

IntArray = npt.NDArray[np.int64]


def deal(groups: IntArray, strata: IntArray, shares: Sequence[float], seed: int) -> IntArray:
    """Deal images out to parts.

    Args:
        groups: Numbers that images of one group share, shape (n,).
        strata: What each image should be balanced by (its class, say), the same shape; any integers.
        shares: Of each part, above 0 and adding up to 1.
        seed: Of the order in which equal images are dealt.

    Returns:
        Number of each image's part; int64 array of shape (n,).
    """
    n = len(groups)
    rng = np.random.default_rng([seed, n])
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    stratum = np.unique(strata, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(group, minlength=1)
    part = np.full(n, -1, dtype=np.int64)
    have = np.zeros((len(shares), int(stratum.max(initial=0)) + 1))
    _deal_groups(group, stratum, sizes, shares, rng, part, have)
    _deal_rest(stratum, np.flatnonzero(part < 0), shares, rng, part, have)
    return part


def make_folds(groups: IntArray, strata: IntArray, folds: int, seed: int) -> IntArray:
    """Number of the fold, from 0, that each image is in; arguments as for `deal`.

    Raises:
        UsageError: There are fewer groups than folds.
    """
    if folds < 2:
        raise UsageError(
            f"{folds} cannot be a number of folds",
            where="--folds",
            remedy="at least 2: each is predicted by the others' model",
        )
    count = len(np.unique(groups))
    if count < folds:
        raise UsageError(
            f"{count} groups of images cannot make {folds} folds: images of one video, and copies, stay together",
            where="--folds",
            remedy="fewer folds, or more images",
        )
    return deal(groups, strata, [1 / folds] * folds, seed)


def hold_out(groups: IntArray, strata: IntArray, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which images are held out; bool array of shape (n,). Groups and strata as for `deal`."""
    return np.asarray(deal(groups, strata, [1 - share, share], seed) == 1)


def _deal_groups(
    group: IntArray,
    stratum: IntArray,
    sizes: IntArray,
    shares: Sequence[float],
    rng: np.random.Generator,
    part: IntArray,
    have: npt.NDArray[np.float64],
) -> None:
    """Deal groups of more than one image, the largest first."""
    large = np.flatnonzero(sizes > 1)
    order = large[np.lexsort((rng.permutation(len(large)), -sizes[large]))]
    by_group = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    wanted = np.asarray(shares)
    total = np.maximum(np.bincount(stratum, minlength=have.shape[1]), 1)
    for number in order.tolist():
        rows = by_group[starts[number] : starts[number + 1]]
        kinds, counts = np.unique(stratum[rows], return_counts=True)
        # How full each part would be: of each kind in proportion to how much of it there is, and altogether.
        of_kinds = (((have[:, kinds] + counts / 2) / total[kinds]).mean(axis=1)) / wanted
        of_all = (have.sum(axis=1) + len(rows) / 2) / len(group) / wanted
        chosen = int(np.argmin(of_kinds + of_all))
        part[rows] = chosen
        have[chosen, kinds] += counts


def _deal_rest(
    stratum: IntArray,
    rows: IntArray,
    shares: Sequence[float],
    rng: np.random.Generator,
    part: IntArray,
    have: npt.NDArray[np.float64],
) -> None:
    """Deal single images, kind by kind, each to the part that lacks most of its kind."""
    if not len(rows):
        return
    rows = rng.permutation(rows)
    rows = rows[np.argsort(stratum[rows], kind="stable")]
    kinds, first, counts = np.unique(stratum[rows], return_index=True, return_counts=True)
    members = np.split(rows, first[1:])
    total, n = np.bincount(stratum), len(part)
    filled = have.sum(axis=1).tolist()
    for place in np.argsort(
        counts, kind="stable"
    ).tolist():  # what there is most of comes last, and evens the parts out
        kind = int(kinds[place])
        of_kind, count = int(total[kind]), have[:, kind].tolist()
        for row in members[place].tolist():
            fullness = [
                ((own + 0.5) / of_kind + (every + 0.5) / n) / share
                for own, every, share in zip(count, filled, shares, strict=True)
            ]
            k = fullness.index(min(fullness))
            part[row] = k
            count[k] += 1
            filled[k] += 1
