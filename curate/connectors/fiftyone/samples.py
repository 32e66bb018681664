"""A dataset's images as FiftyOne's samples: documents of its database, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import from_table
from curate.checks.shift.stored import MEMBERS
from curate.connectors.fiftyone.labels import CONTAINERS, MARK, Document, Size, same_content, to_label
from curate.connectors.fiftyone.layout import FINDINGS, IMAGE_FINDINGS, MEASURED, MEASURES, OWN, SCORES, Layout
from curate.connectors.fiftyone.marks import Marks, finding_labels, marks_of
from curate.connectors.sync.content import rows_of
from curate.dataset import Dataset
from curate.dataset.query import quote
from curate.formats.losses import LossReport

BATCH: Final = 2_000
"""Images turned into documents at a time."""

_FEW: Final = 2_000
"""So many images or fewer are asked for by id."""

_UNSHOWN: Final = frozenset({OWN, "_rand"})
_NO_MARKS: Final = Marks()
_DYNAMIC: Final = {"_cls": "DynamicEmbeddedDocument"}


@dataclass(frozen=True)
class Renderer:
    """Turns images of one commit into samples.

    Attributes:
        dataset: The commit.
        layout: Fields of its layers.
        make_id: Makes the database's id from 24 hexadecimal digits.
        losses: Gets what cannot be shown.
        bare: Only images, splits, tags and layers, as a dataset of FiftyOne's own would have them: for an export.
    """

    dataset: Dataset
    layout: Layout
    make_id: Callable[[str], Any]
    losses: LossReport
    bare: bool = False

    @cached_property
    def marks(self) -> dict[str, Marks]:
        """What findings say of each image."""
        return {} if self.bare else marks_of(from_table(self.dataset.table("findings")))

    def documents(
        self, image_ids: Sequence[str] | None = None, *, where: str | None = None
    ) -> Iterator[list[Document]]:
        """Samples of some images, or of all, in batches; without the members that only the database's user knows.

        Args:
            image_ids: Which images; None for all.
            where: SQL condition on the images, where `image_ids` is None.
        """
        images = self._images(image_ids, where)
        rows = self._annotations(images["image_id"].combine_chunks(), everything=image_ids is None and where is None)
        measures = {} if self.bare else self._measures(images["image_id"])
        slices = {} if self.bare else self._slices(images["image_id"])
        for start in range(0, images.num_rows, BATCH):
            batch = images.slice(start, BATCH).to_pylist()
            by_image = rows.of(start, start + len(batch))
            yield [
                self._document(image, annotations, measures.get(image["image_id"]), slices.get(image["image_id"], []))
                for image, annotations in zip(batch, by_image, strict=True)
            ]

    def _document(
        self, image: Mapping[str, Any], rows: Sequence[Any], measures: Document | None, slices: list[str]
    ) -> Document:
        size: Size | None = (image["width"], image["height"]) if image["width"] and image["height"] else None
        marks = self.marks.get(image["image_id"], _NO_MARKS)
        metadata = {"_cls": "ImageMetadata", "width": image["width"], "height": image["height"]}
        document: Document = {
            "_id": self.make_id(MARK + image["image_id"]),
            "filepath": image["path"] or image["location"],
            "metadata": metadata if size else None,
            "_media_type": "image",
            # What FiftyOne shuffles by; from the id, so that it is the same every time.
            "_rand": int(image["image_id"][:13], 16) / 16**13,
            "location": image["location"],
            **self._labels(image, size, rows, marks),
        }
        document |= {
            "sequence": image["group"],
            "frame": image["frame"],
            "timestamp": image["timestamp"],
            "details": image["metadata"],
        }
        tags = list(image["tags"] or ())
        if self.bare:
            split = [image["split"]] if image["split"] and image["split"] not in tags else []
            return document | {"tags": [*split, *tags], "source_id": image["source_id"]}
        boxes = {row["annotation_id"]: row["bbox"] for row in rows} if marks.findings else {}
        placed, whole = finding_labels(marks, size, boxes, self.make_id)
        return document | {
            "tags": [*tags, *marks.tags],
            "split": image["split"],
            "why": marks.why,
            "copies": marks.copies,
            "slices": slices,
            SCORES: _DYNAMIC | marks.scores,
            MEASURES: None if measures is None else _DYNAMIC | measures,
            FINDINGS: {"_cls": "Detections", "detections": placed},
            IMAGE_FINDINGS: {"_cls": "Classifications", "classifications": whole},
            OWN: _DYNAMIC | {"image_id": image["image_id"], "commit": self.dataset.commit.number},
        }

    def _labels(
        self, image: Mapping[str, Any], size: Size | None, rows: Sequence[Any], marks: Marks
    ) -> dict[str, Document]:
        """The label fields of an image."""
        lists: dict[str, list[Document]] = {name: [] for name in self.layout.fields}
        if rows and size is None:
            self.losses.dropped("annotations", "of an image of unknown size", image["location"], len(rows))
            rows = ()
        for row in rows:
            try:
                label = to_label(row, size or (1, 1), self.make_id)
            except (TypeError, ValueError, ZeroDivisionError):
                self.losses.dropped("annotations", "without the shape that its type stands for", image["location"])
                continue
            if self.bare:
                self._tell_losses(row, image["location"])
                label |= {"source_id": row["source_id"]} if row["source_id"] is not None else {}
            if marks.findings:
                label["tags"] = marks.tags_of(row["annotation_id"])
            lists[self._names[row["layer"], row["type"]]].append(label)
        fields = {}
        for name, labels in lists.items():
            container = CONTAINERS[self.layout.fields[name][1]][0]
            fields[name] = {"_cls": container, self.layout.fields[name][1]: labels}
        return fields

    def _tell_losses(self, row: Mapping[str, Any], location: str) -> None:
        """What FiftyOne's label of an annotation has no place for."""
        if row["type"] == "keypoints" and (row["polygons"] or row["rle"]):
            self.losses.dropped(
                "outlines", "of things that have keypoints: FiftyOne's labels have one or the other", location
            )

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        return self.layout.names()

    def _images(self, image_ids: Sequence[str] | None, where: str | None) -> pa.Table:
        if image_ids is None:
            return self.dataset.table("images", where=where).sort_by("location")
        if len(image_ids) <= _FEW:
            where = f"image_id IN ({', '.join(map(quote, image_ids))})" if image_ids else "false"
            return self.dataset.table("images", where=where).sort_by("location")
        images = self.dataset.table("images")
        return images.filter(pc.is_in(images["image_id"], pa.array(image_ids))).sort_by("location")

    def _annotations(self, image_ids: pa.Array, *, everything: bool) -> _Rows:
        layers = {layer for layer, _ in self.layout.fields.values()}
        where = None
        if not everything and len(image_ids) <= _FEW:
            where = f"image_id IN ({', '.join(map(quote, image_ids.to_pylist()))})" if len(image_ids) else "false"
        if self.bare and layers:
            chosen = f"layer IN ({', '.join(map(quote, sorted(layers)))})"
            where = f"({where}) AND {chosen}" if where else chosen
        table = self.dataset.table("annotations", columns=_COLUMNS, where=where)
        return _Rows.sorted(table, image_ids)

    def _measures(self, image_ids: pa.ChunkedArray) -> dict[str, Document]:
        """Measures by image, where the dataset has any."""
        name = measures_table(self.dataset)
        if name is None:
            return {}
        there = self.dataset.schema(name).names
        table = self.dataset.table(name, columns=["id", *(column for column in MEASURED if column in there)])
        table = table.filter(pc.is_in(table["id"], image_ids.combine_chunks()))
        return {row.pop("id"): row for row in table.to_pylist()}

    def _slices(self, image_ids: pa.ChunkedArray) -> dict[str, list[str]]:
        """Names of the slices that images are in, sorted, by image."""
        if MEMBERS not in self.dataset.commit.tables:
            return {}
        table = self.dataset.table(MEMBERS, columns=["image_id", "slice"])
        table = table.filter(pc.is_in(table["image_id"], image_ids.combine_chunks())).sort_by("slice")
        found: dict[str, list[str]] = {}
        for image_id, name in zip(table["image_id"].to_pylist(), table["slice"].to_pylist(), strict=True):
            found.setdefault(image_id, []).append(name)
        return found


def measures_table(dataset: Dataset) -> str | None:
    """Name of the table of the images' measures; None where nothing was measured."""
    names = (name for name in dataset.commit.tables if name.startswith("measures/") and name.endswith("-images"))
    return max(names, default=None)


def shows_already(there: Document | None, made: Document) -> bool:
    """Whether a sample of the database shows what it would show if it were made anew."""
    return there is not None and all(
        same_content(there.get(name), value) for name, value in made.items() if name not in _UNSHOWN
    )


def stamp() -> datetime:
    """The time as the database keeps it: UTC, without a zone, to the millisecond."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


_COLUMNS: Final = [
    *("annotation_id", "image_id", "layer", "type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size"),
    *("keypoints", "area", "iscrowd", "score", "attributes", "source_id", "source"),
]


@dataclass(frozen=True)
class _Rows:
    """Annotations in the order of their images."""

    table: pa.Table
    starts: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def sorted(cls, table: pa.Table, image_ids: pa.Array) -> _Rows:
        """Annotations of n images, sorted by the images' places; others are left out."""
        place = pc.index_in(table["image_id"], value_set=image_ids)
        numbers = np.asarray(pc.fill_null(place, -1).to_numpy(), dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(len(image_ids) + 1))
        return cls(table.take(pa.array(order)).combine_chunks(), starts)

    def of(self, start: int, stop: int) -> Iterator[list[Any]]:
        """The rows of each of some images in turn."""
        first = int(self.starts[start])
        rows = rows_of(self.table.slice(first, int(self.starts[stop]) - first))
        for image in range(start, stop):
            yield rows[self.starts[image] - first : self.starts[image + 1] - first]
