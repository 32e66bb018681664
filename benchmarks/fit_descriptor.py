"""Make the weights of the descriptor, from rendered pictures only: ``python -m benchmarks.fit_descriptor``.

The pictures are dead leaves: opaque shapes of all sizes that cover one another (Lee, Mumford & Huang, IJCV 2001), with the
colours, shading, blur and 1/f texture that photographs have on average. From them come the patch filters (spherical k-means
on whitened patches, Coates & Ng 2012), the mean description, and its principal components.

The file is part of the package; run this only to change the encoder, and give that a new name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from curate.imaging import Pixels
from curate.models.encoders import descriptor
from curate.models.encoders.descriptor import PATCH, SIZE, FilterBank, describe, normalised_patches, to_canonical

Float = npt.NDArray[np.float32]

FILTERS = 512
THRESHOLD = 0.9
"""In standard deviations of the filter responses."""

WHITENING = 0.1
"""Added to the eigenvalues of the patches' covariance, as a part of their mean: keeps noise from being blown up."""

BLOCK_WEIGHTS = {"patches": 1.0, "edges": 0.6, "color": 0.4}
SAME_COMPONENTS, ODD_COMPONENTS = 768, 192
ODD_WEIGHT = 0.5
"""Of what tells an image from its mirror image."""

COMPONENT_POWER = 0.35
"""Components are divided by this power of their variance: 0.5 would be whitening."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(descriptor.__file__).with_name(descriptor.WEIGHTS))
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    bank = fit_filters([dead_leaves(rng) for _ in range(1000)], rng)
    descriptions = np.stack([describe(dead_leaves(rng), bank) for _ in range(options.pictures)])
    weights: dict[str, npt.ArrayLike] = {"filters": bank.filters.astype(np.float16), "threshold": bank.threshold}
    weights |= fit_projections(descriptions, bank)
    np.savez_compressed(options.output, **weights)  # type: ignore[arg-type]
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")


def dead_leaves(rng: np.random.Generator, shapes: int = 60) -> Pixels:
    """One rendered picture; uint8 array of shape (SIZE, SIZE, 3)."""
    side = 2 * SIZE
    canvas = np.zeros((side, side, 3), np.float32)
    for _ in range(shapes):
        radius = side * 0.04 / max(rng.random(), 0.02) ** 0.6  # a power law: many small, few large
        _draw_shape(canvas, radius, rng)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.6, 2.0))
    picture = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    exposure, veil = np.exp(rng.uniform(-0.7, 0)), rng.uniform(0, 0.3)
    picture = picture * exposure + veil + 0.06 * rng.random() * _pink_noise(rng)[..., None]
    return np.asarray((picture.clip(0, 1) * 255).round().astype(np.uint8))


def _draw_shape(canvas: Float, radius: float, rng: np.random.Generator) -> None:
    """An ellipse or polygon somewhere. Colours differ most in lightness, then from blue to yellow, least from green to red."""
    centre = rng.uniform(0, len(canvas), 2)
    flatness = rng.uniform(0.4, 1)
    lightness = rng.normal(0.5, 0.25)
    blue_yellow = rng.normal(0, 0.10) * np.array([1, 0, -1])
    green_red = rng.normal(0, 0.05) * np.array([0.5, -1, 0.5])
    color = (np.clip(lightness, 0, 1) + blue_yellow + green_red).clip(0, 1).tolist()
    if rng.random() < 1 / 3:
        box = (centre.tolist(), (2 * radius, 2 * radius * flatness), rng.uniform(0, 180))
        cv2.ellipse(canvas, box, color, -1)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 6)))
    corners = centre + radius * np.stack([np.cos(angles), flatness * np.sin(angles)], axis=1)
    cv2.fillPoly(canvas, [corners.astype(np.int32)], color)


def _pink_noise(rng: np.random.Generator) -> Float:
    """Noise with the 1/f spectrum of photographs, standard deviation 1; shape (SIZE, SIZE)."""
    along = np.fft.fftfreq(SIZE)
    frequency = np.hypot(along[:, None], along)
    frequency[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIZE, SIZE))) / frequency).real
    return np.asarray(noise / noise.std(), dtype=np.float32)


def fit_filters(
    pictures: list[Pixels], rng: np.random.Generator, *, patches: int = 80_000, rounds: int = 15
) -> FilterBank:
    """Filters that come in mirrored pairs: k-means in which a patch may join a centre or its mirror image."""
    per_picture = patches // len(pictures)
    sample = np.concatenate(
        [rng.permutation(normalised_patches(to_canonical(picture)))[:per_picture] for picture in pictures]
    )
    mirror = np.arange(3 * PATCH * PATCH).reshape(3, PATCH, PATCH)[:, :, ::-1].ravel()
    sample = np.concatenate([sample, sample[:, mirror]])
    variances, axes = np.linalg.eigh(np.cov(sample.T))
    whitening = ((axes / np.sqrt(variances + WHITENING * variances.mean())) @ axes.T).astype(np.float32)

    white = sample @ whitening
    norms = np.linalg.norm(white, axis=1)
    white = white[norms > 0.7 * np.median(norms)]  # flat patches have no shape to learn
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    centres = white[rng.choice(len(white), FILTERS // 2, replace=False)]
    rows = np.arange(len(white))
    for _ in range(rounds):
        similarity = white @ np.concatenate([centres, centres[:, mirror]]).T
        nearest = similarity.argmax(axis=1)
        turned = np.where((nearest >= FILTERS // 2)[:, None], white[:, mirror], white)
        weights = (similarity[rows, nearest], (nearest % (FILTERS // 2), rows))
        sums = sparse.csr_matrix(weights, shape=(FILTERS // 2, len(white))) @ turned
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), centres).astype(np.float32)
    filters = whitening @ np.concatenate([centres, centres[:, mirror]]).T
    return FilterBank(filters, THRESHOLD * float((sample[:20_000] @ filters).std()))


def fit_projections(descriptions: Float, bank: FilterBank) -> dict[str, npt.ArrayLike]:
    """Means and components of the two halves of descriptions of shape (n, 2, d), as the package stores them."""
    weights: dict[str, npt.ArrayLike] = {}
    scale = _block_scale(descriptions[:, 0], bank)
    largest = None
    for part, half, count, weight in (("same", 0, SAME_COMPONENTS, 1.0), ("odd", 1, ODD_COMPONENTS, ODD_WEIGHT)):
        # A picture and its mirror image are equally likely, so the mean of what mirroring negates is 0.
        mean = descriptions[:, half].mean(axis=0) * (half == 0)
        centred = (descriptions[:, half] - mean) * scale
        covariance = (centred.T @ centred / len(centred)).astype(np.float64)
        d = len(covariance)
        variances, axes = linalg.eigh(covariance, subset_by_index=[d - count, d - 1])
        largest = largest or variances[-1]
        components = weight * scale[:, None] * axes[:, ::-1] * (largest / variances[::-1]) ** COMPONENT_POWER
        step = np.abs(components).max(axis=0) / 127
        weights[f"{part}_mean"] = mean.astype(np.float32)
        weights[f"{part}_components"] = np.round(components / step).astype(np.int8)
        weights[f"{part}_scale"] = step.astype(np.float32)
    return weights


def _block_scale(same: Float, bank: FilterBank) -> Float:
    """What each number is multiplied by, so that blocks contribute to distances by their weights; shape (d,)."""
    blank = np.zeros((SIZE, SIZE, 3), np.float32)
    sizes = [
        block.size // 2
        for block, _ in (
            descriptor.describe_patches(blank, bank),
            descriptor.describe_edges(blank),
            descriptor.describe_color(blank),
        )
    ]
    spread = same.var(axis=0)
    scales = []
    for variances, weight in zip(np.split(spread, np.cumsum(sizes)[:-1]), BLOCK_WEIGHTS.values(), strict=True):
        scales.append(np.full(len(variances), weight / np.sqrt(variances.sum()), np.float32))
    return np.concatenate(scales)


if __name__ == "__main__":
    main()
