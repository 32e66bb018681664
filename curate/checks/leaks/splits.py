"""The names of splits: which are trained on and which are measured on, and the shares asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from curate.errors import UsageError

DEFAULT_RATIOS: Final[Mapping[str, float]] = {"train": 0.8, "val": 0.1, "test": 0.1}
"""For a set that has no split yet."""

_TRAINING, _VALIDATION, _EVALUATION = range(3)
_ROLES: Final = {
    _TRAINING: re.compile(r"train|fit\b", re.IGNORECASE),
    _VALIDATION: re.compile(r"val|dev", re.IGNORECASE),
    _EVALUATION: re.compile(r"test|eval|hold", re.IGNORECASE),
}
_SUM_TOLERANCE: Final = 1e-6


def rank_splits(sizes: Mapping[str, int]) -> list[str]:
    """Names of splits from what is trained on to what is measured on: train, val, then test; larger ones first.

    Args:
        sizes: Images of each split.
    """
    return sorted(sizes, key=lambda name: (_role(name), -sizes[name], name))


def parse_ratios(text: str) -> dict[str, float]:
    """Parse 'train=0.8,val=0.1,test=0.1'.

    Raises:
        UsageError: A part is not NAME=SHARE with a share in [0, 1], a name comes twice, or the shares do not add up to 1.
    """
    ratios: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not name or not equals or not 0 <= share <= 1 or name in ratios:
            raise _wrong(f"'{part.strip()}' is not a split and its share, or is there twice")
        ratios[name] = share
    if abs(sum(ratios.values()) - 1) > _SUM_TOLERANCE:
        raise _wrong(f"the shares add up to {sum(ratios.values()):g}, not to 1")
    return ratios


def listed(names: Sequence[str]) -> str:
    """'train', 'train and val', 'train, val and test'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _role(name: str) -> int:
    return next((role for role, pattern in _ROLES.items() if pattern.match(name)), _VALIDATION)


def _wrong(what: str) -> UsageError:
    return UsageError(what, where="--ratios", remedy="e.g. --ratios train=0.8,val=0.1,test=0.1")
