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
from curate.checks.measures.focus import focus, focus_sums
from curate.checks.measures.hashes import perceptual_hashes, pixel_hash
from curate.checks.measures.light import LAYOUT, light
from curate.checks.measures.noise import blockiness, noise_level
from curate.imaging import Pixels

NUMBERS: Final = (
    *("brightness", *(f"luminance_p{percentile:02d}" for percentile in PERCENTILES)),
    *("clipped_dark", "clipped_bright", "contrast"),
    *("red_gain", "blue_gain", "cast_a", "cast_b", "chroma", "colorfulness"),
    *("sharpness", "edge_width", "motion_blur", "motion_angle"),
    *("noise", "blockiness", "banding", "entropy", "edge_density"),
    *("light_x", "light_y", "light_center"),
)
"""Names of the float32 columns."""

HASHES: Final = ("dhash", "dhash_mirrored", "phash", "phash_mirrored", "pixel_hash")
"""Names of the uint64 columns."""

_THUMBNAIL: Final = 32
_SMALLEST: Final = 20
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Sums:
    """What is taken from one image's pixels.

    Attributes:
        counts: Histograms of luma and of green, float32 array of shape (2, 256).
        thumbnail: uint8 array of shape (32, 32, 3).
        focus: What `focus_sums` gives.
        noise: Standard deviation, grey levels.
        blockiness: What `blockiness` gives.
        pixel_hash: 64 bits.
    """

    counts: npt.NDArray[np.float32]
    thumbnail: Pixels
    focus: npt.NDArray[np.float64]
    noise: float
    blockiness: float
    pixel_hash: int


class MeasureImages:
    """Measures images and crops. A `curate.models.passes.Computation`."""

    name = "measures-1"
    columns = pa.schema(
        [
            *(pa.field(name, pa.float32(), nullable=False) for name in NUMBERS),
            pa.field("layout", pa.list_(pa.float32(), LAYOUT * LAYOUT), nullable=False),
            *(pa.field(name, pa.uint64(), nullable=False) for name in HASHES),
        ]
    )
    input_size: int | None = 320
    margin = 0.0

    def prepare(self, pixels: Pixels) -> Sums:
        """Take sums of one image or crop; runs in decoding threads."""
        pixels = _standard_scale(pixels, self.input_size or 0)
        luma = _at_least(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _SMALLEST)
        noise = noise_level(luma)
        return Sums(
            counts=np.stack([histogram(luma), histogram(pixels, 1)]),
            thumbnail=cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA),
            focus=focus_sums(luma, noise),
            noise=noise,
            blockiness=blockiness(luma),
            pixel_hash=pixel_hash(pixels),
        )

    def run(self, batch: Sequence[Sums]) -> pa.RecordBatch:
        """The columns of n images."""
        counts = np.stack([sums.counts for sums in batch])
        thumbnails = np.stack([sums.thumbnail for sums in batch])
        rgb = thumbnails.astype(np.float32) / np.float32(255)
        luminance = (rgb @ _LUMA).astype(np.float64)
        columns: dict[str, npt.NDArray[np.float64] | npt.NDArray[np.uint64]] = {
            **exposure(counts[:, 0]),
            **color(rgb),
            **focus(np.stack([sums.focus for sums in batch])),
            "noise": np.array([sums.noise for sums in batch]) / 255,
            "blockiness": np.array([sums.blockiness for sums in batch]),
            "banding": banding(counts[:, 1]),
            **light(luminance),
            **perceptual_hashes(luminance),
            "pixel_hash": np.array([sums.pixel_hash for sums in batch], dtype=np.uint64),
        }
        columns["layout"] = columns["layout"].ravel()
        return pa.RecordBatch.from_arrays(
            [_column(columns[field.name], field.type) for field in self.columns], schema=self.columns
        )


def _column(values: npt.NDArray[np.float64] | npt.NDArray[np.uint64], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32)), kind.list_size)
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
