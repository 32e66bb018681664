"""The sets that benchmarks measure on: real ones and `parts_v3`, read by the library's own readers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.labels import Labels
from curate.demo import NONE, make_parts
from curate.formats import coco, voc
from curate.formats.base import Format, ReadOptions
from curate.formats.losses import LossReport
from curate.models.embedding import embed
from curate.models.encoders.registry import load_encoder
from curate.models.passes import crop_items
from curate.names import GROUND_TRUTH


@dataclass(frozen=True)
class Crops:
    """The boxes of a set, embedded, as `curate mistakes` sees them.

    Attributes:
        classes: Names of the K classes that occur.
        labels: True classes, int64 of shape (n,), in [0, K).
        vectors: By the built-in encoder, float32 of shape (n, d).
        groups: Numbers that the boxes of one image or burst share, int64 of shape (n,).
        shape: What a box's size tells, float32 of shape (n, 4).
    """

    classes: list[str]
    labels: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]
    shape: npt.NDArray[np.float32]


def read_voc(folder: Path) -> Labels:
    """The labels of a Pascal VOC folder."""
    return _read(voc.FORMAT, folder, ReadOptions())


def read_coco(folder: Path) -> Labels:
    """The labels of a folder of COCO files and their images."""
    return _read(coco.FORMAT, folder, ReadOptions())


def render_parts(folder: Path, *, images: int, seed: int) -> Labels:
    """The labels of a rendered `parts_v3` without faults, which is left in the folder."""
    parts = make_parts(folder, images=images, seed=seed, faults=NONE)
    return _read(coco.FORMAT, parts.root / "annotations", ReadOptions(images=parts.root / "images"))


def embed_crops(labels: Labels) -> Crops:
    """Embed the labelled boxes; those with no area are left out."""
    with tempfile.TemporaryDirectory() as spool:
        items = crop_items(labels.annotations, labels.images)
        found = embed(items, None, load_encoder("builtin"), Path(spool)).new
    position = pc.index_in(labels.annotations["annotation_id"], found["id"].combine_chunks())
    rows = np.flatnonzero(position.is_valid().to_numpy() & ~labels.crowd & (labels.label >= 0))
    column = found["vector"].take(position.take(pa.array(rows))).combine_chunks()
    present, compact = np.unique(labels.label[rows], return_inverse=True)
    return Crops(
        [labels.classes[k] for k in present],
        compact,
        column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1).astype(np.float32),
        labels.image_groups()[labels.image[rows]],
        labels.shape(rows).astype(np.float32),
    )


def _read(reader: Format, source: Path, options: ReadOptions) -> Labels:
    records = reader.read(source, options, LossReport())
    annotations = pa.concat_tables(records.annotations)
    classes = [info.name for info in records.classes]
    image = pc.index_in(annotations["image_id"], records.images["image_id"].combine_chunks())
    label = pc.fill_null(pc.index_in(annotations["label"], pa.array(classes)), -1)
    return Labels(
        GROUND_TRUTH,
        records.images,
        annotations,
        image.to_numpy().astype(np.int64),
        classes,
        label.to_numpy().astype(np.int64),
    )
