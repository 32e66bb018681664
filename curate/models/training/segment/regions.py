"""What a segmenter is to say of each pixel: the regions of an image drawn into one map of channels.

Regions that overlap are drawn from large to small, so that the small one (a scratch on a part) stays to be seen. Regions of many
objects at once (crowds) are `VOID`: nothing is learnt there and nothing is counted. Pixels that no region covers are the
background, channel 0, where there is one, and void otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.geometry import Integers, polygons_to_rle, rle_runs
from curate.models.predictors.base import VOID, Size
from curate.models.predictors.masks import scale_rle
from curate.models.training.base import Example

ChannelMap = npt.NDArray[np.int16]
"""Number of the channel of each pixel, `VOID` for none; int16 of shape (height, width)."""

_MASK_REMEDY: Final = "import the masks again from files that fit the images, or leave the image out with --where"


def draw(example: Example, *, background: bool) -> ChannelMap:
    """The map of one image at its full size, which must be known.

    Args:
        example: The image and its regions.
        background: Whether channel 0 is what no region covers, so that class k is channel k + 1.

    Raises:
        InputError: A mask is of another shape than the image.
    """
    height, width = _size(example)
    # Run lengths go down the columns, so the map is kept by columns and turned at the end.
    flat = np.full(height * width, 0 if background else VOID, dtype=np.int16)
    labels, crowd = _labels(example) + int(background), _crowd(example)
    runs = [_runs(shape, example) for shape in example.regions or ()]
    areas = [int(each[1::2].sum()) for each in runs]
    for number in sorted(range(len(runs)), key=lambda k: (not crowd[k], -areas[k])):
        channel = VOID if crowd[number] else labels[number]
        ends = np.cumsum(runs[number])
        for start, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=False):
            flat[start:end] = channel
    return flat.reshape(width, height).T


@dataclass(frozen=True)
class Extent:
    """How large a region is: its class, its pixels, and how thick it is, 2 * area / length of its outline (of a long bar its
    width); 0 pixels for one that encloses nothing.
    """

    label: int
    area: int
    thickness: float


def region_extents(example: Example) -> list[Extent]:
    """Of each region that is no crowd.

    Raises:
        InputError: A mask is of another shape than the image.
    """
    height, _ = _size(example)
    shapes, labels, crowd = example.regions or (), _labels(example).tolist(), _crowd(example).tolist()
    return [
        Extent(label, *_extent(_runs(shape, example), height))
        for shape, label, is_crowd in zip(shapes, labels, crowd, strict=True)
        if not is_crowd
    ]


def require_fitting(example: Example) -> None:
    """See that the masks are of an image's shape, without drawing them; where its size is not known yet, they are believed.

    Raises:
        InputError: One is not.
    """
    if example.size is not None:
        for shape in example.regions or ():
            if isinstance(shape, dict):
                _require_fit(shape, example.size, example)


def nearest(values: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    """Values of shape (height, width) at another size: each pixel takes that of the nearest centre; nothing is blended."""
    if values.shape == size:
        return values
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, values.shape, strict=True)
    )
    return np.asarray(values[rows[:, None], columns])


def _extent(runs: Integers, height: int) -> tuple[int, float]:
    """Area and thickness of what run lengths down the columns enclose."""
    area = int(runs[1::2].sum())
    if not area:
        return 0, 0.0
    # Of the columns that it is in; alone these are drawn, an empty one on either side.
    ends = np.cumsum(runs)
    first, last = int(runs[0]) // height, (int(ends[1::2][-1]) - 1) // height
    ends = np.clip(ends - first * height, 0, (last - first + 1) * height)
    drawn = np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=0))
    padded = np.pad(drawn.reshape(-1, height), 1)
    outline = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return area, 2.0 * area / outline


def _runs(shape: Any, example: Example) -> Integers:
    """Run lengths of a region at the image's full size, down the columns, starting with what is not in it."""
    height, width = _size(example)
    if isinstance(shape, dict):
        return rle_runs(_mask(shape, (height, width), example))
    parts = [list(part) for part in shape or () if len(part) >= 6 and np.isfinite(part).all()]
    return rle_runs(polygons_to_rle(parts, height, width))


def _size(example: Example) -> Size:
    if example.size is None:
        raise InputError("the size of the image is not known", where=example.path)
    return example.size


def _labels(example: Example) -> Integers:
    return np.zeros(0, dtype=np.int64) if example.labels is None else example.labels


def _crowd(example: Example) -> npt.NDArray[np.bool_]:
    return np.zeros(len(_labels(example)), dtype=bool) if example.crowd is None else example.crowd


def _mask(shape: dict[str, Any], size: Size, example: Example) -> str:
    """Run lengths of a mask, scaled to the image where it was drawn on a smaller or larger copy of it."""
    _require_fit(shape, size, example)
    counts = shape["counts"].decode() if isinstance(shape["counts"], bytes) else str(shape["counts"])
    return scale_rle(counts, [int(side) for side in shape["size"]], list(size))


def _require_fit(shape: dict[str, Any], size: Size, example: Example) -> None:
    height, width = (int(side) for side in shape["size"])
    if (height, width) == tuple(size):
        return
    coarse, fine = sorted([(height, width), size])
    # The sides of a smaller copy are rounded, by up to half a pixel each.
    off = abs(coarse[0] / fine[0] - coarse[1] / fine[1])
    if min(height, width) < 1 or off > 0.5 / fine[0] + 0.5 / fine[1] + 1e-9:
        raise InputError(
            f"a mask is {width} x {height} pixels, the image {size[1]} x {size[0]}",
            where=example.path,
            remedy=_MASK_REMEDY,
        )
