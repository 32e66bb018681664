"""Focus: how sharp the edges are, apart from how many there are.

At a sharp edge neighbouring pixels differ by as much as pixels four apart do, at a blurred one by a quarter: the ratio of
the two energies measures blur and cancels contrast and content, the idea of re-blurring (Crete et al. 2007) and of the
gradient ratio of Zhuo and Sim (2011). Taken between two structure tensors, the ratio has a direction as well: motion blurs
along one and leaves edges along the other as they are, however many lines the scene has in either.

The energies are those of the blocks with the strongest edges. Grain adds to both, whether it is white or has been through a
JPEG: what the blocks without edges have is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

FloatArray = npt.NDArray[np.float64]

_FAR: Final = 4
_BLOCK: Final = 16
# Pixels looked at together.
_STRIP: Final = 1 << 15
# Shares of the blocks that are taken for edges and for none; and the number of blocks that such shares need: on the crop of a
# thing even its plainest blocks have edges.
_STRONG: Final = 0.3
_PLAIN: Final = 0.15
_ENOUGH: Final = 64
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


def block_energies(luma: Pixels) -> tuple[npt.NDArray[np.float32], float]:
    """What `focus` needs of one image.

    Args:
        luma: Shape (height, width), at least 20 pixels each way.

    Returns:
        Structure tensors (xx, xy, yy) of the gradient over one and over four pixels, in grey levels squared, by block, array
        of shape (6, blocks); and the share of pixels on edges.
    """
    # Whole blocks: shrinking by a whole number is several times faster. Some rows of them at a time, for the cache.
    height, width = ((side - _FAR) // _BLOCK * _BLOCK for side in luma.shape)
    rows = max(_STRIP // width // _BLOCK, 1) * _BLOCK
    edges, means = 0, []
    for top in range(0, height, rows):
        planes = _products(luma[top : min(top + rows, height) + _FAR, : width + _FAR].astype(np.float32))
        squares = cv2.add(planes[0, 0], planes[2, 0])
        edges += cv2.countNonZero(cv2.compare(squares, 2 * _EDGE**2, cv2.CMP_GT))
        size = (width // _BLOCK, 6 * squares.shape[0] // _BLOCK)
        strip = cv2.resize(planes.reshape(-1, width), size, interpolation=cv2.INTER_AREA)
        means.append(np.asarray(strip).reshape(3, 2, -1))
    both, product, other = np.concatenate(means, axis=2) if len(means) > 1 else means[0]
    half, cross = (both + other) / 4, product / 2
    tensors = np.empty((2, 3, both.shape[1]), np.float32)
    tensors[:, 0], tensors[:, 1], tensors[:, 2] = half + cross, (both - other) / 4, half - cross
    return tensors.reshape(6, -1), edges / (height * width)


def _products(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Products of the diagonal differences (down, up) of each square: both squared, and one with the other between.

    Args:
        values: Shape (height + 4, width + 4).

    Returns:
        Array of shape (3, 2, height, width): over one pixel and over four.
    """
    height, width = (side - _FAR for side in values.shape)
    here = values[:height, :width]
    planes = np.empty((3, 2, height, width), np.float32)
    down, up = np.empty((2, 2, height, width), np.float32)
    for number, step in enumerate((1, _FAR)):
        # The gradient in the middle of a square, from its diagonals: both of its parts are of the same place.
        cv2.subtract(values[step : height + step, step : width + step], here, dst=down[number])
        cv2.subtract(values[:height, step : width + step], values[step : height + step, :width], dst=up[number])
    np.multiply(down, down, out=planes[0])
    np.multiply(down, up, out=planes[1])
    np.multiply(up, up, out=planes[2])
    return planes


def focus(
    energies: Sequence[tuple[npt.NDArray[np.float32], float]], noise: npt.NDArray[np.float64]
) -> dict[str, FloatArray]:
    """Columns of focus.

    Args:
        energies: What `block_energies` gave of n images.
        noise: Standard deviation of their noise, grey levels; used where an image is too small to show it. Shape (n,).

    Returns:
        Arrays of shape (n,) by name: `sharpness`, how much of the differences over four pixels is there between neighbours, in
        the direction that is blurred most, in octaves (-1 for perfect edges, -2 for wide ones, more for fine texture);
        `edge_width`, pixels, standard deviation of the blur of the sharpest tenth of the strong edges; `motion_blur`, how many
        octaves more is kept in the sharpest direction than in the most blurred; `motion_angle`, that direction, degrees in
        [0, 180) from the x axis towards the y axis; `edge_density` in [0, 1].
    """
    near, far, sharpest = _of_edges([tensors for tensors, _ in energies], noise)
    # Whitening by the far tensor makes the generalised eigenvalues those of a symmetric matrix.
    values, vectors = np.linalg.eigh(_matrices(far))
    whiten = vectors / np.sqrt(values)[:, None, :]
    kept, directions = np.linalg.eigh(whiten.transpose(0, 2, 1) @ _matrices(near) @ whiten)
    kept = np.maximum(kept, 1e-4)
    blurred = np.einsum("nij,nj->ni", whiten, directions[:, :, 0])
    # A Gaussian edge of width s has energy over d pixels in proportion to d^2 / sqrt(s^2 + (d / 2)^2), about.
    ratio = (_FAR * sharpest) ** 2
    width = _PERFECT * np.sqrt(np.maximum(1 - ratio, 0) / np.maximum(ratio - 1 / _FAR**2, 1e-3))
    return {
        "sharpness": 0.5 * np.log2(kept[:, 0]),
        "edge_width": np.minimum(width, _WIDEST),
        "motion_blur": 0.5 * np.log2(kept[:, 1] / kept[:, 0]),
        "motion_angle": np.degrees(np.arctan2(blurred[:, 1], blurred[:, 0])) % 180,
        "edge_density": np.array([edges for _, edges in energies]),
    }


def _of_edges(
    tensors: Sequence[npt.NDArray[np.float32]], noise: npt.NDArray[np.float64]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Tensors over one and over four pixels in the blocks with edges, without noise, each of shape (n, 3), and the ratio of
    those energies in the sharpest of these blocks, shape (n,)."""
    blocks = np.array([each.shape[1] for each in tensors])
    sums = np.full((len(tensors), 6, int(blocks.max())), np.inf, np.float32)
    for to, each in zip(sums, tensors, strict=True):
        to[:, : each.shape[1]] = each
    order = np.argsort(sums[:, 3] + sums[:, 5], axis=1)
    sums = np.take_along_axis(sums, order[:, None], axis=2)
    rank, count = np.arange(sums.shape[2]), blocks[:, None]
    strong_from = count - np.maximum(1, np.rint(_STRONG * count))
    strong = (rank >= strong_from) & (rank < count)
    sums[np.broadcast_to((rank >= count)[:, None], sums.shape)] = 0
    plain = rank < (_PLAIN * count).astype(np.int64)
    mean = _mean_where(sums, strong)
    enough = (blocks >= _ENOUGH)[:, None]
    grain = np.where(enough, _mean_where(sums[:, :3], plain), _WHITE * noise[:, None] ** 2)
    # What is no larger than the grain says no more than nothing does.
    white = grain[:, 0] + grain[:, 2]
    nothing = (_NOTHING + _DOUBT * white / 2)[:, None]
    kept = np.maximum(sums[:, 0] + sums[:, 2] - white[:, None], 0)
    ratio = np.where(strong, (kept + nothing / _UNKNOWN) / (sums[:, 3] + sums[:, 5] + nothing), np.inf)
    chosen = (_SHARPEST * (strong.sum(axis=1) - 1) + 0.5).astype(np.int64)
    sharpest = np.take_along_axis(np.sort(ratio, axis=1), chosen[:, None], axis=1)[:, 0]
    unknown = np.array([1.0, 0.0, 1.0]) * nothing
    return _tensors(mean[:, :3] - grain) + unknown / _UNKNOWN, _tensors(mean[:, 3:] - grain) + unknown, sharpest


def _mean_where(sums: npt.NDArray[np.float32], chosen: npt.NDArray[np.bool_]) -> FloatArray:
    """Means over the chosen blocks: shapes (n, k, blocks) and (n, blocks) to (n, k); 0 where none is."""
    total = np.matmul(sums, chosen[..., None].astype(np.float32))[..., 0]
    return np.asarray(total / np.maximum(chosen.sum(axis=1), 1)[:, None], np.float64)


def _tensors(sums: FloatArray) -> FloatArray:
    """(xx, xy, yy) without negative energy in any direction; shape (n, 3)."""
    xx, yy = np.maximum(sums[:, 0], 0), np.maximum(sums[:, 2], 0)
    most = np.sqrt(xx * yy)
    return np.stack([xx, np.clip(sums[:, 1], -most, most), yy], axis=1)


def _matrices(tensor: FloatArray) -> FloatArray:
    """Shape (n, 3) to symmetric matrices of shape (n, 2, 2)."""
    return tensor[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
