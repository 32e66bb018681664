"""Writing CVAT files: annotations.xml, and the images in images/."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, indent, tostring

import numpy as np

from curate.errors import UsageError
from curate.formats.base import Export, WriteOptions
from curate.formats.batches import annotations_by_image
from curate.formats.columns import image_rows, report_rows, report_unsaid
from curate.formats.cvat.attributes import split_attributes
from curate.formats.cvat.layout import Layout, lay_out_frames, lay_out_images, task_subset
from curate.formats.cvat.write_meta import Specifications, meta_element
from curate.formats.cvat.write_shapes import COLUMNS, ShapeWriter, attributes_of_row
from curate.formats.cvat.write_tracks import frames_of_task, track_elements
from curate.formats.files import place_images
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text

_NOT_A_TRACK: Final = "only a track can be outside the picture; write it with --variant video"
_HELD: Final = ("metadata", "source_id", "rotated_box", "polygons", "rle", "keypoints", "attributes", "score")


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset as a file that CVAT imports as 'CVAT 1.1'.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied; `variant` is 'images' (CVAT for images, the default) or 'video' (CVAT for video:
            every annotation belongs to a track).
        losses: Polygons of several parts, crowd flags, annotation ids, and more than one geometry of an annotation.

    Raises:
        UsageError: There is no such variant.
    """
    if options.variant not in {None, "images", "video"}:
        raise UsageError(f"CVAT has no variant '{options.variant}'", remedy="choose images or video")
    is_video = options.variant == "video"
    layout = lay_out_frames(export, losses) if is_video else lay_out_images(export, losses)
    keypoints = {info.name: info.keypoints for info in export.classes if info.keypoints}
    shapes = ShapeWriter(keypoints, losses)
    known = _specifications(export, losses)
    changed = frames_of_task(export, layout) if is_video else {"mode": "annotation"}
    if not any(layout.subsets):
        changed["subset"] = task_subset(export)
    meta = meta_element(export, known, layout.summary(), changed, losses)
    elements = track_elements(export, layout, shapes) if is_video else _image_elements(export, layout, shapes)
    written = _write_file(target / "annotations.xml", meta, elements)
    pairs = zip(export.images["path"].to_pylist(), (target / place for place in layout.places()), strict=True)
    place_images(pairs, options.images, losses)
    held = (*_HELD, "group", "frame") if is_video else _HELD
    report_unsaid(export.images, export.annotations, "CVAT", losses, holds=held)
    # Images have ids in CVAT, shapes have none.
    with_id = np.flatnonzero(np.asarray(export.annotations["source_id"].is_valid()))
    at = image_rows(export.annotations, export.images)[with_id]
    report_rows("dropped", "annotation ids", "CVAT has no place for them", export.images, at, losses)
    losses.carried("images", export.images.num_rows)
    losses.carried("annotations", written)


def _write_file(path: Path, meta: Element, elements: Iterator[tuple[Element, int]]) -> int:
    """Write the file element by element; how many annotations there are in them."""
    written = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        file.write(_text(meta))
        for element, annotations in elements:
            file.write(_text(element))
            written += annotations
        file.write("</annotations>\n")
    return written


def _text(element: Element) -> str:
    indent(element, level=1)
    return f"  {tostring(element, encoding='unicode')}\n"


def _image_elements(export: Export, layout: Layout, shapes: ShapeWriter) -> Iterator[tuple[Element, int]]:
    images = export.images
    widths, heights = images["width"].to_pylist(), images["height"].to_pylist()
    annotations = export.annotations.select(["image_id", *COLUMNS])
    for row, members in chain.from_iterable(annotations_by_image(images, annotations, range(images.num_rows))):
        name = layout.names[row]
        image = Element("image", {"id": str(layout.ids[row]), "name": name})
        if (subset := layout.subsets[row]) is not None:
            image.attrib |= {"subset": xml_text(subset), "task_id": xml_text(layout.tasks[row])}
        if widths[row] is not None and heights[row] is not None:
            image.attrib |= {"width": str(widths[row]), "height": str(heights[row])}
        for annotation in members:
            attributes = attributes_of_row(annotation["attributes"])
            if "outside" in attributes:
                shapes.losses.dropped("attributes", _NOT_A_TRACK, name)
            element = shapes.element(annotation, attributes, name)
            if element is not None:
                element.set("label", shapes.label(annotation, name))
                shapes.describe(element, annotation, attributes, name)
                image.append(element)
        yield image, len(image)


def _specifications(export: Export, losses: LossReport) -> Specifications:
    """The attributes of each label, from all annotations."""
    known = Specifications(export)
    for batch in export.annotations.select(["label", "attributes"]).to_batches():
        for label, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if text:
                known.see(label or "", split_attributes(attributes_of_row(text))[1], label or "", losses)
    return known
