"""Writing Datumaro's files: annotations/<subset>.json and images/<subset>/; see `curate.formats.datumaro`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import pyarrow as pa

from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.batches import all_classes, annotations_by_image, drawable
from curate.formats.columns import report_unsaid
from curate.formats.datumaro.categories import INFO, write_categories
from curate.formats.datumaro.files import ANNOTATIONS, IMAGES, NO_SUBSET, split_of_subset
from curate.formats.datumaro.parts import boxes_around, parts_of
from curate.formats.datumaro.read import CAPTIONS, COLUMNS
from curate.formats.files import place_images
from curate.formats.locations import export_names, report_splits, split_names, stem
from curate.formats.losses import LossReport
from curate.formats.values import mapping

_VERSION: Final = "1.0"
_MEDIA_TYPE: Final = 2  # an image
_HELD_OF_IMAGES: Final = ("tags", "group", "frame", "timestamp", "metadata", "source_id")
_HELD: Final = ("rotated_box", "polygons", "rle", "keypoints", "attributes", "score", "iscrowd", "source_id")
_OF_ITEMS: Final = ("width", "height", *_HELD_OF_IMAGES)
_OF_ANNOTATIONS: Final = ("image_id", "type", "label", "bbox", "rle_size", *_HELD)


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied or linked.
        losses: Category ids that are not their place, ids that are no numbers, class probabilities.
    """
    images = export.images
    splits = images["split"].to_pylist()
    subsets = _subsets(splits, losses)
    # Every image goes into a subset's folder, so that equal names in two subsets do not meet.
    names = export_names(images["location"].to_pylist(), subsets, losses)
    classes = all_classes(export)
    labels = {info.name: place for place, info in enumerate(classes)}
    head = _head(classes, mapping(export.info.get(INFO)))
    annotations = drawable(export.annotations.select(_OF_ANNOTATIONS), losses)
    by_subset: dict[str, list[int]] = defaultdict(list)
    for row, subset in enumerate(subsets):
        by_subset[subset].append(row)
    (target / ANNOTATIONS).mkdir()
    for subset, rows in by_subset.items():
        with (target / ANNOTATIONS / f"{subset}.json").open("wb") as file:
            _write_items(file, head, _items(images, annotations, rows, names, labels, losses))
    pairs = zip(images["path"].to_pylist(), _paths(target, subsets, names), strict=True)
    place_images(pairs, options.images, losses)
    _report(export, losses)
    losses.carried("images", images.num_rows)


def _subsets(splits: Sequence[str | None], losses: LossReport) -> list[str]:
    subset_of = split_names(splits, taken=[NO_SUBSET])
    report_splits(splits, lambda split: split_of_subset(subset_of[split]), losses)
    return [NO_SUBSET if split is None else subset_of[split] for split in splits]


def _paths(target: Path, subsets: Sequence[str], names: Sequence[str]) -> Iterator[Path]:
    return (target / IMAGES / subset / name for subset, name in zip(subsets, names, strict=True))


def _head(classes: Sequence[ClassInfo], kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dm_format_version": _VERSION,
        "media_type": _MEDIA_TYPE,
        "infos": mapping(kept.get("infos")),
        "categories": write_categories(classes, kept),
    }


def _write_items(file: IO[bytes], head: Mapping[str, Any], items: Iterator[dict[str, Any]]) -> None:
    file.write(msgspec.json.encode(head)[:-1] + b',"items":[')
    for number, item in enumerate(items):
        file.write((b",\n" if number else b"\n") + msgspec.json.encode(item))
    file.write(b"\n]}\n")


def _items(
    images: pa.Table,
    annotations: pa.Table,
    rows: Sequence[int],
    names: Sequence[str],
    labels: Mapping[str, int],
    losses: LossReport,
) -> Iterator[dict[str, Any]]:
    """The items of one subset, a batch of them in memory at a time."""
    ids = iter(_item_ids(images["source_id"].take(rows).to_pylist(), [names[row] for row in rows], losses))
    for batch in annotations_by_image(images, annotations, rows):
        described = images.select(_OF_ITEMS).take([row for row, _ in batch]).to_pylist()
        boxes = boxes_around([annotation for _, found in batch for annotation in found])
        start = 0
        for (row, found), image in zip(batch, described, strict=True):
            around = boxes[start : start + len(found)]
            start += len(found)
            parts = parts_of(found, around, labels, names[row], losses)
            yield _item(next(ids), names[row], image, parts)


def _item_ids(own: Sequence[str | None], names: Sequence[str], losses: LossReport) -> list[str]:
    """The images' own ids where they differ, else their names without the ending, else their names."""
    counts = Counter(own)
    losses.dropped(
        "image ids",
        "several images have the same; their names are the ids",
        names[0] if names else "",
        sum(count for key, count in counts.items() if key is not None and count > 1),
    )
    taken = {key for key, count in counts.items() if key is not None and count == 1}
    ids: list[str] = []
    for key, name in zip(own, names, strict=True):
        if key not in taken:
            key = next(text for text in (stem(name), name, f"{name}/{len(ids)}") if text not in taken)
            taken.add(key)
        ids.append(key)
    return ids


def _item(item_id: str, name: str, image: Mapping[str, Any], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    attributes = json.loads(image["metadata"] or "{}")
    captions = attributes.get(CAPTIONS)
    if isinstance(captions, list) and all(isinstance(caption, str) and caption.strip() for caption in captions):
        del attributes[CAPTIONS]
        annotations += [
            {"id": 0, "type": "caption", "attributes": {}, "group": 0, "caption": caption} for caption in captions
        ]
    columns = {key: image[key] for key in ("tags", "group", "frame", "timestamp") if image[key] is not None}
    attributes |= {COLUMNS: columns} if columns else {}
    described: dict[str, Any] = {"path": name}
    if image["width"] is not None and image["height"] is not None:
        described["size"] = [image["height"], image["width"]]
    item = {"id": item_id, "annotations": annotations}
    return item | ({"attr": attributes} if attributes else {}) | {"image": described}


def _report(export: Export, losses: LossReport) -> None:
    report_unsaid(export.images, export.annotations, "Datumaro", losses, holds=(*_HELD_OF_IMAGES, *_HELD))
    for place, info in enumerate(export.classes):
        if info.source_id is not None and info.source_id != place:
            reason = "renumbered: Datumaro numbers labels by their place"
            losses.converted("category ids", reason, f"{info.name}: {info.source_id} -> {place}")
    losses.carried("annotations", 0)  # those written are counted as they are; here there may be none
