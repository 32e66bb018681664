"""Reading CSV: the images that the rows name, and a label or box from each row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.columns import Floats, Ints, annotations_on, fixed_lists, images_table, prediction_scores
from curate.formats.csv.header import HEAD_BYTES, REMEDY, read_header
from curate.formats.csv.rows import Rows, encode, join_rows, read_rows, select_rows, split_from_name, unrepeated
from curate.formats.files import ImageLookup, is_image, read_head
from curate.formats.locations import safe_location, split_name
from curate.formats.losses import LossReport
from curate.formats.sizes import probe, reconcile_sizes, turn_boxes

_SUFFIXES: Final = (".csv", ".tsv")
_LARGEST_PART: Final = 1 + 1e-3
_ROBOFLOW: Final = ("_classes.csv", "_annotations.csv")


def detect(source: Path) -> Detection | None:
    """A .csv or .tsv file whose header names an image column, and a label or box; Roboflow's by their names too."""
    try:
        files = [source] if source.is_file() else _files_in(source)
    except OSError:
        return None
    for path in files[:20]:
        if path.suffix.lower() not in _SUFFIXES:
            continue
        header = read_header(read_head(path, HEAD_BYTES))
        if header.columns is not None:
            sure = source.is_file() or path.name in _ROBOFLOW
            columns = f"the columns {', '.join(header.names[:8])}"
            seen = columns if header.lines else "rows of image, corners and class, and no header"
            return Detection(0.95 if sure else 0.7, f"{path.name} with {seen}")
    return None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a file, or every CSV file at the top of a folder, or of a split's folder in it, that has the right columns.

    Raises:
        FormatError: No file has a header that says which column is the image and which the label or box.
    """
    root = source.absolute().parent if source.is_file() else source.absolute()
    found = [source.absolute()] if source.is_file() else _files_in(root)
    files = [path for path in found if source.is_file() or _is_ours(path)]
    for path in found:
        if path not in files:
            reason = "no image column, or neither label nor box columns"
            losses.dropped("files", reason, path.relative_to(root).as_posix())
    if not files:
        raise FormatError("no CSV file here has an image column and a label or box", where=source, remedy=REMEDY)
    # Files named after a split first: a row that a file of everything repeats keeps its split.
    files.sort(key=lambda path: (split_from_name(path) is None, path.name))
    rows = join_rows([_rows_of(path, number, root, losses) for number, path in enumerate(files)])
    names, image = encode(rows.image)
    locations, paths, image = _find_images(names, image, root, options, losses)
    first_said = unrepeated(rows, image)
    rows, image = select_rows(rows, first_said), image[first_said]
    given = np.zeros((len(locations), 2), dtype=np.int64)
    given[image] = np.maximum(given[image], rows.size)
    headers = probe(paths, losses)
    width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, locations, losses)
    splits = _splits(rows.split, image, locations, options, losses)
    sources = [path.relative_to(root).as_posix() for path in files]
    first = np.zeros(len(locations), dtype=np.int64)
    first[image[::-1]] = rows.file[::-1]
    images = images_table(
        locations, paths, width, height, {"split": splits, "source": pa.array(sources).take(pa.array(first))}
    )
    size = np.where(raw[:, None], given, np.stack([width, height], axis=1))
    rows = _in_pixels(rows, image, size, sources[0], losses)
    box = turn_boxes(rows.box, image, headers, raw)
    annotations = _annotations(rows, box, image, locations, sources, options.layer, losses)
    classes = dict.fromkeys([*rows.classes, *pc.unique(rows.label).drop_null().to_pylist()])
    return Records(images, [annotations], [ClassInfo(name) for name in classes])


def _files_in(folder: Path) -> list[Path]:
    """CSV files at the top of a folder, and Roboflow's in the folders in it that are named after splits."""
    if not folder.is_dir():
        return []
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208 - beside a million images
    top = [folder / name for name in names if name.lower().endswith(_SUFFIXES)]
    inner = [folder / name / file for name in names if split_name(name) for file in _ROBOFLOW]
    return [path for path in (*top, *inner) if path.is_file()]


def _is_ours(path: Path) -> bool:
    return read_header(read_head(path, HEAD_BYTES)).columns is not None


def _rows_of(path: Path, file: int, root: Path, losses: LossReport) -> Rows:
    """The rows of a file; those of one in a split's folder are of that split, and name images beside it."""
    rows = read_rows(path, file, losses)
    if path.parent == root:
        return rows
    image = pc.binary_join_element_wise(path.parent.name, rows.image, "/")
    return replace(rows, image=image, split=pc.fill_null(rows.split, split_name(path.parent.name)))


def _in_pixels(rows: Rows, image: Ints, size: Ints, source: str, losses: LossReport) -> Rows:
    """Rows with boxes in pixels: where all numbers of all boxes are between 0 and 1 they are parts of the images' sizes.

    Args:
        rows: With boxes as written.
        image: Which image each is on, shape (n,).
        size: Width and height of each image, shape (images, 2); 0 where they are not known.
        source: For the report.
        losses: That it was so, and boxes on images without a size.
    """
    boxed = np.isfinite(rows.box[:, 0])
    boxes = rows.box[boxed]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    if not len(boxes) or corners.min() < 0 or corners.max() > _LARGEST_PART or (corners == corners.round()).all():
        return rows
    reason = "boxes read as parts of the image's size, since all their numbers are between 0 and 1"
    losses.converted("annotations", reason, source, len(boxes))
    unsized = boxed & (size[image].min(axis=1) <= 0)
    losses.dropped("annotations", "the image's size is not known", source, int(unsized.sum()))
    scaled = rows.box * np.tile(size[image], 2)
    scaled[unsized] = np.nan
    return replace(rows, box=scaled, label=pc.if_else(pa.array(unsized), pa.scalar(None, pa.string()), rows.label))


def _find_images(
    names: Sequence[str], image: Ints, root: Path, options: ReadOptions, losses: LossReport
) -> tuple[list[str], list[Path | None], Ints]:
    """Locations and files of the images that rows name; two names for one file become one image.

    Looked for below the CSV's folder, then in the folder beside it; names may lack their ending.
    """
    folders = [options.images.absolute()] if options.images else [root, root / "images", root.parent / "images"]
    lookups = [ImageLookup(folder) for folder in folders if folder.is_dir()]
    locations: dict[str, int] = {}
    paths: list[Path | None] = []
    position = np.zeros(len(names), dtype=np.int64)
    for row, name in enumerate(names):
        path = next((found for lookup in lookups if (found := lookup.find(name)) is not None), None)
        location = safe_location(name) or "_"
        if path is not None and not is_image(location):
            location += path.suffix
        if path is None:
            losses.converted("images", "not there; kept without a file", name)
        position[row] = locations.setdefault(location, len(locations))
        if position[row] == len(paths):
            paths.append(path)
        elif paths[position[row]] != path:
            losses.converted("images", "another image has the same location; the first is kept", name)
    return list(locations), paths, position[image]


def _splits(
    split: pa.Array, image: Ints, locations: Sequence[str], options: ReadOptions, losses: LossReport
) -> list[str | None]:
    """Each image's split: the first that its rows name."""
    if options.split is not None:
        return [options.split] * len(locations)
    names, codes = encode(pc.fill_null(split, ""))
    known = [split_name(name) or name or None for name in names]
    splits: list[str | None] = [None] * len(locations)
    for row, code in zip(*np.divmod(np.unique(image * len(names) + codes), max(len(names), 1)), strict=True):
        if splits[row] is None:
            splits[row] = known[code]
        elif known[code] not in {None, splits[row]}:
            losses.converted("images", "in several splits; the first is kept", locations[row])
    return splits


def _annotations(
    rows: Rows,
    box: Floats,
    image: Ints,
    locations: Sequence[str],
    sources: Sequence[str],
    layer: str,
    losses: LossReport,
) -> pa.Table:
    """Rows with a label or a box as annotations."""
    kept = np.asarray(rows.label.is_valid()) | np.isfinite(box[:, 0])
    no_box = np.isnan(box[kept, 0])
    columns = {
        "type": np.where(no_box, "label", "box"),
        "label": rows.label.filter(pa.array(kept)),
        "bbox": fixed_lists(box[kept], no_box),
        "score": prediction_scores(rows.score[kept], layer, sources[0], losses),
        "source": pa.array(sources).take(pa.array(rows.file[kept])),
    }
    return annotations_on(locations, image[kept], layer, columns)
