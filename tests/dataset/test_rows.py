"""Comparing tables row by row."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dataset.rows import compare, rows_differ

TYPE = pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("number", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("box", pa.list_(pa.float64(), 2)),
        pa.field("parts", pa.list_(pa.list_(pa.float64()))),
        pa.field("related", pa.list_(TYPE)),
    ]
)

numbers = st.sampled_from([0.0, 1.0, 2.5])
rows = st.fixed_dictionaries(
    {
        "number": st.none() | numbers,
        "text": st.none() | st.sampled_from(["", "a", "b"]),
        "box": st.none() | st.tuples(numbers, numbers).map(list),
        "parts": st.none() | st.lists(st.lists(numbers, max_size=2), max_size=2),
        "related": st.none()
        | st.lists(
            st.fixed_dictionaries({"a": st.none() | st.integers(0, 1), "b": st.sampled_from(["x", "y"])}), max_size=2
        ),
    }
)


@settings(deadline=None)
@given(st.lists(st.tuples(rows, rows, st.booleans()), max_size=6))
def test_rows_differ_is_row_by_row_inequality(pairs: list[tuple[dict[str, Any], dict[str, Any], bool]]) -> None:
    left = [first for first, _, _ in pairs]
    right = [first if same else second for first, second, same in pairs]
    differ = rows_differ(pa.Table.from_pylist(left, schema=SCHEMA), pa.Table.from_pylist(right, schema=SCHEMA))
    assert differ.tolist() == [a != b for a, b in zip(left, right, strict=True)]


def test_nan_equals_nan() -> None:
    table = pa.table({"x": [float("nan"), 1.0]})
    assert rows_differ(table, table).tolist() == [False, False]


def test_compare_matches_by_key() -> None:
    old = pa.table({"id": ["a", "b", "c"], "x": [1, 2, 3], "note": ["", "", ""]})
    new = pa.table({"id": ["d", "c", "a"], "x": [4, 3, 9], "note": ["", "seen", ""]})
    result = compare(old, new, "id", ignore=["note"])
    assert (result.added.tolist(), result.changed.tolist(), result.removed.tolist()) == ([0], [2], [1])
    assert compare(old, new, "id").changed.tolist() == [1, 2]
