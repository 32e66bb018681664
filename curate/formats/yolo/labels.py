"""Lines of YOLO label files as arrays, and arrays as lines.

A line is a class number and coordinates as parts of the image's width and height (Ultralytics' dataset documentation):

    class cx cy w h                             a box
    class x y x y x y ...                       a polygon, three points or more
    class x y x y x y x y                       the four corners of an oriented box (OBB): the same as a four-point polygon
    class cx cy w h  x y [v]  x y [v] ...       a box with keypoints (pose)

Predictions have a confidence at the end. DOTA's lines (eight coordinates in pixels, a class name, a difficulty), which
Roboflow's YOLOv5-OBB export puts into 'labelTxt', are another format: `is_dota` tells them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.columns import Flags, Floats, Ints, offsets
from curate.formats.files import decode_text
from curate.formats.losses import LossReport

DOTA_LINE: Final = "pixels and a class name, as DOTA has them: import with --format dota"
"""Why a line is dropped that `is_dota`."""

_FILES_AT_ONCE: Final = 4096
_NUMBER: Final = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_MAX_CLASS: Final = 1_000_000
_DOTA: Final = re.compile(
    r"\s*(?:[-+.\deE]+\s+){8}(?!nan|inf)\S*[^\W\d]\S*(?:\s+\d+)?\s*$|\s*(?:imagesource|gsd)\s*:", re.IGNORECASE
)
_DECIMALS: Final = 12


@dataclass(frozen=True)
class Lines:
    """n lines of label files.

    Attributes:
        image: Which image each belongs to, shape (n,).
        number: Line number in its file, from 1, shape (n,).
        classes: Class number, shape (n,).
        start: Where its coordinates start in `values`, shape (n,).
        length: How many there are, shape (n,).
        values: Coordinates of all lines.
    """

    image: Ints
    number: Ints
    classes: Ints
    start: Ints
    length: Ints
    values: Floats

    def select(self, rows: Flags) -> Lines:
        """Some of the lines."""
        return Lines(
            self.image[rows], self.number[rows], self.classes[rows], self.start[rows], self.length[rows], self.values
        )


@dataclass(frozen=True)
class LabelFiles:
    """The label files of n images.

    Attributes:
        paths: Where each is; None for an image without one.
        places: What to call each in the report.
    """

    paths: Sequence[Path | None]
    places: Sequence[str]


def is_dota(line: str) -> bool:
    """Whether a line is one of DOTA's: eight coordinates and a class that is no number, or a header."""
    return _DOTA.match(line) is not None


def read_lines(files: LabelFiles, losses: LossReport) -> Lines:
    """Read label files.

    Args:
        files: Of every image.
        losses: Malformed lines are dropped.
    """
    pieces = []
    present = [row for row, path in enumerate(files.paths) if path is not None]
    for first in range(0, len(present), _FILES_AT_ONCE):
        pieces.append(_read_files(present[first : first + _FILES_AT_ONCE], files, losses))
    return _concatenate(pieces)


def format_lines(classes: Ints, values: Floats, lengths: Ints) -> pa.Array:
    """The lines of label files: n texts without line ends.

    Args:
        classes: Class numbers, shape (n,).
        values: Coordinates of all lines one after another, parts of the image's size; written with up to 12 decimals,
            which is a millionth of a pixel on any image there is.
        lengths: How many belong to each line, shape (n,).
    """
    # + 0.0 turns -0.0 into 0.0.
    coordinates = pa.array(np.round(values, _DECIMALS) + 0.0).cast(pa.string())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets(lengths), coordinates), " ")
    return pc.binary_join_element_wise(pa.array(classes).cast(pa.string()), joined, " ")


def _read_files(rows: Sequence[int], files: LabelFiles, losses: LossReport) -> Lines:
    texts: list[str] = []
    counts = np.zeros(len(rows), dtype=np.int64)
    for at, row in enumerate(rows):
        found = _split_lines(files.paths[row], files.places[row], losses)
        counts[at] = len(found)
        texts.extend(found)
    image = np.repeat(np.asarray(rows, dtype=np.int64), counts)
    number = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    trimmed = pc.utf8_trim_whitespace(pa.array(texts, pa.string()))
    filled = np.flatnonzero(np.asarray(pc.not_equal(trimmed, "")))
    trimmed, image, number = trimmed.take(pa.array(filled)), image[filled], number[filled]
    split = pc.utf8_split_whitespace(trimmed)
    starts = np.asarray(split.offsets)[:-1].astype(np.int64)
    lengths = np.diff(np.asarray(split.offsets)).astype(np.int64)
    values = _numbers(split.flatten())
    good = _good_lines(values, starts, lengths)
    numbers = np.zeros(len(starts), dtype=np.int64)
    numbers[good] = values[starts[good]].astype(np.int64)
    bad = np.flatnonzero(~good)
    for row, text in zip(bad.tolist(), trimmed.take(pa.array(bad)).to_pylist(), strict=True):
        place = f"{files.places[image[row]]}:{number[row]}"
        losses.dropped("annotations", DOTA_LINE if is_dota(text) else "malformed line", place)
    return Lines(image[good], number[good], numbers[good], starts[good] + 1, lengths[good] - 1, values)


def _split_lines(path: Path | None, place: str, losses: LossReport) -> list[str]:
    assert path is not None
    try:
        return decode_text(path.read_bytes()).split("\n")
    except OSError as error:
        losses.dropped("annotations", f"the label file cannot be read: {error.strerror}", place)
        return []


def _numbers(words: pa.Array) -> Floats:
    """Words as numbers; NaN where they are not."""
    values = np.full(len(words), np.nan)
    numeric = pc.match_substring_regex(words, _NUMBER)
    plain = pc.replace_substring_regex(words.filter(numeric), r"^\+", "")
    values[np.asarray(numeric)] = np.asarray(plain.cast(pa.float64()))
    return values


def _good_lines(values: Floats, starts: Ints, lengths: Ints) -> Flags:
    if len(starts) == 0:
        return np.zeros(0, dtype=np.bool_)
    finite = np.logical_and.reduceat(np.isfinite(values), starts)
    first = np.nan_to_num(values[starts], nan=-1.0, posinf=-1.0)
    good: Flags = finite & (lengths >= 5) & (first >= 0) & (first <= _MAX_CLASS) & (first == np.floor(first))
    return good


def _concatenate(pieces: Sequence[Lines]) -> Lines:
    empty = np.zeros(0, dtype=np.int64)
    shifts = np.cumsum([0, *(len(piece.values) for piece in pieces)])
    return Lines(
        image=np.concatenate([empty, *(piece.image for piece in pieces)]),
        number=np.concatenate([empty, *(piece.number for piece in pieces)]),
        classes=np.concatenate([empty, *(piece.classes for piece in pieces)]),
        start=np.concatenate([empty, *(piece.start + shift for piece, shift in zip(pieces, shifts, strict=False))]),
        length=np.concatenate([empty, *(piece.length for piece in pieces)]),
        values=np.concatenate([np.zeros(0), *(piece.values for piece in pieces)]),
    )
