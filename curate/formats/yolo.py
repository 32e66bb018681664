"""YOLO datasets: boxes, polygons, oriented boxes and keypoints in one text file for each image.

The specification is Ultralytics' dataset documentation; the layouts are in `curate.formats.yolo_layout`, the lines in
`curate.formats.yolo_labels`, writing in `curate.formats.yolo_write`.

- A missing or empty label file is a background image: kept, with no annotations.
- Coordinates are parts of the image's size after EXIF orientation, as Ultralytics takes them.
- Nine columns may be an oriented box or a four-point polygon. The whole set decides: a line with another number of points
  makes all of them polygons; 'obb' in data.yaml's task, a file or folder name makes them oriented boxes; without either,
  rectangles are oriented boxes (reported), and anything else is an error that asks.
- YOLO has no ids: an annotation is known by its image and line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.dataset.ids import annotation_ids, hash_texts
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.columns import (
    annotations_table,
    fixed_lists,
    images_table,
    number_lists,
    polygon_lists,
)
from curate.formats.files import Ints, probe, read_head
from curate.formats.losses import LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.yolo_labels import ClassNumbers, Lines, read_lines
from curate.formats.yolo_layout import Config, Layout, find_layout
from curate.formats.yolo_write import write
from curate.geometry import boxes_around

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_LABEL_LINE: Final = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+([eE][-+]?\d+)?){4,}\s*$", re.MULTILINE)
_PREDICTIONS: Final = "predictions/"


def detect(source: Path) -> Detection | None:
    """A data.yaml or obj.data with names is certain; else label files whose lines look right, next to images."""
    try:
        return _detect(source)
    except (OSError, CurateError):
        return None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a dataset's folder, or its data.yaml or obj.data.

    Raises:
        FormatError: There are no images, a configuration file is broken, or nine columns may mean two things.
    """
    layout = find_layout(source, options, losses)
    if not layout.locations:
        raise FormatError(
            "there are no images", where=source, remedy="give the folder that has both images and labels, or say --images"
        )
    headers = probe(layout.paths, losses)
    sizes = np.stack([headers.width, headers.height], axis=1)
    numbers = ClassNumbers(dict(layout.config.names))
    lines = read_lines(layout.label_paths, layout.labels, sizes, numbers, losses)
    lines = _with_known_size(lines, layout, sizes, losses)
    kinds = _kinds(lines, layout, sizes, options, losses)
    lines, kinds = _select(lines, kinds.known), kinds.select(kinds.known)
    classes = _classes(numbers.names, lines.classes, layout.config, losses)
    _report_orphans(layout.orphans, losses)
    images = images_table(
        layout.locations,
        layout.paths,
        headers.width,
        headers.height,
        {"split": layout.splits, "source": layout.labels},
    )
    annotations = _annotations(lines, kinds, classes, layout, sizes, options.layer)
    return Records(images, [annotations], classes, {"yolo": {"task": kinds.task, "reason": kinds.reason}})


class _Yolo:
    name = "yolo"
    detect = staticmethod(detect)
    read = staticmethod(read)
    write = staticmethod(write)


FORMAT: Format = _Yolo()


# --------------------------------------------------------------------------------------------------- what the lines are


@dataclass(frozen=True)
class _Kinds:
    """What each of n lines is; exactly one of the first four holds for those that are `known`."""

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
        return self.box | self.polygon | self.oriented | self.pose

    def select(self, rows: Flags) -> _Kinds:
        return replace(
            self,
            box=self.box[rows],
            polygon=self.polygon[rows],
            oriented=self.oriented[rows],
            pose=self.pose[rows],
            scored=self.scored[rows],
        )


def _kinds(
    lines: Lines, layout: Layout, sizes: npt.NDArray[np.int64], options: ReadOptions, losses: LossReport
) -> _Kinds:
    """Tell the lines apart by their number of columns."""
    predictions = options.layer.startswith(_PREDICTIONS)
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
    kinds = _Kinds(
        box=box,
        polygon=nothing if task == "obb" else outline,
        oriented=quads if task == "obb" else nothing,
        pose=posed,
        scored=scored if predictions else nothing,
        keypoints=config.keypoints,
        task="pose" if posed.any() else task,
        reason=reason,
    )
    for row in np.flatnonzero(~kinds.known):
        columns = length[row] + 1
        losses.dropped("annotations", f"{columns} columns fit no kind of label", _place(lines, row, layout))
    return kinds


def _outline_task(
    lines: Lines,
    quads: Flags,
    polygons: Flags,
    layout: Layout,
    sizes: npt.NDArray[np.int64],
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
    _, is_rectangle = corners_to_rotated_boxes(_corners(lines, rows, sizes))
    first = _place(lines, rows[0], layout)
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
        losses.dropped("scores", reason, _place(lines, rows[0], layout), len(rows))


def _with_known_size(lines: Lines, layout: Layout, sizes: npt.NDArray[np.int64], losses: LossReport) -> Lines:
    known = sizes[lines.image].min(axis=1) > 0
    for row in np.flatnonzero(~known):
        losses.dropped("annotations", "the image's size is not known", _place(lines, row, layout))
    return _select(lines, known)


def _select(lines: Lines, rows: Flags) -> Lines:
    return Lines(
        lines.image[rows], lines.number[rows], lines.classes[rows], lines.start[rows], lines.length[rows], lines.values
    )


def _place(lines: Lines, row: int, layout: Layout) -> str:
    return f"{layout.labels[lines.image[row]]}:{lines.number[row]}"


def _report_orphans(orphans: Sequence[Path], losses: LossReport) -> None:
    for path in orphans:
        count = sum(bool(line.strip()) for line in read_head(path, 1 << 20).splitlines())
        losses.dropped("annotations", "the label file has no image", path.name, max(count, 1))


# --------------------------------------------------------------------------------------------------- classes and columns


def _classes(names: dict[int, str], used: Ints, config: Config, losses: LossReport) -> list[ClassInfo]:
    """Every class that is named or used, by number; names made unique."""
    numbers = sorted({*names, *np.unique(used).tolist()})
    if not names and numbers:
        reason = "no class names were found; each is named by its number"
        losses.converted("classes", reason, f"{config.folder.name}/", len(numbers))
    taken: set[str] = set()
    classes = []
    for number in numbers:
        name = names.get(number)
        if name is None:
            name = str(number)
            if names:
                losses.converted("classes", "a number that no name belongs to; named by its number", number)
        if name in taken:
            losses.converted("classes", "the name is another class's too; the number is added", f"{number}: {name}")
            name = f"{name}_{number}"
        taken.add(name)
        classes.append(ClassInfo(name, source_id=number))
    return classes


def _annotations(
    lines: Lines, kinds: _Kinds, classes: Sequence[ClassInfo], layout: Layout, sizes: npt.NDArray[np.int64], layer: str
) -> pa.Table:
    count = len(lines.image)
    # Coordinates without the confidence.
    lines = replace(lines, length=lines.length - kinds.scored)
    bbox = np.zeros((count, 4))
    centred = np.flatnonzero(kinds.box | kinds.pose)
    bbox[centred] = _centred_boxes(lines, centred, sizes)
    outlined = np.flatnonzero(kinds.polygon)
    bbox[outlined], outlines = _outlines(lines, outlined, sizes)
    rotated = np.zeros((count, 5))
    turned = np.flatnonzero(kinds.oriented)
    if len(turned):
        corners = _corners(lines, turned, sizes)
        rotated[turned], _ = corners_to_rotated_boxes(corners)
        bbox[turned] = boxes_around(corners.reshape(-1, 2), np.arange(len(turned)) * 4)
    posed = np.flatnonzero(kinds.pose)
    points = _keypoints(lines, posed, sizes, kinds.keypoints)
    hashes = hash_texts(layout.locations)
    score_at = np.where(kinds.scored, lines.start + lines.length, 0)
    scores = lines.values[score_at] if len(lines.values) else np.zeros(count)
    positions = np.searchsorted([info.source_id or 0 for info in classes], lines.classes)
    image = pa.array(lines.image)
    ids = images_ids(layout)
    return annotations_table(
        count,
        {
            "annotation_id": annotation_ids(hashes[lines.image], layer, "", keys=lines.number.astype(np.uint64)),
            "image_id": ids.take(image),
            "layer": layer,
            "type": np.select(
                [kinds.pose, kinds.polygon, kinds.oriented], ["keypoints", "polygon", "rotated_box"], "box"
            ),
            "label": pa.array([info.name for info in classes], pa.string()).take(pa.array(positions)),
            "bbox": fixed_lists(bbox),
            "rotated_box": fixed_lists(rotated, ~kinds.oriented),
            "polygons": polygon_lists(outlines, np.where(kinds.polygon, lines.length, 0)),
            "keypoints": number_lists(points.ravel(), np.where(kinds.pose, points[:1].size, 0)),
            "score": pa.array(scores, mask=~kinds.scored),
            "source": pa.array(layout.labels, pa.string()).take(image),
        },
    )
