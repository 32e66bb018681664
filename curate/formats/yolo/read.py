"""Reading YOLO: the images, and the lines of their label files as annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.errors import FormatError, UsageError
from curate.formats import imagefolder
from curate.formats.base import ClassInfo, ReadOptions, Records
from curate.formats.columns import Ints, annotations_on, fixed_lists, images_table, number_lists, polygon_lists
from curate.formats.files import read_head
from curate.formats.losses import PLACES_KEPT, Loss, LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.sizes import probe
from curate.formats.yolo.config import Config
from curate.formats.yolo.kinds import VARIANTS, Kinds, place_of, tell_kinds
from curate.formats.yolo.labels import DOTA_LINE, LabelFiles, Lines, read_lines
from curate.formats.yolo.layout import NO_LABEL_FILE, Layout, find_layout
from curate.formats.yolo.shapes import centred_boxes, corners, keypoints, outlines
from curate.names import PREDICTIONS


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a dataset's folder, or its data.yaml or obj.data.

    An image without a label file is a background image, as is one with an empty file; its metadata say which it was.

    Raises:
        FormatError: There are no images, a configuration file is broken, nine columns may mean two things, or the label
            files are DOTA's.
        UsageError: YOLO has no such variant.
    """
    if options.variant not in {None, *VARIANTS}:
        raise UsageError(f"YOLO has no variant '{options.variant}'", remedy=f"one of: {', '.join(VARIANTS)}")
    if options.variant == "classify":
        return imagefolder.read(source, options, losses)
    layout = find_layout(source, options, losses)
    if not layout.locations:
        raise FormatError(
            "there are no images",
            where=source,
            remedy="give the folder that has both images and labels, or say --images",
        )
    headers = probe(layout.paths, losses)
    sizes = np.stack([headers.width, headers.height], axis=1)
    lines = read_lines(LabelFiles(layout.label_paths, layout.labels), losses)
    if not len(lines.image) and any(loss.reason == DOTA_LINE for loss in losses.losses):
        raise FormatError("the label files are DOTA's, not YOLO's", where=source, remedy="import with --format dota")
    lines = _with_known_size(lines, layout, sizes, losses)
    kinds = tell_kinds(lines, layout, sizes, options, losses)
    lines, kinds = lines.select(kinds.known), kinds.select(kinds.known)
    classes = _classes(layout.config.names, lines.classes, layout.config, losses)
    _report_orphans(layout.orphans, losses)
    images = images_table(
        layout.locations,
        layout.paths,
        headers.width,
        headers.height,
        {"split": layout.splits, "source": layout.labels, "metadata": _metadata(layout, options)},
    )
    annotations = _annotations(lines, kinds, classes, layout, sizes, options.layer, losses)
    return Records(images, [annotations], classes, {"yolo": {"task": kinds.task, "reason": kinds.reason}})


def _metadata(layout: Layout, options: ReadOptions) -> list[str | None] | None:
    """What tells an image without a label file, which perhaps nobody has labelled, from one whose file is empty.

    Files of predictions say nothing of it.
    """
    if options.layer.startswith(PREDICTIONS):
        return None
    return [NO_LABEL_FILE if path is None else None for path in layout.label_paths]


def _with_known_size(lines: Lines, layout: Layout, sizes: Ints, losses: LossReport) -> Lines:
    known = sizes[lines.image].min(axis=1) > 0
    for row in np.flatnonzero(~known).tolist():
        losses.dropped("annotations", "the image's size is not known", place_of(lines, row, layout))
    return lines.select(known)


def _report_orphans(orphans: Sequence[Path], losses: LossReport) -> None:
    for path in orphans:
        count = sum(bool(line.strip()) for line in read_head(path, 1 << 20).splitlines())
        losses.dropped("annotations", "the label file has no image", path.name, max(count, 1))


def _classes(names: Mapping[int, str], used: Ints, config: Config, losses: LossReport) -> list[ClassInfo]:
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
    lines: Lines,
    kinds: Kinds,
    classes: Sequence[ClassInfo],
    layout: Layout,
    sizes: Ints,
    layer: str,
    losses: LossReport,
) -> pa.Table:
    """The lines as annotations, in pixels."""
    count = len(lines.image)
    # Coordinates without the confidence.
    lines = replace(lines, length=lines.length - kinds.scored)
    bbox = np.zeros((count, 4))
    centred = np.flatnonzero(kinds.box | kinds.pose)
    bbox[centred] = centred_boxes(lines, centred, sizes)
    rotated = np.zeros((count, 5))
    skewed = np.zeros(count, dtype=np.bool_)
    turned = np.flatnonzero(kinds.oriented)
    if len(turned):
        rotated[turned], is_rectangle = corners_to_rotated_boxes(corners(lines, turned, sizes))
        skewed[turned] = ~is_rectangle
        bbox[turned], _ = outlines(lines, turned, sizes)
        _report_skewed(lines, np.flatnonzero(skewed), layout, losses)
    is_outlined = kinds.polygon | skewed
    outlined = np.flatnonzero(is_outlined)
    bbox[outlined], polygons = outlines(lines, outlined, sizes)
    points = keypoints(lines, np.flatnonzero(kinds.pose), sizes, kinds.keypoints)
    score_at = np.where(kinds.scored, lines.start + lines.length, 0)
    scores = lines.values[score_at] if len(lines.values) else np.zeros(count)
    positions = np.searchsorted([info.source_id or 0 for info in classes], lines.classes)
    columns = {
        "type": np.select([kinds.pose, is_outlined, kinds.oriented], ["keypoints", "polygon", "rotated_box"], "box"),
        "label": pa.array([info.name for info in classes], pa.string()).take(pa.array(positions)),
        "bbox": fixed_lists(bbox),
        "rotated_box": fixed_lists(rotated, ~kinds.oriented),
        "polygons": polygon_lists(polygons, np.where(is_outlined, lines.length, 0)),
        "keypoints": number_lists(points.ravel(), np.where(kinds.pose, points[:1].size, 0)),
        "score": pa.array(scores, mask=~kinds.scored),
        "source": pa.array(layout.labels, pa.string()).take(pa.array(lines.image)),
    }
    return annotations_on(layout.locations, lines.image, layer, columns, keys=lines.number.astype(np.uint64))


def _report_skewed(lines: Lines, rows: Ints, layout: Layout, losses: LossReport) -> None:
    if len(rows):
        reason = "corners that are no rectangle: a polygon, with a rotated box round it"
        places = [place_of(lines, row, layout) for row in rows[:PLACES_KEPT].tolist()]
        losses.include([Loss("converted", "annotations", reason, len(rows), places)])
