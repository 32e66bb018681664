"""Recognising and reading Hugging Face datasets; see `curate.formats.huggingface` for what their columns mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records, merge_classes
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files
from curate.formats.huggingface.features import (
    HUGGINGFACE,
    Features,
    features_beside,
    features_of,
    own_notes,
)
from curate.formats.huggingface.folders import (
    file_name_of,
    is_metadata,
    metadata_features,
    metadata_rows,
    names_images,
)
from curate.formats.huggingface.images import ImageStore
from curate.formats.huggingface.rows import RowReader, Where, classes_of
from curate.formats.huggingface.schema import classes_from_notes
from curate.formats.huggingface.tables import is_table, read_schema, rows_of, split_of_table
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.references import References
from curate.formats.values import mapping

_TABLES_LOOKED_AT: Final = 3
_IMAGE_COLUMNS: Final = ("image", "img", "picture", "pixel_values")
_REMEDY: Final = "give the folder, or a .parquet, .arrow or metadata file that has images"


def detect(source: Path) -> Detection | None:
    """The schema of a table, or the head of a metadata file beside images."""
    if source.is_file():
        return _claim(source, source.name)
    files = peek_files(source)
    metadata = [name for name in files if is_metadata(name)]
    for name in metadata[:_TABLES_LOOKED_AT]:
        if any(map(is_image, files)) and names_images(source / name):
            return Detection(0.95, f"{name} names images")
    tables = [name for name in files if is_table(name)]
    claims = [claim for name in tables[:_TABLES_LOOKED_AT] if (claim := _claim(source / name, name)) is not None]
    return max(claims, key=lambda claim: claim.confidence, default=None)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a file, or all tables or metadata files of a folder.

    Raises:
        FormatError: Nothing can be read.
    """
    root = source if source.is_dir() else source.parent
    names = [source.name] if source.is_file() else list_files(source)
    metadata = [name for name in names if is_metadata(name) and names_images(root / name)]
    tables = [name for name in names if is_table(name) or (source.is_file() and name not in metadata)]
    reading = _Reading(root, options, losses)
    for name in metadata or tables:
        try:
            (reading.metadata if metadata else reading.table)(name)
        except FormatError as error:
            reading.failures.append(error)
    if not reading.succeeded:
        raise next(iter(reading.failures), FormatError("no table with images is here", where=source, remedy=_REMEDY))
    for failure in reading.failures:
        losses.dropped("files", failure.what, failure.where)
    if metadata and source.is_dir():
        reading.images_without_a_row()
    losses.dropped("files", "tables beside metadata files are not read", source, len(tables) if metadata else 0)
    return reading.records()


@dataclass
class _Reading:
    """One import: the images and annotations so far, and what the files said of the classes."""

    root: Path
    options: ReadOptions
    losses: LossReport
    failures: list[FormatError] = field(default_factory=list)
    succeeded: bool = False

    def __post_init__(self) -> None:
        self._collector = Collector(self.options, self.losses)
        self._store = ImageStore(self.options, self.losses)
        self._references = References(self.root, self.options)
        self._beside = features_beside(self.root)
        self._rows: Counter[str | None] = Counter()
        self._taken: set[str] = set()
        self._classes: list[list[ClassInfo]] = []
        self._info: dict[str, object] = {}

    def table(self, name: str) -> None:
        """Read a Parquet or Arrow file.

        Raises:
            FormatError: It cannot be read (to its end), or has no images.
        """
        path = self.root / name
        schema = read_schema(path)
        features = features_of(schema, self._beside or features_beside(path.parent))
        images = [column for column, feature in features.items() if feature.kind == "image"]
        if not images:
            raise FormatError("there is no column of images", where=path, remedy=_REMEDY)
        image = next((column for column in _IMAGE_COLUMNS if column in images), images[0])
        self._take_notes(own_notes(schema), features)
        self.succeeded = True
        split = split_of_table(name)
        reader = self._reader(features)
        for row in rows_of(path):
            number = self._rows[split]
            self._rows[split] += 1
            where = self._where(row.pop(image, None), name, split, number)
            reader.read(row, where)

    def metadata(self, name: str) -> None:
        """Read a metadata file.

        Raises:
            FormatError: It cannot be read.
        """
        path = self.root / name
        features = metadata_features(path, self._beside)
        self._take_notes({}, features)
        reader = self._reader(features)
        for place, row in metadata_rows(path, name, self.losses):
            self.succeeded = True
            key = file_name_of(row)
            if key is None:
                self.losses.dropped("rows", "without the name of an image", place)
                continue
            location, file = self._references.place(name, row.pop(key))
            self._taken.add(location)
            reader.read(row, Where(location, file, None, split_of(location), place, name))

    def images_without_a_row(self) -> None:
        """Add the images of the folder that no metadata file names."""
        for location, path in self._references.others(self._taken):
            self._collector.image(location, path, split=split_of(location))

    def records(self) -> Records:
        """Everything that was read."""
        return self._collector.records(merge_classes(self._classes, self.losses), self._info)

    def _reader(self, features: Features) -> RowReader:
        return RowReader(self._collector, features, self.options.layer, self.losses)

    def _where(self, value: Any, name: str, split: str | None, number: int) -> Where:
        """The image of a row: its bytes, or the file that it names."""
        place = f"{name}: row {number}"
        data = value if isinstance(value, bytes) else mapping(value).get("bytes")
        own_name = mapping(value).get("path") or (value if isinstance(value, str) else None)
        own_name = own_name if isinstance(own_name, str) else None
        if isinstance(data, bytes) and data:
            location = self._store.location(split, own_name, number, data)
            path, size = self._store.keep(data, location)
            return Where(location, path, size, split, place, name)
        path = self._references.place(name, own_name)[1] if own_name else None
        location = self._store.location(split, own_name, number, b"")
        return Where(location, path, None, split, place, name)

    def _take_notes(self, notes: Mapping[str, Any], features: Features) -> None:
        own = classes_from_notes(notes)
        self._classes += [known for known in ([own] if own else classes_of(features)) if known not in self._classes]
        self._info |= mapping(notes.get("info"))


def _claim(path: Path, name: str) -> Detection | None:
    if is_metadata(name):
        return Detection(0.95, f"{name} names images") if names_images(path) else None
    if not is_table(name):
        return None
    try:
        schema = read_schema(path)
    except FormatError:
        return None
    features = features_of(schema, features_beside(path.parent))
    images = [column for column, feature in features.items() if feature.kind == "image"]
    if not images:
        return None
    said = HUGGINGFACE in (schema.metadata or {})
    reason = f"{name} has images in '{images[0]}'"
    return Detection(0.95, f"{reason}, and Hugging Face's features") if said else Detection(0.8, reason)
