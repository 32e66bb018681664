"""How large images are, and which way up: their files' headers against what annotation files state of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from curate.errors import ImageError
from curate.formats.columns import Flags, Floats, Ints
from curate.formats.losses import LossReport
from curate.geometry import orient_boxes
from curate.imaging import ImageHeader, read_header

_THREADS: Final = 8
_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class Headers:
    """What n image files say of their size.

    Attributes:
        width: int64 array of shape (n,), pixels after EXIF orientation; 0 where it is not known.
        height: The same.
        orientation: EXIF orientation, 1 to 8; 1 where it is not known.
    """

    width: Ints
    height: Ints
    orientation: Ints

    def stored(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Orientation of some of the images, and their width and height as stored, before it is applied."""
        orientation, width, height = self.orientation[rows], self.width[rows], self.height[rows]
        turns = orientation >= 5
        return orientation, np.where(turns, height, width), np.where(turns, width, height)


def probe(paths: Sequence[Path | None], losses: LossReport) -> Headers:
    """Read the sizes of images, many at a time.

    Args:
        paths: n files; None where there is none.
        losses: An image that cannot be read is reported, and its size left unknown.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        # The pool keeps a kilobyte for each that waits.
        batches = (paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE))
        results = [result for batch in batches for result in pool.map(_try_header, batch)]
    values = np.ones((len(paths), 3), dtype=np.int64)
    values[:, :2] = 0
    for row, (path, result) in enumerate(zip(paths, results, strict=True)):
        if isinstance(result, ImageError):
            losses.converted("images", "cannot be read; kept without a size", f"{path}: {result.what}")
        elif result is not None:
            values[row] = (result.width, result.height, result.orientation)
    return Headers(values[:, 0], values[:, 1], values[:, 2])


def reconcile_sizes(
    given_width: Ints, given_height: Ints, headers: Headers, places: Sequence[str], losses: LossReport
) -> tuple[Ints, Ints, Flags]:
    """Compare the sizes that an annotation file states with those of the images themselves, which win.

    Args:
        given_width: Shape (n,); 0 where the file does not say.
        given_height: Shape (n,).
        headers: Of the same n images.
        places: What to call each in the report.
        losses: Where a size that disagrees is reported.

    Returns:
        Width and height after EXIF orientation (0 where nobody knows), and whether the file's coordinates refer to the
        image as stored, before orientation; each of shape (n,).
    """
    known = headers.width > 0
    said = (given_width > 0) & (given_height > 0)
    agrees = (given_width == headers.width) & (given_height == headers.height)
    swapped = (given_width == headers.height) & (given_height == headers.width)
    raw = known & said & ~agrees & swapped & (headers.orientation >= 5)
    for row in np.flatnonzero(known & said & ~agrees & ~raw).tolist():
        losses.converted(
            "images",
            "the size stated is not the image's; the image's is used, coordinates are kept",
            f"{places[row]}: {given_width[row]} x {given_height[row]} stated, "
            f"{headers.width[row]} x {headers.height[row]} found",
        )
    width = np.where(known, headers.width, np.where(said, given_width, 0))
    height = np.where(known, headers.height, np.where(said, given_height, 0))
    return width, height, raw


def turn_boxes(boxes: Floats, image: Ints, headers: Headers, raw: Flags) -> Floats:
    """Boxes after EXIF orientation.

    Args:
        boxes: [x, y, width, height], shape (n, 4); NaN where there is none.
        image: Which image each is on, shape (n,).
        headers: Of the images.
        raw: Of which images the coordinates refer to the image as stored (`reconcile_sizes`).
    """
    rows = np.flatnonzero(raw[image])
    turned = boxes.copy()
    turned[rows] = orient_boxes(boxes[rows], *headers.stored(image[rows]))
    return turned


def _try_header(path: Path | None) -> ImageHeader | ImageError | None:
    if path is None:
        return None
    try:
        return read_header(path)
    except ImageError as error:
        return error
