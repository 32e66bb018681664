"""Writing a Hugging Face dataset: Parquet files with the images in them, and a README; see `curate.formats.huggingface`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from curate.formats.base import Export, WriteOptions
from curate.formats.batches import annotations_by_image, drawable
from curate.formats.columns import image_rows, report_rows, report_unsaid
from curate.formats.huggingface.schema import IMAGE_COLUMNS, OBJECT_COLUMNS, Layout, layout_of
from curate.formats.huggingface.tables import split_of_table
from curate.formats.locations import NO_SPLIT, export_names
from curate.formats.losses import LossReport

SHARD_BYTES: Final = 500_000_000
"""About how many bytes of images one file holds."""

_GROUP_BYTES: Final = 32 << 20
_GROUP_ROWS: Final = 1000
_IMAGES_OF_A_BATCH: Final = 256
_OUR_NAMES: Final = {None: NO_SPLIT, "val": "validation"}
_HELD: Final = ("rotated_box", "polygons", "rle", "keypoints", "area", "attributes", "score", "iscrowd", "source_id")


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset.

    Args:
        export: What to write.
        target: An empty folder.
        options: With 'copy' and 'link' the images' bytes are in the files (nothing can be linked there, which is
            reported); with 'none' only their names are.
        losses: Image files that are not there, what a label of a whole image has beside its class, class probabilities.
    """
    images = export.images
    annotations = drawable(export.annotations, losses)
    is_label = pc.equal(annotations["type"], "label")
    labels, objects = annotations.filter(is_label), annotations.filter(pc.invert(is_label))
    nameless = pc.is_null(labels["label"])
    losses.dropped("annotations", "a label without a class", "annotations", pc.sum(nameless).as_py() or 0)
    labels = labels.filter(pc.invert(nameless))
    layout = layout_of(export, labels, objects)
    splits = images["split"].to_pylist()
    names = export_names(images["location"].to_pylist(), splits, losses)
    if options.images == "link":
        losses.converted("image files", "Parquet holds the bytes: copied, not linked", "images", images.num_rows)
    files = _Files(export, labels, objects, names, layout, options.images != "none", losses)
    (target / "data").mkdir()
    by_split = _rows_by_split(splits, losses)
    for split, rows in by_split.items():
        shards = files.shards(rows)
        for number, shard in enumerate(shards):
            files.write(target / "data" / f"{split}-{number:05d}-of-{len(shards):05d}.parquet", shard)
    (target / "README.md").write_text(_card(list(by_split)), encoding="utf-8")
    _report(images, labels, objects, losses)


@dataclass(frozen=True)
class _Files:
    """Writes shards.

    Attributes:
        export: What to write.
        labels: Its annotations of whole images, with a class.
        objects: The other annotations.
        names: Of the images, in their split.
        layout: Which columns there are.
        is_embedded: Whether the images' bytes are written.
        losses: Gets image files that are not there.
    """

    export: Export
    labels: pa.Table
    objects: pa.Table
    names: Sequence[str]
    layout: Layout
    is_embedded: bool
    losses: LossReport

    def shards(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows of images by file: in order, and no more than about `SHARD_BYTES` of images in each."""
        shards: list[list[int]] = [[]]
        size = 0
        paths = self.export.images["path"].take(pa.array(rows, pa.int64())).to_pylist() if self.is_embedded else []
        for row, path in zip(rows, paths or [None] * len(rows), strict=True):
            own = _size(path)
            if shards[-1] and size + own > SHARD_BYTES:
                shards.append([])
                size = 0
            shards[-1].append(row)
            size += own
        return shards

    def write(self, path: Path, rows: Sequence[int]) -> None:
        """Write a shard, with a bounded part of its images in memory."""
        pending: list[dict[str, Any]] = []
        size = 0
        with pq.ParquetWriter(path, self.layout.schema) as writer:
            for row in self._rows(rows):
                pending.append(row)
                size += len(row["image"]["bytes"] or b"")
                if size >= _GROUP_BYTES or len(pending) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_pylist(pending, self.layout.schema))
                    pending, size = [], 0
            if pending:
                writer.write_table(pa.Table.from_pylist(pending, self.layout.schema))

    def _rows(self, rows: Sequence[int]) -> Iterator[dict[str, Any]]:
        images, layout = self.export.images, self.layout
        columns = ["image_id", *layout.object_columns]
        pairs = zip(
            annotations_by_image(images, self.objects.select(columns), rows, batch_size=_IMAGES_OF_A_BATCH),
            annotations_by_image(
                images, self.labels.select(["image_id", "label"]), rows, batch_size=_IMAGES_OF_A_BATCH
            ),
            strict=True,
        )
        for objects_batch, labels_batch in pairs:
            taken = images.take(pa.array([row for row, _ in objects_batch], pa.int64())).to_pylist()
            for image, (row, objects), (_, labels) in zip(taken, objects_batch, labels_batch, strict=True):
                yield self._row(image, self.names[row], objects, [label["label"] for label in labels])

    def _row(
        self, image: Mapping[str, Any], name: str, objects: Sequence[Mapping[str, Any]], labels: Sequence[str]
    ) -> dict[str, Any]:
        layout = self.layout
        row: dict[str, Any] = {"image": {"bytes": self._bytes(image["path"], name), "path": name}}
        row |= {"width": image["width"], "height": image["height"]}
        row |= {IMAGE_COLUMNS[column]: image[column] for column in layout.image_columns}
        if layout.whole_ids["images"] and row.get("image_id") is not None:
            row["image_id"] = int(row["image_id"])
        numbers = [layout.label_ids[label] for label in labels]
        if layout.label_column is not None:
            row[layout.label_column] = numbers if layout.label_column == "labels" else next(iter(numbers), None)
        if layout.object_columns:
            row["objects"] = {
                OBJECT_COLUMNS[column]: [self._value(column, each[column]) for each in objects]
                for column in layout.object_columns
            }
        return row

    def _value(self, column: str, value: Any) -> Any:
        if value is None:
            return None
        if column == "label":
            return self.layout.label_ids[value]
        return int(value) if column == "source_id" and self.layout.whole_ids["objects"] else value

    def _bytes(self, path: str | None, name: str) -> bytes | None:
        if not self.is_embedded:
            return None
        try:
            return Path(path or "").read_bytes()
        except OSError:
            self.losses.dropped("image files", "the file is not there or cannot be copied", path or name)
            return None


def _rows_by_split(splits: Sequence[str | None], losses: LossReport) -> dict[str, list[int]]:
    """Rows by the split's name as Hugging Face allows it: letters, digits, '_' and '.'."""
    names: dict[str | None, str] = {}
    for split in dict.fromkeys(splits):
        base = candidate = _OUR_NAMES.get(split) or re.sub(r"[^\w.]|^\.+|\.+$|\.(?=\.)", "_", split or "_")
        number = 1
        while candidate.lower() in {name.lower() for name in names.values()}:
            number += 1
            candidate = f"{base}_{number}"
        names[split] = candidate
        if split_of_table(f"{candidate}-00000-of-00001.parquet") != split:
            losses.converted("splits", "the name cannot be a split's there", f"{split} -> {candidate}")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, split in enumerate(splits):
        rows[names[split]].append(row)
    return rows


def _card(splits: Sequence[str]) -> str:
    """The README: `load_dataset` finds the files of each split by its YAML."""
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    head = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]}, sort_keys=False)
    return f"---\n{head}---\n"


def _size(path: str | None) -> int:
    try:
        return 0 if path is None else Path(path).stat().st_size
    except OSError:
        return 0


def _report(images: pa.Table, labels: pa.Table, objects: pa.Table, losses: LossReport) -> None:
    report_unsaid(images, objects, "a Hugging Face table", losses, holds=(*IMAGE_COLUMNS, *_HELD))
    report_unsaid(images, labels, "a column of labels", losses, holds=tuple(IMAGE_COLUMNS))
    # Images and objects have ids there, labels have none.
    with_id = np.flatnonzero(np.asarray(labels["source_id"].is_valid()))
    reason = "a column of labels has no place for them"
    report_rows("dropped", "annotation ids", reason, images, image_rows(labels, images)[with_id], losses)
    losses.carried("images", images.num_rows)
    losses.carried("annotations", labels.num_rows + objects.num_rows)
