"""Sorting rows by several columns."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.boxes import order_by


@pytest.mark.parametrize("values", [2, 5, 1000])
@pytest.mark.parametrize("rows", [0, 1, 2, 3000])
def test_rows_come_as_lexsort_has_them_however_many_tie(values: int, rows: int) -> None:
    keys = np.random.default_rng(rows + values).integers(0, values, (5, rows)).astype(np.float64)
    assert np.array_equal(order_by(*keys), np.lexsort(keys[::-1]))
    assert np.array_equal(order_by(*keys[:2]), np.lexsort(keys[1::-1]))
