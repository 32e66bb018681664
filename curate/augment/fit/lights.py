"""The lights that the source's images were taken in, where these are several and the target is in one.

What makes a bright image look like the target makes a dim one too dark. So images are put in groups by what tells their light
and hardly depends on what they show (`curate.recipes.light.numbers_of_light`), with the mixture by which `curate shift` finds
set-ups of light, and a recipe is fitted from each. Where the target's images are spread over lights as well, it is not their
light that sets them apart, and one recipe is fitted to all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.augment.fit.views import Views
from curate.checks.shift.clusters import cluster_light, group_weights
from curate.recipes.light import numbers_of_light

Groups = npt.NDArray[np.int64]

FEWEST: Final = 16
"""Groups of the source's images below which a light is not fitted from by itself."""

_MOST: Final = 6
# The part of the target that is in one light.
_TOGETHER: Final = 0.8


@dataclass(frozen=True)
class Lights:
    """Lights of the source.

    Attributes:
        of: Which each of its n images was taken in: the nearest; shape (n,).
        middles: `numbers_of_light` of each, shape (k, 6).
        scale: Standard deviations of these within a light, shape (6,).
    """

    of: npt.NDArray[np.int64]
    middles: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]


def find_lights(source: Views, target: Views, groups: tuple[Groups, Groups], seed: int) -> Lights | None:
    """The source's lights; None where one recipe is to be fitted to all of it.

    Args:
        source: Its views.
        target: The target's.
        groups: Of either side's images, numbers that those share which belong together.
        seed: Of the clustering.
    """
    numbers = [numbers_of_light(each.small) for each in (source, target)]
    apart = np.concatenate([groups[0], groups[0].max() + 1 + groups[1]])
    labels = cluster_light(np.concatenate(numbers), apart, seed=seed)
    here, there = labels[: len(source)], labels[len(source) :]
    if not _is_one(there, groups[1]):
        return None
    known = [light for light in np.unique(here) if light >= 0 and len(np.unique(groups[0][here == light])) >= FEWEST]
    if len(known) < 2:
        return None
    known = sorted(known, key=lambda light: -int((here == light).sum()))[:_MOST]
    middles = np.stack([np.median(numbers[0][here == light], axis=0) for light in known])
    off = np.concatenate([numbers[0][here == light] - middle for light, middle in zip(known, middles, strict=True)])
    scale = off.std(axis=0) + 1e-3
    far = np.square((numbers[0][:, None] - middles) / scale).sum(axis=2)
    nearest = far.argmin(axis=1)
    return Lights(nearest, middles, scale)


def _is_one(labels: npt.NDArray[np.int64], groups: Groups) -> bool:
    """Whether most images are in one light; odd ones do not count."""
    weights = group_weights(groups)
    masses = np.bincount(labels[labels >= 0], weights=weights[labels >= 0])
    return bool(len(masses) and masses.max() >= _TOGETHER * masses.sum())
