"""Reading CSV: the images that the rows name, and a label or box from each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.columns import Floats, Ints, annotations_on, fixed_lists, images_table, prediction_scores
from curate.formats.csv.header import REMEDY, parse_header, understand
from curate.formats.csv.rows import Rows, encode, join_rows, read_rows, select_rows, split_from_name, unrepeated
from curate.formats.files import ImageLookup, is_image, read_head
from curate.formats.locations import safe_location, split_name
from curate.formats.losses import LossReport
from curate.formats.sizes import probe, reconcile_sizes, turn_boxes

_SUFFIXES: Final = (".csv", ".tsv")


def detect(source: Path) -> Detection | None:
    """A .csv or .tsv file whose header names an image column, and a label or box."""
    files = [source] if source.is_file() else _files_in(source)
    for path in files[:20]:
        if path.suffix.lower() not in _SUFFIXES:
            continue
        header, _ = parse_header(read_head(path, 65536))
        columns = understand(header)
        if columns is not None:
            return Detection(0.95 if source.is_file() else 0.7, f"{path.name} with the columns {', '.join(header[:8])}")
    return None


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a file, or every CSV file at the top of a folder that has the right columns.

    Raises:
        FormatError: No file has a header that says which column is the image and which the label or box.
    """
    root = source.absolute().parent if source.is_file() else source.absolute()
    found = [source.absolute()] if source.is_file() else _files_in(root)
    files = [path for path in found if source.is_file() or _is_ours(path)]
    for path in found:
        if path not in files:
            losses.dropped("files", "no image column, or neither label nor box columns", path.name)
    if not files:
        raise FormatError("no CSV file here has an image column and a label or box", where=source, remedy=REMEDY)
    # Files named after a split first: a row that a file of everything repeats keeps its split.
    files.sort(key=lambda path: (split_from_name(path) is None, path.name))
    rows = join_rows([read_rows(path, number, losses) for number, path in enumerate(files)])
    names, image = encode(rows.image)
    locations, paths, image = _find_images(names, image, root, options, losses)
    first_said = unrepeated(rows, image)
    rows, image = select_rows(rows, first_said), image[first_said]
    given = np.zeros((len(locations), 2), dtype=np.int64)
    given[image] = np.maximum(given[image], rows.size)
    headers = probe(paths, losses)
    width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, locations, losses)
    splits = _splits(rows.split, image, locations, options, losses)
    sources = [path.name for path in files]
    first = np.zeros(len(locations), dtype=np.int64)
    first[image[::-1]] = rows.file[::-1]
    images = images_table(
        locations, paths, width, height, {"split": splits, "source": pa.array(sources).take(pa.array(first))}
    )
    box = turn_boxes(rows.box, image, headers, raw)
    annotations = _annotations(rows, box, image, locations, sources, options.layer, losses)
    classes = [ClassInfo(name) for name in pc.unique(rows.label).drop_null().to_pylist()]
    return Records(images, [annotations], classes)


def _files_in(folder: Path) -> list[Path]:
    """CSV files at the top of a folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _is_ours(path: Path) -> bool:
    return understand(parse_header(read_head(path, 65536))[0]) is not None


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
