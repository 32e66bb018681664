"""The ring on disk: bounded, whole after any end, one writer, and read while it is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from curate.edge.harvest.entry import FACTS as FACTS_FILE
from curate.edge.harvest.entry import encode, read_entry
from curate.edge.harvest.ring import Bounds, Ring, read_packages, ring_id, stored_entries
from curate.errors import CurateError, InputError, UsageError
from curate.runner import Result
from tests.edge import harvest_cases
from tests.edge.harvest_cases import FACTS, PACKAGE, context, hard_frame

ROOT = Path(__file__).parents[2]


def disk_use(folder: Path) -> int:
    """Bytes below a ring's entries, in blocks of 4 KiB and one for each entry's folder."""
    sizes = [path.stat().st_size for path in folder.glob("entries/*/*")]
    return sum(-(-size // 4096) * 4096 for size in sizes) + 4096 * len(list(folder.glob("entries/*")))


def ids(folder: Path) -> list[str]:
    return [each.id for each in stored_entries(folder)]


def start_child(folder: Path, entries: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", harvest_cases.__name__, str(folder), str(entries), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_what_is_put_is_read_back(tmp_path: Path) -> None:
    frame = hard_frame(3)
    with Ring(tmp_path / "ring", lossless=True) as ring:
        ring.add_package(PACKAGE, FACTS)
        identity = ring.put(frame)
    stored = stored_entries(tmp_path / "ring")
    entry = read_entry(stored[0].folder)
    assert [each.id for each in stored] == [identity] == [entry.id]
    assert (stored[0].reason, stored[0].bytes) == ("unsure", disk_use(tmp_path / "ring"))
    assert entry.context == frame.context
    assert (entry.reasons, entry.score) == ({"unsure": 0.8}, 0.8)
    for name in ("boxes", "labels", "scores"):
        np.testing.assert_array_equal(getattr(entry.result, name), getattr(frame.result, name))
    assert read_packages(tmp_path / "ring")[PACKAGE]["classes"] == list(FACTS["classes"])


@pytest.mark.parametrize("lossless", [False, True])
def test_pictures_come_back(tmp_path: Path, lossless: bool) -> None:
    import io

    from PIL import Image

    frame = hard_frame(5)
    with Ring(tmp_path, lossless=lossless) as ring:
        ring.put(frame)
    entry = read_entry(stored_entries(tmp_path)[0].folder)
    pixels = np.asarray(Image.open(io.BytesIO(entry.image)))
    difference = np.abs(pixels.astype(int) - frame.pixels.astype(int))
    assert entry.suffix == (".png" if lossless else ".jpg")
    assert difference.max() == 0 if lossless else difference.mean() < 2


def test_other_tasks_and_a_second_package_come_back(tmp_path: Path) -> None:
    classified = Result("classify", (96, 128), probabilities=np.array([0.25, 0.75], np.float32))
    where = np.full((96, 128), -1, np.int16)
    where[10:20, 30:60] = 1
    confidence = np.linspace(0, 1, where.size, dtype=np.float32).reshape(where.shape)
    mapped = Result("segment", (96, 128), class_map=where, confidence=confidence)
    frame = dataclasses.replace(
        hard_frame(1), result=mapped, context=context(other=classified, other_package="b@2", agreement=0.25)
    )
    with Ring(tmp_path) as ring:
        ring.put(frame)
    entry = read_entry(stored_entries(tmp_path)[0].folder)
    np.testing.assert_array_equal(entry.result.class_map, where)
    assert entry.result.confidence is not None
    assert np.abs(entry.result.confidence - confidence).max() <= 0.5 / 255 + 1e-6
    assert entry.other is not None
    np.testing.assert_array_equal(entry.other.probabilities, classified.probabilities)
    assert (entry.context.other_package, entry.context.agreement) == ("b@2", 0.25)


def test_an_entry_appears_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    rename = Path.rename

    def spy(self: Path, target: Path) -> Path:
        read_entry(self)  # whole before it is in its place
        seen.append((self.name[:5], target.exists()))
        return rename(self, target)

    with Ring(tmp_path) as ring:
        monkeypatch.setattr(Path, "rename", spy)
        ring.put(hard_frame(0))
    assert seen == [(".new-", False)]


def test_bounds_hold_at_every_moment(tmp_path: Path) -> None:
    one = sum(-(-len(data) // 4096) * 4096 for data in encode(hard_frame(0), "0" * 21).values()) + 4096
    with Ring(tmp_path, bounds=Bounds(5, 3 * one + 100)) as ring:
        for seed in range(9):
            ring.put(hard_frame(seed % 2))
            assert disk_use(tmp_path) == ring.bytes <= ring.bounds.bytes
        assert (len(ring), ring.evicted) == (3, 6)
    with Ring(tmp_path, bounds=Bounds(2)) as ring:  # smaller bounds are kept at once
        assert (len(ring), ring.evicted) == (2, 1)
    assert [int(each.partition("-")[0]) for each in ids(tmp_path)] == [8, 9]


def test_a_flood_of_one_reason_leaves_the_others(tmp_path: Path) -> None:
    with Ring(tmp_path, bounds=Bounds(6)) as ring:
        rare = [ring.put(hard_frame(seed, "drift")) for seed in range(2)]
        for seed in range(20):
            ring.put(hard_frame(seed % 3, "unsure"))
        assert ring.reasons == {"drift": 2, "unsure": 4}
    assert set(rare) <= set(ids(tmp_path))


def test_a_frame_that_is_larger_than_the_ring_is_refused(tmp_path: Path) -> None:
    with Ring(tmp_path, bounds=Bounds(5, 5000)) as ring:
        assert ring.put(hard_frame(0)) is None
        assert len(ring) == 0 == disk_use(tmp_path)


def test_ids_are_never_used_twice(tmp_path: Path) -> None:
    seen = set()
    for _ in range(3):
        with Ring(tmp_path, bounds=Bounds(1)) as ring:
            seen |= {ring.put(hard_frame(0)) for _ in range(2)}
    assert len(seen) == 6


def test_a_ring_that_was_emptied_starts_with_other_ids(tmp_path: Path) -> None:
    """What was imported from it is known by its id: a new frame must not pass for an old one."""
    seen = []
    for _ in range(2):
        with Ring(tmp_path) as ring:
            seen.append(ring.put(hard_frame(0)))
        shutil.rmtree(stored_entries(tmp_path)[0].folder)
    assert seen[0] != seen[1]


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    child = start_child(tmp_path / "ring", 5, 1 << 20)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        with pytest.raises(UsageError, match=rf"another process harvests into this folder: process {child.pid} on "):
            Ring(tmp_path / "ring")
    finally:
        child.kill()
        child.communicate()
    Ring(tmp_path / "ring").close()  # the lock went with its holder


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="the folder holds something else"):
        Ring(tmp_path)
    with pytest.raises(UsageError, match="this is a file"):
        Ring(tmp_path / "photo.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "harvest.json").write_text(json.dumps({"format": 2, "id": "01234567"}))
    with pytest.raises(InputError, match="a harvest of format 2"):
        Ring(tmp_path)
    (tmp_path / "harvest.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        ring_id(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image.jpg", lambda data: data[:-1]),
        ("image.jpg", lambda data: data[:50] + b"\x00" + data[51:]),
        (FACTS_FILE, lambda data: data[: len(data) // 2]),
        (FACTS_FILE, lambda data: b"[]"),
        (FACTS_FILE, lambda data: data.replace(b'"image.jpg"', b'"../../harvest.json"')),
        (FACTS_FILE, lambda data: data.replace(b'"unsure": 0.8', b'"whim": 0.8')),
        (FACTS_FILE, lambda data: data.replace(b'"boxes": [[10.25,', b'"boxes": [[')),
    ],
)
def test_what_is_damaged_is_told(tmp_path: Path, name: str, change: object) -> None:
    with Ring(tmp_path) as ring:
        ring.put(hard_frame(0))
    folder = stored_entries(tmp_path)[0].folder
    before = (folder / name).read_bytes()
    after = change(before)  # type: ignore[operator]
    assert after != before
    (folder / name).write_bytes(after)
    with pytest.raises(InputError, match="the entry is damaged"):
        read_entry(folder)


def test_an_entry_names_no_files_of_others(tmp_path: Path) -> None:
    with Ring(tmp_path) as ring:
        ring.put(hard_frame(0))
    folder = stored_entries(tmp_path)[0].folder
    facts = json.loads((folder / FACTS_FILE).read_bytes())
    digest = hashlib.sha256((tmp_path / "harvest.json").read_bytes()).hexdigest()
    facts["files"]["../../harvest.json"] = {"sha256": digest}
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    with pytest.raises(InputError, match="the entry is damaged"):
        read_entry(folder)


@pytest.mark.slow
def test_nothing_is_lost_by_kill_9(tmp_path: Path) -> None:
    """A child harvests in a loop and is killed ten times; a full ring, so that every entry makes another one go."""
    folder, bounds = tmp_path / "ring", Bounds(6, 6 * 40_000)
    told: list[str] = []
    chance = random.Random(0)
    for _ in range(10):
        child = start_child(folder, bounds.entries, bounds.bytes)
        assert child.stdout is not None
        told += [child.stdout.readline().strip() for _ in range(chance.randint(1, 6))]
        time.sleep(chance.uniform(0, 0.1))
        os.kill(child.pid, signal.SIGKILL)
        # A line that was cut off was not read by anybody: its writer died before it was told whole.
        told += [line.strip() for line in child.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        last = told[-1]
        seen = ids(folder)
        unfinished = list(folder.glob("entries/.*"))
        assert len(seen) <= bounds.entries
        assert disk_use(folder) <= bounds.bytes + 40_000 * bool(unfinished)
        for stored in stored_entries(folder):
            read_entry(stored.folder)  # whole
        # What was told is there, but for the oldest of each reason, which had to go.
        after = [each for each in seen if each > last]
        assert len(after) <= 1
        assert set(told[-4:]) <= set(seen)
        with Ring(folder, bounds=bounds) as ring:
            assert ids(folder) == seen
            assert not list(folder.glob("entries/.*"))
            assert disk_use(folder) == ring.bytes <= bounds.bytes
    assert len(told) == len(set(told)) > 30


KILLED = """
import os, signal, sys
from pathlib import Path
from curate.edge.harvest.ring import Bounds, Ring
from tests.edge.harvest_cases import hard_frame
folder, limit, seen = Path(sys.argv[1]), int(sys.argv[2]), 0
frame = hard_frame(7)
ring = Ring(folder, bounds=Bounds(3))
def count(code, event, argument):
    global seen
    if event in ("call", "c_call", "return", "c_return") and "curate" + os.sep in code.f_code.co_filename:
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(count)
ring.put(frame)
sys.setprofile(None)
print(seen)
"""


@pytest.mark.slow
def test_kill_9_at_every_stage_of_one_entry(tmp_path: Path) -> None:
    def run(folder: Path, limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(folder), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    def make(name: str) -> Path:
        with Ring(tmp_path / name) as ring:
            for seed in range(3):
                ring.put(hard_frame(seed))
        return tmp_path / name

    total = int(run(make("whole"), 0).stdout)
    outcomes = set()
    for at, limit in enumerate(np.linspace(total * 0.3, total, 10).astype(int).tolist()):
        folder = make(f"ring-{at}")
        before = ids(folder)
        assert run(folder, limit).returncode == -signal.SIGKILL
        with Ring(folder, bounds=Bounds(3)) as ring:
            entries = [read_entry(stored.folder).id for stored in stored_entries(folder)]
            assert len(ring) == len(entries) <= 3
            assert entries[:2] == before[-2:] or entries == before
            assert not list(folder.glob("entries/.*"))
            outcomes.add((len(entries), len(set(entries) - set(before))))
    assert len(outcomes) > 1  # killed before the old one went, or after; before the new one was there, or after


FULL = """
import resource, sys
from pathlib import Path
from curate.edge.harvest.ring import Ring
from tests.edge.harvest_cases import hard_frame
with Ring(Path(sys.argv[1])) as ring:
    kept = [ring.put(hard_frame(seed)) for seed in range(2)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    for seed in range(2):
        try:
            ring.put(hard_frame(seed))
        except OSError as error:
            print("refused", error.errno)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept.append(ring.put(hard_frame(2)))
    print(*kept)
"""


def test_a_full_disk_costs_only_the_frame(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL, str(tmp_path / "ring")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *refused, kept = done.stdout.splitlines()
    assert len(refused) == 2
    assert ids(tmp_path / "ring") == kept.split()
    assert not list((tmp_path / "ring").glob("entries/.*"))
    for stored in stored_entries(tmp_path / "ring"):
        read_entry(stored.folder)


def test_readers_never_see_half_an_entry(tmp_path: Path) -> None:
    """Entries are read while others are written and deleted as fast as may be."""
    problems: list[Exception] = []
    read = 0
    stop = threading.Event()

    def write() -> None:
        frames = [hard_frame(seed) for seed in range(4)]
        with Ring(tmp_path, bounds=Bounds(4)) as ring:
            while not stop.is_set():
                ring.put(frames[ring.evicted % 4])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while read < 150:
            for stored in stored_entries(tmp_path):
                try:
                    read_entry(stored.folder)
                    read += 1
                except FileNotFoundError as error:  # it was let go of, unless it is there in part
                    if stored.folder.exists():
                        problems.append(error)
                except CurateError as error:
                    problems.append(error)
    finally:
        stop.set()
        writer.join()
    assert not problems
