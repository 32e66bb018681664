"""What the layouts share: the form of outputs, and saying that a shape does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy.typing as npt

from curate.errors import InputError

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
"""What a network gave for one image, by the name of the output."""


def misfit(layout: str, expected: str, *arrays: Array) -> NoReturn:
    """Say that outputs do not have the shape of a layout.

    Raises:
        InputError: Always; where it is, the caller knows.
    """
    shapes = " and ".join(str(array.shape) for array in arrays)
    raise InputError(f"layout '{layout}' wants {expected} for one image, and the model gives {shapes}")
