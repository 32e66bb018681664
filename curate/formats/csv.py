"""CSV files with a header: one row for each label of an image, or for each box.

Classification: an image column (``image``, ``filename``, ``path`` ...), a label column (``label``, ``class``, ``category``
...), and perhaps ``split`` and ``score``. Detection, as TensorFlow's and RetinaNet's examples: in addition ``xmin, ymin, xmax,
ymax`` (or ``x1, y1, x2, y2``) or ``x, y, w, h``, in pixels from 0; ``width`` and ``height`` are then the image's. The
separator is a comma, semicolon or tab. A row without a label or box is an image without annotations.

CSV has no ids: an annotation is known by its image and its place among the image's rows.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.columns import annotations_table, fixed_lists, images_table
from curate.formats.csv_write import write
from curate.formats.files import (
    Headers,
    ImageLookup,
    Ints,
    decode_text,
    is_image,
    probe,
    read_head,
    reconcile_sizes,
    safe_location,
    split_name,
)
from curate.formats.losses import LossReport
from curate.geometry import orient_boxes
from curate.names import PREDICTIONS

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SUFFIXES: Final = (".csv", ".tsv")
_IMAGE: Final = (
    "image", "filename", "file_name", "path", "file", "image_path", "filepath", "file_path", "image_name", "image_file",
    "img", "img_path", "image_id",
)  # fmt: skip
_LABEL: Final = (
    "label", "class", "category", "target", "class_name", "label_name", "category_name", "labels", "classname", "species",
)  # fmt: skip
_SPLIT: Final = ("split", "subset", "partition", "set")
_SCORE: Final = ("score", "confidence", "conf")
_CORNERS: Final = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_SIDES: Final = (
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("x1", "y1", "w", "h"), ("xmin", "ymin", "w", "h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)  # fmt: skip


@dataclass(frozen=True)
class _Columns:
    """Which column is what; numbers are positions in the header, None where there is none."""

    image: int
    label: int | None
    split: int | None
    score: int | None
    box: tuple[int, ...] | None
    corners: bool
    size: tuple[int, int] | None


@dataclass(frozen=True)
class _Rows:
    """n rows of one or several files, as columns.

    Attributes:
        image: As written.
        label: Null where empty.
        split: Null where empty.
        box: [x, y, width, height], shape (n, 4); NaN where there is none.
        score: Shape (n,); NaN where there is none.
        size: Width and height stated, shape (n, 2); 0 where not.
        file: Which file, shape (n,).
    """

    image: pa.Array
    label: pa.Array
    split: pa.Array
    box: Floats
    score: Floats
    size: Ints
    file: Ints


def detect(source: Path) -> Detection | None:
    """A .csv or .tsv file whose header names an image column, and a label or box."""
    files = [source] if source.is_file() else _files_in(source)
    for path in files[:20]:
        if path.suffix.lower() not in _SUFFIXES:
            continue
        header, _ = _header(read_head(path, 65536))
        columns = _understand(header)
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
        raise FormatError("no CSV file here has an image column and a label or box", where=source, remedy=_remedy())
    # Files named after a split first: a row that a file of everything repeats keeps its split.
    files.sort(key=lambda path: (_split_from_name(path) is None, path.name))
    rows = _joined([_read_file(path, number, losses) for number, path in enumerate(files)])
    names, image = _encode(rows.image)
    locations, paths, image = _find_images(names, image, root, options, losses)
    unrepeated = _unrepeated(rows, image)
    rows, image = _select(rows, unrepeated), image[unrepeated]
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
    kept = np.asarray(rows.label.is_valid()) | np.isfinite(rows.box[:, 0])
    box = _oriented(rows.box, image, headers, raw)
    annotations = _annotations(rows, box, image, kept, locations, sources, options, losses)
    classes = [ClassInfo(name) for name in pc.unique(rows.label).drop_null().to_pylist()]
    return Records(images, [annotations], classes)


class _Csv:
    name = "csv"
    detect = staticmethod(detect)
    read = staticmethod(read)
    write = staticmethod(write)


FORMAT: Format = _Csv()


# --------------------------------------------------------------------------------------------------- columns


def _files_in(folder: Path) -> list[Path]:
    """CSV files at the top of a folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _is_ours(path: Path) -> bool:
    return _understand(_header(read_head(path, 65536))[0]) is not None


def _header(head: str) -> tuple[list[str], str]:
    """Column names, lower case, and the separator that splits the first line into the most of them."""
    line = head.lstrip("\ufeff").split("\n", 1)[0].rstrip("\r")
    separator = max(",;\t", key=line.count)
    return [name.strip().strip('"').strip().lower().replace(" ", "_") for name in line.split(separator)], separator


def _understand(header: Sequence[str]) -> _Columns | None:
    place = {name: number for number, name in reversed(list(enumerate(header)))}

    def first(names: Sequence[str]) -> int | None:
        return next((place[name] for name in names if name in place), None)

    image, label = first(_IMAGE), first(_LABEL)
    corners = next((names for names in _CORNERS if all(name in place for name in names)), None)
    box = corners or next((names for names in _SIDES if all(name in place for name in names)), None)
    # A single column of boxes does not say whether they are corners or sides.
    if image is None or (label is None and box is None) or ("bbox" in place and box is None):
        return None
    size = (place["width"], place["height"]) if {"width", "height"} <= set(place) - set(box or ()) else None
    return _Columns(
        image=image,
        label=label,
        split=first(_SPLIT),
        score=first(_SCORE),
        box=None if box is None else tuple(place[name] for name in box),
        corners=corners is not None,
        size=size,
    )


def _remedy() -> str:
    return f"the first line must name them, such as: {_IMAGE[1]},{_LABEL[0]} or {_IMAGE[1]},{_LABEL[0]},{','.join(_CORNERS[0])}"


# --------------------------------------------------------------------------------------------------- rows


def _read_file(path: Path, file: int, losses: LossReport) -> _Rows:
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}", where=path, remedy="check it") from error
    header, separator = _header(text)
    columns = _understand(header)
    if columns is None:
        raise FormatError("the first line names no image column, or no label and box", where=path, remedy=_remedy())
    table, lines = _parse(text, header, separator, path, losses)
    box, bad = _boxes(table, columns)
    score, bad_score = _numbers(table, columns.score)
    bad |= bad_score
    image = _texts(table, columns.image)
    nameless = np.asarray(image.is_null())
    blank = np.all([np.asarray(column.is_null()) for column in table.columns], axis=0)
    for rows, reason in ((bad, "a number is malformed or missing"), (nameless & ~bad & ~blank, "no image is named")):
        for row in np.flatnonzero(rows):
            losses.dropped("rows", reason, f"{path.name}:{lines[row]}")
    split = _texts(table, columns.split)
    if (named := _split_from_name(path)) is not None:
        split = pc.fill_null(split, named)
    size = np.stack([_numbers(table, column)[0] for column in columns.size or (None, None)], axis=1)
    _report_unread(header, columns, table.num_rows, path, losses)
    rows = _Rows(
        image=image,
        label=_texts(table, columns.label),
        split=split,
        box=box,
        score=score,
        size=np.nan_to_num(size).clip(0, 2**31 - 1).astype(np.int64),
        file=np.full(table.num_rows, file),
    )
    return _select(rows, ~(bad | nameless))


def _report_unread(header: Sequence[str], columns: _Columns, count: int, path: Path, losses: LossReport) -> None:
    read_columns = {
        columns.image,
        columns.label,
        columns.split,
        columns.score,
        *(columns.box or ()),
        *(columns.size or ()),
    }
    for number, name in enumerate(header):
        if number not in read_columns:
            losses.dropped(
                "values", "a column that is no image, label, box, split or score", f"{path.name}: {name}", count
            )


def _parse(text: str, header: Sequence[str], separator: str, path: Path, losses: LossReport) -> tuple[pa.Table, Ints]:
    """Every column as text, and each row's line number (rows that span lines count once)."""
    skipped: list[int] = []

    def skip(row: Any) -> str:
        skipped.append(row.number)
        if row.text.strip():
            place = f"{path.name}:{row.number + 1}"
            losses.dropped("rows", f"not {row.expected_columns} columns as the header has", place)
        return "skip"

    names = [str(number) for number in range(len(header))]
    _, _, body = text.partition("\n")
    if not body.strip():
        return pa.table({name: pa.array([], pa.string()) for name in names}), np.zeros(0, dtype=np.int64)
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body.encode("utf-8", "surrogatepass")),
            # One thread, so that rows that are skipped have their number.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        raise FormatError(f"not a CSV file: {error}", where=path, remedy="check its quotes") from error
    lines = np.arange(1, 1 + table.num_rows + len(skipped))
    return table, lines[~np.isin(lines, skipped)] + 1


def _texts(table: pa.Table, column: int | None) -> pa.Array:
    """A column without the space around its values; null where empty."""
    if column is None:
        return pa.nulls(table.num_rows, pa.string())
    trimmed = pc.utf8_trim_whitespace(table.column(column).combine_chunks())
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _numbers(table: pa.Table, column: int | None) -> tuple[Floats, Flags]:
    """A column as numbers, NaN where empty or malformed, and where it is malformed."""
    texts = _texts(table, column)
    is_number = pc.fill_null(pc.match_substring_regex(texts, r"^-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"), False)
    values = np.full(table.num_rows, np.nan)
    mask = np.asarray(is_number)
    values[mask] = np.asarray(texts.filter(is_number).cast(pa.float64()))
    return values, ~mask & np.asarray(texts.is_valid())


def _boxes(table: pa.Table, columns: _Columns) -> tuple[Floats, Flags]:
    """Boxes of shape (n, 4), and where one is malformed: a number that is none, or only some of the four."""
    if columns.box is None:
        return np.full((table.num_rows, 4), np.nan), np.zeros(table.num_rows, dtype=np.bool_)
    numbers = [_numbers(table, column) for column in columns.box]
    box = np.stack([values for values, _ in numbers], axis=1)
    if columns.corners:
        box[:, 2:] -= box[:, :2]
    some, every = np.isfinite(box).any(axis=1), np.isfinite(box).all(axis=1)
    malformed = np.any(np.stack([bad for _, bad in numbers]), axis=0)
    return box, np.logical_or(malformed, some & ~every)


def _joined(pieces: Sequence[_Rows]) -> _Rows:
    return _Rows(
        image=pa.concat_arrays([piece.image for piece in pieces]),
        label=pa.concat_arrays([piece.label for piece in pieces]),
        split=pa.concat_arrays([piece.split for piece in pieces]),
        box=np.concatenate([piece.box for piece in pieces]),
        score=np.concatenate([piece.score for piece in pieces]),
        size=np.concatenate([piece.size for piece in pieces]),
        file=np.concatenate([piece.file for piece in pieces]),
    )


def _unrepeated(rows: _Rows, image: Ints) -> Flags:
    """Which rows no earlier file has too (there may be a file of everything beside files of its splits)."""
    if len(rows.file) == 0 or rows.file.min() == rows.file.max():
        return np.ones(len(rows.file), dtype=np.bool_)
    keys = np.stack([image, _encode(pc.fill_null(rows.label, ""))[1], *_box_codes(rows.box)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    first_file = np.full(group.max() + 1, len(rows.file))
    np.minimum.at(first_file, group, rows.file)
    kept: Flags = rows.file == first_file[group]
    return kept


def _select(rows: _Rows, kept: Flags) -> _Rows:
    mask = pa.array(kept)
    return _Rows(
        image=rows.image.filter(mask),
        label=rows.label.filter(mask),
        split=rows.split.filter(mask),
        box=rows.box[kept],
        score=rows.score[kept],
        size=rows.size[kept],
        file=rows.file[kept],
    )


def _box_codes(box: Floats) -> list[Ints]:
    return [np.unique(side, return_inverse=True)[1] for side in np.nan_to_num(box, nan=-1e300).T]


def _encode(texts: pa.Array) -> tuple[list[str], Ints]:
    """Distinct texts in order of first appearance, and which each row has."""
    encoded = texts.dictionary_encode()
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices, dtype=np.int64)


def _split_from_name(path: Path) -> str | None:
    """'train.csv' and 'test_labels.csv' say which split they are of."""
    return next((name for word in path.stem.replace("-", "_").split("_")[:1] if (name := split_name(word))), None)


# --------------------------------------------------------------------------------------------------- images


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
    names, codes = _encode(pc.fill_null(split, ""))
    known = [split_name(name) or name or None for name in names]
    splits: list[str | None] = [None] * len(locations)
    for row, code in zip(*np.divmod(np.unique(image * len(names) + codes), max(len(names), 1)), strict=True):
        if splits[row] is None:
            splits[row] = known[code]
        elif known[code] not in {None, splits[row]}:
            losses.converted("images", "in several splits; the first is kept", locations[row])
    return splits


# --------------------------------------------------------------------------------------------------- annotations


def _oriented(box: Floats, image: Ints, headers: Headers, raw: Flags) -> Floats:
    """Boxes on images whose stated size is that before EXIF orientation, turned with the image."""
    rows = np.flatnonzero(raw[image] & np.isfinite(box[:, 0])) if len(box) else np.zeros(0, dtype=np.int64)
    turned = box.copy()
    if len(rows):
        at = image[rows]
        # Only sizes whose sides are swapped are taken for raw, so the stored width is the oriented height.
        turned[rows] = orient_boxes(box[rows], headers.orientation[at], headers.height[at], headers.width[at])
    return turned


def _annotations(
    rows: _Rows,
    box: Floats,
    image: Ints,
    kept: Flags,
    locations: Sequence[str],
    sources: Sequence[str],
    options: ReadOptions,
    losses: LossReport,
) -> pa.Table:
    at, file, score = image[kept], rows.file[kept], rows.score[kept]
    no_box, no_score = np.isnan(box[kept, 0]), np.isnan(score)
    if not options.layer.startswith(PREDICTIONS):
        reason = "confidences have no place in ground truth; import into predictions/NAME to keep them"
        losses.dropped("scores", reason, sources[0], int((~no_score).sum()))
        no_score[:] = True
    columns: Mapping[str, Any] = {
        "annotation_id": annotation_ids(hash_texts(locations)[at], options.layer, ""),
        "image_id": image_ids(locations).take(pa.array(at)),
        "layer": options.layer,
        "type": np.where(no_box, "label", "box"),
        "label": rows.label.filter(pa.array(kept)),
        "bbox": fixed_lists(box[kept], no_box),
        "score": pa.array(score, mask=no_score),
        "source": pa.array(sources).take(pa.array(file)),
    }
    return annotations_table(len(at), columns)
