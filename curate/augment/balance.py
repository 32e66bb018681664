"""How often each parent is used: evenly, or so that rare classes become less rare; and how many images are worth making.

Rare classes are raised by repeat factors (Gupta, Dollár and Girshick, *LVIS*, CVPR 2019): a class on a share f of the images
counts sqrt(t / f) times where f is below t, and an image as often as its rarest class.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.augment.parents import Parent

FloatArray = npt.NDArray[np.float64]

TARGET_SHARE: Final = 1 / 3
"""Of the training images, how many should look as is wanted, real ones and new ones."""

_LEAST_SHARE: Final = 0.1


def deal(weights: FloatArray, count: int, seed: int) -> list[tuple[int, int]]:
    """Which parents are used, in order; more of them go on where fewer stopped.

    Args:
        weights: How often each of n parents should be used in proportion, shape (n,), some above 0.
        count: How many uses.
        seed: Of the order among equals.

    Returns:
        Number of the parent, and how often it was used before, `count` times.
    """
    order = np.random.default_rng([seed, len(weights)]).permutation(len(weights))
    queue = [(0.5 / weights[k], place, k, 0) for place, k in enumerate(order.tolist()) if weights[k] > 0]
    heapq.heapify(queue)
    dealt = []
    for _ in range(count):
        _, place, k, used = queue[0]
        dealt.append((k, used))
        heapq.heapreplace(queue, ((used + 1.5) / weights[k], place, k, used + 1))
    return dealt


def repeat_weights(parents: Sequence[Parent]) -> FloatArray:
    """How often each parent should be used so that rare classes become less rare; shape (n,).

    The threshold t is the share of the images that the middle class is on: classes above it ask for nothing.
    """
    shown = [{label.label for label in parent.labels if label.label is not None} for parent in parents]
    counts = Counter(name for names in shown for name in names)
    if not counts:
        return np.ones(len(parents))
    middle = float(np.median(list(counts.values())))
    factor = {name: math.sqrt(middle / number) if number < middle else 1.0 for name, number in counts.items()}
    wanted = np.array([max((factor[name] for name in names), default=1.0) for names in shown]) - 1.0
    return wanted if wanted.any() else np.ones(len(parents))


def default_count(training: int, inside: int) -> int:
    """How many images bring those that look as is wanted to a third of all that is learnt from; a tenth at least.

    Args:
        training: How many real images are learnt from.
        inside: How many of them look so already.
    """
    lacking = math.ceil((TARGET_SHARE * training - inside) / (1 - TARGET_SHARE))
    return max(lacking, math.ceil(_LEAST_SHARE * training), 1)
