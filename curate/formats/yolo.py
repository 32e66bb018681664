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

from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.columns import (
    annotations_table,
    fixed_lists,
    images_table,
    number_lists,
    polygon_lists,
    ragged_indices,
)
from curate.formats.files import Ints, is_image, peek_files, probe, read_head, stem
from curate.formats.losses import LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.yolo_labels import ClassNumbers, Lines, read_lines
from curate.formats.yolo_layout import CLASS_FILES, LABEL_FOLDERS, Config, Layout, find_layout, find_yaml
from curate.formats.yolo_write import write
from curate.geometry import boxes_around
from curate.names import PREDICTIONS

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_LABEL_LINE: Final = re.compile(r"\s*\d+(\.0*)?(\s+-?[\d.]+([eE][-+]?\d+)?){4,}\s*$", re.MULTILINE)


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
            "there are no images",
            where=source,
            remedy="give the folder that has both images and labels, or say --images",
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
    for row in np.flatnonzero(~kinds.known).tolist():
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
    for row in np.flatnonzero(~known).tolist():
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
    """The lines as annotations, in pixels."""
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
    return annotations_table(
        count,
        {
            "annotation_id": annotation_ids(hashes[lines.image], layer, "", keys=lines.number.astype(np.uint64)),
            "image_id": image_ids(layout.locations).take(image),
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


def _centred_boxes(lines: Lines, rows: Ints, sizes: npt.NDArray[np.int64]) -> Floats:
    """[centre x, centre y, width, height] as parts of the image -> boxes in pixels, shape (rows, 4)."""
    values: Floats = lines.values[lines.start[rows][:, None] + np.arange(4)] * np.tile(sizes[lines.image[rows]], 2)
    values[:, :2] -= values[:, 2:] / 2
    return values


def _corners(lines: Lines, rows: Ints, sizes: npt.NDArray[np.int64]) -> Floats:
    """Four corners in pixels, shape (rows, 8)."""
    corners: Floats = lines.values[lines.start[rows][:, None] + np.arange(8)] * np.tile(sizes[lines.image[rows]], 4)
    return corners


def _outlines(lines: Lines, rows: Ints, sizes: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Boxes round polygons, shape (rows, 4), and the polygons' coordinates in pixels, one after another."""
    length = lines.length[rows]
    points = lines.values[ragged_indices(lines.start[rows], length)].reshape(-1, 2)
    points = points * sizes[np.repeat(lines.image[rows], length // 2)]
    starts = (np.cumsum(length) - length) // 2
    return boxes_around(points, starts), points.ravel()


def _keypoints(
    lines: Lines, rows: Ints, sizes: npt.NDArray[np.int64], shape: tuple[int, int] | None
) -> npt.NDArray[np.float64]:
    """[x, y, visibility] of each keypoint, shape (rows, keypoints, 3); without a third number, (0, 0) is not labelled."""
    count, numbers = shape or (0, 3)
    values = lines.values[lines.start[rows][:, None] + 4 + np.arange(count * numbers)].reshape(
        len(rows), count, numbers
    )
    points = np.zeros((len(rows), count, 3))
    points[..., :2] = values[..., :2] * sizes[lines.image[rows]][:, None, :]
    points[..., 2] = values[..., 2] if numbers == 3 else np.where((values != 0).any(axis=2), 2.0, 0.0)
    return points


# --------------------------------------------------------------------------------------------------- recognising it


def _detect(source: Path) -> Detection | None:
    if source.is_file():
        if source.suffix.lower() in {".yaml", ".yml"} and find_yaml(source.parent) is not None:
            return Detection(0.95, f"{source.name} with 'names'")
        return Detection(0.95, "Darknet's obj.data") if source.suffix.lower() == ".data" else None
    files = peek_files(source)
    labels = [name for name in files if name.lower().endswith(".txt") and _has_label_lines(source / name)]
    seen = f"{len(labels)} label files in a look at {len(files)} files"
    yaml_file = find_yaml(source)
    images = [name for name in files if is_image(name)]
    if yaml_file is not None and (labels or images):
        return Detection(0.95, f"{yaml_file.name} with 'names'; {seen}")
    if "obj.data" in files or "obj.names" in files:
        return Detection(0.95, f"Darknet's obj.data or obj.names; {seen}")
    if not labels:
        return None
    named = next((name for name in CLASS_FILES if name in files), None)
    if named is not None:
        return Detection(0.85, f"{named}; {seen}")
    stems = {stem(name) for name in images}
    beside = any(stem(name) in stems for name in labels)
    if beside or any(folder in name.split("/") for name in labels for folder in LABEL_FOLDERS):
        return Detection(0.75, seen)
    return Detection(0.4, seen)


def _has_label_lines(path: Path) -> bool:
    return _LABEL_LINE.match(read_head(path, 512).split("\n", 1)[0]) is not None
