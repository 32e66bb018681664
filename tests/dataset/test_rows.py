"""Comparing tables row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dataset.rows import RowIndex, compare, row_digests, rows_at

PART = pa.struct([pa.field("a", pa.int64()), pa.field("b", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("number", pa.float64()),
        pa.field("single", pa.float32()),
        pa.field("count", pa.int64()),
        pa.field("flag", pa.bool_()),
        pa.field("text", pa.string()),
        pa.field("box", pa.list_(pa.float64(), 2)),
        pa.field("parts", pa.list_(pa.list_(pa.float64()))),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("related", pa.list_(PART)),
        pa.field("part", PART),
    ]
)

numbers = st.sampled_from([0.0, -0.0, 1.0, 2.5, math.nan, math.inf])
texts = st.sampled_from(["", "a", "b", "a\0", "aaaaaaaa", "aaaaaaaab", "baaaaaaaa", "\u00e9"])
integers = st.sampled_from([0, 1, -1, 2**63 - 1, 0x7FF8_0000_0000_0001 - 1])
structs = st.fixed_dictionaries({"a": st.none() | st.integers(0, 1), "b": st.none() | texts})
rows = st.fixed_dictionaries(
    {
        "number": st.none() | numbers,
        "single": st.none() | numbers,
        "count": st.none() | integers,
        "flag": st.none() | st.booleans(),
        "text": st.none() | texts,
        "box": st.none() | st.tuples(st.none() | numbers, numbers).map(list),
        "parts": st.none() | st.lists(st.none() | st.lists(numbers, max_size=3), max_size=3),
        "tags": st.none() | st.lists(st.none() | texts, max_size=3),
        "related": st.none() | st.lists(st.none() | structs, max_size=2),
        "part": st.none() | structs,
    }
)


def canonical(value: Any) -> Any:
    """The value such that `==` is the equality meant: NaN equals NaN (and -0.0 equals 0.0 as it is)."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def change_one(row: dict[str, Any], column: str, other: dict[str, Any]) -> dict[str, Any]:
    return row | {column: other[column]}


changes = st.builds(
    lambda row, column, other: (row, change_one(row, column, other)), rows, st.sampled_from(SCHEMA.names), rows
)


@settings(deadline=None, max_examples=300)
@given(st.lists(changes, max_size=8), st.integers(0, 3), st.integers(1, 4))
def test_digests_are_equal_where_rows_are(
    pairs: list[tuple[dict[str, Any], dict[str, Any]]], offset: int, chunk: int
) -> None:
    """Within a table and between tables, also where a table is a slice, or comes in chunks."""
    left, right = (pa.Table.from_pylist([pair[side] for pair in pairs], schema=SCHEMA) for side in (0, 1))
    chunked = pa.Table.from_batches(right.to_batches(max_chunksize=chunk), schema=SCHEMA)
    first, second = row_digests(left), row_digests(chunked)
    values = [canonical(row) for table in (left, right) for row in table.to_pylist()]
    digests = np.concatenate([first, second])
    for one, value in zip(digests, values, strict=True):
        assert [bool(one == other) for other in digests] == [value == other for other in values]
    assert row_digests(left.slice(offset)).tolist() == first[offset:].tolist()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([None, 1], pa.int64()), pa.array([0, 1], pa.int64())),
        (pa.array([None, "a"]), pa.array(["", "a"])),
        (pa.array([["ab"]]), pa.array([["a", "b"]])),
        (pa.array([[[1.0], []]]), pa.array([[[], [1.0]]])),
        (pa.array([[1.0, 2.0]]), pa.array([[2.0, 1.0]])),
        (pa.array([["x", None]]), pa.array([["x"]])),
        (pa.array([["x", "x"]]), pa.array([["x"]])),
        (pa.array([[]], pa.list_(pa.int64())), pa.array([None], pa.list_(pa.int64()))),
        (pa.array([[None]], pa.list_(pa.int64())), pa.array([[]], pa.list_(pa.int64()))),
    ],
)
def test_what_looks_alike_has_another_digest(left: pa.Array, right: pa.Array) -> None:
    assert row_digests(pa.table({"x": left}))[0] != row_digests(pa.table({"x": right}))[0]


def test_a_column_where_all_is_equal_has_the_digests_of_any_other() -> None:
    """Such a column is digested once for all its rows; the rows are not told apart from those beside other ones."""
    for value in ("same", None, 1.5, [1.0, 2.0], math.nan):
        alone = row_digests(pa.table({"x": pa.array([value] * 3)}))
        other = [2.0] if isinstance(value, list) else "other" if isinstance(value, str) else 7.0
        among = row_digests(pa.table({"x": pa.array([value, other, value])}))
        assert set(alone.tolist()) == {int(among[0])} != {int(among[1])}


def test_columns_are_told_apart() -> None:
    one = row_digests(pa.table({"x": ["a"], "y": ["b"]}))
    assert one[0] != row_digests(pa.table({"x": ["b"], "y": ["a"]}))[0]
    assert one[0] != row_digests(pa.table({"x": pa.array(["a"]), "y": pa.nulls(1, pa.string())}))[0]


def test_many_rows_have_distinct_digests() -> None:
    count = 200_000
    table = pa.table({"x": np.arange(count), "text": [f"image_{number}.jpg" for number in range(count)]})
    assert len(np.unique(row_digests(table))) == count
    assert len(np.unique(row_digests(table.select(["text"])))) == count


def test_a_type_that_cannot_be_compared_is_named() -> None:
    with pytest.raises(TypeError, match="month_day_nano"):
        row_digests(pa.table({"x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}))


def test_compare_matches_by_key() -> None:
    old = pa.table({"id": ["a", "b", "c", "e"], "x": [1, 2, 3, 5], "note": ["", "", "", ""]})
    new = pa.table({"id": ["d", "c", "a", "e"], "x": [4, 3, 9, 5], "note": ["", "seen", "", ""]})
    result = compare([old], [new], "id", ignore=["note"])
    assert (result.added.tolist(), result.changed.tolist(), result.removed.tolist()) == ([0], [2], [1])
    result = compare(old.to_batches(max_chunksize=1), [new.slice(0, 3), new.slice(3)], "id")
    assert (result.added.tolist(), result.changed.tolist(), result.removed.tolist()) == ([0], [1, 2], [1])
    assert result.before.tolist() == [2, 0]


def test_compare_with_nothing() -> None:
    table = pa.table({"id": ["a", "b"]})
    assert compare([], [table], "id").added.tolist() == [0, 1]
    assert compare([table], [], "id").removed.tolist() == [0, 1]
    assert compare([], [], "id").added.tolist() == []


keyed = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2), max_size=8)


@settings(deadline=None)
@given(keyed, keyed, st.integers(1, 5), st.integers(1, 5))
def test_compare_is_what_dictionaries_say(old: dict[str, int], new: dict[str, int], first: int, second: int) -> None:
    schema = pa.schema([("id", pa.string()), ("x", pa.int64())])
    tables = [pa.table({"id": list(each), "x": list(each.values())}, schema=schema) for each in (old, new)]
    result = compare(tables[0].to_batches(max_chunksize=first), tables[1].to_batches(max_chunksize=second), "id")
    before, after = list(old), list(new)
    assert [after[row] for row in result.added] == [key for key in new if key not in old]
    assert [before[row] for row in result.removed] == [key for key in old if key not in new]
    changed = [key for key in new if key in old and new[key] != old[key]]
    assert [after[row] for row in result.changed] == [before[row] for row in result.before] == changed


def test_unmatched_shrinks_with_every_piece() -> None:
    index = RowIndex([pa.table({"id": ["a", "b", "c"]})], "id")
    assert index.unmatched().tolist() == [0, 1, 2]
    match = index.match(pa.table({"id": ["c", "x"]}))
    assert (match.added.tolist(), match.changed.tolist(), index.unmatched().tolist()) == ([1], [], [0, 1])


def test_rows_at_picks_across_pieces() -> None:
    table = pa.table({"x": list(range(10))})
    picked = pa.concat_tables(rows_at(table.to_batches(max_chunksize=3), np.array([0, 2, 3, 9])))
    assert picked["x"].to_pylist() == [0, 2, 3, 9]
