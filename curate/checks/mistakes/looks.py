"""What the looks of a box say of what a detector's predictions have made suspicious.

A detector that finds nothing in a box may have overlooked what is there, and all it can say is how often it does; one that
sees another class may have taken it for that. The looks of the box know more. Where a person has boxed an object, its class
can be told from the crop about as well as that of others; where a box holds nothing, its label has nothing to do with what
the crop looks like.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.mistakes.tables import Suspects

_LEAST: Final = 0.01
"""Probabilities of classes are not trusted beyond this and its complement."""

_MOST: Final = 5.0
"""How much more likely looks make it, at most, that nothing is there: what a detector overlooks is hard to tell by its looks."""


def weigh_by_looks(found: Suspects, p_given: FloatArray, share: FloatArray) -> Suspects:
    """Suspects with the looks of superfluous and of mislabeled boxes taken into account, by Bayes' rule.

    In a box without an object the label is as probable as it is among all labels; in one with an object, as probable as the
    looks of the crop make it. Of a box with another class's label, the looks say how much more probable the others are than
    they are among all labels.

    Args:
        found: Suspects; those of other kinds, superfluous boxes in which something was detected, and boxes drawn twice, stay
            as they are.
        p_given: Probability of each annotation's class by its crop, to which its own label had no vote; NaN where it was not
            judged. Shape (annotations,).
        share: Part of all labels that are of each annotation's class; the same shape.

    Returns:
        The same suspects with other scores, highest first.
    """
    row = np.maximum(found.annotation, 0)
    looks = p_given[row].astype(np.float64).clip(_LEAST, 1 - _LEAST)
    common = share[row].clip(_LEAST, 1 - _LEAST)
    usable = (found.related < 0) & ~np.isnan(looks)
    likelier = {
        "spurious": np.where(usable & (found.prediction < 0), np.minimum(common / looks, _MOST), 1.0),
        "mislabeled": np.where(usable, (1 - looks) / looks * common / (1 - common), 1.0),
    }
    score, evidence = found.score, dict(found.evidence)
    for kind, times in likelier.items():
        score = np.where(found.kind == kind, _times(score, times), score)
        if (name := f"p_{kind}") in evidence:
            evidence[name] = _times(evidence[name], times)
    weighed = replace(found, score=score, evidence=evidence)
    return weighed.take(np.argsort(-weighed.score, kind="stable"))


def _times(p: FloatArray, times: FloatArray) -> FloatArray:
    """Probabilities whose odds are multiplied; where by 1, they stay the same to the last bit."""
    bounded = p.clip(1e-6, 1 - 1e-6)
    odds = bounded / (1 - bounded) * times
    return np.where(times == 1.0, p, odds / (1 + odds))


def class_shares(labels: IntArray) -> FloatArray:
    """Part of all labels that are of the same class as each; shape (n,)."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(counts[codes] / max(len(labels), 1), dtype=np.float64)
