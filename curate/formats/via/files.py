"""The files that VIA writes: projects, and annotations as JSON or CSV."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as arrow_csv

from curate.errors import FormatError
from curate.formats.files import read_text
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, sequence, text

CSV_SUFFIX: Final = ".csv"

_CSV_COLUMNS: Final = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
_MOST_COLUMNS: Final = 64
_VIA_3: Final = frozenset({"project", "file", "metadata", "view"})


@dataclass
class FileEntry:
    """What an annotation file says of an image.

    Attributes:
        key: Its place in the file, for the report.
        filename: As written.
        folder: Where a project has its images.
        attributes: Of the image.
        picture: The image itself, as VIA 1 can have it.
        regions: Shape and region attributes of each.
    """

    key: str
    filename: str
    folder: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    picture: Any = None
    regions: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)


@dataclass
class Export:
    """What is in an annotation file.

    Attributes:
        entries: Images with their regions.
        definitions: What a project says of its region attributes, by name.
        not_entries: How many members are not images with regions.
        bad_rows: How many rows of a CSV file could not be understood.
    """

    entries: list[FileEntry] = field(default_factory=list)
    definitions: dict[str, Any] = field(default_factory=dict)
    not_entries: int = 0
    bad_rows: int = 0


def load(path: Path) -> Export:
    """Read a project or an export.

    Raises:
        FormatError: It is broken, or none of VIA 1 or 2.
    """
    return _load_csv(path) if path.name.lower().endswith(CSV_SUFFIX) else _load_json(path)


def _load_json(path: Path) -> Export:
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise FormatError("not a VIA project or export", where=path, remedy="check it")
    if tree.keys() >= _VIA_3:
        raise FormatError("a VIA 3 project, which is not read", where=path, remedy="export it as COCO, and import that")
    folder, definitions = "", {}
    if "_via_img_metadata" in tree:
        folder = text(mapping(mapping(tree.get("_via_settings")).get("core")).get("default_filepath"))
        said = mapping(mapping(tree.get("_via_attributes")).get("region"))
        definitions = {key: value for key, value in said.items() if is_shallow(value)}
        tree = mapping(tree["_via_img_metadata"])
    known = [(key, value) for key, value in tree.items() if isinstance(value, dict) and "regions" in value]
    if tree and not known:
        raise FormatError("not a VIA project or export: nothing in it has 'regions'", where=path, remedy="check it")
    entries = [_entry(value, key, folder) for key, value in known]
    return Export(entries, definitions, not_entries=len(tree) - len(known))


def _entry(value: dict[str, Any], key: str, folder: str) -> FileEntry:
    regions = value["regions"]
    if isinstance(regions, dict):  # VIA 1: {"0": ..., "1": ...}
        regions = [each for _, each in sorted(regions.items(), key=lambda entry: (len(entry[0]), entry[0]))]
    pairs = [
        (mapping(each).get("shape_attributes"), mapping(each).get("region_attributes")) for each in sequence(regions)
    ]
    return FileEntry(
        key,
        text(value.get("filename")) or text(value.get("fileref")),
        folder,
        mapping(value.get("file_attributes")),
        value.get("base64_img_data"),
        [(mapping(shape), mapping(region)) for shape, region in pairs],
    )


def _load_csv(path: Path) -> Export:
    """Rows of one region each; an image without regions has one row without any."""
    rows, bad_rows = _csv_rows(path)
    header = [column.strip().lstrip("#") for column in next(rows, ())]
    if not set(_CSV_COLUMNS) <= set(header):
        raise FormatError("not a VIA export: its columns are not there", where=path, remedy="check it")
    at = [header.index(column) for column in _CSV_COLUMNS]
    entries: dict[str, FileEntry] = {}
    for row in rows:
        filename, *others = (row[column] for column in at)
        file_attributes, shape, region = (_json_object(other) for other in others)
        entry = entries.setdefault(filename, FileEntry(filename, filename.strip(), attributes=file_attributes or {}))
        if shape is None or region is None:
            bad_rows += 1
        elif shape or region:
            entry.regions.append((shape, region))
    return Export(list(entries.values()), bad_rows=bad_rows)


def _csv_rows(path: Path) -> tuple[Iterator[tuple[str, ...]], int]:
    """Rows as texts, and how many have another number of columns than the first."""
    skipped = 0

    def skip(row: Any) -> str:
        nonlocal skipped
        skipped += bool(row.text.strip())
        return "skip"

    data = read_text(path).encode("utf-8", "replace")
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(data),
            # One block, since a row of many points may be of any length.
            arrow_csv.ReadOptions(use_threads=False, autogenerate_column_names=True, block_size=len(data) + 1),
            arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            arrow_csv.ConvertOptions(column_types={f"f{number}": pa.string() for number in range(_MOST_COLUMNS)}),
        )
        columns = [column.cast(pa.string()).to_pylist() for column in table.columns[:_MOST_COLUMNS]]
    except (pa.ArrowException, OverflowError) as error:
        raise FormatError(f"not valid CSV: {error}", where=path, remedy="export it again, or mend it") from error
    return zip(*columns, strict=True), skipped


def _json_object(content: str) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
