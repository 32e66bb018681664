"""A fixed descriptor of shape, texture and colour, version 0.

An image is scaled to 32 x 32 pixels and described by three blocks:

- **Patches.** Every 6 x 6 patch is contrast-normalised, compared with a bank of filters, and its two-sided thresholded
  responses are averaged in four overlapping quadrants (Coates, Ng & Lee, AISTATS 2011; Coates & Ng, ICML 2011). The filters
  are spherical k-means centres of whitened patches, and every filter's mirror image is in the bank.
- **Edges.** Histograms of gradient directions on a 4 x 4 grid, each relative to the strength of its surroundings (Dalal &
  Triggs, CVPR 2005).
- **Colour.** The mean CIE L*a*b* colour on the same grid, both signs of each opponent axis apart.

Histograms are square-rooted and scaled to unit length, which makes the inner product a Hellinger kernel (Perronnin et al.,
ECCV 2010). What stays the same when the image is mirrored is told from what changes its sign; the second counts for less, for
most things are the same thing seen from the other side. Both are projected on their principal components, which are partly
whitened (Jegou & Chum, ECCV 2012), and the whole is scaled to unit length.

No photograph was used: filters, means and components come from rendered pictures of overlapping shapes ("dead leaves", Lee,
Mumford & Huang, IJCV 2001), whose statistics are close to those of photographs. ``benchmarks/fit_descriptor.py`` makes the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, Vectors

NAME: Final = "builtin-v0"
WEIGHTS: Final = "descriptor_v0.npz"

SIZE: Final = 32
PATCH: Final = 6

_POSITIONS: Final = SIZE - PATCH + 1
GRID: Final = 4
BINS: Final = 12

# Contrast below about 10 grey levels is taken for noise, and not blown up to full contrast (Coates et al., section 3.1).
NOISE: Final = 10 / 255
# Gradient energy below which an edge cell is taken for flat.
FLAT: Final = 0.02

_HALF_ROOT: Final = np.float32(np.sqrt(0.5))

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FilterBank:
    """Filters for contrast-normalised patches.

    Attributes:
        filters: Whitening and filter in one; filter k + n/2 is the mirror image of filter k; shape (3 * PATCH**2, n).
        threshold: A response below it counts as none.
    """

    filters: Float
    threshold: float


@dataclass(frozen=True)
class Projection:
    """From a part of the description to a part of the vector: subtract the mean, multiply by the components.

    Attributes:
        mean: Shape (d,).
        components: Scaled for partial whitening and for the weights of blocks; shape (d, dimensions).
    """

    mean: Float
    components: Float

    def __call__(self, description: Float) -> Float:
        """Project descriptions of shape (n, d)."""
        return np.asarray((description - self.mean) @ self.components)


def load(argument: str) -> Encoder:
    """The descriptor; takes no argument."""
    if argument:
        raise UsageError(f"'builtin-v0' takes no argument, got '{argument}'", remedy="write 'builtin-v0'")
    return Descriptor()


class Descriptor:
    """See the module's docstring and `curate.models.encoders.base.Encoder`."""

    def __init__(self) -> None:
        self._bank, self._same, self._odd = read_weights()
        self.name = NAME
        self.input_size = SIZE
        self.dimensions = self._same.components.shape[1] + self._odd.components.shape[1]

    def prepare(self, pixels: Pixels) -> Float:
        """Describe one image; float32 of shape (2, d): what mirroring leaves, and what it negates.

        Nearly all the work is done here, so that it runs in the decoding threads.
        """
        return np.stack(describe(pixels, self._bank))

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        """Project n descriptions; float32 of shape (n, dimensions), rows of unit length."""
        descriptions = np.stack(prepared).astype(np.float32, copy=False)
        vectors = np.concatenate([self._same(descriptions[:, 0]), self._odd(descriptions[:, 1])], axis=1)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny))


def describe(pixels: Pixels, bank: FilterBank) -> tuple[Float, Float]:
    """Describe an image of any size.

    Args:
        pixels: uint8 array of shape (height, width, 3).
        bank: Filters of the patch block.

    Returns:
        What mirroring the image leaves as it is, and what it negates; each of shape (d,). Blocks follow one another:
        patches, edges, colour.
    """
    image = to_canonical(pixels)
    same, odd = [], []
    for block, mirrored in (describe_patches(image, bank), describe_edges(image), describe_color(image)):
        # The right half of the columns says the same again: left half +- mirrored right half is an orthogonal basis.
        left = slice(block.shape[1] // 2)
        same.append((block[:, left] + mirrored[:, left]) * _HALF_ROOT)
        odd.append((block[:, left] - mirrored[:, left]) * _HALF_ROOT)
    return np.concatenate(same, axis=None), np.concatenate(odd, axis=None)


def to_canonical(pixels: Pixels) -> Float:
    """Scale to SIZE x SIZE, values in [0, 1]."""
    if pixels.shape[:2] != (SIZE, SIZE):
        pixels = resize(pixels, (SIZE, SIZE))
    return pixels.astype(np.float32) / np.float32(255)


def normalised_patches(image: Float) -> Float:
    """Every patch of an image less its mean, relative to its contrast; shape (n, 3 * PATCH**2), channel by channel."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))
    patches = windows.reshape(-1, 3 * PATCH * PATCH)
    patches = patches - patches.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", patches, patches) / patches.shape[1]
    patches /= np.sqrt(variance + np.float32(NOISE**2))[:, None]
    return np.asarray(patches)


def describe_patches(image: Float, bank: FilterBank) -> tuple[Float, Float]:
    """The patch block of an image and of its mirror image, each of shape (2, 2, 2, 2, filters / 2)."""
    response = normalised_patches(image) @ bank.filters
    pooling = quadrants()
    threshold = np.float32(bank.threshold)
    positive = pooling @ np.maximum(response - threshold, 0)
    negative = pooling @ np.maximum(-threshold - response, 0)
    pooled = np.stack([positive, negative], axis=1).reshape(2, 2, 2, 2, -1)
    block = _unit_root(pooled)
    return block, block[:, ::-1, :, ::-1]  # rows, columns, sign, filter or its mirror image, number


def describe_edges(image: Float) -> tuple[Float, Float]:
    """The edge block of an image and of its mirror image, each of shape (4, 4, 12)."""
    across, down, strength = _gradients(image)
    position = np.arctan2(down, across) * np.float32(BINS / (2 * np.pi)) % BINS
    lower = position.astype(np.intp) % BINS
    share = position - np.floor(position)
    pixels = np.arange(SIZE * SIZE)
    votes = np.zeros((SIZE * SIZE, BINS), np.float32)
    votes[pixels, lower] = strength * (1 - share)
    votes[pixels, (lower + 1) % BINS] += strength * share
    block = (cells() @ votes).reshape(GRID, GRID, BINS)
    energy = np.sqrt(np.square(block).sum(axis=2) + np.float32(1e-4))
    surroundings = cv2.blur(energy, (3, 3), borderType=cv2.BORDER_REPLICATE)
    block = _unit_root(block / (surroundings[..., None] + np.float32(FLAT)))
    return block, block[:, ::-1, (BINS // 2 - np.arange(BINS)) % BINS]


def describe_color(image: Float) -> tuple[Float, Float]:
    """The colour block of an image and of its mirror image, each of shape (4, 4, 5)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB) / np.float32(100)
    cells = lab.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID, 3).mean(axis=(1, 3))
    lightness, opponents = cells[..., :1] - np.float32(0.5), cells[..., 1:]
    roots = [np.sqrt(np.maximum(sign * opponents, 0)) for sign in (1, -1)]
    block = np.concatenate([*roots, lightness], axis=2)
    return block, block[:, ::-1]


def _unit_root(histogram: Float) -> Float:
    """Signed square root and unit length; zeros stay zeros."""
    root = np.sqrt(histogram)
    return np.asarray(root / max(float(np.linalg.norm(root)), 1e-9))


def _gradients(image: Float) -> tuple[Float, Float, Float]:
    """Central differences of the channel where they are strongest: along x, along y, and their length; (SIZE**2,) each."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]).reshape(-1, 3)
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]).reshape(-1, 3)
    strength = np.hypot(across, down)
    strongest = strength.argmax(axis=1)
    pixels = np.arange(len(strongest))
    return across[pixels, strongest], down[pixels, strongest], strength[pixels, strongest]


@cache
def quadrants() -> Float:
    """Weights of the filter positions in four overlapping quadrants; shape (4, positions), rows sum to 1."""
    return _triangles(_POSITIONS, 2)


@cache
def cells() -> Float:
    """Weights of the pixels in the cells of the edge grid; shape (16, pixels), rows sum to 1."""
    return _triangles(SIZE, GRID)


def _triangles(length: int, count: int) -> Float:
    """Triangular windows, `count` along each side of a square, that overlap by half."""
    width = length / count
    centres = (np.arange(count) + 0.5) * width - 0.5
    along = np.maximum(0, 1 - np.abs(np.arange(length) - centres[:, None]) / width)
    along /= along.sum(axis=1, keepdims=True)
    return np.kron(along, along).astype(np.float32)


@cache
def read_weights() -> tuple[FilterBank, Projection, Projection]:
    """What ``benchmarks/fit_descriptor.py`` wrote: components are bytes, to be multiplied by a scale per column."""
    with resources.files("curate.models.encoders").joinpath(WEIGHTS).open("rb") as file, np.load(file) as weights:
        bank = FilterBank(weights["filters"].astype(np.float32), float(weights["threshold"]))
        same, odd = (
            Projection(
                weights[f"{part}_mean"].astype(np.float32),
                weights[f"{part}_components"].astype(np.float32) * weights[f"{part}_scale"],
            )
            for part in ("same", "odd")
        )
    return bank, same, odd
