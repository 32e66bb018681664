"""From a dataset to files: the target appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.query import in_layer
from curate.dataset.store import Dataset, open_dataset
from curate.errors import InputError, UsageError
from curate.formats.base import Export, WriteOptions
from curate.formats.importing import class_infos
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.names import GROUND_TRUTH, SETTINGS


def export_dataset(
    name: str,
    target: Path,
    *,
    format: str,
    layer: str = GROUND_TRUTH,
    where: str | None = None,
    options: WriteOptions | None = None,
    strict: bool = False,
) -> LossReport:
    """Write a dataset, or part of it, in a file format.

    Args:
        name: The dataset.
        target: Folder to make; it must not be there yet.
        format: A format's name.
        layer: Whose annotations to write.
        where: SQL condition on the images table; None for all images.
        options: Whether images are copied or linked, and the format's variant.
        strict: Raise at the first thing that would be lost or changed; nothing is then written.

    Returns:
        What was carried, converted and dropped.

    Raises:
        UsageError: The target is there already, or there is no such format, layer or column.
        FormatError: With `strict`, something would be lost.
        InputError: The disk is full, or the target cannot be written.
    """
    writer = FORMATS.get(format)
    if not writer.is_written:
        able = ", ".join(name for name, known in FORMATS if known.is_written)
        raise UsageError(f"{format} can be read, but not written", remedy=f"choose one of: {able}")
    target = target.expanduser().absolute()
    if target.exists():
        raise UsageError("the target is there already", where=target, remedy="choose another, or delete it first")
    export = _select(open_dataset(name), layer, where)
    losses = LossReport(strict=strict)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        writer.write(export, temporary, options or WriteOptions(), losses)
        temporary.rename(target)
    except OSError as error:
        raise InputError(
            f"the export cannot be written: {error}", where=target, remedy="free space, or choose another target"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return losses


def _select(dataset: Dataset, layer: str, where: str | None) -> Export:
    images = dataset.table("images", where=where)
    annotations = dataset.table("annotations", where=in_layer(layer))
    if annotations.num_rows == 0 and layer != GROUND_TRUTH:
        layers = pc.unique(dataset.table("annotations", columns=["layer"])["layer"]).to_pylist()
        raise UsageError(
            f"there is no layer '{layer}'", where=dataset.name, remedy=f"layers: {', '.join(sorted(layers))}"
        )
    if where is not None:
        annotations = annotations.filter(pc.is_in(annotations["image_id"], images["image_id"].combine_chunks()))
    info = {key: value for key, value in dataset.commit.info.items() if key not in SETTINGS}
    return Export(_sorted(images), annotations, class_infos(dataset), info)


def _sorted(images: pa.Table) -> pa.Table:
    """Images by location: updates move rows about in the store, and exports of equal content should be equal."""
    return images.sort_by("location")
