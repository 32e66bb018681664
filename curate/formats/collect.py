"""Gathering images and annotations one at a time, for the formats that are read object by object.

A reader tells a `Collector` of every image and every labelled thing as it meets them; the collector checks them, fills in
what follows from the rest (the box around a polygon, the type, the id), compares the images with their files, and gives the
tables. Annotations become columns every few ten thousand rows and wait in a temporary file once there are many, so memory
stays flat however large the source is.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import hash_text, hash_texts, image_ids, mix, to_ids
from curate.dataset.schema import IMAGES
from curate.formats.base import ClassInfo, ReadOptions, Records
from curate.formats.columns import Flags, Floats, annotations_table, images_table, prediction_scores
from curate.formats.losses import LossReport
from curate.formats.orientation import orient_annotations
from curate.formats.shape_columns import Shape, problem_of, shape_columns
from curate.formats.sizes import Headers, probe, reconcile_sizes
from curate.names import GROUND_TRUTH, PREDICTIONS

_ROWS_OF_A_PIECE: Final = 32_768
_PIECES_IN_MEMORY: Final = 8


@dataclass
class _Images:
    """What is known of each image, in parallel lists; all but the newest of the columns are Arrow's already."""

    location: list[str] = field(default_factory=list)
    path: list[Path | None] = field(default_factory=list)
    size: list[tuple[int, int]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[str, int] = field(default_factory=dict)
    annotations: list[int] = field(default_factory=list)
    pieces: dict[str, list[pa.Array]] = field(default_factory=lambda: defaultdict(list))

    def finish_piece(self) -> None:
        """Turn the columns so far into Arrow's, which need less memory than lists of objects."""
        for name, values in self.columns.items():
            self.pieces[name].append(pa.array(values, IMAGES.field(name).type))
        self.columns.clear()

    def finished(self) -> dict[str, pa.ChunkedArray]:
        """The columns of all images."""
        self.finish_piece()
        return {name: pa.chunked_array(pieces) for name, pieces in self.pieces.items()}


class Collector:
    """Takes what a reader finds and gives `Records`.

    Args:
        options: What the user asked for; its split goes before the source's.
        losses: Gets what cannot be kept.
    """

    def __init__(self, options: ReadOptions, losses: LossReport) -> None:
        self._options = options
        self._losses = losses
        self._images = _Images()
        self._rows: dict[str, list[Any]] = defaultdict(list)
        self._pieces = _Pieces()
        self._layers: set[str] = set()
        self._labels: dict[str, None] = {}

    def image(
        self,
        location: str,
        path: Path | None,
        *,
        size: tuple[int, int] | None = None,
        split: str | None = None,
        tags: Sequence[str] | None = None,
        group: str | None = None,
        frame: int | None = None,
        timestamp: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        source_id: str | None = None,
        source: str | None = None,
    ) -> int:
        """Take an image; the same location again is the same image, of which the first account stands.

        Args:
            location: Relative to the import's root, with forward slashes (`curate.formats.locations.safe_location`).
            path: Its file, or None where there is none, which is reported.
            size: Width and height as the source says, which are compared with the file's; None where it does not.
            split: As the source says.
            tags: The same.
            group: Video, burst or source it belongs to.
            frame: Its place in the group.
            timestamp: Seconds.
            metadata: What the source says that has no column, JSON-ready.
            source_id: The source's own id.
            source: The annotation file, relative to the import's root.

        Returns:
            Its number, for `add`.
        """
        images = self._images
        row = images.rows.setdefault(location, len(images.location))
        if row < len(images.location):
            return row
        if path is None:
            self._losses.converted("images", "not there; kept without a file", location)
        images.location.append(location)
        images.path.append(path)
        images.size.append(size or (0, 0))
        images.annotations.append(0)
        said = {
            "split": self._options.split or split,
            "tags": tags,
            "group": group,
            "frame": frame,
            "timestamp": timestamp,
            "metadata": json.dumps(metadata, ensure_ascii=False) if metadata else None,
            "source_id": source_id,
            "source": source,
        }
        for name, value in said.items():
            images.columns[name].append(value)
        if len(images.columns["source"]) == _ROWS_OF_A_PIECE:
            images.finish_piece()
        return row

    def add(
        self,
        image: int,
        label: str | None,
        shape: Shape,
        *,
        place: str,
        area: float | None = None,
        iscrowd: bool | None = None,
        score: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        layer: str | None = None,
        key: int | str | None = None,
        source_id: str | None = None,
        source: str | None = None,
        salt: str = "",
    ) -> bool:
        """Take an annotation.

        Args:
            image: The number of its image.
            label: Its class.
            shape: Where it is.
            place: What to call it in the loss report ('a.xml: object 3').
            area: Square pixels, as the source says.
            iscrowd: Whether it stands for many.
            score: Confidence in [0, 1] of a prediction.
            attributes: Whatever else the source has, JSON-ready.
            layer: Where it goes; None for the layer asked for.
            key: What tells it from the others of its image for good: the source's own id, or its place in the file; None
                for the order in which they come.
            source_id: The source's own id, as text.
            source: The annotation file, relative to the import's root.
            salt: What keeps equal keys of different origins apart (a file's name, where its keys are its own).

        Returns:
            Whether it was kept; what `curate.formats.shape_columns.problem_of` finds is dropped and reported.
        """
        problem = problem_of(shape)
        if problem is not None:
            self._losses.dropped("annotations", problem, place)
            return False
        layer = layer or self._options.layer
        number = self._counted(image, layer, label)
        row = {
            "image": image,
            "label": label,
            "shape": shape,
            "area": area,
            "iscrowd": iscrowd,
            "score": np.nan if score is None else score,
            "attributes": json.dumps(attributes, ensure_ascii=False) if attributes else None,
            "layer": layer,
            "salt": salt,
            "key": number if key is None else key,
            "source_id": source_id,
            "source": source,
        }
        self._keep(row)
        return True

    @property
    def labels(self) -> list[str]:
        """The classes seen so far, in the order in which they came."""
        return list(self._labels)

    def records(self, classes: Sequence[ClassInfo] | None = None, info: dict[str, object] | None = None) -> Records:
        """Everything that was taken. To be called once, at the end.

        Args:
            classes: The classes, where the source lists them; others that were seen are added after them, sorted.
            info: What the source says of itself.
        """
        if self._rows["image"]:
            self._finish_piece()
        images = self._images
        headers = probe(images.path, self._losses)
        given = np.array(images.size, dtype=np.int64).reshape(-1, 2)
        width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, images.location, self._losses)
        table = images_table(images.location, images.path, width, height, images.finished())
        listed = list(classes or ())
        names = {known.name for known in listed}
        listed += [ClassInfo(name) for name in sorted(self._labels) if name not in names]
        pieces = _oriented(self._pieces, table["image_id"].combine_chunks(), headers, raw)
        return Records(table, pieces, listed, info or {}, frozenset(self._layers))

    def _counted(self, image: int, layer: str, label: str | None) -> int:
        """Note that a layer and a class have been seen; returns how many annotations the image had before this one."""
        self._layers.add(layer)
        if label is not None:
            self._labels.setdefault(label)
        self._images.annotations[image] += 1
        return self._images.annotations[image] - 1

    def _keep(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            self._rows[name].append(value)
        if len(self._rows["image"]) == _ROWS_OF_A_PIECE:
            self._finish_piece()

    def _finish_piece(self) -> None:
        rows, self._rows = self._rows, defaultdict(list)
        locations = [self._images.location[image] for image in rows["image"]]
        columns = {
            **shape_columns(rows["shape"]),
            "annotation_id": _annotation_ids(locations, rows["layer"], rows["salt"], rows["key"]),
            "image_id": image_ids(locations),
            "score": self._scores(np.array(rows["score"], dtype=np.float64), rows["layer"]),
        }
        for name in ("layer", "label", "area", "iscrowd", "attributes", "source_id", "source"):
            columns[name] = rows[name]
        self._pieces.add(annotations_table(len(locations), columns))

    def _scores(self, scores: Floats, layers: Sequence[str]) -> pa.Array:
        predicted = np.array([layer.startswith(PREDICTIONS) for layer in layers], dtype=np.bool_)
        prediction_scores(np.where(predicted, np.nan, scores), GROUND_TRUTH, "scores", self._losses)
        return pa.array(scores, mask=np.isnan(scores) | ~predicted)


def _annotation_ids(
    locations: Sequence[str], layers: Sequence[str], salts: Sequence[str], keys: Sequence[int | str]
) -> pa.Array:
    origins = list(zip(layers, salts, strict=True))
    hashes = {origin: hash_text("\0".join(origin)) for origin in set(origins)}
    origin = np.array([hashes[each] for each in origins], dtype=np.uint64)
    own = [key % 2**64 if isinstance(key, int) else hash_text(key) for key in keys]
    return to_ids(mix(hash_texts(locations), origin, 2, np.array(own, dtype=np.uint64)))


def _oriented(pieces: Iterable[pa.Table], image_ids: pa.Array, headers: Headers, raw: Flags) -> Iterator[pa.Table]:
    """Pieces with the annotations of images that were labelled as stored turned to their EXIF orientation."""
    for piece in pieces:
        if raw.any():
            image = np.asarray(pc.index_in(piece["image_id"], image_ids), dtype=np.int64)
            piece = orient_annotations(piece, image, headers, raw)
        yield piece


class _Pieces:
    """Tables in the order in which they came: the first few in memory, the rest in a temporary file."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        """Take a table; all have the same columns."""
        if len(self._tables) < _PIECES_IN_MEMORY:
            self._tables.append(table)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="curate-")  # noqa: SIM115 - closed, and gone, with this object
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._file, table.schema, options=options)
        self._writer.write_table(table)

    def __iter__(self) -> Iterator[pa.Table]:
        while self._tables:
            yield self._tables.pop(0)
        if self._file is None:
            return
        self._writer.close()
        self._file.seek(0)
        with self._file, pa.ipc.open_stream(self._file) as stream:
            for batch in stream:
                yield pa.Table.from_batches([batch])
