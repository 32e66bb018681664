"""The CSV files of Open Images as batches of columns; see `curate.formats.open_images`."""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from curate.formats.columns import Floats, Ints
from curate.formats.files import read_head
from curate.formats.losses import LossReport

Kind = Literal["images", "boxes", "labels", "masks", "relationships", "points", "classes"]

_BLOCK: Final = 1 << 23
_KINDS: Final[Sequence[tuple[Kind, frozenset[str]]]] = (
    ("masks", frozenset({"MaskPath", "ImageID", "LabelName"})),
    ("boxes", frozenset({"ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"})),
    ("relationships", frozenset({"ImageID", "LabelName1", "LabelName2"})),
    ("labels", frozenset({"ImageID", "LabelName"})),
    ("images", frozenset({"ImageID", "Subset"})),
    ("images", frozenset({"ImageID", "OriginalURL"})),
    ("images", frozenset({"ImageID", "Rotation"})),
    ("points", frozenset({"ImageId", "X", "Y", "Label"})),
    ("classes", frozenset({"LabelName", "DisplayName"})),
)
_MIDS: Final = ("/m/", "/g/", "/j/", "/t/")


@dataclass(frozen=True)
class TableFile:
    """One CSV file.

    Attributes:
        path: Where it is.
        name: Relative to the import's root.
        kind: What its rows are.
        header: Its columns.
    """

    path: Path
    name: str
    kind: Kind
    header: Sequence[str]


def table_file(root: Path, name: str) -> TableFile | None:
    """A file as one of Open Images'; None if its first line does not say that it is."""
    line = read_head(root / name).split("\n", 1)[0].rstrip("\r")
    header = [column.strip().strip('"') for column in line.split(",")]
    columns = set(header)
    kind = next((kind for kind, needed in _KINDS if needed <= columns), None)
    if kind is None and len(header) == 2 and header[0].startswith(_MIDS):
        kind = "classes"
    return None if kind is None else TableFile(root / name, name, kind, header)


def batches(file: TableFile, columns: Sequence[str], losses: LossReport | None) -> Iterator[Mapping[str, pa.Array]]:
    """Some columns of a file, as texts, a few megabytes at a time; nulls for a column that it does not have.

    Args:
        file: The file.
        columns: Their names.
        losses: Gets rows of another length than the header, and what is not CSV; None to say nothing of them.
    """

    def skip(row: Any) -> str:
        if losses is not None:
            place = file.name if row.number is None else f"{file.name}:{row.number}"
            losses.dropped("rows", "not as many columns as the header has", place)
        return "skip"

    try:
        stream = _Utf8(file.path)
        # A Python file: given a path, Arrow would read the whole file ahead.
        reader = arrow_csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=file.kind == "images", invalid_row_handler=skip),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns),
                include_missing_columns=True,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        with contextlib.closing(reader):
            for batch in reader:
                yield {name: batch.column(name) for name in columns}
        if losses is not None and stream.is_broken:
            losses.converted("annotation files", "bytes that are not UTF-8 became question marks", file.name)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        if losses is not None:
            losses.dropped("annotation files", "not CSV, from some row on", f"{file.name}: {error}")


class _Utf8(io.RawIOBase):
    """A file's bytes, with question marks for those that are not UTF-8, which Arrow cannot name in a malformed row.

    Attributes:
        is_broken: Whether there were such bytes so far.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_between = True
        self.is_broken = False

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes; none at the end."""
        # The decoder may hold back three bytes of a character, which come with the next ones.
        data = self._file.read(max(size - 3, 1) if size >= 0 else size)
        if self._is_between and data.isascii():
            return data
        text = self._decoder.decode(data, final=not data)
        self._is_between = not self._decoder.getstate()[0]
        if "\ufffd" in text:
            self.is_broken = True
            text = text.replace("\ufffd", "?")
        return text.encode() or (self.read(size) if data else b"")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def as_numbers(column: pa.Array) -> Floats:
    """Texts as numbers; NaN where they are none, or nothing."""
    with contextlib.suppress(pa.ArrowInvalid):
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.array([_number(text) for text in column.to_pylist()], dtype=np.float64)


def _number(text: str | None) -> float:
    with contextlib.suppress(ValueError):
        return float(text or "nan")
    return float("nan")


@dataclass
class Codes:
    """Numbers for texts, in the order in which they are met.

    Attributes:
        known: The number of each text.
    """

    known: dict[str, int] = field(default_factory=dict)

    def of(self, column: pa.Array, *, grow: bool) -> Ints:
        """Number of each text of a column, shape (n,); -1 for null, and for unknown ones unless they are added."""
        encoded = column.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        if grow:
            table = [self.known.setdefault(value, len(self.known)) for value in values]
        else:
            table = [self.known.get(value, -1) for value in values]
        codes = np.array([*table, -1], dtype=np.int64)
        indices = encoded.indices.fill_null(len(values))
        found: Ints = codes[np.asarray(indices, dtype=np.int64)]
        return found
