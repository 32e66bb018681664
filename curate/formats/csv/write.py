"""Writing CSV: labels.csv with one row for each annotation, and the images in images/; see `curate.formats.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from curate.errors import UsageError
from curate.formats.base import Export, WriteOptions
from curate.formats.columns import box_values, image_rows, report_rows, report_unsaid, report_unsaid_classes
from curate.formats.files import place_images
from curate.formats.locations import report_splits, safe_location, split_name, unique_names
from curate.formats.losses import LossReport

VARIANTS: Final = ("classification", "detection")

_DECIMALS: Final = 6


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset: corners to a millionth of a pixel; an image without annotations has a row of its own.

    Args:
        export: What to write.
        target: An empty folder.
        options: `variant` is 'classification' or 'detection'; None takes detection where there is any box.
        losses: Shapes other than boxes, ids, attributes.

    Raises:
        UsageError: There is no such variant.
    """
    if options.variant not in {None, *VARIANTS}:
        raise UsageError(f"CSV has no variant '{options.variant}'", remedy=f"one of: {', '.join(VARIANTS)}")
    images, annotations = export.images, export.annotations
    boxes = annotations["bbox"].null_count < annotations.num_rows
    variant = options.variant or ("detection" if boxes else "classification")
    if variant == "classification":
        reason = "boxes have no place in a classification CSV"
        annotations = _without(annotations["bbox"].is_valid(), reason, images, annotations, losses)
    is_empty = pc.and_(annotations["bbox"].is_null(), annotations["label"].is_null())
    annotations = _without(is_empty, "neither a class nor a box: a row would hold nothing", images, annotations, losses)
    names = unique_names([safe_location(location) for location in images["location"].to_pylist()], losses)
    table = _table(images, annotations, names, variant)
    arrow_csv.write_csv(table, target / "labels.csv", arrow_csv.WriteOptions(quoting_style="needed"))
    pairs = zip(images["path"].to_pylist(), (target / "images" / name for name in names), strict=True)
    place_images(pairs, options.images, losses)
    report_unsaid(images, annotations, "CSV", losses, holds=("score",))
    report_splits(pc.unique(images["split"]).to_pylist(), lambda split: split_name(split) or split.strip(), losses)
    used = set(pc.unique(annotations["label"]).to_pylist())
    for info in export.classes:
        if info.name not in used:
            losses.dropped("classes", "no annotation has it, so no row names it", info.name)
    report_unsaid_classes(export.classes, "CSV", losses, holds=())
    losses.carried("images", images.num_rows)
    losses.carried("annotations", annotations.num_rows)


def _without(
    rows: pa.ChunkedArray, reason: str, images: pa.Table, annotations: pa.Table, losses: LossReport
) -> pa.Table:
    """The annotations without some, which are reported."""
    unwanted = np.asarray(rows)
    image = image_rows(annotations.filter(rows), images)
    report_rows("dropped", "annotations", reason, images, image, losses)
    return annotations.filter(pa.array(~unwanted))


def _table(images: pa.Table, annotations: pa.Table, names: list[str], variant: str) -> pa.Table:
    """One row for each annotation and each image without one, in the order of the images."""
    image = image_rows(annotations, images)
    empty = np.setdiff1d(np.arange(images.num_rows), image)
    row = np.r_[np.arange(annotations.num_rows), np.full(len(empty), -1)]
    image = np.r_[image, empty]
    order = np.argsort(image, kind="stable")
    image, row = image[order], pa.array(row[order], mask=row[order] < 0)
    at = pa.array(image)
    columns = {"filename": pa.array(names, pa.string()).take(at)}
    if variant == "detection":
        columns |= {side: images[side].take(at) for side in ("width", "height")}
    columns["class" if variant == "detection" else "label"] = annotations["label"].take(row)
    if variant == "detection":
        corners, present = box_values(annotations["bbox"])
        corners[:, 2:] += corners[:, :2]
        rounded = np.round(corners, _DECIMALS) + 0.0
        for number, name in enumerate(("xmin", "ymin", "xmax", "ymax")):
            columns[name] = pa.array(rounded[:, number], mask=~present).take(row)
    for name, column in (("split", images["split"].take(at)), ("score", annotations["score"].take(row))):
        if column.null_count < len(column):
            columns[name] = column
    return pa.table(columns)
