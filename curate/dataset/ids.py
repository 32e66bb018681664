"""Stable identifiers: 64-bit hashes written as 16 hexadecimal digits, computed for whole columns at once.

An id depends only on what the thing is (an image on its location, an annotation on its image, layer and source id), so
importing the same source again gives the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_HEX_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype="S2")


def hash_text(text: str) -> int:
    """64-bit BLAKE2b hash of a text's UTF-8 bytes."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def hash_texts(texts: Iterable[str]) -> Hashes:
    """`hash_text` of each of n texts; uint64 array of shape (n,)."""
    blake2b = hashlib.blake2b
    digests = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def mix(first: Hashes, *others: Hashes | int) -> Hashes:
    """Combine hash columns, in order, into one (SplitMix64 finaliser, Steele et al. 2014); shape (n,)."""
    state = first.copy()
    with np.errstate(over="ignore"):
        for other in others:
            state = state * np.uint64(0x9E3779B97F4A7C15) + np.asarray(other, dtype=np.uint64)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return state


def to_ids(hashes: Hashes) -> pa.StringArray:
    """Write hashes of shape (n,) as ids: n strings of 16 hexadecimal digits."""
    count = len(hashes)
    text = _HEX_PAIRS[hashes.astype(">u8").view(np.uint8)]
    offsets = np.arange(0, 16 * (count + 1), 16, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def from_ids(ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> Hashes:
    """The inverse of `to_ids`; uint64 array of shape (n,)."""
    values = ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else ids
    raw = bytes.fromhex("".join(values))
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64)


def positions(ids: Hashes, among: Hashes) -> npt.NDArray[np.int64]:
    """Where each of n ids stands among others, -1 where it does not; int64 array of shape (n,).

    Args:
        ids: Shape (n,).
        among: Ascending, each once; shape (m,).
    """
    if not len(among):
        return np.full(len(ids), -1)
    place = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return np.where(among[place] == ids, place, -1)


def image_ids(locations: Iterable[str]) -> pa.StringArray:
    """Ids of images from their dataset-relative locations."""
    return to_ids(hash_texts(locations))


def annotation_ids(image: Hashes, layer: str, source: str, *, keys: Hashes | None = None) -> pa.StringArray:
    """Ids of annotations.

    Args:
        image: Hash of each annotation's image, shape (n,) (`hash_texts` of the locations).
        layer: The layer they belong to.
        source: The annotation file's name relative to the import, so that equal ids in two files stay apart.
        keys: The source's own ids (numbers as they are, texts hashed), shape (n,). None when the source has none: the
            annotation's place among those of its image is used.
    """
    salt = hash_text(f"{layer}\0{source}")
    if keys is None:
        return to_ids(mix(image, salt, 1, ordinals(image)))
    return to_ids(mix(image, salt, 2, keys))


def ordinals(groups: Hashes) -> Hashes:
    """How many equal values stand before each; shape (n,)."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else np.zeros(0, int)
    lengths = np.diff(np.r_[starts, len(groups)])
    within = np.arange(len(groups)) - np.repeat(starts, lengths)
    result = np.empty(len(groups), dtype=np.uint64)
    result[order] = within
    return result
