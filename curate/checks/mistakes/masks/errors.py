"""Masks that disagree with a model's: missing, spurious, mislabeled, badly drawn. Every score is a probability.

As with boxes (`curate.checks.mistakes.detection`), what disagrees is either the label's fault or the model's, and which of them
is estimated from the set: how often regions of this class, size and confidence are confirmed, how often objects of this class
and size are seen, how often the model gives another class, and how well its masks usually fit. The share of wrong labels is a
part of each of these models, so nothing has to be tuned, and one scale holds for all kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.special import logit

from curate.checks.boxes import NOWHERE, FloatArray, IntArray
from curate.checks.mistakes.masks.fit import badly_drawn
from curate.checks.mistakes.masks.rehearsal import both
from curate.checks.mistakes.masks.scene import TOUCH, Objects, Regions
from curate.checks.mistakes.slip import Slip, fit_slip
from curate.checks.mistakes.tables import Suspects, merge, suspects

_AVERAGE: Final = 100.0


def mask_errors(
    objects: Objects,
    regions: Regions,
    n_classes: int,
    *,
    min_score: float = 0.01,
    worse: FloatArray | None = None,
) -> Suspects:
    """Suspected errors of masks, given what a model sees.

    Args:
        objects: What was labelled on all images that the model has seen.
        regions: What it found there.
        n_classes: Number of classes, K; labels are in [0, K), or -1 for none.
        min_score: Suspects below are left out.
        worse: A second opinion on how likely each object's mask is drawn badly (`rehearsal.worse_than_usual`), NaN for none;
            float64 array of shape (len(objects),).

    Returns:
        At most one suspect per object. `annotation` is a row of `objects`, `prediction` one of `regions`, where there is one.
        'missing': a region where nothing is labelled, or something else is. 'spurious': an object that the model does not see.
        'mislabeled': one that it gives the class `label`. 'bad_mask': one whose mask does not fit as well as such masks do.
    """
    missing, regions_fit = _missing(regions, n_classes)
    swapped, classes_fit = _mislabeled(objects, n_classes)
    drawn, share = _badly_drawn(objects, n_classes)
    rate = float(np.mean([regions_fit.slip, classes_fit.slip, share]))
    unseen = _spurious(objects, n_classes, rate)
    moved = _moved(objects, regions, missing, unseen)
    single = [
        missing.take(regions.partner[missing.prediction] == 0),
        unseen.take(objects.partner[unseen.annotation] == NOWHERE),
    ]
    if worse is not None:
        drawn, moved = (_heard(part, worse) for part in (drawn, moved))
        drawn = merge([drawn, _unsuspected(objects, worse, [drawn, moved])])
    parts = merge([part.take(part.score >= min_score) for part in (*single, swapped, drawn, moved)])
    return _surest(parts)


def _missing(regions: Regions, n_classes: int) -> tuple[Suspects, Slip]:
    """Regions where nothing of their class is labelled: the more likely wrong labels, the more often such are confirmed."""
    usable = np.flatnonzero(regions.label >= 0)
    confidence = logit(np.clip(regions.confidence[usable], 1e-3, 1.0 - 1e-3))
    x = np.stack(
        [np.ones(len(usable)), confidence - _middle(confidence), _size(regions.area[usable]), regions.near[usable]],
        axis=1,
    )
    fit = fit_slip(
        x, regions.matched[usable], regions.label[usable], n_classes,
        centre=np.array([1.0, 0.7, 0.7, -2.0]), spread=np.array([3.0, 1.0, 1.0, 3.0]),
    )  # fmt: skip
    open_ = regions.matched[usable] == 0.0
    rows, x = usable[open_], x[open_]
    label = regions.label[rows]
    return suspects(
        "missing", fit.wrong_label(x, label), regions.image[rows], prediction=rows, label=label, bbox=regions.bbox[rows],
        reason="the model is rarely wrong about such regions, and none is labelled here",
        evidence={
            "confidence": regions.confidence[rows],
            "precision": fit.right(x, label),
            "label_error_rate": np.full(len(rows), fit.slip),
        },
    ), fit  # fmt: skip


def _spurious(objects: Objects, n_classes: int, rate: float) -> Suspects:
    """Objects that the model does not see, in the class of the label or in another."""
    usable = np.flatnonzero(objects.label >= 0)
    seen = (objects.agree + objects.other >= TOUCH)[usable]
    x = np.stack([np.ones(len(usable)), _size(objects.area[usable])], axis=1)
    fit = fit_slip(
        x, seen.astype(np.float64), objects.label[usable], n_classes,
        centre=np.array([1.0, 0.7]), spread=np.array([3.0, 1.0]), rate=rate, strength=_AVERAGE,
    )  # fmt: skip
    rows, x = usable[~seen], x[~seen]
    label = objects.label[rows]
    return suspects(
        "spurious", fit.wrong_label(x, label), objects.image[rows], annotation=rows,
        reason="the model rarely overlooks such objects, and sees nothing here",
        evidence={"hit_rate": fit.right(x, label), "label_error_rate": np.full(len(rows), fit.slip)},
    )  # fmt: skip


def _mislabeled(objects: Objects, n_classes: int) -> tuple[Suspects, Slip]:
    """Objects that the model mostly gives another class: the less it wavers, the more likely a wrong label."""
    total = objects.agree + objects.other
    usable = np.flatnonzero((total >= TOUCH) & (objects.label >= 0))
    agrees = (objects.agree >= objects.other)[usable]
    # Of a class to which the model never gives way, there is nothing to confuse with.
    said = np.where(agrees, objects.label[usable], objects.other_label[usable])
    purity = np.abs(objects.agree - objects.other)[usable] / total[usable]
    x = np.stack(
        [np.ones(len(usable)), purity - 0.9, np.minimum(total[usable], 1.0) - 0.8, _size(objects.area[usable])], axis=1
    )
    known = said >= 0
    fit = fit_slip(
        x[known], agrees[known].astype(np.float64), said[known], n_classes,
        centre=np.array([2.0, 3.0, 1.0, 0.3]), spread=np.array([3.0, 2.0, 2.0, 0.7]),
    )  # fmt: skip
    other = known & ~agrees
    rows, x, said = usable[other], x[other], said[other]
    return suspects(
        "mislabeled", fit.wrong_label(x, said), objects.image[rows], annotation=rows, label=said,
        reason="the model gives it another class, about which it is rarely wrong",
        evidence={
            "share_of_suggested": objects.other[rows],
            "share_of_given": objects.agree[rows],
            "precision": fit.right(x, said),
            "label_error_rate": np.full(len(rows), fit.slip),
        },
    ), fit  # fmt: skip


def _badly_drawn(objects: Objects, n_classes: int) -> tuple[Suspects, float]:
    """Objects of which the model has another outline, further off than it usually is."""
    rows = np.flatnonzero(
        (objects.agree + objects.other >= TOUCH) & (objects.agree >= objects.other) & (objects.label >= 0)
    )
    area, seen = objects.area[rows], objects.seen[rows]
    # Half a pixel on either side, so that the logits are finite and small masks do not shout.
    agreed = objects.agree[rows] * area
    agree, precise = (agreed + 0.5) / (area + 1.0), (agreed + 0.5) / (seen + 1.0)
    confidence = logit(np.clip(objects.confidence[rows], 1e-3, 1.0 - 1e-3))
    thickness = np.log(objects.thickness[rows])
    x = np.stack(
        [np.ones(len(rows)), _size(seen), confidence - _middle(confidence), thickness - _middle(thickness)], axis=1
    )
    bad, usual, share = badly_drawn(agree, precise, objects.thickness[rows], x, objects.label[rows], n_classes)
    lacks, over = usual[:, 1] - precise, usual[:, 0] - agree
    reason = np.select(
        [(lacks > 0.1) & (over > 0.1), lacks >= over],
        ["the mask lies beside what the model sees", "the mask leaves out a part of what the model sees"],
        "the mask covers more than what the model sees",
    )
    return suspects(
        "bad_mask", bad, objects.image[rows], annotation=rows, reason=reason,
        evidence={
            "iou": agreed / np.maximum(area + seen - agreed, 1.0),
            "confirmed": agree, "usually_confirmed": usual[:, 0], "complete": precise, "usually_complete": usual[:, 1],
            "label_error_rate": np.full(len(rows), share),
        },
    ), share  # fmt: skip


def _moved(objects: Objects, regions: Regions, missing: Suspects, unseen: Suspects) -> Suspects:
    """Objects that are not seen, beside a region of their class and size where nothing is labelled: one mask that is beside."""
    rows = np.flatnonzero(objects.partner != NOWHERE)
    by_row = np.zeros(len(objects))
    by_row[unseen.annotation] = unseen.score
    by_region = np.zeros(len(regions))
    by_region[missing.prediction] = missing.score
    partner = _region_rows(objects, regions, rows)
    # Either is a label that is wrong: the object is not there, or what is there has none.
    score = 1.0 - (1.0 - by_row[rows]) * (1.0 - by_region[partner])
    return suspects(
        "bad_mask", score, objects.image[rows], annotation=rows, prediction=partner,
        reason="the mask lies beside what the model sees",
        evidence={"iou": np.zeros(len(rows)), "confidence": regions.confidence[partner]},
    )  # fmt: skip


def _heard(found: Suspects, worse: FloatArray) -> Suspects:
    """Badly drawn masks, with the second opinion on them."""
    second = worse[found.annotation]
    return replace(found, score=both(found.score, second), evidence={**found.evidence, "like_worse": second})


def _unsuspected(objects: Objects, worse: FloatArray, found: Sequence[Suspects]) -> Suspects:
    """Masks that look badly drawn to the second opinion alone."""
    others = np.isfinite(worse)
    for part in found:
        others[part.annotation] = False
    rows = np.flatnonzero(others)
    return suspects(
        "bad_mask", both(np.zeros(len(rows)), worse[rows]), objects.image[rows], annotation=rows,
        reason="the mask fits what the model sees as masks do that were made worse for a trial",
        evidence={"like_worse": worse[rows]},
    )  # fmt: skip


def _surest(found: Suspects) -> Suspects:
    """One suspect for each object: the first."""
    _, first = np.unique(found.annotation, return_index=True)
    return found.take(np.union1d(first, np.flatnonzero(found.annotation < 0)))


def _region_rows(objects: Objects, regions: Regions, rows: IntArray) -> IntArray:
    """Rows of the partners of some objects."""
    width = int(regions.place.max(initial=0)) + 1
    key = regions.image * width + regions.place
    order = np.argsort(key, kind="stable")
    found = np.searchsorted(key[order], objects.image[rows] * width + objects.partner[rows])
    return np.asarray(order[found], dtype=np.int64)


def _size(area: FloatArray) -> FloatArray:
    """Logarithm of the area, against the usual one, in [-3, 3] or so."""
    size = 0.5 * np.log(np.maximum(area, 1.0))
    return np.asarray(size - _middle(size))


def _middle(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else 0.0
