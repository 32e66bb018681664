"""What the box checks give: suspects, one row each, as plain columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Suspects:
    """Suspected label errors, one row each, highest score first.

    Attributes:
        kind: str array of shape (n,): mislabeled, missing, spurious or mislocated.
        score: float64 array in [0, 1], the probability that this is an error of that kind, as far as it can be known.
        image: int64 array, image index.
        annotation: int64 array, row in the ground truth, or -1 (a missing box).
        prediction: int64 array, row in the predictions (layers one after the other), or -1.
        related: int64 array, another ground-truth row that is part of the problem (the other copy), or -1.
        label: int64 array, suggested class, or -1 where none is suggested.
        bbox: float64 array of shape (n, 4), suggested box, NaN where none is suggested.
        reason: str array, one sentence saying why.
        evidence: The numbers behind it by name, float64 arrays of shape (n,), NaN where one does not apply.
    """

    kind: NDArray[np.str_]
    score: FloatArray
    image: IntArray
    annotation: IntArray
    prediction: IntArray
    related: IntArray
    label: IntArray
    bbox: FloatArray
    reason: NDArray[np.str_]
    evidence: Mapping[str, FloatArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: IntArray | BoolArray) -> Suspects:
        """The chosen rows, in that order."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Suspects(**columns, evidence={name: column[rows] for name, column in self.evidence.items()})

    def of_kind(self, kind: str) -> Suspects:
        """The rows of one kind."""
        return self.take(self.kind == kind)


_COLUMNS: Final = ("kind", "score", "image", "annotation", "prediction", "related", "label", "bbox", "reason")


def suspects(
    kind: str | NDArray[np.str_],
    score: FloatArray,
    image: IntArray,
    *,
    annotation: IntArray | None = None,
    prediction: IntArray | None = None,
    related: IntArray | None = None,
    label: IntArray | None = None,
    bbox: FloatArray | None = None,
    reason: str | NDArray[np.str_] = "",
    evidence: Mapping[str, FloatArray] | None = None,
) -> Suspects:
    """Suspects from the columns that apply; the others say that nothing does. See `Suspects` for what they are."""
    n = len(score)

    def rows(column: IntArray | None) -> IntArray:
        return np.full(n, NOWHERE, dtype=np.int64) if column is None else column.astype(np.int64)

    return Suspects(
        kind=np.broadcast_to(np.asarray(kind, dtype=np.str_), n),
        score=np.clip(score, 0.0, 1.0),
        image=rows(image),
        annotation=rows(annotation),
        prediction=rows(prediction),
        related=rows(related),
        label=rows(label),
        bbox=np.full((n, 4), np.nan) if bbox is None else bbox,
        reason=np.broadcast_to(np.asarray(reason, dtype=np.str_), n),
        evidence=dict(evidence or {}),
    )


def merge(parts: Sequence[Suspects]) -> Suspects:
    """All parts in one, highest score first; ties in the order of image, annotation, prediction.

    An evidence column that a part lacks is NaN in its rows.
    """
    parts = parts or [suspects("", np.zeros(0), np.zeros(0, dtype=np.int64))]
    names = sorted({name for part in parts for name in part.evidence})
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    evidence = {
        name: np.concatenate([part.evidence.get(name, np.full(len(part), np.nan)) for part in parts]) for name in names
    }
    joined = Suspects(**columns, evidence=evidence)
    return joined.take(np.lexsort((joined.prediction, joined.annotation, joined.image, -joined.score)))


def image_scores(found: Suspects, n_images: int) -> FloatArray:
    """Probability that an image has at least one error, its suspects taken as independent.

    Args:
        found: Suspects of any kinds, at most one per object.
        n_images: Number of images, m.

    Returns:
        float64 array of shape (m,), in [0, 1]; 0 where nothing is suspected.
    """
    none = np.log1p(-np.clip(found.score, 0.0, 1.0 - 1e-12))
    return np.asarray(-np.expm1(np.bincount(found.image, weights=none, minlength=n_images)), dtype=np.float64)
