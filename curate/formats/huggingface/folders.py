"""ImageFolder's metadata files: metadata.csv, metadata.jsonl and metadata.parquet as rows."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final

import msgspec

from curate.errors import FormatError
from curate.formats.files import read_head, read_text
from curate.formats.huggingface.features import Features, features_of
from curate.formats.huggingface.tables import read_schema, rows_of
from curate.formats.losses import LossReport
from curate.formats.values import is_shallow

METADATA_FILES: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME: Final = "file_name"
"""Column that names the image of a row; one that ends so does too."""

_LONGEST_FIELD: Final = 1 << 27
_HEAD_BYTES: Final = 65536
_KEY: Final = re.compile(r'"(\w+_)?file_name"\s*:\s*"')


def is_metadata(location: str) -> bool:
    """Whether a file is called as ImageFolder's metadata files are."""
    return location.rpartition("/")[2] in METADATA_FILES


def names_images(path: Path) -> bool:
    """Whether a metadata file has a column of file names, by a look at its head."""
    if path.suffix == ".parquet":
        try:
            names = read_schema(path).names
        except FormatError:
            return False
    elif path.suffix == ".jsonl":
        head = read_head(path, _HEAD_BYTES)
        return head.lstrip().startswith("{") and _KEY.search(head) is not None
    else:
        names = next(csv.reader(StringIO(read_head(path).partition("\n")[0])), [])
    return any(name == FILE_NAME or name.endswith(f"_{FILE_NAME}") for name in names)


def file_name_of(row: dict[str, Any]) -> str | None:
    """Key of the column with the image's name; None if the row has none."""
    names = (FILE_NAME, *(name for name in row if name.endswith(f"_{FILE_NAME}")))
    return next((name for name in names if isinstance(row.get(name), str) and row[name].strip()), None)


def metadata_rows(path: Path, source: str, losses: LossReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a metadata file, each with what to call it in the report.

    Args:
        path: The file.
        source: What to call it in the report.
        losses: Gets lines that cannot be read.

    Raises:
        FormatError: The file cannot be read.
    """
    if path.suffix == ".parquet":
        for number, row in enumerate(rows_of(path)):
            yield f"{source}: row {number}", row
    elif path.suffix == ".jsonl":
        yield from _json_lines(path, source, losses)
    else:
        yield from _csv_rows(path, source, losses)


def metadata_features(path: Path, beside: Features) -> Features:
    """What the columns of a metadata file mean."""
    return features_of(read_schema(path), beside) if path.suffix == ".parquet" else beside


def _json_lines(path: Path, source: str, losses: LossReport) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        place = f"{source}:{number}"
        try:
            row = _decoded(line)
        except (ValueError, RecursionError):
            losses.dropped("lines", "not valid JSON", place)
            continue
        if not isinstance(row, dict) or not is_shallow(row):
            losses.dropped("lines", "not a JSON object of values", place)
            continue
        yield place, row


def _csv_rows(path: Path, source: str, losses: LossReport) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(StringIO(read_text(path).replace("\0", ""), newline=""))
    try:
        header = next(reader, [])
        for fields in reader:
            place = f"{source}:{reader.line_num}"
            losses.dropped("fields", "more than there are columns", place, max(0, len(fields) - len(header)))
            if any(fields):
                yield place, {name: _value(name, field) for name, field in zip(header, fields, strict=False) if field}
    except csv.Error as error:
        losses.dropped("lines", f"not valid CSV: {error}", f"{source}:{reader.line_num}")


def _value(name: str, field: str) -> Any:
    """Sizes as numbers, lists and objects as such; all else stays the text that it is."""
    is_tree = field[:1] in {"[", "{"} and not name.endswith(FILE_NAME)
    if is_tree or name in {"width", "height"}:
        with contextlib.suppress(ValueError, RecursionError):
            value = _decoded(field)
            return value if is_shallow(value) else field
    return field


def _decoded(line: str) -> Any:
    """JSON as Python reads it, with halves of surrogate pairs, which no table can hold, as question marks."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return json.loads(json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace"))
