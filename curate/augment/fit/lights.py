"""The lights that the source's images were taken in, where these are several and the target is in one.

What makes a bright image look like the target makes a dim one too dark. So images are put in groups by what tells their light
and hardly depends on what they show (`curate.recipes.light.numbers_of_light`), with the mixture by which `curate shift` finds
set-ups of light, and a recipe is fitted from each. Where the target's images are spread over lights as well, it is not their
light that sets them apart, and one recipe is fitted to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.augment.fit.views import Views
from curate.checks.shift.clusters import cluster_light, group_weights
from curate.recipes.light import numbers_of_light
from curate.wording import counted

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
        of: Which each of its n images was taken in, or which is nearest to the light it was taken in; shape (n,).
        strange: Whether it was taken in another light, one that is not fitted from; bool of shape (n,).
        middles: `numbers_of_light` of each, shape (k, 6).
        scale: Standard deviations of these within a light, shape (6,).
    """

    of: npt.NDArray[np.int64]
    strange: npt.NDArray[np.bool_]
    middles: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]


def find_lights(
    source: Views, target: Views, groups: tuple[Groups, Groups], seed: int
) -> tuple[Lights | None, tuple[str, ...]]:
    """The source's lights, None where one recipe is to be fitted to all of it; and what a person should know, in words.

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
        return None, ()
    every = sorted(
        (int(light) for light in np.unique(here) if light >= 0), key=lambda light: -int((here == light).sum())
    )
    known = [light for light in every if len(np.unique(groups[0][here == light])) >= FEWEST][:_MOST]
    if len(known) < 2:
        return None, _not_told_apart(here, every)
    others = [light for light in every if light not in known]
    middles = np.stack([np.median(numbers[0][here == light], axis=0) for light in known])
    off = np.concatenate([numbers[0][here == light] - middle for light, middle in zip(known, middles, strict=True)])
    scale = off.std(axis=0) + 1e-3
    far = np.square((numbers[0][:, None] - middles) / scale).sum(axis=2)
    return Lights(far.argmin(axis=1), np.isin(here, others), middles, scale), _left_out(here, others)


def _not_told_apart(here: npt.NDArray[np.int64], every: Sequence[int]) -> tuple[str, ...]:
    if len(every) < 2:
        return ()
    return (
        f"the other images were taken in {len(every)} lights ({_counts(here, every)} images), but fewer than two of these have "
        f"{FEWEST} images that do not belong together: one recipe is fitted to all, which makes the darker ones too dark or the "
        "brighter ones too bright",
    )


def _left_out(here: npt.NDArray[np.int64], others: Sequence[int]) -> tuple[str, ...]:
    if not others:
        return ()
    images = counted(int(np.isin(here, others).sum()), "images")
    return (
        f"{images} of the others were taken in {counted(len(others), 'more lights')} ({_counts(here, others)}) that nothing is "
        f"fitted from: {FEWEST} images that do not belong together are needed, and at most {_MOST} lights are told apart; such "
        "images are changed by what was fitted from the light nearest to theirs, which may not suit them",
    )


def _counts(here: npt.NDArray[np.int64], lights: Sequence[int]) -> str:
    return ", ".join(f"{int((here == light).sum()):,}" for light in lights)


def _is_one(labels: npt.NDArray[np.int64], groups: Groups) -> bool:
    """Whether most images are in one light; odd ones do not count."""
    weights = group_weights(groups)
    masses = np.bincount(labels[labels >= 0], weights=weights[labels >= 0])
    return bool(len(masses) and masses.max() >= _TOGETHER * masses.sum())
