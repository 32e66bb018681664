"""The cache of rows by key: what many processes write is found, what is damaged is not, and it stays within its bounds."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dataset.home import cache_folder
from curate.errors import UsageError
from curate.models import cache as module
from curate.models.cache import Cache, Keys, Rows, open_cache

WORDS = 4


@pytest.fixture
def cache() -> Cache:
    return the_cache()


def the_cache(name: str = "numbers", words: int = WORDS) -> Cache:
    found = open_cache(name, words)
    assert found is not None
    return found


def make(numbers: range, words: int = WORDS) -> tuple[Keys, Rows]:
    """Keys and rows that follow from the numbers, spread over the whole range of keys."""
    n = np.array(numbers, np.uint64)[:, None]
    keys = n * np.array([0x9E3779B97F4A7C15, 3], np.uint64)
    return keys, np.asarray(n * np.arange(1, words + 1), np.uint64)


def found(cache: Cache, keys: Keys) -> dict[int, list[int]]:
    """Rows by number of the key."""
    pieces = list(cache.look_up(keys))
    return {
        number: row for numbers, rows in pieces for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)
    }


def expected(numbers: range) -> dict[int, list[int]]:
    return dict(enumerate(make(numbers)[1].tolist()))


def files() -> list[Path]:
    return sorted(cache_folder().glob("rows/*/*.arrow"))


def test_what_was_added_is_found_and_nothing_else(cache: Cache) -> None:
    keys, rows = make(range(100))
    assert found(cache, keys) == {}
    cache.add(keys[:60], rows[:60])
    cache.add(keys[50:80], rows[50:80])
    assert found(cache, keys) == {number: row for number, row in expected(range(100)).items() if number < 80}
    assert found(cache, keys[::-1][30:40]) == dict(enumerate(rows[::-1][30:40].tolist()))
    # Half of a key is no key.
    assert found(cache, keys ^ np.array([0, 1], np.uint64)) == {}
    assert len(found(cache, keys)) == 80
    assert found(cache, keys[:0]) == {}


def test_equal_keys_are_written_once_and_found_each(cache: Cache) -> None:
    keys, rows = make(range(3))
    cache.add(np.tile(keys, (4, 1)), np.tile(rows, (4, 1)))
    cache.add(keys, rows)
    assert len(files()) == 1
    assert found(cache, np.tile(keys, (2, 1))) == dict(enumerate(np.tile(rows, (2, 1)).tolist()))
    (file,) = cache._files()
    assert len(file.keys) == 3


def test_more_than_a_file_or_a_piece_holds(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES", 8 * WORDS * 100)
    monkeypatch.setattr(module, "_READ_ROWS", 7)
    cache.add(*make(range(950)))
    assert len(files()) == 10
    assert found(cache, make(range(950))[0]) == expected(range(950))


def test_rows_of_another_name_or_length_are_not_seen() -> None:
    the_cache().add(*make(range(5)))
    assert found(the_cache("other"), make(range(5))[0]) == {}
    assert found(the_cache(words=5), make(range(5))[0]) == {}
    assert len({the_cache(name).folder for name in ("a/b", "a:b", "a-b")}) == 3
    assert len(the_cache("onnx:/" + "long/" * 100).folder.name) < 80


def test_many_small_files_become_few(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        cache.add(*make(range(number * 10, number * 10 + 10)))
        assert len(files()) <= module._MANY_FILES + 1
    assert found(cache, make(range(600))[0]) == expected(range(600))


def test_a_merge_that_was_killed_leaves_nothing_that_counts_twice(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(module._MANY_FILES):
        cache.add(*make(range(number * 10, number * 10 + 10)))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.add(*make(range(1000, 1010)))
    assert len(files()) == module._MANY_FILES + 2
    assert found(cache, make(range(160))[0]) == expected(range(160))
    cache.add(*make(range(2000, 2010)))
    (file,) = cache._files()
    assert len(file.keys) == 160 + 20


def test_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY_FILES", 1000)
    old, new, third = the_cache("old"), the_cache("new"), the_cache("third")
    for age, cache in ((3000, old), (2000, new)):
        cache.add(*make(range(1000)))
        (file,) = cache.folder.glob("*.arrow")
        os.utime(file, (time.time() - age,) * 2)
    size = file.stat().st_size
    list(old.look_up(make(range(1))[0]))  # used just now
    monkeypatch.setenv(module.LIMIT_VARIABLE, str(2.5 * size / 1e9))
    the_cache("third").add(*make(range(1000)))
    assert [len(found(each, make(range(1000))[0])) for each in (old, new, third)] == [1000, 0, 1000]
    assert sum(path.stat().st_size for path in files()) <= 2.5 * size


def test_what_is_larger_than_the_bound_is_not_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.LIMIT_VARIABLE, "0.000001")
    the_cache().add(*make(range(1000)))
    assert files() == []


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_a_row(
    tmp_path_factory: pytest.TempPathFactory, place: float, bits: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache") / "numbers", WORDS, 1 << 30)
    keys, rows = make(range(64))
    cache.add(keys, rows)
    (path,) = cache.folder.glob("*.arrow")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= bits
    path.write_bytes(content)
    right = expected(range(64))
    assert all(right[number] == row for number, row in found(cache, keys).items())
    cache.add(keys, rows)
    assert found(cache, keys) == right
    shutil.rmtree(cache.folder.parent)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_a_file_that_was_cut_off_is_dropped(cache: Cache, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    cache.add(*make(range(64)))
    (path,) = files()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert found(cache, make(range(64))[0]) == {}
    assert not path.exists()
    assert f"a damaged file of the cache is dropped: {path}" in caplog.text


def test_a_file_that_cannot_be_opened_now_is_kept(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> None:
        raise OSError(24, "Too many open files", path)

    cache.add(*make(range(64)))
    with monkeypatch.context() as patch:
        patch.setattr(pa, "memory_map", refuse)
        assert found(cache, make(range(64))[0]) == {}
    assert "Too many open files" in caplog.text
    assert found(cache, make(range(64))[0]) == expected(range(64))


def test_a_full_disk_is_told_and_nothing_else(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.add(*make(range(5)))
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomic", full)
        cache.add(*make(range(10)))
    assert "cannot be written: No space left on device" in caplog.text
    assert found(cache, make(range(10))[0]) == expected(range(5))


def test_a_cache_that_cannot_be_read_is_empty(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    cache.folder.parent.mkdir(parents=True)
    cache.folder.write_bytes(b"not a folder")
    assert found(cache, make(range(5))[0]) == {}
    with caplog.at_level(logging.WARNING):
        cache.add(*make(range(5)))
    assert "cannot be written" in caplog.text


def test_what_killed_writers_left_is_swept_up_when_it_is_old(cache: Cache) -> None:
    cache.add(*make(range(5)))
    left = [cache.folder / f".{number}.arrow.4711.tmp" for number in range(2)]
    for path, age in zip(left, (7200, 60), strict=True):
        path.write_bytes(b"half a fi")
        os.utime(path, (time.time() - age,) * 2)
    cache.add(*make(range(5, 10)))
    assert [path.exists() for path in left] == [False, True]


@pytest.mark.parametrize("wrong", ["much", "-1", "nan", "inf"])
def test_a_bound_that_is_none(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(module.LIMIT_VARIABLE, wrong)
    with pytest.raises(UsageError, match="no size of a cache"):
        open_cache("numbers", WORDS)


def test_doing_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.OFF_VARIABLE, "0")
    assert open_cache("numbers", WORDS) is not None
    monkeypatch.setenv(module.OFF_VARIABLE, "1")
    assert open_cache("numbers", WORDS) is None
    monkeypatch.delenv(module.OFF_VARIABLE)
    monkeypatch.setenv(module.LIMIT_VARIABLE, "0")
    assert open_cache("numbers", WORDS) is None


WRITER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from curate.models import cache as module
from test_cache import make, the_cache
cache = the_cache()
module._MANY_FILES = 3
print("ready", flush=True)
start, stop, count = map(int, sys.argv[1:])
for number in range(start, stop, count):
    cache.add(*make(range(number, number + count)))
"""


def writer(*arguments: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_several_processes_write_and_merge_at_once(cache: Cache) -> None:
    processes = [writer(start, start + 300, 10) for start in (0, 150, 300)]
    right = expected(range(600))
    while any(process.poll() is None for process in processes):
        assert all(right[number] == row for number, row in found(cache, make(range(600))[0]).items())
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    cache.add(*make(range(600)))  # a reader may have missed what was being merged, and computed it again
    assert found(cache, make(range(600))[0]) == right


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_writer_leaves_whole_files_and_no_lock(cache: Cache) -> None:
    right = expected(range(100_000))
    for wait in (0.0, 0.02, 0.05):
        process = writer(0, 100_000, 10)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        some = found(cache, make(range(100_000))[0])
        assert all(right[number] == row for number, row in some.items())
        assert len(some) % 10 == 0
    cache.add(*make(range(1000)))
    assert len(found(cache, make(range(1000))[0])) == 1000


def killed(*arguments: object, **keywords: object) -> None:
    raise KeyboardInterrupt


def full(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device", str(path))
