"""What was computed before, by content: a cache that all datasets share, so that the same bytes are never embedded twice.

    $CURATE_HOME/cache/rows/builtin-v1-1f0c22ab/01753...-4711.arrow

One folder for each kind of rows, which has immutable files of some 64 MB in it, each an Arrow table with one batch: keys of 128
bits, sorted; a checksum for each row; the rows. They are mapped, not read. A file is written beside and renamed, so that
readers and writers in any number of processes never wait for one another; what a killed writer leaves is swept up later. Many
small files are merged, and the files that were not used for the longest time are deleted when all of them hold more than
`$CURATE_CACHE_GB`; one process at a time does that.

Nothing here is needed: a damaged file is dropped, a full disk means that nothing is added, and either is told in the log. The
folder may be deleted at any time, and `CURATE_NO_CACHE=1` does without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock, Timeout

from curate.dataset.home import cache_folder
from curate.dataset.ids import mix
from curate.errors import UsageError
from curate.files import write_atomic

OFF_VARIABLE: Final = "CURATE_NO_CACHE"
LIMIT_VARIABLE: Final = "CURATE_CACHE_GB"
DEFAULT_LIMIT_GB: Final = 10.0

Keys = npt.NDArray[np.uint64]
"""128-bit keys: uint64 array of shape (n, 2)."""

Rows = npt.NDArray[np.uint64]
"""What is kept, whatever it means: uint64 array of shape (n, words)."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_FILE_BYTES: Final = 64 << 20
_MANY_FILES: Final = 16
_READ_ROWS: Final = 8192
_ABANDONED_SECONDS: Final = 3600.0
_LOG: Final = logging.getLogger(__name__)


def open_cache(name: str, words: int) -> Cache | None:
    """The cache of one kind of rows, which need not exist yet; None if the user does without.

    Args:
        name: Tells what the rows are. Rows under one name are the same for the same key, always.
        words: Length of a row, in units of 8 bytes.

    Raises:
        UsageError: `$CURATE_CACHE_GB` is no size.
    """
    if not is_on():
        return None
    digest = hashlib.blake2b(f"{name}\0{words}".encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    readable = re.sub(r"[^0-9A-Za-z_.@]+", "-", name)[:60]
    return Cache(cache_folder() / "rows" / f"{readable}-{digest}", words, _limit_bytes())


def is_on() -> bool:
    """Whether the user wants a cache.

    Raises:
        UsageError: `$CURATE_CACHE_GB` is no size.
    """
    return os.environ.get(OFF_VARIABLE, "") in ("", "0") and _limit_bytes() > 0


@dataclass(frozen=True)
class Cache:
    """Rows by key, in one folder. Made by `open_cache`.

    Attributes:
        folder: Where; made when there is something to write.
        words: Length of a row, in units of 8 bytes.
        limit: Bytes that all files may take, of this folder and of those beside it.
    """

    folder: Path
    words: int
    limit: int

    def look_up(self, keys: Keys) -> Iterator[tuple[IntArray, Rows]]:
        """Find rows; in pieces, so that a million of them need not fit into memory.

        Args:
            keys: Shape (n, 2). Equal ones are found each.

        Yields:
            Numbers into `keys`, shape (m,), and their rows, shape (m, words). What is not known is in no piece.
        """
        pending = np.argsort(keys[:, 0])  # keys in order meet the pages of a file in order
        wanted = keys[pending]
        for file in self._files():
            at, found = file.find(wanted)
            if not found.any():
                continue
            numbers, places = pending[found], at[found]
            whole = True
            for start in range(0, len(numbers), _READ_ROWS):
                some = numbers[start : start + _READ_ROWS]
                rows, sound = file.read(keys[some], places[start : start + _READ_ROWS])
                whole &= bool(sound.all())
                yield some[sound], rows[sound]
            if not whole:
                _drop(file.path, "rows do not match their checksums")
            with contextlib.suppress(OSError):
                os.utime(file.path)  # the longest unused go first
            pending, wanted = pending[~found], wanted[~found]
            if not len(pending):
                return

    def add(self, keys: Keys, rows: Rows) -> None:
        """Add what is not there yet. A disk that is full, or cannot be written to, is told in the log.

        Args:
            keys: Shape (n, 2).
            rows: Shape (n, words).
        """
        new = _distinct(keys)
        for file in self._files():
            new = new[~file.find(keys[new])[1]]
        per_file = max(1, _FILE_BYTES // (8 * self.words))
        try:
            for start in range(0, len(new), per_file):
                part = new[start : start + per_file]
                self._write(keys[part], rows[part])
            if len(new):
                self._tidy()
        except OSError as error:
            _LOG.warning("the cache %s cannot be written: %s", self.folder, error.strerror or error)

    def _files(self) -> Iterator[_File]:
        """The files that are sound as far as their outlines tell, newest first."""
        for path in sorted(self.folder.glob("*.arrow"), reverse=True):
            if (file := _open(path, self.words)) is not None:
                yield file

    def _write(self, keys: Keys, rows: Rows) -> Path:
        """Write a file; keys are sorted, each once."""
        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), self.words)
        columns = [pa.array(column) for column in (*np.ascontiguousarray(keys.T), _checksums(keys, rows))]
        batch = pa.record_batch([*columns, lists], schema=_schema(self.words))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{time.time_ns():020d}-{os.getpid()}.arrow"
        write_atomic(path, sink.getvalue())
        return path

    def _tidy(self) -> None:
        """Merge what is small, delete what is too much or was left half-written, unless another process is at it."""
        with contextlib.suppress(Timeout), FileLock(self.folder.parent / "lock", blocking=False):
            for unfinished in self.folder.parent.glob("*/.*.tmp"):
                with contextlib.suppress(OSError):
                    if time.time() - unfinished.stat().st_mtime > _ABANDONED_SECONDS:
                        unfinished.unlink()
            small = [(path, size) for path, size, _ in _sizes(self.folder) if size < _FILE_BYTES // 2]
            if len(small) > _MANY_FILES:
                for group in _groups(small):
                    self._merge(group)
            _shrink(self.folder.parent, self.limit)

    def _merge(self, paths: Sequence[Path]) -> None:
        """Make one file of several. A kill before they are deleted leaves rows twice, which the next merge mends."""
        files = [file for path in paths if (file := _open(path, self.words)) is not None]
        if not files:
            return
        used = max(file.path.stat().st_mtime for file in files)
        keys = np.concatenate([file.keys for file in files])
        rows = np.concatenate([file.rows for file in files])
        sound = np.concatenate([file.checksums for file in files]) == _checksums(keys, rows)
        chosen = np.flatnonzero(sound)[_distinct(keys[sound])]
        if len(chosen):
            os.utime(self._write(keys[chosen], rows[chosen]), (used, used))
        for path in paths:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _File:
    """A file of the cache, mapped.

    Attributes:
        path: Where it is.
        keys: Sorted, shape (n, 2).
        checksums: What `_checksums` gives, shape (n,).
        rows: Shape (n, words).
    """

    path: Path
    keys: Keys
    checksums: npt.NDArray[np.uint64]
    rows: Rows

    def find(self, keys: Keys) -> tuple[IntArray, BoolArray]:
        """Where m keys would be, and whether they are there; two arrays of shape (m,)."""
        at = np.minimum(np.searchsorted(self.keys[:, 0], keys[:, 0]), len(self.keys) - 1)
        found = self.keys[at, 0] == keys[:, 0]
        found[found] = self.keys[at[found], 1] == keys[found, 1]
        return at, found

    def read(self, keys: Keys, at: IntArray) -> tuple[Rows, BoolArray]:
        """The rows of m keys at places that `find` gave, and whether they are what was written."""
        rows = self.rows[at]
        return rows, self.checksums[at] == _checksums(keys, rows)


def _open(path: Path, words: int) -> _File | None:
    """Map a file; None, and the file is dropped, if it is not whole."""
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if reader.schema != _schema(words) or reader.num_record_batches != 1:
                raise ValueError("it holds something else")
            batch = reader.get_batch(0)
        batch.validate()
        high, low, checksums, rows = batch.columns
        if not len(batch) or batch.column("row").null_count:
            raise ValueError("it holds nothing")
        keys = np.stack([high.to_numpy(), low.to_numpy()], axis=1)
        if (keys[1:, 0] < keys[:-1, 0]).any():
            raise ValueError("its keys are not in order")
        return _File(path, keys, checksums.to_numpy(), rows.values.to_numpy().reshape(len(batch), words))
    except FileNotFoundError:  # another process has merged or deleted it since the folder was listed
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        if getattr(error, "errno", None) is None:
            _drop(path, str(error).partition("\n")[0])
        else:  # the system's trouble (too many open files, say), not the file's
            _LOG.warning("a file of the cache cannot be read: %s", error)
        return None


def _schema(words: int) -> pa.Schema:
    numbers = [pa.field(name, pa.uint64(), nullable=False) for name in ("high", "low", "checksum")]
    item = pa.field("item", pa.uint64(), nullable=False)
    return pa.schema([*numbers, pa.field("row", pa.list_(item, words), nullable=False)])


def _checksums(keys: Keys, rows: Rows) -> npt.NDArray[np.uint64]:
    """64 bits for each key and row; shape (n,).

    A multilinear hash (Carter and Wegman 1979) modulo 2^64: as every weight is odd, one changed word is always seen.
    """
    weights = mix(np.arange(rows.shape[1], dtype=np.uint64), 1) | np.uint64(1)
    return mix(keys[:, 0], keys[:, 1]) + rows @ weights


def _distinct(keys: Keys) -> IntArray:
    """Numbers of the keys in ascending order, each key once."""
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[first]


def _groups(small: Sequence[tuple[Path, int]]) -> list[list[Path]]:
    """Files with their sizes, put together to at most 64 MB; what stays alone is left as it is."""
    groups: list[list[Path]] = [[]]
    total = 0
    for path, size in small:
        if total + size > _FILE_BYTES:
            groups.append([])
            total = 0
        groups[-1].append(path)
        total += size
    return [group for group in groups if len(group) > 1]


def _sizes(folder: Path) -> list[tuple[Path, int, float]]:
    """Files of a cache with their sizes in bytes and when they were last used, the oldest first."""
    found = []
    for path in folder.glob("*.arrow"):
        with contextlib.suppress(OSError):  # just deleted
            status = path.stat()
            found.append((path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: entry[2])


def _shrink(root: Path, limit: int) -> None:
    """Delete the files of all caches that were not used for the longest time, until the others hold at most `limit` bytes."""
    files = [entry for folder in root.iterdir() if folder.is_dir() for entry in _sizes(folder)]
    total = sum(size for _, size, _ in files)
    for path, size, _ in sorted(files, key=lambda entry: entry[2]):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _drop(path: Path, reason: str) -> None:
    """Delete a damaged file: what it held is computed again."""
    _LOG.warning("a damaged file of the cache is dropped: %s: %s", path, reason)
    with contextlib.suppress(OSError):
        path.unlink()


def _limit_bytes() -> int:
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GB)
    try:
        limit = float(text) * 1e9
        if not 0 <= limit < float("inf"):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"'{text}' is no size of a cache", where=LIMIT_VARIABLE, remedy="a number of gigabytes: 10, 0.5, 0 for none"
        ) from None
    return int(limit)
