"""The spool: parts are whole or not there, and are read one at a time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from curate.models.spool import Spool, discard

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("value", pa.int64())])


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Three parts: ids a and b, c, d."""
    spool = Spool(tmp_path / "spool", SCHEMA, "squares 1")
    for ids in (["a", "b"], ["c"], ["d"]):
        spool.add([pa.array(ids), pa.array([ord(name) for name in ids])])
        spool.close()
    return spool


def test_rows_are_read_in_the_order_in_which_they_were_written(spool: Spool) -> None:
    assert spool.read().to_pydict() == {"id": ["a", "b", "c", "d"], "value": [97, 98, 99, 100]}
    assert [piece.num_rows for piece in spool.pieces()] == [2, 1, 1]


def test_some_columns_are_read_without_the_others(spool: Spool) -> None:
    assert spool.read(["value"]).to_pydict() == {"value": [97, 98, 99, 100]}
    assert [piece.column_names for piece in spool.pieces(["value", "id"])] == [["value", "id"]] * 3


def test_the_other_columns_are_let_go_of(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string()), pa.field("large", pa.binary())])
    spool = Spool(tmp_path / "spool", schema, "large 1")
    for name in ("a", "b"):
        spool.add([pa.array([name]), pa.array([bytes(1 << 20)])])
    spool.close()
    held = pa.total_allocated_bytes()
    assert spool.read(["id"])["id"].to_pylist() == ["a", "b"]
    ids = spool.read(["id"])
    assert pa.total_allocated_bytes() - held < 100_000
    assert ids.num_rows == 2


def test_an_empty_spool_has_the_columns_asked_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "none", SCHEMA, "squares 1")
    assert spool.read().column_names == ["id", "value"]
    assert spool.read(["value"]).column_names == ["value"]
    assert spool.parts() == ()
    assert not (tmp_path / "none").exists()


def test_a_damaged_part_is_passed_over(spool: Spool) -> None:
    damaged = spool.parts()[1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert spool.read()["id"].to_pylist() == ["a", "b", "d"]


def test_parts_of_another_computation_are_passed_over(spool: Spool, tmp_path: Path) -> None:
    other = Spool(tmp_path / "spool", SCHEMA, "squares 2")
    assert other.read().num_rows == 0
    other.add([pa.array(["e"]), pa.array([0])])
    other.close()
    assert other.read(["id"])["id"].to_pylist() == ["e"]
    assert spool.read()["id"].to_pylist() == ["a", "b", "c", "d"]


def test_what_is_read_stays_when_the_parts_are_discarded(spool: Spool, tmp_path: Path) -> None:
    pieces = spool.pieces()
    first = next(pieces)
    rows = spool.read()
    discard(spool.parts())
    assert not (tmp_path / "spool").exists()
    assert first["id"].to_pylist() == ["a", "b"]
    assert rows["value"].to_pylist() == [97, 98, 99, 100]
    assert list(pieces) == []
