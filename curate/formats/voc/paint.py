"""Writing VOC's segmentation images: see `curate.formats.voc.segmentation` for what they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.formats.losses import LossReport
from curate.formats.mask_images import VOID, kept_pixels, outline_of, paint, save_labels, voc_colors
from curate.formats.masks.legend import MaskClass, label_map, one_line, report_names
from curate.formats.values import mapping
from curate.imaging import MAX_PIXELS

_COLORS: Final = voc_colors(256)


class MaskPainter:
    """Paints the masks of one image after another.

    Args:
        target: The dataset's folder.
        classes: Names, in order.
        losses: Masks that cannot be painted, and what they hide of each other.
    """

    def __init__(self, target: Path, classes: Sequence[str], losses: LossReport) -> None:
        self._target = target
        self._losses = losses
        self._classes = [MaskClass("background", 0, 0)]
        for value, name in enumerate(classes[: VOID - 1], 1):
            red, green, blue = _COLORS[value].tolist()
            self._classes.append(MaskClass(one_line(name), value, red << 16 | green << 8 | blue))
        self._values = {name: value for value, name in enumerate(classes[: VOID - 1], 1)}

    def paint(self, name: str, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> bool:
        """Write an image's two segmentation images, where it has masks.

        Args:
            name: The image's, without its ending.
            image: With location, width, height and metadata.
            annotations: As they stand in the XML file.

        Returns:
            Whether it has.
        """
        width, height = image["width"], image["height"]
        void = kept_pixels(
            mapping(mapping(json.loads(image["metadata"] or "{}")).get("voc")).get("void"), (height, width)
        )
        masks: dict[int, str] = {}
        for number, annotation in enumerate(annotations, 1):
            if annotation["rle"] is not None:
                counts, reason = self._outline(annotation, number, width, height)
                if counts is None:
                    self._losses.dropped("masks", reason, f"{image['location']}: object {number}")
                else:
                    masks[number] = counts
        if not masks and void is None:
            return False
        if width * height > MAX_PIXELS:
            reason = f"the image has more than {MAX_PIXELS:,} pixels"
            self._losses.dropped("masks", reason, image["location"], len(masks))
            return False
        shape = (height, width)
        objects, lost = paint(list(masks.items()), shape, 0)
        self._losses.converted("mask pixels", "below another object: a pixel has one object", image["location"], lost)
        numbers = np.zeros(max(masks, default=0) + 1, dtype=np.int32)
        for number in masks:
            numbers[number] = self._values[annotations[number - 1]["label"]]
        classes = numbers[objects]
        for folder, values in (("SegmentationObject", objects), ("SegmentationClass", classes)):
            if void is not None:
                values[void & (values == 0)] = VOID
            save_labels(self._target / folder / f"{name}.png", values, _COLORS)
        return True

    def write_classes(self) -> None:
        """Write labelmap.txt, which says which value each class has."""
        report_names(self._classes[1:], self._classes[0], self._losses)
        (self._target / "labelmap.txt").write_text(label_map(self._classes), encoding="utf-8")

    def _outline(
        self, annotation: Mapping[str, Any], number: int, width: int | None, height: int | None
    ) -> tuple[str | None, str]:
        if width is None or height is None:
            return None, "the image's size is not known"
        if number >= VOID or annotation["label"] not in self._values:
            return None, "VOC's segmentation images hold up to 254 objects and classes"
        return outline_of(annotation, height, width)
