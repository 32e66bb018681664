"""Hashes of files' bytes: by them, the same image is known under another name and in another dataset.

Reading a file to hash it takes about as long as copying it. Which bytes a path held is therefore kept in the cache, by path,
size, inode and both times: a file whose bytes change gets another time of change (`st_ctime`) from the operating system, even
where a program sets the time of modification back.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import from_ids, hash_texts, mix, to_ids
from curate.engine.engines import map_jobs
from curate.engine.jobs import Job
from curate.models.cache import Keys, open_cache
from curate.models.passes import Progress

_DIGEST_BYTES: Final = 16
_CHUNK: Final = 1 << 20
_CACHE: Final = "file contents 1"
# A file that was changed a moment ago can change again without its times showing it (FAT counts in steps of 2 s).
_SETTLED_SECONDS: Final = 3.0
_FILES_AT_A_TIME: Final = 32


def content_hash(path: str) -> str | None:
    """128 bits of BLAKE2b over a file's bytes, 32 hexadecimal digits; None if it cannot be read."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None
    return digest.hexdigest()


def content_hashes(paths: Sequence[str], *, progress: Progress | None = None) -> pa.StringArray:
    """`content_hash` of n files, which are read only where they are not known.

    Args:
        paths: Of the files, each once.
        progress: Told (files read, files to read).

    Returns:
        n texts, null for what cannot be read.
    """
    cache = open_cache(_CACHE, _DIGEST_BYTES // 8)
    if cache is None or not len(paths):
        return pa.array(_read(paths, progress), pa.string())
    keys, settled = _states(paths)
    words = np.zeros((len(paths), cache.words), dtype=np.uint64)
    known = np.zeros(len(paths), dtype=bool)
    for numbers, rows in cache.look_up(keys):
        words[numbers], known[numbers] = rows, True
    todo = np.flatnonzero(~known)
    read = pa.array(_read([paths[number] for number in todo.tolist()], progress), pa.string())
    readable = todo[read.is_valid().to_numpy(zero_copy_only=False)]
    words[readable], known[readable] = hash_words(read.drop_null()), True
    new = readable[settled[readable]]
    cache.add(keys[new], words[new])
    texts = pc.binary_join_element_wise(*(to_ids(column) for column in words.T), "")
    return pc.if_else(pa.array(known), texts, pa.scalar(None, pa.string()))


def hash_words(hashes: pa.Array | pa.ChunkedArray) -> Keys:
    """Content hashes, of which none is null, as numbers; uint64 array of shape (n, 2)."""
    return from_ids(hashes).reshape(-1, _DIGEST_BYTES // 8)


def _read(paths: Sequence[str], progress: Progress | None) -> list[str | None]:
    starts = range(0, len(paths), _FILES_AT_A_TIME)
    jobs = (Job(arguments=(list(paths[start : start + _FILES_AT_A_TIME]),)) for start in starts)
    hashes: list[str | None] = []
    with closing(map_jobs(_hash_files, jobs)) as parts:  # hashing lets go of the interpreter lock
        for part in parts:
            hashes += part
            if progress is not None:
                progress(len(hashes), len(paths))
    return hashes


def _hash_files(paths: Sequence[str]) -> list[str | None]:
    return [content_hash(path) for path in paths]


def _states(paths: Sequence[str]) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """A key for each file as it is now, and whether it has been so for some time."""
    states = np.zeros((len(paths), 4), dtype=np.uint64)  # zeros: there is no such file
    for number, path in enumerate(paths):
        with contextlib.suppress(OSError, ValueError):
            status = Path(path).stat()
            state = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            states[number] = [value % (1 << 64) for value in state]  # times before 1970 are negative
    names = hash_texts(paths)
    keys = np.stack([mix(names, *states.T), mix(*states.T, names)], axis=1)
    return keys, states[:, 1:3].max(axis=1) < (time.time() - _SETTLED_SECONDS) * 1e9
