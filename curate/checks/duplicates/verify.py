"""Are two images copies of one another? Decided on their pixels.

Two questions are asked. *Is there one geometric model?* Local features of both, and of the mirror image, are matched, and a
similarity (shift, turn, scale) is fitted to the matches by RANSAC (Fischler & Bolles, 1981). *Do they look the same under
it?* The one is laid over the other and correlated, everywhere by itself: local normalised correlation ignores gain and
offset, so that another exposure, or light that falls off, changes little. What is in the one and not in the other lowers it
where it is: images that share a background, a frame or a logo agree there and differ elsewhere.

Where features are few (flat, blurred or tiny images), the models tried are the identity, the mirror image and a shift. Images
in which nothing is to be seen are copies of nothing: only their bytes or pixels can say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.features import FRAME, SMALL, Features, mirrored

Matrix = npt.NDArray[np.float64]
Float = npt.NDArray[np.float32]

RATIO: Final = 0.85
TOLERANCE: Final = 4.0
"""Pixels of the frame that a matched feature may be off the model."""

ENOUGH: Final = 15
"""Features that agree on a model; with fewer, simpler models are tried too."""

_LEAST: Final = 6
_SURE: Final = 0.7
_AROUND: Final = np.ones((9, 9), np.uint8)
_FLIP: Final = np.array([-1, 1], np.float32)
_SHRINK: Final = SMALL / FRAME
_LARGEST_SCALE: Final = 2.5
# Sides, in pixels of the small picture, of what is taken for slowly changing light and of the window that is correlated.
_COARSE: Final = (25, 11)
_FINE: Final = (5, 9)
_PLAIN: Final = 0.5
_AGREES: Final = 0.5
# Standard deviation, in grey levels, below which a window is taken for flat whatever the gain.
_FLAT: Final = 2.0


@dataclass(frozen=True)
class Comparison:
    """How two images compare under the best model found.

    Attributes:
        mirrored: Whether the second is compared as its mirror image.
        matrix: Takes points of the first image's frame to that of the second (mirrored where it says so), both measured
            from the frame's centre; shape (2, 3).
        inliers: Features that agree with the model; 0 where it does not come from features.
        matched: Features that were matched at all.
        overlap: Part of the smaller image that the other covers, in [0, 1].
        correlation: Of the two where they overlap, after gain and offset, in [-1, 1].
        agreement: Part of what is to be seen that correlates locally, in [0, 1].
        detail: Local correlation of the fine structure, averaged by how strong it is, in [-1, 1].
        differing: The part of the overlap, by area, that does not, in [0, 1].
    """

    mirrored: bool
    matrix: Matrix
    inliers: int
    matched: int
    overlap: float
    correlation: float
    agreement: float
    detail: float
    differing: float

    @property
    def displacement(self) -> float:
        """How far the model moves a corner of the frame at most, in parts of the frame."""
        return float(displacement(self.matrix[None])[0])

    @property
    def support(self) -> float:
        """What speaks for the model, to choose between several."""
        return self.agreement * self.overlap + 0.3 * min(self.inliers, 2 * ENOUGH) / (2 * ENOUGH)


def displacement(matrix: Matrix) -> Matrix:
    """How far models, shape (m, 2, 3), move a corner of the frame at most, in parts of the frame; shape (m,)."""
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * (FRAME / 2)
    moved = np.einsum("mij,kj->mki", matrix[:, :, :2], corners) + matrix[:, None, :, 2]
    return np.asarray(np.abs(moved - corners).max(axis=(1, 2)) / FRAME)


def compare(first: Features, second: Features) -> Comparison:
    """Compare two images; call it with the two in a fixed order, for RANSAC is not symmetric to the last digit."""
    best: Comparison | None = None
    for flip in (False, True):
        for matrix, inliers, matched in _models(first, second, flip):
            found = _under(first, second, flip, matrix, inliers, matched)
            if best is None or found.support > best.support:
                best = found
        if best is not None and best.inliers >= ENOUGH and best.agreement > _SURE:
            break
    assert best is not None
    return best


def _models(first: Features, second: Features, flip: bool) -> Iterator[tuple[Matrix, int, int]]:
    """Models worth trying, each with how many matched features agree with it, and how many were matched.

    The one that most features agree with; the identity, for light that changed leaves few of them; a shift where there are
    hardly any.
    """
    descriptors, points = second.descriptors, second.points
    if flip:
        width = second.small.shape[1] / _SHRINK
        descriptors, points = mirrored(descriptors), np.array([width - 1, 0], np.float32) + points * _FLIP
    rows, columns = mutual_matches(first.descriptors, descriptors)
    source, target = first.points[rows], points[columns]
    if len(rows) >= _LEAST:
        matrix, inliers = fit_similarity(source, target)
        if matrix is not None and inliers >= _LEAST:
            yield matrix, inliers, len(rows)
            if inliers >= 3 * ENOUGH:
                return
    (h, w), (other_h, other_w) = first.small.shape, second.small.shape
    stretch = np.array([[other_w / w, 0, 0], [0, other_h / h, 0]])
    yield stretch, _count_inliers(stretch, source, target), len(rows)
    if min(len(first.points), len(second.points)) < ENOUGH and min(h, w) > 1:
        picture = cv2.resize(_turned(second.small, flip), (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
        window = cv2.createHanningWindow((w, h), cv2.CV_32F)
        (dx, dy), _ = cv2.phaseCorrelate(first.small.astype(np.float32), picture, window)
        if 1 < np.hypot(dx, dy) < 0.4 * min(h, w):
            yield np.column_stack([stretch[:, :2], stretch[:, :2] @ (dx / _SHRINK, dy / _SHRINK)]), 0, len(rows)


def _count_inliers(matrix: Matrix, source: Float, target: Float) -> int:
    """Spots of the first image whose match is where the model says; several features on one spot say no more than one."""
    off = np.linalg.norm(source @ matrix[:, :2].T + matrix[:, 2] - target, axis=1)
    return len(np.unique(np.rint(source[off < TOLERANCE] / TOLERANCE), axis=0))


def mutual_matches(first: Float, second: Float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features that are each other's nearest, the second's being clearly nearer than the second nearest (Lowe's ratio test)."""
    if min(len(first), len(second)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = first @ second.T
    rows = np.arange(len(first))
    nearest, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    top = similarity[rows, nearest]
    mutual = np.flatnonzero(back[nearest] == rows)
    rest = similarity[mutual]
    rest[np.arange(len(mutual)), nearest[mutual]] = -1
    # Squared distances of unit vectors are 2 - 2 s.
    clear = 1 - top[mutual] < RATIO**2 * (1 - rest.max(axis=1, initial=-1.0))
    kept = mutual[clear]
    return kept, nearest[kept]


def fit_similarity(source: Float, target: Float) -> tuple[Matrix | None, int]:
    """The similarity that most matches agree with, shape (2, 3), and how many; None if there is none that is plausible."""
    matrix, _ = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=500, confidence=0.995
    )
    if matrix is None:
        return None, 0
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _LARGEST_SCALE < scale < _LARGEST_SCALE:
        return None, 0
    return matrix, _count_inliers(matrix, source, target)


def _turned(picture: npt.NDArray[np.uint8], flip: bool) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(picture[:, ::-1]) if flip else picture


def _center(features: Features) -> Matrix:
    height, width = features.small.shape
    return np.array([width / _SHRINK - 1, height / _SHRINK - 1]) / 2


def _under(
    first: Features, second: Features, flip: bool, matrix: Matrix, inliers: int = 0, matched: int = 0
) -> Comparison:
    """How two images compare under a model."""
    height, width = first.small.shape
    centered = matrix.copy()
    centered[:, 2] += matrix[:, :2] @ _center(first) - _center(second)
    shrunk = matrix.copy()
    # Centres of pixels: frame = (small + 0.5) / shrink - 0.5.
    shrunk[:, 2] = _SHRINK * (matrix[:, :2].sum(axis=1) * (0.5 / _SHRINK - 0.5) + matrix[:, 2] + 0.5) - 0.5
    over = cv2.warpAffine(
        _turned(second.small, flip).astype(np.float32),
        shrunk,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-1000.0,
    )
    padding = cv2.warpAffine(
        _turned(second.padding, flip), shrunk, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    seen = (over >= 0) & (cv2.dilate(padding & first.padding, _AROUND) == 0)
    area = float((over >= 0).sum())
    determinant = abs(float(np.linalg.det(shrunk[:, :2])))
    overlap = min(1.0, max(area / seen.size, area * determinant / second.small.size))
    if seen.sum() < 64:
        return Comparison(flip, centered, inliers, matched, overlap, 0.0, 0.0, 0.0, 1.0)
    a, b = first.small.astype(np.float32), np.where(over >= 0, over, over[seen].mean())
    inside = seen.astype(np.float32)
    x, y = a[seen], b[seen]
    x, y = x - x.mean(), y - y.mean()
    correlation = float((x * y).mean() / max(float(x.std()) * float(y.std()), 1e-3))
    coarse, differing = _agreement(cv2.GaussianBlur(a, (0, 0), 1.0), cv2.GaussianBlur(b, (0, 0), 1.0), inside)
    fine = _local_correlation(a, b, inside, *_FINE)
    detail = float((fine.ncc * fine.weight).sum()) / total if (total := float(fine.weight.sum())) else coarse
    return Comparison(flip, centered, inliers, matched, overlap, correlation, coarse, detail, differing)


@dataclass(frozen=True)
class _Local:
    """Correlation around each pixel, and how much is to be seen there (0 where nothing is); float32 of shape (h, w) each."""

    ncc: Float
    weight: Float


def _agreement(a: Float, b: Float, inside: Float) -> tuple[float, float]:
    """Part of the structure that agrees, and part of the area that differs."""
    local = _local_correlation(a, b, inside, *_COARSE)
    total = float(local.weight.sum())
    if total == 0:  # two flat pictures
        return 1.0, 0.0
    agrees = local.ncc > _AGREES
    return float(local.weight[agrees].sum()) / total, float((~agrees & (local.weight > _PLAIN)).sum() / inside.sum())


def _local_correlation(a: Float, b: Float, inside: Float, high_pass: int, window: int) -> _Local:
    a, b = _high_pass(a, inside, high_pass), _high_pass(b, inside, high_pass)
    var_a, var_b, cov = (_local_mean(v, inside, window) for v in (a * a, b * b, a * b))
    var_a, var_b = np.maximum(var_a, 0), np.maximum(var_b, 0)
    ncc = cov / np.sqrt((var_a + _FLAT**2 / 4) * (var_b + _FLAT**2 / 4))
    # Structure relative to each picture's own contrast: what only the one has counts as much as what both have. A strong
    # edge counts no more than usual structure, or a frame around the picture would outweigh what is in it.
    seen = inside > 0
    energy_a = var_a / max(float(var_a[seen].mean()), _FLAT**2)
    energy_b = var_b / max(float(var_b[seen].mean()), _FLAT**2)
    shown = inside * (np.maximum(var_a, var_b) > _FLAT**2)
    weight = np.sqrt(np.minimum(np.maximum(energy_a, energy_b), 1)) * shown
    return _Local(ncc.astype(np.float32), weight.astype(np.float32))


def _high_pass(picture: Float, inside: Float, size: int) -> Float:
    mean = cv2.blur(picture * inside, (size, size)) / np.maximum(cv2.blur(inside, (size, size)), 1e-3)
    return np.asarray((picture - mean) * inside)


def _local_mean(values: Float, inside: Float, size: int) -> Float:
    return np.asarray(cv2.blur(values, (size, size)) / np.maximum(cv2.blur(inside, (size, size)), 0.1))
