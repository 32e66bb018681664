"""What each line of a YOLO dataset is, told by its number of columns and by what the rest of the dataset says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from curate.errors import FormatError
from curate.formats.base import ReadOptions
from curate.formats.columns import Flags, Ints
from curate.formats.losses import LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.yolo.labels import Lines
from curate.formats.yolo.layout import Layout
from curate.formats.yolo.shapes import corners
from curate.names import PREDICTIONS

VARIANTS: Final = ("detect", "segment", "obb", "pose", "classify")
"""Ultralytics' tasks; datasets to classify are folders of images, one for each class."""


@dataclass(frozen=True)
class Kinds:
    """What each of n lines is; exactly one of the first four holds for those that are `known`.

    Attributes:
        box: Shape (n,), as the next four.
        polygon: Three points or more.
        oriented: The four corners of an oriented box.
        pose: A box with keypoints.
        scored: The last number is a confidence.
        keypoints: Number of keypoints and of numbers for each, or None.
        task: Ultralytics' name for the whole.
        reason: Why lines of four points are what they are.
    """

    box: Flags
    polygon: Flags
    oriented: Flags
    pose: Flags
    scored: Flags
    keypoints: tuple[int, int] | None
    task: str
    reason: str

    @property
    def known(self) -> Flags:
        """Lines that are something."""
        return self.box | self.polygon | self.oriented | self.pose

    def select(self, rows: Flags) -> Kinds:
        """Some of the lines."""
        return replace(
            self,
            box=self.box[rows],
            polygon=self.polygon[rows],
            oriented=self.oriented[rows],
            pose=self.pose[rows],
            scored=self.scored[rows],
        )


def tell_kinds(lines: Lines, layout: Layout, sizes: Ints, options: ReadOptions, losses: LossReport) -> Kinds:
    """Tell the lines apart by their number of columns.

    Args:
        lines: n lines.
        layout: The files they are from.
        sizes: Width and height of each image, shape (images, 2).
        options: Predictions have a confidence at the end; the variant says what the lines are, whatever the files say.
        losses: Lines that are nothing, and confidences in ground truth.

    Raises:
        FormatError: Nine columns may mean two things.
    """
    predictions = options.layer.startswith(PREDICTIONS)
    length = lines.length
    shape = None if options.variant in {"detect", "segment", "obb"} else layout.config.keypoints
    if shape is None and options.variant == "pose":
        shape = _keypoint_shape(lines, layout, predictions)
    posed = np.zeros(len(length), dtype=np.bool_)
    scored = posed.copy()
    if shape is not None:
        with_keypoints = 4 + shape[0] * shape[1]
        posed = (length == with_keypoints) | (predictions & (length == with_keypoints + 1))
        scored = length == with_keypoints + 1
    box = ~posed & ((length == 4) | (length == 5))
    scored |= box & (length == 5)
    outline = ~posed & (length >= 6) & ((length % 2 == 0) | predictions)
    outline &= options.variant not in {"detect", "pose"}
    scored |= outline & (length % 2 == 1)
    quads = outline & (length - scored == 8)
    task, reason = _outline_task(lines, quads, outline & ~quads, layout, sizes, options, losses)
    if not predictions:
        _report_scores(lines, scored & box, layout, losses)
    nothing = np.zeros_like(posed)
    oriented = quads if task == "obb" else nothing
    kinds = Kinds(
        box=box,
        polygon=outline & ~oriented,
        oriented=oriented,
        pose=posed,
        scored=scored if predictions else nothing,
        keypoints=shape,
        task="pose" if posed.any() else task,
        reason=reason,
    )
    for row in np.flatnonzero(~kinds.known).tolist():
        what = f"YOLO {options.variant}" if options.variant else "any kind of label"
        columns = length[row] + 1
        losses.dropped("annotations", f"{columns} columns do not fit {what}", place_of(lines, row, layout))
    return kinds


def place_of(lines: Lines, row: int, layout: Layout) -> str:
    """What to call a line in the report: its file and number."""
    return f"{layout.labels[lines.image[row]]}:{lines.number[row]}"


def _keypoint_shape(lines: Lines, layout: Layout, predictions: bool) -> tuple[int, int] | None:
    """Number of keypoints and of numbers for each, where nothing but the lines tells; None if there are but boxes.

    Raises:
        FormatError: The lines differ in length, or it does not suit keypoints.
    """
    lengths = np.unique(lines.length[lines.length > 5])
    if len(lengths) == 0:
        return None
    spare = lengths - 4 - predictions
    if len(lengths) != 1 or (spare[0] % 2 and spare[0] % 3):
        raise FormatError(
            "the lines do not tell how many keypoints there are",
            where=layout.config.folder,
            remedy="write 'kpt_shape: [number of keypoints, 2 or 3]' into data.yaml",
        )
    count = int(spare[0])
    if count % 3 == 0:
        rows = np.flatnonzero(lines.length == lengths[0])
        thirds = lines.values[lines.start[rows][:, None] + np.arange(6, 4 + count, 3)]
        if count % 2 or np.isin(thirds, [0, 1, 2]).all():
            return count // 3, 3
    return count // 2, 2


def _outline_task(
    lines: Lines,
    quads: Flags,
    polygons: Flags,
    layout: Layout,
    sizes: Ints,
    options: ReadOptions,
    losses: LossReport,
) -> tuple[str, str]:
    """Whether lines of four points are oriented boxes or polygons, and why."""
    if options.variant is not None:
        return options.variant, "asked for"
    task = layout.config.task
    in_labeltxt = any("labelTxt" in label for label in layout.labels)
    if not quads.any():
        return ("segment" if polygons.any() else "detect"), "number of columns"
    if polygons.any():
        return "segment", "other lines have more or fewer than four points"
    if task == "obb" or in_labeltxt:
        return "obb", "the dataset's files or folders say 'obb' or 'labelTxt'"
    if task == "segment":
        return "segment", "data.yaml says so"
    rows = np.flatnonzero(quads)
    _, is_rectangle = corners_to_rotated_boxes(corners(lines, rows, sizes))
    first = place_of(lines, rows[0], layout)
    if is_rectangle.all():
        reason = "nine columns read as oriented boxes, since all are rectangles"
        losses.converted("annotations", reason, first, len(rows))
        return "obb", reason
    raise FormatError(
        "nine columns may be an oriented box or a polygon of four points, and nothing here says which",
        where=first,
        remedy="say --variant obb or --variant segment, or write 'task: obb' or 'task: segment' into data.yaml",
    )


def _report_scores(lines: Lines, scored: Flags, layout: Layout, losses: LossReport) -> None:
    rows = np.flatnonzero(scored)
    if len(rows):
        reason = "a sixth column (confidence) has no place in ground truth; import into predictions/NAME to keep it"
        losses.dropped("scores", reason, place_of(lines, rows[0], layout), len(rows))
