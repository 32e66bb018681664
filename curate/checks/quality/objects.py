"""Objects on a picture: which are compared with which, and how much a small one can tell."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FloatArray = npt.NDArray[np.float64]

# Pixels on the shorter side at which a crop tells nothing of light or focus, and all.
_NOTHING: Final = 12.0
_EVERYTHING: Final = 96.0


def shorter_sides(bbox: pa.ChunkedArray) -> FloatArray:
    """Pixels on the shorter side of n boxes, which are not null; shape (n,)."""
    flat = bbox.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    return np.asarray(np.maximum(flat[:, 2:].min(axis=1), 1.0))


def object_groups(labels: pa.ChunkedArray, sides: FloatArray) -> npt.NDArray[np.int64]:
    """Numbers shared by objects of one class and about one size (an octave): they are compared with one another.

    Small objects have fewer fine details than large ones, and some classes are darker than others.
    """
    label = pc.fill_null(labels, "").combine_chunks().dictionary_encode().indices.to_numpy()
    octave = np.floor(np.log2(sides)).astype(np.int64)
    return np.asarray(np.unique(np.stack([label, octave], axis=1), axis=0, return_inverse=True)[1].ravel())


def evidence_of_size(sides: FloatArray) -> FloatArray:
    """How much a crop of that size can tell, in [0, 1]; grows with the logarithm of its size."""
    span = np.log2(_EVERYTHING / _NOTHING)
    return np.asarray(np.clip(np.log2(sides / _NOTHING) / span, 0, 1))
