"""Fragments: rows that several processes write for one commit; what a killed one leaves is never seen, and deleted."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.dataset import begin, open_dataset, undo
from curate.dataset.fragments import FragmentTarget, write_fragment
from curate.dataset.home import dataset_path
from curate.dataset.schema import embeddings_schema

TABLE = "embeddings/test"
SCHEMA = embeddings_schema(4)
ROWS = 500


def vectors(part: int) -> pa.Table:
    """500 rows of part `part`, told apart by their ids; each vector holds the part's number."""
    ids = [f"{part:08d}{row:08d}" for row in range(ROWS)]
    values = pa.array(np.full(4 * ROWS, part, dtype=np.float16))
    return pa.table(
        {"id": ids, "fingerprint": [""] * ROWS, "vector": pa.FixedSizeListArray.from_arrays(values, 4)}, schema=SCHEMA
    )


def write_part(target: FragmentTarget, part: int) -> str:
    return write_fragment(target, vectors(part).to_batches(max_chunksize=100))


def die_at_work(target: FragmentTarget) -> None:
    """A worker that is killed once its file is there, before anybody has been told of it."""
    write_part(target, 99)
    os.kill(os.getpid(), signal.SIGKILL)


def files(name: str = "parts") -> set[str]:
    return {path.name for path in (dataset_path(name) / "tables" / f"{TABLE}.lance" / "data").iterdir()}


def outstanding(name: str = "parts") -> Path:
    return dataset_path(name) / "fragments.json"


@pytest.fixture
def workers() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_processes_write_and_the_driver_makes_one_commit(workers: ProcessPoolExecutor) -> None:
    with begin("parts", command="embed", create=True) as transaction:
        target = transaction.fragment_target(TABLE, SCHEMA)
        assert pickle.loads(pickle.dumps(target)) == target
        killed = multiprocessing.get_context("spawn").Process(target=die_at_work, args=(target,))
        killed.start()
        killed.join(60)
        assert killed.exitcode == -signal.SIGKILL
        assert len(files()) == 1, "the killed worker should have written its file"
        written = list(workers.map(write_part, [target] * 4, range(4)))
        assert transaction.read(TABLE).num_rows == 0, "nothing is in the table before the driver says so"
        transaction.append_fragments(TABLE, written)
        assert len(files()) == 5
    dataset = open_dataset("parts")
    assert dataset.commit.number == 1
    assert dataset.table(TABLE).equals(pa.concat_tables([vectors(part) for part in range(4)]))
    assert len(files()) == 4, "what the killed worker left is gone"
    assert not outstanding().exists()


def test_fragments_are_added_to_what_is_there_and_undone() -> None:
    with begin("parts", command="embed", create=True) as transaction:
        transaction.append(TABLE, [vectors(0)], SCHEMA)
    with begin("parts", command="embed more") as transaction:
        target = transaction.fragment_target(TABLE)
        transaction.append_fragments(TABLE, [write_part(target, 1)])
        assert transaction.read(TABLE).num_rows == 2 * ROWS
        transaction.append_fragments(TABLE, [write_part(target, 2), write_part(target, 3)])
    assert open_dataset("parts").table(TABLE)["id"].to_pylist() == [
        each for part in range(4) for each in vectors(part)["id"].to_pylist()
    ]
    undo("parts", command="undo")
    assert open_dataset("parts").count(TABLE) == ROWS
    with begin("parts", command="embed again") as transaction:
        transaction.append_fragments(TABLE, [write_part(transaction.fragment_target(TABLE), 7)])
    assert open_dataset("parts").table(TABLE).equals(pa.concat_tables([vectors(0), vectors(7)]))
    assert open_dataset("parts", commit=2).count(TABLE) == 4 * ROWS, "sweeping takes no file that a commit needs"


def test_nothing_written_is_no_row_and_no_version() -> None:
    with begin("parts", command="embed", create=True) as transaction:
        target = transaction.fragment_target(TABLE, SCHEMA)
        transaction.append_fragments(TABLE, [write_fragment(target, [])])
        transaction.append_fragments(TABLE, [])
    assert open_dataset("parts").count(TABLE) == 0
    with begin("parts", command="look") as transaction:
        transaction.append_fragments(TABLE, [write_fragment(transaction.fragment_target(TABLE), [])])
    assert open_dataset("parts").commit.number == 1


def test_rows_are_cast_and_what_does_not_fit_is_refused() -> None:
    with begin("parts", command="embed", create=True) as transaction:
        target = transaction.fragment_target(TABLE, SCHEMA)
        wide = vectors(0).set_column(2, "vector", vectors(0)["vector"].cast(pa.list_(pa.float32(), 4)))
        transaction.append_fragments(TABLE, [write_fragment(target, [wide])])
        with pytest.raises(ValueError, match="not matching"):
            write_fragment(target, [vectors(0).rename_columns(["a", "b", "c"])])
    assert open_dataset("parts").table(TABLE).equals(vectors(0))


def write_and_fail() -> None:
    with begin("parts", command="embed more") as transaction:
        write_part(transaction.fragment_target(TABLE), 1)
        raise RuntimeError("halfway")


def test_a_failed_run_leaves_no_file() -> None:
    with begin("parts", command="embed", create=True) as transaction:
        transaction.append(TABLE, [vectors(0)], SCHEMA)
    before = files()
    with pytest.raises(RuntimeError, match="halfway"):
        write_and_fail()
    assert files() == before
    assert open_dataset("parts").count(TABLE) == ROWS


def _write_and_hang(ready: Event) -> None:
    with begin("parts", command="curate embed") as transaction:
        write_part(transaction.fragment_target(TABLE), 1)
        ready.set()
        signal.pause()


def test_what_a_killed_driver_left_is_deleted_by_the_next_writer() -> None:
    with begin("parts", command="embed", create=True) as transaction:
        transaction.append(TABLE, [vectors(0)], SCHEMA)
    before = files()
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    driver = context.Process(target=_write_and_hang, args=(ready,))
    driver.start()
    assert ready.wait(60)
    driver.kill()
    driver.join(60)
    assert len(files()) == 2
    assert outstanding().exists()
    with begin("parts", command="look"):
        assert files() == before
    assert not outstanding().exists()
    assert open_dataset("parts").commit.number == 1
