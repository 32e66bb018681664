"""The arrays that the box checks take and give: boxes in, suspects out.

Both are plain columns, one row per box, so that a check never sees the store and never loops over boxes in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NOWHERE: Final = -1
"""Stands in an index or label column where there is nothing to name."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one layer: ground truth, or the predictions of one model.

    Attributes:
        image: int64 array of shape (n,), index of the image each box lies on, in any order.
        bbox: float64 array of shape (n, 4), [x, y, width, height] in pixels; anything is allowed, also NaN.
        label: int64 array of shape (n,), index of the class; the same numbering in every layer. -1: a class that the
            ground truth does not know.
        score: float64 array of shape (n,), confidence in [0, 1]; None for ground truth.
        probabilities: array of shape (n, classes), a prediction's class probabilities, or None.
        crowd: bool array of shape (n,), COCO's ``iscrowd``: the box stands for many objects; None when none does.
        covered: int64 array, the images that were labelled (or predicted on), also those without a box; None for all.
    """

    image: IntArray
    bbox: FloatArray
    label: IntArray
    score: FloatArray | None = None
    probabilities: NDArray[np.float32] | None = None
    crowd: BoolArray | None = None
    covered: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.image)
        if self.bbox.shape != (n, 4):
            raise InputError("boxes must be an array of shape (n, 4)", where=f"bbox of shape {self.bbox.shape}")
        for name in ("label", "score", "probabilities", "crowd"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise InputError(f"{n} boxes need {n} rows", where=f"'{name}' with {len(column)} rows")
        if n and self.image.min() < 0:
            raise InputError("an image index is negative", where=f"row {int(self.image.argmin())}")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def crowds(self) -> BoolArray:
        """`crowd`, with False for None."""
        return np.zeros(len(self), dtype=bool) if self.crowd is None else self.crowd

    @property
    def usable(self) -> BoolArray:
        """bool array of shape (n,): finite, with an area, and a single object."""
        extent = self.bbox[:, 2:]
        return np.isfinite(self.bbox).all(axis=1) & (extent > 0).all(axis=1) & ~self.crowds

    def take(self, rows: IntArray | BoolArray) -> Boxes:
        """The chosen rows, in that order."""
        return replace(
            self,
            image=self.image[rows],
            bbox=self.bbox[rows],
            label=self.label[rows],
            score=None if self.score is None else self.score[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            crowd=None if self.crowd is None else self.crowd[rows],
        )


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


def check_sizes(sizes: FloatArray, *layers: Boxes) -> None:
    """See that every image that a box lies on has a size.

    Raises:
        InputError: `sizes` is not of shape (m, 2), or an image index is m or more.
    """
    if sizes.ndim != 2 or sizes.shape[1] != 2:
        raise InputError("image sizes must be an array of shape (m, 2)", where=f"sizes of shape {sizes.shape}")
    last = max((int(layer.image.max(initial=-1)) for layer in layers), default=-1)
    if last >= len(sizes):
        raise InputError(
            f"there are sizes for {len(sizes)} images", where=f"image index {last}", remedy="0 where unknown"
        )
