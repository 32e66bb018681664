"""Focus: how sharp the edges are, apart from how many there are.

At a sharp edge neighbouring pixels differ by as much as pixels four apart do, at a blurred one by a quarter: the ratio of
the two energies measures blur and cancels contrast and content, the idea of re-blurring (Crete et al. 2007) and of the
gradient ratio of Zhuo and Sim (2011). Taken between two structure tensors, the ratio has a direction as well: motion blurs
along one and leaves edges along the other as they are, however many lines the scene has in either.

The energies are those of the blocks with the strongest edges. Grain adds to both, whether it is white or has been through a
JPEG: what the blocks without edges have is taken off.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.checks.measures.noise import quantile
from curate.imaging import Pixels

FloatArray = npt.NDArray[np.float64]

_FAR: Final = 4
_BLOCK: Final = 16
# Shares of the blocks that are taken for edges and for none; and the number of blocks that such shares need.
_STRONG: Final = 0.3
_PLAIN: Final = 0.15
_ENOUGH: Final = 16
# Energy (grey levels squared) over four pixels that says nothing: rounding to 8 bits.
_NOTHING: Final = 0.5
# Where there is nothing, the energies are taken to be 6 to 1: neither sharp (4) nor blurred (16).
_UNKNOWN: Final = 6
# Energies of less than this many times the grain are doubtful.
_DOUBT: Final = 2.0
# Of white noise of variance 1, in (xx, xy, yy).
_WHITE: Final = np.array([1.0, 0.0, 1.0])
_SHARPEST: Final = 0.9
# Where a difference of neighbours is an edge: grey levels.
_EDGE: Final = 8.0
# Effective width of a perfect edge between two pixels, pixels.
_PERFECT: Final = 0.5
_WIDEST: Final = 16.0


def focus_sums(luma: Pixels, noise: float) -> FloatArray:
    """What `focus` needs of one image.

    Args:
        luma: Shape (height, width), at least 16 pixels each way.
        noise: Standard deviation of its noise, grey levels; used where the image is too small to show it.

    Returns:
        Array of shape (8,): the structure tensors (xx, xy, yy) of the gradient over one and over four pixels in the blocks
        with edges, without noise; the ratio of those energies in the sharpest of these blocks; the share of pixels on edges.
    """
    values = luma.astype(np.float32)
    # Whole blocks: shrinking by a whole number is several times faster.
    height, width = ((side - _FAR) // _BLOCK * _BLOCK for side in values.shape)
    here = values[:height, :width]
    blocks = (width // _BLOCK, height // _BLOCK)
    energies = []
    edges = 0.0
    for step in (1, _FAR):
        # The gradient in the middle of a square, from its diagonals: both of its parts are of the same place.
        down = cv2.subtract(values[step : height + step, step : width + step], here)
        up = cv2.subtract(values[:height, step : width + step], values[step : height + step, :width])
        planes = [cv2.multiply(down, down), cv2.multiply(down, up), cv2.multiply(up, up)]
        if step == 1:
            squares = cv2.add(planes[0], planes[2])
            edges = cv2.countNonZero(cv2.compare(squares, 2 * _EDGE**2, cv2.CMP_GT)) / here.size
        means = cv2.resize(cv2.merge(planes), blocks, interpolation=cv2.INTER_AREA)
        both, product, other = means.reshape(-1, 3).T
        energies.append([(both + other) / 4 + product / 2, (both - other) / 4, (both + other) / 4 - product / 2])
    sums = np.array(energies, dtype=np.float32).reshape(6, -1)
    strength = sums[3] + sums[5]
    order = np.argsort(strength)
    strong = order[-max(1, round(_STRONG * len(order))) :]
    plain = order[: int(_PLAIN * len(order))]
    near, far = (sums[:, strong].sum(axis=1, dtype=np.float64) / len(strong)).reshape(2, 3)
    grain = sums[:3, plain].sum(axis=1) / len(plain) if len(order) >= _ENOUGH else _WHITE * noise**2
    # What is no larger than the grain says no more than nothing does.
    nothing = _NOTHING + _DOUBT * float(grain[0] + grain[2]) / 2
    kept = np.maximum(sums[0, strong] + sums[2, strong] - np.float32(grain[0] + grain[2]), 0)
    ratio = (kept + nothing / _UNKNOWN) / (strength[strong] + nothing)
    unknown = np.array([1.0, 0.0, 1.0]) * nothing
    near, far = _tensor(near - grain) + unknown / _UNKNOWN, _tensor(far - grain) + unknown
    return np.concatenate([near, far, [quantile(ratio, _SHARPEST), edges]])


def focus(sums: FloatArray) -> dict[str, FloatArray]:
    """Columns of focus.

    Args:
        sums: What `focus_sums` gave, array of shape (n, 8).

    Returns:
        Arrays of shape (n,) by name: `sharpness`, how much of the differences over four pixels is there between neighbours, in
        the direction that is blurred most, in octaves (-1 for perfect edges, -2 for wide ones, more for fine texture);
        `edge_width`, pixels, standard deviation of the blur of the sharpest tenth of the strong edges; `motion_blur`, how many
        octaves more is kept in the sharpest direction than in the most blurred; `motion_angle`, that direction, degrees in
        [0, 180) from the x axis towards the y axis; `edge_density` in [0, 1].
    """
    near, far = _matrices(sums[:, :3]), _matrices(sums[:, 3:6])
    # Whitening by the far tensor makes the generalised eigenvalues those of a symmetric matrix.
    values, vectors = np.linalg.eigh(far)
    whiten = vectors / np.sqrt(values)[:, None, :]
    kept, directions = np.linalg.eigh(whiten.transpose(0, 2, 1) @ near @ whiten)
    kept = np.maximum(kept, 1e-4)
    blurred = np.einsum("nij,nj->ni", whiten, directions[:, :, 0])
    # A Gaussian edge of width s has energy over d pixels in proportion to d^2 / sqrt(s^2 + (d / 2)^2), about.
    ratio = (_FAR * sums[:, 6]) ** 2
    width = _PERFECT * np.sqrt(np.maximum(1 - ratio, 0) / np.maximum(ratio - 1 / _FAR**2, 1e-3))
    return {
        "sharpness": 0.5 * np.log2(kept[:, 0]),
        "edge_width": np.minimum(width, _WIDEST),
        "motion_blur": 0.5 * np.log2(kept[:, 1] / kept[:, 0]),
        "motion_angle": np.degrees(np.arctan2(blurred[:, 1], blurred[:, 0])) % 180,
        "edge_density": sums[:, 7],
    }


def _tensor(sums: FloatArray) -> FloatArray:
    """(xx, xy, yy) without negative energy in any direction."""
    xx, xy, yy = sums.tolist()
    xx, yy = max(xx, 0.0), max(yy, 0.0)
    most = math.sqrt(xx * yy)
    return np.array([xx, min(max(xy, -most), most), yy])


def _matrices(tensor: FloatArray) -> FloatArray:
    """Shape (n, 3) to symmetric matrices of shape (n, 2, 2)."""
    return tensor[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
