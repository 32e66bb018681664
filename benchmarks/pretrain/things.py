"""Formulas for things. A category is a formula with its parameters fixed by a number; a thing is one variation of it.

The formulas are general (a creature has legs, a neck, ears and a tail of any length and number), and their parameters are
drawn at random: there is no list of kinds that anyone wanted to recognise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.pretrain import living, made
from benchmarks.pretrain.solids import Array, Solid
from benchmarks.pretrain.variation import Parameters

Formula = Callable[[Parameters], list[Solid]]


@dataclass(frozen=True)
class Family:
    """Things of one formula.

    Attributes:
        name: What they are.
        formula: Solids from parameters.
        upright: Whether they stand on something: seen from any side, but not from any angle.
        yaw: How far they are turned to either side of where they are seen best, in radians.
    """

    name: str
    formula: Formula
    upright: bool = True
    yaw: float = np.pi


FAMILIES: Final[tuple[Family, ...]] = (
    Family("creature", living.creature, yaw=0.9),
    Family("person", living.person, yaw=0.8),
    Family("face", living.face, yaw=0.5),
    Family("plant", living.plant),
    Family("swimmer", living.swimmer, yaw=0.7),
    Family("building", made.building, yaw=0.7),
    Family("vehicle", made.vehicle, yaw=0.8),
    Family("furniture", made.furniture, yaw=0.8),
    Family("vessel", made.vessel),
    Family("instrument", made.instrument, upright=False, yaw=0.5),
    Family("machine part", made.machine_part, upright=False, yaw=0.7),
    Family("contour", made.contour, upright=False, yaw=0.5),
    Family("sign", made.sign, upright=False, yaw=0.4),
    Family("flyer", made.flyer, upright=False, yaw=0.8),
)

CATEGORIES_PER_FAMILY: Final = 48
CATEGORIES: Final = len(FAMILIES) * CATEGORIES_PER_FAMILY


def thing(category: int, variation: np.random.Generator, *, seed: int) -> tuple[list[Solid], Family]:
    """One variation of a category.

    Args:
        category: In [0, CATEGORIES).
        variation: What makes it different from others of its category.
        seed: Of the categories' parameters.
    """
    family = FAMILIES[category % len(FAMILIES)]
    parameters = Parameters(np.random.default_rng([seed, 1, category]), variation)
    return family.formula(parameters), family


def extent(outlines: Sequence[Array]) -> tuple[Array, Array]:
    """The lower and upper corner of what outlines cover, each of shape (2,)."""
    points = np.concatenate(outlines)
    return points.min(axis=0), points.max(axis=0)
