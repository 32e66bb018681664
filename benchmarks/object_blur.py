"""Objects that are blurred on sharp images: how many of those planted are flagged, and how many where nothing is planted.

Used by `benchmarks.quality`. One box of a tenth of the images, whatever its size, is put out of focus with a soft border; the
other boxes, and those of the set as it is, must not be flagged. Boxes that are too small or cut by the border are not judged,
and count as missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import FLAGGED
from curate.checks.labels import Labels
from curate.checks.measures.computation import MeasureImages
from curate.checks.measures.table import Measures, columns_of
from curate.checks.quality.faults import judge_faults
from curate.checks.quality.objects import Objects, judge_objects
from curate.engine.local import DEFAULT_BATCH
from curate.imaging import Pixels, crop, load_pixels

Blur = Callable[[npt.NDArray[np.float32], int, np.random.Generator], npt.NDArray[np.float32]]
"""Takes an RGB image in [0, 1] and a strength from 0 on."""

SHARE: Final = 0.1
# Pixels over which the sharp image fades into the blurred object.
_SOFT: Final = 3.0
_QUALITY: Final = 95


def object_blur(name: str, labels: Labels, blur: Blur, strengths: int) -> list[dict[str, Any]]:
    """One row for each strength.

    Args:
        name: Of the set.
        labels: Its images and boxes.
        blur: What is done to an object.
        strengths: How many there are.
    """
    pixels = [load_pixels(path) for path in labels.images["path"].to_pylist()]
    images = _sized(labels.images, pixels)
    annotations = labels.annotations.filter(pc.is_valid(labels.annotations["bbox"]))
    objects, boxes = Objects.of(annotations, images), annotations["bbox"].to_pylist()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(boxes))
    _, first = np.unique(objects.image[order], return_index=True)
    chosen = order[np.sort(first)][: round(SHARE * len(pixels))]
    clean = flagged_blurry(objects, pixels, boxes)
    results = []
    for strength in range(strengths):
        planted = list(pixels)
        for row in chosen.tolist():
            image = int(objects.image[row])
            planted[image] = _planted(pixels[image], boxes[row], blur, strength, rng)
        flagged = flagged_blurry(objects, planted, boxes)
        results.append(
            {
                "object_blur": name,
                "strength": strength,
                "objects": len(boxes),
                "clean_objects_flagged": int(clean.sum()),
                "planted": len(chosen),
                "found": int(flagged[chosen].sum()),
                "others_flagged": int(flagged.sum() - flagged[chosen].sum()),
            }
        )
    return results


def flagged_blurry(
    objects: Objects, images: Sequence[Pixels], boxes: Sequence[Sequence[float]]
) -> npt.NDArray[np.bool_]:
    """Which of n objects are flagged as blurred; bool array of shape (n,)."""
    of_images = _measured(images)
    crops = _measured([crop(images[image], box) for image, box in zip(objects.image.tolist(), boxes, strict=True)])
    probability, _ = judge_objects(objects, crops, of_images, judge_faults(of_images))["blur"]
    return np.asarray(probability >= FLAGGED)


def _measured(pictures: Sequence[Pixels]) -> Measures:
    computation = MeasureImages()
    batches = [
        computation.run([computation.prepare(picture) for picture in pictures[first : first + DEFAULT_BATCH]])
        for first in range(0, len(pictures), DEFAULT_BATCH)
    ]
    ids = pa.chunked_array([[str(number) for number in range(len(pictures))]])
    return Measures(ids, columns_of(pa.Table.from_batches(batches)))


def _sized(images: pa.Table, pixels: Sequence[Pixels]) -> pa.Table:
    """Images with the sizes that they have, whatever was recorded."""
    heights, widths = (pa.array([picture.shape[axis] for picture in pixels]) for axis in (0, 1))
    return pa.table({"image_id": images["image_id"], "width": widths, "height": heights})


def _planted(pixels: Pixels, box: Sequence[float], blur: Blur, strength: int, rng: np.random.Generator) -> Pixels:
    light = pixels.astype(np.float32) / np.float32(255)
    inside = np.zeros_like(pixels)
    crop(inside, box)[:] = 255
    mask = cv2.GaussianBlur(inside, (0, 0), _SOFT) / np.float32(255)
    mixed = light + (blur(light, strength, rng) - light) * mask
    levels = np.clip(mixed * 255 + 0.5, 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)
