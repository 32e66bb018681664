"""What writers need that go image by image: annotations a batch of images at a time, so that not all are objects at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.base import ClassInfo, Export
from curate.formats.columns import BROKEN_MASK, broken_masks, image_rows
from curate.formats.losses import LossReport

IMAGES_OF_A_BATCH: Final = 1024


def annotations_by_image(
    images: pa.Table, annotations: pa.Table, order: Sequence[int], *, batch_size: int = IMAGES_OF_A_BATCH
) -> Iterator[list[tuple[int, list[dict[str, Any]]]]]:
    """The annotations of each image as dictionaries, in the table's order.

    Args:
        images: Table with the columns of `curate.dataset.schema.IMAGES`.
        annotations: Table with some of the columns of `curate.dataset.schema.ANNOTATIONS`, `image_id` among them.
        order: Rows of the images wanted, in the order wanted.
        batch_size: Images in memory at a time.

    Yields:
        For each batch, the rows of its images, each with its annotations.
    """
    rows = image_rows(annotations, images)
    by_image = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[by_image], np.arange(images.num_rows + 1))
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        places = [by_image[starts[row] : starts[row + 1]] for row in chosen]
        found = iter(annotations.take(np.concatenate(places)).to_pylist())
        yield [(row, [next(found) for _ in place]) for row, place in zip(chosen, places, strict=True)]


def all_classes(export: Export) -> list[ClassInfo]:
    """The classes, and after them, sorted, labels that are not among them."""
    known = {info.name for info in export.classes}
    seen = set(pc.unique(export.annotations["label"].combine_chunks()).to_pylist()) - known - {None}
    return [*export.classes, *(ClassInfo(name) for name in sorted(seen))]


def drawable(annotations: pa.Table, losses: LossReport) -> pa.Table:
    """The annotations without the masks that nothing can draw, which are reported."""
    broken = broken_masks(annotations)
    losses.dropped("masks", BROKEN_MASK, "annotations", int(broken.sum()))
    for name in ("rle", "rle_size") if broken.any() else ():
        field = annotations.schema.field(name)
        values = pc.if_else(pa.array(broken), pa.scalar(None, field.type), annotations[name])
        annotations = annotations.set_column(annotations.schema.get_field_index(name), field, values)
    return annotations
