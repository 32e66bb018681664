"""What each line of a YOLO dataset is, told by its number of columns and by what the rest of the dataset says."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        options: Predictions have a confidence at the end.
        losses: Lines that are nothing, and confidences in ground truth.

    Raises:
        FormatError: Nine columns may mean two things.
    """
    predictions = options.layer.startswith(PREDICTIONS)
    length, config = lines.length, layout.config
    posed = np.zeros(len(length), dtype=np.bool_)
    scored = posed.copy()
    if config.keypoints is not None:
        with_keypoints = 4 + config.keypoints[0] * config.keypoints[1]
        posed = (length == with_keypoints) | (predictions & (length == with_keypoints + 1))
        scored = length == with_keypoints + 1
    box = ~posed & ((length == 4) | (length == 5))
    scored |= box & (length == 5)
    outline = ~posed & (length >= 6) & ((length % 2 == 0) | predictions)
    scored |= outline & (length % 2 == 1)
    quads = outline & (length - scored == 8)
    task, reason = _outline_task(lines, quads, outline & ~quads, layout, sizes, losses)
    if not predictions:
        _report_scores(lines, scored & box, layout, losses)
    nothing = np.zeros_like(posed)
    kinds = Kinds(
        box=box,
        polygon=nothing if task == "obb" else outline,
        oriented=quads if task == "obb" else nothing,
        pose=posed,
        scored=scored if predictions else nothing,
        keypoints=config.keypoints,
        task="pose" if posed.any() else task,
        reason=reason,
    )
    for row in np.flatnonzero(~kinds.known).tolist():
        columns = length[row] + 1
        losses.dropped("annotations", f"{columns} columns fit no kind of label", place_of(lines, row, layout))
    return kinds


def place_of(lines: Lines, row: int, layout: Layout) -> str:
    """What to call a line in the report: its file and number."""
    return f"{layout.labels[lines.image[row]]}:{lines.number[row]}"


def _outline_task(
    lines: Lines,
    quads: Flags,
    polygons: Flags,
    layout: Layout,
    sizes: Ints,
    losses: LossReport,
) -> tuple[str, str]:
    """Whether lines of four points are oriented boxes or polygons, and why."""
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
        remedy="write 'task: obb' or 'task: segment' into data.yaml",
    )


def _report_scores(lines: Lines, scored: Flags, layout: Layout, losses: LossReport) -> None:
    rows = np.flatnonzero(scored)
    if len(rows):
        reason = "a sixth column (confidence) has no place in ground truth; import into predictions/NAME to keep it"
        losses.dropped("scores", reason, place_of(lines, rows[0], layout), len(rows))
