"""The computation that measures images: heavy work per image in the decoding threads, the rest for a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.checks.measures.color import color
from curate.checks.measures.exposure import PERCENTILES, banding, exposure, histogram
from curate.checks.measures.focus import block_energies, focus
from curate.checks.measures.hashes import perceptual_hashes, pixel_hash
from curate.checks.measures.light import CUES, LAYOUT, light
from curate.checks.measures.noise import blockiness, coefficient_counts, noise_level, quantization, step_profiles
from curate.imaging import Pixels, ScaledPixels

NUMBERS: Final = (
    *("brightness", *(f"luminance_p{percentile:02d}" for percentile in PERCENTILES)),
    *("clipped_dark", "clipped_bright", "contrast"),
    *("red_gain", "blue_gain", "cast_a", "cast_b", "chroma", "chroma_max", "colorfulness"),
    *("sharpness", "edge_width", "motion_blur", "motion_angle"),
    *("noise", "blockiness", "quantization", "banding", "entropy", "edge_density"),
    *("light_x", "light_y", "light_center"),
    "bits",
)
"""Names of the float32 columns."""

HASHES: Final = ("dhash", "dhash_mirrored", "phash", "phash_mirrored", "pixel_hash")
"""Names of the uint64 columns."""

VECTORS: Final = {"layout": LAYOUT * LAYOUT, "light_cues": sum(CUES)}
"""Lengths of the columns of lists of float32."""

_THUMBNAIL: Final = 32
_SMALLEST: Final = 20
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Sums:
    """What is taken from one image's pixels.

    Attributes:
        counts: Histograms of luma and of green, float32 arrays of shape (256,).
        thumbnail: uint8 array of shape (32, 32, 3).
        energies: What `block_energies` gives: array of shape (6, blocks), and the share of pixels on edges.
        noise: Standard deviation, grey levels.
        profiles: What `step_profiles` gives.
        coefficients: What `coefficient_counts` gives.
        pixel_hash: 64 bits.
        bits: Of a value in the file, where the pixels are scaled by their own range; else 8.
    """

    counts: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    thumbnail: Pixels
    energies: tuple[npt.NDArray[np.float32], float]
    noise: float
    profiles: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    coefficients: npt.NDArray[np.int64]
    pixel_hash: int
    bits: int


class MeasureImages:
    """Measures images and crops. A `curate.models.passes.Computation`."""

    name = "measures-3"
    columns = pa.schema(
        [
            *(pa.field(name, pa.float32(), nullable=False) for name in NUMBERS),
            *(pa.field(name, pa.list_(pa.float32(), size), nullable=False) for name, size in VECTORS.items()),
            *(pa.field(name, pa.uint64(), nullable=False) for name in HASHES),
        ]
    )
    input_size: int | None = 320
    margin = 0.0

    def prepare(self, pixels: Pixels) -> Sums:
        """Take sums of one image or crop; runs in decoding threads."""
        bits, values = (pixels.bits, pixels.digest) if isinstance(pixels, ScaledPixels) else (8, b"")
        pixels = _standard_scale(pixels, self.input_size or 0)
        luma = _at_least(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _SMALLEST)
        return Sums(
            counts=(histogram(luma), histogram(pixels, 1)),
            thumbnail=cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA),
            energies=block_energies(luma),
            noise=noise_level(luma),
            profiles=step_profiles(luma),
            coefficients=coefficient_counts(luma),
            pixel_hash=pixel_hash(pixels, values),
            bits=bits,
        )

    def run(self, batch: Sequence[Sums]) -> pa.RecordBatch:
        """The columns of n images."""
        of_luma, of_green = (np.stack(counts) for counts in zip(*(sums.counts for sums in batch), strict=True))
        thumbnails = np.stack([sums.thumbnail for sums in batch])
        planes = np.ascontiguousarray(thumbnails.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        luminance = np.einsum("c,nchw->nhw", _LUMA, planes)
        noise = np.array([sums.noise for sums in batch])
        columns: dict[str, npt.NDArray[np.floating] | npt.NDArray[np.uint64]] = {
            **exposure(of_luma),
            **color(planes),
            **focus([sums.energies for sums in batch], noise),
            "noise": noise / 255,
            "blockiness": blockiness([profile for sums in batch for profile in sums.profiles])
            .reshape(-1, 2)
            .mean(axis=1),
            "quantization": quantization(np.stack([sums.coefficients for sums in batch])),
            "banding": banding(of_green),
            **light(luminance),
            **perceptual_hashes(luminance),
            "pixel_hash": np.array([sums.pixel_hash for sums in batch], dtype=np.uint64),
            "bits": np.array([sums.bits for sums in batch], dtype=np.float64),
        }
        return pa.RecordBatch.from_arrays(
            [_column(columns[field.name], field.type) for field in self.columns], schema=self.columns
        )


def _column(values: npt.NDArray[np.floating] | npt.NDArray[np.uint64], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), kind.list_size)
    return pa.array(values.astype(kind.to_pandas_dtype()))


def _standard_scale(pixels: Pixels, shortest_side: int) -> Pixels:
    """Shrink what was decoded larger than needed by the factor that a JPEG would have been decoded at.

    So a PNG is measured as a JPEG is, and an image as it would be alone when crops or another computation in the same pass
    want it larger.
    """
    height, width = pixels.shape[:2]
    factor = next((f for f in (8, 4, 2) if min(height, width) >= 2 * shortest_side * f), 1)
    if factor == 1:
        return np.ascontiguousarray(pixels)
    return np.asarray(
        cv2.resize(pixels, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _at_least(luma: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Tiny crops with their border repeated, which adds no edge."""
    height, width = luma.shape
    if min(height, width) >= side:
        return luma
    right, bottom = max(0, side - width), max(0, side - height)
    return np.asarray(cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REPLICATE), dtype=np.uint8)
