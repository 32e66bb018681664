"""Rows of CSV files as columns: texts, boxes, scores, and which file each comes from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from curate.errors import FormatError
from curate.formats.columns import Flags, Floats, Ints
from curate.formats.csv.header import HEAD_BYTES, REMEDY, Columns, Header, read_header
from curate.formats.files import decode_text
from curate.formats.locations import split_name
from curate.formats.losses import LossReport


@dataclass(frozen=True)
class Rows:
    """n rows of one or several files, as columns.

    Attributes:
        image: As written.
        label: Null where empty.
        split: Null where empty.
        box: [x, y, width, height], shape (n, 4); NaN where there is none.
        score: Shape (n,); NaN where there is none.
        size: Width and height stated, shape (n, 2); 0 where not.
        file: Which file, shape (n,).
        classes: Those that the files' headers name, whether or not a row has them.
    """

    image: pa.Array
    label: pa.Array
    split: pa.Array
    box: Floats
    score: Floats
    size: Ints
    file: Ints
    classes: tuple[str, ...] = ()


def read_rows(path: Path, file: int, losses: LossReport) -> Rows:
    """Read a file.

    Args:
        path: The file.
        file: Its number, which its rows get.
        losses: Malformed rows are dropped, and columns that mean nothing here.

    Raises:
        FormatError: It cannot be read, or its header does not say what the columns are.
    """
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}", where=path, remedy="check it") from error
    header = read_header(text[:HEAD_BYTES])
    columns = header.columns
    if columns is None:
        raise FormatError("the first line names no image column, or no label and box", where=path, remedy=REMEDY)
    table, lines = _parse(text, header, path, losses)
    box, bad = _boxes(table, columns)
    score, bad_score = _numbers(table, columns.score)
    flags, bad_flags = _flags(table, columns)
    bad |= bad_score | bad_flags
    image = _texts(table, columns.image)
    nameless = np.asarray(image.is_null())
    blank = np.all([np.asarray(column.is_null()) for column in table.columns], axis=0)
    for rows, reason in ((bad, "a number is malformed or missing"), (nameless & ~bad & ~blank, "no image is named")):
        for row in np.flatnonzero(rows):
            losses.dropped("rows", reason, f"{path.name}:{lines[row]}")
    split = _texts(table, columns.split)
    if (named := split_from_name(path)) is not None:
        split = pc.fill_null(split, named)
    size = np.stack([_numbers(table, column)[0] for column in columns.size or (None, None)], axis=1)
    _report_unread(header.names, columns, table.num_rows, path, losses)
    rows = Rows(
        image=image,
        label=_texts(table, columns.label),
        split=split,
        box=box,
        score=score,
        size=np.nan_to_num(size).clip(0, 2**31 - 1).astype(np.int64),
        file=np.full(table.num_rows, file),
    )
    kept = ~(bad | nameless)
    rows = select_rows(rows, kept)
    return (
        _labelled(rows, flags[kept], [header.names[column] for column in columns.classes]) if columns.classes else rows
    )


def join_rows(pieces: Sequence[Rows]) -> Rows:
    """The rows of several files, one after another."""
    return Rows(
        image=pa.concat_arrays([piece.image for piece in pieces]),
        label=pa.concat_arrays([piece.label for piece in pieces]),
        split=pa.concat_arrays([piece.split for piece in pieces]),
        box=np.concatenate([piece.box for piece in pieces]),
        score=np.concatenate([piece.score for piece in pieces]),
        size=np.concatenate([piece.size for piece in pieces]),
        file=np.concatenate([piece.file for piece in pieces]),
        classes=tuple(dict.fromkeys(name for piece in pieces for name in piece.classes)),
    )


def select_rows(rows: Rows, kept: Flags) -> Rows:
    """Some of the rows."""
    return take_rows(rows, np.flatnonzero(kept))


def take_rows(rows: Rows, at: Ints) -> Rows:
    """The rows at these places."""
    places = pa.array(at)
    return Rows(
        image=rows.image.take(places),
        label=rows.label.take(places),
        split=rows.split.take(places),
        box=rows.box[at],
        score=rows.score[at],
        size=rows.size[at],
        file=rows.file[at],
        classes=rows.classes,
    )


def unrepeated(rows: Rows, image: Ints) -> Flags:
    """Which rows no earlier file has too (there may be a file of everything beside files of its splits)."""
    if len(rows.file) == 0 or rows.file.min() == rows.file.max():
        return np.ones(len(rows.file), dtype=np.bool_)
    keys = np.stack([image, encode(pc.fill_null(rows.label, ""))[1], *_box_codes(rows.box)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    first_file = np.full(group.max() + 1, len(rows.file))
    np.minimum.at(first_file, group, rows.file)
    kept: Flags = rows.file == first_file[group]
    return kept


def encode(texts: pa.Array) -> tuple[list[str], Ints]:
    """Distinct texts in order of first appearance, and which each row has."""
    encoded = texts.dictionary_encode()
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices, dtype=np.int64)


def split_from_name(path: Path) -> str | None:
    """'train.csv' and 'test_labels.csv' say which split they are of."""
    return next((name for word in path.stem.replace("-", "_").split("_")[:1] if (name := split_name(word))), None)


def _report_unread(header: Sequence[str], columns: Columns, count: int, path: Path, losses: LossReport) -> None:
    read_columns = {
        columns.image,
        columns.label,
        columns.split,
        columns.score,
        *(columns.box or ()),
        *(columns.size or ()),
        *columns.classes,
    }
    for number, name in enumerate(header):
        if number not in read_columns:
            losses.dropped(
                "values", "a column that is no image, label, box, split or score", f"{path.name}: {name}", count
            )


def _parse(text: str, header: Header, path: Path, losses: LossReport) -> tuple[pa.Table, Ints]:
    """Every column as text, and each row's line number (rows that span lines count once)."""
    skipped: list[int] = []

    def skip(row: Any) -> str:
        skipped.append(row.number)
        if row.text.strip():
            place = f"{path.name}:{row.number + header.lines}"
            losses.dropped("rows", f"not {row.expected_columns} columns as the header has", place)
        return "skip"

    names = [str(number) for number in range(len(header.names))]
    body = text.partition("\n")[2] if header.lines else text.lstrip("\ufeff")
    if not body.strip():
        return pa.table({name: pa.array([], pa.string()) for name in names}), np.zeros(0, dtype=np.int64)
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body.encode("utf-8", "surrogatepass")),
            # One thread, so that rows that are skipped have their number.
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names),
            parse_options=arrow_csv.ParseOptions(
                delimiter=header.separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        raise FormatError(f"not a CSV file: {error}", where=path, remedy="check its quotes") from error
    lines = np.arange(1, 1 + table.num_rows + len(skipped))
    return table, lines[~np.isin(lines, skipped)] + header.lines


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


def _flags(table: pa.Table, columns: Columns) -> tuple[Flags, Flags]:
    """Which of the classes each row has, shape (n, classes), and where that is neither 0 nor 1."""
    values = np.zeros((table.num_rows, len(columns.classes)))
    for number, column in enumerate(columns.classes):
        values[:, number] = _numbers(table, column)[0]
    bad: Flags = np.any(~np.isin(values, [0, 1]), axis=1)
    return values == 1, bad


def _labelled(rows: Rows, flags: Flags, names: Sequence[str]) -> Rows:
    """A row for each class that a row has, in the order of the columns; one without a label where it has none."""
    none = ~flags.any(axis=1)
    at, label = np.nonzero(np.column_stack([flags, none]))
    labels = pa.array([*names, None], pa.string()).take(pa.array(label))
    return replace(take_rows(rows, at), label=labels, classes=tuple(names))


def _boxes(table: pa.Table, columns: Columns) -> tuple[Floats, Flags]:
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


def _box_codes(box: Floats) -> list[Ints]:
    return [np.unique(side, return_inverse=True)[1] for side in np.nan_to_num(box, nan=-1e300).T]
