"""Spooled rows written as fragments by whoever an engine gives them to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.dataset import begin, open_dataset
from curate.engine.engines import map_jobs
from curate.formats.importing import import_source
from curate.models import spool_writing
from curate.models.spool import Spool
from curate.models.spool_writing import spooled_jobs, write_spooled
from tests.models.colour_predictor import paint

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("value", pa.int64(), nullable=False)])
TABLE = "measures/spooled"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """300 rows in parts of 50."""
    paint(tmp_path / "images" / "one.png", {})
    import_source("one", tmp_path / "images", command="curate import")
    spool = Spool(tmp_path / "spool", SCHEMA, "squares")
    for start in range(0, 300, 50):
        numbers = np.arange(start, start + 50)
        spool.add([pa.array([f"{number:04d}" for number in numbers]), pa.array(numbers**2)])
        spool.close()
    return spool


def test_wanted_rows_come_into_the_table_in_their_order(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_writing, "_FRAGMENT_ROWS", 60)
    wanted = np.arange(300) % 3 != 0
    wanted[100:200] = False
    with begin("one", command="test") as transaction:
        target = transaction.fragment_target(TABLE, SCHEMA)
        jobs = list(spooled_jobs(target, spool, wanted))
        written = [each for each in map_jobs(write_spooled, jobs) if each is not None]
        transaction.append_fragments(TABLE, written)
    assert len(jobs) == len(written) == 2
    rows = open_dataset("one").table(TABLE)
    assert rows["value"].to_pylist() == (np.flatnonzero(wanted) ** 2).tolist()


def test_a_machine_that_does_not_see_the_spool_writes_nothing(spool: Spool) -> None:
    with begin("one", command="test") as transaction:
        target = transaction.fragment_target(TABLE, SCHEMA)
        (job,) = spooled_jobs(target, spool, np.ones(300, bool))
        spool.parts()[3].unlink()
        assert write_spooled(*job.arguments) is None
