"""What hangs together: groups of rows by the pairs that link them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

IntArray = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]]


def components(first: Integers, second: Integers, n: int) -> IntArray:
    """Connected components of n rows.

    Args:
        first: One row of each of m links, shape (m,).
        second: The other, the same shape.
        n: How many rows.

    Returns:
        Numbers from 0 that rows of one component share, in the order of their first rows; int64 array of shape (n,).
    """
    links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def joined_groups(groups: Integers, first: Integers, second: Integers) -> IntArray:
    """Groups, with those that a link runs between made one.

    Args:
        groups: Numbers that rows of one group share, shape (n,).
        first: One row of each of m links, shape (m,).
        second: The other, the same shape.

    Returns:
        Numbers from 0 that rows of one joined group share, int64 array of shape (n,).
    """
    numbers, group = np.unique(groups, return_inverse=True)
    return components(group[first], group[second], len(numbers))[group]
