"""Vectors to choose by: embeddings on their principal axes, 256 at most, so that a million fit into a gigabyte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Transaction
from curate.dataset.store import EMBEDDINGS

Vectors = npt.NDArray[np.float32]

_DIMENSIONS: Final = 256
_SAMPLE: Final = 20_000
_BLOCK: Final = 16_384


@dataclass(frozen=True)
class Axes:
    """Principal axes of a set, and its scale.

    Attributes:
        mean: Shape (d,).
        axes: Columns scaled so that the mean square length in the set is 1; shape (d, k).
    """

    mean: Vectors
    axes: Vectors

    @classmethod
    def of(cls, sample: Vectors) -> Axes:
        """From some of the vectors, shape (m, d), m at least 1."""
        mean = sample.mean(axis=0, dtype=np.float64)
        centred = sample - mean
        values, vectors = np.linalg.eigh(centred.T @ centred / len(sample))
        total = max(float(values.sum()), 1e-12)
        axes = vectors[:, ::-1][:, :_DIMENSIONS] / np.sqrt(total)
        return cls(mean.astype(np.float32), axes.astype(np.float32))

    def __call__(self, vectors: Vectors) -> Vectors:
        """Vectors (m, d) on the axes, shape (m, k)."""
        return np.asarray((vectors - self.mean) @ self.axes, dtype=np.float32)


def principal_vectors(
    transaction: Transaction, space: str, ids: pa.ChunkedArray, *, seed: int
) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Vectors of n images on their principal axes, as the transaction has them.

    Args:
        transaction: The dataset.
        space: Name of the embedding space.
        ids: Of the images.
        seed: Of the sample that gives the axes, in large sets.

    Returns:
        float32 array of shape (m, k), and a bool array of shape (n,) that says which m images have a vector.
    """
    table = transaction.read(EMBEDDINGS + space, columns=["id", "vector"])
    position = pc.index_in(ids, table["id"].combine_chunks())
    there = np.asarray(position.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    rows = np.asarray(position.drop_null().to_numpy(), dtype=np.int64)
    stored = table["vector"]
    sample = np.sort(np.random.default_rng(seed).permutation(rows)[:_SAMPLE])
    if not len(sample):
        return np.zeros((0, 1), np.float32), there
    axes = Axes.of(_take(stored, sample))
    found = np.empty((len(rows), axes.axes.shape[1]), np.float32)
    for start in range(0, len(rows), _BLOCK):
        found[start : start + _BLOCK] = axes(_take(stored, rows[start : start + _BLOCK]))
    return found, there


def _take(column: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> Vectors:
    values = column.take(pa.array(rows)).combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, column.type.list_size)
