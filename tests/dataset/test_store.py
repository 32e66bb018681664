"""The store: commits, snapshots, one writer, undo, removal."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pyarrow as pa
import pytest

from curate.dataset import begin, dataset_names, open_dataset, read_history, remove, undo
from curate.dataset.home import dataset_path
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES
from curate.errors import DatasetCorrupt, DatasetLocked, DatasetNotFound, UsageError


def images(*locations: str, split: str = "train") -> pa.Table:
    rows = [
        {"image_id": each, "location": location, "split": split, "tags": ["night"] if location.startswith("n") else []}
        for each, location in zip(image_ids(locations).to_pylist(), locations, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES)


def write(name: str, *locations: str) -> None:
    with begin(name, command=f"add {' '.join(locations)}", create=True) as transaction:
        transaction.append("images", [images(*locations)])
        transaction.count("images added", len(locations))


def locations(name: str, commit: int | None = None) -> list[str]:
    return sorted(open_dataset(name, commit=commit).table("images")["location"].to_pylist())


def test_a_commit_is_what_was_written() -> None:
    write("parts", "a.png", "b.png")
    write("parts", "c.png")
    dataset = open_dataset("parts")
    assert dataset.commit.number == 2
    assert dataset.count("images") == 3
    assert locations("parts") == ["a.png", "b.png", "c.png"]
    assert [commit.counts for commit in read_history(dataset.path)] == [{"images added": 1}, {"images added": 2}]
    assert read_history(dataset.path)[0].command == "add c.png"


def test_tables_that_were_never_written_are_empty() -> None:
    write("parts", "a.png")
    dataset = open_dataset("parts")
    assert dataset.table("findings").num_rows == 0
    assert dataset.table("annotations", columns=["label"]).column_names == ["label"]
    with pytest.raises(UsageError, match="no table 'nonsense'"):
        dataset.table("nonsense")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may come while something is let go
def test_ctrl_c_while_rows_are_read_is_a_ctrl_c() -> None:
    """Lance's readers hand it on as an error of theirs, in words."""
    write("parts", *(f"n{number}.png" for number in range(30_000)))
    dataset = open_dataset("parts")
    generator, interrupted, before = random.Random(0), 0, signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.0002, 0.01))
                dataset.table("images", columns=["image_id", "location"], where="location like 'n%9.png'")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            if interrupted == 60:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 60


def test_where_reads_sql_and_explains_itself() -> None:
    write("parts", "a.png", "n.png")
    dataset = open_dataset("parts")
    assert dataset.table("images", where="array_has(tags, 'night')")["location"].to_pylist() == ["n.png"]
    assert dataset.count("images", where="split = 'train'") == 2
    with pytest.raises(UsageError, match="nosuch") as error:
        dataset.table("images", where="nosuch = 1")
    assert "location" in str(error.value.remedy)


def write_half(name: str, *, create: bool) -> None:
    with begin(name, command="x", create=create) as transaction:
        transaction.append("images", [images("b.png")])
        raise RuntimeError("halfway")


def test_a_block_that_fails_commits_nothing() -> None:
    write("parts", "a.png")
    with pytest.raises(RuntimeError, match="halfway"):
        write_half("parts", create=False)
    assert locations("parts") == ["a.png"]
    write("parts", "c.png")
    assert locations("parts") == ["a.png", "c.png"]


def test_a_first_write_that_fails_leaves_no_dataset() -> None:
    with pytest.raises(RuntimeError):
        write_half("parts", create=True)
    assert dataset_names() == []
    assert not dataset_path("parts").exists()


def test_a_block_that_writes_nothing_makes_no_commit() -> None:
    write("parts", "a.png")
    with begin("parts", command="look"):
        pass
    assert open_dataset("parts").commit.number == 1


def test_a_reader_keeps_its_view() -> None:
    write("parts", "a.png")
    before = open_dataset("parts")
    write("parts", "b.png")
    with begin("parts", command="delete") as transaction:
        transaction.delete("images", "image_id", image_ids(["a.png"]))
    assert before.table("images")["location"].to_pylist() == ["a.png"]
    assert locations("parts") == ["b.png"]


def test_upsert_replaces_by_key_and_adds() -> None:
    write("parts", "a.png", "b.png")
    with begin("parts", command="update") as transaction:
        transaction.upsert("images", images("b.png", "c.png", split="val"), "image_id")
    rows = open_dataset("parts").table("images", columns=["location", "split"]).to_pylist()
    assert {row["location"]: row["split"] for row in rows} == {"a.png": "train", "b.png": "val", "c.png": "val"}


def test_undo_goes_back_and_further_back_and_forward_again() -> None:
    write("parts", "a.png")
    write("parts", "b.png")
    write("parts", "c.png")
    undo("parts", command="undo")
    assert locations("parts") == ["a.png", "b.png"]
    undo("parts", command="undo")
    assert locations("parts") == ["a.png"]
    with pytest.raises(UsageError, match="nothing to undo"):
        undo("parts", command="undo")
    undo("parts", command="undo", to=3)
    assert locations("parts") == ["a.png", "b.png", "c.png"]
    write("parts", "d.png")
    undo("parts", command="undo")
    assert locations("parts") == ["a.png", "b.png", "c.png"]


def test_writing_after_an_undo_starts_from_what_is_seen() -> None:
    write("parts", "a.png")
    write("parts", "b.png")
    undo("parts", command="undo")
    write("parts", "c.png")
    assert locations("parts") == ["a.png", "c.png"]
    assert locations("parts", commit=2) == ["a.png", "b.png"]


def test_remove_takes_everything_away() -> None:
    write("parts", "a.png")
    write("bolts", "a.png")
    remove("parts")
    assert dataset_names() == ["bolts"]
    with pytest.raises(DatasetNotFound, match="bolts"):
        open_dataset("parts")


def _hold(ready: Event, done: Event) -> None:
    with begin("parts", command="curate import big/"):
        ready.set()
        done.wait(30)


def test_a_second_writer_is_told_who_the_first_is() -> None:
    write("parts", "a.png")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    writer = context.Process(target=_hold, args=(ready, done))
    writer.start()
    try:
        assert ready.wait(30)
        with pytest.raises(DatasetLocked, match=f"'curate import big/', process {writer.pid} "):
            write("parts", "b.png")
        assert locations("parts") == ["a.png"]
    finally:
        done.set()
        writer.join(30)
    write("parts", "b.png")


def test_a_killed_writer_leaves_no_lock() -> None:
    write("parts", "a.png")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    writer = context.Process(target=_hold, args=(ready, done))
    writer.start()
    assert ready.wait(30)
    writer.kill()
    writer.join(30)
    write("parts", "b.png")
    assert locations("parts") == ["a.png", "b.png"]


def _make_and_remove(turns: int, results: multiprocessing.Queue[list[str]]) -> None:
    wrong = []
    for turn in range(turns):
        for action in (lambda: write("parts", "a.png"), lambda: remove("parts")):
            try:
                _wait_for_the_lock(action)
            except DatasetNotFound:
                pass
            except Exception as error:
                wrong.append(f"{turn}: {error!r}")
    results.put(wrong)


def _wait_for_the_lock(action: Callable[[], None]) -> None:
    while True:
        try:
            return action()
        except DatasetLocked:
            time.sleep(0.001)


def test_a_dataset_may_be_made_again_in_the_moment_it_is_removed() -> None:
    """Nobody takes away the folder that another process has just made, and no two write into one."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[str]] = context.Queue()
    workers = [context.Process(target=_make_and_remove, args=(30, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=120) for _ in workers] == [[], [], []]
    for worker in workers:
        worker.join(30)
    write("parts", "a.png")
    assert locations("parts") == ["a.png"]


@pytest.mark.parametrize("name", ["", "../x", "-d", ".hidden", "a/b", "a" * 101, "a b"])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a dataset's name"):
        open_dataset(name)


def test_what_cannot_be_read_is_named() -> None:
    write("parts", "a.png")
    path = dataset_path("parts")
    commit = path / "commits" / "00000001.json"
    content = json.loads(commit.read_text())
    commit.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(DatasetCorrupt, match="format 99"):
        open_dataset("parts")
    commit.write_text(json.dumps({**content, "tables": {"images": 77}}))
    with pytest.raises(DatasetCorrupt, match="version 77"):
        open_dataset("parts").table("images")
    commit.write_text("{")
    with pytest.raises(DatasetCorrupt, match="cannot be read"):
        open_dataset("parts")
    (path / "HEAD").write_text("junk")
    with pytest.raises(DatasetCorrupt, match="HEAD"):
        open_dataset("parts")


def test_a_home_that_is_not_there_holds_no_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_HOME", str(tmp_path / "nowhere"))
    assert dataset_names() == []
    with pytest.raises(DatasetNotFound, match="none yet"):
        open_dataset("parts")
