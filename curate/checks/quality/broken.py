"""Files that are not what they should be: unreadable, ended early, turned, of another size than their annotations say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.checks.measures.table import Measures
from curate.errors import ImageError
from curate.imaging import NOT_THERE, ImageHeader, read_header
from curate.models.passes import LeftOut

# CIELAB chroma of an image without color, its mean and that of its most colored part; and how many of those make grey usual.
_GREY: Final = 0.5
_GREYEST: Final = 2.0
_COLOR: Final = 4.0
_USUAL: Final = 0.1
# Layout cells of 4 x 4: what a decoder leaves where no data came.
_MIDDLE_GREY: Final = (0.49, 0.515)
_SAME: Final = 0.002


@dataclass(frozen=True)
class Headers:
    """What n files say of themselves.

    Attributes:
        disagreeing: Row, and the file's own size, of those whose recorded size is another one.
        turned: The same of those that are stored turned, with an EXIF orientation that says so.
    """

    disagreeing: list[tuple[int, ImageHeader]]
    turned: list[tuple[int, ImageHeader]]


def read_headers(paths: Sequence[str | None], widths: Sequence[int | None], heights: Sequence[int | None]) -> Headers:
    """Compare files with the sizes recorded for them; some 50 microseconds a file. Unreadable ones are passed over."""
    disagreeing, turned = [], []
    for row, (path, width, height) in enumerate(zip(paths, widths, heights, strict=True)):
        if path is None:
            continue
        with suppress(ImageError):
            header = read_header(path)
            if header.orientation != 1:
                turned.append((row, header))
            if None not in (width, height) and (width, height) != (header.width, header.height):
                disagreeing.append((row, header))
    return Headers(disagreeing, turned)


def is_missing(row: LeftOut) -> bool:
    """Whether a row was left out because there is no such file, which says nothing of the picture."""
    return not row.path or row.reason == NOT_THERE


def unfinished(measures: Measures) -> Iterator[tuple[int, float, str]]:
    """Images whose lowest quarter is one middle grey under something else: a JPEG that ended early, saved again.

    Yields:
        Row, probability, reason.
    """
    layout = measures.columns["layout"].reshape(-1, 4, 4)
    below, above = layout[:, 3], layout[:, 0]
    one_grey = (np.ptp(below, axis=1) < _SAME) & (below.min(axis=1) > _MIDDLE_GREY[0])
    one_grey &= (below.max(axis=1) < _MIDDLE_GREY[1]) & (np.ptp(above, axis=1) > 10 * _SAME)
    for row in np.flatnonzero(one_grey):
        yield int(row), 0.95, "its lower part is one grey: the file it was made from ended early"


def grey_among_color(measures: Measures) -> Iterator[tuple[int, float, str]]:
    """Images without color in a set that has color; the fewer, the more probably a mistake.

    Yields:
        Row, probability, reason.
    """
    chroma = measures.columns["chroma"]
    grey = (chroma < _GREY) & (measures.columns["chroma_max"] < _GREYEST)
    if grey.any() and np.median(chroma) > _COLOR and grey.mean() < _USUAL:
        for row in np.flatnonzero(grey):
            yield int(row), 0.85 * (1 - float(grey.mean()) / _USUAL), "it has no color, among images that have"
