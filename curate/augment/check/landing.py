"""Do synthetic images land where the target is? Distances before and after, and two tests that try to tell them apart.

The distance of an image to the target is the mean cosine distance to its nearest target images of other groups; what target
images themselves have to one another is as near as anything can come. Distances alone are blind to a set that has collapsed
onto one picture, so a classifier is trained to tell synthetic from target images (Lopez-Paz and Oquab, ICLR 2017): an AUC of
0.5 says that it cannot. Its folds keep groups whole, for the children of one parent, and frames of a video, are known
by heart once one of them is. Whether what is left is more than chance says the permutation test of groups of
`curate.checks.shift.two_sample`, with what is measured of light, colour, focus and noise besides.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.augment.check.looks import Looks, Vectors
from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.checks.evaluation.bootstrap import draw, percentiles
from curate.checks.measures.table import PHOTOMETRIC
from curate.checks.shift.axes import AXES
from curate.checks.shift.two_sample import FEWEST_GROUPS, TwoSample, two_sample_test

NEIGHBORS: Final = 5
"""Target images that a distance is taken to."""

ALPHA: Final = 0.05
"""Of p-values: below it two sets of images differ."""

_FOLDS: Final = 5
_RESAMPLES: Final = 500
# Of the classifier's penalty, inverse: there are more dimensions than images.
_STRENGTH: Final = 0.1
_VIEWS: Final = {axis.column: axis.view for axis in AXES if axis.column}


@dataclass(frozen=True)
class Told:
    """How well a classifier tells two sets of images apart.

    Attributes:
        auc: Of images of groups that it has not seen; 0.5 is guessing.
        low: Lower end of its 95% interval.
        high: Upper end.
    """

    auc: float
    low: float
    high: float


@dataclass(frozen=True)
class Landing:
    """Where synthetic images are.

    Attributes:
        before: Mean distance of the parents to the target.
        after: Mean distance of the synthetic images to it.
        floor: Mean distance of target images to one another.
        covered: Share of the way from before to floor that was gone; None where the parents were as near as the target.
        covered_low: Lower end of its 95% interval, over parents.
        covered_high: Upper end.
        told_before: How well parents are told from the target; None where there are too few groups.
        told_after: How well synthetic images are.
        p_value: That synthetic images and the target's are drawn from one source; None where there are too few groups.
        differing: Measured axes that still differ, the surest first.
    """

    before: float
    after: float
    floor: float
    covered: float | None
    covered_low: float | None
    covered_high: float | None
    told_before: Told | None
    told_after: Told | None
    p_value: float | None
    differing: tuple[str, ...]


def landing(
    synthetic: Looks,
    parents: Looks,
    target: Looks,
    groups: tuple[IntArray, IntArray],
    *,
    seed: int = 0,
) -> Landing:
    """Compare.

    Args:
        synthetic: n synthetic images, all read.
        parents: The parent of each, n rows.
        target: m real images of the target, all read.
        groups: Numbers of the synthetic images' groups, which are their parents', of shape (n,), and of the target's, (m,).
        seed: Of folds, permutations and resamples.
    """
    own, others = groups
    before = distances(parents.vectors, target.vectors, own, others)
    after = distances(synthetic.vectors, target.vectors, own, others)
    floor = float(np.nanmean(distances(target.vectors, target.vectors, others, others)))
    covered, interval = _covered(before, after, floor, own, seed)
    test = _test(synthetic, target, own, others, seed)
    differing = () if test is None else tuple(axis.axis for axis in test.axes if axis.p_value < ALPHA)
    # A parent counts once, however many children it has.
    once = np.unique(own, return_index=True)[1]
    return Landing(
        float(np.nanmean(before)),
        float(np.nanmean(after)),
        floor,
        covered,
        None if interval is None else interval[0],
        None if interval is None else interval[1],
        tell_apart(parents.vectors[once], target.vectors, (own[once], others), seed=seed),
        tell_apart(synthetic.vectors, target.vectors, groups, seed=seed),
        None if test is None else test.p_value,
        differing,
    )


def distances(vectors: Vectors, target: Vectors, groups: IntArray, others: IntArray) -> FloatArray:
    """Mean cosine distance of n unit vectors to the nearest of m target vectors of other groups; NaN where there are none.

    Returns:
        float64 of shape (n,).
    """
    similarity = np.where(groups[:, None] == others[None], -np.inf, vectors @ target.T)
    nearest = -np.sort(-similarity, axis=1)[:, : min(NEIGHBORS, len(target))]
    known = np.isfinite(nearest)
    total = np.where(known, 1 - nearest, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, known.sum(axis=1), out=np.full(len(total), np.nan), where=known.any(axis=1)))


def tell_apart(first: Vectors, second: Vectors, groups: tuple[IntArray, IntArray], *, seed: int = 0) -> Told | None:
    """Train a linear classifier to tell two sets of images apart, and try it on groups that it has not seen.

    Args:
        first: Shape (n, d).
        second: Shape (m, d).
        groups: Numbers of their groups, shapes (n,) and (m,).
        seed: Of folds and resamples.

    Returns:
        None where a side has too few groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(np.unique(each)) for each in groups) < FEWEST_GROUPS:
        return None
    rows = np.concatenate([first, second]).astype(np.float64)
    side = np.repeat([True, False], [len(first), len(second)])
    unit = np.concatenate(groups)
    scores = np.full(len(rows), np.nan)
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of folds that cannot be quite even, and of fits that stop at their last iteration
        for train, test in folds.split(rows, side, unit):
            if len(np.unique(side[train])) == 2:
                model = make_pipeline(
                    StandardScaler(), LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=500)
                )
                scores[test] = _ranks(model.fit(rows[train], side[train]).decision_function(rows[test]))
    known = np.isfinite(scores)
    auc = _auc(scores[known], side[known], np.ones((1, int(known.sum()))))[0]
    drawn = np.concatenate([_auc(scores[known], side[known], each) for each in draw(unit[known], _RESAMPLES, seed)])
    interval = percentiles(drawn)
    return None if interval is None else Told(float(auc), *interval)


def _ranks(values: npt.NDArray[Any]) -> FloatArray:
    """Ranks in (0, 1): models of two folds have scores of their own."""
    from scipy import stats

    return np.asarray((stats.rankdata(values) - 0.5) / len(values))


def _auc(scores: FloatArray, side: BoolArray, weights: npt.NDArray[Any]) -> FloatArray:
    """Area under the ROC curve of weighted images, ties half; from (b, n) weights to (b,), NaN where a side is empty."""
    values, place = np.unique(scores, return_inverse=True)
    found = np.full(len(weights), np.nan)
    for row, weight in enumerate(weights.astype(np.float64)):
        ours = np.bincount(place, weights=weight * side, minlength=len(values))
        theirs = np.bincount(place, weights=weight * ~side, minlength=len(values))
        total = ours.sum() * theirs.sum()
        if total:
            found[row] = (ours * (np.cumsum(theirs) - theirs / 2)).sum() / total
    return found


def _covered(
    before: FloatArray, after: FloatArray, floor: float, groups: IntArray, seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Share of the way to the target that was gone, with its interval over groups of parents."""
    known = np.isfinite(before) & np.isfinite(after)
    way, gone = before[known] - floor, before[known] - after[known]
    if not known.any() or way.mean() <= 0:
        return None, None
    share = float(gone.mean() / way.mean())
    if len(np.unique(groups[known])) < FEWEST_GROUPS:
        return share, None
    drawn = np.concatenate([(each @ gone) / (each @ way) for each in draw(groups[known], _RESAMPLES, seed)])
    return share, percentiles(drawn)


def _test(synthetic: Looks, target: Looks, own: IntArray, others: IntArray, seed: int) -> TwoSample | None:
    measured = np.stack(
        [np.concatenate([synthetic.measures[name], target.measures[name]]) for name in PHOTOMETRIC], axis=1
    ).astype(np.float64)
    incoming = np.repeat([True, False], [len(own), len(others)])
    content = np.concatenate([synthetic.vectors, target.vectors]).astype(np.float64)
    views = [_VIEWS.get(name, "lighting") for name in PHOTOMETRIC]
    return two_sample_test(measured, PHOTOMETRIC, views, content, incoming, np.concatenate([own, others]), seed=seed)
